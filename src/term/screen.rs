//! The caller's terminal: raw while a command has it, and afterwards as it was, however the session ends. What the
//! command turned on there is turned off again, and only that.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;

use crate::base::error::Ignore;
use crate::base::log;
use crate::base::sync::locked;
use crate::sys::poll::{self, Interest};
use crate::sys::pty::is_in_the_foreground;
use crate::sys::signal::stop_self;
use crate::sys::termios::{Mode, Size};

use super::modes::Modes;

/// How long the last bytes may wait for a terminal that takes none.
const LAST_BYTES: std::time::Duration = std::time::Duration::from_millis(500);

/// A caller's terminal.
pub(crate) struct Screen {
    input: OwnedFd,
    output: OwnedFd,
    before: Mode,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether the command has it.
    given: bool,
    modes: Modes,
}

impl Screen {
    /// The terminal on stdin and stdout, as it is now. In the background it is somebody else's: this process waits
    /// for its turn, as every program does that reads from a terminal.
    pub(crate) fn take() -> io::Result<Screen> {
        let (input, output) = (io::stdin().as_fd().try_clone_to_owned()?, io::stdout().as_fd().try_clone_to_owned()?);
        if !(input.is_terminal() && output.is_terminal()) {
            return Err(io::Error::other("stdin and stdout are not terminals"));
        }
        while !is_in_the_foreground(&input) {
            stop_self()?;
        }
        let before = Mode::of(&input)?;
        Ok(Screen { input, output, before, state: Mutex::default() })
    }

    /// The command has it from here on. Nothing of ours is drawn meanwhile.
    pub(crate) fn give(&self) -> io::Result<()> {
        let mut state = locked(&self.state);
        state.given = true;
        log::hold();
        self.before.raw().set(&self.input)
    }

    /// Whoever stopped and continued this process may have changed the mode meanwhile, as shells do.
    pub(crate) fn give_again(&self) {
        if locked(&self.state).given {
            self.before.raw().set(&self.input).ignore();
        }
    }

    /// Takes note of what was shown.
    pub(crate) fn shown(&self, bytes: &[u8]) {
        locked(&self.state).modes.see(bytes);
    }

    /// The size of its window.
    pub(crate) fn size(&self) -> io::Result<Size> {
        Size::of(&self.input)
    }

    /// It is the caller's again, as it was. Once; later calls do nothing.
    pub(crate) fn take_back(&self) {
        let mut state = locked(&self.state);
        if !std::mem::take(&mut state.given) {
            return;
        }
        let undo = std::mem::take(&mut state.modes).undo();
        self.write(&undo);
        // A terminal that has gone needs no mode.
        self.before.set(&self.input).ignore();
        log::release();
    }

    /// Writes as much as the terminal takes in time: one that was stopped with Ctrl-S must not hold up the end.
    fn write(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let ready = poll::ready(&[(self.output.as_fd(), Interest::Write)], Some(LAST_BYTES));
            if !ready.is_ok_and(|ready| !ready.is_empty()) {
                return;
            }
            let Ok(copy) = self.output.try_clone() else { return };
            match std::fs::File::from(copy).write(bytes) {
                Ok(count @ 1..) => bytes = &bytes[count..],
                Ok(_) | Err(_) => return,
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.take_back();
    }
}
