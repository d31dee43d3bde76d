//! `fosse exec`: one more command in a live run.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
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
use crate::base::error::{Failure, Ignore};
use crate::base::fs::remove_file;
use crate::base::id::{RunId, random_hex};
use crate::base::log;
use crate::base::threads;
use crate::base::time::Deadline;
use crate::process::code_of_signal;
use crate::run::exec::{Session, follow};
use crate::run::store::{Entry, Store, View, is_owned};
use crate::run::{control, owner, signals};
use crate::runtime::{self, Channel, EXEC_MARK, Exec, HOME, Input, Runtime, User, pid1, refusal};
use crate::sys::signal::Signal;
use crate::wire::channel::Start;
use crate::wire::record::{Io, Record, State};

/// What fails if none can be started.
const WHAT: &str = "starting a command in a run";

/// Between two looks at a run that is just starting, at first and after a while: an image may have to be fetched.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const LOOK_SELDOM: Duration = Duration::from_millis(200);

pub(crate) fn exec(args: &Args) -> Result {
    check(args)?;
    let store = super::store()?;
    // From here on a signal is a message.
    let input = session::input(args.interactive);
    let screen = session::screen(input)?;
    let signals = session::signals(input, false)?;
    let timeout = args.timeout.filter(|timeout| !timeout.is_zero()).map(Deadline::after);
    let patience = Patience { signals: &signals, timeout };
    let id = find(&store, &args.run, WHAT)?;
    let record = match patience.started(&store, &id)? {
        Place::Live(record) => *record,
        Place::GivenUp(code) => return Ok(code),
    };
    let config = config::trusted(&store.paths)?;
    let caller = session::caller(screen, args.escape.as_deref().or(config.escape.as_deref()))?;
    let engines = engines(&store, &config, true);
    let runtime = engines.of(&record)?;
    let exec = resolve(args, &store, &record, &*runtime)?;
    runtime.check_exec(&exec).map_err(mistake)?;
    if let Some(code) = session::given_up(&signals) {
        return Ok(code);
    }
    let channel = match start(&store, &record, &*runtime, &exec, &patience)? {
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
    Ok(session::end(outcome.code, outcome.interrupted))
}

/// Starts the command: through the run's own init, to which its owner introduces this process; or through the
/// engine, where that carries the run, for another user, and past an owner that does not answer.
fn start(store: &Store, record: &Record, runtime: &dyn Runtime, exec: &Exec, patience: &Patience) -> Result<Begun> {
    let failed = |error: &dyn std::fmt::Display| Failure::new("starting the command", error);
    if record.io == Io::Init && exec.user.is_none() {
        if let Some(stream) = patience.introduced(store, &record.id) {
            let env: Vec<_> = exec.env.iter().filter(|(name, _)| name != EXEC_MARK).cloned().collect();
            let start = pid1::start_of(&exec.command, &env, exec.workdir.as_deref(), exec.input);
            return patience.start_another(stream, start, runtime.limits().change);
        }
        if let Some(code) = patience.is_over() {
            return Ok(Begun::GivenUp(code));
        }
    }
    // Where the run's own init has entered its directory, the engine was not told of that.
    let of_run = || record.workdir.clone().filter(|_| record.io == Io::Init);
    let exec = &Exec { workdir: exec.workdir.clone().or_else(of_run), ..exec.clone() };
    let channel = runtime.exec(exec).map_err(|error| match &error {
        runtime::Error::Forbidden { hint, .. } => failed(&error).hint(hint.clone()),
        runtime::Error::Refused { complaint, .. } => failed(&error).hint(refusal::advice(complaint)),
        _ => failed(&error).hint("fosse doctor tells whether the engine works"),
    })?;
    if !matches!(store.load(&record.id), Some(Entry::Known(view)) if !view.record.state.is_final()) {
        // It is over, and whoever ended it has looked by now for what may not stay.
        remove_file(&exec.env_file).ignore();
    }
    Ok(Begun::Started(Arc::from(channel)))
}

/// What became of waiting for a place to start in.
enum Place {
    /// The record of a run whose command runs.
    Live(Box<Record>),
    /// The caller wants it no more; this is the exit code.
    GivenUp(u8),
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
    /// Waits until the command of a run runs: who has its id, and be it from its id file, may know it before that.
    fn started(&self, store: &Store, id: &RunId) -> Result<Place> {
        let mut pause = LOOK_AGAIN;
        loop {
            if let Some(record) = live(store, id)? {
                return Ok(Place::Live(Box::new(record)));
            }
            let late = self.timeout.unwrap_or_else(Deadline::never);
            let again = Deadline::after(pause).min(late).channel();
            select! {
                recv(again) -> _ => {
                    if late.expired() {
                        return Ok(Place::GivenUp(124));
                    }
                    pause = (pause * 2).min(LOOK_SELDOM);
                }
                recv(self.signals) -> signal => match signal {
                    Ok(signal) if signals::asks_to_end(signal) => {
                        return Ok(Place::GivenUp(code_of_signal(signal)));
                    }
                    Ok(_) => {}
                    Err(error) => return Err(Failure::new(WHAT, error).into()),
                },
            }
        }
    }

    /// The exit code, if the caller wants it no more by now.
    fn is_over(&self) -> Option<u8> {
        let late = self.timeout.is_some_and(|timeout| timeout.expired());
        session::given_up(self.signals).or(late.then_some(124))
    }

    /// Is introduced to the init of a run by its owner. One whose socket was taken away opens another.
    fn introduced(&self, store: &Store, id: &RunId) -> Option<UnixStream> {
        let paths = store.run(id);
        let late = Deadline::after(control::MOVE_LIMIT).min(self.timeout.unwrap_or_else(Deadline::never));
        loop {
            let socket = owner::read_owner(&paths).map(|owner| owner.socket).unwrap_or_default();
            match control::introduce(Path::new(&socket), store.uid) {
                Ok(stream) => return Some(stream),
                // Whoever follows sees what has become of the run, and the signals that have come.
                Err(error) if !control::is_unreachable(&error) || late.expired() || !self.signals.is_empty() => {
                    return None;
                }
                Err(_) if !is_owned(&paths).unwrap_or(true) => return None,
                Err(_) => Deadline::after(LOOK_AGAIN).min(late).wait(),
            }
        }
    }

    /// Init may be in no state to answer: somebody has paused the whole place. A thread waits for it, and what it
    /// waits for ends with this process: an init that comes to it later finds nobody there, and starts nothing.
    fn start_another(&self, stream: UnixStream, start: Start, limit: Duration) -> Result<Begun> {
        let failed = |error: std::io::Error| Failure::new("starting the command", error);
        let (tell, told) = bounded(1);
        let body = move || tell.send(pid1::start_another(stream, &start, limit)).ignore();
        threads::start("start", 256, body).map_err(failed)?;
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
                    Ok(signal) if signals::asks_to_end(signal) => {
                        return Ok(Begun::GivenUp(code_of_signal(signal)));
                    }
                    Ok(_) => {}
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

/// The record of a run in which a command can be started; none while it is still starting.
fn live(store: &Store, id: &RunId) -> Result<Option<Record>> {
    let view: View = match store.load(id) {
        Some(Entry::Known(view)) => *view,
        Some(Entry::Unreadable { why, .. }) => {
            return Err(Failure::new(format!("reading the record of {id}"), why).into());
        }
        None => return Err(Failure::new(WHAT, format!("run {id} was destroyed")).into()),
    };
    let orphan = view.is_orphan();
    let record = view.record;
    let title = format!("{} ({id})", record.name);
    let refuse = |why: &str, hint: String| Err(Failure::new(WHAT, format!("{title} {why}")).hint(hint).into());
    if orphan {
        return refuse("has lost its owner", format!("fosse stop {id} finishes it"));
    }
    if !record.machine_id.is_empty() && record.machine_id != owner::machine_id() {
        return refuse("belongs to another machine", "ask there".into());
    }
    match record.state {
        State::Running | State::Stopping => {}
        State::Created | State::Starting => return Ok(None),
        State::Stopped | State::Failed => {
            let why = format!("has ended: its state is {}", record.state.as_str());
            return refuse(&why, "fosse list --running shows live runs; fosse run starts one".into());
        }
    }
    Ok(Some(record))
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
