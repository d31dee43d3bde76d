//! `fosse exec`: one more command in a live run.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};

use super::args::Exec as Args;
use super::config;
use super::engines::engines;
use super::report::{Error, Result};
use super::resolve::{environment, mistake, user};
use super::session;
use super::stop::find;
use crate::base::env;
use crate::base::error::Failure;
use crate::base::id::random_hex;
use crate::base::log;
use crate::base::time::Deadline;
use crate::process::code_of_signal;
use crate::run::exec::{Session, follow};
use crate::run::store::{Entry, Store, View};
use crate::run::{control, owner, signals};
use crate::runtime::{self, Channel, EXEC_MARK, Exec, HOME, Input, Runtime, User, pid1, refusal};
use crate::sys::signal::Signal;
use crate::wire::channel::Start;
use crate::wire::record::{Io, Record, State};

/// What is passed on to the command.
const SIGNALS: [Signal; 6] = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];

pub fn exec(args: &Args) -> Result {
    check(args)?;
    let store = super::store()?;
    // From here on a signal is a message.
    let input = session::input(args.interactive);
    let screen = session::screen(input)?;
    let signals = signals::receive(&session::signals(&SIGNALS, input))?;
    let record = live(&store, &args.run)?;
    let config = config::trusted(&store.paths)?;
    let caller = session::caller(screen, args.escape.as_deref().or(config.escape.as_deref()))?;
    let engines = engines(&store, &config, true);
    let runtime = engines.of(&record)?;
    let exec = resolve(args, &store, &record, &*runtime)?;
    runtime.check_exec(&exec).map_err(mistake)?;
    if let Ok(signal) = signals.try_recv() {
        return Ok(code_of_signal(signal));
    }
    let timeout = args.timeout.filter(|timeout| !timeout.is_zero()).map(Deadline::after);
    let channel = match start(&store, &record, &*runtime, &exec, &Patience { signals: &signals, timeout })? {
        Begun::Started(channel) => channel,
        Begun::GivenUp(code) => return Ok(code),
    };
    let session = Session {
        channel,
        command: exec.command[0].to_string_lossy().into_owned(),
        input: exec.input,
        grace: Duration::from_millis(record.grace_ms),
        timeout,
        limits: runtime.limits(),
        caller,
    };
    let outcome = follow(session, &signals)?;
    for failure in &outcome.failures {
        log::error(failure);
    }
    Ok(outcome.code)
}

/// Starts the command: through the run's own init, to which its owner introduces this process; or through the
/// engine, where that carries the run, for another user, and past an owner that does not answer.
fn start(store: &Store, record: &Record, runtime: &dyn Runtime, exec: &Exec, patience: &Patience) -> Result<Begun> {
    let failed = |error: &dyn std::fmt::Display| Failure::new("starting the command", error);
    if record.io == Io::Init && exec.user.is_none() {
        let owner = owner::read_owner(&store.run(&record.id));
        let introduced = owner.map(|owner| control::introduce(Path::new(&owner.socket), store.uid));
        if let Some(Ok(stream)) = introduced {
            let env: Vec<_> = exec.env.iter().filter(|(name, _)| name != EXEC_MARK).cloned().collect();
            let start = pid1::start_of(&exec.command, &env, exec.workdir.as_deref(), exec.input);
            return patience.start_another(stream, start, runtime.limits().change);
        }
    }
    let channel = runtime.exec(exec).map_err(|error| match &error {
        runtime::Error::Forbidden { hint, .. } => failed(&error).hint(hint.clone()),
        runtime::Error::Refused { complaint, .. } => failed(&error).hint(refusal::advice(complaint)),
        _ => failed(&error).hint("fosse doctor tells whether the engine works"),
    })?;
    Ok(Begun::Started(Arc::from(channel)))
}

/// What became of a start.
enum Begun {
    Started(Arc<dyn Channel>),
    /// The caller wants it no more; this is the exit code.
    GivenUp(u8),
}

/// How long the caller waits for the start.
struct Patience<'a> {
    signals: &'a Receiver<Signal>,
    timeout: Option<Deadline>,
}

impl Patience<'_> {
    /// Init may be in no state to answer: somebody has paused the whole place. A thread waits for it, and what it
    /// waits for ends with this process: an init that comes to it later finds nobody there, and starts nothing.
    fn start_another(&self, stream: UnixStream, start: Start, limit: Duration) -> Result<Begun> {
        let failed = |error: std::io::Error| Failure::new("starting the command", error);
        let (tell, told) = bounded(1);
        let body = move || tell.send(pid1::start_another(stream, &start, limit)).unwrap_or_default();
        thread::Builder::new().name("start".into()).stack_size(256 << 10).spawn(body).map_err(failed)?;
        let late = self.timeout.unwrap_or_else(Deadline::never).channel();
        loop {
            select! {
                recv(told) -> through => {
                    let lost = || std::io::Error::other("its thread ended");
                    let through = through.unwrap_or_else(|_| Err(lost())).map_err(failed);
                    let hint = "is the run's container paused?";
                    return Ok(Begun::Started(Arc::new(through.map_err(|failure| failure.hint(hint))?)));
                }
                recv(self.signals) -> signal => match signal {
                    Ok(Signal::USR1 | Signal::USR2) => {}
                    Ok(signal) => {
                        return Ok(Begun::GivenUp(code_of_signal(signal)));
                    }
                    Err(_) => return Err(failed(std::io::Error::other("no signals can be received")).into()),
                },
                recv(late) -> _ => return Ok(Begun::GivenUp(124)),
            }
        }
    }
}

/// What can be known to be wrong before anything is looked up.
fn check(args: &Args) -> Result<()> {
    let wrong = |why: String| Err(Error::Usage(mistake(why)));
    if args.command.first().is_none_or(|word| word.is_empty()) {
        return wrong("the command is empty".into());
    }
    match &args.workdir {
        Some(dir) if !dir.starts_with('/') => wrong(format!("--workdir {dir:?} is not an absolute path")),
        Some(_) | None => Ok(()),
    }
}

/// The record of a run in which a command can be started.
fn live(store: &Store, text: &str) -> Result<Record> {
    let what = "starting a command in a run";
    let id = find(store, text, what)?;
    let view: View = match store.load(&id) {
        Some(Entry::Known(view)) => *view,
        Some(Entry::Unreadable { why, .. }) => {
            return Err(Failure::new(format!("reading the record of {id}"), why).into());
        }
        None => return Err(Failure::new(what, format!("run {id} was destroyed")).into()),
    };
    let orphan = view.is_orphan();
    let record = view.record;
    let title = format!("{} ({id})", record.name);
    let refuse = |why: &str, hint: String| Err(Failure::new(what, format!("{title} {why}")).hint(hint).into());
    if orphan {
        return refuse("has lost its owner", format!("fosse stop {id} finishes it"));
    }
    match record.state {
        State::Running | State::Stopping => {}
        State::Created | State::Starting => return refuse("is still starting", "try again in a moment".into()),
        State::Stopped | State::Failed => {
            let why = format!("has ended: its state is {}", record.state.as_str());
            return refuse(&why, "fosse list --running shows live runs; fosse run starts one".into());
        }
    }
    if !record.machine_id.is_empty() && record.machine_id != owner::machine_id() {
        return refuse("belongs to another machine", "ask there".into());
    }
    Ok(record)
}

fn resolve(args: &Args, store: &Store, record: &Record, runtime: &dyn Runtime) -> Result<Exec> {
    let mark = random_hex(16).map_err(|error| Failure::new("making a mark", error))?;
    let mut env = environment::assignments(&args.env).map_err(Error::Usage)?;
    env.retain(|(name, _)| name != EXEC_MARK);
    env.push((EXEC_MARK.into(), mark.clone().into()));
    if record.io == Io::Init {
        // The engine was told no variable of the run's: these at least are known here.
        let known = [("HOME", HOME), ("FOSSE_RUN_ID", record.id.as_str()), ("FOSSE_RUN_NAME", record.name.as_str())];
        let missing = known.into_iter().filter(|(name, _)| !env.iter().any(|(given, _)| given == name));
        env.extend(missing.map(|(name, value)| (name.into(), value.into())).collect::<Vec<_>>());
    }
    let input = session::input(args.interactive);
    if input == Input::Terminal && !env.iter().any(|(given, _)| given == "TERM") {
        // Whatever the run was told of its own: this is the terminal that the command works at.
        let terms = env::matching(|name| name == "TERM").into_iter();
        env.extend(terms.filter(|(name, value)| record.engine.is_none() || runtime::fits_a_line(name, value)));
    }
    let container = record.id.object_name();
    let user = match args.user.as_deref() {
        Some(text) => user_of(text, record, runtime, &container)?,
        None => None,
    };
    Ok(Exec {
        container,
        container_id: record.container_id.clone(),
        command: args.command.clone(),
        input,
        workdir: args.workdir.clone(),
        user,
        env,
        env_file: store.run(&record.id).exec_env_file(&mark),
        mark,
        has_init: store.run(&record.id).left().is_dir(),
    })
}

/// `--user`, as the engine takes it; nothing where that is the run's own user.
fn user_of(text: &str, record: &Record, runtime: &dyn Runtime, container: &str) -> Result<Option<String>> {
    let choice = user::parse(text).map_err(Error::Usage)?;
    let user = user::resolve(choice, runtime)?;
    // Without an image it means the run's own user.
    if user.describe() == record.user || (user == User::Image && record.image.is_none()) {
        return Ok(None);
    }
    match user {
        User::Image => {
            let failed = |error| Failure::new("asking for the image's user", error);
            let name = runtime.image_user(container, runtime.limits().query()).map_err(failed)?;
            // An image that names nobody means root.
            Ok(Some(if name.is_empty() { "0".into() } else { name }))
        }
        User::Ids { host_ids: true, .. } => {
            let why = "the engine maps users, and the run was not started as its caller";
            Err(mistake(format!("--user caller: {why}")).hint("start the run with --user caller").into())
        }
        User::Ids { .. } => Ok(Some(user.describe())),
    }
}
