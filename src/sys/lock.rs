//! Whole-file locks (flock(2)): they belong to the open file, and the kernel drops them when its last holder dies.
//!
//! Every descriptor here is closed on exec (std opens files so), else a child would keep its parent's lock.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::{cerr, retry};

fn flock_now(file: &File, operation: libc::c_int) -> io::Result<bool> {
    // SAFETY: flock on an open descriptor with an integer argument.
    match cerr(unsafe { libc::flock(file.as_raw_fd(), operation | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Tries to take the lock for this holder alone; `false` if somebody has it.
pub fn try_exclusive(file: &File) -> io::Result<bool> {
    flock_now(file, libc::LOCK_EX)
}

/// Tries to take the lock beside other readers; `false` if somebody has it alone.
pub fn try_shared(file: &File) -> io::Result<bool> {
    flock_now(file, libc::LOCK_SH)
}

/// Waits for the lock beside other readers, for as long as it takes.
pub fn wait_shared(file: &File) -> io::Result<()> {
    // SAFETY: flock on an open descriptor with an integer argument.
    retry(|| unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH) }).map(drop)
}

/// Waits for the lock for this holder alone, for as long as it takes.
pub(crate) fn wait_exclusive(file: &File) -> io::Result<()> {
    // SAFETY: flock on an open descriptor with an integer argument.
    retry(|| unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }).map(drop)
}
