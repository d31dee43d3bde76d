//! What only Linux has.

pub mod inotify;
