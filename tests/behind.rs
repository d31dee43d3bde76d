//! What others do to a run's container behind fosse's back, and what the engine itself does.

use std::fs;
use std::process::{Child, Command, Stdio};

use crate::support::{Client, Engine, Home, IMAGE, TERM, code, on_docker, on_each_engine, stdout, wait_until};

fn container(home: &Home) -> String {
    format!("fosse-{}", home.newest_id())
}

#[test]
fn a_strangers_kill_and_stop_give_the_right_code() {
    on_each_engine(|engine, home| {
        for (verb, wanted) in [(&["kill"][..], 137), (&["stop", "--time", "5"], 143)] {
            let client = home.start(engine, &["--network", "private"], "exec sleep 1000");
            let mut args = verb.to_vec();
            let name = container(home);
            args.push(&name);
            assert!(engine.call(args).status.success());
            assert_eq!(code(&client.output()), wanted, "{engine:?} {verb:?}");
            let record = home.newest();
            assert_eq!(
                (record["state"].as_str(), record["reason"].as_str()),
                (Some("failed"), Some("exited")),
                "{record}"
            );
            assert_eq!(
                (record["exit_code"].as_i64(), record["signal"].is_null()),
                (Some(wanted.into()), true),
                "{record}"
            );
            home.assert_nothing_left();
        }
    });
}

/// X8: `not found` means ended; the code is right or honestly unknown, never 0.
#[test]
fn x8_a_container_removed_by_a_stranger_is_an_end() {
    on_each_engine(|engine, home| {
        let client = home.start(engine, &[], "exec sleep 1000");
        assert!(engine.call(["rm", "--force", &container(home)]).status.success());
        let own = code(&client.output());
        let record = home.newest();
        assert_eq!(record["state"], "failed", "{engine:?} {record}");
        match record["exit_code"].as_i64() {
            Some(137) => assert_eq!((own, record["reason"].as_str()), (137, Some("exited")), "{record}"),
            None => assert_eq!((own, record["reason"].as_str()), (125, Some("lost")), "{record}"),
            other => panic!("{other:?} {record}"),
        }
        home.assert_nothing_left();
    });
}

/// The engine's client may be killed; the command goes on, and its end and output are still known.
#[test]
fn a_killed_engine_client_costs_neither_exit_code_nor_output() {
    on_each_engine(|engine, home| {
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

/// A docker engine of a test's own.
struct OwnEngine {
    child: Option<Child>,
    dir: std::path::PathBuf,
}

impl OwnEngine {
    fn start(home: &Home) -> Option<Self> {
        if Command::new("dockerd").arg("--version").output().is_err() || fosse::sys::process::effective_ids().0 != 0 {
            assert!(std::env::var("FOSSE_TEST_STRICT").is_err(), "an engine of its own needs dockerd and root");
            eprintln!("left out: an engine of its own needs dockerd and root");
            return None;
        }
        let mut engine = OwnEngine { child: None, dir: home.dir.join("own-engine") };
        fs::create_dir(&engine.dir).unwrap();
        engine.up();
        let image = Command::new("docker").args(["save", IMAGE]).stdout(Stdio::piped()).spawn().unwrap();
        let load = engine.docker().arg("load").stdin(image.stdout.unwrap()).output().unwrap();
        assert!(load.status.success(), "{load:?}");
        Some(engine)
    }

    fn host(&self) -> String {
        format!("unix://{}/sock", self.dir.display())
    }

    fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", self.host());
        command
    }

    fn up(&mut self) {
        let at = |name: &str| self.dir.join(name).display().to_string();
        let log = fs::File::create(self.dir.join("log")).unwrap();
        let args = [
            "--data-root",
            &at("data"),
            "--exec-root",
            &at("exec"),
            "--pidfile",
            &at("pid"),
            "-H",
            &self.host(),
            "--bridge=none",
            "--iptables=false",
        ];
        let child =
            Command::new("dockerd").args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.child = Some(child);
        wait_until("the engine answers", || {
            self.docker().arg("version").output().is_ok_and(|output| output.status.success())
        });
    }

    fn down(&mut self, signal: i32) {
        if let Some(mut child) = self.child.take() {
            crate::support::kill(i32::try_from(child.id()).unwrap(), signal);
            child.wait().unwrap();
            fs::remove_file(self.dir.join("pid")).unwrap_or_default();
        }
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        if self.child.is_none() {
            return;
        }
        // Its containers first, and its containerd with it.
        let ids = self.docker().args(["ps", "-aq"]).output().map(|output| output.stdout).unwrap_or_default();
        for id in String::from_utf8_lossy(&ids).split_whitespace() {
            self.docker().args(["rm", "-f", id]).output().map(drop).unwrap_or_default();
        }
        self.down(TERM);
        let needle = self.dir.display().to_string();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let cmdline = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            if cmdline.contains(&needle) && (cmdline.contains("containerd")) {
                Command::new("kill").arg("-9").arg(entry.file_name()).output().map(drop).unwrap_or_default();
            }
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for point in mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|point| point.contains(&needle)) {
            Command::new("umount").args(["-l", point]).output().map(drop).unwrap_or_default();
        }
    }
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
            let left = engine.docker().args(["ps", "-aq"]).output().unwrap();
            assert_eq!(stdout(&left), "", "after signal {signal}");
        }
    });
}

/// An engine that stays away: the end is unknown and said to be, in bounded time.
#[test]
fn an_engine_that_goes_away_for_good_gives_125_and_lost() {
    on_docker(|home| {
        let Some(mut engine) = OwnEngine::start(home) else { return };
        let mut command =
            home.run_cmd(Engine::Docker, &["--network", "none"], &["sh", "-c", "echo ready; exec sleep 1000"]);
        command.env("DOCKER_HOST", engine.host()).env("FOSSE_CHANGE_TIMEOUT", "2s");
        let client = Client::spawn(command);
        client.wait_for_output("ready");
        engine.down(TERM);
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
