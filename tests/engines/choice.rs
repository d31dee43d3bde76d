//! Engines that hang, lie or vanish, played by scripts; and how few questions a well one is asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{
    Carrier, Client, Engine, Home, IMAGE, code, finish, on_docker, on_docker_with, on_native, on_native_and_docker,
    snapshot, stderr, stdout, wait_until,
};

/// A tool that hangs, ignores TERM, and has a child that holds its pipes.
const HANGS: &str = "echo noise >&2; trap '' TERM; sleep 1000 & while :; do sleep 1000; done";

/// A stand-in for both engines.
fn with_engine<'a>(command: &'a mut Command, tool: &Path) -> &'a mut Command {
    command
        .env("FOSSE_DOCKER", tool)
        .env("FOSSE_PODMAN", tool)
        .env("FOSSE_QUERY_TIMEOUT", "700ms")
        .env("FOSSE_CHANGE_TIMEOUT", "700ms")
}

fn fosse_with(home: &Home, tool: &Path, args: &[&str]) -> std::process::Output {
    let mut command = home.cmd(args);
    with_engine(&mut command, tool);
    finish(command)
}

/// A run in the record whose owner is dead, made by hand from a real one.
fn forge(home: &Home, id: &str, name: &str, state: &str) {
    let runs = home.state().join("runs");
    let from = runs.join("0123456789ab");
    let to = runs.join(id);
    fs::create_dir(&to).unwrap();
    for file in ["owner.lock", "output.log"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(from.join("record.json")).unwrap()).unwrap();
    record["id"] = id.into();
    record["name"] = name.into();
    record["state"] = state.into();
    if state == "running" {
        for key in ["stopped_at", "exit_code", "reason"] {
            record[key] = serde_json::Value::Null;
        }
    }
    fs::write(to.join("record.json"), record.to_string()).unwrap();
}

/// A home with records that need no engine to be made: one real directory's worth, written by hand.
fn home_with_record() -> Home {
    let home = Home::new();
    let dir = home.state().join("runs/0123456789ab");
    for path in [home.state(), home.state().join("runs"), dir.clone(), home.state().join("names")] {
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    }
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let record = serde_json::json!({
        "schema": 1, "id": "0123456789ab", "name": "first", "state": "stopped", "runtime": "docker",
        "engine": {"tool": "docker", "endpoint": "unix:///var/run/docker.sock"}, "io": "engine", "image": "i",
        "command": ["true"], "workspace": null, "user": "image", "network": "open", "interactive": false, "labels": {},
        "created_at": "2026-01-01T00:00:00Z", "started_at": "2026-01-01T00:00:01Z", "stopped_at": "2026-01-01T00:00:02Z",
        "exit_code": 0, "signal": null, "reason": "exited", "error": null, "container_id": null, "network_id": null,
        "keep": false, "timeout_ms": null, "log_bytes": 0, "log_truncated": false, "machine_id": machine.trim(), "boot_id": "b"
    });
    fs::write(dir.join("record.json"), record.to_string()).unwrap();
    fs::write(dir.join("owner.lock"), "").unwrap();
    fs::write(dir.join("output.log"), "").unwrap();
    fs::write(home.state().join("instance"), "0123456789abcdef\n").unwrap();
    home
}

/// D5 D6: no verb hangs with its engine, nothing of the tool is left, and no record changes.
#[test]
fn d5_d6_every_verb_ends_by_its_deadline_when_the_engine_hangs() {
    let home = home_with_record();
    forge(&home, "aaaaaaaaaaaa", "orphan", "running");
    let hung = home.script("hung", HANGS);
    let before = snapshot(&home.state().join("runs"));
    let verbs: [(&[&str], i32); 9] = [
        (&["run", "--runtime", "docker", "--image", "i", "--", "true"], 125),
        (&["run", "--image", "i", "--", "true"], 125),
        (&["stop", "orphan"], 1),
        (&["destroy", "orphan"], 1),
        (&["destroy", "-f", "orphan"], 1),
        (&["clean"], 1),
        (&["clean", "networks"], 1),
        (&["status"], 0),
        (&["doctor"], 1),
    ];
    for (args, wanted) in verbs {
        let start = Instant::now();
        let mut command = home.cmd(args);
        with_engine(&mut command, &hung);
        let output = finish(command);
        assert_eq!(code(&output), wanted, "{args:?} {output:?}");
        assert!(start.elapsed() < Duration::from_secs(60), "{args:?} took {:?}", start.elapsed());
        if wanted != 0 && args[0] != "doctor" {
            let text = stderr(&output);
            assert!(text.contains("no answer within 700ms and killed"), "{args:?} {text}");
        }
        wait_until("the tool and its children are dead", || home.processes().is_empty());
    }
    let status = fosse_with(&home, &hung, &["status"]);
    assert!(stdout(&status).contains("docker   unknown") && stdout(&status).contains("1 orphaned"), "{status:?}");
    fs::remove_dir_all(home.state().join("runs/0123456789ab")).unwrap_or_default();
    let after: Vec<_> = snapshot(&home.state().join("runs"))
        .into_iter()
        .filter(|(path, _)| path.to_string_lossy().contains("aaaa"))
        .collect();
    let before: Vec<_> = before.into_iter().filter(|(path, _)| path.to_string_lossy().contains("aaaa")).collect();
    assert_eq!(after, before, "an engine that does not answer changed a record");
}

#[test]
fn an_engine_that_hangs_in_one_call_ends_the_run_with_an_error_that_names_it() {
    on_docker(|home| {
        let verbs: &[&str] = match home.carrier {
            Carrier::Init => &["run", "network"],
            Carrier::Client => &["create", "start", "network"],
        };
        for verb in verbs {
            let tool = home.script(
                &format!("tool-{verb}/docker"),
                &format!("case $1 in {verb}) {HANGS};; esac; exec docker \"$@\""),
            );
            let mut command = home.run_cmd(Engine::Docker, &["--network", "private"], &["true"]);
            command.env("FOSSE_DOCKER", &tool).env("FOSSE_CHANGE_TIMEOUT", "1500ms");
            let output = finish(command);
            assert_eq!(code(&output), 125, "{verb} {output:?}");
            let text = stderr(&output);
            assert!(text.contains("1s500ms"), "{verb}: {text}");
            let record = home.newest();
            assert_eq!(
                (record["state"].as_str(), record["reason"].as_str()),
                (Some("failed"), Some("start_failed")),
                "{record}"
            );
            wait_until("the tool is dead", || home.processes().is_empty());
            home.script(&format!("tool-{verb}/docker"), "exec docker \"$@\"");
            // A network call that hangs keeps the network's removal from working as well: clean does it later.
            assert_eq!(code(&home.fosse(["clean"])), 0);
            home.assert_nothing_left();
        }
    });
}

/// An engine that hangs when it is asked to kill: nothing is claimed, and a later verb finishes the run.
#[test]
fn a_run_that_its_engine_does_not_end_is_left_to_a_later_verb() {
    on_docker_with(Carrier::Client, |home| {
        let tool = home.script("docker", &format!("case $1 in kill|rm) {HANGS};; esac; exec docker \"$@\""));
        let mut command =
            home.run_cmd(Engine::Docker, &["-n", "stuck", "--timeout", "500ms", "--grace", "0"], &["sleep", "1000"]);
        command.env("FOSSE_DOCKER", &tool).env("FOSSE_CHANGE_TIMEOUT", "4s");
        let output = finish(command);
        assert_eq!(code(&output), 125, "{output:?}");
        assert!(stderr(&output).contains("hint: when the engine answers again: fosse stop "), "{output:?}");
        assert_eq!(home.newest()["reason"], "orphaned");
        // The record names the stand-in, which works again.
        home.script("docker", "exec docker \"$@\"");
        assert_eq!(code(&home.fosse(["stop", "--grace", "0", "stuck"])), 0);
        home.assert_nothing_left();
    });
}

#[test]
fn noise_broken_json_and_late_answers_are_errors_and_change_nothing() {
    let home = home_with_record();
    forge(&home, "aaaaaaaaaaaa", "orphan", "running");
    let bodies = [
        "echo noise; echo noise >&2; exit 1",
        "echo '[{\"Id\":'; exit 0",
        "exit 0",
        "head -c 100000000 /dev/zero | tr '\\0' x; exit 0",
        "printf '\\377\\376'; exit 3",
        "kill -9 $$",
    ];
    for body in bodies {
        let tool = home.script("liar", body);
        let before = snapshot(&home.state().join("runs/aaaaaaaaaaaa"));
        let stopped = fosse_with(&home, &tool, &["stop", "--grace", "0", "orphan"]);
        {
            assert_eq!(code(&stopped), 1, "{body}: {stopped:?}");
            assert_eq!(snapshot(&home.state().join("runs/aaaaaaaaaaaa")), before, "{body}: the record changed");
        }
        let run =
            fosse_with(&home, &tool, &["run", "--runtime", "docker", "--image", "i", "--no-workspace", "--", "true"]);
        assert_eq!(code(&run), 125, "{body}: {run:?}");
        let text = stderr(&run);
        assert!(text.lines().all(|line| line.starts_with("fosse: ") || line.starts_with("hint: ")), "{body}: {text}");
        let status = fosse_with(&home, &tool, &["status", "--json"]);
        assert_eq!(code(&status), 0, "{body}: {status:?}");
        serde_json::from_slice::<serde_json::Value>(&status.stdout).unwrap();
    }
}

#[test]
fn a_tool_that_is_not_there_is_named() {
    let home = Home::new();
    let missing = home.dir.join("no-such-tool");
    let run = fosse_with(&home, &missing, &["run", "--runtime", "docker", "--image", "i", "--", "true"]);
    assert_eq!(code(&run), 125);
    assert!(stderr(&run).starts_with("fosse: using docker failed: not installed\nhint: "), "{run:?}");
    let auto = fosse_with(&home, &missing, &["run", "--image", "i", "--", "true"]);
    assert!(stderr(&auto).contains("docker: not installed; podman: not installed"), "{auto:?}");
    assert!(!home.state().join("runs").exists() || home.list().is_empty());
}

/// D5: hundreds of stale runs hold up neither `list` nor `status`, and a well engine is asked a few times in all.
#[test]
fn d5_a_thousand_records_cost_no_engine_call_to_list_and_a_few_for_status() {
    let home = home_with_record();
    for number in 0..1_000 {
        let state = if number % 2 == 0 { "running" } else { "stopped" };
        forge(&home, &format!("{number:012x}"), &format!("run-{number}"), state);
    }
    let counting = home.script(
        "docker-counting",
        "echo \"$1\" >>\"$0.calls\"; case $1 in version) echo 1.2.3;; context) exit 1;; ps) :;; *) echo '[]';; esac",
    );
    let calls = || fs::read_to_string(home.dir.join("docker-counting.calls")).unwrap_or_default();
    for args in [
        &["list"][..],
        &["list", "--json"],
        &["inspect", "run-3"],
        &["logs", "run-3"],
        &["wait", "run-3"],
        &["logs", "-f", "run-4"],
    ] {
        let output = fosse_with(&home, &counting, args);
        assert!(output.status.code().is_some_and(|code| code == 0), "{args:?} {output:?}");
    }
    assert_eq!(calls(), "", "a verb that reads records asked an engine");
    let status = fosse_with(&home, &counting, &["status"]);
    assert_eq!(code(&status), 0, "{status:?}");
    assert!(stdout(&status).contains("500 orphaned, 501 ended"), "{}", stdout(&status));
    // Of each of two engines: whether it answers, and what it has of ours; and once more what of it lives.
    assert!(calls().lines().count() <= 9, "{:?}", calls());
    let hung = home.script("hung", HANGS);
    let start = Instant::now();
    let status = fosse_with(&home, &hung, &["status"]);
    assert!(code(&status) == 0 && stdout(&status).contains("unknown"), "{status:?}");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    let (start, hung_list) = (Instant::now(), fosse_with(&home, &hung, &["list"]));
    assert_eq!(stdout(&hung_list).lines().count(), 1_002);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    wait_until("what was killed is gone", || home.processes().is_empty());
    // Nothing of what they tell was ever there, so that nobody has to ask an engine for each.
    fs::remove_dir_all(home.state().join("runs")).unwrap();
}

/// `list inspect logs wait status doctor` change no byte on disk.
#[test]
fn readers_change_no_byte_on_disk() {
    on_native_and_docker(|engine, home| {
        home.run(engine, &["-n", "over"], &["echo", "x"]);
        let client = home.start(engine, &["-n", "live"], "exec sleep 1000");
        let before = snapshot(&home.dir);
        for args in [
            &["list"][..],
            &["inspect", "over", "live"],
            &["logs", "live"],
            &["wait", "over"],
            &["status"],
            &["doctor"],
        ] {
            home.fosse(args);
            assert_eq!(snapshot(&home.dir), before, "{args:?}");
        }
        assert_eq!(code(&home.fosse(["stop", "live"])), 0);
        client.output();
    });
}

/// The engine that a run was started in is asked again, whatever is the default by then.
#[test]
fn a_run_is_always_asked_of_its_own_engine() {
    on_docker(|home| {
        // The same engine by another address: a link to its socket.
        let link = home.dir.join("other.sock");
        std::os::unix::fs::symlink("/var/run/docker.sock", &link).unwrap();
        let address = format!("unix://{}", link.display());
        let calls = home.dir.join("docker.calls");
        let tool = home.script("docker", "echo \"$1 $DOCKER_HOST\" >>\"$0.calls\"; exec docker \"$@\"");
        let mut command = home.run_cmd(Engine::Docker, &["-n", "far"], &["sh", "-c", "echo ready; exec sleep 1000"]);
        command.env("DOCKER_HOST", &address).env("FOSSE_DOCKER", &tool);
        let client = Client::spawn(command);
        client.wait_for_output("ready");
        assert_eq!(home.newest()["engine"]["endpoint"], address);
        client.signal(crate::support::KILL);
        client.output();
        fs::remove_file(&calls).unwrap();
        let mut stop = home.cmd(["stop", "--grace", "0", "far"]);
        stop.env("DOCKER_HOST", "unix:///nonexistent.sock");
        assert_eq!(code(&finish(stop)), 0);
        let asked = fs::read_to_string(&calls).unwrap();
        assert!(asked.lines().count() > 0 && asked.lines().all(|line| line.ends_with(&address)), "{asked}");
        home.assert_nothing_left();
    });
}

/// A docker context is an engine's name; the run remembers where it led.
#[test]
fn a_run_in_another_context_is_finished_there() {
    on_docker(|home| {
        let link = home.dir.join("ctx.sock");
        std::os::unix::fs::symlink("/var/run/docker.sock", &link).unwrap();
        let config: PathBuf = home.dir.join("docker-config");
        fs::create_dir(&config).unwrap();
        let docker = |args: &[&str]| {
            let output = Command::new("docker").args(args).env("DOCKER_CONFIG", &config).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        docker(&["context", "create", "far", "--docker", &format!("host=unix://{}", link.display())]);
        docker(&["context", "use", "far"]);
        let mut command = home.run_cmd(Engine::Docker, &["-n", "far"], &["sh", "-c", "echo ready; exec sleep 1000"]);
        command.env("DOCKER_CONFIG", &config).env_remove("DOCKER_HOST");
        let client = Client::spawn(command);
        client.wait_for_output("ready");
        assert_eq!(home.newest()["engine"]["endpoint"], format!("unix://{}", link.display()));
        docker(&["context", "use", "default"]);
        docker(&["context", "rm", "far"]);
        let mut stop = home.cmd(["stop", "far"]);
        stop.env("DOCKER_CONFIG", &config);
        assert_eq!(code(&finish(stop)), 0);
        client.output();
        home.assert_nothing_left();
    });
}

#[test]
fn auto_takes_docker_then_podman_whichever_answers() {
    if !(Engine::Docker.available() && Engine::Podman.available()) {
        return;
    }
    let home = Home::new();
    let output = home.fosse(["run", "--image", IMAGE, "--", "true"]);
    assert_eq!((code(&output), home.newest()["runtime"].as_str()), (0, Some("docker")));
    let mut command = home.cmd(["run", "--image", IMAGE, "--", "true"]);
    command.env("DOCKER_HOST", "unix:///nonexistent.sock");
    assert_eq!(code(&finish(command)), 0);
    assert_eq!(home.newest()["runtime"], "podman");
}

/// Without an image no engine is asked, be there one or not, and nothing of one is in the record.
#[test]
fn auto_without_an_image_is_native_and_asks_no_engine() {
    on_native(|home| {
        let counting = home.script("counting", "echo \"$1\" >>\"$0.calls\"; exit 1");
        let output = fosse_with(home, &counting, &["run", "--", "echo", "x"]);
        assert_eq!((code(&output), stdout(&output).as_str()), (0, "x\n"), "{output:?}");
        let record = home.newest();
        assert_eq!((record["runtime"].as_str(), record["io"].as_str()), (Some("native"), Some("init")), "{record}");
        for key in ["engine", "image", "container_id", "network_id"] {
            assert!(record.get(key).is_some_and(serde_json::Value::is_null), "{key}: {record}");
        }
        for args in [&["stop"][..], &["destroy"]] {
            let output = fosse_with(home, &counting, &[args, &[&home.newest_id()]].concat());
            assert_eq!(code(&output), 0, "{args:?} {output:?}");
        }
        assert!(!home.dir.join("counting.calls").exists(), "an engine was asked");
        home.assert_nothing_left();
    });
}
