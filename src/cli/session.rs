//! Where a command's stdin leads, and the caller's terminal for one that is to work there.

use std::io::IsTerminal;
use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::report::{Error, Result};
use super::resolve::mistake;
use crate::base::error::Failure;
use crate::process::code_of_signal;
use crate::run::signals;
use crate::run::terminal::Caller;
use crate::runtime::Input;
use crate::sys::signal::{Signal, end_self};
use crate::term::escape;
use crate::term::screen::Screen;

/// What opens the escape if nothing else is said.
const ESCAPE: &str = "^/";

/// What a terminal session needs itself. TTOU is only kept from stopping this process when it gives the terminal back.
const OF_A_TERMINAL: [Signal; 3] = [Signal::WINCH, Signal::CONT, Signal::TTOU];

/// What may not stop this process outside of one.
const OF_THE_BACKGROUND: [Signal; 2] = [Signal::TTIN, Signal::TTOU];

/// A terminal only where there is one at both ends of the command.
pub(crate) fn input(interactive: bool) -> Input {
    match interactive {
        false => Input::Empty,
        true if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() => Input::Terminal,
        true => Input::Pipe,
    }
}

/// The caller's terminal, as it is before anything else happens.
pub(crate) fn screen(input: Input) -> Result<Option<Arc<Screen>>> {
    if input != Input::Terminal {
        return Ok(None);
    }
    let screen = Screen::take().map_err(|error| Failure::new("taking the terminal", error))?;
    Ok(Some(Arc::new(screen)))
}

/// Begins to receive the signals that are passed on or acted on; with Ctrl-Z's outside of a terminal session, too, if
/// `stops`.
pub(crate) fn signals(input: Input, stops: bool) -> Result<Receiver<Signal>> {
    let stop: &[Signal] = if stops || input == Input::Terminal { &[Signal::TSTP] } else { &[] };
    let own: &[Signal] = if input == Input::Terminal { &OF_A_TERMINAL } else { &OF_THE_BACKGROUND };
    Ok(signals::receive_with(&[signals::PASSED, stop].concat(), own)?)
}

/// The exit code for a command that is not to be started any more, if a signal has said so.
pub(crate) fn given_up(signals: &Receiver<Signal>) -> Option<u8> {
    signals.try_iter().find(|signal| signals::asks_to_end(*signal)).map(code_of_signal)
}

/// Ends this process as the command has ended that an interrupt ended: a shell that waits for it then ends what it does,
/// too. Else, and where that does not end it, there is the code.
pub(crate) fn end(code: u8, interrupted: bool) -> u8 {
    if interrupted {
        end_self(Signal::INT);
    }
    code
}

/// The terminal with what opens the escape there.
pub(crate) fn caller(screen: Option<Arc<Screen>>, escape: Option<&str>) -> Result<Option<Caller>> {
    let prefix = escape::parse(escape.unwrap_or(ESCAPE))
        .map_err(|why| Error::Usage(mistake(format!("--escape: {why}")).hint("none, or a key such as ^/ or ^]")))?;
    Ok(screen.map(|screen| Caller { screen, prefix }))
}
