//! `fosse run`: from the options to the exit code of the command.

use std::io::IsTerminal;
use std::sync::Arc;

use crossbeam_channel::Receiver;
use serde::Serialize;
use serde_json::Value;

use super::args::Run;
use super::output::{Out, shell_quoted};
use super::report::{Error, Result};
use super::resolve::{Resolved, mistake, resolve};
use super::session;
use crate::base::error::Failure;
use crate::base::id::{RunId, RunName};
use crate::base::log::{self, Level};
use crate::base::time::Timestamp;
use crate::daemon::lease;
use crate::run::engines::note_use;
use crate::run::monitor::{Launch, Monitor};
use crate::run::owner::{self, Owned};
use crate::run::store::Store;
use crate::run::terminal::Caller;
use crate::runtime::{Kind, Plan as Planned, Runtime};
use crate::sys::signal::Signal;
use crate::wire::record::{self, Engine, Io, Record, State};

pub(crate) fn run(args: Run) -> Result {
    let terminal = std::io::stderr().is_terminal();
    log::set_level(if args.quiet {
        Level::Quiet
    } else if args.verbose || terminal {
        Level::Verbose
    } else {
        Level::Normal
    });
    check_modes(&args)?;
    let store = super::store()?;
    let id = RunId::random().map_err(|error| Failure::new("making an id", error))?;
    let name = args.name.clone().unwrap_or_else(|| RunName::generated(&id));
    if args.dry_run {
        let instance = store.instance().unwrap_or_else(|| "new".into());
        return dry_run(&args, &resolve(&args, &store, &id, name.as_str(), &instance)?);
    }
    // From here on a signal is a message: nothing that has been made is left behind by one.
    let input = session::input(args.interactive);
    let screen = session::screen(input)?;
    let signals = session::signals(input, true)?;
    let instance = owner::prepare_places(&store)?;
    let resolved = resolve(&args, &store, &id, name.as_str(), &instance)?;
    let caller = session::caller(screen, resolved.escape.as_deref())?;
    let code = execute(&args, &store, &id, resolved, signals, caller)?;
    Ok(code)
}

fn check_modes(args: &Run) -> Result<()> {
    if let Some(path) = &args.id_file {
        if std::fs::symlink_metadata(path).is_ok() {
            return Err(Error::Usage(mistake(format!("--id-file {} exists already", path.display()))));
        }
    }
    Ok(())
}

fn execute(
    args: &Run,
    store: &Store,
    id: &RunId,
    resolved: Resolved,
    signals: Receiver<Signal>,
    caller: Option<Caller>,
) -> Result {
    if let Some(code) = session::given_up(&signals) {
        return Ok(code);
    }
    resolved.runtime.begin();
    note_use(&store.paths, resolved.runtime.kind());
    let describe = |name: &RunName| describe(args, id, name, &resolved);
    let (owned, slot) = Owned::create(store, id, args.name.as_ref(), describe)?;
    if resolved.daemon && resolved.runtime.kind() != Kind::Native {
        lease::hold(super::daemon::context(store), id.clone(), resolved.runtime.tool());
    }
    let launch = Launch {
        runtime: Arc::from(resolved.runtime),
        spec: Arc::new(resolved.spec),
        grace: resolved.grace,
        stop_signal: resolved.stop_signal,
        timeout: resolved.timeout,
        keep: args.keep,
        id_file: args.id_file.clone(),
        show_progress: !args.quiet && std::io::stderr().is_terminal(),
        caller,
    };
    let outcome = Monitor::new(launch, owned, slot, signals, store.uid)?.run();
    for failure in &outcome.failures {
        log::error(failure);
    }
    Ok(session::end(outcome.code, outcome.interrupted))
}

fn describe(args: &Run, id: &RunId, name: &RunName, resolved: &Resolved) -> Record {
    let spec = &resolved.spec;
    let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Record {
        schema: record::SCHEMA,
        id: id.clone(),
        name: name.clone(),
        state: State::Created,
        runtime: resolved.runtime.kind().as_str().to_owned(),
        engine: engine_of(&*resolved.runtime),
        // What is meant; as soon as the container is made it is what is so.
        io: if spec.own_init.is_some() { Io::Init } else { Io::Engine },
        image: Some(spec.image.clone()).filter(|image| !image.is_empty()),
        command: spec.command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        workspace: resolved.workspace.as_ref().map(|dir| dir.to_string_lossy().into_owned()),
        workdir: spec.workdir.clone(),
        user: spec.user.describe(),
        network: spec.network.as_str().to_owned(),
        interactive: spec.input.is_open(),
        labels: resolved.labels.clone(),
        env: resolved.env_names.clone(),
        created_at: Timestamp::now(),
        started_at: None,
        stopped_at: None,
        exit_code: None,
        signal: None,
        reason: None,
        error: None,
        container_id: None,
        network_id: None,
        keep: args.keep,
        timeout_ms: resolved.timeout.map(millis),
        read_only: Vec::new(),
        grace_ms: millis(resolved.grace),
        stop_signal: resolved.stop_signal.and_then(|signal| u8::try_from(signal.number()).ok()),
        log_max: spec.log_max,
        log_bytes: 0,
        log_truncated: false,
        machine_id: owner::machine_id(),
        boot_id: owner::boot_id(),
    }
}

/// Where its engine is, if it has one.
fn engine_of(runtime: &dyn Runtime) -> Option<Engine> {
    let engine = || Engine { tool: runtime.tool().to_owned(), endpoint: runtime.endpoint().to_owned() };
    (runtime.kind() != Kind::Native).then(engine)
}

/// A plan, for machines.
#[derive(Serialize)]
struct Plan {
    schema: u32,
    runtime: &'static str,
    engine: Option<Engine>,
    image: Option<String>,
    command: Vec<String>,
    workspace: Option<String>,
    user: String,
    network: &'static str,
    env: Vec<String>,
    /// The calls of an engine's tool.
    calls: Vec<Vec<String>>,
    /// The steps of the built-in sandbox.
    steps: Vec<Value>,
}

fn quoted(words: &[String]) -> String {
    words.iter().map(|word| shell_quoted(word)).collect::<Vec<_>>().join(" ")
}

fn dry_run(args: &Run, resolved: &Resolved) -> Result {
    let spec = &resolved.spec;
    let text = |word: &std::ffi::OsString| word.to_string_lossy().into_owned();
    let plan = resolved.runtime.plan(spec).map_err(|error| Failure::new("making the plan", error))?;
    let words = match &plan {
        Planned::Calls(calls) => {
            calls.iter().map(|cmd| std::iter::once(&cmd.program).chain(&cmd.args).map(text).collect()).collect()
        }
        #[cfg(target_os = "linux")]
        Planned::Steps(steps) => steps.iter().map(|step| step.words().iter().map(text).collect()).collect(),
    };
    let words: Vec<Vec<String>> = words;
    let mut out = Out::stdout();
    if args.json {
        out.json_pretty(&Plan {
            schema: record::SCHEMA,
            runtime: resolved.runtime.kind().as_str(),
            engine: engine_of(&*resolved.runtime),
            image: Some(spec.image.clone()).filter(|image| !image.is_empty()),
            command: spec.command.iter().map(text).collect(),
            workspace: resolved.workspace.as_ref().map(|dir| dir.to_string_lossy().into_owned()),
            user: spec.user.describe(),
            network: spec.network.as_str(),
            env: spec.env.iter().map(|(name, _)| text(name)).collect(),
            steps: match &plan {
                Planned::Calls(_) => Vec::new(),
                #[cfg(target_os = "linux")]
                Planned::Steps(steps) => steps.iter().filter_map(|step| serde_json::to_value(step).ok()).collect(),
            },
            calls: if matches!(plan, Planned::Calls(_)) { words } else { Vec::new() },
        })?;
    } else {
        for words in words {
            out.line(&quoted(&words))?;
        }
        if spec.own_init.is_some() {
            let command: Vec<String> = spec.command.iter().map(text).collect();
            let dir = spec.workdir.as_ref().map(|dir| format!(" in {}", shell_quoted(dir))).unwrap_or_default();
            out.line(&format!("# fosse's init in it then starts{dir}: {}", quoted(&command)))?;
        }
    }
    out.finish()?;
    Ok(0)
}
