//! Signals as messages: blocked in every thread to come, and received in one.

use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};

use crate::base::error::{Failure, Result};
use crate::base::threads;
use crate::base::time::Deadline;
use crate::runtime::Runtime;
use crate::sys::signal::{Blocked, Signal};

/// What a run or one more command passes on.
pub(crate) const PASSED: &[Signal] = &[
    Signal::INT,
    Signal::TERM,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    #[cfg(target_os = "linux")]
    Signal::PWR,
];

/// How long an engine may think about an image's own signal: no polite word comes later for it.
const THOUGHT: Duration = Duration::from_secs(1);

/// Begins to receive them. Those that were ignored when the program began stay so. Before the first thread.
pub(crate) fn receive(signals: &[Signal]) -> Result<Receiver<Signal>> {
    receive_with(signals, &[])
}

/// The same, with those that this program needs itself, whoever ignored them. What a terminal sends to the background is
/// only kept from stopping this process.
pub(crate) fn receive_with(signals: &[Signal], own: &[Signal]) -> Result<Receiver<Signal>> {
    let failed = |error: std::io::Error| Failure::starting("preparing for signals", &error);
    let blocked = Blocked::with(signals, own).map_err(failed)?;
    let (tell, signals) = unbounded();
    let wait = move || {
        while let Ok(signal) = blocked.wait() {
            if !matches!(signal, Signal::TTIN | Signal::TTOU) && tell.send(signal).is_err() {
                break;
            }
        }
    };
    threads::start("signals", 64, wait).map_err(failed)?;
    Ok(signals)
}

/// Whether a signal asks for the end, also of what has not begun.
pub(crate) fn asks_to_end(signal: Signal) -> bool {
    matches!(signal, Signal::INT | Signal::TERM | Signal::HUP | Signal::QUIT)
}

/// The signal that asks a command to end: the one that was chosen, or its image's own, or TERM. The image is asked for
/// within a part of the grace, so that there is a word before the kill, whatever the engine does.
pub(crate) fn of_the_end(chosen: Option<Signal>, runtime: &dyn Runtime, container: &str, grace: Duration) -> Signal {
    let limit = Deadline::after(THOUGHT.min(grace / 4)).min(runtime.limits().query());
    let asked = || runtime.stop_signal(container, limit).ok().flatten();
    chosen.or_else(|| if grace.is_zero() { None } else { asked() }).unwrap_or(Signal::TERM)
}
