//! What only Linux has.
//!
//! | module | what it knows |
//! |---|---|
//! | `caps` | giving up privilege |
//! | `directory` | a directory that is open |
//! | `epoll` | waiting for many descriptors |
//! | `flock` | who holds a lock |
//! | `init` | what PID 1 needs |
//! | `inotify` | files that change |
//! | `keeper` | starting a command below a subreaper |
//! | `mount` | mounts by descriptor |
//! | `namespace` | namespaces, and who a process is in them |
//! | `page` | a number in shared memory |
//! | `seccomp` | system calls that are refused |
//! | `signalfd` | signals as bytes |

pub(crate) mod caps;
pub(crate) mod directory;
pub(crate) mod epoll;
pub mod flock;
pub mod init;
pub(crate) mod inotify;
pub(crate) mod keeper;
pub mod mount;
pub mod namespace;
pub(crate) mod page;
pub(crate) mod seccomp;
pub mod signalfd;
