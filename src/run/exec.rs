//! One more command in a live run, followed from its start to its end. Nothing of it is recorded, and its owner is
//! whoever asked for it: this process.
//!
//! As in the monitor of a run, one thread takes everything that happens as messages, and makes no call itself.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, never, select, unbounded};

use crate::base::error::{Failure, Ignore, Result};
use crate::base::log;
use crate::base::threads;
use crate::base::time::Deadline;
use crate::run::feed::feed;
use crate::run::output::Stream;
use crate::run::pump::{self, Pump};
use crate::run::terminal::{Caller, FAREWELL, Terminal, second_word};
use crate::runtime::{Channel, End, Error, Fact, Input, Limits, Refusal, Whom};
use crate::sys::signal::Signal;
use crate::term::keys::Did;
use crate::wire::record::Io;

/// After the first INT, how long another one counts as the same key press.
const SAME_INT: Duration = Duration::from_millis(500);

/// How long the streams may stay open after the command's end is known.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// A tool that said why it did not start the command ends at once; after that time the words were the command's.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How long a caller who does not read is waited for, when the command was made to end.
const PATIENCE: Duration = Duration::from_secs(2);

/// The exit code for everything that is fosse's or an engine's fault.
const FAULT: u8 = 125;

/// A started command, and what its caller wants of it.
pub(crate) struct Session {
    /// What carries it.
    pub(crate) channel: Arc<dyn Channel>,
    /// Its first word, for messages.
    pub(crate) command: String,
    /// Whether it gets the caller's stdin.
    pub(crate) input: Input,
    /// Between the polite signal and the kill.
    pub(crate) grace: Duration,
    /// When its time is over.
    pub(crate) timeout: Option<Deadline>,
    /// Those of the engine's calls.
    pub(crate) limits: Limits,
    /// The caller's terminal, if the command is to work there.
    pub(crate) caller: Option<Caller>,
}

/// What became of it, for the caller.
pub(crate) struct Outcome {
    /// The exit code.
    pub(crate) code: u8,
    /// Whether an interrupt came and was what ended the command.
    pub(crate) interrupted: bool,
    /// What to tell the user.
    pub(crate) failures: Vec<Failure>,
}

/// Whether the first bytes of the streams are the command's own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// That is not known yet.
    Shut,
    /// They are, and are passed on.
    Open,
    /// The engine had its say in the command's place.
    Withheld,
}

struct Follower {
    session: Session,
    /// The terminal that the command works at, if it has one.
    terminal: Option<Terminal>,
    second_word: Option<Deadline>,
    pump: Pump,
    gate: Gate,
    /// What each stream began with, while the gate is shut.
    first: [Option<Vec<u8>>; 2],
    endings: [Option<pump::Ending>; 2],
    end: Option<End>,
    signals: Sender<Signal>,
    told: Sender<(Signal, std::result::Result<(), Error>)>,
    first_int: Option<Deadline>,
    /// Whether INT came, however the command then ends.
    interrupted: bool,
    /// Somebody wants it to end.
    asked: bool,
    timed_out: bool,
    /// It never ran.
    unstarted: Option<Refusal>,
    /// Nobody reads what it writes.
    unread: bool,
    /// It is being told so.
    pipe_signalled: bool,
    undelivered: bool,
    timeout: Option<Deadline>,
    grace: Option<Deadline>,
    hold: Option<Deadline>,
    drain: Option<Deadline>,
    failures: Vec<Failure>,
}

/// Follows a command to its end.
pub(crate) fn follow(session: Session, signals: &Receiver<Signal>) -> Result<Outcome> {
    let failed = |error: std::io::Error| Failure::starting("attaching to the command", &error);
    let streams = session.channel.streams();
    let terminal = match (session.caller.clone(), streams.terminal, streams.stdin) {
        (Some(caller), Some(leader), _) => Some(Terminal::new(caller, leader)),
        (_, None, Some(stdin)) if session.input.is_open() => {
            feed(own(std::io::stdin()).map_err(failed)?, stdin).map_err(failed)?;
            None
        }
        (..) => None,
    };
    let screen = terminal.as_ref().map(Terminal::screen);
    let callers = [own(std::io::stdout()).map_err(failed)?, own(std::io::stderr()).map_err(failed)?];
    let pump = Pump::start([streams.stdout, streams.stderr], callers, None, screen.as_ref()).map_err(failed)?;
    let (told, done) = unbounded();
    let deliver = deliverer(&session, &told).map_err(failed)?;
    let follower = Follower {
        timeout: session.timeout,
        session,
        terminal,
        second_word: None,
        pump,
        gate: Gate::Shut,
        first: [None, None],
        endings: [None, None],
        end: None,
        signals: deliver,
        told,
        first_int: None,
        interrupted: false,
        asked: false,
        timed_out: false,
        unstarted: None,
        unread: false,
        pipe_signalled: false,
        undelivered: false,
        grace: None,
        hold: None,
        drain: None,
        failures: Vec::new(),
    };
    Ok(follower.run(signals, &done))
}

/// The thread that passes signals on, one after the other.
fn deliverer(
    session: &Session,
    told: &Sender<(Signal, std::result::Result<(), Error>)>,
) -> std::io::Result<Sender<Signal>> {
    let (signals, queue) = unbounded();
    let (channel, limits, told) = (Arc::clone(&session.channel), session.limits, told.clone());
    threads::start("command", 256, move || {
        for signal in queue {
            let delivered = channel.signal(signal, Whom::of(signal), limits.change());
            told.send((signal, delivered)).ignore();
        }
    })?;
    Ok(signals)
}

impl Follower {
    fn run(mut self, signals: &Receiver<Signal>, done: &Receiver<(Signal, std::result::Result<(), Error>)>) -> Outcome {
        let mut signals_open = signals.clone();
        let mut facts = self.session.channel.facts();
        let mut events = self.pump.events.clone();
        while self.end.is_none() || self.endings.iter().any(Option::is_none) {
            let alarms = [self.timeout, self.second_word, self.grace, self.hold, self.drain];
            let did = self.terminal.as_ref().map_or_else(never, |terminal| terminal.did.clone());
            let alarm = alarms.into_iter().flatten().fold(Deadline::never(), Deadline::min).channel();
            select! {
                recv(signals_open) -> signal => match signal {
                    Ok(signal) => self.on_signal(signal),
                    Err(_) => signals_open = never(),
                },
                recv(facts) -> fact => match fact {
                    Ok(Fact::Ended(end)) => self.on_end(end),
                    Ok(Fact::StartFailed { code, why }) => {
                        self.unstarted = Some(Refusal { code: code.unwrap_or(FAULT), why });
                        self.on_end(unknown(String::new()));
                    }
                    Ok(Fact::Started) => self.open(),
                    Ok(Fact::Ending) => self.pump.hurry(),
                    Err(_) => {
                        facts = never();
                        if self.end.is_none() {
                            self.on_end(unknown("the engine does not say how it ended".into()));
                        }
                    }
                },
                recv(events) -> event => match event {
                    Ok(event) => self.on_stream(event),
                    Err(_) => events = never(),
                },
                recv(did) -> did => match did {
                    Ok(Did::Stop | Did::HangUp) => self.end_session(),
                    Err(_) => self.terminal.iter_mut().for_each(|terminal| terminal.did = never()),
                },
                recv(done) -> done => if let Ok((signal, delivered)) = done {
                    self.on_delivered(signal, delivered);
                },
                recv(alarm) -> _ => self.on_alarm(),
            }
        }
        self.finish(signals)
    }

    fn on_signal(&mut self, signal: Signal) {
        self.interrupted |= signal == Signal::INT;
        if let Some(terminal) = &self.terminal {
            match signal {
                Signal::WINCH => return terminal.resize(),
                Signal::CONT => return terminal.go_on(),
                Signal::TSTP => return terminal.pause(),
                Signal::INT | Signal::TERM | Signal::HUP | Signal::QUIT => return self.end_session(),
                _ => {}
            }
        }
        self.pass(signal);
        if matches!(signal, Signal::INT | Signal::TERM | Signal::HUP) {
            let again = signal == Signal::INT && self.first_int.is_some_and(|first| first.expired());
            if signal == Signal::INT {
                self.first_int.get_or_insert_with(|| Deadline::after(SAME_INT));
            }
            self.ask_to_end();
            if again {
                self.kill();
            }
        }
    }

    /// Ends the session at the terminal: it first hears that its terminal is gone.
    fn end_session(&mut self) {
        if !self.asked {
            self.ask_to_end();
            self.pass(FAREWELL);
            self.second_word = Some(second_word(self.session.grace));
        }
    }

    fn pass(&self, signal: Signal) {
        self.signals.send(signal).ignore();
    }

    fn ask_to_end(&mut self) {
        self.asked = true;
        let grace = Deadline::after(self.session.grace);
        self.grace = Some(self.grace.map_or(grace, |present| present.min(grace)));
        // Nobody waits for a caller who does not read.
        self.pump.hurry();
    }

    /// Kills the command, at once: not behind a call that hangs. The channel sees to it that the end comes.
    fn kill(&mut self) {
        self.grace = None;
        let (channel, limits, told) = (Arc::clone(&self.session.channel), self.session.limits, self.told.clone());
        let body = move || {
            let killed = channel.signal(Signal::KILL, Whom::Command, limits.change());
            told.send((Signal::KILL, killed)).ignore();
        };
        if threads::start("kill", 256, body).is_err() {
            self.pass(Signal::KILL);
        }
    }

    fn on_delivered(&mut self, signal: Signal, delivered: std::result::Result<(), Error>) {
        match delivered {
            Ok(()) if signal == Signal::PIPE => self.pipe_signalled = false,
            Ok(()) => {}
            // It cannot be told, and writes on to nobody.
            Err(_) if signal == Signal::PIPE => self.kill(),
            Err(error) => log::warn(&format!(
                "passing {} to the command failed: {error}; what is left of it ends with the run",
                signal.name()
            )),
        }
    }

    fn on_alarm(&mut self) {
        let rings = |alarm: &mut Option<Deadline>| alarm.take_if(|deadline| deadline.expired()).is_some();
        if rings(&mut self.timeout) {
            self.timed_out = true;
            if self.terminal.is_some() {
                self.end_session();
            } else if !self.asked {
                self.ask_to_end();
                self.pass(Signal::TERM);
            }
        }
        if rings(&mut self.second_word) {
            self.pass(Signal::TERM);
        }
        if rings(&mut self.grace) {
            self.kill();
        }
        if rings(&mut self.hold) {
            self.open();
        }
        if rings(&mut self.drain) {
            self.open();
            self.pump.give_up();
        }
    }

    fn on_end(&mut self, end: End) {
        self.end = Some(end);
        (self.timeout, self.second_word, self.grace, self.hold) = (None, None, None, None);
        self.drain = Some(Deadline::after(DRAIN_LIMIT));
        self.pump.hurry();
        self.judge();
    }

    fn on_stream(&mut self, event: pump::Event) {
        match event {
            pump::Event::First(stream, start) => {
                self.first[stream.index()] = Some(start);
                self.judge();
            }
            // The command meets that itself, where its pipe is in our hands.
            pump::Event::Unread(stream) if self.session.channel.io() == Io::Init => self.pump.close(stream),
            // It wrote where nobody reads: it would have met SIGPIPE.
            pump::Event::Unread(_) if !self.pipe_signalled => {
                (self.unread, self.pipe_signalled) = (true, true);
                self.pass(Signal::PIPE);
            }
            pump::Event::Unread(_) => {}
            pump::Event::Failed(stream, error) => {
                self.undelivered = true;
                self.failures.push(Failure::new(format!("writing the command's {}", stream.as_str()), error));
            }
            pump::Event::Closed(stream, ending) => {
                self.endings[stream.index()] = Some(ending);
                self.judge();
            }
        }
    }

    /// Decides whether what was said first is the command's, as soon as that can be known.
    fn judge(&mut self) {
        if self.gate != Gate::Shut {
            return;
        }
        let mut said = self.first.iter().flatten();
        if said.clone().any(|start| !self.session.channel.may_be_foreign(start)) {
            return self.open();
        }
        let Some(end) = &self.end else {
            if said.next().is_some() {
                self.hold.get_or_insert_with(|| Deadline::after(LAST_WORDS));
            }
            return;
        };
        let known = |stream: &Stream| self.first[stream.index()].is_some() || self.endings[stream.index()].is_some();
        if !Stream::BOTH.iter().all(known) {
            return;
        }
        let said = [0, 1].map(|at: usize| self.first[at].as_deref().unwrap_or_default());
        if end.code.is_some_and(|code| self.session.channel.refusal(code, said).is_some()) {
            self.gate = Gate::Withheld;
            self.pump.gate.withhold();
        } else {
            self.open();
        }
    }

    fn open(&mut self) {
        if self.gate == Gate::Shut {
            self.gate = Gate::Open;
            self.hold = None;
            if let Some(Err(error)) = self.terminal.as_mut().map(Terminal::begin) {
                self.failures.push(Failure::new("giving the terminal to the command", error));
                self.end_session();
            }
            self.pump.gate.open();
        }
    }

    /// What the engine said in the command's place, all in all.
    fn refusal(&self, code: u8) -> Option<Refusal> {
        let [Some(stdout), Some(stderr)] = &self.endings else {
            return None;
        };
        let whole = |ending: &pump::Ending| ending.bytes == ending.start.len() as u64;
        if !(whole(stdout) && whole(stderr)) {
            return None;
        }
        self.session.channel.refusal(code, [&stdout.start, &stderr.start])
    }

    fn finish(mut self, signals: &Receiver<Signal>) -> Outcome {
        let end = self.end.take().unwrap_or_else(|| unknown(String::new()));
        let interrupted = self.interrupted && end.signal.map(i32::from) == Some(Signal::INT.number());
        let refusal = self.unstarted.take().or_else(|| self.refusal(end.code?));
        let code = match (refusal, end.code) {
            (Some(refusal), _) => {
                let what = format!("starting {}", self.session.command);
                let hint = match refusal.code {
                    FAULT => "fosse doctor tells what works here",
                    _ => "is it there, on PATH, and executable?",
                };
                self.failures.push(Failure::new(what, refusal.why).hint(hint));
                refusal.code
            }
            (None, Some(code)) => code,
            // Ended because nobody read it.
            (None, None) if self.unread && !self.asked => 128 + u8::try_from(Signal::PIPE.number()).unwrap_or(13),
            (None, None) if self.timed_out => 124,
            (None, None) => {
                let why = end.lost.unwrap_or_else(|| "the engine does not say how it ended".into());
                self.failures.push(
                    Failure::new("following the command", why)
                        .hint("what may be left of it ends with the run, at the latest"),
                );
                FAULT
            }
        };
        let code = if self.timed_out { 124 } else { code };
        let mut flushed = self.pump.flush(self.asked.then_some(PATIENCE), signals);
        for (stream, error) in std::mem::take(&mut flushed.failed) {
            self.undelivered = true;
            self.failures.push(Failure::new(format!("writing the command's {}", stream.as_str()), error));
        }
        // Whatever is said from here on is said at the caller's own terminal.
        self.terminal = None;
        if flushed.is_stderr_unread() {
            log::nobody_reads();
        }
        if !flushed.undelivered.is_empty() || self.endings.iter().flatten().any(|ending| ending.cut) {
            log::warn("the rest of the output was not read");
        }
        let code = if self.undelivered && code == 0 { FAULT } else { code };
        Outcome { code, interrupted: interrupted && !self.timed_out, failures: self.failures }
    }
}

fn unknown(why: String) -> End {
    End { code: None, signal: None, oom: false, lost: Some(why), output_cut: true }
}

fn own(stream: impl AsFd) -> std::io::Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}
