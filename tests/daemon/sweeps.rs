//! What the daemon sweeps: engine objects of nobody, half-made things on disk, and records that nobody needs any more.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::support::daemon::daemons;
use crate::support::{
    Carrier, Engine, Home, IMAGE, KILL, code, finish, on_docker, on_docker_with, on_native, processes, repeat, stderr,
    stdout, wait_until,
};

/// An id that no run has.
const UNKNOWN: &str = "ffffffffffff";

/// A docker all of whose objects were made in 2001: what is older than a minute cannot be had otherwise. It writes
/// down what it was asked.
fn aged(home: &Home) -> PathBuf {
    home.script(
        "aged-docker",
        "echo \"$*\" >>\"$0.calls\"
        case \"$1 $2\" in
        container\\ inspect|network\\ inspect)
            said=$(docker \"$@\"); code=$?
            printf '%s\\n' \"$said\" | sed 's/\"Created\": *\"20[0-9][0-9]/\"Created\": \"2001/'
            exit $code;;
        esac
        exec docker \"$@\"",
    )
}

/// A command with another docker.
fn with_docker(mut command: Command, tool: &Path) -> Command {
    command.env("FOSSE_DOCKER", tool);
    command
}

/// `fosse daemon` with arguments and another docker, which has to succeed; what it printed.
fn daemon_with(home: &Home, tool: &Path, args: &[&str]) -> String {
    let output = finish(with_docker(home.cmd([&["daemon"], args].concat()), tool));
    assert_eq!(code(&output), 0, "{args:?}: {output:?}");
    stdout(&output)
}

/// A network, and a live container in it, which say that they belong to a run of an instance.
fn make_objects(instance: &str, run: &str) -> [String; 2] {
    let labels = [format!("fosse.run={run}"), format!("fosse.instance={instance}")];
    let labels = ["--label", &labels[0], "--label", &labels[1]];
    let name = format!("objects-{}", fosse::base::id::random_hex(6).unwrap());
    let network = Engine::Docker.says([&["network", "create", "--internal"], &labels[..], &[&name]].concat());
    let args = [&["run", "--detach", "--network", &name], &labels[..], &[IMAGE, "sleep", "1000"]].concat();
    let container = Engine::Docker.says(args);
    assert!(!network.is_empty() && !container.is_empty());
    [container, network]
}

fn remove_objects([container, network]: &[String; 2]) {
    Engine::Docker.call(["rm", "--force", "--volumes", container]);
    Engine::Docker.call(["network", "rm", network]);
}

/// Whether both of them are there.
fn are_there([container, network]: &[String; 2]) -> bool {
    let succeeds = |args: [&str; 3]| Engine::Docker.call(args).status.success();
    succeeds(["container", "inspect", container]) && succeeds(["network", "inspect", network])
}

/// A home with one ended run, and its instance.
fn home_with_an_ended_run(home: &Home) -> (String, String) {
    assert_eq!(code(&home.run(Engine::Docker, &[], &["true"])), 0);
    wait_until("the engine has removed what it had", || no_objects(home));
    (home.newest_id(), home.instance().unwrap())
}

fn no_objects(home: &Home) -> bool {
    home.objects(Engine::Docker).is_empty()
}

#[test]
fn r1_objects_of_runs_that_are_over_or_unknown_go_when_a_daemon_starts() {
    on_docker_with(Carrier::Init, |home| {
        let tool = aged(home);
        let (over, instance) = home_with_an_ended_run(home);
        for run in [over.as_str(), UNKNOWN] {
            make_objects(&instance, run);
        }
        assert_eq!(home.objects(Engine::Docker).len(), 4);
        daemon_with(home, &tool, &["start"]);
        wait_until("they are gone", || no_objects(home));
        wait_until("it says so", || {
            home.daemon_status()["last_sweep"]["objects"].as_array().is_some_and(|all| all.len() == 4)
        });
        let calls = fs::read_to_string(home.dir.join("aged-docker.calls")).unwrap();
        let at =
            |verb: &str| calls.lines().position(|call| call.starts_with(verb)).unwrap_or_else(|| panic!("{calls}"));
        assert!(at("rm ") < at("network rm "), "X6: containers before networks: {calls}");
        assert_eq!(home.newest_id(), over, "the record stays");
    });
}

#[test]
fn what_is_unknown_and_young_stays_and_so_does_what_is_another_instances() {
    on_docker_with(Carrier::Init, |home| {
        let (over, instance) = home_with_an_ended_run(home);
        let other = make_objects("ffffffffffffffff", UNKNOWN);
        let young = make_objects(&instance, UNKNOWN);
        let orphaned = make_objects(&instance, &over);
        assert_eq!(code(&home.daemon(["start"])), 0);
        let swept = home.daemon(["reap"]);
        assert_eq!(code(&swept), 0, "{swept:?}");
        wait_until("what is over is gone", || !are_there(&orphaned));
        assert_eq!((are_there(&young), are_there(&other)), (true, true));
        // R2: it is nobody's as soon as it is old.
        let tool = aged(home);
        daemon_with(home, &tool, &["restart"]);
        wait_until("what is old is gone", || no_objects(home));
        assert!(are_there(&other));
        remove_objects(&other);
    });
}

#[test]
fn r1_it_sweeps_again_and_again() {
    on_docker_with(Carrier::Init, |home| {
        let (over, instance) = home_with_an_ended_run(home);
        let mut command = home.cmd(["daemon", "start"]);
        command.env("FOSSE_DAEMON_REAP_EVERY", "1s");
        assert_eq!(code(&finish(command)), 0);
        for _ in 0..2 {
            make_objects(&instance, &over);
            wait_until("they are gone", || no_objects(home));
        }
    });
}

/// R4: by a daemon and without one, with the same result.
#[test]
fn r4_a_forced_sweep_says_what_it_removes_and_a_dry_one_removes_nothing() {
    on_docker_with(Carrier::Init, |home| {
        let tool = aged(home);
        let (over, instance) = home_with_an_ended_run(home);
        for served in [false, true] {
            if served {
                daemon_with(home, &tool, &["start"]);
                wait_until("its first sweep is over", || !home.daemon_status()["last_sweep"].is_null());
            }
            let made = [make_objects(&instance, &over), make_objects(&instance, UNKNOWN)];
            let told = |args: &[&str]| -> Vec<Value> {
                let lines = daemon_with(home, &tool, &[&["reap", "--json"], args].concat());
                lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
            };
            let dry = told(&["--dry-run"]);
            assert!(made.iter().all(are_there), "a dry run has removed something");
            let text = daemon_with(home, &tool, &["reap", "--dry-run"]);
            assert_eq!(text.lines().filter(|line| line.starts_with("would remove ")).count(), 4, "{text}");
            let done = told(&[]);
            assert!(no_objects(home), "served {served}");
            let facts = |all: &[Value], dry_run: bool| {
                let mut facts: Vec<String> = all
                    .iter()
                    .map(|one| {
                        let facts = ["schema", "action", "runtime", "dry_run"].map(|key| one[key].clone());
                        let wanted = serde_json::json!([1, "remove", "docker", dry_run]);
                        assert_eq!(Value::from(facts.to_vec()), wanted, "{one}");
                        format!("{} {} {}", one["kind"], one["id"], one["run"])
                    })
                    .collect();
                facts.sort();
                facts
            };
            let wanted = |run: &str, [container, network]: &[String; 2]| {
                [("container", container), ("network", network)].map(|(kind, id)| format!("{kind:?} {id:?} {run:?}"))
            };
            let mut wanted = [wanted(&over, &made[0]), wanted(UNKNOWN, &made[1])].concat();
            wanted.sort();
            assert_eq!((facts(&dry, true), facts(&done, false)), (wanted.clone(), wanted), "served {served}");
            assert_eq!(told(&[]), Vec::<Value>::new());
            assert_eq!(daemons(home).len(), usize::from(served));
        }
    });
}

/// R2: the age of what is unknown does not protect it here.
#[test]
fn r2_what_a_run_is_just_making_is_never_taken() {
    on_docker(|home| {
        let tool = aged(home);
        home_with_an_ended_run(home);
        daemon_with(home, &tool, &["start"]);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sweeps = scope.spawn(|| {
                let mut sweeps = 0;
                while !done.load(Ordering::SeqCst) {
                    daemon_with(home, &tool, &["reap"]);
                    sweeps += 1;
                }
                sweeps
            });
            let runs = (0..repeat(100) / 2).map(|_| {
                let command = home.run_cmd(Engine::Docker, &["--network", "private"], &["sh", "-c", "exit 7"]);
                code(&finish(with_docker(command, &tool)))
            });
            let codes: Vec<i32> = runs.collect();
            done.store(true, Ordering::SeqCst);
            assert!(sweeps.join().unwrap() > 0);
            assert!(codes.iter().all(|code| *code == 7), "{codes:?}\n{}", home.daemon_log());
        });
        assert_eq!(home.daemon_status()["finished"], 0, "{}", home.daemon_log());
        assert_eq!(code(&home.daemon(["stop"])), 0);
        home.assert_nothing_left();
    });
}

/// The names of all runs, sorted.
fn names(home: &Home) -> Vec<String> {
    let mut names: Vec<String> = home.list().iter().map(|run| run["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn records_beyond_the_newest_or_too_old_are_pruned_and_live_ones_stay() {
    on_native(|home| {
        let client = home.start(Engine::Native, &["--name", "alive"], "exec sleep 1000");
        for name in ["a", "b", "c", "d"] {
            assert_eq!(code(&home.run(Engine::Native, &["--name", name], &["true"])), 0);
        }
        home.write("home/.config/fosse/config.json", r#"{"keep_runs": 3}"#);
        assert_eq!(code(&home.daemon(["start"])), 0);
        wait_until("the oldest is pruned", || names(home) == ["alive", "b", "c", "d"]);
        assert_eq!(code(&home.daemon(["stop"])), 0);
        // One ended long ago.
        let file = home.state().join("runs").join(home.newest_id()).join("record.json");
        let mut record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(record["name"], "d");
        record["stopped_at"] = "2001-01-01T00:00:00Z".into();
        fs::write(&file, record.to_string()).unwrap();
        home.write("home/.config/fosse/config.json", r#"{"keep_days": 30}"#);
        assert_eq!(code(&home.daemon(["start"])), 0);
        wait_until("the old one is pruned", || names(home) == ["alive", "b", "c"]);
        // The record goes before the sweep is over, and only then it is told of.
        wait_until("the sweep is over", || !home.daemon_status()["last_sweep"].is_null());
        assert_eq!(home.daemon_status()["last_sweep"]["pruned"].as_array().map(Vec::len), Some(1));
        home.write("home/.config/fosse/config.json", r#"{"keep_runs": 0}"#);
        assert_eq!(code(&home.daemon(["start"])), 0, "changed settings replace it");
        wait_until("all that is over is pruned", || names(home) == ["alive"]);
        assert_eq!(code(&home.fosse(["stop", "--grace", "0", "alive"])), 0);
        client.output();
    });
}

#[test]
fn what_was_to_be_kept_is_not_pruned_and_other_prunings_leave_nothing_in_the_engine() {
    on_docker_with(Carrier::Client, |home| {
        assert_eq!(code(&home.run(Engine::Docker, &["--name", "kept", "--keep"], &["true"])), 0);
        // An orphan that nobody has finished: finished first, and pruned by a later sweep.
        let client = home.start(Engine::Docker, &["--name", "lost", "--network", "private"], "exec sleep 1000");
        client.signal(KILL);
        client.output();
        home.write("home/.config/fosse/config.json", r#"{"keep_runs": 0, "daemon_reap_every": "1s"}"#);
        assert_eq!(code(&home.daemon(["start"])), 0);
        wait_until("all else is pruned", || names(home) == ["kept"]);
        assert_eq!(home.objects(Engine::Docker).len(), 1, "the kept container");
        assert_eq!(code(&home.fosse(["destroy", "kept"])), 0);
        assert_eq!(code(&home.daemon(["stop"])), 0);
        home.assert_nothing_left();
    });
}

#[test]
fn half_made_directories_go_unless_somebody_is_making_them() {
    let home = Home::without_engines();
    assert_eq!(code(&home.daemon(["start"])), 0);
    wait_until("its first sweep is over", || !home.daemon_status()["last_sweep"].is_null());
    let make = |name: &str, lock: bool| {
        let dir = home.write(&format!("state/runs/{name}/record.json"), "{").parent().unwrap().to_owned();
        if lock {
            fs::write(dir.join("owner.lock"), "").unwrap();
        }
        dir
    };
    let [free, gone] = [make(".new-aaaaaaaaaaaa", true), make(".gone-bbbbbbbbbbbb", true)];
    let old = make(".new-cccccccccccc", false);
    let (young, held, other) =
        (make(".new-dddddddddddd", false), make(".new-eeeeeeeeeeee", true), make(".other", false));
    let lock = fs::File::open(held.join("owner.lock")).unwrap();
    assert!(fosse::sys::lock::try_exclusive(&lock).unwrap());
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    fs::File::open(&old).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(code(&home.daemon(["reap", "--dry-run"])), 0);
    assert!([&free, &gone, &old].iter().all(|dir| dir.exists()), "a dry run has removed something");
    assert_eq!(code(&home.daemon(["reap"])), 0);
    for dir in [&free, &gone, &old] {
        assert!(!dir.exists(), "{}", dir.display());
    }
    for dir in [&young, &held, &other] {
        assert!(dir.exists(), "{}", dir.display());
    }
    drop(lock);
    // A child that another test has just started may have the lock for a moment more.
    wait_until("it goes", || code(&home.daemon(["reap"])) == 0 && !held.exists());
    assert!(young.exists());
}

/// A tool that hangs, ignores TERM, and has a child that holds its pipes.
const HANGS: &str = "echo noise >&2; trap '' TERM; sleep 1000 & while :; do sleep 1000; done";

/// Records of runs whose owner died, by hand: their engine does not answer, so nobody can make real ones.
fn forge_orphans(home: &Home, count: usize) {
    for number in 0..count {
        let id = format!("{number:012x}");
        let record = serde_json::json!({
            "schema": 1, "id": id, "name": format!("lost-{number}"), "state": "running", "runtime": "docker",
            "engine": {"tool": "docker", "endpoint": "unix:///var/run/docker.sock"}, "io": "engine", "image": "i",
            "command": ["true"], "workspace": null, "user": "image", "network": "open", "interactive": false,
            "labels": {}, "created_at": "2026-01-01T00:00:00Z", "started_at": "2026-01-01T00:00:01Z",
            "stopped_at": null, "exit_code": null, "signal": null, "reason": null, "error": null,
            "container_id": null, "network_id": null, "keep": false, "timeout_ms": null, "log_bytes": 0,
            "log_truncated": false, "machine_id": fosse::run::owner::machine_id(), "boot_id": "b"
        });
        home.write(&format!("state/runs/{id}/record.json"), record.to_string());
        home.write(&format!("state/runs/{id}/owner.lock"), "");
        home.write(&format!("state/runs/{id}/output.log"), "");
    }
    fs::set_permissions(home.state(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
}

/// How many calls of an engine's tool are under way: each has a process group of its own.
fn calls_under_way(home: &Home) -> usize {
    let named = processes::naming(&home.dir.to_string_lossy());
    let of_tools = named.iter().filter(|entry| !entry.contains(" daemon "));
    let group = |entry: &String| {
        let stat = fs::read_to_string(format!("/proc/{}/stat", processes::number(entry))).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(2).map(str::to_owned)
    };
    of_tools.filter_map(group).collect::<std::collections::HashSet<_>>().len()
}

/// D7: whatever its workers are stuck in.
#[test]
fn d7_an_engine_that_hangs_holds_up_neither_status_nor_idle_end_nor_stop() {
    let home = Home::new();
    forge_orphans(&home, 20);
    let hung = home.script("hung", HANGS);
    let daemon = |args: &[&str], timeout: &str, idle: &str| {
        let mut command = home.cmd([&["daemon"], args].concat());
        command.env("FOSSE_DOCKER", &hung).env("FOSSE_PODMAN", &hung);
        command.env("FOSSE_QUERY_TIMEOUT", timeout).env("FOSSE_DAEMON_IDLE", idle);
        let begun = Instant::now();
        let output = finish(command);
        assert_eq!(code(&output), 0, "{args:?}: {output:?}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{args:?} took {:?}", begun.elapsed());
    };
    let mut most = 0;
    daemon(&["start"], "1s", "5m");
    wait_until("it has met the silence of its engine", || {
        most = most.max(calls_under_way(&home));
        daemon(&["status"], "1s", "5m");
        home.daemon_log().matches("no answer within").count() >= 6
    });
    assert!((1..=16).contains(&most), "{most} calls at once");
    // The next one has to find out by itself, and takes longer for it than it has for its end.
    daemon(&["restart"], "60s", "5m");
    wait_until("its workers are stuck", || calls_under_way(&home) >= 4);
    daemon(&["stop"], "60s", "5m");
    wait_until("the tools have gone with it", || home.processes().is_empty());
    daemon(&["start"], "60s", "1s");
    let begun = Instant::now();
    wait_until("it has ended by itself", || daemons(&home).is_empty());
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(home.daemon_log().contains("nothing lives"), "{}", home.daemon_log());
    wait_until("the tools have gone with it", || home.processes().is_empty());
    assert!(home.list().iter().all(|run| run["stopped_at"].is_null()), "silence was taken for an answer");
}

#[test]
fn a_sweep_says_which_engine_did_not_answer_and_sweeps_the_others() {
    on_docker_with(Carrier::Init, |home| {
        let (over, instance) = home_with_an_ended_run(home);
        let hung = home.script("hung", HANGS);
        let reap = |served: bool| {
            let made = make_objects(&instance, &over);
            let mut command = home.cmd(["daemon", if served { "start" } else { "reap" }]);
            command.env("FOSSE_PODMAN", &hung).env("FOSSE_QUERY_TIMEOUT", "5s");
            let output = finish(command);
            assert_eq!(code(&output), i32::from(!served), "{output:?}");
            let output = if served { home.daemon(["reap"]) } else { output };
            assert_eq!(code(&output), 1, "{output:?}");
            assert!(stderr(&output).contains("podman"), "{output:?}");
            assert!(!are_there(&made), "docker's objects are still there");
        };
        reap(false);
        reap(true);
    });
}
