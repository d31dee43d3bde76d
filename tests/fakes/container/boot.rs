//! The process that starts a container's command as PID 1 of its own namespaces. It stays as the parent of that, tells
//! the supervisor how it ended, and dies with the supervisor, as a virtual machine does with its helper.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fosse::sys::linux::init::{self, Ended, Found};
use fosse::sys::linux::namespace::{self, Parent};
use fosse::sys::process::{effective_ids, wait_unreaped};
use fosse::sys::termios::Size;
use fosse::sys::{fd, pty};
use serde_json::{Value, json};

use crate::model::{Config, User};
use crate::place;
use crate::store::Store;
use crate::wire::{self, Lines};

/// Where the tiny init is inside.
pub const TINY: &str = "/.cz-init";

/// How the command's start went wrong.
pub type Wrong = (&'static str, String);

/// What the supervisor asks for: `{"id", "rows", "columns"}`, and the three streams unless there is a terminal.
pub fn main(root: PathBuf) -> ! {
    let stream = namespace::take_stdin().unwrap_or_else(|error| crate::give_up(&format!("boot: {error}")));
    namespace::die_with_parent().unwrap_or_default();
    let store = Store::open(root);
    let mut lines = Lines::of(stream);
    let Some(request) = lines.next() else { std::process::exit(1) };
    let id = request["id"].as_str().unwrap_or_default().to_owned();
    let Some(container) = store.container(&id) else { std::process::exit(1) };
    let result = run(&store, &container.config, &request, &mut lines);
    if let Err((code, text)) = result {
        wire::send(lines.stream(), &json!({"failed": {"code": code, "text": text}}), &[]).unwrap_or_default();
    }
    std::process::exit(0)
}

fn internal(what: &str, error: impl std::fmt::Display) -> Wrong {
    ("internalError", format!("{what}: {error}"))
}

fn run(store: &Store, config: &Config, request: &Value, lines: &mut Lines) -> Result<(), Wrong> {
    let (wait, told) = fd::pipe().map_err(|error| internal("pipe", error))?;
    let (hold, go) = fd::pipe().map_err(|error| internal("pipe", error))?;
    if effective_ids().0 != 0 {
        namespace::enter_user_namespace((0, 0)).map_err(|error| internal("user namespace", error))?;
    }
    let network = config.networks.is_empty();
    namespace::enter_namespaces(network).map_err(|error| internal("namespaces", error))?;
    if network {
        namespace::start_loopback().map_err(|error| internal("loopback", error))?;
    }
    let streams = [lines.take_fd(), lines.take_fd(), lines.take_fd()];
    let child = namespace::fork(Parent::This).map_err(|error| internal("fork", error))?;
    let Some(child) = child else {
        drop((wait, go));
        let mut told = File::from(told);
        namespace::die_with_parent().unwrap_or_default();
        // Its limits are set from outside in the meantime.
        if File::from(hold).read(&mut [0]).unwrap_or_default() == 0 {
            // Whoever starts it has died.
            std::process::exit(1);
        }
        let (code, text) = become_command(store, config, request, lines.stream(), streams);
        told.write_all(format!("{code}\n{text}").as_bytes()).unwrap_or_default();
        std::process::exit(1)
    };
    drop((told, hold, streams));
    limit(config)?;
    File::from(go).write_all(b"x").unwrap_or_default();
    let mut wrong = String::new();
    // It ends when the command has been executed.
    File::from(wait).read_to_string(&mut wrong).map_err(|error| internal("boot", error))?;
    if let Some((code, text)) = wrong.split_once('\n') {
        let code = if code == "notFound" { "notFound" } else { "internalError" };
        return Err((code, text.to_owned()));
    }
    wire::send(lines.stream(), &json!({"pid": child.number()}), &[]).unwrap_or_default();
    wait_unreaped(child).map_err(|error| internal("wait", error))?;
    let code = match init::look() {
        Ok(Found::Dead(_, Ended::Exited(code))) => i32::from(code),
        Ok(Found::Dead(_, Ended::Killed(signal))) => 128 + signal,
        Ok(Found::NoneDead | Found::NoChild) | Err(_) => 255,
    };
    wire::send(lines.stream(), &json!({"exited": code}), &[]).unwrap_or_default();
    Ok(())
}

/// Limits are inherited, so the command's are set on the process that becomes it: PID 1 in the namespace that this
/// process's children are in.
fn limit(config: &Config) -> Result<(), Wrong> {
    for (kind, soft, hard) in &config.rlimits {
        let option = format!("--{kind}={soft}:{hard}");
        let output = Command::new("prlimit").args(["--pid", "1", &option]).output();
        let output = output.map_err(|error| internal("prlimit", error))?;
        if !output.status.success() {
            return Err(internal("rlimit", String::from_utf8_lossy(&output.stderr)));
        }
    }
    Ok(())
}

/// Makes the place, and becomes the command. It only returns if that failed.
fn become_command(
    store: &Store,
    config: &Config,
    request: &Value,
    supervisor: &UnixStream,
    streams: [Option<OwnedFd>; 3],
) -> Wrong {
    match prepare(store, config, request, supervisor, streams) {
        // It returns only if it fails.
        Ok(mut command) => internal("exec", command.exec()),
        Err(wrong) => wrong,
    }
}

fn prepare(
    store: &Store,
    config: &Config,
    request: &Value,
    supervisor: &UnixStream,
    streams: [Option<OwnedFd>; 3],
) -> Result<Command, Wrong> {
    place::enter(store, config).map_err(|error| internal("root directory", error))?;
    let path = variable(&config.environment, "PATH").unwrap_or_default();
    let program = find(Path::new("/"), &config.executable, &path, &config.cwd)
        .ok_or_else(|| ("internalError", format!("failed to find target executable {}", config.executable)))?;
    let (uid, gid) = identity(Path::new("/"), &config.user)?;
    let mut command = if config.init {
        let mut command = Command::new(TINY);
        command.arg("__init").arg(&program).arg(&config.executable).args(&config.arguments);
        command
    } else {
        let mut command = Command::new(&program);
        command.arg0(&config.executable).args(&config.arguments);
        command
    };
    set_environment(&mut command, &config.environment);
    if config.terminal {
        let number = |name: &str| u16::try_from(request[name].as_u64().unwrap_or_default()).unwrap_or_default();
        let size = Size { rows: number("rows"), columns: number("columns"), width: 0, height: 0 };
        let (leader, follower) = pty::open(size).map_err(|error| internal("terminal", error))?;
        let sent = wire::send(supervisor, &json!({"terminal": true}), &[leader.as_fd()]);
        sent.map_err(|error| internal("terminal", error))?;
        drop(leader);
        let copy = || follower.try_clone().map_err(|error| internal("terminal", error));
        command.stdin(copy()?).stdout(copy()?).stderr(copy()?);
        own(&follower, uid, gid);
        pty::own_terminal(&mut command);
    } else {
        namespace::leave_session().map_err(|error| internal("session", error))?;
        let [stdin, stdout, stderr] = streams;
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(internal("streams", "missing"));
        };
        command.stdin(stdin).stdout(stdout).stderr(stderr);
    }
    if (uid, gid) != (0, 0) {
        namespace::become_user(uid, gid).map_err(|error| internal("user", error))?;
    }
    // A change of user takes the request back.
    namespace::die_with_parent().unwrap_or_default();
    std::env::set_current_dir(&config.cwd).map_err(|error| internal(&format!("chdir {}", config.cwd), error))?;
    Ok(command)
}

/// The terminal is the user's.
fn own(follower: &OwnedFd, uid: u32, gid: u32) {
    std::os::unix::fs::fchown(follower, Some(uid), Some(gid)).unwrap_or_default();
}

/// Exactly these variables.
pub fn set_environment(command: &mut Command, environment: &[String]) {
    command.env_clear();
    for entry in environment {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        if !name.is_empty() {
            command.env(name, value);
        }
    }
}

/// The last value of a variable.
pub fn variable(environment: &[String], name: &str) -> Option<String> {
    let mut entries = environment.iter().rev().filter_map(|entry| entry.split_once('='));
    entries.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
}

/// Where a program is in a root directory, by its name and a PATH.
pub fn find(root: &Path, name: &str, path: &str, cwd: &str) -> Option<PathBuf> {
    let base = File::open(root).ok()?;
    let is_program = |inside: &PathBuf| {
        let links = fosse::sys::linux::mount::Links::Inside;
        let found = fosse::sys::linux::mount::look_up(base.as_fd(), inside, links).ok();
        let found = found.and_then(|found| File::from(found).metadata().ok());
        found.is_some_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        return Some(Path::new(cwd).join(name)).filter(is_program);
    }
    path.split(':').filter(|dir| !dir.is_empty()).map(|dir| Path::new(dir).join(name)).find(is_program)
}

/// Who a user is by a root directory's files.
pub fn identity(root: &Path, user: &User) -> Result<(u32, u32), Wrong> {
    let text = match user {
        User::Id(uid, gid) => return Ok((*uid, *gid)),
        User::Raw(text) => text,
    };
    let (name, group) = text.split_once(':').map_or((text.as_str(), None), |(name, group)| (name, Some(group)));
    let lines = |file: &str| fs::read_to_string(root.join(file)).unwrap_or_default();
    let unknown = |what: &str| internal("unable to find user", what);
    let accounts = lines("etc/passwd");
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<String>>();
    let account =
        accounts.lines().map(fields).find(|fields| fields.len() > 3 && (fields[0] == name || fields[2] == name));
    let (uid, gid) = match (&account, name.parse::<u32>()) {
        (Some(fields), _) => (fields[2].parse().map_err(|_| unknown(name))?, fields[3].parse().unwrap_or(0)),
        (None, Ok(uid)) => (uid, 0),
        (None, Err(_)) => return Err(unknown(name)),
    };
    let Some(group) = group else { return Ok((uid, gid)) };
    if let Ok(gid) = group.parse() {
        return Ok((uid, gid));
    }
    let groups = lines("etc/group");
    let found = groups.lines().map(fields).find(|fields| fields.len() > 2 && fields[0] == group);
    let gid = found.and_then(|fields| fields[2].parse().ok()).ok_or_else(|| unknown(group))?;
    Ok((uid, gid))
}
