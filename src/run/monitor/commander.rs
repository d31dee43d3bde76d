//! Calls of the engine that concern a running command, made beside the monitor so that it never waits for them.

use std::io;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::runtime::{Channel, Error, Runtime};
use crate::sys::signal::Signal;

/// What is to be done, one after the other.
pub enum Command {
    /// Pass a signal on.
    Signal(Signal),
    /// Stop everything in the place, or let it go on.
    Freeze(bool),
}

/// What was done.
pub enum Done {
    /// A signal was passed on, or could not be.
    Signalled(Signal, Result<(), Error>),
    /// The place is stopped or goes on, as far as the engine can.
    Frozen(bool),
    /// The command was killed, or could not be.
    Killed(Result<(), Error>),
}

/// The thread that makes the calls.
pub struct Commander {
    commands: Sender<Command>,
    channel: Arc<dyn Channel>,
    runtime: Arc<dyn Runtime>,
    name: String,
    tell: Sender<Done>,
}

impl Commander {
    /// Starts the thread; what it has done arrives at the receiver.
    pub fn start(
        channel: Arc<dyn Channel>,
        runtime: Arc<dyn Runtime>,
        container: String,
    ) -> io::Result<(Self, Receiver<Done>)> {
        let (commands, queue) = unbounded();
        let (tell, done) = unbounded();
        let (caller, limits, teller) = (Arc::clone(&channel), runtime.limits(), tell.clone());
        thread::Builder::new().name("command".into()).stack_size(256 << 10).spawn(move || {
            for command in queue {
                let done = match command {
                    Command::Signal(signal) => Done::Signalled(signal, caller.signal(signal, limits.change())),
                    Command::Freeze(frozen) => {
                        // What cannot be frozen goes on running; fosse stops all the same.
                        caller.freeze(frozen, limits.query()).unwrap_or_default();
                        Done::Frozen(frozen)
                    }
                };
                teller.send(done).unwrap_or_default();
            }
        })?;
        Ok((Commander { commands, channel, runtime, name: container, tell }, done))
    }

    /// Queues a command.
    pub fn send(&self, command: Command) {
        self.commands.send(command).unwrap_or_default();
    }

    /// Kills the command with every descendant, at once: not behind a call that hangs. If the engine cannot kill
    /// it, it is asked to remove the container.
    pub fn kill(&self) {
        let (channel, runtime, tell) = (Arc::clone(&self.channel), Arc::clone(&self.runtime), self.tell.clone());
        let name = self.name.clone();
        let body = move || {
            let limits = runtime.limits();
            let killed = channel
                .signal(Signal::KILL, limits.change())
                .or_else(|_| runtime.remove_containers(&[name], limits.change()));
            tell.send(Done::Killed(killed)).unwrap_or_default();
        };
        if let Err(source) = thread::Builder::new().name("kill".into()).stack_size(256 << 10).spawn(body) {
            let error = crate::process::Error::Start { call: "kill".into(), source };
            self.tell.send(Done::Killed(Err(Error::Call(error)))).unwrap_or_default();
        }
    }
}
