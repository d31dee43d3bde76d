//! The same promises on a real Mac, with Apple's own tool: only with FOSSE_TEST_APPLE=1, on macOS, since nothing else
//! has it. FOSSE_TEST_APPLE_IMAGE names an image with a shell (default: docker.io/library/alpine:latest, which is
//! pulled); FOSSE_INIT_BINARY may name fosse for Linux, without which codes that only an init tells are not asked for.

use std::process::Output;

use crate::support::{Client, Home, KILL, code, finish, not_here, stderr, stdout, wait_until};

const IMAGE: &str = "docker.io/library/alpine:latest";

/// The home of a test, if it is to take place.
fn home() -> Option<Home> {
    let is_wanted = std::env::var_os("FOSSE_TEST_APPLE").is_some_and(|value| value == "1");
    if !cfg!(target_os = "macos") || !is_wanted {
        not_here("it needs a Mac with Apple's tool, and FOSSE_TEST_APPLE=1");
        return None;
    }
    Some(Home::without_engines())
}

fn has_init() -> bool {
    std::env::var_os("FOSSE_INIT_BINARY").is_some()
}

fn command(home: &Home, options: &[&str], script: &str) -> std::process::Command {
    let image = std::env::var("FOSSE_TEST_APPLE_IMAGE").unwrap_or_else(|_| IMAGE.into());
    let mut args = vec!["run", "--runtime", "apple", "--image", &image];
    args.extend(options);
    args.extend(["--", "sh", "-c", script]);
    let mut command = home.cmd(args);
    if let Some(init) = std::env::var_os("FOSSE_INIT_BINARY") {
        command.env("FOSSE_INIT_BINARY", init);
    }
    command
}

fn run(home: &Home, script: &str) -> Output {
    finish(command(home, &["--no-workspace"], script))
}

/// The names of the containers that are this home's.
fn containers(home: &Home) -> Vec<String> {
    let mut tool = std::process::Command::new("container");
    tool.args(["list", "--all", "--format", "json"]);
    let listed: serde_json::Value = serde_json::from_slice(&finish(tool).stdout).unwrap();
    let instance = home.instance().unwrap_or_default();
    let ours = |found: &&serde_json::Value| found["configuration"]["labels"]["fosse.instance"] == instance.as_str();
    let all = listed.as_array().unwrap().iter();
    all.filter(ours).map(|found| found["configuration"]["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn codes_are_the_commands_own() {
    let Some(home) = home() else { return };
    for wanted in [0, 3, 42, 137] {
        assert_eq!(code(&run(&home, &format!("exit {wanted}"))), wanted);
    }
    if has_init() {
        for wanted in [1, 64, 255] {
            assert_eq!(code(&run(&home, &format!("exit {wanted}"))), wanted);
        }
        assert_eq!(code(&run(&home, "kill -9 $$")), 137);
        assert_eq!(home.newest()["signal"], 9);
    }
    assert_eq!(containers(&home), Vec::<String>::new());
}

#[test]
fn output_arrives_as_it_is_on_both_streams() {
    let Some(home) = home() else { return };
    let output = run(&home, r#"printf '\n\377 a\n\n'; printf 'no end' >&2"#);
    assert_eq!((output.stdout.as_slice(), stderr(&output).as_str()), (&b"\n\xff a\n\n"[..], "no end"));
}

/// Virtiofs: whose the files are that the command makes in the workspace.
#[test]
fn files_in_the_workspace_are_the_callers() {
    use std::os::unix::fs::MetadataExt;
    let Some(home) = home() else { return };
    assert_eq!(code(&finish(command(&home, &[], "echo here >made"))), 0);
    let made = std::fs::metadata(home.workspace().join("made")).unwrap();
    assert_eq!((made.uid(), made.gid()), home.ids());
}

#[test]
fn a_stop_ends_the_command_and_removes_the_machine() {
    let Some(home) = home() else { return };
    let client = Client::spawn(command(&home, &["-n", "stopped", "--grace", "5"], "echo ready; exec sleep 1000"));
    client.wait_for_output("ready\n");
    assert_eq!(code(&home.fosse(["stop", "stopped"])), 0);
    assert!(matches!(code(&client.output()), 137 | 143));
    assert_eq!(containers(&home), Vec::<String>::new());
}

#[test]
fn a_dead_owners_run_is_finished_by_the_next_verb() {
    let Some(home) = home() else { return };
    let mut client =
        Client::spawn(command(&home, &["-n", "lone"], "echo ready; trap 'exit 9' TERM; while :; do sleep 0.1; done"));
    client.wait_for_output("ready\n");
    client.signal(KILL);
    client.wait();
    assert_eq!(code(&home.fosse(["stop", "lone"])), 0);
    assert_eq!(home.newest()["reason"], "orphaned");
    if has_init() {
        assert_eq!(home.newest()["exit_code"], 9);
    }
    wait_until("its machine is gone", || containers(&home).is_empty());
}

#[test]
fn one_more_command_has_its_own_code_and_variables() {
    let Some(home) = home() else { return };
    let client = Client::spawn(command(&home, &["-n", "box"], "echo ready; exec sleep 1000"));
    client.wait_for_output("ready\n");
    let output = home.fosse(["exec", "-e", "TOKEN=sesame", "box", "--", "sh", "-c", "echo $TOKEN; exit 7"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (7, "sesame\n"));
    assert_eq!(code(&home.fosse(["stop", "--grace", "1", "box"])), 0);
    client.output();
}

#[test]
fn doctor_finds_nothing_wrong_with_the_service() {
    let Some(home) = home() else { return };
    let doctor = home.fosse(["doctor"]);
    assert!(stdout(&doctor).contains("apple trial: a container runs"), "{}", stdout(&doctor));
}
