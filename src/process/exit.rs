//! How a program ended.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::sys::signal::Signal;

/// The end of a program: by itself, or by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It ended with this code.
    Code(u8),
    /// This signal ended it.
    Signal(u8),
}

impl Exit {
    /// From what the kernel reported. A status that is neither (there is none after an end) reads as KILL.
    pub(crate) fn from_status(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
            (None, signal) => Exit::Signal(signal.and_then(|n| u8::try_from(n).ok()).unwrap_or(9)),
        }
    }

    /// Whether it ended by itself with 0.
    pub fn success(self) -> bool {
        self == Exit::Code(0)
    }

    /// The code a shell would report: 128+N for signal N.
    pub fn code(self) -> u8 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => signal.saturating_add(128),
        }
    }
}

/// The code that a shell reports for a signal.
pub fn code_of_signal(signal: Signal) -> u8 {
    Exit::Signal(u8::try_from(signal.number()).unwrap_or(u8::MAX)).code()
}

/// The code that a shell gives for a command that it cannot start (POSIX, XCU 2.8.2): 127 where it was not found, 126
/// where it was. Nothing where no process or descriptor was to be had, or where arguments and variables were too long:
/// the program is not to blame for that.
pub fn code_of_unstarted(error: &io::Error) -> Option<u8> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Some(127),
        _ if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::E2BIG)) => None,
        io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => None,
        _ => Some(126),
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}
