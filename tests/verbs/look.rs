//! The verbs that look: `list`, `inspect`, `logs`, `wait`, `status`, `doctor`, and how they write.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Carrier, Engine, Home, code, on_native_and_docker_with, stderr, stdout};

/// Runs the body with a home that has two runs, native ones and docker's.
fn with_runs(body: impl Fn(Engine, &Home)) {
    on_native_and_docker_with(Carrier::Init, |engine, home| {
        let script = "echo one; echo two; printf three";
        home.run(engine, &["-n", "good", "--label", "team=a"], &["sh", "-c", script]);
        let script = "echo out; echo err >&2; printf '\\377\\n'; exit 4";
        home.run(engine, &["-n", "bad", "--label", "team=b"], &["sh", "-c", script]);
        body(engine, home);
    });
}

#[test]
fn a_list_has_its_columns_newest_first_and_filters() {
    with_runs(|engine, home| {
        let text = stdout(&home.fosse(["list"]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0].split_whitespace().collect::<Vec<_>>(),
            ["NAME", "ID", "RUNTIME", "STATE", "EXIT", "AGE", "COMMAND"]
        );
        assert!(lines[1].starts_with("bad ") && lines[2].starts_with("good ") && lines.len() == 3, "{text}");
        let names = |args: &[&str]| -> Vec<String> {
            let output = home.fosse([&["list", "--json"], args].concat());
            stdout(&output)
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap()["name"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(names(&["--filter", "state=failed"]), ["bad"]);
        assert_eq!(names(&["--filter", "label=team=a"]), ["good"]);
        assert_eq!(names(&["--filter", "label=team"]), ["bad", "good"]);
        assert_eq!(names(&["--filter", "name=good", "--filter", &format!("runtime={}", engine.name())]), ["good"]);
        assert_eq!(names(&["--filter", "runtime=podman"]), Vec::<String>::new());
        assert_eq!(names(&["--running"]), Vec::<String>::new());
        let ids = stdout(&home.fosse(["ls", "-q"]));
        assert!(ids.lines().count() == 2 && ids.lines().all(|id| id.len() == 12), "{ids}");
    });
}

#[test]
fn colour_is_for_terminals_and_for_those_who_ask() {
    with_runs(|_, home| {
        let colored = |args: &[&str], environment: &[(&str, &str)]| {
            let mut command = home.cmd([&["list"], args].concat());
            for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
                command.env_remove(name);
            }
            command.envs(environment.iter().copied());
            stdout(&crate::support::finish(command)).contains('\u{1b}')
        };
        assert!(!colored(&[], &[]));
        assert!(colored(&["--color", "always"], &[("NO_COLOR", "1")]));
        assert!(colored(&[], &[("CLICOLOR_FORCE", "1")]));
        assert!(!colored(&[], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
        assert!(!colored(&["--color", "never"], &[("CLICOLOR_FORCE", "1")]));
    });
}

#[test]
fn inspect_gives_the_whole_record() {
    with_runs(|engine, home| {
        let record: Value = serde_json::from_slice(&home.fosse(["inspect", "bad"]).stdout).unwrap();
        for key in [
            "schema",
            "id",
            "name",
            "state",
            "runtime",
            "engine",
            "io",
            "image",
            "command",
            "workspace",
            "workdir",
            "user",
            "network",
            "interactive",
            "labels",
            "created_at",
            "started_at",
            "stopped_at",
            "exit_code",
            "signal",
            "reason",
            "error",
            "container_id",
            "network_id",
            "keep",
            "timeout_ms",
            "read_only",
            "log_bytes",
            "log_truncated",
            "machine_id",
            "boot_id",
        ] {
            assert!(record.get(key).is_some(), "{key} in {record}");
        }
        assert_eq!(
            (record["schema"].as_i64(), record["io"].as_str(), record["exit_code"].as_i64()),
            (Some(1), Some("init"), Some(4))
        );
        // What only an engine has is null where there is none.
        for key in ["engine", "image", "container_id"] {
            assert_eq!(record[key].is_null(), engine.is_native(), "{key} in {record}");
        }
        assert_eq!(record["runtime"], engine.name());
        assert!(
            record["created_at"].as_str() < record["started_at"].as_str()
                && record["started_at"].as_str() <= record["stopped_at"].as_str()
        );
        let two = home.fosse(["inspect", "bad", "good", "nosuch"]);
        assert_eq!((code(&two), stdout(&two).lines().count()), (1, 2));
    });
}

#[test]
fn logs_come_on_their_streams_and_in_every_form() {
    with_runs(|_, home| {
        let logs = |args: &[&str]| home.fosse([&["logs"], args].concat());
        assert_eq!(logs(&["bad"]).stderr, b"err\n");
        assert_eq!(logs(&["bad"]).stdout, b"out\n\xff\n");
        let only = logs(&["--stream", "stderr", "bad"]);
        assert_eq!((&only.stdout[..], &only.stderr[..]), (&b""[..], &b"err\n"[..]));
        assert_eq!(stdout(&logs(&["-n", "2", "good"])), "two\nthree");
        assert_eq!(stdout(&logs(&["-n", "0", "good"])), "");
        assert_eq!(stdout(&logs(&["--tail", "99", "good"])), "one\ntwo\nthree");
        let stamped = stdout(&logs(&["--timestamps", "good"]));
        for (line, word) in stamped.lines().zip(["one", "two", "three"]) {
            let (time, rest) = line.split_once(' ').unwrap();
            assert!(time.parse::<jiff::Timestamp>().is_ok() && rest == word, "{line}");
        }
        let mut bytes = [Vec::new(), Vec::new()];
        for line in stdout(&logs(&["--json", "bad"])).lines() {
            let object: Value = serde_json::from_str(line).unwrap();
            assert!(object["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
            let stream = usize::from(object["stream"] == "stderr");
            match object.get("text") {
                Some(text) => bytes[stream].extend(text.as_str().unwrap().bytes()),
                None => {
                    assert_eq!(object["base64"], "/wo=");
                    bytes[stream].extend(b"\xff\n");
                }
            }
        }
        assert_eq!(bytes, [b"out\n\xff\n".to_vec(), b"err\n".to_vec()]);
    });
}

/// A damaged record is listed as unknown and stops nothing.
#[test]
fn a_record_that_cannot_be_read_is_unknown_and_stops_nothing() {
    with_runs(|engine, home| {
        let record = home.state().join("runs").join(home.newest_id()).join("record.json");
        for damage in ["", "{", "null", "{\"schema\":1}", "\u{0}\u{0}"] {
            std::fs::write(&record, damage).unwrap();
            let text = stdout(&home.fosse(["list"]));
            assert!(text.contains("unknown") && text.contains("\ngood "), "{damage:?} {text}");
            assert_eq!(code(&home.fosse(["wait", "good"])), 0);
            assert_eq!(code(&home.fosse(["status"])), 0);
            assert_eq!(code(&home.run(engine, &[], &["true"])), 0);
            let doctor = home.fosse(["doctor"]);
            assert!(code(&doctor) == 1 && stdout(&doctor).contains("cannot be read"), "{doctor:?}");
        }
        std::fs::write(&record, vec![b' '; 5 << 20]).unwrap();
        assert!(stdout(&home.fosse(["list"])).contains("unknown"));
        let id = record.parent().unwrap().file_name().unwrap().to_str().unwrap();
        assert_eq!(code(&home.fosse(["destroy", id])), 0);
        assert!(!stdout(&home.fosse(["list"])).contains("unknown"));
    });
}

#[test]
fn a_closed_stdout_ends_a_verb_quietly_and_a_full_one_is_an_error() {
    with_runs(|_, home| {
        for args in [
            &["list"][..],
            &["inspect", "good"],
            &["logs", "good"],
            &["status"],
            &["doctor"],
            &["--help"],
            &["--version"],
            &["list", "--help"],
            &["run", "--help"],
            &["wait", "good"],
        ] {
            let (reader, writer) = fosse::sys::fd::pipe().unwrap();
            drop(reader);
            let output =
                home.cmd(args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
            assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{args:?}");
            let full = File::options().write(true).open("/dev/full").unwrap();
            let output =
                home.cmd(args).stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(if args[0] == "run" { 125 } else { 1 }), "{args:?}");
            assert!(
                stderr(&output).starts_with("fosse: writing to stdout failed: No space left"),
                "{args:?} {output:?}"
            );
        }
    });
}

#[test]
fn status_and_doctor_speak_json_too() {
    with_runs(|_, home| {
        let status: Value = serde_json::from_slice(&home.fosse(["status", "--json"]).stdout).unwrap();
        assert_eq!(
            (status["schema"].as_i64(), status["ended"].as_i64(), status["orphans"].as_i64()),
            (Some(1), Some(2), Some(0))
        );
        assert_eq!(status["runtimes"][0]["state"], "available");
        let doctor = home.fosse(["doctor", "--json"]);
        for line in stdout(&doctor).lines() {
            let check: Value = serde_json::from_str(line).unwrap();
            assert!(matches!(check["result"].as_str(), Some("ok" | "note" | "problem")), "{check}");
        }
    });
}

/// `doctor` says what is wrong when podman itself cannot run anything.
#[test]
fn doctor_says_what_is_wrong_when_podman_cannot_run_anything() {
    if !Engine::Podman.available() {
        return;
    }
    let home = Home::new();
    let broken = home.write(
        "broken.conf",
        "[engine]\nruntime = \"no-such-runtime\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n",
    );
    let mut command = home.cmd(["doctor"]);
    command.env("CONTAINERS_CONF", &broken);
    let output = crate::support::finish(command);
    let text = stdout(&output);
    assert_eq!(code(&output), 1, "{text}");
    assert!(text.contains("problem  podman") && text.contains("no-such-runtime"), "{text}");
    assert!(text.lines().any(|line| line.contains("hint: ") && line.contains("runtime")), "{text}");
}

#[test]
fn help_and_version_are_data_on_stdout() {
    let home = Home::new();
    let version = home.fosse(["--version"]);
    assert_eq!((code(&version), stdout(&version).lines().count()), (0, 1));
    let mut text = String::new();
    for args in [&["--help"][..], &["run", "--help"], &["list", "-h"]] {
        let output = home.fosse(args);
        assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
        (&output.stdout[..]).read_to_string(&mut text).unwrap();
    }
    assert!(text.contains("Usage: fosse"));
}
