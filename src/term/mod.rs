//! Terminal sessions, as far as they are values: what was typed becomes the command's input and a request to stop,
//! and what the command wrote becomes the bytes that put the caller's terminal in order again.
//!
//! Nothing here touches a descriptor, a thread or a clock.

pub mod escape;
pub mod modes;
mod scan;
