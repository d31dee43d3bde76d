//! A directory that is open: what is made in it is found again whatever becomes of its name, also when the mount that
//! it is in is taken out of sight.

use std::ffi::{CString, OsStr};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::mount;
use super::namespace::enter_mount_namespace;
use crate::sys::cerr;

/// A directory, closed on exec.
pub(crate) struct Directory(File);

impl Directory {
    /// Opens it.
    pub(crate) fn open(path: &Path) -> io::Result<Directory> {
        OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path).map(Directory)
    }

    /// Makes a file that must not exist yet, not even as a link.
    pub(crate) fn create(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let (name, flags) = (c_string(name)?, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC);
        // SAFETY: an open descriptor, a path that ends in NUL, integers.
        let fd = cerr(unsafe { libc::openat(self.0.as_raw_fd(), name.as_ptr(), flags, mode) })?;
        // SAFETY: the call returned a new descriptor that nobody else owns.
        Ok(unsafe { File::from_raw_fd(fd) })
    }

    /// Gives a file another name, in place of what has that name.
    pub(crate) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let (from, to, fd) = (c_string(from)?, c_string(to)?, self.0.as_raw_fd());
        // SAFETY: an open descriptor, paths that end in NUL.
        cerr(unsafe { libc::renameat(fd, from.as_ptr(), fd, to.as_ptr()) }).map(drop)
    }

    /// Removes a file.
    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        let name = c_string(name)?;
        // SAFETY: an open descriptor, a path that ends in NUL, an integer.
        cerr(unsafe { libc::unlinkat(self.0.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
    }

    /// Waits until its names are on disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

fn c_string(name: &OsStr) -> io::Result<CString> {
    Ok(CString::new(name.as_bytes())?)
}

/// Whether a directory is where something is mounted (statx(2), Linux 5.8; with an older kernel it is not known, and the
/// answer is no).
pub(crate) fn is_mount_point(path: &Path) -> bool {
    let Ok(path) = c_string(path.as_os_str()) else { return false };
    // SAFETY: all-zero bytes are a valid statx, a structure of integers.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: a path that ends in NUL, and room for the answer.
    let result = unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), 0, 0, &raw mut stat) };
    result == 0 && stat.stx_attributes & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0
}

/// Takes what is mounted at a place out of the sight of this process and of all that it starts from now on, and of
/// nobody else: in a mount namespace of its own, to which later mounts still come, and from which nothing goes out
/// (umount2(2), MNT_DETACH; mount_namespaces(7)). Only who has the rights of root in the place can. What is open stays
/// so.
pub(crate) fn hide(path: &Path) -> io::Result<()> {
    let path = c_string(path.as_os_str())?;
    enter_mount_namespace()?;
    mount::let_nothing_out()?;
    // SAFETY: a path that ends in NUL, and an integer.
    cerr(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) }).map(drop)
}
