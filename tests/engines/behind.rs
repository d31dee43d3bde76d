//! What others do to a run's container behind fosse's back, and what the engine itself does.

use std::fs;

use crate::support::own_engine::OwnEngine;
use crate::support::{
    Carrier, Client, Engine, Home, TERM, code, on_docker, on_docker_with, on_each_engine, on_each_real_engine,
    on_each_real_engine_with, stdout, wait_until,
};

fn container(home: &Home) -> String {
    format!("fosse-{}", home.newest_id())
}

/// What the record says of a command that a signal ended: the engine's client does not know for certain.
fn ended(home: &Home) -> &'static str {
    if home.carrier == Carrier::Init { "signaled" } else { "exited" }
}

#[test]
fn a_strangers_kill_and_stop_give_the_right_code() {
    on_each_engine(|engine, home| {
        for (verb, wanted) in [(&["kill"][..], 137), (&["stop", "--time", "5"], 143)] {
            let network = if engine.is_native() { "none" } else { "private" };
            let client = home.start(engine, &["--network", network], "exec sleep 1000");
            if engine.is_native() {
                // Who may signal the place's init from the host.
                crate::support::kill(home.init_of(engine), wanted - 128);
            } else {
                assert!(home.call(engine, [verb, &[&container(home)]].concat()).status.success());
            }
            assert_eq!(code(&client.output()), wanted, "{engine:?} {verb:?}");
            let record = home.newest();
            assert_eq!(
                (record["state"].as_str(), record["reason"].as_str()),
                (Some("failed"), Some(ended(home))),
                "{record}"
            );
            let signal = if home.carrier == Carrier::Init { Some(i64::from(wanted) - 128) } else { None };
            assert_eq!((record["exit_code"].as_i64(), record["signal"].as_i64()), (Some(wanted.into()), signal));
            home.assert_nothing_left();
        }
    });
}

/// X8: `not found` means ended; the code is right or honestly unknown, never 0.
#[test]
fn x8_a_container_removed_by_a_stranger_is_an_end() {
    on_each_real_engine(|engine, home| {
        let client = home.start(engine, &[], "exec sleep 1000");
        assert!(engine.call(["rm", "--force", &container(home)]).status.success());
        let own = code(&client.output());
        let record = home.newest();
        assert_eq!(record["state"], "failed", "{engine:?} {record}");
        match record["exit_code"].as_i64() {
            Some(code) if code != 0 => {
                assert_eq!((i64::from(own), record["reason"].as_str()), (code, Some(ended(home))), "{record}")
            }
            None => assert_eq!((own, record["reason"].as_str()), (125, Some("lost")), "{record}"),
            other => panic!("{other:?} {record}"),
        }
        home.assert_nothing_left();
    });
}

/// The engine's client may be killed; the command goes on, and its end and output are still known.
#[test]
fn a_killed_engine_client_costs_neither_exit_code_nor_output() {
    on_each_real_engine_with(Carrier::Client, |engine, home| {
        let client = home.start(engine, &[], "while ! test -e /workspace/go; do sleep 0.1; done; echo after; exit 9");
        let tool = tool_of(&client, engine);
        crate::support::kill(tool, 9);
        wait_until("it is gone", || {
            fs::metadata(format!("/proc/{tool}")).is_err() || crate::support::process_state(tool) == Some('Z')
        });
        home.write("ws/go", "");
        let output = client.output();
        let record = home.newest();
        assert_eq!(
            (code(&output), record["exit_code"].as_i64(), record["reason"].as_str()),
            (9, Some(9), Some("exited")),
            "{engine:?} {record}"
        );
        assert_eq!(stdout(&home.logs(&home.newest_id())), "ready\nafter\n", "{engine:?}");
        home.assert_nothing_left();
    });
}

/// The process of the engine's tool that is attached for a client.
fn tool_of(client: &Client, engine: Engine) -> i32 {
    let children = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", client.pid())).unwrap().flatten();
        tasks
            .flat_map(|task| {
                fs::read_to_string(task.path().join("children"))
                    .unwrap_or_default()
                    .split_whitespace()
                    .map(|pid| pid.parse().unwrap())
                    .collect::<Vec<i32>>()
            })
            .collect::<Vec<i32>>()
    };
    let mut found = None;
    wait_until("the attached client runs", || {
        found = children().into_iter().find(|pid| {
            let cmdline = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            cmdline.contains(engine.name()) && cmdline.contains("start")
        });
        found.is_some()
    });
    found.unwrap()
}

/// The right code or an honest unknown, never a success, and nothing left.
#[test]
fn an_engine_that_is_restarted_under_a_run_gives_an_honest_end() {
    on_docker(|home| {
        let Some(mut engine) = OwnEngine::start(home) else { return };
        for signal in [TERM, 9] {
            let mut command =
                home.run_cmd(Engine::Docker, &["--network", "none"], &["sh", "-c", "echo ready; exec sleep 1000"]);
            command.env("DOCKER_HOST", engine.host());
            let client = Client::spawn(command);
            client.wait_for_output("ready");
            engine.down(signal);
            engine.up();
            let output = client.output();
            let record = home.newest();
            assert_eq!(record["state"], "failed", "{record}");
            match record["exit_code"].as_i64() {
                None => assert_eq!((code(&output), record["reason"].as_str()), (125, Some("lost")), "{record}"),
                Some(own) => assert!(own != 0 && i64::from(code(&output)) == own, "{record} {output:?}"),
            }
            assert_eq!(stdout(&home.logs(&home.newest_id())), "ready\n");
            let mut clean = home.cmd(["clean"]);
            clean.env("DOCKER_HOST", engine.host());
            assert_eq!(code(&crate::support::finish(clean)), 0);
            // It removes them by itself, or did before it was asked.
            wait_until("nothing is left", || stdout(&engine.docker().args(["ps", "-aq"]).output().unwrap()).is_empty());
        }
    });
}

/// An engine that stays away: the end is unknown and said to be, in bounded time.
#[test]
fn an_engine_that_goes_away_for_good_gives_125_and_lost() {
    on_docker_with(Carrier::Client, |home| {
        let Some(mut engine) = OwnEngine::start(home) else { return };
        let mut command =
            home.run_cmd(Engine::Docker, &["--network", "none"], &["sh", "-c", "echo ready; exec sleep 1000"]);
        command.env("DOCKER_HOST", engine.host()).env("FOSSE_CHANGE_TIMEOUT", "8s");
        let client = Client::spawn(command);
        client.wait_for_output("ready");
        // By KILL: asked politely, it would end its containers and tell their codes.
        engine.down(9);
        assert_eq!(code(&client.output()), 125);
        let record = home.newest();
        assert_eq!((record["reason"].as_str(), record["exit_code"].is_null()), (Some("lost"), true), "{record}");
        engine.up();
        let mut clean = home.cmd(["clean"]);
        clean.env("DOCKER_HOST", engine.host());
        assert_eq!(code(&crate::support::finish(clean)), 0);
        assert_eq!(stdout(&engine.docker().args(["ps", "-aq"]).output().unwrap()), "");
    });
}
