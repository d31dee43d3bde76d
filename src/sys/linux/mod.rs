//! What only Linux has.

pub mod init;
pub mod inotify;
pub mod page;
pub mod signalfd;
