//! The seam between a run and what happens inside its place: bytes, signals and the exit code.
//!
//! One implementation speaks with fosse's own PID 1 (`pid1`), the other carries them through the engine's attached
//! client (`docker::attached`). The monitor of a run knows only this trait.

use std::os::fd::OwnedFd;
use std::sync::Mutex;

use crossbeam_channel::Receiver;

use super::Result;
use crate::base::time::Deadline;
use crate::sys::signal::Signal;
use crate::wire::record::Io;

/// The command's streams, seen from outside.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// Where its stdin is written, if it has one.
    pub(crate) stdin: Option<OwnedFd>,
    /// Where its stdout is read.
    pub(crate) stdout: Option<OwnedFd>,
    /// Where its stderr is read.
    pub(crate) stderr: Option<OwnedFd>,
    /// The leader of its terminal, if it has one: the same as stdin and stdout, for the size of its window.
    pub(crate) terminal: Option<OwnedFd>,
}

/// How the command ended, as far as the channel can know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    /// Its exit code; 128+N when signal N ended it. `None`: it cannot be known.
    pub(crate) code: Option<u8>,
    /// The signal that ended it, where that is certain.
    pub(crate) signal: Option<u8>,
    /// Whether the command itself was killed for memory.
    pub(crate) oom: bool,
    /// Why the engine can say nothing, when it cannot.
    pub(crate) lost: Option<String>,
    /// Whether the streams broke before the end: what is missing is in the engine's own log.
    pub(crate) output_cut: bool,
}

/// Why an engine did not start a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// 126 and 127 as a shell gives them; 125 when it is not about the command.
    pub code: u8,
    /// The engine's words.
    pub why: String,
}

/// What becomes known about the command. `StartFailed` or `Ended` is the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fact {
    /// It runs, or has run.
    Started,
    /// The engine says that it has ended; its last bytes and its code are still on their way.
    Ending,
    /// It never ran.
    StartFailed {
        /// 126 or 127 if it was not found or cannot be executed, and that is certain.
        code: Option<u8>,
        /// The reason, if one was given beside what is on stderr.
        why: String,
    },
    /// It has ended.
    Ended(End),
}

/// What a channel hands out to its run.
pub(crate) struct Outlet {
    streams: Mutex<Streams>,
    facts: Receiver<Fact>,
}

impl Outlet {
    /// Of these.
    pub(crate) fn new(streams: Streams, facts: Receiver<Fact>) -> Self {
        Outlet { streams: Mutex::new(streams), facts }
    }
}

/// Whom of a command a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    /// The command's own process.
    Command,
    /// Its process group.
    Group,
}

impl Whom {
    /// Who gets a signal that is passed on: the two that a terminal sends to a group go to the group.
    pub(crate) fn of(signal: Signal) -> Whom {
        if matches!(signal, Signal::INT | Signal::QUIT) { Whom::Group } else { Whom::Command }
    }
}

/// What carries a command's bytes, signals and exit code between its place and its owner.
pub(crate) trait Channel: Send + Sync {
    /// Which way it is, for the record.
    fn io(&self) -> Io;

    /// Where streams and facts come out.
    fn outlet(&self) -> &Outlet;

    /// The streams, once; empty afterwards.
    fn streams(&self) -> Streams {
        self.outlet().streams.lock().map(|mut streams| std::mem::take(&mut *streams)).unwrap_or_default()
    }

    /// What becomes known, in order.
    fn facts(&self) -> Receiver<Fact> {
        self.outlet().facts.clone()
    }

    /// Asks whether the command runs or has ended; the answer is a fact. On a channel whose stderr may carry the
    /// engine's own words, the first bytes there prove nothing.
    fn look(&self);

    /// Delivers a signal; KILL ends the command with every descendant, whoever is named. A command that has ended takes
    /// none, which is no error.
    fn signal(&self, signal: Signal, whom: Whom, deadline: Deadline) -> Result<()>;

    /// Stops the command and all its descendants, or lets them go on.
    fn freeze(&self, frozen: bool, deadline: Deadline) -> Result<()>;

    /// Gives init a client's connection, over which it says what else to run. Only fosse's own PID 1 can.
    fn introduce(&self, _client: OwnedFd) -> Result<()> {
        Err(super::Error::Refused { call: "exec".into(), complaint: "the run is carried by the engine".into() })
    }

    /// Waits for the end of the place, not only of the command; whether the engine then removes it unasked.
    fn is_removed_by_itself(&self, _limit: Deadline) -> bool {
        false
    }

    /// Whether a stream that begins like this may carry the engine's own words instead of the command's.
    fn may_be_foreign(&self, _start: &[u8]) -> bool {
        false
    }

    /// What the engine said on stdout and stderr in the place of a command that it did not start. On a channel that
    /// knows by itself, nothing.
    fn refusal(&self, _code: u8, _said: [&[u8]; 2]) -> Option<Refusal> {
        None
    }

    /// What the engine's init said on stderr when it could not execute the command: the code a shell would give
    /// (126, 127), and why. On a channel that knows by itself, nothing.
    fn exec_failure(&self, _code: u8, _stderr: &[u8]) -> Option<(u8, String)> {
        None
    }
}
