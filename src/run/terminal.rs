//! A terminal session, as the monitor of a run and the follower of one more command see it: the caller's terminal is
//! the command's from its start to its end, and what the caller does there arrives as messages.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crossbeam_channel::{Receiver, never};

use crate::base::error::Ignore;
use crate::base::time::Deadline;
use crate::sys::signal::{Signal, stop_self};
use crate::term::escape::{Escape, Prefix};
use crate::term::keys::{Did, Keys};
use crate::term::screen::Screen;

/// What a session that is to end hears first: that its terminal is gone. An interactive shell obeys it that ignores
/// TERM, which is what it hears second.
pub(crate) const FAREWELL: Signal = Signal::HUP;

/// The caller's terminal, and how it is used.
#[derive(Clone)]
pub(crate) struct Caller {
    /// The terminal.
    pub(crate) screen: Arc<Screen>,
    /// What opens the escape; `None` if nothing does.
    pub(crate) prefix: Option<Prefix>,
}

/// A command at the caller's terminal.
pub(crate) struct Terminal {
    caller: Caller,
    leader: OwnedFd,
    keys: Option<Keys>,
    /// What the caller did that is not for the command.
    pub(crate) did: Receiver<Did>,
}

impl Terminal {
    /// A command's terminal, which nobody works at yet. Its window has the size that the caller's has by now.
    pub(crate) fn new(caller: Caller, leader: OwnedFd) -> Terminal {
        let terminal = Terminal { caller, leader, keys: None, did: never() };
        terminal.resize();
        terminal
    }

    /// What has been shown is noted here.
    pub(crate) fn screen(&self) -> Arc<Screen> {
        Arc::clone(&self.caller.screen)
    }

    /// The caller works at it from here on.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        if self.keys.is_none() {
            self.caller.screen.give()?;
            let (stdin, command) = (io::stdin().as_fd().try_clone_to_owned()?, self.leader.try_clone()?);
            let keys = Keys::carry(stdin, command, Escape::new(self.caller.prefix))?;
            self.did = keys.did.clone();
            self.keys = Some(keys);
        }
        Ok(())
    }

    /// Gives the command's window the size of the caller's.
    pub(crate) fn resize(&self) {
        // A terminal that has gone has no size, and its end is on its way.
        self.caller.screen.size().and_then(|size| size.set(&self.leader)).ignore();
    }

    /// The caller's terminal may be in another mode and of another size: this process was stopped, and goes on.
    pub(crate) fn go_on(&self) {
        self.caller.screen.give_again();
        self.resize();
    }

    /// Gives the terminal back for the time that this process is stopped.
    pub(crate) fn pause(&self) {
        let given = self.keys.is_some();
        self.caller.screen.take_back();
        stop_self().ignore();
        if given {
            self.caller.screen.give().ignore();
        }
        self.resize();
    }

    /// The caller has the terminal back as it was.
    pub(crate) fn end(&mut self) {
        self.keys = None;
        self.did = never();
        self.caller.screen.take_back();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.end();
    }
}

/// When a session that is to end within the grace hears TERM.
pub(crate) fn second_word(grace: std::time::Duration) -> Deadline {
    Deadline::after((grace / 4).min(std::time::Duration::from_secs(1)))
}
