//! Signals to the client of a run.

use std::process::{Command, Stdio};

use crate::support::{
    CONT, Client, Engine, HUP, INT, QUIT, TERM, TSTP, USR1, code, on_docker, on_each_engine, on_native,
    on_native_and_docker, process_state, repeat, shell_code, stdout, wait_until,
};

/// X3 X9: a signal to the client is passed on, ends as `stopped`, and the exit code is the command's own.
#[test]
fn x3_x9_int_term_and_hup_reach_the_command_whose_code_is_kept() {
    on_each_engine(|engine, home| {
        for (signal, own) in [(INT, 130), (TERM, 143), (HUP, 129)] {
            let client = home.start(engine, &[], "exec sleep 1000");
            client.signal(signal);
            let output = client.output();
            assert_eq!(shell_code(&output), own, "{engine:?} {signal} {output:?}");
            let record = home.newest();
            assert_eq!(
                (record["state"].as_str(), record["reason"].as_str(), record["exit_code"].as_i64()),
                (Some("stopped"), Some("stopped"), Some(own.into())),
                "{record}"
            );
            home.assert_nothing_left();
        }
    });
}

#[test]
fn a_server_that_ends_cleanly_on_term_gives_0() {
    on_each_engine(|engine, home| {
        let client = home.start(engine, &[], "trap 'echo bye; exit 0' TERM; while :; do sleep 0.1; done");
        client.signal(TERM);
        let output = client.output();
        assert_eq!((code(&output), stdout(&output).as_str()), (0, "ready\nbye\n"), "{engine:?}");
        assert_eq!(home.newest()["state"], "stopped");
    });
}

#[test]
fn quit_usr1_and_usr2_are_passed_on_and_end_nothing_by_themselves() {
    on_each_engine(|engine, home| {
        let script = "trap 'echo one' USR1; trap 'echo two' USR2; trap 'echo quit; exit 9' QUIT; echo set; while :; do sleep 0.1; done";
        let client = home.start(engine, &[], script);
        client.wait_for_output("set");
        client.signal(USR1);
        client.wait_for_output("one");
        client.signal(12);
        client.wait_for_output("two");
        client.signal(QUIT);
        let output = client.output();
        assert_eq!(code(&output), 9, "{engine:?} {output:?}");
        assert_eq!(home.newest()["reason"], "exited");
    });
}

#[test]
fn a_command_that_ignores_the_first_signal_is_killed_after_the_grace_with_every_descendant() {
    on_each_engine(|engine, home| {
        let script = "trap '' TERM INT HUP; (setsid sleep 1000 &) ; while :; do sleep 0.1; done";
        let client = home.start(engine, &["--grace", "1s"], script);
        client.signal(TERM);
        let output = client.output();
        assert_eq!(code(&output), 137, "{engine:?} {output:?}");
        assert_eq!(home.newest()["state"], "stopped");
        home.assert_nothing_left();
    });
}

#[test]
fn a_second_interrupt_kills_at_once() {
    on_each_engine(|engine, home| {
        let client = home.start(engine, &["--grace", "1h"], "trap 'echo got' INT; while :; do sleep 0.1; done");
        client.signal(INT);
        client.wait_for_output("got");
        // Within half a second it counts as the same key press: one comes after that for certain.
        wait_until("it is killed", || {
            client.signal(INT);
            process_state(client.pid()).is_none_or(|state| state == 'Z') || !home.list()[0]["stopped_at"].is_null()
        });
        assert_eq!(code(&client.output()), 137, "{engine:?}");
        assert_eq!(home.newest()["state"], "stopped");
    });
}

#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    on_native_and_docker(|engine, home| {
        let command = home.run_cmd(engine, &[], &["sh", "-c", "echo ready; exec sleep 1000"]);
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' HUP INT; exec \"$@\"", "sh"]).arg(home.program()).args(command.get_args());
        home.belongs(&mut shell);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell.current_dir(home.workspace()).stdin(Stdio::null());
        let client = Client::spawn(shell);
        client.wait_for_output("ready");
        client.signal(HUP);
        client.signal(INT);
        // TERM is not ignored: it arrives after the other two and is the one that counts.
        client.signal(TERM);
        assert_eq!(code(&client.output()), 143);
    });
}

/// Ctrl-Z: the command stands still with its client, and goes on with it.
#[test]
fn tstp_stops_the_command_with_fosse_and_cont_continues_both() {
    on_each_engine(|engine, home| {
        let client = home.start(engine, &[], "while :; do date +%s.%N >/workspace/tick; sleep 0.05; done");
        let tick = || std::fs::read_to_string(home.workspace().join("tick")).unwrap_or_default();
        wait_until("it ticks", || !tick().is_empty());
        client.signal(TSTP);
        wait_until("the client stands still", || process_state(client.pid()) == Some('T'));
        // It would tick twenty times in a second; the file is the only thing to look at. Its init may hear of it a
        // little later than the client stands still.
        let mut before = tick();
        wait_until("the command stands still", || {
            std::thread::sleep(std::time::Duration::from_secs(1));
            let last = std::mem::replace(&mut before, tick());
            last == before
        });
        client.signal(CONT);
        wait_until("it ticks again", || tick() != before);
        client.signal(TERM);
        assert_eq!(code(&client.output()), 143, "{engine:?}");
        home.assert_nothing_left();
    });
}

/// A signal before the command has started: 128+N, and no exit code is claimed.
#[test]
fn a_signal_before_the_start_gives_128_and_its_number_and_leaves_nothing() {
    on_docker(|home| {
        let slow = home.script(
            "docker",
            "echo called >>\"$0.calls\"; case $1 in create|run) touch \"$0.creating\"; sleep 2;; esac; exec docker \"$@\"",
        );
        for (signal, wanted) in [(INT, 130), (TERM, 143), (HUP, 129)] {
            let creating = home.dir.join("docker.creating");
            std::fs::remove_file(&creating).unwrap_or_default();
            let mut command = home.run_cmd(Engine::Docker, &["--network", "private"], &["touch", "/workspace/ran"]);
            let client = Client::spawn({
                command.env("FOSSE_DOCKER", &slow);
                command
            });
            wait_until("it creates", || creating.exists());
            client.signal(signal);
            let output = client.output();
            assert_eq!(code(&output), wanted, "{output:?}");
            let record = home.newest();
            assert_eq!((record["state"].as_str(), record["exit_code"].is_null()), (Some("stopped"), true), "{record}");
            assert!(!home.workspace().join("ran").exists());
            home.assert_nothing_left();
        }
    });
}

/// However early: the run ends at once, nothing of it stays, and the record says what the caller was told.
#[test]
fn a_signal_while_a_sandbox_is_made_ends_the_run_and_leaves_nothing() {
    on_native(|home| {
        for round in 0..repeat(100) {
            let client = Client::spawn(home.run_cmd(Engine::Native, &["--network", "none"], &["sleep", "1000"]));
            let runs = || std::fs::read_dir(home.state().join("runs")).into_iter().flatten().flatten();
            let is_run = |name: std::ffi::OsString| !name.to_string_lossy().starts_with('.');
            wait_until("there is a run", || runs().filter(|run| is_run(run.file_name())).count() > round);
            // From before the first step to after the last.
            std::thread::sleep(std::time::Duration::from_millis(round as u64 % 25));
            client.signal(TERM);
            let output = client.output();
            assert_eq!((code(&output), stdout(&output).as_str()), (143, ""), "round {round}: {output:?}");
            let record = home.newest();
            assert_eq!((record["state"].as_str(), record["reason"].as_str()), (Some("stopped"), Some("stopped")));
            let wanted = if record["started_at"].is_null() { None } else { Some(143) };
            assert_eq!(record["exit_code"].as_i64(), wanted, "{record}");
            home.assert_nothing_left();
        }
    });
}
