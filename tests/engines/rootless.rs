//! An engine that would leave something with whoever has never used it, if it was only asked, is not asked.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::support::native::{Caller, USER};
use crate::support::{Engine, Home, IMAGE, KILL, code, finish, processes, stdout, try_kill};

/// A home of somebody without rights who finds podman, with a directory in front of PATH.
fn home() -> Option<Home> {
    if !Caller::User.available() || !fosse::sys::process::effective_ids().0.eq(&0) {
        return None;
    }
    let home = Home::of_user(Some(USER));
    for dir in ["bin", "xdg"] {
        fs::create_dir(home.dir.join(dir)).unwrap();
        home.give(&home.dir.join(dir));
    }
    Some(home)
}

/// A verb of that user's. Nothing names podman, and docker is not there.
fn cmd(home: &Home, args: &[&str]) -> Command {
    let mut command = home.cmd(args);
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", home.dir.join("bin").display());
    command.env_remove("FOSSE_PODMAN").env("XDG_RUNTIME_DIR", home.dir.join("xdg")).env("PATH", path);
    command.env_remove("CONTAINERS_CONF").env_remove("CONTAINER_HOST").env("FOSSE_EXECUTABLE", home.program());
    command
}

/// The verbs that a user without podman uses, whether an engine has something or not.
const VERBS: [&[&str]; 10] = [
    &["status"],
    &["doctor"],
    &["run", "--", "true"],
    &["list"],
    &["status", "--json"],
    &["daemon", "reap"],
    &["daemon", "stop"],
    &["clean", "networks"],
    &["clean"],
    &["doctor", "--json"],
];

#[test]
fn verbs_of_a_user_who_never_used_podman_leave_nothing_of_it_behind() {
    let Some(home) = home().filter(|_| Engine::Podman.available()) else { return };
    for args in VERBS {
        finish(cmd(&home, args));
        let left = processes::naming(&home.dir.to_string_lossy());
        for process in &left {
            // It is not the next test's.
            try_kill(processes::number(process), KILL);
        }
        assert_eq!(left, Vec::<String>::new(), "{args:?}");
        for dir in ["home/.local", "home/.config", "xdg/libpod", "xdg/containers"] {
            assert!(!home.dir.join(dir).exists(), "{args:?} made {dir}");
        }
    }
    let said = stdout(&finish(cmd(&home, &["status"])));
    assert!(said.lines().any(|line| line == "podman   not used (/usr/bin/podman)"), "{said}");
    let doctor = finish(cmd(&home, &["doctor"]));
    let said = stdout(&doctor);
    assert!(
        said.contains("note     podman: /usr/bin/podman is not asked") && !said.contains("no engine can run"),
        "{said}"
    );
}

/// A podman that tells how it was called, and answers everything with a version.
fn told(home: &Home) -> PathBuf {
    let told = home.write("told", "");
    let script = "echo \"$*\" >>\"${0%bin/podman}told\"; echo 4.3.1";
    home.script("bin/podman", script);
    told
}

#[test]
fn podman_is_asked_where_it_is_asked_for_or_was_used() {
    let Some(home) = home() else { return };
    let told = told(&home);
    let asked = |command: Command| {
        fs::write(&told, "").unwrap();
        finish(command);
        !fs::read_to_string(&told).unwrap().is_empty()
    };
    for args in VERBS {
        assert!(!asked(cmd(&home, args)), "{args:?}");
    }
    for (name, value) in
        [("FOSSE_PODMAN", "podman"), ("FOSSE_RUNTIME", "podman"), ("CONTAINER_HOST", "unix:///nowhere")]
    {
        let mut command = cmd(&home, &["status"]);
        command.env(name, value);
        assert!(asked(command), "{name}={value}");
    }
    home.write("home/.config/fosse/config.json", r#"{"podman": "podman"}"#);
    assert!(asked(cmd(&home, &["status"])));
    fs::remove_file(home.user_config()).unwrap();
    assert!(!asked(cmd(&home, &["status"])));
    // Asked for by a run, which it does not come to: from then on it may have something.
    for options in [&["--runtime", "podman"][..], &[]] {
        fs::remove_dir_all(home.state()).unwrap();
        let run = [&["run", "--image", IMAGE], options, &["--", "true"]].concat();
        assert!(asked(cmd(&home, &run)));
        for args in [&["status"][..], &["doctor"], &["clean", "networks"], &["daemon", "reap"], &["clean"], &["status"]]
        {
            assert!(asked(cmd(&home, args)), "{args:?}");
        }
        assert_eq!(code(&finish(cmd(&home, &["daemon", "stop"]))), 0);
    }
    // A record says it, too.
    fs::remove_dir_all(home.state()).unwrap();
    let run = ["run", "--image", IMAGE, "--runtime", "podman", "--", "true"];
    assert!(asked(cmd(&home, &run)));
    fs::remove_dir_all(home.state().join("engines")).unwrap();
    assert!(asked(cmd(&home, &["status"])));
}
