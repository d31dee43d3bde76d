//! Signals as messages: blocked in every thread to come, and received in one.

use std::thread;

use crossbeam_channel::{Receiver, unbounded};

use crate::base::error::{Failure, Result};
use crate::sys::signal::{Blocked, Signal};

/// Begins to receive them. Those that were ignored when the program began stay so. Before the first thread.
pub fn receive(signals: &[Signal]) -> Result<Receiver<Signal>> {
    let failed = |error: std::io::Error| Failure::starting("preparing for signals", &error);
    let blocked = Blocked::new(signals).map_err(failed)?;
    let (tell, signals) = unbounded();
    let wait = move || {
        while let Ok(signal) = blocked.wait() {
            if tell.send(signal).is_err() {
                break;
            }
        }
    };
    thread::Builder::new().name("signals".into()).stack_size(64 << 10).spawn(wait).map_err(failed)?;
    Ok(signals)
}
