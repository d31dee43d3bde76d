//! Waiting for many descriptors at once (epoll(7)), level-triggered. poll(2) would do, but fails for who has its
//! limit on descriptors lowered from outside.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::sys::cerr;

/// What to be told about a descriptor. That it broke, or that nobody is at its other end, is told always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interest(u32);

impl Interest {
    /// That it can be read, or is at its end.
    pub(crate) const READ: Interest = Interest(libc::EPOLLIN as u32);
    /// That it takes bytes.
    pub(crate) const WRITE: Interest = Interest(libc::EPOLLOUT as u32);
    /// That the other end will send no more, whether or not all of it was read.
    pub(crate) const HANGUP: Interest = Interest(libc::EPOLLRDHUP as u32);

    /// Both.
    #[must_use]
    pub(crate) const fn and(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }
}

/// Something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    /// What was given with the descriptor.
    pub(crate) token: u64,
    /// Whether the other end is gone, or sends no more and that was asked for.
    pub(crate) hung_up: bool,
}

/// The descriptors that are waited for.
pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

/// How many events one call gives; the others come with the next.
const EVENTS: usize = 256;

impl Epoll {
    /// None yet.
    pub(crate) fn new() -> io::Result<Epoll> {
        // SAFETY: an integer; the call returns a new descriptor or -1.
        let fd = cerr(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the call returned a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Epoll { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS] })
    }

    /// Waits for one more; its events have the token.
    pub(crate) fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    /// Waits for something else of it.
    pub(crate) fn change(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    /// Waits for it no more. Closing it is not enough: a process that was forked a moment ago may still have a
    /// copy, and as long as it does there are events.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        // It can only fail for one that was not added.
        self.control(libc::EPOLL_CTL_DEL, fd, 0, Interest(0)).unwrap_or_default();
    }

    fn control(&self, operation: libc::c_int, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest.0, u64: token };
        let fd = fd.as_fd().as_raw_fd();
        // SAFETY: two open descriptors and a valid event.
        cerr(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, &raw mut event) }).map(drop)
    }

    /// Waits until something is to be done, or the time is over; no limit is for ever.
    pub(crate) fn wait(&mut self, limit: Option<Duration>) -> io::Result<impl Iterator<Item = Event> + use<>> {
        // Rounded up: a time-out that comes early would be asked for again and again.
        let millis = limit.map_or(-1, |limit| i32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
        let room = libc::c_int::try_from(self.events.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: there is room for so many events.
        let count = match cerr(unsafe { libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), room, millis) })
        {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            other => usize::try_from(other?).unwrap_or_default(),
        };
        const GONE: u32 = (libc::EPOLLHUP | libc::EPOLLERR | libc::EPOLLRDHUP) as u32;
        // A copy, so that descriptors can be added and removed while it is gone through.
        let events: Vec<_> = self.events[..count]
            .iter()
            .map(|event| Event { token: event.u64, hung_up: event.events & GONE != 0 })
            .collect();
        Ok(events.into_iter())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_was_asked_for_is_told_until_it_is_done_and_a_hang_up_in_any_case() {
        let mut epoll = Epoll::new().unwrap();
        assert_eq!(epoll.wait(Some(Duration::ZERO)).unwrap().count(), 0);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        epoll.add(&ours, 7, Interest::READ).unwrap();
        theirs.write_all(b"x").unwrap();
        for _ in 0..2 {
            let events: Vec<_> = epoll.wait(None).unwrap().collect();
            assert_eq!(events, [Event { token: 7, hung_up: false }]);
        }
        // Nobody asked any more whether it can be read.
        epoll.change(&ours, 8, Interest::HANGUP).unwrap();
        assert_eq!(epoll.wait(Some(Duration::ZERO)).unwrap().count(), 0);
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(epoll.wait(None).unwrap().next(), Some(Event { token: 8, hung_up: true }));
        epoll.remove(&ours);
        drop(theirs);
        assert_eq!(epoll.wait(Some(Duration::ZERO)).unwrap().count(), 0);
    }
}
