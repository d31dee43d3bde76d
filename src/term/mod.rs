//! Terminal sessions: the caller's terminal while a command works at it, and the keys on their way there.
//!
//! | file | what it knows |
//! |---|---|
//! | `escape` | which keys are for fosse and not for the command: pure |
//! | `modes` | what the command's output turned on in the terminal, and how that is undone: pure |
//! | `scan` | finding the few bytes that matter, fast |
//! | `screen` | the caller's terminal: given to the command, and always taken back as it was |
//! | `keys` | the thread that carries keys |

pub mod escape;
pub(crate) mod keys;
pub mod modes;
mod scan;
pub(crate) mod screen;
