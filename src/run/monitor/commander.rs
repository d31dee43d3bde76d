//! Calls of the engine that concern a running command, made beside the monitor so that it never waits for them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::base::error::Ignore;
use crate::base::threads;
use crate::run::signals;
use crate::run::terminal::FAREWELL;
use crate::runtime::{Channel, Error, Runtime, Whom};
use crate::sys::signal::Signal;

/// What is said to the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// A signal that this process has received, or that the command would have met by itself.
    Passed(Signal),
    /// That its terminal is gone.
    Farewell,
    /// To end.
    Stop,
}

/// Which signal asks the command to end, and how long it then has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop {
    /// The one that was chosen, if one was.
    pub(crate) chosen: Option<Signal>,
    /// Between it and the kill.
    pub(crate) grace: Duration,
}

/// What is to be done, one after the other.
pub(crate) enum Command {
    /// Say something.
    Say(Word),
    /// Stop everything in the place, or let it go on.
    Freeze(bool),
}

/// What was done.
pub(crate) enum Done {
    /// A signal was passed on, or could not be.
    Signalled(Signal, Result<(), Error>),
    /// The place is stopped or goes on, as far as the engine can.
    Frozen(bool),
    /// The command was killed, or could not be.
    Killed(Result<(), Error>),
}

/// The thread that makes the calls.
pub(crate) struct Commander {
    commands: Sender<Command>,
    channel: Arc<dyn Channel>,
    runtime: Arc<dyn Runtime>,
    name: String,
    tell: Sender<Done>,
}

impl Commander {
    /// Starts the thread; what it has done arrives at the receiver.
    pub(crate) fn start(
        channel: Arc<dyn Channel>,
        runtime: Arc<dyn Runtime>,
        container: String,
        stop: Stop,
    ) -> io::Result<(Self, Receiver<Done>)> {
        let (commands, queue) = unbounded();
        let (tell, done) = unbounded();
        let (caller, limits, teller) = (Arc::clone(&channel), runtime.limits(), tell.clone());
        let (asked, name) = (Arc::clone(&runtime), container.clone());
        threads::start("command", 256, move || {
            for command in queue {
                let done = match command {
                    Command::Say(word) => {
                        let (signal, whom) = match word {
                            Word::Passed(signal) => (signal, Whom::of(signal)),
                            Word::Farewell => (FAREWELL, Whom::Command),
                            Word::Stop => (signals::of_the_end(stop.chosen, &*asked, &name, stop.grace), Whom::Command),
                        };
                        Done::Signalled(signal, caller.signal(signal, whom, limits.change()))
                    }
                    Command::Freeze(frozen) => {
                        // What cannot be frozen goes on running; fosse stops all the same.
                        caller.freeze(frozen, limits.query()).ignore();
                        Done::Frozen(frozen)
                    }
                };
                teller.send(done).ignore();
            }
        })?;
        Ok((Commander { commands, channel, runtime, name: container, tell }, done))
    }

    /// Queues a command.
    pub(crate) fn send(&self, command: Command) {
        self.commands.send(command).ignore();
    }

    /// Kills the command with every descendant, at once: not behind a call that hangs. If the engine cannot kill
    /// it, it is asked to remove the container.
    pub(crate) fn kill(&self) {
        let (channel, runtime, tell) = (Arc::clone(&self.channel), Arc::clone(&self.runtime), self.tell.clone());
        let name = self.name.clone();
        let body = move || {
            let limits = runtime.limits();
            let killed = channel
                .signal(Signal::KILL, Whom::Command, limits.change())
                .or_else(|_| runtime.remove_containers(&[name], limits.change()));
            tell.send(Done::Killed(killed)).ignore();
        };
        if let Err(source) = threads::start("kill", 256, body) {
            let error = crate::process::Error::Start { call: "kill".into(), source };
            self.tell.send(Done::Killed(Err(Error::Call(error)))).ignore();
        }
    }
}
