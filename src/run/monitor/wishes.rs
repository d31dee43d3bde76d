//! What others want of a run: signals to its client, requests of other processes, and the end that either may ask for.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Monitor;
use super::commander::{Command, Word};
use crate::base::error::{Failure, Ignore};
use crate::base::time::Deadline;
use crate::run::control::{Answer, Asked};
use crate::run::state::{Cause, Event, State};
use crate::run::terminal::{Terminal, second_word};
use crate::runtime::Channel;
use crate::sys::signal::Signal;
use crate::term::keys::Did;
use crate::wire::control::{Reply, Request};

/// After the first INT, how long another one counts as the same key press.
const SAME_INT: Duration = Duration::from_millis(500);

/// Added to a kill's calls: tools are started and ended.
const KILL_MARGIN: Duration = Duration::from_secs(15);

impl Monitor {
    pub(super) fn on_signal(&mut self, signal: Signal) {
        self.interrupted |= signal == Signal::INT;
        match signal {
            Signal::WINCH => self.terminal.iter().for_each(Terminal::resize),
            Signal::CONT => self.terminal.iter().for_each(Terminal::go_on),
            Signal::QUIT if self.terminal.is_some() => self.end_session(signal),
            Signal::INT | Signal::TERM | Signal::HUP if self.terminal.is_some() => self.end_session(signal),
            Signal::TSTP if self.terminal.is_some() => self.stop_with_the_command(),
            Signal::TSTP if self.started => self.command(Command::Freeze(true)),
            Signal::TSTP => self.stop_with_the_command(),
            Signal::INT | Signal::TERM | Signal::HUP => {
                let again = signal == Signal::INT && self.first_int.is_some_and(|first| first.expired());
                if signal == Signal::INT {
                    self.first_int.get_or_insert_with(|| Deadline::after(SAME_INT));
                }
                self.asked_by.get_or_insert(signal);
                self.ask_to_end(Cause::Asked, self.launch.grace);
                self.deliver(Word::Passed(signal));
                if again {
                    self.kill();
                }
            }
            other => self.deliver(Word::Passed(other)),
        }
    }

    pub(super) fn on_request(&mut self, asked: &Asked) {
        let (accepted, connection) = match asked.request {
            Request::Stop { grace_ms } => {
                let first = self.cause.is_none();
                self.ask_to_end(Cause::Asked, grace_ms.map_or(self.launch.grace, Duration::from_millis));
                if first {
                    self.ask_politely();
                }
                (true, None)
            }
            Request::Introduce => {
                let connection = self.channel.as_ref().and_then(|channel| introduce(&**channel));
                (connection.is_some(), connection)
            }
        };
        let reply = Reply { accepted, state: self.slot.state().name() };
        asked.answer.send(Answer { reply, connection }).ignore();
    }

    /// Asks the command to end: a session at a terminal first hears that its terminal is gone, which an interactive
    /// shell obeys that ignores anything else.
    pub(super) fn ask_politely(&mut self) {
        if self.terminal.is_none() {
            return self.deliver(Word::Stop);
        }
        self.deliver(Word::Farewell);
        let left = self.alarms.grace.and_then(|grace| grace.remaining()).unwrap_or(self.launch.grace);
        self.alarms.second_word.get_or_insert_with(|| second_word(left));
    }

    /// A signal to the client of a terminal session is about the session: the keys are the command's.
    fn end_session(&mut self, signal: Signal) {
        let first = self.cause.is_none();
        self.asked_by.get_or_insert(signal);
        self.ask_to_end(Cause::Asked, self.launch.grace);
        if first {
            self.ask_politely();
        }
    }

    /// The caller's terminal is the command's from here on.
    pub(super) fn begin_session(&mut self) {
        let Some(terminal) = &mut self.terminal else { return };
        match terminal.begin() {
            Ok(()) => self.did = terminal.did.clone(),
            Err(error) => {
                self.failures.push(Failure::new("giving the terminal to the command", error));
                self.end_session(Signal::HUP);
            }
        }
    }

    /// What the caller did at the terminal that is not for the command.
    pub(super) fn on_did(&mut self, did: Did) {
        self.end_session(match did {
            Did::Stop => Signal::TERM,
            Did::HangUp => Signal::HUP,
        });
    }

    /// Somebody wants the run to end. A later wish can only shorten the grace.
    pub(super) fn ask_to_end(&mut self, cause: Cause, grace: Duration) {
        self.cause.get_or_insert(cause);
        let grace = Deadline::after(grace);
        self.alarms.grace = Some(self.alarms.grace.map_or(grace, |present| present.min(grace)));
        // An engine may not end a command whose output nobody takes.
        if let Some(pump) = &mut self.pump {
            pump.hurry();
        }
        if self.channel.is_none() {
            self.abort.store(true, Ordering::SeqCst);
            self.cancel_pull = None;
        }
        if matches!(self.slot.state(), State::Running(_)) {
            self.advance(Event::Stop(cause));
        }
    }

    /// Says something to the command, now or as soon as it runs; a run that is still being prepared ends instead.
    pub(super) fn deliver(&mut self, word: Word) {
        if self.started {
            self.command(Command::Say(word));
        } else if self.channel.is_some() {
            self.waiting.push(word);
        }
    }

    /// Ends the command with every descendant, or whatever the preparation is waiting for.
    pub(super) fn kill(&mut self) {
        self.alarms.grace = None;
        match &self.commander {
            None => self.cancel = None,
            Some(commander) => {
                let limit = self.launch.runtime.limits().change;
                // Two calls at most, and then the facts.
                self.alarms.kill.get_or_insert_with(|| Deadline::after(limit * 3 + KILL_MARGIN));
                commander.kill();
            }
        }
    }
}

/// Makes a connection between the init in the place and whoever asked for it, and steps aside.
fn introduce(channel: &dyn Channel) -> Option<OwnedFd> {
    let (client, init) = UnixStream::pair().ok()?;
    channel.introduce(init.into()).ok()?;
    Some(client.into())
}
