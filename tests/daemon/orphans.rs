//! What the daemon does for runs whose client dies, whatever becomes of the daemon meanwhile.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::runs::orphans::MOMENTS;
use crate::support::daemon::daemons;
use crate::support::{
    Carrier, Client, Engine, Home, IMAGE, KILL, STOP, code, finish, kill, on_docker, on_docker_with,
    on_each_real_engine, on_native, on_native_and_docker, on_native_and_docker_with, one_release, process_state,
    repeat, some_at_once, stdout, wait_until,
};

/// What `daemon status` exits with where there is none.
const NOT_RUNNING: i32 = 3;

/// For how long engine objects of a dead owner may stay while a daemon and the engine live.
const PROMISED: Duration = Duration::from_secs(30);

/// A command whose runs start a daemon.
fn auto(mut command: Command) -> Command {
    command.env("FOSSE_DAEMON", "auto");
    command
}

/// Starts a run that starts a daemon, and waits until its command has printed `ready`.
fn start(home: &Home, engine: Engine, options: &[&str], script: &str) -> Client {
    let script = format!("echo ready; {script}");
    let client = Client::spawn(auto(home.run_cmd(engine, options, &["sh", "-c", &script])));
    client.wait_for_output("ready\n");
    client
}

/// Waits until the daemon that serves has so many leases; its number.
fn leased(home: &Home, count: u64) -> i32 {
    wait_until("the owners have their leases", || {
        let status = home.daemon_status();
        status["state"] == "serving" && status["leases"] == count
    });
    home.daemon_pid()
}

/// How often a daemon has begun to serve.
fn begun(home: &Home) -> usize {
    home.daemon_log().lines().filter(|line| line.contains(" serves (pid ")).count()
}

/// Kills a client as nobody can be prepared for.
fn lose(client: Client) {
    client.signal(KILL);
    client.output();
}

/// Whether each run's end is in its record, and not only concluded from its free lock.
fn all_recorded(home: &Home) -> bool {
    home.list().iter().all(|run| !run["stopped_at"].is_null())
}

/// What runs have only while they live, without the daemon's own socket.
fn files_left(home: &Home) -> Vec<PathBuf> {
    let is_socket = |path: &PathBuf| path.to_string_lossy().contains("/run/d-");
    home.temporary_files().into_iter().filter(|path| !is_socket(path)).collect()
}

/// Waits until the daemon has finished everything, with no verb's help, and ends it; then nothing is left.
fn finished_by_the_daemon(home: &Home) {
    let engines = || Engine::ALL.iter().filter(|engine| engine.available());
    wait_until("the daemon has finished every run", || {
        all_recorded(home) && files_left(home).is_empty() && engines().all(|engine| home.objects(*engine).is_empty())
    });
    assert_eq!(code(&home.daemon(["stop"])), 0);
    home.assert_nothing_left();
}

#[test]
fn a_run_starts_a_daemon_which_finishes_it_when_its_client_is_killed() {
    on_each_real_engine(|engine, home| {
        let client = start(home, engine, &["--name", "dies", "--network", "private"], "exec sleep 1000");
        leased(home, 1);
        assert_eq!(home.objects(engine).len(), 2, "{engine:?}");
        // Its streams come to their end with it: a daemon that it has started holds none of them.
        lose(client);
        let at = Instant::now();
        wait_until("its end is recorded", || all_recorded(home));
        let record = home.newest();
        assert_eq!((&record["state"], &record["reason"]), (&"failed".into(), &"orphaned".into()), "{record}");
        assert!(record["exit_code"].is_null(), "{record}");
        wait_until("its objects are gone", || home.objects(engine).is_empty());
        assert!(at.elapsed() < PROMISED, "{engine:?}: {:?}", at.elapsed());
        assert_eq!(stdout(&home.logs("dies")), "ready\n", "{engine:?}");
        wait_until("the daemon says so", || home.daemon_status()["finished"] == 1);
        finished_by_the_daemon(home);
    });
}

#[test]
fn a_clean_end_leaves_the_daemon_nothing_to_do() {
    on_each_real_engine(|engine, home| {
        let output = finish(auto(home.run_cmd(engine, &["--network", "private"], &["sh", "-c", "exit 7"])));
        assert_eq!(code(&output), 7, "{output:?}");
        let before = home.newest();
        // The run did not wait for it, and may have been faster.
        let served = Client::spawn(home.cmd(["daemon", "start"]));
        assert_eq!(code(&served.output()), 0);
        assert_eq!(code(&home.daemon(["reap"])), 0);
        let status = home.daemon_status();
        assert_eq!((&status["finished"], &status["leases"], &status["runs_live"]), (&0.into(), &0.into(), &0.into()));
        assert_eq!(home.newest(), before);
        finished_by_the_daemon(home);
    });
}

#[test]
fn no_daemon_is_started_where_none_is_wanted_and_for_native_runs() {
    on_native_and_docker(|engine, home| {
        let mut command = home.run_cmd(engine, &[], &["true"]);
        command.env("FOSSE_DAEMON", if engine.is_native() { "auto" } else { "off" });
        assert_eq!(code(&finish(command)), 0);
        assert_eq!(code(&home.daemon(["status"])), NOT_RUNNING);
        let locks = fs::read_dir(home.state()).unwrap().flatten();
        let names: Vec<String> = locks.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        assert!(!names.iter().any(|name| name.starts_with("daemon")), "{engine:?} {names:?}");
    });
}

#[test]
fn killed_between_any_two_steps_the_daemon_finishes_the_run_and_leaves_nothing() {
    on_each_real_engine(|engine, home| {
        assert_eq!(code(&home.daemon(["start"])), 0);
        some_at_once(&MOMENTS, 2, |moment| {
            let file = home.dir.join(moment);
            let options = ["--name", moment, "--network", "private", "--id-file", file.to_str().unwrap()];
            let mut command = auto(home.run_cmd(engine, &options, &["sh", "-c", "echo said; exit 3"]));
            command.env("FOSSE_FAILPOINT", moment);
            let output = finish(command);
            assert_eq!(output.status.code(), None, "{moment}: it was not killed: {output:?}");
        });
        wait_until("all of them are recorded", || all_recorded(home));
        // What was no run yet when its client died is no orphan: a sweep removes it.
        assert_eq!(code(&home.daemon(["reap"])), 0);
        let runs = home.list();
        assert_eq!(runs.len(), MOMENTS.len() - 2, "{runs:#?}");
        for run in runs {
            let name = run["name"].as_str().unwrap();
            let over = matches!(name, "final" | "cleaned");
            assert_eq!(run["reason"], if over { "exited" } else { "orphaned" }, "{engine:?} {run}");
            if over || name == "output-synced" {
                assert_eq!(stdout(&home.logs(name)), "said\n", "{engine:?} {name}");
            }
        }
        finished_by_the_daemon(home);
    });
}

#[test]
fn owners_renew_their_leases_when_the_daemon_is_killed() {
    on_docker(|home| {
        let script = "while ! test -e /workspace/go; do sleep 0.1; done; echo over; exit 5";
        let clients: Vec<Client> = (0..3).map(|_| start(home, Engine::Docker, &[], script)).collect();
        let first = leased(home, 3);
        kill(first, KILL);
        wait_until("its process is gone", || !daemons(home).contains(&first));
        let second = leased(home, 3);
        assert_ne!(first, second);
        // Who came too late for the lock takes a moment to go.
        wait_until("it is the only one", || daemons(home) == [second]);
        // The new one does the old one's work.
        let mut clients = clients.into_iter();
        lose(clients.next().unwrap());
        wait_until("the orphan is finished", || home.daemon_status()["finished"] == 1);
        home.write("ws/go", "");
        for client in clients {
            let output = client.output();
            assert_eq!((code(&output), stdout(&output).as_str()), (5, "ready\nover\n"), "{output:?}");
        }
        finished_by_the_daemon(home);
    });
}

#[test]
fn a_daemon_that_was_stopped_comes_back_only_with_a_new_run_and_then_has_all_leases() {
    on_docker_with(Carrier::Init, |home| {
        let script = "while ! test -e /workspace/go; do sleep 0.1; done; echo over; exit 5";
        let first = start(home, Engine::Docker, &[], script);
        leased(home, 1);
        let socket = PathBuf::from(home.daemon_status()["socket"].as_str().unwrap());
        assert_eq!(code(&home.daemon(["stop"])), 0);
        assert_eq!(fs::read(home.daemon_lock()).unwrap(), b"", "the lock's file stays, and says nothing any more");
        // Where the daemon was: the owner comes by when its time has come, finds none, and starts none. One whose daemon
        // had died would wait for a successor for a second, and then start one.
        let listener = UnixListener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let stopped = Instant::now();
        wait_until("its owner has looked for it, or started one", || {
            let looked = listener.accept().is_ok() && stopped.elapsed() > Duration::from_secs(2);
            looked || !daemons(home).is_empty()
        });
        drop(listener);
        assert_eq!((begun(home), daemons(home)), (1, vec![]));
        fs::remove_file(&socket).unwrap();
        assert_eq!(code(&home.daemon(["status"])), NOT_RUNNING);
        let second = start(home, Engine::Docker, &[], script);
        let pid = leased(home, 2);
        assert_eq!(begun(home), 2);
        wait_until("it is the only one", || daemons(home) == [pid]);
        home.write("ws/go", "");
        for client in [first, second] {
            let output = client.output();
            assert_eq!((code(&output), stdout(&output).as_str()), (5, "ready\nover\n"), "{output:?}");
        }
        finished_by_the_daemon(home);
    });
}

#[test]
fn runs_do_not_notice_that_the_daemon_is_restarted_or_replaced_by_a_newer_one() {
    on_docker(|home| {
        let script = "while ! test -e /workspace/go; do sleep 0.1; done; echo over; exit 5";
        let clients: Vec<Client> = (0..2).map(|_| start(home, Engine::Docker, &[], script)).collect();
        let first = leased(home, 2);
        assert_eq!(code(&home.daemon(["restart"])), 0);
        let second = leased(home, 2);
        assert_ne!(first, second);
        // Of a newer client: a run of its own brings the newer daemon.
        let mut newer = auto(home.run_cmd(Engine::Docker, &[], &["sh", "-c", script]));
        newer.env("FOSSE_TEST_VERSION", "99.0.0");
        let newer = Client::spawn(newer);
        // The older one may have all of them for a moment.
        wait_until("the newer daemon has all leases", || {
            let status = home.daemon_status();
            let is_newer = status["fingerprint"]["version"] == "99.0.0";
            is_newer && status["state"] == "serving" && status["leases"] == 3
        });
        let third = home.daemon_pid();
        assert_ne!(second, third);
        wait_until("it is the only one", || daemons(home) == [third]);
        // On the way an older owner may have been faster than the newer daemon, for a moment.
        let starts = begun(home);
        home.write("ws/go", "");
        for client in clients.into_iter().chain([newer]) {
            let output = client.output();
            assert_eq!(code(&output), 5, "{output:?}");
            assert!(stdout(&output).ends_with("over\n") && output.stderr.is_empty(), "{output:?}");
        }
        assert_eq!(begun(home), starts, "the older clients have replaced it again");
        wait_until("it is the only one", || daemons(home) == [third]);
        finished_by_the_daemon(home);
    });
}

#[test]
fn what_was_left_when_there_was_no_daemon_is_finished_by_the_next() {
    on_native_and_docker_with(Carrier::Client, |engine, home| {
        let network = if engine.is_native() { "none" } else { "private" };
        lose(home.start(engine, &["--network", network], "exec sleep 1000"));
        assert!(!all_recorded(home), "somebody has finished it already");
        assert_eq!(code(&home.daemon(["start"])), 0);
        wait_until("the daemon says so", || home.daemon_status()["finished"] == 1);
        assert_eq!(home.newest()["reason"], "orphaned");
        finished_by_the_daemon(home);
    });
}

/// The scan is the net below the leases.
#[test]
fn an_orphan_that_never_had_a_lease_is_finished_within_seconds() {
    on_native_and_docker_with(Carrier::Client, |engine, home| {
        assert_eq!(code(&home.daemon(["start"])), 0);
        let client = home.start(engine, &[], "exec sleep 1000");
        assert_eq!(home.daemon_status()["leases"], 0);
        lose(client);
        let at = Instant::now();
        wait_until("its end is recorded", || all_recorded(home));
        assert!(at.elapsed() < PROMISED, "{engine:?}: {:?}", at.elapsed());
        assert_eq!(home.newest()["reason"], "orphaned");
        finished_by_the_daemon(home);
    });
}

/// The record of a run, as its file says.
fn stored(home: &Home, id: &str) -> (PathBuf, Value) {
    let file = home.state().join("runs").join(id).join("record.json");
    let record = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    (file, record)
}

#[test]
fn a_run_of_another_machine_is_never_touched() {
    on_native(|home| {
        home.write("home/.config/fosse/config.json", r#"{"keep_runs": 0}"#);
        assert_eq!(code(&home.run(Engine::Native, &[], &["true"])), 0);
        let over = home.newest_id();
        lose(home.start(Engine::Native, &[], "exec sleep 1000"));
        let live = home.newest_id();
        let foreign = [over, live].map(|id| {
            let (file, mut record) = stored(home, &id);
            record["machine_id"] = "0123456789abcdef0123456789abcdef".into();
            fs::write(&file, record.to_string()).unwrap();
            let kept = fs::read(&file).unwrap();
            (file, kept)
        });
        lose(home.start(Engine::Native, &[], "exec sleep 1000"));
        let own = home.newest_id();
        assert_eq!(code(&home.daemon(["start"])), 0);
        wait_until("this machine's own is finished", || home.daemon_status()["finished"] == 1);
        // The next sweep of a daemon, at its start, comes to all that is over: of this machine's runs none is to stay.
        assert_eq!(code(&home.daemon(["restart"])), 0);
        wait_until("this machine's own is pruned", || !home.state().join("runs").join(&own).exists());
        wait_until("it has swept", || !home.daemon_status()["last_sweep"].is_null());
        for (file, kept) in foreign {
            assert_eq!(fs::read(&file).unwrap(), kept, "{}", file.display());
        }
    });
}

#[test]
fn what_was_to_be_kept_is_kept_through_orphaning_and_sweeps() {
    on_docker(|home| {
        let client =
            start(home, Engine::Docker, &["--name", "kept", "--keep", "--network", "private"], "exec sleep 1000");
        leased(home, 1);
        lose(client);
        wait_until("its end is recorded", || all_recorded(home));
        for args in [&["reap"][..], &["restart"], &["reap"]] {
            assert_eq!(code(&home.daemon(args)), 0);
        }
        assert_eq!(home.objects(Engine::Docker).len(), 2, "{}", home.daemon_log());
        let name = format!("fosse-{}", home.newest_id());
        assert_eq!(Engine::Docker.says(["inspect", "--format", "{{.State.Running}}", &name]), "false");
        assert_eq!(code(&home.fosse(["destroy", "kept"])), 0);
        finished_by_the_daemon(home);
    });
}

/// Objects in docker that are none of a home's business. Dropping it removes them.
struct Strangers {
    containers: Vec<String>,
    networks: Vec<String>,
}

impl Strangers {
    /// Some with another instance's label, and some without any.
    fn new() -> Self {
        let labels = [&["--label", "fosse.instance=ffffffffffffffff", "--label", "fosse.run=ffffffffffff"][..], &[]];
        let create = |args: &[&str], labels: &[&str], last: &[&str]| {
            let id = Engine::Docker.says([args, labels, last].concat());
            assert!(!id.is_empty());
            id
        };
        let name = || format!("stranger-{}", fosse::base::id::random_hex(6).unwrap());
        let containers = labels.map(|labels| create(&["create"], labels, &[IMAGE, "true"]));
        let networks = labels.map(|labels| create(&["network", "create", "--internal"], labels, &[&name()]));
        Strangers { containers: containers.to_vec(), networks: networks.to_vec() }
    }

    fn assert_untouched(&self) {
        for id in &self.containers {
            assert!(Engine::Docker.call(["container", "inspect", id]).status.success(), "container {id} is gone");
        }
        for id in &self.networks {
            assert!(Engine::Docker.call(["network", "inspect", id]).status.success(), "network {id} is gone");
        }
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        self.containers.iter().for_each(|id| drop(Engine::Docker.call(["rm", "--force", id])));
        self.networks.iter().for_each(|id| drop(Engine::Docker.call(["network", "rm", id])));
    }
}

/// Many at once, at any moment, with nobody's help but the daemon's.
#[test]
fn clients_that_are_killed_at_random_leave_nothing_and_harm_no_stranger() {
    on_docker_with(Carrier::Client, |home| {
        let strangers = Strangers::new();
        let (runs, at_once) = (repeat(40), 8);
        for batch in (0..runs).collect::<Vec<_>>().chunks(at_once) {
            std::thread::scope(|scope| {
                for round in batch {
                    scope.spawn(move || {
                        let other = if round % 2 == 0 { "auto" } else { "off" };
                        let script = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done";
                        let mut command =
                            home.run_cmd(Engine::Docker, &["--network", "private"], &["sh", "-c", script]);
                        command.env("FOSSE_DAEMON", other);
                        if round % 3 == 0 {
                            command.env("FOSSE_INIT", "auto");
                        }
                        let client = Client::spawn(command);
                        // Anywhere between its first step and its command's output: what is meant is the moment.
                        std::thread::sleep(Duration::from_millis(u64::try_from(round * 397 % 1900).unwrap()));
                        lose(client);
                    });
                }
            });
        }
        assert_eq!(code(&home.daemon(["start"])), 0);
        let at = Instant::now();
        wait_until("all are recorded", || all_recorded(home));
        wait_until("their objects are gone", || home.objects(Engine::Docker).is_empty());
        assert!(at.elapsed() < 2 * PROMISED, "{:?}", at.elapsed());
        strangers.assert_untouched();
        // The addresses of their networks are free.
        assert_eq!(code(&home.run(Engine::Docker, &["--network", "private"], &["true"])), 0);
        assert_eq!(code(&home.daemon(["reap"])), 0);
        finished_by_the_daemon(home);
    });
}

/// The engine goes on with what a client asked for that has died since; also when the daemon that has finished the run
/// is followed by another one meanwhile.
#[test]
fn what_a_killed_clients_last_request_makes_late_is_found_by_the_daemon() {
    some_at_once(&[false, true], 2, |followed| on_docker(|home| makes_late(home, *followed)));
}

fn makes_late(home: &Home, followed: bool) {
    // This tool makes the network when it is told to, in a session of its own, as an engine under load does for a
    // client that has gone.
    let slow = home.script(
        "docker",
        "case \"$1 $2\" in network\\ create) export TOOL=\"$0\"; touch \"$0.asked\"; setsid sh -c 'until test -e \"$TOOL.go\"; do sleep 0.1; done; exec docker \"$@\"' sh \"$@\" >/dev/null 2>&1 & wait;; *) exec docker \"$@\";; esac",
    );
    let options = ["--name", "late", "--network", "private"];
    let mut command = auto(home.run_cmd(Engine::Docker, &options, &["sleep", "1000"]));
    command.env("FOSSE_DOCKER", &slow);
    let client = Client::spawn(command);
    leased(home, 1);
    let asked = home.dir.join("docker.asked");
    wait_until("it is asked for", || asked.exists());
    lose(client);
    wait_until("the run is finished", || home.daemon_status()["finished"] == 1);
    if followed {
        assert_eq!(code(&home.daemon(["restart"])), 0);
        wait_until("it has swept", || home.daemon_status()["last_sweep"].is_object());
    }
    home.write("docker.go", "");
    wait_until("the late network is removed", || home.daemon_log().contains("removed network"));
    finished_by_the_daemon(home);
}

/// Whoever reads a run's output to its end does not wait for a daemon that the run has started.
#[test]
fn a_pipe_behind_a_run_ends_with_the_run() {
    on_docker_with(Carrier::Init, |home| {
        let script = format!(
            "{} run --runtime docker --image {IMAGE} -- sh -c 'echo said; sleep 2' 2>&1 | cat",
            home.program().display()
        );
        let mut command = Command::new("sh");
        for (name, value) in home.with_daemon(["run"]).get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.args(["-c", &script]).current_dir(home.workspace()).stdin(std::process::Stdio::null());
        let output = finish(command);
        assert_eq!((code(&output), stdout(&output).as_str()), (0, "said\n"), "{output:?}");
        wait_until("the daemon serves", || home.daemon_status()["state"] == "serving");
        finished_by_the_daemon(home);
    });
}

/// A frozen owner is ended by `stop`, and its lock falls: a daemon may be the first to finish the run, and ends it as
/// what was asked for.
#[test]
fn a_frozen_owners_run_is_stopped_whoever_finishes_it() {
    let Some((engine, home)) = one_release(Carrier::Init) else { return };
    let names: Vec<String> = (0..repeat(100)).map(|number| format!("frozen-{number}")).collect();
    some_at_once(&names, 5, |name| {
        let mut command = home.with_daemon(["run"]);
        command.args(engine.options()).args([
            "-n",
            name,
            "--no-workspace",
            "--",
            "sh",
            "-c",
            "echo ready; exec sleep 1000",
        ]);
        let client = Client::spawn(command);
        client.wait_for_output("ready\n");
        client.signal(STOP);
        wait_until("it is frozen", || process_state(client.pid()) == Some('T'));
        let stopped = home.fosse(["stop", "--grace", "1", name]);
        assert_eq!(code(&stopped), 0, "{stopped:?}");
        let record: Value = serde_json::from_slice(&home.fosse(["inspect", name]).stdout).unwrap();
        assert_eq!(
            (record["state"].as_str(), record["reason"].as_str()),
            (Some("stopped"), Some("stopped")),
            "{record}"
        );
        client.output();
    });
    assert_eq!(code(&home.daemon(["stop"])), 0);
    home.assert_nothing_left();
}
