//! What only a live run may have on disk is gone when it is over, whoever was killed on the way; and a state directory does
//! not grow by what killed processes leave.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::exec::commands::start_box;
use crate::support::{
    Carrier, Client, Engine, Home, KILL, code, finish, is_full, on_each_engine_with, on_native,
    on_native_and_docker_with, wait_until,
};

const SECRET: &str = "hunter2-of-this-test";

/// Files below a directory that hold the secret.
fn holding_the_secret(dir: &Path) -> Vec<PathBuf> {
    let has = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
    crate::support::snapshot(dir).into_iter().filter(|(_, bytes)| has(bytes)).map(|(path, _)| path).collect()
}

/// Names of what the directories of ended runs hold beside what stays.
fn beside_what_stays(home: &Home) -> Vec<PathBuf> {
    let runs = fs::read_dir(home.state().join("runs")).into_iter().flatten().flatten();
    let files = runs.flat_map(|run| fs::read_dir(run.path()).into_iter().flatten().flatten());
    let names = ["record.json", "output.log", "owner.lock"];
    files.map(|file| file.path()).filter(|path| !names.iter().any(|name| path.ends_with(name))).collect()
}

/// Starts an exec with variables that travel in a file, and kills it while its command runs.
fn kill_an_exec(home: &Home) {
    let variables: Vec<String> = ["DOCKER_TOKEN", "XDG_TOKEN"].iter().map(|name| format!("{name}={SECRET}")).collect();
    let mut args = vec!["exec"];
    variables.iter().for_each(|variable| args.extend(["-e", variable]));
    args.extend(["box", "--", "sh", "-c", "echo there; exec sleep 30"]);
    let exec = Client::spawn(home.cmd(args));
    exec.wait_for_output("there");
    exec.signal(KILL);
    drop(exec);
}

#[test]
fn a_secret_of_a_killed_exec_goes_with_the_run_however_that_ends() {
    on_each_engine_with(Carrier::Client, |engine, home| {
        for end in ["stop", "kill the owner", "destroy"] {
            let run = start_box(engine, home, &[]);
            kill_an_exec(home);
            if engine == Engine::Docker {
                assert!(!holding_the_secret(&home.dir).is_empty(), "nothing travels in a file: this tests nothing");
            }
            match end {
                "kill the owner" => {
                    run.signal(KILL);
                    drop(run);
                    assert_eq!(code(&home.fosse(["stop", "box"])), 0, "{engine:?}");
                }
                "destroy" => {
                    assert_eq!(code(&home.fosse(["rm", "-f", "box"])), 0, "{engine:?}");
                }
                _ => assert_eq!(code(&home.fosse(["stop", "box"])), 0, "{engine:?}"),
            }
            assert_eq!(holding_the_secret(&home.dir), Vec::<PathBuf>::new(), "{engine:?}, {end}");
            assert_eq!(beside_what_stays(home), Vec::<PathBuf>::new(), "{engine:?}, {end}");
        }
    });
}

/// An owner that is killed between its last record and its last step leaves what the next verb, or the daemon, removes:
/// also what nobody knows today.
#[test]
fn what_an_owner_leaves_after_its_last_record_goes_with_the_next_verb_or_the_daemons_sweep() {
    on_native_and_docker_with(Carrier::Init, |engine, home| {
        for verb in [&["stop", "box"][..], &["clean", "networks"], &["daemon", "reap"], &["destroy", "box"]] {
            let mut command = home.run_cmd(engine, &["-n", "box"], &["true"]);
            command.env("FOSSE_FAILPOINT", "final");
            finish(command);
            let dir = home.state().join("runs").join(home.newest_id());
            for name in ["env", "env-0123", ".record.json.0123.new", "of-a-later-version"] {
                fs::write(dir.join(name), SECRET).unwrap();
            }
            fs::create_dir(dir.join("left")).unwrap();
            fs::write(dir.join("left/exit"), SECRET).unwrap();
            let done = home.fosse(verb);
            assert_eq!(code(&done), 0, "{engine:?}, {verb:?}: {done:?}");
            assert_eq!(holding_the_secret(&home.dir), Vec::<PathBuf>::new(), "{engine:?}, {verb:?}");
            // It says no more than that an engine may be asked.
            let left = beside_what_stays(home).into_iter().filter(|path| !path.ends_with("engine"));
            assert_eq!(left.collect::<Vec<_>>(), Vec::<PathBuf>::new(), "{engine:?}, {verb:?}");
            assert_eq!(code(&home.fosse(["daemon", "stop"])), 0);
            assert_eq!(code(&home.fosse(["rm", "-f", "box"])), 0);
            home.assert_nothing_left();
        }
    });
}

/// A client with another runtime directory finishes a run whose sockets it would not look for there.
#[test]
fn the_sockets_of_a_dead_owner_go_wherever_they_are() {
    on_native(|home| {
        let run = start_box(Engine::Native, home, &[]);
        run.signal(KILL);
        drop(run);
        assert!(home.dir.join("run").join(format!("{}.sock", home.newest_id())).exists());
        let mut stop = home.cmd(["stop", "box"]);
        stop.env("FOSSE_RUNTIME_DIR", home.dir.join("other"));
        assert_eq!(code(&finish(stop)), 0);
        home.assert_nothing_left();
    });
}

/// Makes a file look as if it was written a while ago.
fn age(path: &Path) {
    let mut touch = Command::new("touch");
    touch.args(["-d", "2 minutes ago"]).arg(path);
    assert_eq!(code(&finish(touch)), 0);
}

#[test]
fn half_written_files_are_removed_once_nobody_can_still_be_writing_them() {
    on_native(|home| {
        assert_eq!(code(&home.run(Engine::Native, &[], &["true"])), 0);
        let names = [".instance-0123.new", "..instance-0123.new.4567.new", "engines/.x.json.0123.new"];
        for (stays, verb) in [(true, &["clean"][..]), (false, &["clean"]), (false, &["daemon", "reap"])] {
            for name in names {
                let path = home.write(&format!("state/{name}"), "half");
                if !stays {
                    age(&path);
                }
            }
            assert_eq!(code(&home.fosse(verb)), 0);
            for name in names {
                assert_eq!(home.state().join(name).exists(), stays, "{name}, {verb:?}");
                fs::remove_file(home.state().join(name)).unwrap_or_default();
            }
        }
        assert_eq!(code(&home.fosse(["daemon", "stop"])), 0);
    });
}

/// Killed at any moment, with several that write the same files at once: what is there in the end can be read, and is
/// no more than what has a name.
#[test]
fn a_state_directory_does_not_grow_by_what_is_killed() {
    on_native(|home| {
        let mut delay = 1_u64;
        for _ in 0..if is_full() { 100 } else { 15 } {
            let run = Client::spawn(home.run_cmd(Engine::Native, &[], &["sleep", "1000"]));
            delay = delay * 7 % 41;
            std::thread::sleep(std::time::Duration::from_millis(delay));
            crate::support::try_kill(run.pid(), KILL);
        }
        wait_until("the machine has ended all of them", || home.insiders().is_empty());
        assert_eq!(code(&home.fosse(["clean"])), 0);
        // What has no lock yet may still be in the making.
        for entry in fs::read_dir(home.state().join("runs")).unwrap().flatten() {
            age(&entry.path());
        }
        for path in crate::support::snapshot(&home.state()).into_iter().map(|(path, _)| path) {
            age(&path);
        }
        assert_eq!(code(&home.fosse(["clean"])), 0);
        let names = crate::support::snapshot(&home.state()).into_iter().map(|(path, _)| path);
        let names: Vec<String> =
            names.map(|path| path.strip_prefix(home.state()).unwrap().to_string_lossy().into_owned()).collect();
        let known = ["engines", "engines/native-read-only", "instance", "names", "runs"];
        assert!(names.iter().all(|name| known.contains(&name.as_str())), "{names:?}");
        home.assert_nothing_left();
    });
}
