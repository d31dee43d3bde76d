//! Records on disk: those of earlier versions load for ever, those of later ones as far as they are understood, and
//! what cannot be is refused and stops nothing. The files in `data` are never changed; a new shape adds a file.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use fosse::base::id::{RunId, random_hex};
use fosse::base::paths::Paths;
use fosse::run::store::{Entry, Store};
use fosse::wire::record::{self, Io, MAX_BYTES, Reason, Record, State};
use serde_json::{Map, Value, json};

fn data(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

fn load(name: &str) -> Record {
    record::parse(&data(name)).unwrap()
}

/// The failed record with some fields changed; `null` is a value, not an absence.
fn changed(changes: &Value) -> Vec<u8> {
    let mut object: Map<String, Value> = serde_json::from_slice(&data("record-1-failed.json")).unwrap();
    object.extend(changes.as_object().unwrap().clone());
    serde_json::to_vec(&object).unwrap()
}

fn without(field: &str) -> Vec<u8> {
    let mut object: Map<String, Value> = serde_json::from_slice(&data("record-1-failed.json")).unwrap();
    assert!(object.remove(field).is_some(), "{field}");
    serde_json::to_vec(&object).unwrap()
}

#[test]
fn a_final_record_of_version_1_loads_for_ever() {
    let record = load("record-1-failed.json");
    assert_eq!((record.schema, record.id.as_str(), record.name.as_str()), (1, "4f1c2a9b7d3e", "build-7"));
    assert_eq!(
        (record.state, record.reason, record.exit_code, record.signal),
        (State::Failed, Some(Reason::Exited), Some(2), None)
    );
    let engine = record.engine.unwrap();
    assert_eq!((engine.tool.as_str(), engine.endpoint.as_str()), ("docker", "unix:///var/run/docker.sock"));
    assert_eq!(
        (record.runtime.as_str(), record.io, record.image.as_deref()),
        ("docker", Io::Engine, Some("debian:13"))
    );
    assert_eq!(record.command, ["make", "-j2", "check"]);
    assert_eq!((record.workspace.as_deref(), record.user.as_str()), (Some("/home/u/project"), "1000:1000"));
    assert_eq!((record.network.as_str(), record.interactive, record.keep), ("private", false, true));
    assert_eq!(record.labels["branch"], "main");
    assert_eq!(record.env, ["CI", "MAKEFLAGS"]);
    assert_eq!(record.created_at.to_string(), "2026-11-21T09:37:12.000001Z");
    assert_eq!(record.started_at.unwrap().to_string(), "2026-11-21T09:37:13.379483Z");
    assert_eq!(record.stopped_at.unwrap().to_string(), "2026-11-21T09:38:00.500000Z");
    assert_eq!((record.container_id.as_deref(), record.network_id.as_deref()), (Some("c0ffee"), Some("beef")));
    assert_eq!((record.timeout_ms, record.grace_ms, record.log_max), (Some(60_000), 10_000, 64 << 20));
    assert_eq!((record.log_bytes, record.log_truncated, record.error), (1234, true, None));
    // What a later version says beside that.
    assert!(record.read_only.is_empty());
    assert_eq!(record.machine_id, "0123456789abcdef0123456789abcdef");
    assert_eq!(record.boot_id, "6f2d4a0e-0000-4000-8000-1234567890ab");
}

#[test]
fn a_running_record_of_version_1_loads_for_ever() {
    let record = load("record-1-running.json");
    assert_eq!((record.id.as_str(), record.state, record.reason), ("0123456789ab", State::Running, None));
    assert_eq!((record.stopped_at, record.exit_code, record.workspace, record.timeout_ms), (None, None, None, None));
    assert_eq!(record.command[2], "sleep 9 # é\n");
    assert!(record.interactive && record.labels.is_empty() && record.env.is_empty());
}

#[test]
fn no_field_of_an_old_record_is_lost_when_it_is_written_again() {
    for name in ["record-1-failed.json", "record-1-running.json"] {
        let old: Map<String, Value> = serde_json::from_slice(&data(name)).unwrap();
        let new: Map<String, Value> = serde_json::from_slice(&record::format(&load(name))).unwrap();
        for (field, value) in old {
            assert_eq!(new.get(&field), Some(&value), "{name}: {field}");
        }
    }
}

#[test]
fn a_record_of_a_later_version_loads_without_what_is_not_understood() {
    let record = load("record-7-unknown-fields.json");
    assert_eq!((record.schema, record.state, record.reason), (7, State::Stopped, Some(Reason::Stopped)));
    assert_eq!((record.exit_code, record.signal), (Some(143), Some(15)));
}

#[test]
fn what_only_later_versions_of_version_1_wrote_may_be_absent() {
    for field in [
        "interactive",
        "labels",
        "env",
        "keep",
        "grace_ms",
        "log_max",
        "log_bytes",
        "log_truncated",
        "machine_id",
        "boot_id",
    ] {
        record::parse(&without(field)).unwrap_or_else(|why| panic!("{field}: {why}"));
    }
    for field in ["schema", "id", "name", "state", "runtime", "io", "command", "user", "network", "created_at"] {
        assert!(record::parse(&without(field)).is_err(), "{field}");
    }
}

#[test]
fn impossible_records_are_refused() {
    let cases = [
        json!({"schema": 0}),
        json!({"schema": -1}),
        json!({"schema": "1"}),
        json!({"id": "4F1C2A9B7D3E"}),
        json!({"id": "../../etc/pa"}),
        json!({"id": null}),
        json!({"name": "no good"}),
        json!({"name": ""}),
        json!({"state": "exploded"}),
        json!({"state": "running"}),
        json!({"state": "stopping", "reason": null}),
        json!({"state": "running", "stopped_at": null}),
        json!({"reason": null}),
        json!({"reason": "bored"}),
        json!({"stopped_at": null}),
        json!({"stopped_at": "yesterday"}),
        json!({"created_at": "2026-11-21T09:37:12+01:00"}),
        json!({"created_at": "2026-02-30T00:00:00Z"}),
        json!({"created_at": 0}),
        json!({"exit_code": 256}),
        json!({"exit_code": -1}),
        json!({"exit_code": 1.5}),
        json!({"signal": 256}),
        json!({"io": "magic"}),
        json!({"command": "make"}),
        json!({"engine": {"tool": "docker"}}),
        json!({"labels": {"a": 1}}),
        json!({"log_bytes": -1}),
    ];
    record::parse(&changed(&json!({}))).unwrap();
    for case in cases {
        assert!(record::parse(&changed(&case)).is_err(), "{case}");
    }
    for text in ["", " ", "null", "[]", "{}", "1", "garbage", "\u{feff}{}", "{\"schema\":1,"] {
        assert!(record::parse(text.as_bytes()).is_err(), "{text:?}");
    }
    let twice = String::from_utf8(data("record-1-failed.json")).unwrap().replacen('{', "{\"exit_code\":0,", 1);
    assert!(record::parse(twice.as_bytes()).is_err(), "two exit codes");
}

#[test]
fn a_torn_record_is_no_record() {
    for name in ["record-1-failed.json", "record-1-running.json"] {
        let bytes = data(name);
        let end = bytes.iter().rposition(|byte| *byte == b'}').unwrap();
        for length in 0..=end {
            assert!(record::parse(&bytes[..length]).is_err(), "{name}: {length} bytes");
        }
        assert!(record::parse(&[&bytes[..], &b"}"[..]].concat()).is_err(), "{name}: more than one");
    }
}

// ---- in a state directory ---------------------------------------------------------------------

struct Place(PathBuf, Store);

impl Place {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("fosse-records-{}", random_hex(8).unwrap()));
        fs::create_dir_all(dir.join("state/runs")).unwrap();
        let paths = Paths {
            state: dir.join("state"),
            runtime: dir.join("run"),
            sockets: dir.join("run"),
            user_config: None,
            home: None,
            homes: vec![],
        };
        let uid = fosse::sys::process::effective_ids().0;
        Place(dir, Store { paths, uid })
    }

    /// Where the record of a run is, whose directory is there afterwards.
    fn record(&self, id: &str) -> PathBuf {
        let run = self.1.paths.run(&RunId::parse(id).unwrap());
        fs::create_dir(&run.dir).unwrap();
        run.record()
    }

    fn load(&self, id: &str) -> Option<Entry> {
        self.1.load(&RunId::parse(id).unwrap())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

#[test]
fn old_records_are_listed_and_one_that_lost_its_owner_is_shown_as_orphaned() {
    let place = Place::new();
    fs::write(place.record("4f1c2a9b7d3e"), data("record-1-failed.json")).unwrap();
    fs::write(place.record("0123456789ab"), data("record-1-running.json")).unwrap();
    fs::write(place.record("abcdef012345"), data("record-7-unknown-fields.json")).unwrap();
    let shown = place.1.all().unwrap().into_iter().map(|entry| match entry {
        Entry::Known(view) => view.shown(),
        Entry::Unreadable { id, why } => panic!("{id}: {why}"),
    });
    let told = |record: Record| (record.id.to_string(), record.state, record.reason, record.exit_code);
    let mut shown: Vec<_> = shown.map(told).collect();
    shown.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        shown,
        [
            ("0123456789ab".into(), State::Failed, Some(Reason::Orphaned), None),
            ("4f1c2a9b7d3e".into(), State::Failed, Some(Reason::Exited), Some(2)),
            ("abcdef012345".into(), State::Stopped, Some(Reason::Stopped), Some(143)),
        ]
    );
}

#[test]
fn unreadable_records_are_listed_last_say_why_and_stop_nothing() {
    let place = Place::new();
    fs::write(place.record("4f1c2a9b7d3e"), data("record-1-failed.json")).unwrap();
    // Another run's, a link, a pipe, a directory, nothing, too long, torn.
    fs::write(place.record("000000000001"), data("record-1-failed.json")).unwrap();
    // It would do, if it were not a link.
    fs::write(place.0.join("elsewhere"), changed(&json!({"id": "000000000002"}))).unwrap();
    symlink(place.0.join("elsewhere"), place.record("000000000002")).unwrap();
    let made = fosse::process::Cmd::new("mkfifo").args([place.record("000000000003")]);
    let limit = fosse::base::time::Deadline::after(std::time::Duration::from_secs(60));
    assert!(fosse::process::call(&made, limit, &fosse::process::no_cancel()).unwrap().exit.success());
    fs::create_dir(place.record("000000000004")).unwrap();
    place.record("000000000005");
    // And this one, if it were shorter.
    let mut long = changed(&json!({"id": "000000000006"}));
    long.resize(usize::try_from(MAX_BYTES).unwrap() + 1, b' ');
    record::parse(&long).unwrap();
    fs::write(place.record("000000000006"), long).unwrap();
    fs::write(place.record("000000000007"), "{").unwrap();
    // What is no run is not looked at.
    fs::create_dir(place.0.join("state/runs/.tmp-000000000008")).unwrap();
    fs::write(place.0.join("state/runs/00000000000a"), "a file").unwrap();

    let entries = place.1.all().unwrap();
    assert_eq!(entries.len(), 9);
    assert!(matches!(&entries[0], Entry::Known(view) if view.record.id.as_str() == "4f1c2a9b7d3e"));
    for entry in &entries[1..] {
        match entry {
            Entry::Unreadable { why, .. } => assert!(!why.is_empty() && !why.contains('\n'), "{why:?}"),
            Entry::Known(view) => panic!("{} was read", view.record.id),
        }
    }
    assert!(place.load("00000000000b").is_none(), "it never existed");
}
