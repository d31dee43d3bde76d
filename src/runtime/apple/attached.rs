//! The channel of a run: the tool's attached client, kept alive for as long as the command runs, because only it is
//! told the exit code, and because its end stops the container's log for good.
//!
//! Whether the command runs, and how it ended, is read from what fosse's own PID 1 leaves in the shared directory,
//! where there is one; that costs no call of a service that may be slow. The service is asked only where the two do
//! not tell.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};

use super::calls::{TURNS, Turn, What};
use super::ending::{self, Known, Verdict};
use super::words::{Meaning, meaning};
use super::{Apple, argv};
use crate::base::error::Ignore;
use crate::base::threads;
use crate::base::time::Deadline;
use crate::process::{self, Child, Exit, no_cancel};
use crate::runtime::tail::Tail;
use crate::runtime::{Channel, Error, Fact, MountedInit, Outlet, Result, Runtime, Spec, Status, Whom, client, options};
use crate::sys::signal::Signal;
use crate::wire::exit::{self, ExitFile};
use crate::wire::record;

/// Between two looks at what init has left: until the command runs, while it runs, and when its client has gone.
const FIRST_LOOKS: Duration = Duration::from_millis(20);
const LOOKS: Duration = Duration::from_secs(2);
const LAST_LOOKS: Duration = Duration::from_millis(200);

/// Without an init: when the service is asked whether the command runs, and how much later each time again.
const FIRST_QUESTION: Duration = Duration::from_millis(500);
const NEXT_QUESTION: Duration = Duration::from_secs(2);

/// How often a client is checked against the service while the command runs.
const AGREEMENT: Duration = Duration::from_secs(120);

/// How long a client may go on once its command has ended: the machine is taken down, and the last bytes are passed
/// on. The tool itself waits 3 s for streams that somebody holds.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// How long a shell of the image may take to signal the command.
const INSIDE_LIMIT: Duration = Duration::from_secs(5);

/// How long a client may take to notice that its container was killed, before the container is removed by force.
const KILLED: Duration = Duration::from_secs(3);

/// A container's command behind its attached client.
pub(crate) struct Attached {
    apple: Arc<Apple>,
    name: String,
    outlet: Outlet,
    ask: Sender<()>,
    /// Disconnected when the end is known.
    over: Receiver<()>,
    first: First,
}

/// What is PID 1, and so takes the signals.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    /// fosse's own init: each signal goes to whom it is usually for.
    Own,
    /// The tool's, which passes all on to the command alone.
    Tools,
    /// The command itself.
    Command,
}

impl Attached {
    /// Starts the container and its client. Until the command runs, that is a change of the container like others.
    pub(crate) fn start(apple: Arc<Apple>, spec: &Spec, container: String) -> Result<Box<dyn Channel>> {
        let cmd = apple.cmd(argv::start(spec, &container));
        let turns = Deadline::after(apple.limits.change.saturating_mul(TURNS));
        let turn = apple.calls.turn(What::Change(&container), &cmd, turns, &no_cancel())?;
        let (started, streams) = bounded(1);
        let (tell, facts) = unbounded();
        // One question pending is enough.
        let (ask, asked) = bounded(1);
        let (ended, over) = bounded(0);
        let input = spec.input;
        let call = cmd.title();
        let init = spec.mounted_init.clone();
        let first = match &init {
            Some(_) => First::Own,
            None if apple.tool_version(apple.limits.query())?.at_least(0, 10) => First::Tools,
            None => First::Command,
        };
        let mut watch = Watch {
            apple: Arc::clone(&apple),
            name: container.clone(),
            init,
            tell,
            asked,
            turn: Some(turn),
            tail: Tail::default(),
            started: false,
        };
        // The client lives and dies with the thread that starts it.
        let thread = threads::start("attached", 256, move || {
            let spawned = match watch.init {
                Some(_) => client::spawn(&cmd, input).map_err(Error::from),
                None => client::spawn_heard(&cmd, input, &mut watch.tail),
            };
            match spawned {
                Err(error) => started.send(Err(error)).ignore(),
                Ok((child, streams)) => {
                    started.send(Ok(streams)).ignore();
                    watch.run(child);
                }
            }
            drop(ended);
        });
        thread.map_err(|source| Error::Call(process::Error::Start { call: call.clone(), source }))?;
        let gone = || Error::Garbled { call, why: "its thread ended".into() };
        let streams = streams.recv().map_err(|_| gone())??;
        Ok(Box::new(Attached { apple, name: container, outlet: Outlet::new(streams, facts), ask, over, first }))
    }

    fn is_over_within(&self, limit: Duration) -> bool {
        let late = Deadline::after(limit).channel();
        select! {
            recv(self.over) -> _ => true,
            recv(late) -> _ => false,
        }
    }

    /// Signals the command by a shell of the image; whether it was done.
    fn signal_inside(&self, signal: Signal, whom: Whom, deadline: Deadline) -> bool {
        let cmd = self.apple.cmd(options::signal_command_inside(&self.name, signal, whom));
        let output = process::call(&cmd, Deadline::after(INSIDE_LIMIT).min(deadline), &no_cancel());
        output.is_ok_and(|output| output.exit.success())
    }

    /// Kills the container. One that survives that, as the service says or as its client shows, is removed by force.
    fn kill(&self, deadline: Deadline) -> Result<()> {
        let half = deadline.remaining().unwrap_or_default() / 2;
        let killed = self.apple.signal(&self.name, Signal::KILL, Deadline::after(half));
        match &killed {
            // A service that was restarted takes what lives for stopped, and kills nothing.
            Err(Error::Refused { complaint, .. }) if is_over(complaint) && self.is_over_within(KILLED) => return Ok(()),
            Ok(()) if self.is_over_within(KILLED) => return Ok(()),
            _ => {}
        }
        let cmd = self.apple.cmd(["delete", "--force", &self.name]);
        match self.apple.change(&self.name, &cmd, deadline, &no_cancel()) {
            Ok(output) if output.exit.success() => Ok(()),
            Ok(output) => match Apple::refusal(&cmd, &output) {
                Error::Refused { complaint, .. } if super::words::meaning_of_removal(&complaint) == Meaning::Absent => {
                    Ok(())
                }
                other => killed.and(Err(other)),
            },
            Err(error) => killed.and(Err(error)),
        }
    }
}

/// Whether a signal was refused because there is nothing to take it.
fn is_over(complaint: &str) -> bool {
    matches!(meaning(complaint), Meaning::NotRunning | Meaning::Absent)
}

impl Channel for Attached {
    fn io(&self) -> record::Io {
        record::Io::Engine
    }

    fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    fn look(&self) {
        // Full: a question is pending. Disconnected: the end is known.
        self.ask.try_send(()).ignore();
    }

    fn signal(&self, signal: Signal, whom: Whom, deadline: Deadline) -> Result<()> {
        if signal == Signal::KILL {
            return self.kill(deadline);
        }
        let usual = match self.first {
            First::Own => Whom::of(signal),
            First::Tools => Whom::Command,
            // Of it nothing more can be told than that.
            First::Command => whom,
        };
        if whom != usual && self.signal_inside(signal, whom, deadline) {
            return Ok(());
        }
        match self.apple.signal(&self.name, signal, deadline) {
            Err(Error::Refused { complaint, .. }) if is_over(&complaint) => Ok(()),
            other => other,
        }
    }

    fn freeze(&self, frozen: bool, deadline: Deadline) -> Result<()> {
        // The tool has no pause, and PID 1 cannot be stopped from inside: it passes these on.
        self.signal(if frozen { Signal::TSTP } else { Signal::CONT }, Whom::Command, deadline)
    }
}

/// How the client's end came about.
enum Followed {
    /// It ended.
    ToTheEnd,
    /// It did not although its command had, and was ended.
    Abandoned,
    /// Its command did not start in time.
    NeverStarted(String),
}

/// The thread that waits for the client.
struct Watch {
    apple: Arc<Apple>,
    name: String,
    init: Option<MountedInit>,
    tell: Sender<Fact>,
    asked: Receiver<()>,
    /// Held until the command runs.
    turn: Option<Turn>,
    tail: Tail,
    started: bool,
}

impl Watch {
    fn run(mut self, mut client: Child) {
        let abandoned = match self.follow(&mut client) {
            Followed::ToTheEnd => false,
            Followed::Abandoned => true,
            Followed::NeverStarted(why) => return self.say(Fact::StartFailed { code: None, why }),
        };
        let exit = client.reap();
        self.turn = None;
        let tail = self.tail.last_words();
        let known = Known { exit, has_init: self.init.is_some(), left: self.left(), tail: &tail };
        match ending::judge(&known) {
            Verdict::Certain(fact) if !abandoned || known.left.is_some() => self.end(fact),
            _ => {
                let fact = self.ask_for_the_end(exit, &tail);
                self.end(fact);
            }
        }
    }

    /// What init has left by now.
    fn left(&self) -> Option<ExitFile> {
        let init = self.init.as_ref()?;
        exit::read(&init.directory, &init.key)
    }

    /// The end, if init has left one: the command's, however its client ends.
    fn left_end(&self) -> Option<Fact> {
        self.left().and_then(|left| ending::fact_of(&left, Exit::Signal(9)))
    }

    fn status(&self, cancel: &process::Cancel) -> Result<Option<Status>> {
        let name = std::slice::from_ref(&self.name);
        let facts = self.apple.inspect(name, self.apple.limits.query(), cancel)?;
        Ok(facts.first().map(|facts| facts.status))
    }

    /// Waits for the client's end. A client may hang although its command has ended.
    fn follow(&mut self, client: &mut Child) -> Followed {
        let ended = client.ended();
        let start_limit = self.apple.limits.change();
        let mut question = Deadline::after(if self.init.is_some() { AGREEMENT } else { FIRST_QUESTION });
        let mut look = Deadline::after(FIRST_LOOKS);
        let mut last_words: Option<Deadline> = None;
        loop {
            select! {
                recv(ended) -> _ => return Followed::ToTheEnd,
                recv(self.asked) -> _ => {}
                recv(look.min(question).channel()) -> _ => {}
            }
            let mut over = false;
            if let Some(left) = self.left() {
                over = left.code.is_some();
                if left.started {
                    self.tell_started();
                }
            }
            if question.expired() {
                self.turn.iter_mut().for_each(Turn::make_room);
                // The client's end calls the question off: then its exit is the better answer.
                let status = self.status(&ended).ok().flatten();
                if status == Some(Status::Live) && self.init.is_none() {
                    self.tell_started();
                }
                over |= self.started && status == Some(Status::Stopped);
                question = Deadline::after(if self.started || self.init.is_some() { AGREEMENT } else { NEXT_QUESTION });
            }
            if over && last_words.is_none() {
                self.say(Fact::Ending);
                last_words = Some(Deadline::after(LAST_WORDS));
            }
            if last_words.is_some_and(|limit| limit.expired()) {
                client.terminate(Duration::ZERO);
                return Followed::Abandoned;
            }
            if !self.started && !over && start_limit.expired() {
                client.terminate(Duration::from_millis(500));
                let limit = crate::base::duration::format(self.apple.limits.change);
                return Followed::NeverStarted(format!("container start: the command did not run within {limit}"));
            }
            let pause = if self.started { LOOKS } else { FIRST_LOOKS };
            look =
                last_words.unwrap_or_else(|| Deadline::after(if self.init.is_some() { pause } else { NEXT_QUESTION }));
        }
    }

    fn say(&self, fact: Fact) {
        // The owner no longer listens: it is ending, and needs no fact.
        self.tell.send(fact).ignore();
    }

    fn end(&mut self, fact: Fact) {
        if matches!(&fact, Fact::Ended(end) if end.code.is_some()) {
            self.tell_started();
        }
        self.say(fact);
    }

    fn tell_started(&mut self) {
        self.turn = None;
        if !self.started {
            self.started = true;
            self.say(Fact::Started);
        }
    }

    /// After a client's end that does not tell: the command may still run, without anybody who hears it.
    fn ask_for_the_end(&mut self, exit: Exit, tail: &[u8]) -> Fact {
        let why = ending::last_error(tail);
        let limit = self.apple.limits.change();
        loop {
            if let Some(fact) = self.left_end() {
                return fact;
            }
            match self.status(&no_cancel()) {
                Ok(Some(Status::Live)) => return self.wait_without_a_client(),
                Ok(Some(Status::Other)) if !limit.expired() => {}
                Err(error) if limit.expired() => return ending::lost(error.to_string(), true),
                Err(_) => {}
                // What init left may arrive a moment later than the state.
                Ok(_) if self.left().is_some_and(|left| left.code.is_some()) => continue,
                Ok(_) if !self.began() => {
                    let why = why.unwrap_or_default();
                    return Fact::StartFailed { code: super::words::code_of_unstarted(&why), why };
                }
                Ok(_) => {
                    let why = why.map(|why| format!("its end and a failure of the tool look the same: {why}"));
                    let why = why.unwrap_or_else(|| "the tool does not say how it ended".into());
                    return ending::lost(why, !matches!(exit, Exit::Code(_)));
                }
            }
            Deadline::after(LAST_LOOKS).min(limit).wait();
        }
    }

    /// Whether the command is known to have run.
    fn began(&self) -> bool {
        let seen = || {
            let found = self.apple.one(&self.name, self.apple.limits.query());
            found.is_ok_and(|found| found.is_some_and(|found| found.has_started()))
        };
        self.started || self.left().is_some() || (self.init.is_none() && seen())
    }

    /// The connection broke, not the command: its end is waited for all the same, and its code read if it is left.
    fn wait_without_a_client(&mut self) -> Fact {
        self.tell_started();
        let mut question = Deadline::after(NEXT_QUESTION);
        let mut unanswered: Option<Deadline> = None;
        loop {
            Deadline::after(LAST_LOOKS).wait();
            if let Some(fact) = self.left_end() {
                return fact;
            }
            if !question.expired() {
                continue;
            }
            match self.status(&no_cancel()) {
                Ok(Some(Status::Live | Status::Other)) => unanswered = None,
                Ok(_) => {
                    return self
                        .left_end()
                        .unwrap_or_else(|| ending::lost("its client had gone before it ended", true));
                }
                Err(error) => {
                    let limit = *unanswered.get_or_insert_with(|| self.apple.limits.change());
                    if limit.expired() {
                        return ending::lost(error.to_string(), true);
                    }
                }
            }
            question = Deadline::after(if self.init.is_some() { NEXT_QUESTION * 5 } else { NEXT_QUESTION });
        }
    }
}
