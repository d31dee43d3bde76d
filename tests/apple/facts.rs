//! The emulator of Apple's tool against the page of facts, fact by fact: what a container's life looks like from
//! outside. Tests name the section and what it says.

use serde_json::Value;

use crate::support::apple::Service;
use crate::support::native::is_root;
use crate::support::{Client, Engine, Home, INT, KILL, TERM, code, kill, process_state, stderr, stdout, wait_until};

/// The releases that are played: each side of every difference.
pub const RELEASES: [&str; 5] = ["0.9.0", "0.12.0", "1.0.0", "1.2.2", "1.4.1"];

/// The image with busybox.
pub const IMAGE: &str = "fosse-test:busybox";

/// Whether the emulator can be had here; what is about it is left out otherwise.
pub fn one_release_plays() -> bool {
    Engine::Apple("1.2.2").available()
}

/// A test body with a service of each release.
pub fn on_each_release(body: impl Fn(&Service, &str)) {
    for release in RELEASES {
        let home = Home::new();
        body(&Service::new(&home, release), release);
    }
}

/// Whether a release is one of 1.0 or later.
pub fn is_modern(release: &str) -> bool {
    !release.starts_with("0.")
}

/// Whether the service shows a container as running.
pub fn is_running(service: &Service, id: &str) -> bool {
    service.state(id)["running"] == true
}

/// The state as `inspect` says it, in both shapes.
pub fn shown_state(service: &Service, id: &str) -> String {
    let shown: Value = serde_json::from_slice(&service.call(["inspect", id]).stdout).unwrap();
    let status = &shown[0]["status"];
    status.as_str().or(status["state"].as_str()).unwrap_or_else(|| panic!("{shown}")).to_owned()
}

/// Starts a container's script without a client and waits until it runs.
pub fn detached(service: &Service, id: &str, script: &str) {
    let run = service.call(["run", "-d", "--name", id, "--progress", "none", IMAGE, "sh", "-c", script]);
    assert_eq!((code(&run), stdout(&run)), (0, format!("{id}\n")), "{run:?}");
}

/// Section 4, "Only a CLI that is attached learns it"; section 2.1, "There is no exit code"; 1, `create` prints the id.
#[test]
fn a_container_is_created_started_and_keeps_no_exit_code() {
    if !one_release_plays() {
        return;
    }
    on_each_release(|service, release| {
        let version = format!("container CLI version {release} (build: release, commit: abcdefg)\n");
        assert_eq!(stdout(&service.call(["--version"])), version);
        let script = "echo out; echo err >&2; exit 42";
        let created = service.call(["create", "--name", "first", IMAGE, "sh", "-c", script]);
        assert_eq!((code(&created), stdout(&created).as_str()), (0, "first\n"), "{created:?}");
        let run = service.call(["start", "--attach", "first"]);
        assert_eq!((code(&run), stdout(&run).as_str(), stderr(&run).as_str()), (42, "out\n", "err\n"));
        assert_eq!(shown_state(service, "first"), "stopped");
        let shown = stdout(&service.call(["inspect", "first"]));
        assert!(!shown.to_lowercase().contains("exit\""), "{shown}");
        // It is on disk for tests alone.
        assert_eq!(service.state("first")["exit"], 42);
    });
}

/// Section 4, "Killed by signal N → 128+N"; 0, attached `run` exits with the process's code; stdin is empty without -i.
#[test]
fn run_ends_as_its_process_does_and_rm_leaves_nothing() {
    if !one_release_plays() {
        return;
    }
    on_each_release(|service, _| {
        let run = |script: &str| {
            let args = ["run", "--rm", "--progress", "none", IMAGE, "sh", "-c", script];
            service.call(args)
        };
        assert_eq!(code(&run("exit 7")), 7);
        // PID 1 can only be killed from outside, so the signal strikes a child.
        assert_eq!(code(&run("sh -c 'kill -TERM $$'; exit $?")), 143);
        let output = run("cat; echo end");
        assert_eq!((code(&output), stdout(&output).as_str(), stderr(&output).as_str()), (0, "end\n", ""));
        wait_until("the record is gone", || service.containers().is_empty());
        service.assert_nothing_left();
    });
}

/// Section 1: no `--name` gives a UUID in lower case; `--cidfile` holds the id with no newline.
#[test]
fn a_container_without_a_name_is_a_uuid_which_the_cidfile_has_without_a_newline() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = Service::new(&home, "1.2.2");
    let file = home.dir.join("cid");
    let created = service.call(["create", "--cidfile", file.to_str().unwrap(), IMAGE]);
    let id = stdout(&created).trim().to_owned();
    assert!(id.len() == 36 && id.chars().all(|c| c == '-' || c.is_ascii_digit() || c.is_ascii_lowercase()), "{id}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), id);
    assert_eq!(code(&service.call(["delete", &id])), 0);
    service.assert_nothing_left();
}

/// Section 4, "PID 1 without a handler ignores SIGTERM: takes the whole --time then 137. With --init 143".
#[test]
fn stop_of_a_pid_1_without_a_handler_ends_in_kill_and_with_init_in_term() {
    if !one_release_plays() {
        return;
    }
    on_each_release(|service, release| {
        let start = |id: &str, options: &[&str]| {
            // An init that has not begun hears nothing either.
            let command = [IMAGE, "sh", "-c", "echo up; exec sleep 1000"];
            let run = [&["run", "--name", id, "--progress", "none"], options, &command].concat();
            let client = Client::spawn(service.cmd(&run));
            client.wait_for_output("up\n");
            client
        };
        // Up to 0.11 the tool's own limit was the time and a second, which a busy machine would reach.
        service.latency(&serde_json::json!({"timeouts": {"containerStop": 600_000}}));
        let plain = start("plain", &[]);
        let stop = service.call(["stop", "--time", "1", "plain"]);
        assert_eq!((code(&stop), stdout(&stop).as_str()), (0, "plain\n"), "{stop:?}");
        assert_eq!(code(&plain.output()), 137);
        if release == "0.9.0" {
            let refused = service.call(["run", "--init", IMAGE, "true"]);
            assert_eq!(code(&refused), 64, "{refused:?}");
            assert!(
                stderr(&refused).starts_with("Error: Unknown option '--init'\nUsage: container run "),
                "{refused:?}"
            );
            return;
        }
        let inited = start("inited", &["--init"]);
        assert_eq!(code(&service.call(["stop", "--time", "1000", "inited"])), 0);
        assert_eq!(code(&inited.output()), 143);
    });
}

/// Section 4, "stop sends the image's STOPSIGNAL (≥1.0) or SIGTERM".
#[test]
fn the_images_stop_signal_counts_from_1_0_on() {
    if !one_release_plays() {
        return;
    }
    for (release, signal) in [("0.12.0", "TERM"), ("1.0.0", "USR1")] {
        let home = Home::new();
        let service = Service::new(&home, release);
        service.image("own:stop", "busybox", &serde_json::json!({"StopSignal": "SIGUSR1"}));
        let script =
            "trap 'echo USR1; exit' USR1; trap 'echo TERM; exit' TERM; echo ready; while :; do sleep 0.1; done";
        let args = ["run", "--name", "stopped", "--progress", "none", "own:stop", "sh", "-c", script];
        let client = Client::spawn(service.cmd(args));
        client.wait_for_output("ready");
        assert_eq!(code(&service.call(["stop", "stopped"])), 0);
        assert_eq!(stdout(&client.output()), format!("ready\n{signal}\n"));
    }
}

/// Section 4, Signals: ≤0.12 forwards; ≥1.0 "failed to send signal", and the third ends `run` but not `start -a`.
#[test]
fn signals_to_an_attached_client_were_forwarded_once_and_are_lost_now() {
    if !one_release_plays() {
        return;
    }
    on_each_release(|service, release| {
        let script = "trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.1; done";
        let run = ["run", "--name", "signalled", "--progress", "none", IMAGE, "sh", "-c", script];
        let client = Client::spawn(service.cmd(run));
        client.wait_for_output("ready");
        client.signal(TERM);
        if !is_modern(release) {
            let output = client.output();
            assert_eq!((code(&output), stdout(&output).as_str()), (5, "ready\ngot\n"), "{output:?}");
            return;
        }
        let lines = [
            "failed to send signal: [\"error\": invalidArgument: \"missing signal in xpc message\", \"signal\": 15]\n",
            "failed to send signal: [\"signal\": 15, \"error\": invalidArgument: \"missing signal in xpc message\"]\n",
        ];
        wait_until("it complains", || lines.contains(&client.stderr_text().as_str()));
        client.signal(TERM);
        wait_until("it complains again", || client.stderr_text().matches("failed to send signal").count() == 2);
        client.signal(INT);
        let output = client.output();
        assert_eq!(code(&output), 1, "{output:?}");
        assert!(stderr(&output).ends_with("Received 3 SIGINT/SIGTERM's, forcefully exiting.\n"), "{output:?}");
        assert!(is_running(service, "signalled"), "the container goes on");
        service.call(["delete", "--force", "signalled"]);
        assert_eq!(service.containers(), Vec::new());
    });
}

/// Section 4, Signals: "`start -a` has no such escape".
#[test]
fn start_attached_cannot_be_ended_by_signals_and_kill_reaches_the_command() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = Service::new(&home, "1.2.2");
    let script = "trap 'echo got; exit 9' USR1; echo ready; while :; do sleep 0.1; done";
    assert_eq!(code(&service.call(["create", "--name", "held", IMAGE, "sh", "-c", script])), 0);
    let client = Client::spawn(service.cmd(["start", "--attach", "held"]));
    client.wait_for_output("ready");
    for count in 1..=5 {
        client.signal(TERM);
        wait_until("it complains", || client.stderr_text().matches("failed to send signal").count() == count);
    }
    let killed = service.call(["kill", "--signal", "USR1", "held"]);
    assert_eq!((code(&killed), stdout(&killed).as_str()), (0, "held\n"), "{killed:?}");
    let output = client.output();
    assert_eq!((code(&output), stdout(&output).as_str()), (9, "ready\ngot\n"));
}

/// Section 4, "SIGKILL of an attached client leaves the container running but its log stops growing for ever" (#2009).
#[test]
fn a_killed_client_leaves_its_container_with_a_frozen_log() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = Service::new(&home, "1.2.2");
    let script = "echo before; while [ ! -e /go ]; do sleep 0.02; done; echo after; exec sleep 1000";
    let run = ["run", "--name", "frozen", "--progress", "none", IMAGE, "sh", "-c", script];
    let mut client = Client::spawn(service.cmd(run));
    client.wait_for_output("before");
    client.signal(KILL);
    client.wait();
    assert!(is_running(&service, "frozen"));
    assert_eq!(code(&service.call(["exec", "frozen", "touch", "/go"])), 0);
    wait_until("it has written more", || stdout(&service.call(["exec", "frozen", "ps"])).contains("sleep 1000"));
    assert_eq!(stdout(&service.call(["logs", "frozen"])), "before\n");
    // There is no re-attach.
    let again = service.call(["start", "--attach", "frozen"]);
    assert_eq!(stderr(&again), "Error: attach is currently unsupported on already running containers\n");
    assert_eq!(code(&again), 1);
}

/// Section 4, "Runtime helper dies": the text, exit 1; `start` of a running container prints the id.
#[test]
fn a_dead_runtime_is_an_error_of_the_attached_client() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = Service::new(&home, "1.2.2");
    assert_eq!(code(&service.call(["create", "--name", "lost", IMAGE, "sh", "-c", "echo ready; sleep 1000"])), 0);
    let client = Client::spawn(service.cmd(["start", "--attach", "lost"]));
    client.wait_for_output("ready");
    assert_eq!(stdout(&service.call(["start", "lost"])), "lost\n");
    let state = service.state("lost");
    let number = |name: &str| i32::try_from(state[name].as_i64().unwrap()).unwrap();
    kill(number("supervisor"), KILL);
    let output = client.output();
    assert_eq!(code(&output), 1);
    let expected = "Error: failed to wait for process lost in container lost (cause: \"interrupted: \"XPC connection \
                    error: Connection interrupted\"\")\nEnsure container system service has been started with \
                    `container system start`.\n";
    assert_eq!(stderr(&output), expected);
    wait_until("its machine is gone", || process_state(number("init")).is_none());
    assert_eq!(shown_state(&service, "lost"), "stopped");
}

/// Section 4, exec: environment, user and cwd are init's; the code is the process's; a session that dies with it.
#[test]
fn exec_inherits_from_init_and_dies_with_the_container() {
    if !one_release_plays() {
        return;
    }
    on_each_release(|service, _| {
        // Others than root have no other user inside.
        let user = if is_root() { "1234" } else { "0" };
        let ids = format!("{user}:{user}");
        let run = ["run", "-d", "--name", "host", "-e", "A=1", "-w", "/tmp", "-u", &ids, IMAGE, "sleep", "1000"];
        assert_eq!(code(&service.call(run)), 0);
        let exec = |args: &[&str]| service.call([&["exec"], args].concat());
        let shown = exec(&["-e", "B=2", "host", "sh", "-c", "echo $A $B; pwd; id -u; echo err >&2; exit 3"]);
        assert_eq!((code(&shown), stdout(&shown)), (3, format!("1 2\n/tmp\n{user}\n")), "{shown:?}");
        assert_eq!(stderr(&shown), "err\n");
        let other = exec(&["-u", "0:0", "-w", "/", "host", "sh", "-c", "id -u; pwd"]);
        assert_eq!(stdout(&other), "0\n/\n", "{other:?}");
        assert_eq!(stdout(&exec(&["--detach", "host", "sleep", "1000"])), "host\n");
        let long = Client::spawn(service.cmd(["exec", "host", "sh", "-c", "echo ready; sleep 1000"]));
        long.wait_for_output("ready");
        assert_eq!(code(&service.call(["kill", "host"])), 0);
        assert_eq!(code(&long.output()), 137);
    });
}

/// Section 0, "a CLI without own handler that gets SIGINT/SIGTERM exits 128+n", here while it waits.
#[test]
fn a_call_without_a_handler_dies_of_a_signal_with_its_code() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = Service::new(&home, "1.2.2");
    service.faults(&serde_json::json!([{"verb": "inspect", "do": "hang"}]));
    let client = Client::spawn(service.cmd(["inspect", "any"]));
    wait_until("it has begun", || service.calls().len() == 1);
    client.signal(TERM);
    assert_eq!(code(&client.output()), 143);
    service.assert_every_call_ended();
}

/// Section 0: "≤0.11 stop often reported a false XPC timeout although the container did stop".
#[test]
fn a_stop_up_to_0_11_may_say_that_it_was_late_when_it_was_done() {
    if !one_release_plays() {
        return;
    }
    for (release, expected) in [("0.11.0", 1), ("0.12.0", 0)] {
        let home = Home::new();
        let service = Service::new(&home, release);
        detached(&service, "late", "exec sleep 1000");
        service.latency(&serde_json::json!({"timeouts": {"containerStop": 0}}));
        let stop = service.call(["stop", "--time", "0", "late"]);
        assert_eq!(code(&stop), expected, "{stop:?}");
        let text = "XPC timeout for request to com.apple.container.apiserver/containerStop";
        assert_eq!(stderr(&stop).contains(text), expected == 1, "{stop:?}");
        assert_eq!(shown_state(&service, "late"), "stopped");
    }
}

/// Section 3: a mount whose source is gone; section 4, "Same if the reader closes the pipe" (#2009).
#[test]
fn a_start_looks_for_its_mounts_and_a_log_freezes_with_its_reader() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = Service::new(&home, "1.2.2");
    let dir = home.dir.join("ws/gone");
    std::fs::create_dir(&dir).unwrap();
    let mount = format!("{}:/x", dir.display());
    assert_eq!(code(&service.call(["create", "--name", "mounted", "-v", &mount, IMAGE])), 0);
    std::fs::remove_dir(&dir).unwrap();
    let start = service.call(["start", "mounted"]);
    let text = format!("Error: mount source path '{}' does not exist\n", dir.display());
    assert_eq!((code(&start), stderr(&start)), (1, text));
    let script = "n=0; while :; do n=$((n+1)); echo $n; echo $n >/count; sleep 0.01; done";
    let mut command = service.cmd(["run", "--name", "unread", "--progress", "none", IMAGE, "sh", "-c", script]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdout.take().unwrap();
    std::io::Read::read_exact(&mut pipe, &mut [0; 2]).unwrap();
    drop(pipe);
    let count = || -> u64 { stdout(&service.call(["exec", "unread", "cat", "/count"])).trim().parse().unwrap_or(0) };
    let log = || service.call(["logs", "unread"]).stdout;
    // What was on its way is still in the log.
    wait_until("the log grows no more", || {
        let (written, logged) = (count(), log());
        wait_until("it writes on", || count() > written + 20);
        log() == logged
    });
    assert_eq!(code(&service.call(["kill", "unread"])), 0);
    assert_eq!(child.wait().unwrap().code(), Some(137));
}
