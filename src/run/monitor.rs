//! The one thread that decides about a run, from its first resource to its last.
//!
//! Signals, requests of other processes, facts about the command, the ends of its streams and the passing of
//! time all arrive here as messages, and are taken one after the other: that order is the truth about races.
//! The monitor never waits for anything else while the command runs: calls of the engine's tool are made by the
//! preparation, by the channel, and by the commander.

mod alarms;
mod commander;
mod ending;
mod launch;
mod wishes;

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select};

use crate::base::error::{Failure, Ignore, Result};
use crate::base::id::{RunId, RunName};
use crate::base::log;
use crate::base::threads;
use crate::base::time::Deadline;
use crate::run::control::{self, Asked};
use crate::run::feed::feed;
use crate::run::output::{Stream, Writer};
use crate::run::owner::Owned;
use crate::run::prepare::{Ids, Preparation, Prepared, Stopped, Undo};
use crate::run::pump::{self, Pump};
use crate::run::slot::Slot;
use crate::run::state::{Cause, Event};
use crate::run::terminal::Terminal;
use crate::runtime::{Channel, End, Fact};
use crate::sys::signal::{self, Signal};
use crate::term::keys::Did;
use crate::wire::record::Io;
use alarms::Alarms;
use commander::{Command, Commander, Done, Stop, Word};
pub(crate) use launch::{Launch, Outcome};

/// How long the streams may stay open after the command's end is known.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// Why the run is over for the monitor.
enum Over {
    /// No command was started.
    Unstarted(Stopped),
    /// The command's end is known.
    Ended(Fact),
    /// The engine does not do what it must: somebody finishes the run later.
    GivenUp(Failure),
}

/// The monitor of one run.
pub(crate) struct Monitor {
    launch: Launch,
    owned: Owned,
    slot: Slot,
    log: Arc<Writer>,
    signals: Receiver<Signal>,
    requests: Receiver<Asked>,
    abort: Arc<AtomicBool>,
    cancel: Option<Sender<Infallible>>,
    cancel_pull: Option<Sender<Infallible>>,
    prepared: Receiver<Prepared>,
    made: Receiver<Ids>,
    undo: Undo,
    channel: Option<Arc<dyn Channel>>,
    facts: Receiver<Fact>,
    /// The terminal that the command works at, if it has one.
    terminal: Option<Terminal>,
    did: Receiver<Did>,
    pump: Option<Pump>,
    pumped: Receiver<pump::Event>,
    commander: Option<Commander>,
    done: Receiver<Done>,
    endings: [Option<pump::Ending>; 2],
    started: bool,
    /// What is to be said to the command as soon as it runs.
    waiting: Vec<Word>,
    /// Who asked for the end first.
    cause: Option<Cause>,
    /// The signal that asked for it.
    asked_by: Option<Signal>,
    first_int: Option<Deadline>,
    /// Whether INT came, however the run then ends.
    interrupted: bool,
    pipe_signalled: bool,
    alarms: Alarms,
    failures: Vec<Failure>,
    undelivered: bool,
}

impl Monitor {
    /// Takes over an owned run. `uid` may ask it for things.
    pub(crate) fn new(launch: Launch, owned: Owned, slot: Slot, signals: Receiver<Signal>, uid: u32) -> Result<Self> {
        let (ask, requests) = bounded(0);
        let opened = Writer::open(&owned.paths.output(), launch.spec.log_max)
            .map_err(|error| Failure::new("preparing the run", error))
            .and_then(|log| control::listen(&owned.socket, uid, &owned.lock, ask).map(|()| log));
        let log = match opened {
            Ok(log) => log,
            Err(failure) => {
                // It never came to be, and no engine knows of it.
                owned.discard(slot.record()).ignore();
                return Err(failure);
            }
        };
        Ok(Monitor {
            launch,
            owned,
            slot,
            log: Arc::new(log),
            signals,
            requests,
            abort: Arc::new(AtomicBool::new(false)),
            cancel: None,
            cancel_pull: None,
            prepared: never(),
            made: never(),
            undo: Undo::default(),
            channel: None,
            facts: never(),
            terminal: None,
            did: never(),
            pump: None,
            pumped: never(),
            commander: None,
            done: never(),
            endings: [None, None],
            started: false,
            waiting: Vec::new(),
            cause: None,
            asked_by: None,
            first_int: None,
            interrupted: false,
            pipe_signalled: false,
            alarms: Alarms::default(),
            failures: Vec::new(),
            undelivered: false,
        })
    }

    /// Runs the command to its end.
    pub(crate) fn run(mut self) -> Outcome {
        self.advance(Event::Prepare);
        if let Err(error) = self.begin() {
            let stopped = Stopped::Failed(Failure::starting("starting the run", &error));
            return self.finish(Over::Unstarted(stopped));
        }
        let mut over = None;
        loop {
            if let Some(over) = self.is_over(&mut over) {
                return self.finish(over);
            }
            let alarm = self.alarms.next().channel();
            select! {
                recv(self.signals) -> signal => match signal {
                    Ok(signal) => self.on_signal(signal),
                    Err(_) => self.signals = never(),
                },
                recv(self.requests) -> asked => match asked {
                    Ok(asked) => self.on_request(&asked),
                    Err(_) => self.requests = never(),
                },
                recv(self.made) -> ids => match ids {
                    Ok(ids) => self.on_made(&ids),
                    Err(_) => self.made = never(),
                },
                recv(self.prepared) -> prepared => {
                    self.prepared = never();
                    over = self.on_prepared(prepared.ok());
                },
                recv(self.facts) -> fact => match fact {
                    Ok(fact) => over = self.on_fact(fact).or(over),
                    Err(_) => self.facts = never(),
                },
                recv(self.pumped) -> event => match event {
                    Ok(event) => self.on_stream(event),
                    Err(_) => self.pumped = never(),
                },
                recv(self.did) -> did => match did {
                    Ok(did) => self.on_did(did),
                    Err(_) => self.did = never(),
                },
                recv(self.done) -> done => match done {
                    Ok(done) => over = self.on_done(done).or(over),
                    Err(_) => self.done = never(),
                },
                recv(alarm) -> _ => over = self.on_alarm().or(over),
            }
        }
    }

    /// Hands out the end, once nothing of it is still on its way.
    fn is_over(&self, over: &mut Option<Over>) -> Option<Over> {
        match over {
            Some(Over::Ended(_)) if self.endings.iter().any(Option::is_none) => None,
            other => other.take(),
        }
    }

    fn begin(&mut self) -> std::io::Result<()> {
        let (cancel, cancelled) = bounded(0);
        let (cancel_pull, pull_cancelled) = bounded(0);
        let (tell, prepared) = bounded(1);
        let (tell_made, made) = bounded(1);
        let preparation = Preparation {
            runtime: Arc::clone(&self.launch.runtime),
            spec: Arc::clone(&self.launch.spec),
            paths: self.owned.paths.clone(),
            id_file: self.launch.id_file.clone(),
            show_progress: self.launch.show_progress,
            abort: Arc::clone(&self.abort),
            cancel: cancelled,
            cancel_pull: pull_cancelled,
        };
        let body = move || {
            let prepared = preparation.run(|ids| tell_made.send(ids.clone()).ignore());
            tell.send(prepared).ignore();
        };
        threads::start("prepare", 256, body)?;
        (self.cancel, self.cancel_pull, self.prepared, self.made) = (Some(cancel), Some(cancel_pull), prepared, made);
        Ok(())
    }

    /// Records an event. A record that cannot be written is said, and does not end the run.
    fn advance(&mut self, event: Event) {
        if let Err(failure) = self.slot.advance(event) {
            self.failures.push(failure);
        }
    }

    fn on_made(&mut self, ids: &Ids) {
        let noted = self.slot.note(|record| {
            record.container_id.clone_from(&ids.container);
            record.network_id.clone_from(&ids.network);
            record.read_only = ids.read_only.iter().map(|path| path.to_string_lossy().into_owned()).collect();
            record.io = if ids.has_init { Io::Init } else { Io::Engine };
        });
        if let Err(failure) = noted {
            self.failures.push(failure);
        }
    }

    fn on_prepared(&mut self, prepared: Option<Prepared>) -> Option<Over> {
        let Some(prepared) = prepared else {
            // The thread panicked: what it made is not known, so all of it is undone.
            self.undo = Undo::everything();
            return Some(Over::Unstarted(Stopped::Failed(Failure::new("preparing the run", "an internal error"))));
        };
        self.undo = prepared.undo;
        self.slot.remember(|record| {
            record.container_id = prepared.ids.container.or(record.container_id.take());
            record.network_id = prepared.ids.network.or(record.network_id.take());
        });
        match prepared.outcome {
            Err(stopped) => Some(Over::Unstarted(stopped)),
            Ok(channel) => match self.attach(Arc::from(channel)) {
                Ok(()) => None,
                Err(error) => {
                    Some(Over::Unstarted(Stopped::Failed(Failure::starting("attaching to the command", &error))))
                }
            },
        }
    }

    fn attach(&mut self, channel: Arc<dyn Channel>) -> std::io::Result<()> {
        let streams = channel.streams();
        match (self.launch.caller.take(), streams.terminal, streams.stdin) {
            (Some(caller), Some(leader), _) => self.terminal = Some(Terminal::new(caller, leader)),
            (_, None, Some(stdin)) if self.launch.spec.input.is_open() => feed(own(std::io::stdin())?, stdin)?,
            (..) => {}
        }
        let callers = [own(std::io::stdout())?, own(std::io::stderr())?];
        let screen = self.terminal.as_ref().map(Terminal::screen);
        let pump = Pump::start([streams.stdout, streams.stderr], callers, Some(&self.log), screen.as_ref())?;
        self.pumped = pump.events.clone();
        self.pump = Some(pump);
        let stop = Stop { chosen: self.launch.stop_signal, grace: self.launch.grace };
        let (commander, done) =
            Commander::start(Arc::clone(&channel), Arc::clone(&self.launch.runtime), self.container(), stop)?;
        (self.commander, self.done) = (Some(commander), done);
        self.facts = channel.facts();
        self.slot.remember(|record| record.io = channel.io());
        self.channel = Some(channel);
        // Asked to end between the last look at it and the start: the start has won, and is now ended.
        if self.abort.load(Ordering::SeqCst) && self.waiting.is_empty() {
            self.waiting.push(self.asked_by.map_or(Word::Stop, Word::Passed));
        }
        Ok(())
    }

    /// How the engine is to be told to mean the container.
    pub(super) fn container(&self) -> String {
        self.slot.record().container_id.clone().unwrap_or_else(|| self.launch.spec.object_name())
    }

    fn command(&self, command: Command) {
        if let Some(commander) = &self.commander {
            commander.send(command);
        }
    }

    fn on_alarm(&mut self) -> Option<Over> {
        if Alarms::rings(&mut self.alarms.timeout) {
            self.ask_to_end(Cause::Timeout, self.launch.grace);
            self.ask_politely();
        }
        if Alarms::rings(&mut self.alarms.second_word) {
            self.command(Command::Say(Word::Stop));
        }
        if Alarms::rings(&mut self.alarms.grace) {
            self.kill();
        }
        if Alarms::rings(&mut self.alarms.drain) {
            if let Some(pump) = &mut self.pump {
                pump.give_up();
            }
        }
        if Alarms::rings(&mut self.alarms.kill) {
            let why = "the engine took the kill, and the command's end did not come";
            return Some(Over::GivenUp(self.given_up(why)));
        }
        None
    }

    fn on_fact(&mut self, fact: Fact) -> Option<Over> {
        match fact {
            Fact::Started => {
                self.on_started();
                None
            }
            Fact::Ending => {
                if let Some(pump) = &mut self.pump {
                    pump.hurry();
                }
                None
            }
            // It was seen to run: only what it ended with was lost with the engine's answer.
            Fact::StartFailed { code: None, why } if self.started => {
                let why = if why.is_empty() { "the engine does not say how it ended".into() } else { why };
                let (code, signal) = (None, None);
                Some(self.on_end(Fact::Ended(End { code, signal, oom: false, lost: Some(why), output_cut: true })))
            }
            Fact::StartFailed { .. } => {
                if let Some(pump) = &mut self.pump {
                    pump.gate.withhold();
                }
                Some(self.on_end(fact))
            }
            Fact::Ended(_) => {
                self.on_started();
                Some(self.on_end(fact))
            }
        }
    }

    fn on_end(&mut self, fact: Fact) -> Over {
        self.alarms.kill = None;
        self.alarms.grace = None;
        self.alarms.second_word = None;
        self.alarms.timeout = None;
        self.alarms.drain = Some(Deadline::after(DRAIN_LIMIT));
        if let Some(pump) = &mut self.pump {
            pump.hurry();
        }
        Over::Ended(fact)
    }

    fn on_started(&mut self) {
        if self.started {
            return;
        }
        self.started = true;
        self.advance(Event::Started);
        let (name, id) = self.names();
        log::progress(&format!("started {name} ({id})"));
        self.begin_session();
        if let Some(pump) = &mut self.pump {
            pump.gate.open();
        }
        self.alarms.timeout = self.launch.timeout.map(Deadline::after);
        if let Some(cause) = self.cause {
            self.advance(Event::Stop(cause));
        }
        for word in std::mem::take(&mut self.waiting) {
            self.command(Command::Say(word));
        }
    }

    fn names(&self) -> (RunName, RunId) {
        let record = self.slot.record();
        (record.name.clone(), record.id.clone())
    }

    fn on_stream(&mut self, event: pump::Event) {
        match event {
            // Only the command writes to stdout; on stderr the engine may have its say before it runs.
            pump::Event::First(Stream::Stdout, _) => self.on_started(),
            pump::Event::First(Stream::Stderr, _) => {
                if let Some(channel) = &self.channel {
                    channel.look();
                }
            }
            // The command wrote where nobody reads: it meets that itself, or would have met SIGPIPE.
            pump::Event::Unread(stream) if self.channel.as_ref().is_some_and(|channel| channel.io() == Io::Init) => {
                if let Some(pump) = &mut self.pump {
                    pump.close(stream);
                }
            }
            pump::Event::Unread(_) if self.started && !self.pipe_signalled => {
                self.pipe_signalled = true;
                self.command(Command::Say(Word::Passed(Signal::PIPE)));
            }
            pump::Event::Unread(_) => {}
            pump::Event::Failed(stream, error) => {
                self.undelivered = true;
                self.failures.push(unwritten(stream, error, &self.names().1));
            }
            pump::Event::Closed(stream, ending) => self.endings[stream.index()] = Some(ending),
        }
    }

    fn on_done(&mut self, done: Done) -> Option<Over> {
        match done {
            Done::Signalled(Signal::PIPE, _) => self.pipe_signalled = false,
            Done::Signalled(signal, Err(error)) => {
                log::warn(&format!("passing {} to the command failed: {error}", signal.name()));
            }
            Done::Killed(Ok(())) => {
                if let Some(channel) = &self.channel {
                    channel.look();
                }
            }
            Done::Signalled(_, Ok(())) | Done::Frozen(false) => {}
            Done::Frozen(true) => self.stop_with_the_command(),
            Done::Killed(Err(error)) => return Some(Over::GivenUp(self.given_up(error))),
        }
        None
    }

    fn given_up(&self, why: impl std::fmt::Display) -> Failure {
        let hint = format!("when the engine answers again: fosse stop {}", self.names().1);
        Failure::new("ending the run", why).hint(hint)
    }

    /// Stops this process as Ctrl-Z does; whoever continues it continues the command.
    fn stop_with_the_command(&mut self) {
        if let Some(terminal) = &self.terminal {
            return terminal.pause();
        }
        signal::stop_self().ignore();
        if self.started {
            self.command(Command::Freeze(false));
        }
    }
}

fn unwritten(stream: Stream, error: std::io::Error, id: &RunId) -> Failure {
    let what = format!("writing the command's {}", stream.as_str());
    Failure::new(what, error).hint(format!("all of it is recorded: fosse logs {id}"))
}

fn own(stream: impl AsFd) -> std::io::Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}
