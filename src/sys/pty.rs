//! A terminal of one's own (pty(7)): what one process writes to the leader, others read from the follower.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;

use super::cerr;
use super::termios::Size;

/// A pair: the leader's end, and the follower's, which is a terminal.
pub fn open(size: Size) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: a path that ends in NUL, and an integer.
    let leader = cerr(unsafe { libc::open(c"/dev/ptmx".as_ptr(), flags) })?;
    // SAFETY: the call returned a new descriptor that nobody else owns.
    let leader = unsafe { OwnedFd::from_raw_fd(leader) };
    let follower = follower(&leader, flags)?;
    size.set(&leader)?;
    Ok((leader, follower))
}

/// Without a name, which could lead elsewhere in another mount namespace (Linux 4.13).
#[cfg(target_os = "linux")]
fn follower(leader: &OwnedFd, flags: libc::c_int) -> io::Result<OwnedFd> {
    let unlocked: libc::c_int = 0;
    // SAFETY: a pointer to an integer that lives.
    cerr(unsafe { libc::ioctl(leader.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) })?;
    // SAFETY: integers only; the call returns a new descriptor.
    let fd = cerr(unsafe { libc::ioctl(leader.as_raw_fd(), libc::TIOCGPTPEER, flags) })?;
    // SAFETY: nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(not(target_os = "linux"))]
fn follower(leader: &OwnedFd, flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: an open descriptor; ptsname's buffer is copied before anything else could use it.
    unsafe {
        cerr(libc::grantpt(leader.as_raw_fd()))?;
        cerr(libc::unlockpt(leader.as_raw_fd()))?;
        let name = libc::ptsname(leader.as_raw_fd());
        if name.is_null() {
            return Err(io::Error::last_os_error());
        }
        let fd = cerr(libc::open(name, flags))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Makes the terminal on this process's stdin the one that its new session is controlled by. Meant for between fork and
/// exec: async-signal-safe.
pub(super) fn take_terminal() -> io::Result<()> {
    // SAFETY: integers only.
    unsafe {
        cerr(libc::setsid())?;
        cerr(libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY as _, 0)).map(drop)
    }
}

/// Whether this process may use a terminal now: it is in the foreground there, or it is not the terminal that its
/// session is controlled by (tcgetpgrp(3)).
pub(crate) fn is_in_the_foreground(terminal: impl std::os::fd::AsFd) -> bool {
    // SAFETY: integers only.
    let (group, own) = unsafe { (libc::tcgetpgrp(terminal.as_fd().as_raw_fd()), libc::getpgrp()) };
    group == -1 || group == own
}

/// Arranges that the child leads a session of its own, in the foreground of the terminal that is its stdin.
pub fn own_terminal(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    let prepare = || {
        take_terminal()?;
        super::signal::hand_down()
    };
    // SAFETY: between fork and exec the closure only makes async-signal-safe calls.
    unsafe { command.pre_exec(prepare) };
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{IsTerminal, Read, Write};
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::termios::Mode;

    #[test]
    fn bytes_go_both_ways_and_the_size_is_there_at_once() {
        let size = Size { rows: 12, columns: 34, width: 5, height: 6 };
        let (leader, follower) = open(size).unwrap();
        assert!(follower.as_fd().is_terminal());
        assert_eq!(Size::of(&follower).unwrap(), size);
        let before = Mode::of(&follower).unwrap();
        before.raw().set(&follower).unwrap();
        let (mut leader, mut follower) = (File::from(leader), File::from(follower));
        leader.write_all(b"\x03in").unwrap();
        let mut bytes = [0; 8];
        let count = follower.read(&mut bytes).unwrap();
        assert_eq!(&bytes[..count], b"\x03in");
        follower.write_all(b"\nout").unwrap();
        let count = leader.read(&mut bytes).unwrap();
        assert_eq!(&bytes[..count], b"\nout");
    }

    #[test]
    fn what_was_written_is_read_after_the_followers_end() {
        let (leader, follower) = open(Size::default()).unwrap();
        File::from(follower).write_all(b"last").unwrap();
        let mut leader = File::from(leader);
        let mut bytes = [0; 8];
        let count = leader.read(&mut bytes).unwrap();
        assert_eq!(&bytes[..count], b"last");
        assert_eq!(leader.read(&mut bytes).unwrap_err().raw_os_error(), Some(libc::EIO));
    }
}
