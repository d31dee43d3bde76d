//! PID 1: starts a command, passes signals on, reaps whoever ends, and ends as the command ended.
//!
//! One thread does all of it, in a loop over poll(2). So an exit cannot be reaped before it is known whose it is,
//! and a signal cannot be sent to a number that has been reaped: no lock, no table of recent exits, no waiting
//! time decides whether a code is right. (DESIGN.md has a reaping thread and one lock instead; with one thread
//! the same holds without either.)

pub mod api;
mod rest;

use std::ffi::OsString;
use std::io;
use std::process::Command;
use std::time::Duration;

use crate::base::error::{Failure, Result};
use crate::base::time::Deadline;
use crate::sys::linux::init::{self as kernel, Ended, Found};
use crate::sys::linux::signalfd::SignalFd;
use crate::sys::poll;
use crate::sys::process::{Pid, kill_group};
use crate::sys::signal::Signal;
use rest::Rest;

/// The code of a command that was not found, as shells have it.
const NOT_FOUND: u8 = 127;
/// The code of a command that was found and cannot be executed.
const NOT_EXECUTABLE: u8 = 126;

/// Between TERM and KILL for what the command left behind.
const REST_GRACE: Duration = Duration::from_secs(1);

/// What init is asked to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// The command and its arguments; never empty.
    pub command: Vec<OsString>,
    /// Whether to adopt orphans although this is not PID 1.
    pub subreaper: bool,
    /// How long the command may take after a TERM; no limit if none.
    pub grace: Option<Duration>,
}

/// Runs the command to its end; its exit code.
pub fn run(options: &Options) -> Result<u8> {
    let failed = |error: io::Error| Failure::new("preparing to be init", error);
    let first = Pid::is_first();
    if first {
        kernel::become_undumpable().map_err(failed)?;
    } else if options.subreaper {
        kernel::become_subreaper().map_err(|error| {
            Failure::new("becoming a subreaper", error).hint("Linux 3.4 or later can; or run fosse init as PID 1")
        })?;
    }
    // What is pending from before is read like any other signal: nothing is lost between here and the loop.
    let signals = SignalFd::new().map_err(failed)?;
    let rest = match (first, options.subreaper) {
        (true, _) => Rest::Everybody,
        (false, true) => Rest::Descendants,
        (false, false) => Rest::Group,
    };
    let main = match start(&options.command) {
        Ok(main) => main,
        Err(error) => {
            crate::base::log::error(&unstarted(&options.command, &error));
            return Ok(code_of_start(&error));
        }
    };
    let ended = Init { signals, main, grace: options.grace, rest, kill: Deadline::never() }.run().map_err(failed)?;
    Ok(match ended {
        Ended::Exited(code) => code,
        Ended::Killed(number) => u8::try_from(128 + number).unwrap_or(u8::MAX),
    })
}

fn start(command: &[OsString]) -> io::Result<Pid> {
    let Some((program, args)) = command.split_first() else {
        return Err(io::ErrorKind::NotFound.into());
    };
    #[allow(clippy::disallowed_methods, reason = "init holds what it starts without a deadline")]
    let mut child = Command::new(program);
    child.args(args);
    kernel::own_group_in_the_foreground(&mut child);
    // The loop reaps it: a `Child` neither waits nor kills when it is dropped.
    let child = child.spawn()?;
    i32::try_from(child.id()).ok().and_then(Pid::new).ok_or_else(|| io::Error::other("it got no process id"))
}

/// What a shell's exit code would be (POSIX, XCU 2.8.2).
fn code_of_start(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => NOT_FOUND,
        // No process to be had is nothing that the command is to blame for.
        io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => 125,
        _ => NOT_EXECUTABLE,
    }
}

fn unstarted(command: &[OsString], error: &io::Error) -> Failure {
    let program = command.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    Failure::new(format!("starting {}", crate::base::error::one_line(&program)), error)
        .hint("is it there, on PATH, and executable?")
}

/// PID 1 while its command runs.
struct Init {
    signals: SignalFd,
    main: Pid,
    grace: Option<Duration>,
    rest: Rest,
    /// When the command is killed.
    kill: Deadline,
}

impl Init {
    fn run(mut self) -> io::Result<Ended> {
        let ended = loop {
            while let Some(signal) = self.signals.next()? {
                self.pass_on(signal);
            }
            // After the signals: a CHLD that was read just now is looked into, and a later one wakes the wait below.
            if let Some(ended) = self.reap()? {
                break ended;
            }
            if self.kill.expired() {
                self.kill = Deadline::never();
                self.to_the_group(Signal::KILL);
            }
            poll::wait_readable(&self.signals, self.kill.remaining())?;
        };
        self.end_the_rest()?;
        kernel::take_foreground();
        Ok(ended)
    }

    /// Reaps all who have ended. The command itself comes with its group's end: as long as it is a zombie, its
    /// number is the group's and nobody else's.
    fn reap(&self) -> io::Result<Option<Ended>> {
        loop {
            match kernel::look()? {
                Found::NoneDead => return Ok(None),
                Found::NoChild => return Err(io::Error::other("the command vanished unseen")),
                Found::Dead(pid, ended) if pid == self.main => {
                    self.rest.signal(self.main, Signal::TERM);
                    kernel::reap(pid)?;
                    return Ok(Some(ended));
                }
                Found::Dead(pid, _) => kernel::reap(pid)?,
            }
        }
    }

    fn pass_on(&mut self, signal: Signal) {
        match signal {
            // The loop looks for the dead each time round. Reading and writing the terminal in the background is
            // this process's own affair, and waits until it is in the foreground.
            Signal::CHLD | Signal::TTIN | Signal::TTOU => return,
            Signal::TERM => {
                if let (Some(grace), None) = (self.grace, self.kill.limit()) {
                    self.kill = Deadline::after(grace);
                }
            }
            _ => {}
        }
        self.to_the_group(signal);
    }

    /// The command is not reaped yet, so this is its group. Gone in between: its exit is about to be read.
    fn to_the_group(&self, signal: Signal) {
        kill_group(self.main, signal).unwrap_or_default();
    }

    /// Waits until nobody is left of what was told to end; kills what does not within the grace.
    fn end_the_rest(&self) -> io::Result<()> {
        let late = Deadline::after(REST_GRACE);
        loop {
            while self.signals.next()?.is_some() {}
            match self.rest.reap()? {
                Found::NoChild => return Ok(()),
                _ if self.rest.is_over(self.main) => return Ok(()),
                _ if late.expired() => break,
                _ => {}
            }
            // Processes that are not children end without a word: they are looked for.
            let limit = late.remaining().map(|left| left.min(self.rest.look_again()));
            poll::wait_readable(&self.signals, limit)?;
        }
        self.rest.kill(self.main, &self.signals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_fails_has_the_code_of_a_shell() {
        for (number, wanted) in
            [(libc::ENOENT, 127), (libc::ENOTDIR, 127), (libc::EACCES, 126), (libc::ENOEXEC, 126), (libc::EAGAIN, 125)]
        {
            assert_eq!(code_of_start(&io::Error::from_raw_os_error(number)), wanted, "{number}");
        }
    }
}
