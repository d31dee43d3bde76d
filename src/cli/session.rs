//! Where a command's stdin leads, and the caller's terminal for one that is to work there.

use std::io::IsTerminal;
use std::sync::Arc;

use super::report::{Error, Result};
use super::resolve::mistake;
use crate::base::error::Failure;
use crate::run::terminal::Caller;
use crate::runtime::Input;
use crate::sys::signal::Signal;
use crate::term::escape;
use crate::term::screen::Screen;

/// What opens the escape if nothing else is said.
const ESCAPE: &str = "^/";

/// What a terminal session acts on beside other signals. TTOU is only kept from stopping this process when it gives
/// the terminal back.
const SIGNALS: [Signal; 4] = [Signal::WINCH, Signal::CONT, Signal::TTOU, Signal::TSTP];

/// A terminal only where there is one at both ends of the command.
pub fn input(interactive: bool) -> Input {
    match interactive {
        false => Input::Empty,
        true if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() => Input::Terminal,
        true => Input::Pipe,
    }
}

/// The caller's terminal, as it is before anything else happens.
pub fn screen(input: Input) -> Result<Option<Arc<Screen>>> {
    if input != Input::Terminal {
        return Ok(None);
    }
    let screen = Screen::take().map_err(|error| Failure::new("taking the terminal", error))?;
    Ok(Some(Arc::new(screen)))
}

/// The signals that are acted on.
pub fn signals(usual: &[Signal], input: Input) -> Vec<Signal> {
    let more: &[Signal] = if input == Input::Terminal { &SIGNALS } else { &[] };
    let mut all = usual.to_vec();
    all.extend(more.iter().filter(|signal| !usual.contains(signal)));
    all
}

/// The terminal with what opens the escape there.
pub fn caller(screen: Option<Arc<Screen>>, escape: Option<&str>) -> Result<Option<Caller>> {
    let prefix = escape::parse(escape.unwrap_or(ESCAPE))
        .map_err(|why| Error::Usage(mistake(format!("--escape: {why}")).hint("none, or a key such as ^/ or ^]")))?;
    Ok(screen.map(|screen| Caller { screen, prefix }))
}
