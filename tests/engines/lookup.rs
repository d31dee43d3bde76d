//! Programs that fosse starts outside are never those of the directory it is started in.

use std::path::PathBuf;

use crate::support::native::{Caller, for_each_caller};
use crate::support::{Engine, Home, code, finish, stderr, stdout};

/// Values of PATH that lead to the current directory, or below it; `dir` is where the usual programs are.
const PATHS: [&str; 7] = ["", ".", ":dir", "dir:", "bin:dir", "dir::bin", "./bin/../bin:dir:."];

/// The programs of engines, and what they may start, in a workspace that would like to be asked.
const NAMES: [&str; 7] = ["docker", "podman", "container", "conmon", "newuidmap", "helper", "fosse"];

/// A workspace full of programs that tell that they were started.
fn trap(home: &Home) -> PathBuf {
    let sprung = home.write("sprung", "");
    for name in NAMES {
        for dir in ["ws", "ws/bin"] {
            let told = format!("echo \"$0 $*\" >>'{}'; echo 1.0; exit 0", sprung.display());
            home.script(&format!("{dir}/{name}"), &told);
        }
    }
    std::fs::set_permissions(&sprung, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    sprung
}

/// PATH with the usual directories in it.
fn path(value: &str) -> String {
    value.replace("dir", "/usr/sbin:/usr/bin:/sbin:/bin")
}

#[test]
fn no_verb_starts_a_tool_of_the_directory_it_is_started_in() {
    for_each_caller(|caller, home| {
        let sprung = trap(home);
        // The look-up is the same for everybody.
        for value in &PATHS[..if caller == Caller::Root { 3 } else { PATHS.len() }] {
            for args in [
                &["status"][..],
                &["doctor"],
                &["run", "--image", "busybox", "--dry-run", "--", "true"],
                &["run", "--image", "no-such-image-of-this-test:1", "--", "true"],
                &["run", "--runtime", "podman", "--image", "no-such-image-of-this-test:1", "--", "true"],
                &["run", "--", "true"],
                &["clean", "all"],
                &["daemon", "reap"],
                &["daemon", "stop"],
            ] {
                let mut command = home.cmd(args);
                command.env("PATH", path(value)).env_remove("FOSSE_DOCKER").env_remove("FOSSE_PODMAN");
                // Nobody listens there: this is about which tool is asked.
                command.env("DOCKER_HOST", "unix:///nowhere/sock").env("CONTAINER_HOST", "unix:///nowhere/sock");
                command.env("FOSSE_EXECUTABLE", home.program()).env("XDG_RUNTIME_DIR", home.dir.join("home"));
                finish(command);
                let told = std::fs::read_to_string(&sprung).unwrap();
                assert_eq!(told, "", "{caller:?}, PATH={value:?}, {args:?}");
            }
        }
    });
}

/// A tool has helpers of its own, which it looks for by itself.
#[test]
fn no_tool_finds_a_helper_in_the_directory_that_fosse_is_started_in() {
    for_each_caller(|caller, home| {
        let sprung = trap(home);
        let tool = home.script("tool", "helper; bin/../helper 2>/dev/null; cd /; echo \"PATH=$PATH\" >&2; exit 1");
        for value in PATHS.into_iter().filter(|value| value.contains("dir")) {
            let mut command = home.cmd(["status", "--json"]);
            command.env("PATH", path(value)).env("FOSSE_DOCKER", &tool).env("FOSSE_PODMAN", "/nowhere");
            let said = stdout(&finish(command));
            assert!(said.contains("PATH=/usr/sbin:/usr/bin:/sbin:/bin"), "{caller:?}, PATH={value:?}: {said}");
            let told = std::fs::read_to_string(&sprung).unwrap();
            assert!(told.lines().all(|line| line.starts_with("bin/../helper")), "{caller:?}, PATH={value:?}: {told}");
        }
    });
}

#[test]
fn a_tool_is_named_by_a_name_or_an_absolute_path() {
    for_each_caller(|_, home| {
        let sprung = trap(home);
        for name in ["FOSSE_DOCKER", "FOSSE_PODMAN", "FOSSE_CONTAINER"] {
            for value in ["./docker", "bin/docker", "../ws/docker"] {
                for args in [&["status"][..], &["clean"], &["run", "--image", "busybox", "--", "true"]] {
                    let mut command = home.cmd(args);
                    let output = finish({
                        command.env(name, value);
                        command
                    });
                    assert!(code(&output) > 0 && stderr(&output).contains(name), "{name}={value}: {output:?}");
                    assert!(stderr(&output).contains("absolute path"), "{name}={value}: {output:?}");
                }
            }
        }
        home.write("home/.config/fosse/config.json", r#"{"docker": "./docker"}"#);
        let output = home.fosse(["status"]);
        assert!(code(&output) > 0 && stderr(&output).contains("\"docker\""), "{output:?}");
        assert_eq!(std::fs::read_to_string(&sprung).unwrap(), "");
    });
}

/// Without PATH programs are where they usually are.
#[test]
fn without_a_path_tools_are_found_in_the_usual_places() {
    if !Engine::Docker.available() {
        return;
    }
    let home = Home::on(Engine::Docker, crate::support::Carrier::Init);
    let mut command = home.cmd(["status", "--json"]);
    command.env_remove("PATH");
    let said = stdout(&finish(command));
    let status: serde_json::Value = serde_json::from_str(&said).unwrap();
    let docker = status["runtimes"].as_array().unwrap().iter().find(|runtime| runtime["runtime"] == "docker").unwrap();
    assert_eq!(docker["state"], "available", "{said}");
}
