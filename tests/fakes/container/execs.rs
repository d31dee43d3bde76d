//! What a supervisor is asked while its container runs: signals, a stop, another process inside, a new window size.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fosse::sys::process::{Pid, PidHandle, effective_ids};
use fosse::sys::pty;
use fosse::sys::signal::Signal;
use fosse::sys::termios::Size;
use serde_json::{Value, json};

use crate::boot;
use crate::model::User;
use crate::supervisor::{Shared, guard};
use crate::texts::{Fail, fail, internal};
use crate::wire::{self, Lines};

/// Answers until the process ends.
pub fn serve(shared: &Arc<Shared>, listener: UnixListener) {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shared = Arc::clone(&shared);
            *guard(&shared.answering) += 1;
            thread::spawn(move || {
                answer(&shared, Lines::of(stream));
                *guard(&shared.answering) -= 1;
                shared.answered.notify_all();
            });
        }
    });
}

fn answer(shared: &Arc<Shared>, mut lines: Lines) {
    let Some(question) = lines.next() else { return };
    let signal = question["signal"].as_i64().and_then(|number| i32::try_from(number).ok()).unwrap_or(9);
    match question["op"].as_str().unwrap_or_default() {
        "kill" => {
            shared.signal(signal);
            if question["wait"] == true {
                shared.wait(None);
            }
        }
        "stop" => {
            shared.signal(signal);
            let grace = Duration::from_secs(question["time"].as_u64().unwrap_or(5));
            if shared.wait(Some(grace)).is_none() {
                shared.signal(Signal::KILL.number());
                shared.wait(None);
            }
        }
        "resize" => {
            if let Some(terminal) = guard(&shared.terminal).as_ref() {
                size(&question).set(terminal).unwrap_or_default();
            }
        }
        "wait" => {
            let end = shared.wait(None).unwrap_or_default();
            return wire::send(lines.stream(), &end, &[]).unwrap_or_default();
        }
        "exec" => return execute(shared, &question, lines),
        _ => return,
    }
    wire::send(lines.stream(), &json!({"ok": true}), &[]).unwrap_or_default();
}

/// The window's size in a message.
pub fn size(message: &Value) -> Size {
    let number = |name: &str| u16::try_from(message[name].as_u64().unwrap_or_default()).unwrap_or_default();
    Size { rows: number("rows"), columns: number("columns"), width: 0, height: 0 }
}

/// Starts a process inside and tells how it ended. It is asked: `{"argv", "environment", "user", "cwd", "terminal",
/// "stdin", "rows", "columns"}`; later `{"signal"}` or `{"rows", "columns"}`.
fn execute(shared: &Shared, question: &Value, mut lines: Lines) {
    match start(shared, question, &mut lines) {
        Err(fail) => wire::send(lines.stream(), &json!({"error": fail}), &[]).unwrap_or_default(),
        Ok((mut child, terminal)) => {
            wire::send(lines.stream(), &json!({"started": true}), &[]).unwrap_or_default();
            let Ok(answers) = lines.stream().try_clone() else { return };
            let leader = child.id();
            thread::spawn(move || listen(lines, leader, terminal));
            let status = child.wait();
            let code =
                status.map_or(255, |status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()));
            thread::sleep(Duration::from_millis(
                shared.store.settings("latency.json")["exec_teardown"].as_u64().unwrap_or_default(),
            ));
            wire::send(&answers, &json!({"exit": code}), &[]).unwrap_or_default();
        }
    }
}

/// What the client asks for while the process runs.
fn listen(mut lines: Lines, leader: u32, terminal: Option<OwnedFd>) {
    while let Some(line) = lines.next() {
        if let Some(number) = line["signal"].as_i64().and_then(|number| i32::try_from(number).ok()) {
            // The process is the only child of the one that entered the namespaces.
            let children = std::fs::read_to_string(format!("/proc/{leader}/task/{leader}/children"));
            let child = children.ok().and_then(|text| text.split_whitespace().next()?.parse().ok()).and_then(Pid::new);
            if let Some(Ok(handle)) = child.map(PidHandle::open) {
                handle.signal(Signal::from_number(number)).unwrap_or_default();
            }
        } else if let Some(terminal) = &terminal {
            size(&line).set(terminal).unwrap_or_default();
        }
    }
}

fn start(shared: &Shared, question: &Value, lines: &mut Lines) -> Result<(Child, Option<OwnedFd>), Fail> {
    let failed = |error: std::io::Error| internal(format!("failed to start process: {error}"));
    let texts = |name: &str| -> Vec<String> { serde_json::from_value(question[name].clone()).unwrap_or_default() };
    let (argv, environment) = (texts("argv"), texts("environment"));
    let name = argv.first().cloned().unwrap_or_default();
    let cwd = question["cwd"].as_str().unwrap_or("/");
    let init = guard(&shared.init).ok_or_else(|| fail("invalidState", "container is not running"))?;
    let inside = PathBuf::from(format!("/proc/{}/root", init.number()));
    let wrong = |cause: Fail| {
        let process = question["process"].as_str().unwrap_or_default();
        internal(format!("failed to start process {process} in container {}", shared.config.id)).caused_by(cause)
    };
    let path = boot::variable(&environment, "PATH").unwrap_or_default();
    let program = boot::find(&inside, &name, &path, cwd)
        .ok_or_else(|| wrong(internal(format!("failed to find target executable {name}"))))?;
    let user: User = serde_json::from_value(question["user"].clone()).unwrap_or(User::Id(0, 0));
    let (uid, gid) = boot::identity(&inside, &user).map_err(|(code, text)| wrong(fail(code, text)))?;
    if !inside.join(Path::new(cwd).strip_prefix("/").unwrap_or(Path::new(cwd))).is_dir() {
        return Err(wrong(internal(format!("chdir {cwd}: No such file or directory"))));
    }
    let tty = question["terminal"] == true;
    let mut command = if tty { Command::new("/usr/bin/nsenter") } else { Command::new("/usr/bin/setsid") };
    if !tty {
        command.arg("/usr/bin/nsenter");
    }
    command.args(["-t", &init.number().to_string(), "-m", "-u", "-i", "-p"]);
    if shared.config.networks.is_empty() {
        command.arg("-n");
    }
    if effective_ids().0 == 0 {
        command.arg(format!("--setuid={uid}")).arg(format!("--setgid={gid}"));
    } else {
        command.args(["-U", "--preserve-credentials"]);
    }
    command.arg(format!("--wdns={cwd}")).arg("--").arg(&program).args(&argv[1..]);
    boot::set_environment(&mut command, &environment);
    let stdin = if question["stdin"] == true { lines.take_fd() } else { None };
    let mut clients = [lines.take_fd(), lines.take_fd()];
    if !tty {
        let or_null = |fd: Option<OwnedFd>| fd.map_or_else(Stdio::null, Stdio::from);
        let [out, err] = clients;
        command.stdin(or_null(stdin)).stdout(or_null(out)).stderr(or_null(err));
        return command.spawn().map(|child| (child, None)).map_err(failed);
    }
    let (leader, follower) = pty::open(size(question)).map_err(failed)?;
    let copy = || follower.try_clone().map_err(failed);
    command.stdin(copy()?).stdout(copy()?).stderr(copy()?);
    pty::own_terminal(&mut command);
    let child = command.spawn().map_err(failed)?;
    drop((command, follower));
    let client = clients[0].take().map(File::from);
    crate::supervisor::show(leader.try_clone().map_err(failed)?, client);
    if let Some(stdin) = stdin {
        crate::supervisor::type_in(stdin, leader.as_fd().try_clone_to_owned().map_err(failed)?);
    }
    Ok((child, Some(leader)))
}
