//! What a command leaves behind when it ends, and how far init's reach goes.

use std::io;
use std::time::Duration;

use super::tree::{self, Tree};
use crate::base::error::Ignore;
use crate::base::time::Deadline;
use crate::sys::linux::epoll::Epoll;
use crate::sys::linux::init::{self as kernel, Ended, Found};
use crate::sys::linux::signalfd::SignalFd;
use crate::sys::process::{Pid, kill_group};
use crate::sys::signal::Signal;
use crate::sys::stat::Stat;

/// How long killed processes are waited for: one in an uninterruptible sleep may take for ever.
pub(crate) const DEATH_LIMIT: Duration = Duration::from_secs(5);

/// Whom init ends after its command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// PID 1: everybody in the pid namespace.
    Everybody,
    /// A subreaper: all its descendants, which no orphan leaves.
    Descendants,
    /// Neither: the command's group. Who has left that belongs to another init.
    Group,
}

impl Rest {
    /// Asks them to end, while the command, whose group it may be, is not reaped yet.
    pub(crate) fn ask(self, main: Pid) {
        match self {
            // Every orphan is a child by now: who has no other child than the command has nobody to ask, and need not
            // look at all processes of a machine.
            Rest::Descendants if kernel::has_no_child_but(main) => {}
            Rest::Everybody | Rest::Descendants | Rest::Group => self.signal(main, Signal::TERM),
        }
    }

    /// Signals all of them.
    pub(crate) fn signal(self, main: Pid, signal: Signal) {
        match self {
            Rest::Everybody => kernel::kill_all(signal).ignore(),
            Rest::Group => kill_group(main, signal).ignore(),
            Rest::Descendants => {
                for process in self.members(main).unwrap_or_default() {
                    tree::signal(&process, signal, |_| true);
                }
            }
        }
    }

    /// Reaps all who have ended, each after it was noted; whether nobody is left that init would have to end.
    pub(crate) fn is_over(self, main: Pid, mut note: impl FnMut(Pid, Ended)) -> io::Result<bool> {
        loop {
            match kernel::look()? {
                // Of a group others are the parents. The command, whose number it has, stays a zombie meanwhile: so the
                // number is nobody else's.
                _ if self == Rest::Group => return Ok(self.is_empty_group(main)),
                Found::Dead(pid, ended) => {
                    note(pid, ended);
                    kernel::reap(pid)?;
                }
                Found::NoChild => return Ok(true),
                Found::NoneDead => return Ok(false),
            }
        }
    }

    fn is_empty_group(self, main: Pid) -> bool {
        self.members(main).map_or_else(
            || {
                // They cannot be seen; but a group without even a zombie is not there.
                kernel::reap(main).ignore();
                kill_group(main, Signal::NONE).is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH))
            },
            |members| members.is_empty(),
        )
    }

    /// When to look again although no child has ended.
    pub(crate) fn look_again(self) -> Duration {
        match self {
            Rest::Everybody | Rest::Descendants => Duration::from_secs(1),
            Rest::Group => Duration::from_millis(20),
        }
    }

    /// Kills who is there without being a descendant, such as what an engine executes in the place, until nobody is.
    /// Their parents are elsewhere, and reap them.
    pub(crate) fn kill_strangers(self, signals: &SignalFd, epoll: &mut Epoll) -> io::Result<()> {
        let late = Deadline::after(DEATH_LIMIT);
        let others = |tree: &Tree| !tree.those(|process| process.pid != 1).is_empty();
        // A zombie can be signalled, and does nothing any more.
        while self == Rest::Everybody
            && kernel::kill_all(Signal::KILL).is_ok()
            && Tree::look().is_ok_and(|tree| others(&tree))
            && !late.expired()
        {
            while signals.next()?.is_some() {}
            epoll.wait(Some(Duration::from_millis(10)))?.for_each(drop);
        }
        Ok(())
    }

    /// None as long as they cannot be seen: the next look may.
    fn members(self, main: Pid) -> Option<Vec<Stat>> {
        let tree = Tree::look().ok()?;
        Some(match self {
            Rest::Everybody => tree.those(|_| true),
            Rest::Group => tree.those(|process| process.group == main.number()),
            Rest::Descendants => tree.descendants(&[Pid::own().number()]),
        })
    }
}
