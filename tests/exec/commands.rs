//! `fosse exec`: one more command in a live run. Its codes, streams, input, variables and refusals.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::own_engine::OwnEngine;
use crate::support::{
    CONT, Carrier, Client, Engine, Home, IMAGE, STOP, code, finish, kill, on_docker, on_docker_with, on_each_engine,
    on_each_real_engine, on_native, on_native_and_docker, snapshot, stderr, stdout,
};

/// Starts a run called `box` that does nothing.
pub fn start_box(engine: Engine, home: &Home, options: &[&str]) -> Client {
    home.start(engine, &[&["-n", "box"], options].concat(), "exec sleep 1000")
}

/// `fosse exec` in that run.
pub fn exec_cmd(home: &Home, options: &[&str], command: &[&str]) -> Command {
    home.cmd([&["exec"], options, &["box", "--"], command].concat())
}

pub fn exec(home: &Home, options: &[&str], command: &[&str]) -> Output {
    finish(exec_cmd(home, options, command))
}

/// One error and one hint, nothing else.
fn assert_refused(output: &Output, wanted: i32, words: &str) {
    let said = stderr(output);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((code(output), stdout(output).as_str()), (wanted, ""), "{output:?}");
    assert!(lines.len() <= 2 && lines.first().is_some_and(|line| line.starts_with("fosse: ")), "{said}");
    assert!(lines.get(1).is_none_or(|line| line.starts_with("hint: ")) && said.contains(words), "{said}");
}

#[test]
fn the_exit_code_is_the_commands_own() {
    on_each_engine(|engine, home| {
        let _run = start_box(engine, home, &[]);
        for wanted in [0, 1, 2, 3, 64, 100, 124, 125, 126, 127, 128, 129, 137, 143, 200, 254, 255] {
            let output = exec(home, &[], &["sh", "-c", &format!("exit {wanted}")]);
            assert_eq!((code(&output), stderr(&output).as_str()), (wanted, ""), "{engine:?}");
        }
        for signal in [1, 2, 6, 9, 11, 15] {
            let output = exec(home, &[], &["sh", "-c", &format!("kill -{signal} $$")]);
            assert_eq!((code(&output), stderr(&output).as_str()), (128 + signal, ""), "{engine:?}");
        }
    });
}

#[test]
fn a_command_that_cannot_be_executed_gives_126_or_127() {
    on_each_engine(|engine, home| {
        let _run = start_box(engine, home, &[]);
        for (command, wanted) in
            [("no-such", 127), ("/no/such", 127), ("./no-such", 127), ("/etc/passwd", 126), ("/tmp", 126)]
        {
            // Apple's tool says of all of them that it does not find them.
            let by_tool = engine.is_apple() && home.carrier == Carrier::Client;
            assert_refused(&exec(home, &[], &[command]), if by_tool { 127 } else { wanted }, command);
        }
        assert_refused(&exec(home, &["--workdir", "/no/such"], &["true"]), 125, "/no/such");
    });
}

/// An engine's words in a command's mouth stay the command's.
#[test]
fn a_command_that_talks_like_an_engine_is_not_silenced() {
    on_each_engine(|engine, home| {
        let _run = start_box(engine, home, &[]);
        let words = "Error response from daemon: No such container: web\n";
        let output = exec(
            home,
            &[],
            &["sh", "-c", "cat >&2 <<x\nError response from daemon: No such container: web\nx\nexit 1"],
        );
        assert_eq!((code(&output), stderr(&output).as_str()), (1, words), "{engine:?}");
        // Held back while it may be the engine's, and not longer.
        let script = "printf 'Error: '; printf 'Error: ' >&2; sleep 4; echo more";
        let output = exec(home, &[], &["sh", "-c", script]);
        assert_eq!(
            (code(&output), stdout(&output).as_str(), stderr(&output).as_str()),
            (0, "Error: more\n", "Error: "),
            "{engine:?}"
        );
    });
}

#[test]
fn streams_are_live_apart_and_exact() {
    on_each_engine(|engine, home| {
        let _run = start_box(engine, home, &[]);
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        home.write("ws/binary", &bytes);
        let output = exec(home, &[], &["sh", "-c", "cat binary; printf end >&2; cat binary >&2; printf 'no newline'"]);
        assert_eq!(code(&output), 0);
        assert!(output.stdout == [&bytes[..], b"no newline"].concat(), "{engine:?}: {}", output.stdout.len());
        assert!(output.stderr == [b"end", &bytes[..]].concat(), "{engine:?}: {}", output.stderr.len());

        // The second line is written only after somebody has read the first.
        let script = "echo one; while [ ! -e seen ]; do sleep 0.05; done; echo two";
        let client = Client::spawn(exec_cmd(home, &[], &["sh", "-c", script]));
        client.wait_for_output("one\n");
        home.write("ws/seen", "");
        assert_eq!(stdout(&client.output()), "one\ntwo\n");
    });
}

#[test]
fn a_flood_arrives_whole() {
    on_each_engine(|engine, home| {
        let _run = start_box(engine, home, &[]);
        let mut command = exec_cmd(home, &[], &["head", "-c", "100000000", "/dev/zero"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (mut pipe, mut buffer, mut total) = (child.stdout.take().unwrap(), vec![0; 1 << 20], 0);
        loop {
            match pipe.read(&mut buffer).unwrap() {
                0 => break,
                count => total += count,
            }
        }
        assert_eq!((child.wait().unwrap().code(), total), (Some(0), 100_000_000), "{engine:?}");
    });
}

#[test]
fn stdin_is_the_callers_with_i_and_empty_without() {
    on_each_engine(|engine, home| {
        let _run = start_box(engine, home, &[]);
        // Every byte, the keys among them by which engines' clients would detach.
        let bytes: Vec<u8> =
            (0..=255).chain([16, 17, 16, 17]).chain((0..200_000_u32).map(|n| (n % 251) as u8)).collect();
        for interactive in [true, false] {
            let options: &[&str] = if interactive { &["-i"] } else { &[] };
            let mut command = exec_cmd(home, options, &["sh", "-c", "cat; echo end"]);
            let mut client = Client::spawn({
                command.stdin(Stdio::piped());
                command
            });
            // Nobody reads it without -i: then it may be refused.
            let written = client.stdin().write_all(&bytes);
            assert!(written.is_ok() || !interactive);
            let output = client.output();
            let wanted = if interactive { [&bytes[..], b"end\n"].concat() } else { b"end\n".to_vec() };
            assert_eq!(code(&output), 0);
            assert!(output.stdout == wanted, "{engine:?} {interactive}: {} bytes", output.stdout.len());
        }
        // A command that ends before its input does is not waited for.
        let mut command = exec_cmd(home, &["-i"], &["head", "-c", "1"]);
        command.stdin(Stdio::piped());
        let mut client = Client::spawn(command);
        let mut stdin = client.stdin();
        stdin.write_all(b"xy").unwrap();
        assert_eq!(client.wait().code(), Some(0));
        drop(stdin);
        assert_eq!(stdout(&client.output()), "x");
    });
}

#[test]
fn variables_arrive_and_are_in_no_argument_vector_record_or_file() {
    on_each_engine(|engine, home| {
        let _run = start_box(engine, home, &["-e", "OURS=of-the-run"]);
        let secret = format!("secret-{}", fosse::base::id::random_hex(8).unwrap());
        let plain = format!("PLAIN={secret}");
        // This one steers the tools themselves, so it cannot be in their environment.
        let proxy = format!("HTTPS_PROXY={secret}");
        let lines = format!("LINES=a\nb {secret} \"'");
        let script = "echo \"$PLAIN|$HTTPS_PROXY|$LINES|$COPIED|$OURS|$HOME|$FOSSE_RUN_NAME\"; echo ready; cat";
        let options =
            ["-i", "-e", "PLAIN=first", "-e", &plain, "-e", &proxy, "-e", &lines, "-e", "COPIED", "-e", "ABSENT"];
        // The script in a file, so that what is looked for is in no argument of the test's own.
        home.write("ws/script", script);
        let mut command = exec_cmd(home, &options, &["sh", "script"]);
        command.env("COPIED", "by name").stdin(Stdio::piped());
        let mut client = Client::spawn(command);
        client.wait_for_output("ready");
        let own = client.pid();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let cmdline = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let ours = entry.file_name().to_string_lossy() == own.to_string();
            assert!(ours || !String::from_utf8_lossy(&cmdline).contains(&secret), "{engine:?} {entry:?}");
        }
        drop(client.stdin());
        let output = client.output();
        let wanted = format!("{secret}|{secret}|a\nb {secret} \"'|by name|of-the-run|/home/fosse|box\nready\n");
        assert_eq!((code(&output), stdout(&output), stderr(&output)), (0, wanted, String::new()), "{engine:?}");
        for (path, bytes) in snapshot(&home.state()) {
            assert!(!String::from_utf8_lossy(&bytes).contains(&secret), "{path:?}");
        }
    });
}

#[test]
fn user_and_directory_are_the_runs_unless_said_otherwise() {
    on_each_real_engine(|engine, home| {
        let _run = start_box(engine, home, &["--user", "1234", "--workdir", "/tmp"]);
        let show = "echo $(id -u):$(id -g) $(pwd)";
        for (options, wanted) in [
            (&[][..], "1234:1234 /tmp"),
            (&["--user", "root"], "0:0 /tmp"),
            (&["--user", "7:8", "--workdir", "/etc"], "7:8 /etc"),
            (&["--user", "image"], "0:0 /tmp"),
        ] {
            let output = exec(home, options, &["sh", "-c", show]);
            assert_eq!((stdout(&output).trim(), code(&output)), (wanted, 0), "{engine:?} {output:?}");
        }
        let output = exec(home, &["--user", "caller", "--workdir", "/workspace"], &["touch", "made"]);
        assert_eq!(code(&output), 0, "{output:?}");
        let made = fs::metadata(home.workspace().join("made")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), fosse::sys::process::effective_ids().0);
    });
}

/// A sandbox knows one user: another one is an error, and not somebody else.
#[test]
fn a_sandbox_has_no_other_user_than_the_runs() {
    on_native(|home| {
        let _run = start_box(Engine::Native, home, &["--user", "1234", "--workdir", "/tmp"]);
        let show = ["sh", "-c", "echo $(id -u):$(id -g) $(pwd)"];
        for (options, wanted) in [
            (&[][..], "1234:1234 /tmp"),
            (&["--user", "1234"], "1234:1234 /tmp"),
            // There is no image that could mean somebody else.
            (&["--user", "image"], "1234:1234 /tmp"),
            (&["--user", "1234:1234", "--workdir", "/etc"], "1234:1234 /etc"),
        ] {
            let output = exec(home, options, &show);
            assert_eq!((stdout(&output).trim(), code(&output)), (wanted, 0), "{output:?}");
        }
        for user in ["root", "7:8", "1234:8"] {
            assert_refused(&exec(home, &["--user", user], &show), 125, "no other user than the run's");
        }
    });
}

#[test]
fn nothing_is_recorded() {
    on_each_engine(|engine, home| {
        let run = start_box(engine, home, &[]);
        let (before, listed) = (snapshot(&home.state()), home.list());
        assert_eq!(code(&exec(home, &["-e", "HOME=/tmp"], &["sh", "-c", "echo out; echo err >&2; exit 9"])), 9);
        assert_eq!(code(&exec(home, &[], &["no-such"])), 127);
        assert!(snapshot(&home.state()) == before, "{engine:?}");
        assert_eq!(home.list(), listed);
        assert_eq!(code(&home.fosse(["stop", "-q", "box"])), 0);
        assert_eq!(stdout(&run.output()), "ready\n");
        assert_eq!(stdout(&home.logs("box")), "ready\n");
        home.assert_nothing_left();
    });
}

#[test]
fn a_run_that_is_not_live_is_refused_with_its_state() {
    on_native_and_docker(|engine, home| {
        assert_refused(&exec(home, &[], &["true"]), 125, "no run is called \"box\"");
        home.run(engine, &["-n", "box"], &["false"]);
        let output = exec(home, &[], &["true"]);
        assert_refused(&output, 125, "failed");
        assert!(stderr(&output).contains("\nhint: "), "{output:?}");
        // One whose owner died.
        let mut run = home.start(engine, &["-n", "lost"], "exec sleep 1000");
        kill(run.pid(), 9);
        run.wait();
        assert_refused(&home.fosse(["exec", "lost", "true"]), 125, "lost its owner");
    });
}

#[test]
fn several_runs_are_refused_with_their_names() {
    let home = Home::new();
    fs::create_dir_all(home.state().join("runs")).unwrap();
    for (id, name) in [("abcd00000001", "one"), ("abcd00000002", "two")] {
        let text = format!(
            r#"{{"schema": 1, "id": "{id}", "name": "{name}", "state": "stopped", "runtime": "docker", "io": "engine",
            "engine": {{"tool": "docker", "endpoint": "local"}}, "image": "i", "command": ["true"], "workspace": null,
            "user": "image", "network": "open", "created_at": "2026-01-01T00:00:00Z", "reason": "exited",
            "stopped_at": "2026-01-01T00:00:01Z", "exit_code": 0}}"#
        );
        home.write(&format!("state/runs/{id}/record.json"), text);
    }
    let output = home.fosse(["exec", "abcd", "true"]);
    assert_refused(&output, 125, "one (abcd00000001), two (abcd00000002)");
}

#[test]
fn wrong_usage_gives_125() {
    let home = Home::new();
    for args in [
        &["exec"][..],
        &["exec", "box"],
        &["exec", "box", "--"],
        &["exec", "--json", "box", "true"],
        &["exec", "--detach", "box", "true"],
        &["exec", "--workdir", "relative", "box", "true"],
        &["exec", "--timeout", "soon", "box", "true"],
        &["exec", "box", ""],
    ] {
        let output = home.fosse(args);
        assert_eq!(code(&output), 125, "{args:?} {output:?}");
        assert!(stderr(&output).starts_with("fosse: "), "{output:?}");
    }
    on_native_and_docker(|engine, home| {
        let _run = start_box(engine, home, &[]);
        for options in [&["--user", "bob"][..], &["-e", "=x"], &["-e", "A B=x"]] {
            assert_refused(&exec(home, options, &["true"]), 125, "invalid option");
        }
    });
}

#[test]
fn everything_from_the_command_on_is_the_commands() {
    on_native_and_docker(|engine, home| {
        let _run = start_box(engine, home, &[]);
        for args in [
            &["box", "echo", "-i", "--user", "x", "--", "-e"][..],
            &["box", "--", "echo", "-i", "--user", "x", "--", "-e"],
        ] {
            let output = home.fosse([&["exec"], args].concat());
            assert_eq!((code(&output), stdout(&output).as_str()), (0, "-i --user x -- -e\n"), "{output:?}");
        }
    });
}

#[test]
fn no_owner_is_needed() {
    on_each_engine(|engine, home| {
        let run = start_box(engine, home, &[]);
        kill(run.pid(), STOP);
        let output = exec(home, &[], &["echo", "still here"]);
        kill(run.pid(), CONT);
        if engine.is_native() {
            // There is no other way in than by the owner: that is said, in bounded time, and hurts nobody.
            assert_refused(&output, 125, "the owner of the run does not answer");
            assert_eq!(stdout(&exec(home, &[], &["echo", "still here"])), "still here\n");
            return;
        }
        assert_eq!((code(&output), stdout(&output).as_str()), (0, "still here\n"), "{engine:?} {output:?}");
    });
}

/// The record says which engine, whatever the environment says now.
#[test]
fn the_engine_is_the_runs() {
    on_docker(|home| {
        let _run = start_box(Engine::Docker, home, &[]);
        let mut command = exec_cmd(home, &[], &["echo", "there"]);
        command.env("DOCKER_HOST", "unix:///nonexistent.sock").env("FOSSE_RUNTIME", "podman");
        assert_eq!(stdout(&finish(command)), "there\n");
    });
}

#[test]
fn a_run_that_ends_takes_its_execs_along() {
    on_each_engine(|engine, home| {
        let run = start_box(engine, home, &[]);
        let client = Client::spawn(exec_cmd(home, &[], &["sh", "-c", "echo up; exec sleep 1000"]));
        client.wait_for_output("up");
        assert_eq!(code(&home.fosse(["stop", "-q", "--grace", "1s", "box"])), 0);
        let output = client.output();
        assert!([125, 137, 143].contains(&code(&output)), "{engine:?} {output:?}");
        run.output();
        home.assert_nothing_left();
    });
}

#[test]
fn an_engine_that_goes_away_leaves_no_code() {
    on_docker_with(Carrier::Client, |home| {
        let Some(mut engine) = OwnEngine::start(home) else { return };
        let with_engine = |mut command: Command| {
            command.env("DOCKER_HOST", engine.host());
            command
        };
        let args = ["-n", "box", "--network", "none"];
        let mut run = Client::spawn(with_engine(home.run_cmd(
            Engine::Docker,
            &args,
            &["sh", "-c", "echo ready; exec sleep 1000"],
        )));
        run.wait_for_output("ready");
        let client = Client::spawn(exec_cmd(home, &[], &["sh", "-c", "echo up; exec sleep 1000"]));
        client.wait_for_output("up");
        engine.down(9);
        assert_refused_after(&client.output(), "up\n");
        engine.up();
        let mut clean = home.cmd(["clean"]);
        clean.env("DOCKER_HOST", engine.host());
        run.wait();
        finish(clean);
    });
}

/// It had started, and how it ended is not known.
fn assert_refused_after(output: &Output, said: &str) {
    assert_eq!((code(output), stdout(output).as_str()), (125, said), "{output:?}");
    assert!(stderr(output).starts_with("fosse: following the command failed: "), "{output:?}");
}

/// An engine that is not there, or hangs, is an error with a hint, and not for ever.
#[test]
fn an_engine_that_does_not_answer_is_an_error() {
    on_docker_with(Carrier::Client, |home| {
        let _run = start_box(Engine::Docker, home, &[]);
        let record = home.state().join("runs").join(home.newest_id()).join("record.json");
        let mut value: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
        let endpoint = value["engine"]["endpoint"].clone();
        value["engine"]["endpoint"] = "unix:///nonexistent.sock".into();
        fs::write(&record, value.to_string()).unwrap();
        assert_refused(&exec(home, &[], &["true"]), 125, "nonexistent.sock");
        value["engine"]["endpoint"] = endpoint;
        fs::write(&record, value.to_string()).unwrap();
        assert_eq!(code(&exec(home, &[], &["true"])), 0, "{IMAGE}");
    });
}
