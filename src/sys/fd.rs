//! Descriptors: pipes and their size, file systems' free space, discarding what a descriptor points to.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::cerr;

/// A pipe whose ends are closed on exec: (read end, write end).
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    #[cfg(target_os = "linux")]
    // SAFETY: `ends` has room for the two descriptors that the call writes.
    cerr(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    #[cfg(not(target_os = "linux"))]
    // SAFETY: as above.
    cerr(unsafe { libc::pipe(ends.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so both are open descriptors that nobody else owns.
    let (read, write) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    #[cfg(not(target_os = "linux"))]
    for end in [&read, &write] {
        // SAFETY: fcntl on an open descriptor with an integer argument.
        cerr(unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    }
    Ok((read, write))
}

/// Lets no read or write of it wait. For a pipe that is this end's affair alone.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: fcntl on an open descriptor with integer arguments.
    let flags = cerr(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    // SAFETY: as above.
    cerr(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

/// Asks for a larger pipe buffer (pipe(7), Linux 2.6.35); a refusal changes nothing.
pub(crate) fn enlarge_pipe(fd: impl AsFd, bytes: libc::c_int) {
    #[cfg(target_os = "linux")]
    // SAFETY: fcntl on an open descriptor with an integer argument.
    cerr(unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_SETPIPE_SZ, bytes) }).unwrap_or_default();
    #[cfg(not(target_os = "linux"))]
    let _unused = (fd.as_fd().as_raw_fd(), bytes);
}

/// Whether so many descriptors more can be had: by having them for a moment.
pub(crate) fn has_room_for(descriptors: usize) -> io::Result<()> {
    let first = std::fs::File::open("/dev/null")?;
    (1..descriptors).map(|_| first.try_clone()).collect::<io::Result<Vec<_>>>().map(drop)
}

/// Free and total bytes of the file system that holds `path` (statvfs(3)), as an unprivileged user sees them.
pub(crate) fn space(path: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all-zero bytes are a valid statvfs, a structure of integers.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` is NUL-terminated and `stat` has room for the answer.
    cerr(unsafe { libc::statvfs(path.as_ptr(), &raw mut stat) })?;
    #[allow(clippy::unnecessary_cast)]
    let unit = stat.f_frsize as u64;
    #[allow(clippy::unnecessary_cast)]
    let (free, total) = (stat.f_bavail as u64, stat.f_blocks as u64);
    Ok((free.saturating_mul(unit), total.saturating_mul(unit)))
}

/// Whether this user may write in a directory.
pub(crate) fn writable(path: &Path) -> bool {
    may(path, libc::W_OK | libc::X_OK)
}

/// Whether this user may write a file that exists.
pub(crate) fn writable_file(path: &Path) -> bool {
    may(path, libc::W_OK)
}

/// Whether this process's rights are not enough to list and enter a directory, and to make something in it if that is
/// wanted. What fails in another way is not denied.
pub(crate) fn is_denied(directory: &Path, write: bool) -> bool {
    let mode = libc::R_OK | libc::X_OK | if write { libc::W_OK } else { 0 };
    access(directory, mode).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

fn may(path: &Path, mode: libc::c_int) -> bool {
    access(path, mode).is_ok()
}

/// access(2), with the effective ids.
fn access(path: &Path, mode: libc::c_int) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` is NUL-terminated; the rest are integers.
    cerr(unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), mode, libc::AT_EACCESS) }).map(drop)
}

/// Closes what this process was given beside its standard streams: a descriptor of the caller's that nobody here knows
/// of, such as a lock of a shell script. Only at the start of the program, before anything owns one.
pub(crate) fn close_inherited() {
    #[cfg(target_os = "linux")]
    super::linux::keeper::close_above_stderr();
    #[cfg(not(target_os = "linux"))]
    for number in 3..256 {
        // SAFETY: an integer; nothing owns the descriptor.
        unsafe { libc::close(number) };
    }
}

/// A descriptor that this process was given under a number, to be closed on exec from now on. Call it once, before
/// anything else could have taken the number.
pub(crate) fn inherited(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with integer arguments; it fails for a number that is not open.
    cerr(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, and by the caller's word nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Lets one of the standard streams (0, 1 or 2) lead where `fd` leads.
fn redirect(stream: i32, fd: impl AsFd) -> io::Result<()> {
    // SAFETY: dup2 of an open descriptor over one that is never closed.
    cerr(unsafe { libc::dup2(fd.as_fd().as_raw_fd(), stream) }).map(drop)
}

/// Lets stderr lead where `fd` leads.
pub(crate) fn redirect_stderr(fd: impl AsFd) -> io::Result<()> {
    redirect(2, fd)
}

/// Lets stdout lead where `fd` leads.
pub(crate) fn redirect_stdout(fd: impl AsFd) -> io::Result<()> {
    redirect(1, fd)
}
