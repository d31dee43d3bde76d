//! What a dead owner has left, and what that means for its run: the same for who only shows it and for who finishes it.

use std::time::Duration;

use crate::base::fs::read_bounded;
use crate::base::paths::RunPaths;
use crate::base::time::Timestamp;
use crate::run::state::{self, Cause, Event, Illegal, apply};
use crate::runtime::pid1::read_page;
use crate::wire::channel::{Exit, Page};
use crate::wire::exit;
use crate::wire::record;

/// What is known of a run without an owner beyond its record.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Orphan {
    /// How the command ended, if fosse's own PID 1 has left that behind. It is exact, also where an engine has
    /// forgotten.
    pub(crate) exit: Option<Exit>,
    /// The grace, if the owner did not answer and was ended so that its run stops.
    pub(crate) stop: Option<Duration>,
}

impl Orphan {
    /// Reads it.
    pub(crate) fn of(paths: &RunPaths) -> Self {
        Orphan { exit: left_exit(paths), stop: asked(paths) }
    }

    /// What there is still to happen to a run in this state: its owner's death, or the end that was asked for.
    pub(crate) fn events(&self, state: record::State) -> Vec<Event> {
        if self.stop.is_none() {
            let (code, signal) = (self.exit.map(|exit| exit.code), self.exit.and_then(|exit| exit.signal));
            return vec![Event::Orphaned { code, signal }];
        }
        let over = match self.exit {
            Some(exit) => Event::Exited { code: exit.code, signal: exit.signal, oom: exit.oom },
            None => Event::Lost("it was gone when its owner was ended".into()),
        };
        match state {
            record::State::Running | record::State::Stopping => vec![Event::Stop(Cause::Asked), over],
            // One that had not started is over with the wish alone.
            record::State::Created | record::State::Starting => vec![Event::Stop(Cause::Asked)],
            record::State::Stopped | record::State::Failed => Vec::new(),
        }
    }

    /// What such a run is until somebody has finished it: what it will become, or on its way there if only that will
    /// tell how it ended.
    pub(crate) fn shown(&self, state: &state::State, at: Timestamp) -> Result<state::State, Illegal> {
        match self.events(state.name()).into_iter().next() {
            Some(event) => apply(state, event, at),
            None => Ok(state.clone()),
        }
    }
}

fn left_exit(paths: &RunPaths) -> Option<Exit> {
    match read_page(&paths.exit_page()) {
        Page::Exited(exit) => Some(exit),
        Page::Blank | Page::Started => left_in_file(paths),
    }
}

/// The same of an init in a virtual machine.
fn left_in_file(paths: &RunPaths) -> Option<Exit> {
    let key = read_bounded(&paths.left_key(), exit::MAX_KEY).ok()?;
    let left = exit::read(&paths.left(), std::str::from_utf8(&key).ok()?)?;
    // One that was not started has the code of that.
    left.code.map(|code| Exit { code, signal: left.signal, oom: left.oom })
}

fn asked(paths: &RunPaths) -> Option<Duration> {
    let bytes = read_bounded(&paths.stop_marker(), 32).ok()?;
    std::str::from_utf8(&bytes).ok()?.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::state::State;

    #[test]
    fn an_orphan_failed_and_one_that_was_to_stop_is_stopping_and_then_stopped_with_the_code_that_was_left() {
        use record::Reason;
        let at = Timestamp::now();
        let steps = [Event::Prepare, Event::Started, Event::Stop(Cause::Asked)];
        let mut state = State::new();
        for step in steps.map(Some).into_iter().chain([None]) {
            let (code, stop) = (Exit { code: 7, signal: None, oom: false }, Some(Duration::ZERO));
            let started = matches!(state, State::Running(_) | State::Stopping(_));
            for exit in [None, started.then_some(code)] {
                let end = |stop| {
                    let events = Orphan { exit, stop }.events(state.name());
                    events.into_iter().fold(state.clone(), |state, event| apply(&state, event, at).unwrap())
                };
                let shown = |stop| Orphan { exit, stop }.shown(&state, at).unwrap();
                assert_eq!(shown(None), end(None));
                assert_eq!(shown(stop).name(), if started { record::State::Stopping } else { end(stop).name() });
                let told = |end: State| end.ended().map(|ended| (ended.reason, ended.exit_code)).unwrap();
                let known = exit.map(|exit| exit.code);
                assert_eq!(end(None).name(), record::State::Failed, "{state:?}");
                assert_eq!(told(end(None)), (Reason::Orphaned, known), "{state:?}");
                assert_eq!(end(stop).name(), record::State::Stopped, "{state:?}");
                assert_eq!(told(end(stop)), (Reason::Stopped, known), "{state:?}");
            }
            if let Some(step) = step {
                state = apply(&state, step, at).unwrap();
            }
        }
    }
}
