//! What only Linux has.

pub mod caps;
pub mod directory;
pub mod epoll;
pub mod flock;
pub mod init;
pub mod inotify;
pub mod keeper;
pub mod mount;
pub mod namespace;
pub mod page;
pub mod seccomp;
pub mod signalfd;
