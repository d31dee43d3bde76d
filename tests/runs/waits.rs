//! Who waits for a run or follows it: the end is not lost with the run, and nobody stays whom nobody reads.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::support::init::wrapped;
use crate::support::{
    Carrier, Client, Engine, Home, KILL, code, finish, on_docker_with, on_native, on_native_and_docker, processes,
    repeat, stderr, stdout, wait_until,
};

/// How many processes hold the file of the newest run's lock open: its owner, and who waits.
fn holders(home: &Home) -> usize {
    let lock = home.state().join("runs").join(home.newest_id()).join("owner.lock");
    let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        fds.into_iter().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == lock)).then_some(pid)
    });
    pids.count()
}

/// `fosse wait` that is waiting by now.
fn waiting(home: &Home, args: &[&str], others: usize) -> Client {
    let wait = Client::spawn(home.cmd([&["wait"], args].concat()));
    wait_until("it waits", || holders(home) > others);
    wait
}

/// Has the program, with its arguments as `"$@"`, run by a script.
fn shell(home: &Home, args: &[&str], script: &str) -> Client {
    let mut command = wrapped(&home.cmd(args), &["sh", "-c", script, "sh"]);
    home.belongs(&mut command);
    Client::spawn(command)
}

#[test]
fn a_wait_knows_the_end_of_a_run_that_is_destroyed_at_once() {
    on_native_and_docker(|engine, home| {
        for _ in 0..repeat(25) {
            let run = home.start(engine, &["-n", "box"], "trap 'exit 7' TERM; while :; do sleep 0.05; done");
            let wait = waiting(home, &["box"], 1);
            let json = waiting(home, &["--json", "box"], 2);
            // Destroyed by somebody who waits for the same, and is quicker.
            let destroy = shell(home, &["wait", "box"], "\"$@\"; \"$1\" rm -f box");
            wait_until("all of them wait", || holders(home) > 3);
            crate::support::kill(run.pid(), crate::support::TERM);
            let wanted = code(&run.output());
            let (wait, json) = (wait.output(), json.output());
            assert_eq!((code(&wait), stdout(&wait)), (wanted, format!("{wanted}\n")), "{engine:?}: {wait:?}");
            assert!(stdout(&json).contains(&format!("\"exit_code\":{wanted}")), "{engine:?}: {json:?}");
            assert_eq!(code(&destroy.output()), 0);
            assert!(home.list().is_empty());
        }
    });
}

#[test]
fn a_wait_knows_the_end_of_a_live_run_that_is_destroyed_by_force() {
    on_native_and_docker(|engine, home| {
        for _ in 0..repeat(20) {
            let run = home.start(engine, &["-n", "box", "--grace", "0"], "exec sleep 1000");
            let wait = waiting(home, &["box"], 1);
            assert_eq!(code(&home.fosse(["rm", "-f", "box"])), 0);
            let (wanted, wait) = (code(&run.output()), wait.output());
            assert_eq!((code(&wait), stdout(&wait)), (wanted, format!("{wanted}\n")), "{engine:?}: {wait:?}");
        }
    });
}

/// One whose turn comes after another's end was known from the start.
#[test]
fn a_wait_for_several_knows_the_end_of_one_that_is_destroyed_before_its_turn() {
    on_native(|home| {
        let first = home.start(Engine::Native, &["-n", "first"], "exec sleep 1000");
        let second = home.start(Engine::Native, &["-n", "second"], "trap 'exit 5' TERM; while :; do sleep 0.05; done");
        let wait = waiting(home, &["first", "second"], 1);
        assert_eq!(code(&home.fosse(["rm", "-f", "second"])), 0);
        let wanted = code(&second.output());
        assert_eq!(code(&home.fosse(["stop", "first"])), 0);
        let wait = wait.output();
        assert_eq!((code(&wait), stdout(&wait)), (wanted, format!("143\n{wanted}\n")), "{wait:?}");
        drop(first);
    });
}

/// A run whose owner died, finished and destroyed before who waits has looked.
#[test]
fn a_wait_for_a_run_that_lost_its_owner_is_125_also_if_that_is_destroyed_at_once() {
    on_native(|home| {
        for _ in 0..repeat(20) {
            let run = home.start(Engine::Native, &["-n", "box"], "exec sleep 1000");
            let wait = waiting(home, &["box"], 1);
            run.signal(KILL);
            assert_eq!(code(&home.fosse(["rm", "-f", "box"])), 0);
            let wait = wait.output();
            assert_eq!((code(&wait), stderr(&wait).as_str()), (125, ""), "{wait:?}");
            drop(run);
        }
    });
}

/// The exit code of a program that ends by itself.
fn code_of(child: &mut std::process::Child) -> Option<i32> {
    let mut status = None;
    // One that does not end is not left to whoever comes after a test that failed.
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_until("it ends", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
    }));
    if let Err(panic) = ended {
        child.kill().unwrap_or_default();
        child.wait().map(drop).unwrap_or_default();
        std::panic::resume_unwind(panic);
    }
    status.and_then(|status| status.code())
}

/// A verb that waits for something to write, with the read end of a pipe as its stdout.
fn piped(mut command: Command) -> (std::process::Child, BufReader<std::process::ChildStdout>) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    (child, stdout)
}

#[test]
fn who_follows_ends_when_its_reader_does_and_not_with_the_next_output() {
    on_native(|home| {
        let _run = home.start(Engine::Native, &["-n", "box"], "exec sleep 1000");
        for args in
            [&["logs", "-f", "box"][..], &["logs", "-f", "--json", "box"], &["logs", "-f", "--timestamps", "box"]]
        {
            let (mut child, mut stdout) = piped(home.cmd(args));
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            assert!(line.contains("ready"), "{args:?}: {line}");
            drop(stdout);
            assert_eq!(code_of(&mut child), Some(0), "{args:?}");
        }
    });
}

#[test]
fn who_waits_ends_when_its_reader_does() {
    on_native(|home| {
        assert_eq!(code(&home.run(Engine::Native, &["-n", "over"], &["true"])), 0);
        let _run = home.start(Engine::Native, &["-n", "box"], "exec sleep 1000");
        let (mut child, mut stdout) = piped(home.cmd(["wait", "over", "box"]));
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "0\n");
        drop(stdout);
        assert_eq!(code_of(&mut child), Some(0));
    });
}

/// Where stdout is no pipe there is nobody who could go away.
#[test]
fn who_follows_into_a_file_or_to_nobody_stays_to_the_end() {
    on_native(|home| {
        let run =
            home.start(Engine::Native, &["-n", "box"], "trap 'echo bye; exit' TERM; while :; do sleep 0.05; done");
        let follow = |target: &str| shell(home, &["logs", "-f", "box"], &format!("exec \"$@\" >{target}"));
        let all = [follow("log"), follow("/dev/null"), follow("&-")];
        wait_until("all of them follow", || holders(home) > all.len());
        assert_eq!(code(&home.fosse(["stop", "box"])), 0);
        run.output();
        for client in all {
            assert_eq!(code(&client.output()), 0);
        }
        assert_eq!(std::fs::read_to_string(home.workspace().join("log")).unwrap(), "ready\nbye\n");
    });
}

#[test]
fn an_exec_waits_for_a_run_that_is_still_starting() {
    on_native_and_docker(|engine, home| {
        for number in 0..repeat(10) {
            let file = home.dir.join(format!("id-{number}"));
            let run = home.run_cmd(engine, &["--id-file", &file.to_string_lossy()], &["sleep", "1000"]);
            let run = Client::spawn(run);
            let read = || std::fs::read_to_string(&file).unwrap_or_default().trim().to_owned();
            wait_until("the id is told", || read().len() == 12);
            let exec = home.fosse(["exec", &read(), "--", "sh", "-c", "exit 6"]);
            assert_eq!((code(&exec), stderr(&exec).as_str()), (6, ""), "{engine:?}");
            assert_eq!(code(&home.fosse(["stop", &read()])), 0);
            run.output();
        }
    });
}

/// A tool that takes as long as the test likes over making a container.
#[test]
fn an_exec_that_waits_for_a_start_takes_signals_and_keeps_its_time() {
    on_docker_with(Carrier::Client, |home| {
        let gate = home.dir.join("gate");
        let script = format!(
            "[ \"$1\" = create ] && while [ ! -e {0} ]; do sleep 0.05; done; exec docker \"$@\"",
            gate.display()
        );
        let tool = home.script("slow", &script);
        let mut run = home.run_cmd(Engine::Docker, &["-n", "box"], &["sleep", "1000"]);
        run.env("FOSSE_DOCKER", &tool);
        let run = Client::spawn(run);
        wait_until("it is starting", || home.list().iter().any(|run| run["state"] == "starting"));
        let late = home.fosse(["exec", "--timeout", "50ms", "box", "--", "true"]);
        assert_eq!(code(&late), 124, "{late:?}");
        let exec = Client::spawn(home.cmd(["exec", "box", "--", "true"]));
        wait_until("it takes signals", || caught(exec.pid(), 15));
        exec.signal(crate::support::TERM);
        assert_eq!(code(&exec.output()), 143);
        let exec = Client::spawn(home.cmd(["exec", "box", "--", "sh", "-c", "exit 6"]));
        std::fs::write(&gate, "").unwrap();
        assert_eq!(code(&exec.output()), 6);
        assert_eq!(code(&home.fosse(["stop", "box"])), 0);
        run.output();
    });
}

/// Whether a process has a handler for a signal, or waits for it.
fn caught(pid: i32, signal: u32) -> bool {
    let field = |name| processes::status_field_if_any(pid, name).unwrap_or_default();
    ["SigCgt", "SigBlk"]
        .iter()
        .any(|name| u64::from_str_radix(field(name).trim(), 16).is_ok_and(|mask| mask & (1 << (signal - 1)) != 0))
}

#[test]
fn an_exec_in_a_run_that_ends_while_it_starts_says_so() {
    on_native(|home| {
        let mut run = home.run_cmd(Engine::Native, &["-n", "box"], &["true"]);
        run.env("FOSSE_FAILPOINT", "container-made");
        finish(run);
        let exec = home.fosse(["exec", "box", "--", "true"]);
        assert_eq!(code(&exec), 125);
        assert!(stderr(&exec).contains("lost its owner"), "{exec:?}");
    });
}
