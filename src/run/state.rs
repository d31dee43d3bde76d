//! The life of a run as a pure function: no clock, no disk, no engine.
//!
//! ```text
//! created ─→ starting ─→ running ─→ stopping ─┐
//!    └──────────┴───────────┴──────────┴──────┴→ stopped | failed
//! ```
//!
//! Every request and every fact is an event; the order in which [`apply`] takes them is the truth. A state carries
//! only its own data, and the two matches have no catch-all: a new state or event does not compile until decided.
#![deny(clippy::wildcard_enum_match_arm)]

use crate::base::time::Timestamp;
use crate::wire::record::{self, Reason, Record};

/// It has an id and an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Created;

/// Its place is being made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Starting;

/// The command runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    since: Timestamp,
}

/// It was asked to end while it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stopping {
    since: Timestamp,
    cause: Cause,
}

/// It is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// When the command was first known to run.
    pub(crate) since: Option<Timestamp>,
    /// When the end was known.
    pub(crate) at: Timestamp,
    /// Its exit code, if it can be known.
    pub(crate) exit_code: Option<u8>,
    /// The signal that ended it, if that is certain.
    pub(crate) signal: Option<u8>,
    /// Why it ended.
    pub(crate) reason: Reason,
    /// What failed, in words.
    pub(crate) error: Option<String>,
}

/// Where a run is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// See [`Created`].
    Created(Created),
    /// See [`Starting`].
    Starting(Starting),
    /// See [`Running`].
    Running(Running),
    /// See [`Stopping`].
    Stopping(Stopping),
    /// Ended with 0 or because it was asked to.
    Stopped(Ended),
    /// Any other end.
    Failed(Ended),
}

/// Who wants a run to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The stop verb, the escape, or a signal to the client.
    Asked,
    /// Its time is over.
    Timeout,
}

/// What happens to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Its place is about to be made.
    Prepare,
    /// The command runs.
    Started,
    /// Somebody wants it to end.
    Stop(Cause),
    /// The command ended by itself, or by what was done to it.
    Exited {
        /// Its code, 128+N for a signal.
        code: u8,
        /// The signal, where that is certain.
        signal: Option<u8>,
        /// Whether it was killed for memory.
        oom: bool,
    },
    /// It could not be run. A code of 126 or 127 if the command was the reason.
    StartFailed {
        /// 126, 127, or nothing.
        code: Option<u8>,
        /// Why.
        error: String,
    },
    /// The engine no longer knows it.
    Lost(String),
    /// Its owner died, and somebody finishes it.
    Orphaned {
        /// The code its command ended with, if that was left behind.
        code: Option<u8>,
        /// The signal that ended it.
        signal: Option<u8>,
    },
}

/// An event that cannot happen in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Illegal {
    /// The state it was in.
    pub(crate) state: record::State,
    /// The event.
    pub(crate) event: Event,
}

impl std::fmt::Display for Illegal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} cannot happen to a run that is {}", self.event, self.state.as_str())
    }
}

impl State {
    /// The first one.
    pub(crate) fn new() -> State {
        State::Created(Created)
    }

    /// Its name in the record.
    pub(crate) fn name(&self) -> record::State {
        match self {
            State::Created(_) => record::State::Created,
            State::Starting(_) => record::State::Starting,
            State::Running(_) => record::State::Running,
            State::Stopping(_) => record::State::Stopping,
            State::Stopped(_) => record::State::Stopped,
            State::Failed(_) => record::State::Failed,
        }
    }

    /// The end, if it is over.
    pub(crate) fn ended(&self) -> Option<&Ended> {
        match self {
            State::Stopped(ended) | State::Failed(ended) => Some(ended),
            State::Created(_) | State::Starting(_) | State::Running(_) | State::Stopping(_) => None,
        }
    }

    /// When the command was first known to run.
    fn since(&self) -> Option<Timestamp> {
        match self {
            State::Created(_) | State::Starting(_) => None,
            State::Running(Running { since }) | State::Stopping(Stopping { since, .. }) => Some(*since),
            State::Stopped(ended) | State::Failed(ended) => ended.since,
        }
    }

    /// Writes what the state knows into a record.
    pub(crate) fn describe(&self, record: &mut Record) {
        record.state = self.name();
        record.started_at = self.since();
        let ended = self.ended();
        record.stopped_at = ended.map(|ended| ended.at);
        record.exit_code = ended.and_then(|ended| ended.exit_code);
        record.signal = ended.and_then(|ended| ended.signal);
        record.reason = ended.map(|ended| ended.reason);
        record.error = ended.and_then(|ended| ended.error.clone());
    }

    /// The state that a stored record describes; whoever finishes an orphan starts from it.
    pub(crate) fn of(record: &Record) -> State {
        let since = record.started_at.unwrap_or(record.created_at);
        let ended = |reason| Ended {
            since: record.started_at,
            at: record.stopped_at.unwrap_or(since),
            exit_code: record.exit_code,
            signal: record.signal,
            reason,
            error: record.error.clone(),
        };
        match record.state {
            record::State::Created => State::new(),
            record::State::Starting => State::Starting(Starting),
            record::State::Running => State::Running(Running { since }),
            record::State::Stopping => State::Stopping(Stopping { since, cause: Cause::Asked }),
            record::State::Stopped => State::Stopped(ended(record.reason.unwrap_or(Reason::Exited))),
            record::State::Failed => State::Failed(ended(record.reason.unwrap_or(Reason::Orphaned))),
        }
    }
}

impl Default for State {
    fn default() -> Self {
        State::new()
    }
}

/// The only way from one state to the next.
pub(crate) fn apply(state: &State, event: Event, now: Timestamp) -> Result<State, Illegal> {
    let illegal = |event: Event| Err(Illegal { state: state.name(), event });
    let over = |reason| End { since: state.since(), now, reason };
    match state {
        State::Created(_) => match event {
            Event::Prepare => Ok(State::Starting(Starting)),
            Event::Stop(cause) => Ok(before_start(cause, over)),
            Event::StartFailed { code, error } => Ok(over(Reason::StartFailed).failed(code, None, Some(error))),
            Event::Orphaned { code, signal } => {
                Ok(over(Reason::Orphaned).failed(code, signal, Some(OWNER_DIED.into())))
            }
            Event::Lost(why) => Ok(over(Reason::Lost).failed(None, None, Some(why))),
            Event::Started | Event::Exited { .. } => illegal(event),
        },
        State::Starting(_) => match event {
            Event::Started => Ok(State::Running(Running { since: now })),
            Event::Stop(cause) => Ok(before_start(cause, over)),
            Event::StartFailed { code, error } => Ok(over(Reason::StartFailed).failed(code, None, Some(error))),
            Event::Orphaned { code, signal } => {
                Ok(over(Reason::Orphaned).failed(code, signal, Some(OWNER_DIED.into())))
            }
            Event::Lost(why) => Ok(over(Reason::Lost).failed(None, None, Some(why))),
            Event::Prepare | Event::Exited { .. } => illegal(event),
        },
        State::Running(Running { since }) => match event {
            Event::Stop(cause) => Ok(State::Stopping(Stopping { since: *since, cause })),
            Event::Exited { code, signal, oom } => Ok(by_itself(code, signal, oom, over)),
            Event::StartFailed { code, error } => Ok(over(Reason::StartFailed).failed(code, None, Some(error))),
            Event::Orphaned { code, signal } => {
                Ok(over(Reason::Orphaned).failed(code, signal, Some(OWNER_DIED.into())))
            }
            Event::Lost(why) => Ok(over(Reason::Lost).failed(None, None, Some(why))),
            Event::Prepare | Event::Started => illegal(event),
        },
        State::Stopping(Stopping { since, cause }) => match event {
            // A second request changes how fast it ends, not why.
            Event::Stop(_) => Ok(State::Stopping(Stopping { since: *since, cause: *cause })),
            Event::Exited { code, signal, .. } => Ok(after_stop(*cause, Some(code), signal, over)),
            // It was asked to end and is gone: how, nobody can say.
            Event::Lost(_) => Ok(after_stop(*cause, None, None, over)),
            Event::StartFailed { code, error } => Ok(over(Reason::StartFailed).failed(code, None, Some(error))),
            Event::Orphaned { code, signal } => {
                Ok(over(Reason::Orphaned).failed(code, signal, Some(OWNER_DIED.into())))
            }
            Event::Prepare | Event::Started => illegal(event),
        },
        State::Stopped(_) | State::Failed(_) => illegal(event),
    }
}

/// The words for an orphan's end.
pub(crate) const OWNER_DIED: &str = "its owner died before the end was recorded";

/// What time-outs report, whatever the command said (timeout(1)).
const TIMED_OUT: u8 = 124;

struct End {
    since: Option<Timestamp>,
    now: Timestamp,
    reason: Reason,
}

impl End {
    fn ended(self, exit_code: Option<u8>, signal: Option<u8>, error: Option<String>) -> Ended {
        Ended { since: self.since, at: self.now, exit_code, signal, reason: self.reason, error }
    }

    fn stopped(self, exit_code: Option<u8>, signal: Option<u8>) -> State {
        State::Stopped(self.ended(exit_code, signal, None))
    }

    fn failed(self, exit_code: Option<u8>, signal: Option<u8>, error: Option<String>) -> State {
        State::Failed(self.ended(exit_code, signal, error))
    }
}

fn before_start(cause: Cause, over: impl Fn(Reason) -> End) -> State {
    match cause {
        Cause::Asked => over(Reason::Stopped).stopped(None, None),
        Cause::Timeout => over(Reason::Timeout).failed(Some(TIMED_OUT), None, None),
    }
}

fn by_itself(code: u8, signal: Option<u8>, oom: bool, over: impl Fn(Reason) -> End) -> State {
    if oom {
        return over(Reason::Oom).failed(Some(code), signal, Some("the command was killed for memory".into()));
    }
    match (code, signal) {
        (_, Some(_)) => over(Reason::Signaled).failed(Some(code), signal, None),
        (0, None) => over(Reason::Exited).stopped(Some(0), None),
        (_, None) => over(Reason::Exited).failed(Some(code), None, None),
    }
}

fn after_stop(cause: Cause, code: Option<u8>, signal: Option<u8>, over: impl Fn(Reason) -> End) -> State {
    match cause {
        Cause::Asked => over(Reason::Stopped).stopped(code, signal),
        Cause::Timeout => over(Reason::Timeout).failed(Some(TIMED_OUT), None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(5);

    fn run(events: &[Event]) -> Result<State, Illegal> {
        events.iter().try_fold(State::new(), |state, event| apply(&state, event.clone(), NOW))
    }

    fn exited(code: u8) -> Event {
        Event::Exited { code, signal: None, oom: false }
    }

    fn end(events: &[Event]) -> (record::State, Reason, Option<u8>) {
        let state = run(events).unwrap();
        let ended = state.ended().unwrap();
        (state.name(), ended.reason, ended.exit_code)
    }

    #[test]
    fn x3_a_stop_ends_as_stopped_whatever_the_code() {
        use Event::{Prepare, Started, Stop};
        for code in [0, 1, 137, 143] {
            let events = [Prepare, Started, Stop(Cause::Asked), Stop(Cause::Timeout), exited(code)];
            assert_eq!(end(&events), (record::State::Stopped, Reason::Stopped, Some(code)));
        }
        let before = [Prepare, Stop(Cause::Asked)];
        assert_eq!(end(&before), (record::State::Stopped, Reason::Stopped, None));
    }

    #[test]
    fn x5_a_failed_run_never_reads_as_success() {
        use Event::{Prepare, Started, Stop};
        for code in 1..=255 {
            assert_eq!(end(&[Prepare, Started, exited(code)]), (record::State::Failed, Reason::Exited, Some(code)));
        }
        assert_eq!(end(&[Prepare, Started, exited(0)]), (record::State::Stopped, Reason::Exited, Some(0)));
        let late = [Prepare, Started, Stop(Cause::Timeout), exited(0)];
        assert_eq!(end(&late), (record::State::Failed, Reason::Timeout, Some(124)));
        assert_eq!(end(&[Prepare, Started, Event::Lost("gone".into())]), (record::State::Failed, Reason::Lost, None));
    }

    #[test]
    fn the_first_request_is_the_cause() {
        use Event::{Prepare, Started, Stop};
        let natural_first = [Prepare, Started, exited(3), Stop(Cause::Asked)];
        assert!(run(&natural_first).is_err());
        let timeout_first = [Prepare, Started, Stop(Cause::Timeout), Stop(Cause::Asked), exited(3)];
        assert_eq!(end(&timeout_first), (record::State::Failed, Reason::Timeout, Some(124)));
    }

    #[test]
    fn a_final_state_takes_no_event() {
        let all = [
            Event::Prepare,
            Event::Started,
            Event::Stop(Cause::Asked),
            exited(0),
            Event::Orphaned { code: None, signal: None },
            Event::Lost(String::new()),
        ];
        for state in [
            run(&[Event::Orphaned { code: None, signal: None }]).unwrap(),
            run(&[Event::Prepare, Event::Started, exited(0)]).unwrap(),
        ] {
            for event in all.clone() {
                assert!(apply(&state, event, NOW).is_err());
            }
        }
    }

    #[test]
    fn out_of_memory_is_told_only_of_the_command() {
        let events = [Event::Prepare, Event::Started, Event::Exited { code: 137, signal: None, oom: true }];
        assert_eq!(end(&events), (record::State::Failed, Reason::Oom, Some(137)));
    }
}
