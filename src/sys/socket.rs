//! Unix sockets: who is at the other end, and descriptors that travel (unix(7)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use super::cerr;

/// The process at the other end, as the kernel knew it when the connection or the listener was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Its process id, if the platform tells; never 0.
    pub(crate) pid: Option<i32>,
    /// Its effective user.
    pub(crate) uid: u32,
}

/// The peer of a connected socket.
#[cfg(target_os = "linux")]
pub(crate) fn peer(stream: &UnixStream) -> io::Result<Peer> {
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
pub(crate) fn peer(stream: &UnixStream) -> io::Result<Peer> {
    let (mut uid, mut gid) = (u32::MAX, u32::MAX);
    // SAFETY: both out-parameters are valid for writes.
    cerr(unsafe { libc::getpeereid(stream.as_raw_fd(), &raw mut uid, &raw mut gid) })?;
    Ok(Peer { pid: None, uid })
}

/// Ends the waiting of every thread that accepts connections there: with `InvalidInput`, on Linux.
pub(crate) fn stop_listening(listener: &UnixListener) {
    // SAFETY: an open descriptor and a constant.
    unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) };
}

/// Connects without waiting: where a listener's queue is full, connect(2) would wait without a limit of its own. A
/// full queue is `WouldBlock`.
pub(crate) fn connect_now(path: &Path) -> io::Result<UnixStream> {
    use std::os::unix::ffi::OsStrExt;
    // SAFETY: all-zero bytes are a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() || bytes.len() >= address.sun_path.len() || bytes.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (place, byte) in address.sun_path.iter_mut().zip(bytes) {
        *place = *byte as libc::c_char;
    }
    #[cfg(target_os = "linux")]
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let kind = libc::SOCK_STREAM;
    // SAFETY: integers only.
    let fd = cerr(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
    // SAFETY: the call returned a new descriptor that nobody else owns.
    let stream = UnixStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
    stream.set_nonblocking(true)?;
    let size = libc::socklen_t::try_from(std::mem::size_of::<libc::sockaddr_un>()).unwrap_or_default();
    // SAFETY: `address` is a sockaddr_un of that size, whose path ends in NUL.
    cerr(unsafe { libc::connect(stream.as_raw_fd(), (&raw const address).cast(), size) })?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// The most descriptors that travel with one message.
const FDS_MAX: usize = 4;

/// Room for them, aligned as the kernel's structures want it.
#[repr(align(8))]
struct Control([u8; 64]);

/// Writes bytes, with descriptors beside the first of them (SCM_RIGHTS, unix(7)); how many bytes were taken. Nobody is
/// waited for if `wait` is false. A peer that is gone is an error and no signal.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>], wait: bool) -> io::Result<usize> {
    let size = libc::c_uint::try_from(std::mem::size_of_val(fds)).unwrap_or(libc::c_uint::MAX);
    if fds.len() > FDS_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero bytes are a valid msghdr: no name, no parts, no control.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !fds.is_empty() {
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: CMSG_SPACE and CMSG_LEN only compute; the control buffer has room for FDS_MAX descriptors, so
        // CMSG_FIRSTHDR points into it, and the data behind it has room for `fds`.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(size) as _;
            let head = libc::CMSG_FIRSTHDR(&raw const message);
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            (*head).cmsg_len = libc::CMSG_LEN(size) as _;
            for (at, fd) in fds.iter().enumerate() {
                libc::CMSG_DATA(head).cast::<libc::c_int>().add(at).write_unaligned(fd.as_raw_fd());
            }
        }
    }
    let flags = libc::MSG_NOSIGNAL | if wait { 0 } else { libc::MSG_DONTWAIT };
    loop {
        // SAFETY: `message` describes buffers that live until the call is over.
        let count = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, flags) };
        match usize::try_from(count) {
            Ok(count) => return Ok(count),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

/// Reads what has come, and adds the descriptors that came with it to `fds`; 0 is the end. Descriptors are closed on
/// exec. One that this process has no room for is an error.
pub fn receive(socket: impl AsFd, bytes: &mut [u8], fds: &mut Vec<OwnedFd>, wait: bool) -> io::Result<usize> {
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero bytes are a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = std::mem::size_of::<Control>() as _;
    #[cfg(target_os = "linux")]
    let closed = libc::MSG_CMSG_CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let closed = 0;
    let flags = closed | if wait { 0 } else { libc::MSG_DONTWAIT };
    let count = loop {
        // SAFETY: `message` describes buffers that live until the call is over.
        let count = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, flags) };
        match usize::try_from(count) {
            Ok(count) => break count,
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    };
    // SAFETY: the kernel has filled the control buffer as far as msg_controllen says; the CMSG macros stay within.
    // Each descriptor in it is new and nobody else's.
    unsafe {
        let mut head = libc::CMSG_FIRSTHDR(&raw const message);
        while !head.is_null() {
            if (*head).cmsg_level == libc::SOL_SOCKET && (*head).cmsg_type == libc::SCM_RIGHTS {
                let length = (*head).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                for at in 0..length / std::mem::size_of::<libc::c_int>() {
                    let fd = libc::CMSG_DATA(head).cast::<libc::c_int>().add(at).read_unaligned();
                    fds.push(OwnedFd::from_raw_fd(fd));
                }
            }
            head = libc::CMSG_NXTHDR(&raw const message, head);
        }
    }
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    Ok(count)
}

/// Whether the other end of a connection is closed, and nothing is left to read. Nobody is waited for.
pub(crate) fn is_at_its_end(socket: impl AsFd) -> bool {
    let mut byte = 0_u8;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: there is room for one byte.
    unsafe { libc::recv(socket.as_fd().as_raw_fd(), (&raw mut byte).cast(), 1, flags) == 0 }
}

/// Listens on a new socket file that only this user can open, from the first moment on. The mask of new files'
/// modes is the whole process's (umask(2)): call it before the first thread.
pub(crate) fn bind_private(path: &Path) -> io::Result<UnixListener> {
    // SAFETY: umask has no memory arguments and cannot fail.
    let before = unsafe { libc::umask(0o177) };
    let listener = UnixListener::bind(path);
    // SAFETY: as above.
    unsafe { libc::umask(before) };
    listener
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn descriptors_travel_beside_the_bytes() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        assert_eq!(send(&here, b"abc", &[far.as_fd(), far.as_fd()], true).unwrap(), 3);
        drop(far);
        let (mut bytes, mut fds) = ([0; 8], Vec::new());
        assert_eq!(receive(&there, &mut bytes, &mut fds, true).unwrap(), 3);
        assert_eq!((&bytes[..3], fds.len()), (&b"abc"[..], 2));
        let mut far = UnixStream::from(fds.pop().unwrap());
        far.write_all(b"x").unwrap();
        let mut one = [0];
        near.read_exact(&mut one).unwrap();
        assert_eq!(&one, b"x");
        assert_eq!(receive(&there, &mut bytes, &mut fds, false).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(here);
        assert_eq!(receive(&there, &mut bytes, &mut fds, true).unwrap(), 0);
        assert_eq!(send(&there, b"x", &[], false).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
