//! A run that fosse's own PID 1 carries: what the command can do to it, what its owner's or its own death means, and
//! what happens where it cannot serve.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::own_engine::OwnEngine;
use crate::support::{
    Carrier, Client, Engine, Home, IMAGE, KILL, code, has, kill, on_docker_with, on_each_channel,
    on_each_real_engine_with, on_native, on_native_and_docker_with, pause, repeat, stderr, stdout, wait_until,
};

fn on_engines(body: impl Fn(Engine, &Home)) {
    on_each_channel(body);
}

fn io(home: &Home) -> String {
    home.newest()["io"].as_str().unwrap().to_owned()
}

#[test]
fn the_record_says_what_carries_a_run_and_its_place_is_gone_with_it() {
    on_engines(|engine, home| {
        let output = home.run(engine, &[], &["sh", "-c", "echo out; echo err >&2; exit 7"]);
        assert_eq!((code(&output), stdout(&output).as_str(), stderr(&output).as_str()), (7, "out\n", "err\n"));
        assert_eq!(io(home), "init", "{engine:?}");
        home.assert_nothing_left();
    });
}

/// X4: the signal is known for certain, where the engine's client could only guess at a code.
#[test]
fn x4_a_signal_that_ended_the_command_is_told_from_a_code() {
    on_engines(|engine, home| {
        for (script, code_wanted, signal, reason) in [
            ("kill -9 $$", 137, Some(9), "signaled"),
            ("exit 137", 137, None, "exited"),
            ("kill -15 $$", 143, Some(15), "signaled"),
            ("kill -SEGV $$", 139, Some(11), "signaled"),
        ] {
            assert_eq!(code(&home.run(engine, &[], &["sh", "-c", script])), code_wanted, "{engine:?} {script}");
            let record = home.newest();
            assert_eq!((record["signal"].as_i64(), record["reason"].as_str()), (signal, Some(reason)), "{record}");
        }
    });
}

// ---- a command that attacks the channel -------------------------------------------------------

/// Options that make a program of the host usable inside, at `/NAME`.
fn with_program_of_the_host(name: &str) -> Vec<String> {
    let path = fosse::base::env::get("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.exists());
    let found = found.unwrap_or_else(|| panic!("{name} is not there; tests/run installs it"));
    let lib64 = if fs::exists("/lib64").unwrap() { "/lib64" } else { "/lib" };
    let mounts = [(found.to_str().unwrap(), format!("/{name}")), ("/lib", "/lib".into()), (lib64, "/lib64".into())];
    let real = |path: &str| fs::canonicalize(path).unwrap().display().to_string();
    mounts.iter().flat_map(|(from, to)| ["-m".into(), format!("{}:{to}:ro", real(from))]).collect()
}

/// Whatever user the image has: nobody listens any more, and init can be neither read nor traced nor ended.
#[test]
fn a_command_can_neither_speak_as_init_nor_reach_into_it() {
    let script = r#"
        /curl -s --unix-socket /.fosse/socket http://localhost/; echo "connecting: $?"
        /.fosse/init init --channel /.fosse/socket 2>/dev/null; echo "as init: $?"
        for file in environ maps mem stack auxv; do cat /proc/1/$file >/dev/null 2>&1 && echo "read $file"; done
        for fd in /proc/1/fd/*; do readlink $fd; done 2>/dev/null; ls /proc/1/root/ /proc/1/cwd/ 2>/dev/null
        ls /proc/1/map_files 2>/dev/null
        echo x 2>/dev/null >/.fosse/init && echo written; rm -f /.fosse/init /.fosse/socket 2>/dev/null && echo removed
        mv /.fosse/socket /.fosse/other 2>/dev/null && echo moved
        for signal in KILL STOP SEGV ABRT BUS FPE ILL TRAP SYS; do kill -$signal 1; done
        exit 42"#;
    if !has(&["curl"]) {
        return;
    }
    let tool = with_program_of_the_host("curl");
    on_each_real_engine_with(Carrier::Init, |engine, home| {
        for user in ["root", "1234:1234", "image"] {
            let mut options = vec!["--user", user, "--no-workspace"];
            options.extend(tool.iter().map(String::as_str));
            let output = home.run(engine, &options, &["sh", "-c", script]);
            // 7: curl could not connect.
            let wanted = (42, "connecting: 7\nas init: 125\n");
            assert_eq!((code(&output), stdout(&output).as_str()), wanted, "{engine:?} {user}: {output:?}");
            assert_eq!(io(home), "init");
        }
    });
}

/// The same where no file of fosse's is inside: the connection is nowhere, and nothing of init can be had.
#[test]
fn a_command_in_a_sandbox_can_neither_find_the_channel_nor_reach_into_init() {
    let script = r#"
        ls -A /.fosse 2>/dev/null && echo a directory of its own
        for file in environ maps mem stack auxv; do cat /proc/1/$file >/dev/null 2>&1 && echo "read $file"; done
        for fd in /proc/1/fd/* /proc/1/exe /proc/1/ns/*; do readlink $fd && echo "$fd"; done 2>/dev/null
        for dir in root cwd map_files task/1/root; do ls /proc/1/$dir/ 2>/dev/null; done
        for signal in KILL STOP SEGV ABRT BUS FPE ILL TRAP SYS; do kill -$signal 1; done
        exit 42"#;
    on_native(|home| {
        for user in ["caller", "root", "1234:1234"] {
            let output = home.run(Engine::Native, &["--user", user], &["sh", "-c", script]);
            assert_eq!((code(&output), stdout(&output).as_str()), (42, ""), "{user}: {output:?}");
            assert_eq!(io(home), "init");
        }
        home.assert_nothing_left();
    });
}

/// A command may lower the limits of who has its user; init lives on and tells the end.
#[test]
fn a_command_that_lowers_inits_limits_gains_nothing() {
    let tool = with_program_of_the_host("prlimit");
    on_engines(|engine, home| {
        let mut options = vec!["--no-workspace", "-e", "PATH=/bin:/usr/bin:/"];
        options.extend(tool.iter().map(String::as_str).filter(|_| !engine.is_native()));
        let script = "prlimit --pid 1 --nofile=0:0 --nproc=0:0 --fsize=0:0 --core=0:0 --stack=0:0 || exit 9
            sleep 0.2; echo said; exit 42";
        let output = home.run(engine, &options, &["sh", "-c", script]);
        assert_eq!((code(&output), stdout(&output).as_str()), (42, "said\n"), "{engine:?} {output:?}");
        assert_eq!((io(home).as_str(), home.newest()["exit_code"].as_i64()), ("init", Some(42)));
        home.assert_nothing_left();
    });
}

/// At the limit of processes and of its own descriptors it ends when it is asked to, with everything it started.
#[test]
fn a_command_that_fills_every_limit_can_be_stopped() {
    on_engines(|engine, home| {
        // The host's shell may know descriptors of one digit only.
        let most = if engine.is_native() { 10 } else { 60 };
        let script = format!(
            "trap '' TERM; ulimit -n {most}; i=3; while [ $i -lt {most} ]; do eval \"exec $i</dev/null\"; i=$((i+1)); done
            (while :; do sleep 1000 & done) 2>/dev/null; while :; do sleep 1; done"
        );
        let client = home.start(engine, &["--pids", "20", "--no-workspace"], &script);
        assert_eq!(code(&home.fosse(["stop", "--grace", "1", &home.newest_id()])), 0);
        assert_eq!(code(&client.output()), 137, "{engine:?}");
        let record = home.newest();
        assert_eq!((record["reason"].as_str(), record["io"].as_str()), (Some("stopped"), Some("init")), "{record}");
        home.assert_nothing_left();
    });
}

/// Zombies are reaped while the command runs, and what it leaves ends with it: TERM, then KILL.
#[test]
fn e3_what_the_command_leaves_is_reaped_and_ended() {
    on_engines(|engine, home| {
        let script = "i=0; while [ $i -lt 50 ]; do (sh -c 'exit 3' &) ; i=$((i+1)); done
            zombies() { cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '; }
            n=0; while [ $(zombies) != 0 ] && [ $n -lt 300 ]; do sleep 0.1; n=$((n+1)); done; zombies; setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' &
            sleep 1000 & exit 5";
        let output = home.run(engine, &["--no-workspace"], &["sh", "-c", script]);
        assert_eq!((code(&output), stdout(&output).as_str()), (5, "0\n"), "{engine:?} {output:?}");
        home.assert_nothing_left();
    });
}

// ---- deaths -----------------------------------------------------------------------------------

/// An attached run never outlives its client, without any daemon.
#[test]
fn a_killed_clients_command_is_gone_within_two_seconds() {
    on_engines(|engine, home| {
        for round in 0..repeat(10) {
            let client = home.start(
                engine,
                &["--no-workspace"],
                "trap '' TERM HUP; (setsid sleep 1000 &); while :; do sleep 1; done",
            );
            let init = home.init_of(engine);
            assert!(!home.insiders().is_empty(), "who looks for what is left inside sees nothing");
            client.signal(KILL);
            let since = Instant::now();
            wait_until("its place is gone", || !fs::exists(format!("/proc/{init}")).unwrap_or(false));
            // The promise is two seconds, of which other tests on this machine take some.
            assert!(since.elapsed() < Duration::from_secs(10), "{engine:?} round {round}: {:?}", since.elapsed());
            client.output();
            let id = home.newest_id();
            assert_eq!(code(&home.fosse(["stop", &id])), 0);
            let record = home.newest();
            assert_eq!((record["state"].as_str(), record["reason"].as_str()), (Some("failed"), Some("orphaned")));
            assert_eq!(stdout(&home.logs(&id)), "ready\n");
            home.assert_nothing_left();
        }
    });
}

/// The engine has no output of such a run, and what it says about that is none.
#[test]
fn finishing_an_orphan_adds_nothing_to_its_output() {
    on_engines(|engine, home| {
        for _ in 0..repeat(10) {
            let client = home.start(engine, &["--no-workspace"], "exec sleep 1000");
            client.signal(KILL);
            client.output();
            let id = home.newest_id();
            let finished = home.fosse(["stop", "--grace", "0", &id]);
            assert_eq!((code(&finished), stderr(&finished).contains("output")), (0, false), "{finished:?}");
            let logs = home.logs(&id);
            assert_eq!((stdout(&logs).as_str(), stderr(&logs).as_str()), ("ready\n", ""), "{engine:?}");
            assert_eq!(home.newest()["log_truncated"], false);
        }
    });
}

/// A client killed after its command's end, before it has recorded it, loses no code.
#[test]
fn a_lost_owner_loses_no_exit_code() {
    on_engines(|engine, home| {
        let mut command = home.run_cmd(engine, &["-n", "lost"], &["sh", "-c", "exit 33"]);
        command.env("FOSSE_FAILPOINT", "output-synced");
        assert_eq!(crate::support::finish(command).status.code(), None);
        for finished in [false, true] {
            if finished {
                assert_eq!(code(&home.fosse(["stop", "lost"])), 0);
            }
            let record = home.newest();
            assert_eq!(
                (record["reason"].as_str(), record["exit_code"].as_i64()),
                (Some("orphaned"), Some(33)),
                "{record}"
            );
            assert_eq!(code(&home.fosse(["wait", "lost"])), 125);
        }
        home.assert_nothing_left();
    });
}

/// End-of-file without an exit means that the kernel killed the place.
#[test]
fn an_init_that_is_killed_from_the_host_is_137() {
    on_engines(|engine, home| {
        let client = home.start(engine, &[], "exec sleep 1000");
        kill(home.init_of(engine), KILL);
        assert_eq!(code(&client.output()), 137, "{engine:?}");
        let record = home.newest();
        assert_eq!(
            (record["reason"].as_str(), record["signal"].as_i64(), record["exit_code"].as_i64()),
            (Some("signaled"), Some(9), Some(137)),
            "{record}"
        );
        home.assert_nothing_left();
    });
}

/// A place that a stranger froze does not hold a stop up.
#[test]
fn a_paused_place_can_be_stopped() {
    on_native_and_docker_with(Carrier::Init, |engine, home| {
        let client = home.start(engine, &[], "exec sleep 1000");
        pause(home, engine, true);
        assert_eq!(code(&home.fosse(["stop", "--grace", "0", &home.newest_id()])), 0);
        assert_eq!(code(&client.output()), 137);
        assert_eq!(home.newest()["reason"], "stopped");
        home.assert_nothing_left();
    });
}

/// A stranger's restart starts init anew, whom nobody answers: nothing runs twice.
#[test]
fn a_strangers_restart_runs_nothing_twice() {
    on_docker_with(Carrier::Init, |home| {
        let client = home.start(Engine::Docker, &["--keep"], "echo once >>/workspace/count; exec sleep 1000");
        let name = format!("fosse-{}", home.newest_id());
        wait_until("it has counted", || home.workspace().join("count").exists());
        Engine::Docker.call(["restart", "--time", "20", &name]);
        assert_eq!(code(&client.output()), 143);
        wait_until("the second init has given up", || {
            Engine::Docker.says(["inspect", "--format", "{{.State.Running}}", &name]) == "false"
        });
        assert_eq!(fs::read_to_string(home.workspace().join("count")).unwrap(), "once\n");
        assert_eq!(code(&home.fosse(["destroy", &home.newest_id()])), 0);
        home.assert_nothing_left();
    });
}

/// The engine is in no path: its death changes nothing for the run.
#[test]
fn a_run_outlives_its_dockerd() {
    on_docker_with(Carrier::Init, |home| {
        let Some(mut engine) = OwnEngine::start(home) else { return };
        let script = "echo ready; while ! test -e /workspace/go; do sleep 0.1; done; echo after; exit 9";
        let mut command = home.run_cmd(Engine::Docker, &["--network", "none"], &["sh", "-c", script]);
        command.env("DOCKER_HOST", engine.host());
        let client = Client::spawn(command);
        client.wait_for_output("ready");
        engine.down(KILL);
        home.write("ws/go", "");
        let output = client.output();
        assert_eq!((code(&output), stdout(&output).as_str()), (9, "ready\nafter\n"), "{output:?}");
        let record = home.newest();
        assert_eq!((record["exit_code"].as_i64(), record["reason"].as_str()), (Some(9), Some("exited")), "{record}");
        engine.up();
    });
}

/// `oom` is said only where the command itself died of it.
#[test]
fn a_child_killed_for_memory_is_not_the_command() {
    on_engines(|engine, home| {
        if engine.is_native() && crate::runs::codes::refuses_limits(home) {
            return;
        }
        let eat = "tail /dev/zero";
        let output = home.run(engine, &["--memory", "32m", "--no-workspace"], &["sh", "-c", &format!("{eat}; exit 4")]);
        assert_eq!((code(&output), home.newest()["reason"].as_str()), (4, Some("exited")), "{engine:?} {output:?}");
        let output = home.run(engine, &["--memory", "32m", "--no-workspace"], &["tail", "/dev/zero"]);
        let record = home.newest();
        assert_eq!((code(&output), record["reason"].as_str()), (137, Some("oom")), "{engine:?} {record}");
        // Killed by somebody else after a child was killed for memory.
        let script = format!("{eat}; echo ready; exec sleep 1000");
        let client = Client::spawn(home.run_cmd(engine, &["--memory", "32m"], &["sh", "-c", &script]));
        client.wait_for_output("ready");
        assert_eq!(code(&home.fosse(["stop", "--grace", "0", &home.newest_id()])), 0);
        client.output();
        assert_eq!(home.newest()["reason"], "stopped");
    });
}

// ---- places of other kinds --------------------------------------------------------------------

/// With userns-remap, root inside is nobody of this machine's: the socket and the pipes work all the same.
#[test]
fn it_serves_where_the_engine_maps_users() {
    on_docker_with(Carrier::Init, |home| {
        let Some(engine) = OwnEngine::start_mapping_users(home) else { return };
        for user in ["root", "1234", "caller"] {
            let script = "echo out >/dev/stdout; echo err >/dev/stderr; exit 9";
            let options = ["--network", "none", "--no-workspace", "--user", user];
            let mut command = home.run_cmd(Engine::Docker, &options, &["sh", "-c", script]);
            command.env("DOCKER_HOST", engine.host());
            let output = crate::support::finish(command);
            let said = (code(&output), stdout(&output), stderr(&output));
            assert_eq!(said, (9, "out\n".into(), "err\n".into()), "{user}");
            assert_eq!(io(home), "init", "{user}");
        }
    });
}

/// A root file system that cannot be written, no capability, and no new privileges.
#[test]
fn it_serves_in_a_place_that_may_do_nothing() {
    on_each_real_engine_with(Carrier::Init, |engine, home| {
        let tool = home.script(
            "bin/tool",
            &format!("case $1 in run) shift; exec {0} run --read-only --cap-drop ALL --security-opt no-new-privileges \"$@\";; esac; exec {0} \"$@\"", engine.name()),
        );
        for user in ["root", "1234"] {
            let script = "echo >/x 2>/dev/null && echo written; grep CapEff /proc/self/status; exit 9";
            let mut command = home.run_cmd(engine, &["--no-workspace", "--user", user], &["sh", "-c", script]);
            command.env(format!("FOSSE_{}", engine.name().to_uppercase()), &tool);
            let output = crate::support::finish(command);
            let said = (code(&output), stdout(&output));
            assert_eq!(said, (9, "CapEff:\t0000000000000000\n".into()), "{engine:?} {user} {output:?}");
            assert_eq!(io(home), "init", "{engine:?} {user}");
        }
        home.assert_nothing_left();
    });
}

// ---- places where it cannot serve -------------------------------------------------------------

/// A tool that stands in for an engine where something is not as it should be: the run goes the second path, once,
/// with every byte, and the next one does not try again.
fn falls_back(home: &Home, stand_in: &str) {
    let log = home.dir.join("calls");
    let tool = home.script("stand-in/docker", &format!("echo \"$1\" >>'{}'\n{stand_in}", log.display()));
    for round in 0..2 {
        let script = "echo out; echo err >&2; echo once >>/workspace/count; exit 6";
        let mut command = home.run_cmd(Engine::Docker, &["-e", "A=b"], &["sh", "-c", script]);
        command.env("FOSSE_DOCKER", &tool);
        let output = crate::support::finish(command);
        assert_eq!((code(&output), stdout(&output).as_str(), stderr(&output).as_str()), (6, "out\n", "err\n"));
        let record = home.newest();
        assert_eq!((record["io"].as_str(), record["exit_code"].as_i64()), (Some("engine"), Some(6)), "{record}");
        let tried = fs::read_to_string(&log).unwrap().lines().filter(|verb| *verb == "run").count();
        assert_eq!(tried, 1, "in round {round}");
    }
    let mut doctor = home.cmd(["doctor"]);
    doctor.env("FOSSE_DOCKER", &tool);
    let said = stdout(&crate::support::finish(doctor));
    assert!(said.contains(&format!("docker carrier: the engine's client, for {IMAGE}")), "{said}");
    assert_eq!(fs::read_to_string(home.workspace().join("count")).unwrap(), "once\nonce\n");
    assert_eq!(home.objects(Engine::Docker), Vec::<String>::new());
    home.assert_nothing_left();
}

/// A stand-in that mounts another file of the host in the place of one of fosse's own.
fn mounting(source: &std::path::Path, target: &str) -> String {
    format!(
        r#"case $1 in run)
            for word; do shift; case $word in *target={target}*) word="type=bind,source={},target={target},readonly";; esac; set -- "$@" "$word"; done;;
        esac; exec docker "$@""#,
        source.display()
    )
}

#[test]
fn an_engine_that_drops_the_mount_of_the_socket_gets_the_second_path() {
    on_docker_with(Carrier::Init, |home| {
        // Elsewhere: as in a virtual machine, where the file is there and nobody listens.
        let dead = home.dir.join("dead.sock");
        drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
        falls_back(home, &mounting(&dead, "/.fosse/socket"));
    });
}

#[test]
fn an_image_of_another_architecture_gets_the_second_path() {
    on_docker_with(Carrier::Init, |home| {
        // A binary that the kernel does not know, in the place of fosse's.
        let alien = home.write("alien", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xff\xff");
        fs::set_permissions(&alien, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        falls_back(home, &mounting(&alien, "/.fosse/init"));
    });
}

/// As SELinux does it: the file may not be executed, or the socket not be used.
#[test]
fn an_engine_that_forbids_its_files_gets_the_second_path() {
    on_docker_with(Carrier::Init, |home| {
        let plain = home.write("plain", "");
        falls_back(home, &mounting(&plain, "/.fosse/init"));
    });
}

/// An engine on another machine sees no file of this one.
#[test]
fn an_engine_that_cannot_see_the_files_gets_the_second_path() {
    on_docker_with(Carrier::Init, |home| {
        falls_back(
            home,
            r#"case $1 in run) echo 'docker: Error response from daemon: invalid mount config for type "bind": bind source path does not exist: /x.' >&2; exit 125;; esac; exec docker "$@""#,
        );
    });
}

/// A mistake of the run's own is said in the same words as ever, and is no verdict on the engine.
#[test]
fn a_run_that_the_engine_refuses_is_no_verdict() {
    on_docker_with(Carrier::Init, |home| {
        let output = home.run(Engine::Docker, &["--user", "1:1", "--workdir", "/etc/passwd"], &["true"]);
        assert_eq!(code(&output), 125, "{output:?}");
        assert_eq!(code(&home.run(Engine::Docker, &[], &["true"])), 0);
        assert_eq!(io(home), "init");
        home.assert_nothing_left();
    });
}

#[test]
fn a_mount_over_fosses_own_directory_is_left_alone() {
    on_docker_with(Carrier::Init, |home| {
        let dir = home.dir.join("mine");
        fs::create_dir(&dir).unwrap();
        let mount = format!("{}:/.fosse", dir.display());
        let output = home.run(Engine::Docker, &["-m", &mount], &["ls", "-A", "/.fosse"]);
        assert_eq!((code(&output), stdout(&output).as_str(), io(home).as_str()), (0, "", "engine"), "{output:?}");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "no stub is left in somebody's directory");
    });
}

/// Values travel over the channel: the engine is told none, not even a name.
#[test]
fn the_engine_hears_of_no_variable() {
    on_docker_with(Carrier::Init, |home| {
        let client = home.start(
            Engine::Docker,
            &["-e", "TOKEN=hunter2"],
            "test \"$TOKEN\" = hunter2 && echo right; exec sleep 1000",
        );
        client.wait_for_output("right");
        let name = format!("fosse-{}", home.newest_id());
        let known = Engine::Docker.says(["inspect", &name]);
        assert!(!known.contains("hunter2") && !known.contains("TOKEN") && known.contains(IMAGE), "{known}");
        client.signal(crate::support::TERM);
        client.output();
    });
}
