//! What the tool does about its own signals.

use std::sync::Mutex;
use std::thread;

use fosse::sys::signal::{Blocked, Signal};

use crate::supervisor::guard;

/// What is done about a signal; whoever attaches to a process takes another one.
type Handler = Box<dyn FnMut(Signal) + Send>;
static HANDLER: Mutex<Option<Handler>> = Mutex::new(None);

/// From now on signals come to a thread. Without a handler INT and TERM end this process with 128 and their number.
pub fn receive(attached: bool) {
    let mut signals = vec![Signal::INT, Signal::TERM];
    if attached {
        signals.extend([Signal::USR1, Signal::USR2, Signal::WINCH]);
    }
    let Ok(blocked) = Blocked::new(&signals) else { return };
    thread::spawn(move || {
        while let Ok(signal) = blocked.wait() {
            match guard(&HANDLER).as_mut() {
                Some(handler) => handler(signal),
                None if signal == Signal::INT || signal == Signal::TERM => {
                    crate::call::leave(128 + signal.number());
                }
                None => {}
            }
        }
    });
}

/// Does something else about them from now on.
pub fn handle(handler: impl FnMut(Signal) + Send + 'static) {
    *guard(&HANDLER) = Some(Box::new(handler));
}

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// A signal's number by its number or name, with or without SIG.
pub fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = text.to_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let at = NAMES.iter().position(|known| *known == name)?;
    i32::try_from(at + 1).ok()
}
