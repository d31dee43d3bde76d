//! A daemon that has not all it needs: told where the engine is, followed by another, helped by a second start.

use std::fs;
use std::path::Path;

use crate::support::daemon::daemons;
use crate::support::{
    Carrier, Client, Engine, Home, KILL, USR1, code, finish, kill, on_docker_with, stderr, wait_until,
};

#[test]
fn a_daemon_without_the_engine_on_its_path_learns_where_it_is_from_the_owners() {
    on_docker_with(Carrier::Client, |home| {
        let engine = Engine::Docker;
        let mut bare = home.cmd(["daemon", "start"]);
        bare.env("PATH", home.dir.join("nothing"));
        assert_eq!(code(&finish(bare)), 0);
        let mut command = home.run_cmd(engine, &["--network", "private"], &["sh", "-c", "echo ready; sleep 1000"]);
        command.env("FOSSE_DAEMON", "auto");
        let client = Client::spawn(command);
        client.wait_for_output("ready\n");
        wait_until("it has a lease", || home.daemon_status()["leases"] == 1);
        client.signal(KILL);
        drop(client);
        wait_until("nothing is left", || home.objects(engine).is_empty());
        wait_until("the record says so", || !home.list()[0]["stopped_at"].is_null());
        assert_eq!(home.newest()["reason"], "orphaned");
    });
}

#[test]
fn what_waits_for_an_engine_is_told() {
    on_docker_with(Carrier::Client, |home| {
        let tool = home.script("bin/docker", "case \"$1\" in context) echo; ;; *) exit 1 ;; esac");
        let command = home.run_cmd(Engine::Docker, &[], &["sh", "-c", "echo ready; sleep 1000"]);
        let client = Client::spawn(command);
        client.wait_for_output("ready\n");
        client.signal(KILL);
        drop(client);
        let mut start = home.cmd(["daemon", "start"]);
        start.env("FOSSE_DOCKER", &tool);
        assert_eq!(code(&finish(start)), 0);
        wait_until("it says what it waits for", || {
            let status = home.daemon_status();
            status["waiting"] == 1 && status["waiting_for"].is_string()
        });
        assert_eq!(code(&home.daemon(["restart"])), 0);
        wait_until("it is finished, and nothing waits", || {
            let status = home.daemon_status();
            status["finished"] == 1 && status["waiting"] == 0
        });
    });
}

#[test]
fn a_start_that_makes_no_progress_is_helped_or_ended() {
    let home = Home::new();
    let program = home.script("sleeps", "exec sleep 987654");
    let mut command = home.cmd(["daemon", "start"]);
    command.env("FOSSE_EXECUTABLE", &program);
    let output = finish(command);
    assert_eq!(code(&output), 1, "{output:?}");
    assert!(stderr(&output).contains("hint: is it fosse?"), "{output:?}");
    wait_until("nothing of it is left", || home.processes().is_empty());
}

#[test]
fn a_log_that_is_no_file_holds_nobody_up() {
    let home = Home::new();
    assert_eq!(code(&home.daemon(["start"])), 0);
    assert_eq!(code(&home.daemon(["stop"])), 0);
    let log = home.state().join("daemon.log");
    fs::remove_file(&log).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&log).status().unwrap();
    assert!(made.success());
    assert_eq!(code(&home.daemon(["start"])), 0);
    assert!(home.daemon_status()["log"].is_null());
    assert_eq!(daemons(&home).len(), 1);
}

#[test]
fn with_too_few_descriptors_it_says_so_and_does_not_serve() {
    let home = Home::new();
    let script = "ulimit -n 20; exec \"$0\" daemon start";
    let mut command = home.cmd([""; 0]);
    let program = command.get_program().to_owned();
    let envs: Vec<_> =
        command.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
    command = std::process::Command::new("sh");
    for (name, value) in envs {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.args(["-c", script]).arg(Path::new(&program)).current_dir(home.workspace());
    let output = finish(command);
    assert_eq!(code(&output), 1, "{output:?}");
    assert!(stderr(&output).contains("hint: raise the limit on open files"), "{output:?}");
    // What has said that may take a moment to go.
    wait_until("none is left", || daemons(&home).is_empty());
}

#[test]
fn a_damaged_name_of_the_state_directory_is_said_to_be_that() {
    let home = Home::new();
    assert_eq!(code(&home.daemon(["start"])), 0);
    assert_eq!(code(&home.daemon(["stop"])), 0);
    fs::write(home.state().join("instance"), "").unwrap();
    for (args, expected) in [(["run", "true"], 125), (["daemon", "start"], 1), (["clean", "networks"], 1)] {
        let output = home.fosse(args);
        assert_eq!(code(&output), expected, "{args:?} {output:?}");
        assert!(stderr(&output).contains("is damaged") && stderr(&output).contains("hint: "), "{args:?} {output:?}");
    }
    let doctor = home.fosse(["doctor"]);
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("problem  name of the state directory"), "{doctor:?}");
}

#[test]
fn signals_that_nobody_means_do_not_end_it() {
    let home = Home::new();
    assert_eq!(code(&home.daemon(["start"])), 0);
    let pid = home.daemon_pid();
    for signal in [USR1, 12] {
        kill(pid, signal);
        assert_eq!(home.daemon_pid(), pid);
    }
}
