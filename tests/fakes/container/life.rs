//! The life of a container: `run`, `start`, `stop`, `kill`, `delete`, and what `list` and `inspect` show of it.

use std::path::Path;
use std::time::{Duration, Instant};

use fosse::sys::signal::Signal;
use serde_json::{Value, json};

use crate::attached::{self, Begun, Manner, Streams};
use crate::call::Call;
use crate::create;
use crate::json::{Form, render};
use crate::model::{Config, MountKind};
use crate::shapes;
use crate::signals;
use crate::store::Container;
use crate::supervisor;
use crate::texts::{
    Error, Fail, fail, internal, invalid_argument, invalid_state, log_line, no_container, not_found, swift_list,
};
use crate::version::Version;
use crate::wire;

type Done = Result<(), Error>;

/// A container that `start` and `exec` want.
pub fn get(call: &Call, id: &str) -> Result<Container, Error> {
    let found = call.store.container(id);
    found.ok_or_else(|| not_found(format!("get failed: container {id} not found")).into())
}

/// What can only be seen to be missing when a container starts.
fn check_start(call: &Call, config: &Config) -> Result<(), Fail> {
    for mount in &config.mounts {
        if mount.kind == MountKind::Virtiofs && !Path::new(&mount.source).exists() {
            return Err(not_found(format!("mount source path '{}' does not exist", mount.source)));
        }
    }
    for wanted in &config.networks {
        if call.store.network(&wanted.network).is_none() {
            return Err(not_found(format!("network {} not found", wanted.network)));
        }
    }
    let taken = fail("internalError", "bind(descriptor:ptr:bytes:): Address already in use (errno: 48)");
    let running = call.store.containers().into_iter().filter(|other| other.state.running);
    let others: Vec<_> = running.flat_map(|other| other.config.ports).collect();
    for port in &config.ports {
        let end = port.host.saturating_add(port.count - 1);
        let clashes = |other: &&crate::model::Port| {
            let last = other.host.saturating_add(other.count - 1);
            other.proto == port.proto && other.host <= end && port.host <= last
        };
        if others.iter().any(|other| clashes(&other)) {
            return Err(taken);
        }
        for number in port.host..=end {
            let address = (port.address.as_str(), number);
            let bound = match port.proto.as_str() {
                "udp" => std::net::UdpSocket::bind(address).map(drop),
                _ => std::net::TcpListener::bind(address).map(drop),
            };
            match bound {
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => return Err(taken),
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    let text = format!("Permission denied while binding to host port {number}");
                    return Err(fail("internalError", text));
                }
                Ok(()) | Err(_) => {}
            }
        }
    }
    Ok(())
}

/// Starts a container's process with the streams of a client, or with none.
fn bootstrap(call: &Call, config: &Config, streams: Option<&mut Streams>) -> Result<wire::Lines, Error> {
    check_start(call, config)?;
    if call.has_fault("start_shutting_down") {
        let cause = invalid_state("container expected to be in created state, got: shuttingDown");
        return Err(internal("failed to bootstrap container").caused_by(cause).into());
    }
    let lost = || {
        let cause = fail("interrupted", "XPC connection error: Connection interrupted");
        Error::from(internal("failed to bootstrap container").caused_by(cause))
    };
    let conn = supervisor::launch(&call.store, &config.id).map_err(|_| lost())?;
    let request = json!({"stdin": false, "freeze": call.has_fault("log_freeze")});
    let begun = match streams {
        Some(streams) => streams.begin(conn, request),
        None => wire::send(&conn, &request, &[]).map_err(|_| Begun::Lost).and_then(|()| attached::begun(conn)),
    };
    begun.map_err(|error| match error {
        Begun::Failed(fail) => fail.into(),
        Begun::Lost => lost(),
    })
}

pub fn start(call: &mut Call) -> Done {
    let id = call.parsed.arguments[0].clone();
    let interactive = call.parsed.has("interactive");
    let attach = call.parsed.has("attach") || interactive;
    let container = get(call, &id)?;
    if container.state.running {
        if attach {
            return Err(invalid_argument("attach is currently unsupported on already running containers").into());
        }
        call.line(&id);
        return Ok(());
    }
    let result =
        if attach { attach_to(call, &container.config, interactive) } else { detached(call, &container.config) };
    if result.is_err() && call.store.container(&id).is_some_and(|container| container.state.running) {
        // A start that has seen an error stops the container, whatever the error was.
        stop_one(call, &container.config, Signal::TERM.number(), 5);
    }
    result
}

fn detached(call: &mut Call, config: &Config) -> Done {
    drop(bootstrap(call, config, None)?);
    call.line(&config.id);
    Ok(())
}

fn attach_to(call: &mut Call, config: &Config, interactive: bool) -> Done {
    let mut streams = Streams::make(Manner { terminal: config.terminal, interactive })?;
    let lines = bootstrap(call, config, Some(&mut streams))?;
    if call.verb == "run" {
        create::write_cidfile(call, &config.id)?;
    }
    // The service has done its part.
    call.slot = None;
    crate::calls::running();
    let ways = attached::to_container(call, &config.id);
    call.code = attached::follow(call, &config.id, &config.id, streams, lines, ways)?;
    crate::faults::lose_exit(call)
}

pub fn run(call: &mut Call) -> Done {
    let config = create::config(call)?;
    call.progress(&[
        "[1/6] Fetching image [0s]",
        "[2/6] Unpacking image [0s]",
        "[3/6] Fetching kernel [0s]",
        "[4/6] Fetching init image [0s]",
        "[5/6] Unpacking init image [0s]",
        "[6/6] Starting container [0s]",
    ]);
    create::keep(call, &config)?;
    let result = if call.parsed.has("detach") {
        detached(call, &config).and_then(|()| create::write_cidfile(call, &config.id))
    } else {
        attach_to(call, &config, call.parsed.has("interactive"))
    };
    if result.is_err() {
        // Without force: a container that runs stays.
        let _guard = call.store.lock();
        if call.store.container(&config.id).is_some_and(|container| !container.state.running) {
            call.store.remove_container(&config.id);
        }
    }
    result
}

/// The ids that are meant: those that are named, or with `--all` those that a filter lets through.
fn meant(call: &Call, filter: impl Fn(&Container) -> bool) -> Result<Vec<String>, Error> {
    let named = call.parsed.arguments.clone();
    match (call.parsed.has("all"), named.is_empty()) {
        (false, true) => Err(invalid_argument("no containers specified and --all not supplied").into()),
        (true, false) => Err(invalid_argument("explicitly supplied container IDs conflict with the --all flag").into()),
        (false, false) => Ok(named),
        (true, true) => {
            let all = call.store.containers().into_iter().filter(filter);
            Ok(all.map(|container| container.config.id).collect())
        }
    }
}

/// Lines for what worked, errors for what did not.
fn each(call: &mut Call, ids: &[String], mut verb: impl FnMut(&mut Call, &str) -> Result<(), Fail>) -> Done {
    let mut failed = Vec::new();
    for id in ids {
        match verb(call, id) {
            Ok(()) => call.line(id),
            Err(fail) => failed.push(fail),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Error::Many(failed)) }
}

fn signal_option(call: &Call) -> Result<Option<i32>, Error> {
    let Some(text) = call.parsed.value("signal") else { return Ok(None) };
    let number = signals::number(text);
    number.map(Some).ok_or_else(|| invalid_argument(format!("invalid signal: {text}")).into())
}

/// Asks the supervisor for a stop and waits until it is done; nothing happens if nothing runs.
fn stop_one(call: &Call, config: &Config, signal: i32, seconds: u64) {
    let question = json!({"op": "stop", "signal": signal, "time": seconds});
    wire::ask(&call.store.dir(&config.id), &question).map(drop).unwrap_or_default();
}

pub fn stop(call: &mut Call) -> Done {
    let ids = meant(call, |container| container.state.running)?;
    let asked = signal_option(call)?;
    let seconds = call.parsed.value("time").and_then(|text| text.parse().ok()).unwrap_or(5);
    let strict = call.store.version.is_strict();
    let began = Instant::now();
    // In parallel: the longest grace counts once. A stop waits in no place of the service.
    call.slot = None;
    if call.has_fault("stop_hang") {
        crate::faults::hang(call);
    }
    let found: Vec<Option<Container>> = ids.iter().map(|id| call.store.container(id)).collect();
    std::thread::scope(|scope| {
        for container in found.iter().flatten() {
            let own = container.config.stop_signal.as_deref().and_then(signals::number);
            let signal = asked.or(own).unwrap_or(Signal::TERM.number());
            let shared = &*call;
            if container.state.running && !call.has_fault("stop_noop") {
                scope.spawn(move || stop_one(shared, &container.config, signal, seconds));
            }
        }
    });
    let limit = call.store.settings("latency.json")["timeouts"]["containerStop"].as_u64();
    let limit = Duration::from_millis(limit.unwrap_or((seconds + 1) * 1000));
    if call.store.version < Version(0, 12, 0) && began.elapsed() > limit {
        // They did stop, but nobody was told in time.
        return Err(crate::texts::timeout("stop", &ids, "containerStop"));
    }
    let missing = |id: &str| internal("failed to stop container").caused_by(no_container(id));
    let there: Vec<(String, bool)> = ids.into_iter().zip(found.iter().map(Option::is_some)).collect();
    let mut failed = Vec::new();
    for (id, is_there) in there {
        match (is_there, strict) {
            (true, _) => call.line(&id),
            (false, true) => failed.push(missing(&id)),
            // Up to 0.10 nobody minds.
            (false, false) => {}
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Error::Many(failed)) }
}

pub fn kill(call: &mut Call) -> Done {
    let ids = meant(call, |container| container.state.running)?;
    let signal = signal_option(call)?.unwrap_or(Signal::KILL.number());
    let version = call.store.version;
    each(call, &ids, |call, id| {
        let failed = |cause: Fail| internal("failed to kill container").caused_by(cause);
        let container = call.store.container(id).ok_or_else(|| failed(no_container(id)))?;
        let client = if version < Version(1, 1, 0) { "sandbox" } else { "runtime" };
        let stopped = || failed(invalid_state(format!("no {client} client exists: container is stopped")));
        if !container.state.running {
            return Err(stopped());
        }
        if call.has_fault("kill_ignored") {
            return Ok(());
        }
        let waits = version.is_modern() && signal == Signal::KILL.number();
        if waits {
            call.slot = None;
        }
        let question = json!({"op": "kill", "signal": signal, "wait": waits});
        wire::ask(&call.store.dir(id), &question).map(drop).map_err(|_| stopped())
    })
}

pub fn delete(call: &mut Call) -> Done {
    let force = call.parsed.has("force");
    // With --all and no force those that run are left alone.
    let ids = meant(call, |container| force || !container.state.running)?;
    let strict = call.store.version.is_strict();
    if !strict {
        let missing: Vec<String> = ids.iter().filter(|id| call.store.container(id).is_none()).cloned().collect();
        if !missing.is_empty() {
            let text = format!("failed to delete one or more containers: {}", swift_list(&missing));
            return Err(not_found(text).into());
        }
    }
    call.slot = None;
    let mut refused = Vec::new();
    let result = each(call, &ids, |call, id| {
        let failed = |cause: Fail| internal("failed to delete container").caused_by(cause);
        let container = call.store.container(id).ok_or_else(|| failed(no_container(id)))?;
        if container.state.running && !force {
            refused.push(id.to_owned());
            return Err(failed(invalid_state(format!("container {id} is running and can not be deleted"))));
        }
        if call.has_fault("rm_stale_exec") {
            let text = format!("deleteProcess: exec {} does not exist", crate::random::uuid());
            return Err(failed(not_found(text)));
        }
        // Also what lives although the service has forgotten it.
        stop_one(call, &container.config, Signal::KILL.number(), 5);
        let _guard = call.store.lock();
        let dir = call.store.dir(id);
        if call.has_fault("rm_leftover") {
            std::fs::rename(dir.join("config.json"), dir.join("config.lost")).unwrap_or_default();
        }
        if dir.join("config.lost").exists() {
            return Err(failed(internal(format!("failed to remove directory of container {id}"))));
        }
        call.store.remove_container(id);
        Ok(())
    });
    if !strict && result.is_err() {
        for id in &refused {
            call.err.push_str(&log_line("container is running", &[("id", id)]));
        }
        let text = format!("delete failed for one or more containers: {}", swift_list(&refused));
        return Err(internal(text).into());
    }
    result
}

pub fn inspect(call: &mut Call) -> Done {
    let version = call.store.version;
    let mut wanted = call.parsed.arguments.clone();
    let all = call.store.containers();
    let shown: Vec<&Container> = all.iter().filter(|container| wanted.contains(&container.config.id)).collect();
    wanted.retain(|id| shown.iter().all(|container| container.config.id != *id));
    wanted.sort();
    if version.is_modern() && !wanted.is_empty() {
        return Err(not_found(format!("container not found: {}", wanted.join(", "))).into());
    }
    let shapes: Vec<Value> = shown.into_iter().map(|container| shapes::container(version, container)).collect();
    let text = render(&Value::Array(shapes), Form::Pretty, version);
    call.line(&text);
    Ok(())
}

pub fn list(call: &mut Call) -> Done {
    let version = call.store.version;
    let format = call.parsed.value("format").unwrap_or("table").to_owned();
    // Up to 0.9 the JSON had all of them always.
    let all = call.parsed.has("all") || (format == "json" && version < Version(0, 10, 0));
    let shown: Vec<Container> =
        call.store.containers().into_iter().filter(|container| all || container.state.running).collect();
    if format == "json" {
        let shapes = shown.iter().map(|container| shapes::container(version, container)).collect();
        let text = render(&Value::Array(shapes), Form::Compact, version);
        call.line(&text);
        return Ok(());
    }
    if call.parsed.has("quiet") {
        shown.iter().for_each(|container| call.line(&container.config.id));
        return Ok(());
    }
    let header = ["ID", "IMAGE", "OS", "ARCH", "STATE", "IP", "CPUS", "MEMORY", "STARTED"].map(str::to_owned);
    let mut rows = vec![header.to_vec()];
    if !version.is_modern() {
        rows = vec![["ID", "IMAGE", "OS", "ARCH", "STATE", "ADDR"].map(str::to_owned).to_vec()];
    }
    for container in &shown {
        let (config, state) = (&container.config, &container.state);
        let address = state.addresses.first().filter(|_| state.running);
        let mut row = vec![
            config.id.clone(),
            config.image.clone(),
            "linux".into(),
            config.arch.clone(),
            if state.running { "running".into() } else { "stopped".into() },
            address.map(|address| format!("{}/{}", address.ip, address.prefix)).unwrap_or_default(),
        ];
        if version.is_modern() {
            let started = state.started.map(|micros| crate::json::date(micros, version));
            let started = started.and_then(|date| Some(date.as_str()?.to_owned())).unwrap_or_default();
            row.extend([config.cpus.to_string(), format!("{} MB", config.memory >> 20), started]);
        }
        rows.push(row);
    }
    let widths: Vec<usize> =
        (0..rows[0].len()).map(|at| rows.iter().map(|row| row[at].len()).max().unwrap_or(0)).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        call.line(line.trim_end());
    }
    Ok(())
}

/// `exec`: another process in a container that runs.
pub fn exec(call: &mut Call) -> Done {
    let id = call.parsed.arguments[0].clone();
    let container = get(call, &id)?;
    if !container.state.running {
        return Err(invalid_state(format!("container {id} is not running")).into());
    }
    let config = &container.config;
    let environment = create::environment(&call.parsed, &config.environment, &[])?;
    let manner = Manner { terminal: call.parsed.has("tty"), interactive: call.parsed.has("interactive") };
    let detach = call.parsed.has("detach");
    let user = match ["user", "uid", "gid"].iter().any(|name| call.parsed.has(name)) {
        true => create::user(&call.parsed, None)?,
        false => config.user.clone(),
    };
    let process = crate::random::uuid();
    let request = json!({
        "op": "exec",
        "process": process,
        "argv": call.parsed.arguments[1..],
        "environment": environment,
        "user": user,
        "cwd": call.parsed.value("cwd").or(call.parsed.value("workdir")).unwrap_or(&config.cwd),
        "terminal": manner.terminal,
    });
    let lost = || Error::from(internal("XPC connection error: Connection interrupted"));
    let dir = call.store.dir(&id);
    let mut streams = match detach {
        true => None,
        false => Some(Streams::make(manner)?),
    };
    let conn = wire::connect(&dir).map_err(|_| Error::from(invalid_state(format!("container {id} is not running"))))?;
    let begun = match &mut streams {
        Some(streams) => streams.begin(conn, request),
        None => wire::send(&conn, &request, &[]).map_err(|_| Begun::Lost).and_then(|()| attached::begun(conn)),
    };
    let lines = begun.map_err(|error| match error {
        Begun::Failed(fail) => fail.into(),
        Begun::Lost => lost(),
    })?;
    call.slot = None;
    let Some(streams) = streams else {
        call.line(&id);
        return Ok(());
    };
    crate::calls::running();
    let ways = attached::to_process(&lines)?;
    call.code = attached::follow(call, &process, &id, streams, lines, ways)?;
    crate::faults::lose_exit(call)
}
