//! The second path of one more command in a live run: an engine's own `exec`, whichever engine it is.
//!
//! Its client carries bytes and the exit code. It passes no signals on, so they take a way of their own: from the
//! host where its processes can be seen (`inside`), else through a shell of the image by one more exec. A client
//! that is ended does not end its command either; what is left then ends with the run.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select, unbounded};

use super::carry::Environment;
use super::client;
use super::inside::{self, Attempt, Reach, Target};
use super::tail::Tail;
use crate::base::error::Ignore;
use crate::base::fs;
use crate::base::threads;
use crate::base::time::Deadline;
use crate::process::{self, Child, Cmd, Exit, Output, no_cancel};
use crate::runtime::{Channel, End, Error, Exec, Fact, Input, Outlet, Refusal, Result, Streams, Whom};
use crate::sys::signal::Signal;
use crate::wire::record;

/// Between two tries to signal a command that is just starting.
const SIGNAL_AGAIN: Duration = Duration::from_millis(50);

/// How long it is tried to kill what cannot be seen to be gone, before the client is ended all the same.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// How long a client may go on once its command was killed: the last bytes and the code are on their way. Docker
/// itself waits 2 s for streams that somebody holds.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How long it is tried to end what a command left behind.
const SWEEP_LIMIT: Duration = Duration::from_secs(1);

/// An engine that can execute one more command, through a client of its own.
pub(crate) trait Executor: Send + Sync {
    /// The client that starts a command and stays with it, and what the command's variables travel in.
    fn start(&self, exec: &Exec) -> (Cmd, Environment);

    /// A call that sends a signal from inside (see [`inside::script`]).
    fn signal_inside(&self, exec: &Exec, signal: &str, reach: Reach) -> Cmd;

    /// Whether the processes in its containers may be seen on this machine: no virtual machine lies between.
    fn may_be_seen(&self) -> bool;

    /// How long a change may take.
    fn patience(&self) -> Duration;

    /// What a call's failure means.
    fn failure(&self, cmd: &Cmd, output: &Output) -> Error;

    /// Whether a client that cannot do what it should says so last, where the command's words were.
    fn speaks_last(&self) -> bool {
        false
    }

    /// Whether a client's exit code says that the engine went away rather than how the command ended; with its last
    /// words, if it may have any.
    fn went_away(&self, exec: &Exec, code: u8, last: &[u8]) -> bool;

    /// What stops a command so that another signal lets it go on.
    fn stop_signal(&self, _exec: &Exec) -> Signal {
        Signal::STOP
    }

    /// Whether a stream that begins like this may carry the client's own words.
    fn may_be_foreign(&self, start: &[u8]) -> bool;

    /// What the client said in the place of a command that was not started.
    fn refusal(&self, exec: &Exec, code: u8, said: [&[u8]; 2]) -> Option<Refusal>;
}

/// One more command behind the engine's client.
pub(crate) struct Executed {
    engine: Arc<dyn Executor>,
    exec: Exec,
    mark: String,
    outlet: Outlet,
    /// Asks to end the client.
    end: Sender<()>,
    /// Disconnected when the client has ended.
    over: Receiver<Infallible>,
}

impl Executed {
    /// Starts the client.
    pub(crate) fn start(engine: Arc<dyn Executor>, exec: &Exec) -> Result<Box<dyn Channel>> {
        let (mut cmd, carried) = engine.start(exec);
        cmd.env.extend(carried.by_process);
        let call = cmd.title();
        let file = (!carried.file.is_empty()).then(|| exec.env_file.clone());
        if let Some(path) = &file {
            fs::create_private(path, &carried.file).map_err(|error| Error::Garbled {
                call: call.clone(),
                why: format!("its environment cannot be written to {}: {error}", path.display()),
            })?;
        }
        let (started, streams) = bounded(1);
        let (tell, facts) = unbounded();
        let (end, asked) = bounded(1);
        let (ended, over) = bounded(0);
        let mark = format!("{}={}", crate::runtime::EXEC_MARK, exec.mark);
        let watch = Watch { engine: Arc::clone(&engine), exec: exec.clone(), mark: mark.clone(), file, tell, asked };
        let input = exec.input;
        // The client lives and dies with the thread that starts it.
        let thread = threads::start("exec", 256, move || {
            watch.run(&cmd, input, &started);
            drop(ended);
        });
        if let Err(source) = thread {
            fs::remove_file(&exec.env_file).ignore();
            return Err(Error::Call(process::Error::Start { call, source }));
        }
        let streams = streams.recv().map_err(|_| Error::Garbled { call, why: "its thread ended".into() })??;
        Ok(Box::new(Executed { engine, exec: exec.clone(), mark, outlet: Outlet::new(streams, facts), end, over }))
    }

    /// Waits a moment; whether the client has ended.
    fn is_over_after(&self, moment: Duration) -> bool {
        let again = Deadline::after(moment).channel();
        select! {
            recv(self.over) -> _ => true,
            recv(again) -> _ => false,
        }
    }

    /// Sends a signal from inside, where the image has a shell.
    fn signal_inside(&self, signal: Signal, reach: Reach, deadline: Deadline) -> Result<Attempt> {
        let cmd = self.engine.signal_inside(&self.exec, &signal.name(), reach);
        let output = process::call(&cmd, deadline, &no_cancel())?;
        match output.exit {
            Exit::Code(0) => Ok(Attempt::Sent),
            Exit::Code(3) => Ok(Attempt::NoneThere),
            _ => Err(self.engine.failure(&cmd, &output)),
        }
    }

    fn signal_from_here(&self, signal: Signal, whom: Whom) -> Attempt {
        if !self.engine.may_be_seen() {
            return Attempt::Blind;
        }
        inside::signal(target(&self.exec, &self.mark), signal, whom)
    }

    fn kill_from_here(&self, limit: Deadline) -> Attempt {
        if !self.engine.may_be_seen() {
            return Attempt::Blind;
        }
        inside::kill(target(&self.exec, &self.mark), limit)
    }

    fn kill(&self, deadline: Deadline) -> Result<()> {
        let limit = Deadline::after(KILL_LIMIT).min(deadline);
        let mut killed = false;
        loop {
            let attempt = match self.kill_from_here(limit) {
                Attempt::Blind => self.signal_inside(Signal::KILL, Reach::All, limit)?,
                known => known,
            };
            killed |= attempt == Attempt::Sent;
            if attempt == Attempt::NoneThere && killed {
                return Ok(());
            }
            // Seen from the host, nothing is left; from inside, that is asked once more.
            if self.is_over_after(if killed { Duration::ZERO } else { SIGNAL_AGAIN }) {
                return Ok(());
            }
            if limit.expired() {
                return if killed { Ok(()) } else { Err(not_found(&self.exec)) };
            }
        }
    }
}

fn target<'a>(exec: &'a Exec, mark: &'a str) -> Target<'a> {
    Target { container_id: exec.container_id.as_deref(), mark: Some(mark) }
}

fn not_found(exec: &Exec) -> Error {
    let complaint = "its process cannot be found inside".to_owned();
    Error::Refused { call: format!("exec in {}", exec.container), complaint }
}

impl Channel for Executed {
    fn io(&self) -> record::Io {
        record::Io::Engine
    }

    fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    fn look(&self) {}

    fn signal(&self, signal: Signal, whom: Whom, deadline: Deadline) -> Result<()> {
        if signal == Signal::KILL {
            let killed = self.kill(deadline);
            // Now or never: a full channel holds the same request.
            self.end.try_send(()).ignore();
            return killed;
        }
        loop {
            let attempt = match self.signal_from_here(signal, whom) {
                Attempt::Blind => self.signal_inside(signal, Reach::Of(whom), deadline)?,
                known => known,
            };
            if attempt == Attempt::Sent || self.is_over_after(SIGNAL_AGAIN) {
                return Ok(());
            }
            if deadline.expired() {
                return Err(not_found(&self.exec));
            }
        }
    }

    fn freeze(&self, frozen: bool, deadline: Deadline) -> Result<()> {
        let stop = self.engine.stop_signal(&self.exec);
        self.signal(if frozen { stop } else { Signal::CONT }, Whom::Command, deadline)
    }

    fn may_be_foreign(&self, start: &[u8]) -> bool {
        self.engine.may_be_foreign(start)
    }

    fn refusal(&self, code: u8, said: [&[u8]; 2]) -> Option<Refusal> {
        self.engine.refusal(&self.exec, code, said)
    }
}

/// The thread that waits for the client.
struct Watch {
    engine: Arc<dyn Executor>,
    exec: Exec,
    mark: String,
    /// The file of variables, until the client has surely read it.
    file: Option<std::path::PathBuf>,
    tell: Sender<Fact>,
    asked: Receiver<()>,
}

impl Watch {
    fn run(mut self, cmd: &Cmd, input: Input, started: &Sender<Result<Streams>>) {
        let mut tail = Tail::default();
        let spawned = match self.engine.speaks_last() {
            true => client::spawn_heard(cmd, input, &mut tail),
            false => client::spawn(cmd, input).map_err(Error::from),
        };
        match spawned {
            Err(error) => {
                self.forget_file();
                started.send(Err(error)).ignore();
            }
            Ok((mut child, streams)) => {
                started.send(Ok(streams)).ignore();
                let exit = self.follow(&mut child);
                let last = tail.last_words();
                self.forget_file();
                // What the command left behind ends with it where it can be seen, else with the run.
                self.sweep(exit);
                let end =
                    exit.map_or_else(|| unknown("the engine's client was ended"), |exit| self.end_of(exit, &last));
                // The caller may no longer listen: it is ending, and needs no fact.
                self.tell.send(Fact::Ended(end)).ignore();
            }
        }
    }

    /// Ends what the command left behind: where that can be seen, always; else, which takes a call, where the client did
    /// not end by itself, so that the command may not have ended at all.
    fn sweep(&self, exit: Option<Exit>) {
        if self.engine.may_be_seen() {
            inside::kill(target(&self.exec, &self.mark), Deadline::after(SWEEP_LIMIT));
        } else if !matches!(exit, Some(Exit::Code(_))) {
            let cmd = self.engine.signal_inside(&self.exec, &Signal::KILL.name(), Reach::All);
            // Whatever it says: nothing more can be done.
            drop(process::call(&cmd, Deadline::after(KILL_LIMIT), &no_cancel()));
        }
    }

    /// Waits for the client's end; `None` if it had to be ended.
    fn follow(&mut self, client: &mut Child) -> Option<Exit> {
        let ended = client.ended();
        // A tool reads its arguments at once; that long it may take on the slowest machine.
        let mut read = Deadline::after(self.engine.patience()).channel();
        loop {
            select! {
                recv(ended) -> _ => return Some(client.reap()),
                recv(read) -> _ => {
                    self.forget_file();
                    read = never();
                }
                recv(self.asked) -> _ => break,
            }
        }
        let late = Deadline::after(LAST_WORDS).channel();
        select! {
            recv(ended) -> _ => Some(client.reap()),
            recv(late) -> _ => {
                client.terminate(Duration::from_millis(500));
                None
            }
        }
    }

    fn forget_file(&mut self) {
        if let Some(path) = self.file.take() {
            fs::remove_file(&path).ignore();
        }
    }

    /// What a client's exit says about the command's.
    fn end_of(&self, exit: Exit, last: &[u8]) -> End {
        match exit {
            Exit::Signal(_) => unknown("the engine's client was killed"),
            Exit::Code(code) if self.engine.went_away(&self.exec, code, last) => {
                unknown("its end and a failure of the engine look the same")
            }
            Exit::Code(code) => End { code: Some(code), signal: None, oom: false, lost: None, output_cut: false },
        }
    }
}

fn unknown(why: &str) -> End {
    End { code: None, signal: None, oom: false, lost: Some(why.to_owned()), output_cut: true }
}
