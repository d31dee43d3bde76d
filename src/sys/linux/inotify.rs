//! Waiting until files or directories change (inotify(7)).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::sys::cerr;

/// Tells when one file changes.
pub(crate) struct Watch(Watcher);

impl Watch {
    /// Starts to watch for writes; changes from here on are not missed.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let watcher = Watcher::new()?;
        watcher.add(path, libc::IN_MODIFY)?;
        Ok(Watch(watcher))
    }

    /// Blocks until the file has changed since the last call; several changes may be told as one.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        self.0.wait()
    }
}

/// Tells when something about files and directories changes.
pub(crate) struct Watcher(File);

impl Watcher {
    /// Watches nothing yet.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: inotify_init1 takes an integer.
        let fd = cerr(unsafe { libc::inotify_init1(libc::IN_CLOEXEC) })?;
        // SAFETY: the call returned a new descriptor that nobody else owns.
        Ok(Watcher(unsafe { File::from_raw_fd(fd) }))
    }

    /// A second handle on the same watches.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Watcher)
    }

    /// Watches a file's content, name and attributes as well. Asking twice changes nothing.
    pub(crate) fn add_file(&self, path: &Path) -> io::Result<()> {
        self.add(path, libc::IN_MODIFY | libc::IN_ATTRIB | libc::IN_DELETE_SELF | libc::IN_MOVE_SELF)
    }

    /// Watches the names in a directory, and its own.
    pub(crate) fn add_names(&self, path: &Path) -> io::Result<()> {
        self.add(path, libc::IN_DELETE | libc::IN_MOVE | libc::IN_DELETE_SELF | libc::IN_MOVE_SELF | libc::IN_ONLYDIR)
    }

    fn add(&self, path: &Path, kinds: u32) -> io::Result<()> {
        let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: the descriptor is open and `path` is NUL-terminated.
        cerr(unsafe { libc::inotify_add_watch(self.0.as_raw_fd(), path.as_ptr(), kinds) }).map(drop)
    }

    /// Blocks until something has changed since the last call; several changes may be told as one.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        // Room for many events: which they are does not matter.
        let mut events = [0_u8; 4096];
        self.0.read(&mut events).map(drop)
    }
}
