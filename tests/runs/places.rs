//! Where sockets are: in a runtime directory of the caller's own, whatever the environment says, and elsewhere once that is
//! gone. Nobody's run suffers for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::native::{Caller, USER, for_each_caller, is_root};
use crate::support::{Client, Engine, Home, STOP, code, finish, left_out, on_docker_with, on_native, stderr, stdout};

/// The directory below /tmp, as long as a test may leave something there.
struct Spare(PathBuf);

impl Spare {
    fn of(home: &Home) -> Self {
        Spare(PathBuf::from(format!("/tmp/fosse-{}", home.ids().0)))
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        // Another test may have something in it.
        fs::remove_dir(&self.0).unwrap_or_default();
    }
}

/// A command with a runtime directory by the rules of XDG alone.
fn with(home: &Home, args: &[&str], runtime: &Path) -> Command {
    let mut command = home.cmd(args);
    command.env_remove("FOSSE_RUNTIME_DIR").env("XDG_RUNTIME_DIR", runtime);
    command
}

/// The directory of the newest run's control socket, as its lock's file says.
fn told(home: &Home) -> PathBuf {
    let lock = home.state().join("runs").join(home.newest_id()).join("owner.lock");
    let said: serde_json::Value = serde_json::from_slice(&fs::read(lock).unwrap()).unwrap();
    Path::new(said["socket"].as_str().unwrap()).parent().unwrap().to_owned()
}

/// Starts `box` in that environment, and uses it from there and from an environment without one.
fn assert_works(home: &Home, runtime: &Path, wanted: &Path) {
    let run = Client::spawn(with(home, &["run", "--runtime", "native", "-n", "box", "sleep", "1000"], runtime));
    crate::support::wait_until("it runs", || home.list().iter().any(|run| run["state"] == "running"));
    assert_eq!(told(home), wanted);
    for mut command in [with(home, &["exec", "box", "--", "true"], runtime), home.cmd(["exec", "box", "--", "true"])] {
        let output = finish({
            command.env("LC_ALL", "C");
            command
        });
        assert_eq!(code(&output), 0, "{output:?}");
    }
    assert_eq!(code(&finish(with(home, &["stop", "box"], runtime))), 0);
    assert_eq!(code(&run.output()), 143);
    assert_eq!(code(&home.fosse(["rm", "box"])), 0);
}

#[test]
fn a_runtime_directory_that_is_not_the_callers_own_counts_as_unset() {
    for_each_caller(|_, home| {
        let spare = Spare::of(home);
        let own = home.dir.join("own");
        fs::create_dir(&own).unwrap();
        home.give(&own);
        assert_works(home, &own, &own.join("fosse"));
        let link = home.dir.join("link");
        std::os::unix::fs::symlink(&own, &link).unwrap();
        assert_works(home, &link, &link.join("fosse"));
        let file = home.write("file", "");
        for other in [&file, &home.dir.join("missing"), Path::new("relative"), Path::new("")] {
            assert_works(home, other, &spare.0);
        }
        assert!(!home.dir.join("missing").exists());
    });
}

/// After su, sudo -E and the like: the directory is another user's, who may not even be disturbed by root.
#[test]
fn another_users_runtime_directory_is_neither_needed_nor_touched() {
    if !is_root() {
        return left_out("a directory of another user's needs root");
    }
    for_each_caller(|caller, home| {
        let spare = Spare::of(home);
        let others = home.dir.join("others");
        fs::create_dir(&others).unwrap();
        let other = if caller == Caller::Root { USER } else { 0 };
        std::os::unix::fs::lchown(&others, Some(other), Some(other)).unwrap();
        assert_works(home, &others, &spare.0);
        assert_eq!(fs::read_dir(&others).unwrap().count(), 0, "something was made there");
        // What an earlier version of root's has left in a user's.
        let poisoned = home.dir.join("poisoned");
        fs::create_dir_all(poisoned.join("fosse")).unwrap();
        home.give(&poisoned);
        std::os::unix::fs::lchown(poisoned.join("fosse"), Some(other), Some(other)).unwrap();
        assert_works(home, &poisoned, &spare.0);
    });
}

/// A way to take the runtime directory away: what goes, how, and whether a socket can be had after that.
type Removal = (&'static str, Box<dyn Fn()>, bool);

fn removals(home: &Home) -> [Removal; 4] {
    let run = home.dir.join("roots/login/run");
    let login = home.dir.join("roots/login");
    let remove = |dir: PathBuf| move || fs::remove_dir_all(&dir).unwrap();
    let socket = {
        let run = run.clone();
        move || fs::read_dir(&run).unwrap().flatten().for_each(|entry| fs::remove_file(entry.path()).unwrap())
    };
    let replaced = {
        let run = run.clone();
        move || {
            fs::remove_dir_all(&run).unwrap();
            fs::write(&run, "").unwrap();
        }
    };
    [
        ("the socket", Box::new(socket), true),
        ("the directory", Box::new(remove(run.clone())), true),
        // The user cannot make it again.
        ("the directory with its parent", Box::new(remove(login)), true),
        ("a file in its place", Box::new(replaced), false),
    ]
}

/// A command that uses a runtime directory which a login would have made.
fn at_login(home: &Home, args: &[&str]) -> Command {
    let mut command = home.cmd(args);
    command.env("FOSSE_RUNTIME_DIR", home.dir.join("roots/login/run"));
    command
}

fn log_in(home: &Home) {
    let login = home.dir.join("roots/login");
    fs::remove_dir_all(home.dir.join("roots")).unwrap_or_default();
    fs::create_dir_all(&login).unwrap();
    if home.user.is_some() {
        std::os::unix::fs::lchown(&login, home.user, home.user).unwrap();
    }
}

#[test]
fn a_run_whose_runtime_directory_vanishes_is_stopped_politely_and_takes_execs() {
    for_each_caller(|caller, home| {
        let _spare = Spare::of(home);
        for (number, (what, take_away, comes_back)) in removals(home).into_iter().enumerate() {
            log_in(home);
            let name = format!("box{number}");
            let script = "trap 'echo asked; sleep 0.2; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
            let run = at_login(home, &["run", "--runtime", "native", "-n", &name, "--", "sh", "-c", script]);
            let run = Client::spawn(run);
            run.wait_for_output("ready");
            take_away();
            if comes_back {
                let exec = home.fosse(["exec", &name, "--", "sh", "-c", "exit 6"]);
                assert_eq!((code(&exec), stderr(&exec).as_str()), (6, ""), "{caller:?}, {what}");
            }
            let stop = home.fosse(["stop", &name]);
            assert_eq!(code(&stop), 0, "{caller:?}, {what}: {stop:?}");
            let output = run.output();
            assert_eq!(
                (code(&output), stdout(&output).as_str()),
                (5, "ready\nasked\n"),
                "{caller:?}, {what}: {output:?}"
            );
            let record = home.newest();
            assert_eq!((record["state"].as_str(), record["exit_code"].as_i64()), (Some("stopped"), Some(5)), "{what}");
            home.assert_nothing_left();
            let left = fs::read_dir(format!("/tmp/fosse-{}", home.ids().0)).into_iter().flatten().flatten();
            let id = home.newest_id();
            assert!(!left.map(|file| file.file_name()).any(|file| file.to_string_lossy().contains(&id)), "{what}");
        }
    });
}

/// Frozen is frozen, also where there is no way to it.
#[test]
fn a_frozen_owner_without_a_socket_is_ended_at_once() {
    on_native(|home| {
        let run = home.start(Engine::Native, &["-n", "box", "--grace", "1h"], "exec sleep 1000");
        run.signal(STOP);
        fs::remove_dir_all(home.dir.join("run")).unwrap();
        assert_eq!(code(&home.fosse(["stop", "box"])), 0);
        let record = home.newest();
        assert_eq!((record["state"].as_str(), record["reason"].as_str()), (Some("stopped"), Some("stopped")));
        drop(run);
    });
}

/// The engine's own exec does not need the owner, and the owner hears of a stop all the same.
#[test]
fn a_container_whose_owner_has_lost_its_socket_is_stopped_politely() {
    for carrier in crate::support::Carrier::BOTH {
        on_docker_with(carrier, |home| {
            let script = "trap 'echo asked; exit 5' TERM; while :; do sleep 0.05; done";
            let run = home.start(Engine::Docker, &["-n", "box"], script);
            fs::remove_dir_all(home.dir.join("run")).unwrap();
            fs::write(home.dir.join("run"), "").unwrap();
            assert_eq!(code(&home.fosse(["stop", "box"])), 0);
            let output = run.output();
            assert_eq!((code(&output), stdout(&output).as_str()), (5, "ready\nasked\n"), "{carrier:?}");
            fs::remove_file(home.dir.join("run")).unwrap();
        });
    }
}
