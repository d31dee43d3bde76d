//! `fosse run`: the command's exit code, its user, its places, its environment, its limits.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{
    Carrier, Client, Engine, Home, IMAGE, KILL, TERM, code, is_full, on_docker, on_each_engine, on_each_real_engine,
    on_native, on_native_and_docker, repeat_on, stderr, stdout,
};

/// The command's exit code is the client's, the record's and `wait`'s, 16 runs at a time.
#[test]
fn exit_codes_0_to_255_are_exact_sixteen_at_a_time() {
    on_each_engine(|engine, home| {
        let next = AtomicUsize::new(0);
        let step = 256 / repeat_on(engine, 256).min(256);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    loop {
                        let wanted = next.fetch_add(step, Ordering::SeqCst);
                        if wanted > 255 {
                            return;
                        }
                        let name = format!("code-{wanted}");
                        let options = ["--name", &name, "--no-workspace", "--network", "none"];
                        let output = home.run(engine, &options, &["sh", "-c", &format!("exit {wanted}")]);
                        assert_eq!(code(&output), i32::try_from(wanted).unwrap(), "{engine:?} {output:?}");
                        let waited = home.fosse(["wait", &name]);
                        assert_eq!(
                            (stdout(&waited).trim(), code(&waited)),
                            (wanted.to_string().as_str(), code(&output))
                        );
                    }
                });
            }
        });
        for record in home.list() {
            let wanted: u64 = record["name"].as_str().unwrap().trim_start_matches("code-").parse().unwrap();
            assert_eq!(record["exit_code"], wanted, "{record}");
            assert_eq!(record["state"], if wanted == 0 { "stopped" } else { "failed" }, "{record}");
            assert_eq!(record["reason"], "exited", "{record}");
        }
        home.assert_nothing_left();
    });
}

#[test]
fn a_command_that_is_missing_or_cannot_be_executed_gives_127_or_126() {
    on_each_engine(|engine, home| {
        let tells_itself = home.carrier == Carrier::Init || engine.is_apple();
        for (command, wanted) in [("/not/there", 127), ("not-there", 127), ("/etc/passwd", 126), ("/tmp", 126)] {
            // Apple's tool says of all of them that it does not find them.
            let wanted = if engine.is_apple() && home.carrier == Carrier::Client { 127 } else { wanted };
            let output = home.run(engine, &[], &[command]);
            assert_eq!(code(&output), wanted, "{engine:?} {command} {output:?}");
            let record = home.newest();
            assert_eq!(
                (record["reason"].as_str(), record["exit_code"].as_i64()),
                // The engine's init cannot be believed: the command could say and return the same.
                (Some(if tells_itself { "start_failed" } else { "exited" }), Some(wanted.into()))
            );
            assert!(stderr(&output).contains("fosse: starting the command failed: "), "{output:?}");
        }
    });
}

/// A path that leads to no program, for whatever reason, is told the same wherever that is found out.
#[test]
fn a_path_that_no_program_can_have_gives_127_or_126() {
    let long = format!("/tmp/{}", "n".repeat(300));
    on_each_engine(|engine, home| {
        if engine.is_apple() {
            // What its tool says of these is not known.
            return;
        }
        std::os::unix::fs::symlink("loop", home.workspace().join("loop")).unwrap();
        for (command, wanted) in [("/etc/passwd/x", 127), ("/workspace/loop", 126), (&long, 126)] {
            let output = home.run(engine, &[], &[command]);
            assert_eq!(code(&output), wanted, "{engine:?} {command} {output:?}");
            assert!(stderr(&output).contains("fosse: starting the command failed: "), "{output:?}");
        }
        let run = home.start(engine, &["-n", "box"], "exec sleep 1000");
        for (command, wanted) in [("/etc/passwd/x", 127), ("/workspace/loop", 126), (&long, 126)] {
            let output = home.fosse(["exec", "box", "--", command]);
            assert_eq!(code(&output), wanted, "{engine:?} exec {command} {output:?}");
        }
        assert_eq!(code(&home.fosse(["stop", "-q", "box"])), 0);
        run.output();
    });
}

#[test]
fn a_command_of_its_own_that_looks_like_a_failure_is_still_a_command() {
    on_each_engine(|engine, home| {
        for wanted in [1, 125, 126, 127, 137] {
            let script = format!("echo 'docker: Error response from daemon' >&2; exit {wanted}");
            let output = home.run(engine, &[], &["sh", "-c", &script]);
            assert_eq!((code(&output), stderr(&output).as_str()), (wanted, "docker: Error response from daemon\n"));
            assert_eq!(home.newest()["reason"], "exited");
        }
    });
}

/// X11: what the engine says when it cannot start the container is an error, never the command's output.
#[test]
fn x11_a_container_that_does_not_start_is_an_error_and_not_output() {
    on_each_engine(|engine, home| {
        let output = home.run(engine, &["--user", "1:1", "--workdir", "/etc/passwd"], &["true"]);
        assert_eq!((code(&output), output.stdout.len()), (125, 0), "{output:?}");
        let text = stderr(&output);
        assert!(text.starts_with("fosse: ") && text.lines().count() <= 2, "{text}");
        let record = home.newest();
        assert_eq!(
            (record["reason"].as_str(), record["exit_code"].is_null()),
            (Some("start_failed"), true),
            "{record}"
        );
        assert!(record["error"].as_str().is_some_and(|error| !error.is_empty()), "{record}");
        assert_eq!(home.logs(record["id"].as_str().unwrap()).stderr, b"");
        home.assert_nothing_left();
    });
}

#[test]
fn files_made_in_the_workspace_belong_to_the_caller() {
    on_each_engine(|engine, home| {
        let output = home.run(engine, &[], &["sh", "-c", "pwd; echo x >made; mkdir d"]);
        assert_eq!((code(&output), stdout(&output).as_str()), (0, "/workspace\n"), "{output:?}");
        let own = fs::metadata(home.workspace()).unwrap();
        for name in ["made", "d"] {
            let made = fs::metadata(home.workspace().join(name)).unwrap();
            assert_eq!((made.uid(), made.gid()), (own.uid(), own.gid()), "{engine:?} {name}");
        }
        assert_eq!(fs::read_dir(home.workspace()).unwrap().count(), 2, "nothing else is in the workspace");
    });
}

#[test]
fn the_user_is_who_was_asked_for() {
    on_each_engine(|engine, home| {
        // Where there is no image, there is nobody else than the caller.
        let callers = home.ids();
        let images = if engine.is_native() { format!("{}:{}", callers.0, callers.1) } else { "0:0".into() };
        for (user, wanted) in [("1234:77", "1234:77"), ("5", "5:5"), ("root", "0:0"), ("image", &images)] {
            let output = home.run(engine, &["--no-workspace", "--user", user], &["sh", "-c", "echo $(id -u):$(id -g)"]);
            assert_eq!(stdout(&output).trim(), wanted, "{engine:?} {output:?}");
        }
    });
}

#[test]
fn home_is_private_empty_and_writable_for_any_user() {
    on_each_engine(|engine, home| {
        for user in ["root", "1234", "image"] {
            let script = "ls -A $HOME; echo '#!/bin/sh\necho ran' >$HOME/x; chmod +x $HOME/x; $HOME/x";
            let output = home.run(engine, &["--user", user], &["sh", "-c", script]);
            assert_eq!((code(&output), stdout(&output).as_str()), (0, "ran\n"), "{engine:?} {user} {output:?}");
        }
        assert_eq!(fs::read_dir(home.dir.join("home")).unwrap().count(), 0, "the caller's home is untouched");
    });
}

#[test]
fn the_environment_is_fosses_own_the_locale_and_what_was_asked_for() {
    on_each_engine(|engine, home| {
        let file = home.write("vars", "# a comment\n\nFROM_FILE=a b \nLATER=file\n");
        let mut command = home.run_cmd(
            engine,
            &[
                "--name",
                "envs",
                "--env-file",
                file.to_str().unwrap(),
                "-e",
                "GIVEN=1=2",
                "-e",
                "COPIED",
                "-e",
                "LATER=option",
                "-e",
                "EMPTY=",
            ],
            &["env"],
        );
        command.env("COPIED", "from caller").env("SECRET_OF_CALLER", "no").env("LC_TIME", "C").env("TZ", "UTC");
        let output = crate::support::finish(command);
        let text = stdout(&output);
        let has = |line: &str| text.lines().any(|there| there == line);
        for line in [
            "FROM_FILE=a b ",
            "LATER=option",
            "GIVEN=1=2",
            "COPIED=from caller",
            "EMPTY=",
            "LC_TIME=C",
            "TZ=UTC",
            "FOSSE_RUN_NAME=envs",
        ] {
            assert!(has(line), "{engine:?} {line:?} in {text}");
        }
        assert!(has(&format!("FOSSE_RUN_ID={}", home.newest_id())), "{text}");
        assert!(!text.contains("SECRET_OF_CALLER") && !text.contains("CARGO"), "{text}");
        let names = home.newest()["env"].clone();
        assert_eq!(names, serde_json::json!(["COPIED", "EMPTY", "FROM_FILE", "GIVEN", "LATER"]));
    });
}

#[test]
fn any_value_of_a_variable_arrives_as_it_is() {
    on_each_engine(|engine, home| {
        let long = "x".repeat(100_000);
        let values =
            ["two\nlines", " blanks ", "\"quoted\"", "'single'", "#hash", "a=b", "ends\r", "é", "*", "\t", &long];
        // All in one run, unless nothing is to be spared.
        for values in values.chunks(if is_full() { 1 } else { values.len() }) {
            let set: Vec<String> = (0..).zip(values).map(|(at, value)| format!("V{at}={value}")).collect();
            let options: Vec<&str> = set.iter().flat_map(|set| ["-e", set]).collect();
            let shown = (0..values.len()).map(|at| format!("printf '%s\\0' \"$V{at}\"; ")).collect::<Vec<_>>().concat();
            let output = home.run(engine, &options, &["sh", "-c", &shown]);
            let arrived: Vec<String> = stdout(&output).split_terminator('\0').map(str::to_owned).collect();
            assert_eq!(arrived, values, "{engine:?} {:?}", stderr(&output));
        }
    });
}

#[test]
fn mounts_show_what_they_should_and_read_only_means_it() {
    on_each_engine(|engine, home| {
        home.write("data/file", "content");
        let source = home.dir.join("data");
        let (plain, read_only) = (format!("{}:/plain", source.display()), format!("{}:/ro:ro", source.display()));
        let script = "cat /plain/file; echo more >/plain/new; echo x >/ro/y || echo refused";
        let output = home.run(engine, &["-m", &plain, "-m", &read_only], &["sh", "-c", script]);
        assert_eq!(stdout(&output), "contentrefused\n", "{engine:?} {output:?}");
        assert!(source.join("new").exists() && !source.join("y").exists());
    });
}

#[test]
fn everything_from_the_command_on_belongs_to_it() {
    on_native_and_docker(|engine, home| {
        // The default runtime is the one that this is about.
        let image: &[&str] = if engine.is_native() { &[] } else { &["--image", IMAGE] };
        let output = home.fosse([&["run"], image, &["echo", "--image", "-n", "--", "x"]].concat());
        assert_eq!(stdout(&output), "--image -n -- x\n", "{output:?}");
        assert_eq!(home.newest()["runtime"], engine.name());
        let output = home.run(engine, &[], &["sh", "-c", "printf '[%s]' \"$@\"", "sh", "", "a b", "-x"]);
        assert_eq!(stdout(&output), "[][a b][-x]");
    });
}

#[test]
fn stdin_is_empty_unless_it_is_asked_for() {
    on_each_engine(|engine, home| {
        for (options, wanted) in [(&["-i"][..], "a\nb\0c"), (&[][..], "")] {
            let mut command = home.run_cmd(engine, options, &["cat"]);
            command.stdin(Stdio::piped());
            let mut client = Client::spawn(command);
            // Without -i nobody reads it, and the client may be gone before it is written.
            client.stdin().write_all(b"a\nb\0c").unwrap_or_default();
            let output = client.output();
            assert_eq!((code(&output), stdout(&output).as_str()), (0, wanted), "{engine:?} {output:?}");
        }
    });
}

#[test]
fn ten_megabytes_go_in_and_come_out_unchanged() {
    on_each_engine(|engine, home| {
        let bytes: Vec<u8> = (0..10_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut command = home.run_cmd(engine, &["-i"], &["cat"]);
        command.stdin(Stdio::piped());
        let mut client = Client::spawn(command);
        let mut stdin = client.stdin();
        let sent = bytes.clone();
        let writer = std::thread::spawn(move || stdin.write_all(&sent));
        let output = client.output();
        writer.join().unwrap().unwrap();
        assert!(output.stdout == bytes, "{engine:?}: {} bytes came back", output.stdout.len());
    });
}

#[test]
fn limits_are_kept() {
    on_each_real_engine(|engine, home| {
        let read = |file: &str, also: &str| format!("cat /sys/fs/cgroup/{file} /sys/fs/cgroup/{also} 2>/dev/null");
        let memory = read("memory/memory.limit_in_bytes", "memory.max");
        let pids = read("pids/pids.max", "pids.max");
        let options = ["--memory", "64m", "--cpus", "0.5", "--pids", "33", "--no-workspace"];
        let output = home.run(engine, &options, &["sh", "-c", &format!("{memory}; {pids}")]);
        assert_eq!(stdout(&output).split_whitespace().collect::<Vec<_>>(), ["67108864", "33"], "{engine:?} {output:?}");
    });
}

/// A sandbox shows no control group inside: the host's view of it is looked at, and it goes with the run.
#[test]
fn limits_of_a_sandbox_are_kept_by_a_control_group_that_goes_with_it() {
    on_native(|home| {
        if refuses_limits(home) {
            return;
        }
        for ending in [TERM, KILL] {
            limited(home, ending);
        }
    });
}

fn limited(home: &Home, ending: i32) {
    let options = ["--memory", "64m", "--cpus", "0.5", "--pids", "33", "--network", "none"];
    let client = home.start(Engine::Native, &options, "exec sleep 1000");
    let groups = control_groups(home.init_of(Engine::Native));
    let read = |file: &str| groups.iter().find_map(|dir| fs::read_to_string(dir.join(file)).ok());
    let either = |file: &str, older: &str| read(file).or_else(|| read(older)).unwrap_or_default().trim().to_owned();
    assert_eq!(either("memory.max", "memory.limit_in_bytes"), "67108864", "{groups:?}");
    assert_eq!(either("pids.max", "pids.max"), "33", "{groups:?}");
    let quota = read("cpu.max").unwrap_or_else(|| {
        let older = |file: &str| read(file).unwrap_or_default().trim().to_owned();
        format!("{} {}", older("cpu.cfs_quota_us"), older("cpu.cfs_period_us"))
    });
    let numbers: Vec<u64> = quota.split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert_eq!(numbers[0] * 2, numbers[1], "{quota}");
    client.signal(ending);
    client.output();
    if ending == KILL {
        assert_eq!(code(&home.fosse(["stop", &home.newest_id()])), 0);
    }
    let own = groups.iter().filter(|dir| dir.to_string_lossy().contains("fosse"));
    let left: Vec<_> = own.clone().filter(|dir| dir.exists()).collect();
    assert!(own.count() > 0 && left.is_empty(), "{left:?} of {groups:?}");
    home.assert_nothing_left();
}

/// Who may make no control group is told so, and nothing runs without the limit that was asked for.
pub fn refuses_limits(home: &Home) -> bool {
    let ran = home.workspace().join("ran");
    let mut refused = Vec::new();
    for limit in [["--memory", "64m"], ["--cpus", "0.5"]] {
        let output = home.run(Engine::Native, &limit, &["touch", "/workspace/ran"]);
        refused.push(code(&output) != 0);
        if code(&output) != 0 {
            assert_eq!(code(&output), 125, "{output:?}");
            let said = stderr(&output);
            assert!(said.contains("cannot be limited: ") && said.contains("\nhint: "), "{said}");
            assert!(!ran.exists() && home.list().is_empty());
        }
    }
    // Root always may, and somebody else where a session has groups of its own.
    assert!(refused[0] == refused[1] && !(refused[0] && home.ids().0 == 0), "{refused:?}");
    refused[0]
}

/// The directories of a process's control groups (cgroups(7)), of either version.
fn control_groups(pid: i32) -> Vec<std::path::PathBuf> {
    let lines = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let parts = lines.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
    let places = parts.flat_map(|parts| {
        let hierarchies = [format!("/sys/fs/cgroup/{}", parts[1]), "/sys/fs/cgroup/unified".into()];
        hierarchies.map(|hierarchy| std::path::PathBuf::from(format!("{hierarchy}{}", parts[2])))
    });
    places.collect()
}

#[test]
fn a_command_killed_for_memory_says_so() {
    on_each_engine(|engine, home| {
        let hog = ["dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1"];
        // The emulator of Apple's tool records a limit and keeps none.
        if engine.is_apple() || (engine.is_native() && refuses_limits(home)) {
            return;
        }
        let mut options = vec!["--memory", "16m", "--no-workspace"];
        // For the engine to be asked afterwards.
        options.extend((!engine.is_native()).then_some("--keep"));
        let output = home.run(engine, &options, &hog);
        assert_eq!(code(&output), 137, "{engine:?} {output:?}");
        let record = home.newest();
        // fosse's own init counts for itself. What an engine does not know is not claimed: podman on cgroup v1 never does, and docker loses the event
        // when the exit overtakes it.
        let container = format!("fosse-{}", home.newest_id());
        let known = || engine.says(["container", "inspect", "--format", "{{.State.OOMKilled}}", &container]) == "true";
        let reason = record["reason"].as_str();
        // It may have come to know it after it was asked.
        let is_right = reason == Some("oom") && (home.carrier == Carrier::Init || known());
        let is_honest = reason == Some("exited") && home.carrier == Carrier::Client;
        assert!(record["state"] == "failed" && (is_right || is_honest), "{record}");
        assert_eq!(code(&home.fosse(["destroy", &home.newest_id()])), 0);
    });
}

#[test]
fn the_id_file_is_written_before_the_command_starts_and_never_overwritten() {
    on_native_and_docker(|engine, home| {
        let file = home.workspace().join("id");
        let options = ["--id-file", file.to_str().unwrap()];
        let output = home.run(engine, &options, &["cat", "/workspace/id"]);
        assert_eq!(stdout(&output).trim(), home.newest_id(), "{output:?}");
        let again = home.run(engine, &options, &["true"]);
        assert_eq!(code(&again), 125);
        assert_eq!(home.list().len(), 1, "nothing was created");
    });
}

#[test]
fn a_name_belongs_to_one_live_run_and_is_free_again_at_its_end() {
    on_native_and_docker(|engine, home| {
        let client = home.start(engine, &["--name", "web"], "read x; exec sleep 1000");
        let second = home.run(engine, &["--name", "web"], &["true"]);
        assert_eq!(code(&second), 125);
        assert!(stderr(&second).contains("in use"), "{second:?}");
        assert_eq!(home.list().len(), 1);
        assert_eq!(code(&home.fosse(["stop", "web"])), 0);
        client.output();
        assert_eq!(code(&home.run(engine, &["--name", "web"], &["true"])), 0);
        let newest = home.fosse(["inspect", "web"]);
        assert!(stdout(&newest).contains("\"exit_code\": 0"), "a name means the newest run: {newest:?}");
    });
}

#[test]
fn a_kept_container_stays_until_it_is_destroyed() {
    on_each_real_engine(|engine, home| {
        let options = ["--keep", "--network", "private"];
        assert_eq!(code(&home.run(engine, &options, &["true"])), 0);
        assert_eq!(home.objects(engine).len(), 2, "{engine:?}");
        assert_eq!(code(&home.fosse(["clean", "networks"])), 0);
        assert_eq!(home.objects(engine).len(), 2, "the reaper leaves it alone");
        let destroyed = home.fosse(["destroy", &home.newest_id()]);
        assert_eq!(code(&destroyed), 0, "{destroyed:?}");
        home.assert_nothing_left();
    });
}

#[test]
fn a_dry_run_prints_the_plan_and_touches_nothing() {
    on_docker(|home| {
        let options = ["--dry-run", "-e", "TOKEN=hunter2", "--network", "private"];
        let output = home.run(Engine::Docker, &options, &["echo", "it's"]);
        assert_eq!(code(&output), 0, "{output:?}");
        let plan = stdout(&output);
        assert!(plan.contains("docker network create"), "{plan}");
        let made = if home.carrier == Carrier::Init { "docker run --detach" } else { "docker create" };
        assert!(plan.contains(made), "{plan}");
        assert!(plan.contains("'it'\\''s'") && !plan.contains("hunter2"), "{plan}");
        let json = home.run(Engine::Docker, &["--dry-run", "--json", "-e", "TOKEN=hunter2"], &["true"]);
        let plan: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!((plan["schema"].as_i64(), plan["runtime"].as_str()), (Some(1), Some("docker")));
        assert!(!plan.to_string().contains("hunter2"));
        assert!(!home.state().exists() && !home.dir.join("run").exists(), "nothing was made");
    });
}

/// What it would do to the host is all there, in the order of doing, for people and for programs.
#[test]
fn a_dry_run_of_a_native_run_prints_the_steps_and_touches_nothing() {
    on_native(|home| {
        let output = home.run(Engine::Native, &["--dry-run", "-e", "TOKEN=hunter2", "--network", "none"], &["true"]);
        assert_eq!(code(&output), 0, "{output:?}");
        let plan = stdout(&output);
        let place = |words: &str| plan.find(words).unwrap_or_else(|| panic!("no {words:?} in {plan}"));
        let order = ["unshare user", "unshare mount,pid,ipc,uts,net", "loopback", "/workspace", "enter", "seccomp"];
        assert!(order.map(place).is_sorted(), "{plan}");
        assert!(!plan.contains("hunter2"), "{plan}");
        let json = home.run(Engine::Native, &["--dry-run", "--json", "-e", "TOKEN=hunter2"], &["true"]);
        let plan: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!((plan["schema"].as_i64(), plan["runtime"].as_str()), (Some(1), Some("native")));
        assert!(!plan.to_string().contains("hunter2"));
        assert!(!home.state().exists() && !home.dir.join("run").exists(), "nothing was made");
    });
}

/// X10: the words on stderr come in their order, and a script sees none of them.
#[test]
fn x10_started_is_said_before_the_first_byte_and_only_when_asked() {
    on_native_and_docker(|engine, home| {
        let quiet = home.run(engine, &[], &["echo", "x"]);
        assert_eq!((stdout(&quiet).as_str(), stderr(&quiet).as_str()), ("x\n", ""));
        let mut command = home.run_cmd(engine, &["-v", "--name", "told"], &["sh", "-c", "echo first >&2; exit 4"]);
        command.stdout(Stdio::null());
        let output = crate::support::finish(command);
        let id = home.newest_id();
        let wanted = format!("fosse: started told ({id})\nfirst\nfosse: view output: fosse logs {id}\n");
        assert_eq!(stderr(&output), wanted);
    });
}
