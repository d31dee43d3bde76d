//! Waiting until a file is written to (inotify(7)).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::sys::cerr;

/// Tells when one file changes.
pub struct Watch(File);

impl Watch {
    /// Starts to watch for writes; changes from here on are not missed.
    pub fn new(path: &Path) -> io::Result<Self> {
        let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: inotify_init1 takes an integer.
        let fd = cerr(unsafe { libc::inotify_init1(libc::IN_CLOEXEC) })?;
        // SAFETY: the call returned a new descriptor that nobody else owns.
        let file = unsafe { File::from_raw_fd(fd) };
        // SAFETY: the descriptor is open and `path` is NUL-terminated.
        cerr(unsafe { libc::inotify_add_watch(fd, path.as_ptr(), libc::IN_MODIFY) })?;
        Ok(Watch(file))
    }

    /// Blocks until the file has changed since the last call; several changes may be told as one.
    pub fn wait(&mut self) -> io::Result<()> {
        // Room for many events: which they are does not matter, there is one file and one kind.
        let mut events = [0_u8; 4096];
        self.0.read(&mut events).map(drop)
    }
}
