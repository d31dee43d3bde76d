//! Bytes from the caller to the command.
//!
//! Stdin may be a terminal that this process is in the background of, though the command has none. To read there would
//! stop it (TTIN), and with it everything that is to end the run in time: so the signal is blocked, and reading waits
//! until the terminal is this process's.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read};
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::base::error::Ignore;
use crate::base::log;
use crate::base::threads;
use crate::base::time::Deadline;
use crate::run::pump::write_all;
use crate::sys::poll;
use crate::sys::process::Pid;
use crate::sys::pty::is_in_the_foreground;
use crate::sys::stat::Stat;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// Between two looks at whether this process is in the foreground by now, while there is something to read: nothing tells.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Copies the caller's stdin to the command until either end closes. The thread is not joined: it may wait for
/// a caller who never writes, and ends with the process.
pub(crate) fn feed(caller: OwnedFd, command: OwnedFd) -> io::Result<()> {
    let body = move || {
        let (mut from, mut to) = (File::from(caller), File::from(command));
        let mut turn = from.is_terminal().then(Turn::default);
        let mut buffer = vec![0; CHUNK];
        loop {
            if turn.as_mut().is_some_and(|turn| !turn.comes(&from)) {
                break;
            }
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    if write_all(&mut to, &buffer[..count]).is_err() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    poll::either(&from, &from).ignore();
                }
                // Put into the background just now.
                Err(error)
                    if turn.is_some() && error.raw_os_error() == Some(libc::EIO) && !is_in_the_foreground(&from) => {}
                Err(_) => break,
            }
        }
    };
    threads::start("feed", 128, body).map(drop)
}

/// Whose turn it is at a terminal.
#[derive(Default)]
struct Turn {
    /// Whether somebody was told that it is another's.
    told: bool,
}

impl Turn {
    /// Waits until this process may read; `false` if it never will.
    fn comes(&mut self, terminal: &File) -> bool {
        if is_in_the_foreground(terminal) {
            return true;
        }
        // No shell knows of such a group, and nobody will give it the terminal: the kernel lets its members read nothing.
        if is_orphaned() {
            return false;
        }
        if !std::mem::replace(&mut self.told, true) && io::stderr().is_terminal() {
            log::warn("in the background: reading the terminal waits for the foreground");
        }
        loop {
            // Until somebody types, nothing is to be read by anybody.
            if poll::wait_readable(terminal, None).is_err() {
                return false;
            }
            if is_in_the_foreground(terminal) {
                return true;
            }
            Deadline::after(LOOK_AGAIN).wait();
        }
    }
}

/// Whether nobody outside of this process's group, but in its session, is the parent of one in it (setpgid(2)).
fn is_orphaned() -> bool {
    let all = Stat::all().unwrap_or_default();
    let Some(own) = Stat::of(Pid::own()) else { return false };
    let holds = |parent: &Stat| parent.session == own.session && parent.group != own.group;
    let mut members = all.iter().filter(|process| process.group == own.group);
    !members.any(|member| all.iter().any(|parent| parent.pid == member.parent && holds(parent)))
}
