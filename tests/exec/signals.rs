//! `fosse exec`: signals, time-outs, readers that go away, and what is left in the container.

use std::io::Read;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::exec::commands::{exec, exec_cmd, start_box};
use crate::support::{
    Carrier, Client, Engine, HUP, Home, INT, KILL, QUIT, TERM, USR1, code, finish, fosse, kill, left_out,
    on_docker_with, on_each_channel, on_each_engine, on_each_engine_with, on_native_and_docker,
    on_native_and_docker_with, pause, process_state, processes, repeat, shell_code, stderr, stdout, wait_until,
};

/// The commands that run in the container beside its init and its own, as the container shows them.
fn others(engine: Engine, home: &Home) -> String {
    let ours = |line: &&str| {
        !line.is_empty() && !line.contains("init") && !line.contains("sleep 1000") && !line.contains("ps -o args")
    };
    if engine.is_native() {
        let processes = home.insiders();
        let commands = processes.iter().filter_map(|process| Some(process.split_once(' ')?.1.trim()));
        return commands.filter(ours).collect::<Vec<_>>().join("\n");
    }
    let name = format!("fosse-{}", home.newest_id());
    let listed = stdout(&home.call(engine, ["exec", &name, "ps", "-o", "args"]));
    listed.lines().skip(1).filter(ours).collect::<Vec<_>>().join("\n")
}

#[test]
fn int_term_and_hup_reach_the_command_whose_code_is_kept() {
    on_each_engine(|engine, home| {
        let _run = start_box(engine, home, &[]);
        for (signal, own) in [(INT, 130), (TERM, 143), (HUP, 129)] {
            let client = Client::spawn(exec_cmd(home, &[], &["sh", "-c", "echo up; exec sleep 500"]));
            client.wait_for_output("up");
            client.signal(signal);
            let output = client.output();
            assert_eq!((shell_code(&output), stderr(&output).as_str()), (own, ""), "{engine:?} {signal}");
        }
        assert_eq!(others(engine, home), "");
        assert_eq!(home.newest()["state"], "running");
    });
}

/// However early a signal comes: the command is never left alone.
#[test]
fn a_signal_during_the_start_ends_the_command_all_the_same() {
    on_each_engine(|engine, home| {
        let _run = start_box(engine, home, &[]);
        for round in 0..repeat(40) {
            let mut client = Client::spawn(exec_cmd(home, &[], &["sleep", "500"]));
            std::thread::sleep(Duration::from_millis(round as u64 * 13 % 200));
            client.signal(TERM);
            // Before it could be taken as a message, it ended the client itself.
            let status = client.wait();
            let ended =
                status.code().or(std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| 128 + signal));
            assert_eq!(ended, Some(143), "{engine:?} round {round}: {:?}", client.output());
        }
        assert_eq!(others(engine, home), "");
    });
}

#[test]
fn quit_usr1_and_usr2_are_passed_on_and_end_nothing_by_themselves() {
    on_each_engine(|engine, home| {
        let _run = start_box(engine, home, &[]);
        let script = "trap 'echo one' USR1; trap 'echo two' USR2; trap 'echo quit; exit 9' QUIT; echo set; while :; do sleep 0.1; done";
        let client = Client::spawn(exec_cmd(home, &[], &["sh", "-c", script]));
        client.wait_for_output("set");
        client.signal(USR1);
        client.wait_for_output("one");
        client.signal(12);
        client.wait_for_output("two");
        client.signal(QUIT);
        assert_eq!(code(&client.output()), 9, "{engine:?}");
    });
}

/// Only the command gets a signal; the run's own command and other execs do not.
#[test]
fn a_signal_reaches_its_own_command_only() {
    on_each_engine(|engine, home| {
        let _run = start_box(engine, home, &[]);
        let script = "trap 'echo got; exit 5' TERM; echo up; while :; do sleep 0.1; done";
        let spawn = || Client::spawn(exec_cmd(home, &[], &["sh", "-c", script]));
        let (one, two) = (spawn(), spawn());
        one.wait_for_output("up");
        two.wait_for_output("up");
        one.signal(TERM);
        let output = one.output();
        assert_eq!((code(&output), stdout(&output).as_str()), (5, "up\ngot\n"), "{engine:?}");
        assert_eq!(two.stdout_text(), "up\n");
        two.signal(TERM);
        assert_eq!(code(&two.output()), 5);
    });
}

#[test]
fn a_command_that_ignores_the_first_signal_is_killed_after_the_grace_with_every_descendant() {
    on_each_engine(|engine, home| {
        let _run = start_box(engine, home, &["--grace", "1s"]);
        let script = "trap '' TERM INT HUP; (setsid sleep 500 &) ; echo up; while :; do sleep 0.1; done";
        let client = Client::spawn(exec_cmd(home, &[], &["sh", "-c", script]));
        client.wait_for_output("up");
        client.signal(TERM);
        assert_eq!(code(&client.output()), 137, "{engine:?}");
        wait_until("nothing of it is left", || others(engine, home).is_empty());
    });
}

#[test]
fn a_second_interrupt_kills_at_once() {
    on_each_engine(|engine, home| {
        let _run = start_box(engine, home, &["--grace", "1h"]);
        let client = Client::spawn(exec_cmd(
            home,
            &[],
            &["sh", "-c", "trap 'echo got' INT; echo up; while :; do sleep 0.1; done"],
        ));
        client.wait_for_output("up");
        client.signal(INT);
        client.wait_for_output("got");
        // Within half a second it counts as the same key press: one comes after that for certain.
        wait_until("it is killed", || {
            let ended = process_state(client.pid()).is_none_or(|state| state == 'Z');
            if !ended {
                client.signal(INT);
            }
            ended
        });
        assert_eq!(code(&client.output()), 137, "{engine:?}");
        wait_until("nothing of it is left", || others(engine, home).is_empty());
    });
}

#[test]
fn a_time_out_gives_124_whatever_the_command_then_says() {
    on_each_engine(|engine, home| {
        let _run = start_box(engine, home, &["--grace", "1s"]);
        for script in [
            "exec sleep 500",
            "trap 'exit 0' TERM; while :; do sleep 0.1; done",
            "trap '' TERM; while :; do sleep 0.1; done",
        ] {
            let start = Instant::now();
            let output = exec(home, &["--timeout", "1s"], &["sh", "-c", script]);
            // A shell may say that what it waited for was ended.
            assert_eq!((code(&output), stderr(&output).contains("fosse: ")), (124, false), "{engine:?} {script}");
            assert!(start.elapsed() < Duration::from_secs(40), "{engine:?} {script}");
        }
        assert_eq!(others(engine, home), "");
        assert_eq!(code(&exec(home, &["--timeout", "1h"], &["true"])), 0);
    });
}

#[test]
fn what_a_command_leaves_behind_ends_with_it() {
    on_each_engine(|engine, home| {
        let _run = start_box(engine, home, &[]);
        let script = "sleep 501 & (setsid sleep 502 >/dev/null 2>&1 &); exit 3";
        // Apple's client gives the code up when somebody holds a stream for 3 s more.
        let lost = engine.is_apple() && home.carrier == Carrier::Client;
        assert_eq!(code(&exec(home, &[], &["sh", "-c", script])), if lost { 125 } else { 3 }, "{engine:?}");
        if !lost {
            assert_eq!(others(engine, home), "");
        }
    });
}

/// However its client dies, a command that init carries ends with everything it started.
#[test]
fn a_killed_exec_takes_its_command_along() {
    on_each_channel(|engine, home| {
        let _run = start_box(engine, home, &[]);
        let script = "trap '' TERM HUP; (setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' &); echo up; \
            while :; do sleep 1; done";
        let client = Client::spawn(exec_cmd(home, &[], &["sh", "-c", script]));
        client.wait_for_output("up");
        client.signal(crate::support::KILL);
        client.output();
        wait_until("everything it started is gone", || others(engine, home).is_empty());
    });
}

/// An init that somebody has paused holds no exec up, and starts nothing that nobody waits for any more.
#[test]
fn a_paused_run_holds_no_exec_up() {
    on_native_and_docker_with(Carrier::Init, |engine, home| {
        let _run = start_box(engine, home, &["--no-workspace"]);
        pause(home, engine, true);
        let touch = ["touch", "/tmp/ran"];
        assert_eq!(code(&exec(home, &["--timeout", "500ms"], &touch)), 124);
        let client = Client::spawn(exec_cmd(home, &[], &touch));
        wait_until("it waits", || process_state(client.pid()) == Some('S'));
        // However early it comes.
        wait_until("it ends", || {
            client.signal(TERM);
            process_state(client.pid()).is_none_or(|state| state == 'Z')
        });
        assert!(matches!(client.output().status.code(), Some(143) | None));
        pause(home, engine, false);
        assert_eq!(code(&exec(home, &[], &["test", "-e", "/tmp/ran"])), 1, "something ran that nobody waited for");
    });
}

/// Fifty at once, each with its own code, and nothing of any of them left.
#[test]
fn many_at_once_have_each_its_own_code() {
    on_native_and_docker_with(Carrier::Init, |engine, home| {
        let _run = start_box(engine, home, &[]);
        let clients: Vec<Client> = (0..50)
            .map(|n| Client::spawn(exec_cmd(home, &[], &["sh", "-c", &format!("(sleep 100 &); exit {n}")])))
            .collect();
        for (n, client) in (0..).zip(clients) {
            assert_eq!(code(&client.output()), n);
        }
        assert_eq!(others(engine, home), "");
    });
}

#[test]
fn a_reader_that_goes_away_ends_the_command_by_sigpipe() {
    on_each_engine(|engine, home| {
        let _run = start_box(engine, home, &[]);
        let mut command = exec_cmd(home, &[], &["yes"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 2];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        // The pipe is closed now, with the command still writing.
        let output = child.wait_with_output().unwrap();
        assert_eq!((code(&output), &first, stderr(&output).as_str()), (141, b"y\n", ""), "{engine:?}");
        assert_eq!(others(engine, home), "");
    });
}

/// A caller who reads nothing holds up no kill.
#[test]
fn a_caller_who_does_not_read_delays_no_time_out() {
    on_native_and_docker(|engine, home| {
        let _run = start_box(engine, home, &["--grace", "1s"]);
        let mut command = exec_cmd(home, &["--timeout", "1s"], &["yes"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let unread = child.stdout.take().unwrap();
        let output = child.wait_with_output().unwrap();
        drop(unread);
        assert_eq!(code(&output), 124, "{output:?}");
        assert_eq!(others(engine, home), "");
    });
}

/// Whose client is killed has no code, and what it started is not left alone.
#[test]
fn a_killed_engine_client_leaves_no_code_and_no_command() {
    on_each_engine_with(Carrier::Client, |engine, home| {
        let _run = start_box(engine, home, &[]);
        let client = Client::spawn(exec_cmd(home, &[], &["sh", "-c", "echo up; exec sleep 500"]));
        client.wait_for_output("up");
        for (pid, _) in processes::children(client.pid()) {
            kill(pid, KILL);
        }
        let output = client.output();
        assert_eq!((code(&output), stdout(&output).as_str()), (125, "up\n"), "{engine:?} {output:?}");
        assert!(stderr(&output).contains("fosse: following the command failed: "), "{output:?}");
        assert_eq!(others(engine, home), "");
    });
}

/// The engine does not start the command, and does not say that it will not.
#[test]
fn an_engine_that_hangs_delays_no_time_out() {
    on_docker_with(Carrier::Client, |home| {
        let _run = start_box(Engine::Docker, home, &["--grace", "1s"]);
        let tool = home.script("docker", "case $1 in exec) exec sleep 999 ;; *) exec docker \"$@\" ;; esac");
        let mut command = exec_cmd(home, &["--timeout", "1s"], &["true"]);
        command.env("FOSSE_DOCKER", &tool);
        let output = finish(command);
        assert_eq!((code(&output), stdout(&output).as_str()), (124, ""), "{output:?}");
        let mut command = exec_cmd(home, &["-e", "HOME=/tmp"], &["true"]);
        command.env("FOSSE_DOCKER", &tool);
        let client = Client::spawn(command);
        wait_until("the engine is asked", || home.processes().iter().any(|process| process.contains("sleep 999")));
        client.signal(TERM);
        let output = client.output();
        assert_eq!(code(&output), 125, "{output:?}");
        assert!(stderr(&output).contains("fosse: following the command failed: "), "{output:?}");
        let left = std::fs::read_dir(home.state().join("runs").join(home.newest_id())).unwrap().flatten();
        let left = left.map(|entry| entry.file_name()).filter(|name| name.to_string_lossy().starts_with("env-"));
        assert_eq!(left.count(), 0);
    });
}

/// `fosse exec` in a pid namespace of its own: it sees nothing of the container's processes, as with an engine on
/// another machine.
fn blind(home: &Home, options: &[&str], command: &[&str]) -> Option<Output> {
    let apart = ["--fork", "--pid", "--mount-proc", "--kill-child"];
    if !Command::new("unshare").args(apart).arg("true").output().is_ok_and(|output| output.status.success()) {
        left_out("a pid namespace of its own needs unshare and root");
        return None;
    }
    let plain = exec_cmd(home, options, command);
    let mut command = Command::new("unshare");
    command.args(apart).arg(fosse()).args(plain.get_args()).current_dir(home.workspace()).stdin(Stdio::null());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Some(finish(command))
}

/// Where the host does not show the container's processes, the image's shell passes signals on. (Podman works on
/// processes itself, and would find none of the container either.)
#[test]
fn signals_find_their_way_where_the_host_shows_nothing() {
    on_docker_with(Carrier::Client, |home| {
        let _run = start_box(Engine::Docker, home, &["--grace", "3s", "--user", "1234"]);
        let blind = |script: &str| blind(home, &["--timeout", "5s"], &["sh", "-c", script]);
        let Some(output) = blind("trap 'echo bye; exit 0' TERM; while :; do sleep 0.1; done") else { return };
        assert_eq!((code(&output), stdout(&output).as_str(), stderr(&output).as_str()), (124, "bye\n", ""));
        let output = blind("trap '' TERM; (setsid sleep 500 &); while :; do sleep 0.1; done").unwrap();
        assert_eq!((code(&output), stderr(&output).as_str()), (124, ""));
        // What has sent the last signal inside may be on its way out.
        wait_until("nothing of it is left", || others(Engine::Docker, home).is_empty());
    });
}

/// And where there is no shell either, that is said; nothing hangs, and the run takes along what is left.
#[test]
fn without_any_way_to_signal_the_client_alone_is_ended() {
    on_docker_with(Carrier::Client, |home| {
        let no_shell = home.write("no-shell", "");
        let mount = format!("{}:/usr/bin/bash:ro", no_shell.display());
        let args =
            ["run", "--runtime", "docker", "--image", "fosse-test:glibc", "-n", "box", "--grace", "1s", "-m", &mount];
        let run = Client::spawn(home.cmd([&args[..], &["--", "tail", "-f", "/dev/null"]].concat()));
        wait_until("it runs", || home.list().first().is_some_and(|record| record["state"] == "running"));
        let name = format!("fosse-{}", home.newest_id());
        let Some(output) = blind(home, &["--timeout", "1s"], &["sleep", "500"]) else { return };
        assert_eq!((code(&output), stdout(&output).as_str()), (124, ""), "{output:?}");
        assert!(stderr(&output).contains("fosse: passing TERM to the command failed: "), "{output:?}");
        assert!(Engine::Docker.says(["top", &name]).contains("sleep 500"));
        assert_eq!(code(&home.fosse(["stop", "-q", "box"])), 0);
        run.output();
        home.assert_nothing_left();
    });
}

/// Also one that ends only because the run does: its end is its own as long as it ends by itself.
#[test]
fn an_exec_that_ends_as_its_run_ends_has_its_own_code() {
    on_each_engine_with(Carrier::Init, |engine, home| {
        // There another program executes it, and kills it with the container.
        if matches!(engine, Engine::Apple(_)) {
            return;
        }
        for ends in ["stop", "by itself"] {
            let run = home.start(engine, &["-n", "box"], "while [ ! -e go ]; do sleep 0.05; done");
            let script = "trap 'exit 5' TERM; (sleep 500 &) ; echo up; while :; do sleep 0.05; done";
            let clients = [
                (5, Client::spawn(exec_cmd(home, &[], &["sh", "-c", script]))),
                (143, Client::spawn(exec_cmd(home, &[], &["sh", "-c", "echo up; exec sleep 500"]))),
                (
                    137,
                    Client::spawn(exec_cmd(
                        home,
                        &[],
                        &["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"],
                    )),
                ),
            ];
            clients.iter().for_each(|(_, client)| client.wait_for_output("up"));
            if ends == "stop" {
                assert_eq!(code(&finish(home.cmd(["stop", "box"]))), 0);
            } else {
                std::fs::write(home.workspace().join("go"), "").unwrap();
            }
            for (wanted, client) in clients {
                let output = client.output();
                assert_eq!(code(&output), wanted, "{engine:?} {ends}: {output:?}");
            }
            run.output();
            std::fs::remove_file(home.workspace().join("go")).unwrap_or_default();
        }
    });
}
