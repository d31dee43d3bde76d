//! What only Linux has.

pub mod epoll;
pub mod init;
pub mod inotify;
pub mod keeper;
pub mod page;
pub mod signalfd;
