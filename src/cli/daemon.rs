//! `fosse daemon`: starting, ending and asking the background process.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::{Daemon, DaemonAction, DaemonEnd, DaemonReap, DaemonStart, DaemonStatus};
use super::config::{self, Layer};
use super::engines::engines;
use super::output::Out;
use super::report::{Result, operand};
use crate::base::duration;
use crate::base::error::{self, Failure, Ignore};
use crate::base::log::{self, Level};
use crate::base::time::{Deadline, Timestamp};
use crate::daemon::client::{self, ANSWER_LIMIT, Error};
use crate::daemon::contend::{Goal, Outcome, contend, is_fresh};
use crate::daemon::keeper::{Ground, Settings, Start, keep};
use crate::daemon::sweep::{Job, sweep};
use crate::daemon::{Context, launch};
use crate::run::store::Store;
use crate::sys::fd;
use crate::sys::process::create_private_files;
use crate::wire::daemon::{Health, Holder, Phase, Reap, SCHEMA, Sweep, Verdict};
use crate::wire::record;

/// What `daemon status` exits with.
const NOT_RUNNING: u8 = 3;
const NOT_ANSWERING: u8 = 4;

/// What is usual (fosse-daemon(8)).
const IDLE: Duration = Duration::from_secs(300);
const REAP_EVERY: Duration = Duration::from_secs(600);
const KEEP_RUNS: u64 = 1000;
const KEEP_DAYS: u64 = 30;

/// How long a start looks for a daemon that serves before it leaves the rest to the contest for the lock.
const GLANCE: Duration = Duration::from_millis(200);

/// How long a sweep may take; every call in it has a limit of its own.
const SWEEP_LIMIT: Duration = Duration::from_secs(150);

pub(crate) fn daemon(args: &Daemon) -> Result {
    let quiet = match &args.action {
        DaemonAction::Start(DaemonStart { quiet, .. })
        | DaemonAction::Stop(DaemonEnd { quiet, .. })
        | DaemonAction::Restart(DaemonEnd { quiet, .. })
        | DaemonAction::Status(DaemonStatus { quiet, .. })
        | DaemonAction::Reap(DaemonReap { quiet, .. }) => *quiet,
    };
    if quiet {
        log::set_level(Level::Quiet);
    }
    match &args.action {
        DaemonAction::Start(args) if args.detached => Ok(detached(args)),
        DaemonAction::Start(args) if args.foreground => foreground(args),
        DaemonAction::Start(args) => start(&context(&super::store()?), args.force),
        DaemonAction::Stop(args) => stop(args),
        DaemonAction::Restart(args) => restart(args),
        DaemonAction::Status(args) => status(args),
        DaemonAction::Reap(args) => reap(args),
    }
}

/// The daemon of these runs.
pub(crate) fn context(store: &Store) -> Context {
    Context::new(store, settings_of)
}

/// The daemon's own keys, as the files set them.
fn settings_of(user_config: Option<&Path>) -> Value {
    let Ok(layer) = config::trusted_files(user_config) else { return Value::Null };
    let millis = |time: Option<Duration>| time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    json!({
        "daemon_idle_ms": millis(layer.daemon_idle), "daemon_reap_every_ms": millis(layer.daemon_reap_every),
        "keep_runs": layer.keep_runs, "keep_days": layer.keep_days, "query_timeout_ms": millis(layer.query_timeout),
        "change_timeout_ms": millis(layer.change_timeout), "docker": layer.docker, "podman": layer.podman,
        "container": layer.container,
    })
}

fn settings(store: &Store) -> error::Result<Settings> {
    let layer: Layer = config::trusted(&store.paths)?;
    let days = layer.keep_days.unwrap_or(KEEP_DAYS);
    Ok(Settings {
        idle: layer.daemon_idle.unwrap_or(IDLE),
        reap_every: layer.daemon_reap_every.unwrap_or(REAP_EVERY),
        keep_runs: layer.keep_runs.unwrap_or(KEEP_RUNS),
        keep_time: Duration::from_secs(days.saturating_mul(86_400)),
        engines: engines(store, &layer, true),
    })
}

fn start(context: &Context, force: bool) -> Result {
    if let (_, Ok(health)) = context.look(Deadline::after(GLANCE)) {
        let serves = health.state == Phase::Serving && is_fresh(context, &health);
        // What it says is no proof, and one that has lost its lock is about to end.
        if serves && context.is_held().unwrap_or(false) {
            log::info(&format!("the daemon serves already (pid {})", health.pid));
            return Ok(0);
        }
    }
    let verdict = launch::start(context, force)?;
    let before = matches!(verdict, Verdict::Running { .. });
    let pid = launch::judged(verdict)?;
    log::info(&format!("the daemon {} (pid {pid})", if before { "serves already" } else { "serves" }));
    Ok(0)
}

fn foreground(args: &DaemonStart) -> Result {
    create_private_files();
    let store = super::store()?;
    match keep(&context(&store), &|| settings(&store), Ground::Fore, args.force, |_| ())? {
        Start::Over => {}
        Start::Running(health) => {
            let hint = "fosse daemon stop ends it";
            log::info(&format!("the daemon serves already (pid {}); {hint}", health.pid));
        }
    }
    Ok(0)
}

/// The daemon itself, started by a client that waits for one line on this process's stdout.
fn detached(args: &DaemonStart) -> u8 {
    // Nothing of the caller's: a lock of a script must not be held for as long as a daemon lives.
    fd::close_inherited();
    create_private_files();
    let begun = super::store().and_then(|store| {
        keep(&context(&store), &|| settings(&store), Ground::Back, args.force, |pid| say(&Verdict::Ready { pid }))
    });
    match begun {
        Ok(Start::Over) => 0,
        Ok(Start::Running(health)) => {
            say(&Verdict::Running { pid: health.pid });
            0
        }
        Err(failure) => {
            let hint = failure.advice().map(str::to_owned);
            say(&Verdict::Failed { why: failure.to_string(), hint });
            1
        }
    }
}

/// Reports, once: then nobody waits any more.
fn say(verdict: &Verdict) {
    let line = serde_json::to_vec(verdict).unwrap_or_default();
    std::io::stdout().write_all(&line).and_then(|()| std::io::stdout().flush()).ignore();
    if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        fd::redirect_stdout(&null).ignore();
    }
}

/// Whether there is something to end.
fn is_held(context: &Context) -> Result<bool> {
    let hint = "daemon….lock in the state directory must be a file that you can read";
    Ok(context.is_held().map_err(|error| Failure::new("looking for the daemon", error).hint(hint))?)
}

fn stop(args: &DaemonEnd) -> Result {
    let store = super::store()?;
    let context = context(&store);
    if !is_held(&context)? {
        log::info("the daemon is not running");
        return Ok(0);
    }
    end(&context, false, args.force)?;
    log::info("the daemon has ended");
    Ok(0)
}

/// Ends the daemon that is there now; having its lock for a moment is the proof.
fn end(context: &Context, replace: bool, force: bool) -> Result<()> {
    match contend(context, &Goal::End { replace }, force)? {
        // This process is no daemon, and its lock's file must not say so.
        Outcome::Won(held) => held.clear(),
        Outcome::Followed | Outcome::Running(_) => {}
    }
    Ok(())
}

fn restart(args: &DaemonEnd) -> Result {
    let store = super::store()?;
    let context = context(&store);
    // Before anything is ended: what could not be started again.
    launch::executable()?;
    if is_held(&context)? {
        end(&context, true, args.force)?;
    }
    start(&context, args.force)
}

/// What can be known of the daemon.
pub(crate) enum Sight {
    /// Nobody holds the lock.
    Stopped,
    /// It answers.
    Serving(Box<Health>),
    /// Somebody holds the lock and does not answer.
    Silent(Option<Holder>, String),
}

impl Sight {
    /// Looks, within a deadline. Nothing is changed.
    pub(crate) fn of(context: &Context, deadline: Deadline) -> Sight {
        let (holder, health) = context.look(deadline);
        match (context.is_held(), health) {
            // Whatever listens there.
            (Ok(false), _) => Sight::Stopped,
            (_, Ok(health)) => Sight::Serving(Box::new(health)),
            (Ok(true), Err(why)) => Sight::Silent(holder, why.to_string()),
            (Err(error), Err(_)) => Sight::Silent(None, error.to_string()),
        }
    }

    /// For machines.
    pub(crate) fn json(&self) -> Value {
        match self {
            Sight::Stopped => json!({"schema": SCHEMA, "state": "stopped", "pid": null}),
            Sight::Silent(holder, why) => {
                let pid = holder.as_ref().map(|holder| holder.pid);
                json!({"schema": SCHEMA, "state": "silent", "pid": pid, "detail": why})
            }
            Sight::Serving(health) => serde_json::to_value(health).unwrap_or(Value::Null),
        }
    }

    /// On one line.
    pub(crate) fn words(&self) -> String {
        match self {
            Sight::Stopped => "not running".into(),
            Sight::Silent(Some(holder), why) => format!("not answering (pid {}): {why}", holder.pid),
            Sight::Silent(None, why) => format!("not answering: {why}"),
            Sight::Serving(health) => {
                let state = serde_json::to_value(health.state).ok();
                let state = state.as_ref().and_then(Value::as_str).unwrap_or("serving");
                let age = duration::short(health.started_at.age(Timestamp::now()));
                format!("{state} (pid {}, version {}, for {age})", health.pid, health.fingerprint.version)
            }
        }
    }
}

fn status(args: &DaemonStatus) -> Result {
    let store = super::store()?;
    let context = context(&store);
    // A start or an end takes a moment: who is asked in between is asked again.
    let late = Deadline::after(ANSWER_LIMIT);
    let sight = loop {
        match Sight::of(&context, late) {
            Sight::Silent(..) if !late.expired() => Deadline::after(Duration::from_millis(20)).wait(),
            sight => break sight,
        }
    };
    let mut out = Out::stdout();
    if let (true, Sight::Serving(health)) = (args.json, &sight) {
        out.json_pretty(health)?;
    } else if args.json {
        out.json_pretty(&sight.json())?;
    } else if !args.quiet {
        out.line(&format!("daemon   {}", sight.words()))?;
        if let Sight::Serving(health) = &sight {
            out.line(&format!("socket   {}", health.socket))?;
            out.line(&format!("log      {}", health.log.as_deref().unwrap_or("stderr")))?;
            let (live, finished, waiting) = (health.runs_live, health.finished, health.waiting);
            out.line(&format!("runs     {live} live, {finished} finished for dead owners, {waiting} still to be"))?;
            if let Some(why) = &health.waiting_for {
                out.line(&format!("waits    {why}"))?;
            }
            if let Some(sweep) = &health.last_sweep {
                let age = sweep.at.map(|at| duration::short(at.age(Timestamp::now()))).unwrap_or_default();
                let (objects, problems) = (sweep.objects.len(), sweep.problems.len());
                out.line(&format!("sweep    {age} ago, {objects} objects removed, {problems} problems"))?;
            }
        }
    }
    out.finish()?;
    if let Sight::Silent(_, why) = &sight {
        log::error(&Failure::new("asking the daemon", why).hint("fosse daemon restart replaces it"));
    }
    Ok(match sight {
        Sight::Serving(_) => 0,
        Sight::Stopped => NOT_RUNNING,
        Sight::Silent(..) => NOT_ANSWERING,
    })
}

fn reap(args: &DaemonReap) -> Result {
    let store = super::store()?;
    let context = context(&store);
    let (_, health) = context.look(Deadline::after(ANSWER_LIMIT));
    let asked = health.and_then(|health| {
        let reap = Reap { dry_run: args.dry_run };
        client::post::<Sweep>(Path::new(&health.socket), store.uid, "/v1/reap", &reap, Deadline::after(SWEEP_LIMIT))
    });
    let swept = match asked {
        Ok(swept) => swept,
        Err(Error::Refused(why)) => return Err(Failure::new("sweeping", why).into()),
        // Without a daemon it is done here.
        Err(Error::Nobody(_) | Error::Silent | Error::Foreign(_)) => {
            sweep(&store, &settings(&store)?.engines, Job { dry_run: args.dry_run, keep: None })
        }
    };
    let mut out = Out::stdout();
    for object in swept.objects.iter().filter(|_| !args.quiet) {
        if args.json {
            out.json(&json!({"schema": record::SCHEMA, "action": "remove", "kind": object.kind, "id": object.id,
                "runtime": object.runtime, "run": object.run, "dry_run": args.dry_run}))?;
        } else {
            let done = if args.dry_run { "would remove" } else { "removed" };
            out.line(&format!("{done} {} ({})", object.kind, object.id))?;
        }
    }
    out.finish()?;
    let mut code = 0;
    for problem in &swept.problems {
        operand(&Failure::new("sweeping", problem).hint("when the engine answers again, sweep once more"), &mut code);
    }
    Ok(code)
}
