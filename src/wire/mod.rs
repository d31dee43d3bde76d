//! The shapes that are stored on disk or sent between processes. No behaviour beyond reading and writing them.
//!
//! | module | what it knows |
//! |---|---|
//! | `record` | the record of a run |
//! | `control` | what the owner of a run can be asked |
//! | `daemon` | what the daemon can be asked |
//! | `channel` | what an owner and PID 1 say to each other |
//! | `exit` | how a command ended, in a file |
//! | `path` | paths in JSON |

pub mod channel;
pub(crate) mod control;
pub mod daemon;
pub mod exit;
pub(crate) mod path;
pub mod record;
