//! Unix sockets: who is at the other end (unix(7)).

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use super::cerr;

/// The process at the other end, as the kernel knew it when the connection or the listener was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its process id, if the platform tells; never 0.
    pub pid: Option<i32>,
    /// Its effective user.
    pub uid: u32,
}

/// The peer of a connected socket.
#[cfg(target_os = "linux")]
pub fn peer(stream: &UnixStream) -> io::Result<Peer> {
    let mut cred = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = libc::socklen_t::try_from(std::mem::size_of::<libc::ucred>()).unwrap_or_default();
    // SAFETY: `cred` and `length` describe a buffer of the size that SO_PEERCRED writes.
    cerr(unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut cred).cast(),
            &raw mut length,
        )
    })?;
    // A peer in another pid namespace reads as 0: that is nobody.
    Ok(Peer { pid: Some(cred.pid).filter(|pid| *pid > 0), uid: cred.uid })
}

/// The peer of a connected socket.
#[cfg(not(target_os = "linux"))]
pub fn peer(stream: &UnixStream) -> io::Result<Peer> {
    let (mut uid, mut gid) = (u32::MAX, u32::MAX);
    // SAFETY: both out-parameters are valid for writes.
    cerr(unsafe { libc::getpeereid(stream.as_raw_fd(), &raw mut uid, &raw mut gid) })?;
    Ok(Peer { pid: None, uid })
}

/// Listens on a new socket file that only this user can open, from the first moment on. The mask of new files'
/// modes is the whole process's (umask(2)): call it before the first thread.
pub fn bind_private(path: &Path) -> io::Result<UnixListener> {
    // SAFETY: umask has no memory arguments and cannot fail.
    let before = unsafe { libc::umask(0o177) };
    let listener = UnixListener::bind(path);
    // SAFETY: as above.
    unsafe { libc::umask(before) };
    listener
}
