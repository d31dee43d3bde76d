//! The kernel: the only module with unsafe code. Newtypes in, `io::Result` out; no policy and no text for users.
#![allow(unsafe_code)]

pub mod fd;
pub mod limit;
#[cfg(target_os = "linux")]
pub mod linux;
pub mod lock;
pub mod poll;
pub mod process;
pub mod signal;
pub mod socket;
pub mod stat;

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
