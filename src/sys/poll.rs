//! Waiting until a descriptor can be read or a second one says to give up (poll(2)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::{cerr, retry};

/// Which of two descriptors became ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// The first can be read, or is at its end.
    First,
    /// Only the second.
    Second,
}

/// Waits for either; `first` wins when both are ready.
pub fn either(first: impl AsFd, second: impl AsFd) -> io::Result<Ready> {
    let entry = |fd: &dyn AsFd| libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut entries = [entry(&first), entry(&second)];
    // SAFETY: `entries` is an array of two initialised pollfd structures.
    retry(|| unsafe { libc::poll(entries.as_mut_ptr(), 2, -1) })?;
    Ok(if entries[0].revents != 0 { Ready::First } else { Ready::Second })
}

/// Waits until `fd` can be read, or the time is over; `None` is for ever.
pub fn wait_readable(fd: impl AsFd, limit: Option<std::time::Duration>) -> io::Result<()> {
    ready(&[(fd.as_fd(), Interest::Read)], limit).map(drop)
}

/// Whether `fd` can be read now, or is at its end.
pub(crate) fn ready_now(fd: impl AsFd) -> io::Result<bool> {
    ready(&[(fd.as_fd(), Interest::Read)], Some(std::time::Duration::ZERO)).map(|ready| !ready.is_empty())
}

/// Whether `fd` takes a few bytes now, or refuses them at once.
pub(crate) fn writable(fd: impl AsFd) -> io::Result<bool> {
    ready(&[(fd.as_fd(), Interest::Write)], Some(std::time::Duration::ZERO)).map(|ready| !ready.is_empty())
}

/// Waits until `fd` takes bytes again, for a descriptor that somebody made non-blocking.
pub fn wait_writable(fd: impl AsFd) -> io::Result<()> {
    let mut entry = libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one initialised pollfd structure.
    retry(|| unsafe { libc::poll(&raw mut entry, 1, -1) }).map(drop)
}

/// Waits until what is written can reach nobody any more: the other end of a pipe or connection is closed. What is no
/// such thing is waited for in vain.
pub(crate) fn wait_unread(fd: impl AsFd) -> io::Result<()> {
    let mut entry = libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: 0, revents: 0 };
    while entry.revents & (libc::POLLERR | libc::POLLHUP) == 0 {
        // SAFETY: one initialised pollfd structure.
        retry(|| unsafe { libc::poll(&raw mut entry, 1, -1) })?;
        if entry.revents & libc::POLLNVAL != 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
    }
    Ok(())
}

/// What is waited for at a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    /// That it can be read.
    Read,
    /// That it takes bytes.
    Write,
}

/// Waits until one of several is ready, at its end or broken, or the time is over; which of them are.
pub(crate) fn ready(fds: &[(BorrowedFd<'_>, Interest)], limit: Option<std::time::Duration>) -> io::Result<Vec<usize>> {
    let entry = |(fd, interest): &(BorrowedFd<'_>, Interest)| {
        let events = if *interest == Interest::Read { libc::POLLIN } else { libc::POLLOUT };
        libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 }
    };
    let mut entries: Vec<libc::pollfd> = fds.iter().map(entry).collect();
    let count = libc::nfds_t::try_from(entries.len()).map_err(io::Error::other)?;
    // Rounded up: a time-out that comes early would be asked for again and again.
    let millis = limit.map_or(-1, |limit| i32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
    // SAFETY: an array of that many initialised pollfd structures.
    match cerr(unsafe { libc::poll(entries.as_mut_ptr(), count, millis) }) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
        Ok(_) | Err(_) => {}
    }
    Ok(entries.iter().enumerate().filter(|(_, entry)| entry.revents != 0).map(|(at, _)| at).collect())
}
