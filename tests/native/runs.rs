//! What is the native runtime's own: its plan, its limits, what it says where it cannot do something, `doctor`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::support::native::{
    Caller, USER, assert_gone, first_of_namespace, for_each_caller, for_root, in_mounts, names, run, run_cmd, says,
    start, traces,
};
use crate::support::{Home, KILL, code, finish, kill, snapshot, stderr, stdout, wait_until};

#[test]
fn a_dry_run_prints_the_steps_and_touches_nothing() {
    for_each_caller(|_, home| {
        let before = snapshot(&home.dir);
        let text = home.fosse(["run", "--dry-run", "--", "true"]);
        assert_eq!(code(&text), 0, "{text:?}");
        let lines: Vec<String> = stdout(&text).lines().map(str::to_owned).collect();
        for step in ["overlay /usr", "mount proc /proc", "enter", "no-privileges", "seccomp"] {
            assert!(lines.contains(&step.to_owned()), "{step}: {lines:#?}");
        }
        assert!(lines.iter().any(|line| line.starts_with("bind ") && line.ends_with(" /workspace")), "{lines:#?}");
        let json = home.fosse(["run", "--dry-run", "--json", "-e", "SECRET=tell-nobody", "--", "true"]);
        let plan: Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!((&plan["runtime"], &plan["engine"], &plan["image"]), (&"native".into(), &Value::Null, &Value::Null));
        let steps = plan["steps"].as_array().unwrap();
        assert!(steps.iter().any(|step| step["step"] == "overlay" && step["path"] == "/usr"), "{steps:#?}");
        assert_eq!(plan["calls"], Value::Array(vec![]));
        assert!(!stdout(&json).contains("tell-nobody"));
        assert_eq!(snapshot(&home.dir), before);
    });
}

#[test]
fn without_an_image_the_runtime_is_native_and_the_record_names_no_engine() {
    for_each_caller(|caller, home| {
        let output = home.fosse(["run", "--", "sh", "-c", "id -u; pwd"]);
        assert_eq!((code(&output), stdout(&output)), (0, format!("{}\n/workspace\n", caller.uid())));
        let record = home.newest();
        assert_eq!(record["runtime"], "native");
        for key in ["engine", "image", "container_id", "network_id"] {
            assert_eq!(record[key], Value::Null, "{key}");
        }
        assert_eq!((&record["io"], &record["user"]), (&"init".into(), &format!("{0}:{0}", caller.uid()).into()));
    });
}

#[test]
fn what_native_cannot_do_is_an_error_before_anything_is_made() {
    for_each_caller(|_, home| {
        for (options, word) in [
            (&["--image", "busybox"][..], "no image"),
            (&["--keep"], "kept"),
            (&["--network", "private"], "private network"),
            (&["--pids", "1"], "--pids"),
        ] {
            let output = run(home, options, "true");
            assert_eq!(code(&output), 125, "{options:?}");
            let text = stderr(&output);
            assert!(text.contains(word) && text.contains("\nhint: "), "{options:?}: {text}");
            assert_eq!(text.lines().count(), 2, "{text}");
        }
        assert_eq!(home.list(), Vec::<Value>::new());
    });
}

#[test]
fn who_the_command_is_inside_is_the_caller_outside() {
    for_each_caller(|caller, home| {
        for (user, inside) in [("caller", caller.uid()), ("root", 0), ("image", caller.uid())] {
            let name = format!("by-{user}");
            let said = says(home, &["--user", user], &format!("id -u; touch {name}"));
            assert_eq!(said, inside.to_string(), "{user}");
            let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(home.workspace().join(name)).unwrap());
            assert_eq!(owner, caller.uid(), "{user}");
        }
        if caller == Caller::User {
            // A number that is nobody's is the caller as well.
            assert_eq!(says(home, &["--user", "77:78"], "id -u; id -g; touch numbered"), "77\n78");
            let about = fs::metadata(home.workspace().join("numbered")).unwrap();
            assert_eq!(std::os::unix::fs::MetadataExt::uid(&about), caller.uid());
        }
    });
}

#[test]
fn root_can_run_a_command_as_somebody_else() {
    for_root(|home| {
        let user = USER.to_string();
        std::os::unix::fs::chown(home.workspace(), Some(USER), Some(USER)).unwrap();
        assert_eq!(says(home, &["--user", &user], "id -u; touch there"), user);
        let about = fs::metadata(home.workspace().join("there")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&about), USER);
    });
}

#[test]
fn a_mount_point_is_made_anywhere_but_in_what_is_shared() {
    for_each_caller(|_, home| {
        let file = home.write("shared/file", "content");
        let dir = file.parent().unwrap().display().to_string();
        let targets = ["/usr/local/made/dir", "/opt/made", "/new/place", "/run/made", "/etc/made"];
        let mounts: Vec<String> = targets.iter().map(|target| format!("{dir}:{target}:ro")).collect();
        let one = format!("{}:/usr/local/made/file:ro", file.display());
        let mut options: Vec<&str> = mounts.iter().flat_map(|mount| ["-m", mount]).collect();
        options.extend(["-m", &one]);
        let script = format!("cat /usr/local/made/file; for t in {}; do cat $t/file; done", targets.join(" "));
        assert_eq!(says(home, &options, &script), "content".repeat(6));
        assert!(!std::path::Path::new("/usr/local/made").exists() && !std::path::Path::new("/new").exists());
        // A stub in the workspace would stay.
        let output = run(home, &["-m", &format!("{dir}:/workspace/stub")], "true");
        assert_eq!(code(&output), 125);
        assert!(stderr(&output).contains("make the mount point first"), "{}", stderr(&output));
        assert!(!home.workspace().join("stub").exists());
        fs::create_dir(home.workspace().join("point")).unwrap();
        assert_eq!(says(home, &["-m", &format!("{dir}:/workspace/point")], "cat point/file"), "content");
        // Mounted read-only is read-only.
        assert_ne!(code(&run(home, &options, "echo x >/usr/local/made/file")), 0);
        assert_eq!(fs::read_to_string(&file).unwrap(), "content");
    });
}

#[test]
fn a_limit_of_processes_is_kept_without_a_control_group() {
    for_each_caller(|_, home| {
        let output = run(home, &["--pids", "8"], "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo started");
        assert!(stderr(&output).contains("ork"), "{output:?}");
        assert_eq!(code(&run(home, &["--pids", "64"], "true | true | true")), 0);
    });
}

/// Whether this process's user can have control groups here.
fn has_groups(home: &Home) -> bool {
    let output = run(home, &["--memory", "64m", "--cpus", "1"], "true");
    match code(&output) {
        0 => true,
        125 => {
            let text = stderr(&output);
            assert!(
                text.contains("memory") && text.contains("cannot be limited") && text.contains("\nhint: "),
                "{text}"
            );
            false
        }
        other => panic!("{other}: {output:?}"),
    }
}

#[test]
fn memory_is_limited_or_that_is_an_error() {
    for_each_caller(|caller, home| {
        if !has_groups(home) {
            assert_eq!(caller, Caller::User, "root can have control groups");
            assert_eq!(home.list(), Vec::<Value>::new());
            return;
        }
        let hungry = "exec perl -e '$x = \"x\" x (200 << 20); print length $x'";
        assert_eq!(code(&run(home, &[], hungry)), 0);
        let output = run(home, &["--memory", "64m"], hungry);
        assert_eq!(code(&output), 137, "{output:?}");
        let record = home.newest();
        assert_eq!((&record["reason"], &record["signal"]), (&"oom".into(), &9.into()));
        assert_eq!(says(home, &["--memory", "64m"], "cat /proc/self/cgroup | grep -c fosse || true"), "0");
        assert_gone(home);
    });
}

#[test]
fn processors_are_limited() {
    for_root(|home| {
        if !has_groups(home) {
            return;
        }
        let mut client = start(home, &["--cpus", "0.2", "--pids", "50"], "while :; do :; done");
        let pid = first_of_namespace(client.pid()).unwrap();
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(groups.lines().filter(|line| line.contains("/fosse-")).count() >= 1, "{groups}");
        client.signal(KILL);
        client.wait();
        // The guard takes them away, with nobody else there to do it.
        wait_until("no control group is left", || traces(home).is_empty());
        home.fosse(["stop", &home.newest_id()]);
    });
}

#[test]
fn an_owner_killed_while_limits_are_made_leaves_no_control_group() {
    for_root(|home| {
        if !has_groups(home) {
            return;
        }
        let rounds = u32::try_from(crate::support::repeat(40)).unwrap().max(12);
        for round in 0..rounds {
            let mut client = crate::support::Client::spawn(run_cmd(home, &["--memory", "64m"], &["sleep", "1000"]));
            // Later and later in its start.
            let until = std::time::Instant::now() + Duration::from_millis(80) * round / rounds;
            while std::time::Instant::now() < until {
                std::thread::yield_now();
            }
            client.signal(KILL);
            client.wait();
            wait_until("no control group is left", || traces(home).is_empty());
        }
        // A directory that was being made is left alone while it may be somebody's.
        for name in names(&home.state().join("runs")).iter().filter(|name| name.starts_with(".new-")) {
            fs::remove_dir_all(home.state().join("runs").join(name)).unwrap();
        }
        home.fosse(["clean"]);
    });
}

#[test]
fn what_cannot_be_written_inside_is_said_once() {
    for_root(|home| {
        // More entries than are taken apart, with another file system below.
        let script = "mkdir -p \"$D/many\"; for i in $(seq 1600); do echo \"$D/many/$i\"; done | xargs mkdir; \
             mount --rbind \"$D\" /srv; mount -t tmpfs none /srv/many/7; \"$@\"";
        let dir = home.dir.join("srv");
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let again = |script: &str, options: &[&str]| {
            let mut command = in_mounts(
                home,
                script,
                &run_cmd(home, options, &["sh", "-c", "ls /srv/many | wc -l; touch /srv/many/x"]),
            );
            finish({
                command.env("D", &dir);
                command
            })
        };
        // A script is told nothing, people once, and the record always.
        let told = |output: &Output| stderr(output).contains("fosse: /srv/many can only be read inside");
        let next = "mount --rbind \"$D\" /srv; mount -t tmpfs none /srv/many/7; \"$@\"";
        for (script, options, wanted) in [(script, &[][..], false), (next, &["-v"], true), (next, &["-v"], false)] {
            let output = again(script, options);
            assert_eq!((stdout(&output).as_str(), told(&output)), ("1600\n", wanted), "{output:?}");
            assert_ne!(code(&output), 0);
            assert_eq!(home.newest()["read_only"], serde_json::json!(["/srv/many"]));
        }
        assert_eq!(code(&run(home, &[], "true")), 0);
        assert_eq!(home.newest()["read_only"], serde_json::json!([]));
    });
}

#[test]
fn doctor_tries_each_piece_of_a_sandbox() {
    for_each_caller(|_, home| {
        let mut command = home.cmd(["doctor", "--json"]);
        command.env("FOSSE_DOCKER", "/nowhere/docker").env("FOSSE_PODMAN", "/nowhere/podman");
        let output = finish(command);
        let checks: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let result = |name: &str| {
            let found = checks.iter().find(|check| check["check"] == name);
            found.unwrap_or_else(|| panic!("no {name}: {checks:#?}"))["result"].as_str().unwrap().to_owned()
        };
        for name in ["native user namespaces", "native sandbox", "native overlay", "native network namespace"] {
            assert_eq!(result(name), "ok", "{name}");
        }
        assert!(["ok", "note"].contains(&&*result("native limits")));
        assert_eq!(code(&output), 0, "{output:?}");
        // Where no namespace can be had, the switch is named.
        let mut wrapper = home.cmd(["doctor"]);
        wrapper.env("FOSSE_DOCKER", "/nowhere/docker").env("FOSSE_PODMAN", "/nowhere/podman");
        let script = "echo 0 >/proc/sys/user/max_user_namespaces; exec \"$@\"";
        let mut wrapped = crate::support::init::wrapped(&wrapper, &["unshare", "-Ur", "sh", "-c", script, "sh"]);
        home.belongs(&mut wrapped);
        let output = finish(wrapped);
        assert_eq!(code(&output), 1, "{output:?}");
        assert!(stdout(&output).contains("problem  native user namespaces"), "{output:?}");
        assert!(stdout(&output).contains("user.max_user_namespaces"), "{output:?}");
    });
}

#[test]
fn status_shows_that_namespaces_can_be_had_and_where_runs_live() {
    for_each_caller(|_, home| {
        let client = start(home, &["-n", "alive"], "exec sleep 1000");
        let output = home.fosse(["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        let native = status["runtimes"].as_array().unwrap().iter().find(|runtime| runtime["runtime"] == "native");
        assert_eq!(native.unwrap()["state"], "available", "{status:#}");
        assert_eq!(status["runs"][0]["place"], "running", "{status:#}");
        assert_eq!(code(&home.fosse(["stop", "alive"])), 0);
        drop(client);
    });
}

#[test]
fn exec_is_the_runs_own_user_and_no_other() {
    for_each_caller(|caller, home| {
        let client = start(home, &["-n", "alive"], "exec sleep 1000");
        for user in ["caller", "image"] {
            let output = home.fosse(["exec", "--user", user, "alive", "--", "id", "-u"]);
            assert_eq!((code(&output), stdout(&output)), (0, format!("{}\n", caller.uid())), "{user}");
        }
        let output = home.fosse(["exec", "--user", "99", "alive", "--", "id"]);
        assert_eq!(code(&output), 125);
        assert!(stderr(&output).contains("no other user"), "{}", stderr(&output));
        // One that is frozen cannot introduce anybody.
        kill(client.pid(), crate::support::STOP);
        let output = home.fosse(["exec", "alive", "--", "id"]);
        assert_eq!(code(&output), 125);
        assert!(stderr(&output).contains("fosse stop"), "{}", stderr(&output));
        assert_eq!(code(&home.fosse(["stop", "alive"])), 0);
    });
}

#[test]
fn a_caller_with_few_descriptors_is_refused_before_the_command_runs_or_served() {
    for_each_caller(|_, home| {
        for most in [10, 14, 18, 22, 26, 30, 34, 64] {
            let file = home.workspace().join("ran");
            fs::remove_file(&file).unwrap_or_default();
            let command = run_cmd(home, &[], &["sh", "-c", "echo ran >ran"]);
            let limit = format!("ulimit -n {most}; exec \"$@\"");
            let mut limited = crate::support::init::wrapped(&command, &["sh", "-c", &limit, "sh"]);
            home.belongs(&mut limited);
            let output = finish(limited);
            assert_eq!(code(&output) == 0, file.exists(), "{most}: {output:?}");
            assert!(code(&output) == 0 || code(&output) == 125, "{most}: {output:?}");
        }
        assert!(home.workspace().join("ran").exists(), "64 are enough");
        finish(home.cmd(["clean"]));
    });
}

#[test]
fn a_limit_on_file_sizes_is_an_error_and_no_death() {
    for_each_caller(|_, home| {
        let limited = |blocks: u32, script: &str| {
            let command = run_cmd(home, &[], &["sh", "-c", script]);
            let limit = format!("ulimit -f {blocks}; exec \"$@\"");
            let mut limited = crate::support::init::wrapped(&command, &["sh", "-c", &limit, "sh"]);
            home.belongs(&mut limited);
            finish(limited)
        };
        let output = limited(1, "true");
        assert_eq!(code(&output), 125, "{output:?}");
        assert!(stderr(&output).contains("fosse: creating the run failed: File too large"), "{output:?}");
        // The command meets the limit as it would without fosse; what it says is passed on beyond that of the log.
        let output = limited(400, "head -c 1000000 /dev/zero >big; echo $?; head -c 1000000 /dev/zero");
        assert!(output.stdout.starts_with(b"153\n") && output.stdout.len() == 1_000_004, "{}", output.stdout.len());
        assert!(stderr(&output).contains("recording the output failed"), "{}", stderr(&output));
    });
}

#[test]
fn a_link_in_the_workspace_that_leads_to_fosses_own_directory_is_refused() {
    for_each_caller(|_, home| {
        let link = home.workspace().join("state");
        fs::create_dir(home.dir.join("elsewhere")).unwrap();
        home.give(&home.dir.join("elsewhere"));
        std::os::unix::fs::symlink("../elsewhere", &link).unwrap();
        let mut command = home.cmd(["run", "--", "true"]);
        let output = finish({
            command.env("FOSSE_STATE_DIR", &link);
            command
        });
        assert_eq!(code(&output), 125, "{output:?}");
        assert!(stderr(&output).contains("a link that leads to fosse's own"), "{}", stderr(&output));
    });
}

#[test]
fn fosses_directories_are_covered_under_the_paths_that_bind_mounts_give_them() {
    for_root(|home| {
        assert_eq!(code(&home.fosse(["run", "--", "true"])), 0);
        let alias = home.dir.join("alias");
        for dir in [&alias, &home.workspace().join("state")] {
            fs::create_dir(dir).unwrap();
        }
        // The state directory in the workspace, and all of the home beside it.
        let script = "mount --bind \"$H/state\" \"$H/ws/state\"; mount --bind \"$H\" \"$H/alias\"; \"$@\"";
        let mounted = |options: &[&str], inside: &str| {
            let mut command = in_mounts(home, script, &run_cmd(home, options, &["sh", "-c", inside]));
            command.env("H", &home.dir);
            finish(command)
        };
        let output = mounted(&[], "ls state; touch state/evil; echo done");
        assert_eq!(stdout(&output), "done\n", "{output:?}");
        assert!(!home.state().join("evil").exists());
        let alias = alias.display();
        let output =
            mounted(&["-m", &format!("{alias}:/mnt/all")], "ls /mnt/all/state; touch /mnt/all/state/evil; echo done");
        assert_eq!(stdout(&output), "done\n", "{output:?}");
        assert!(!home.state().join("evil").exists());
        let output = mounted(&["-m", &format!("{alias}/state:/mnt/state")], "true");
        assert_eq!(code(&output), 125);
        assert!(stderr(&output).contains("fosse's own"), "{}", stderr(&output));
    });
}

#[test]
fn root_inside_reads_no_more_of_the_host_than_others_do_however_deep() {
    for_root(|home| {
        let deep = std::path::Path::new("/srv").join(crate::support::native::name_of(home));
        let keys: Vec<_> = (1..9).map(|depth| deep.join(vec!["d"; depth].join("/")).join("key")).collect();
        for key in &keys {
            fs::create_dir_all(key.parent().unwrap()).unwrap();
            fs::write(key, "secret").unwrap();
            fs::set_permissions(key, fs::Permissions::from_mode(0o640)).unwrap();
        }
        fs::write(deep.join("open"), "open").unwrap();
        let script =
            format!("cat {0}/open; cat $(find {0} -name key) 2>/dev/null; touch {0}/d/new; echo", deep.display());
        let users = [&[][..], &["--user", "0:5"], &["--user", "1234:0"], &["--user", "1234"]];
        let outputs = users.map(|user| run(home, user, &script));
        let made = deep.join("d/new").exists();
        fs::remove_dir_all(&deep).unwrap();
        for output in outputs {
            assert_eq!(stdout(&output), "open\n", "{output:?}");
        }
        assert!(!made);
    });
}
