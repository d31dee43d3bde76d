//! The kernel: the only module with unsafe code. Newtypes in, `io::Result` out; no policy and no text for users.
//!
//! | module | what it knows |
//! |---|---|
//! | `fd` | descriptors and pipes |
//! | `file` | which file is which |
//! | `limit` | limits on descriptors |
//! | `lock` | whole-file locks |
//! | `poll` | waiting for one of two descriptors |
//! | `process` | identity, waiting, killing |
//! | `pty` | terminals of one's own |
//! | `signal` | signals as values |
//! | `socket` | unix sockets |
//! | `stat` | processes as /proc shows them |
//! | `termios` | size and mode of terminals |
//! | `linux` | what only Linux has |
#![allow(unsafe_code)]

pub mod fd;
pub(crate) mod file;
pub(crate) mod limit;
#[cfg(target_os = "linux")]
pub mod linux;
pub mod lock;
pub mod poll;
pub mod process;
pub mod pty;
pub mod signal;
pub mod socket;
pub(crate) mod stat;
pub mod termios;

use std::io;

/// Turns the -1 of a system call into the error that errno names.
fn cerr(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Calls again while a signal handler interrupts (signal(7)).
fn retry(mut call: impl FnMut() -> libc::c_int) -> io::Result<libc::c_int> {
    loop {
        match cerr(call()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
