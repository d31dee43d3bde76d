//! The page of the daemon and the daemon say the same: its API, its exit codes, and the units that come with it.

use fosse::wire::daemon::{Health, Lease, Reap, Removed, Runs, Shutdown, Sweep};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::manual::pages::{Names, heads, names, read, same, section, spelled, words_of};

const PAGE: &str = "man/fosse-daemon.8";

/// The keys of a shape, as its example is written again.
fn keys<T: Serialize + DeserializeOwned>(example: &str) -> Names {
    let shape: T = serde_json::from_str(example).unwrap();
    names(serde_json::to_value(shape).unwrap().as_object().unwrap().keys())
}

/// What the page says of one path of the API: its text up to the next one.
fn entry(path: &str) -> String {
    let api = section(PAGE, "The API");
    let entries: Vec<&str> = api.split("\n.It Li ").collect();
    let found = entries.iter().find(|entry| entry.starts_with(&format!("{path}\n")));
    (*found.unwrap_or_else(|| panic!("{PAGE} does not have {path}"))).to_owned()
}

const HEALTH: &str = r#"{"schema": 1, "state": "serving", "pid": 1, "nonce": "n",
    "fingerprint": {"version": "1", "settings": null}, "user_config": null, "started_at": "2026-01-01T00:00:00Z",
    "socket": "s", "log": null, "foreground": false, "runs_live": 0, "leases": 0, "finished": 0, "last_sweep": null}"#;
const OBJECT: &str = r#"{"kind": "network", "id": "i", "runtime": "docker", "run": null}"#;
const SWEEP: &str = r#"{"at": null, "dry_run": false, "objects": [], "pruned": [], "problems": []}"#;

#[test]
fn the_page_has_every_path_of_the_api_and_no_other() {
    let source = read("src/daemon/api.rs");
    let real = source.split('"').filter(|text| text.starts_with("/v1/")).map(str::to_owned);
    let api = section(PAGE, "The API");
    let requests = heads(&api, "Li").filter_map(|head| head.split_once(' '));
    let documented: Vec<(&str, &str)> = requests.filter(|(_, path)| path.starts_with("/v1/")).collect();
    same("paths of the API", &names(documented.iter().map(|(_, path)| *path)), &real.collect());
    for (method, path) in documented {
        let arm = source.lines().find(|line| line.contains(&format!("\"{path}\") =>"))).unwrap();
        assert!(arm.contains(&format!("\"{method}\"")), "{method} {path} is not in {arm:?}");
    }
}

#[test]
fn the_page_has_every_key_of_every_request_and_answer() {
    let empty = || names::<String>([]);
    let shapes = [
        ("GET /v1/health", keys::<Health>(HEALTH), empty()),
        ("GET /v1/runs", keys::<Runs>(r#"{"schema": 1, "runs": [], "unknown": []}"#), empty()),
        ("POST /v1/reap", keys::<Sweep>(SWEEP), keys::<Reap>("{}")),
        ("POST /v1/shutdown", empty(), keys::<Shutdown>("{}")),
        ("POST /v1/lease", empty(), keys::<Lease>(r#"{"run": "0123456789ab"}"#)),
    ];
    for (path, answer, request) in shapes {
        let documented = words_of(heads(&entry(path), "Va"));
        same(path, &documented, &answer.union(&request).cloned().collect());
    }
    let reap = entry("POST /v1/reap");
    for key in keys::<Removed>(OBJECT) {
        assert!(reap.contains(&format!(".Va {key}\n")) || reap.contains(&format!(".Va {key} ")), "{key} of an object");
    }
    let health: Value = serde_json::from_str(HEALTH).unwrap();
    for key in health["fingerprint"].as_object().unwrap().keys() {
        assert!(entry("GET /v1/health").contains(&format!(".Va {key}")), "{key} of the fingerprint");
    }
}

#[test]
fn the_pages_have_every_key_by_which_a_daemon_is_judged() {
    let source = read("src/cli/daemon.rs");
    let (_, settings) = source.split_once("\nfn settings_of(").unwrap();
    let settings = settings.split("\n}\n").next().unwrap();
    let keys = settings.split('"').skip(1).step_by(2).map(|key| key.strip_suffix("_ms").unwrap_or(key));
    let real = names(keys);
    same("Freshness", &spelled(&section(PAGE, "Freshness"), ".Cm"), &real);
    let keys = section("man/fosse.json.5", "Keys");
    let (described, own) = keys.split_once("\nThe last four,\n").unwrap();
    let last: Vec<&str> = heads(described, "Cm").collect();
    let mut documented = spelled(own.split("\nare the daemon's own").next().unwrap(), ".Cm");
    documented.extend(last[last.len() - 4..].iter().map(|key| (*key).to_owned()));
    same("the daemon's own keys in fosse.json(5)", &documented, &real);
}

#[test]
fn the_units_start_what_there_is() {
    let units = ["man/systemd/fosse.service", "man/systemd/fosse.socket", "man/launchd/fosse.plist"];
    let mut calls = 0;
    for unit in units {
        let name = unit.rsplit('/').next().unwrap();
        assert!(read(PAGE).contains(&format!(".It Pa {name}\n")), "{PAGE} does not have {name}");
        for call in read(unit).split("fosse daemon ").skip(1) {
            let words = call.split(|c: char| c.is_whitespace() || ";<".contains(c));
            let words = words.take_while(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
            let call: Vec<&str> = ["fosse", "daemon"].into_iter().chain(words.take_while(|w| !w.is_empty())).collect();
            let parsed = fosse::cli::command().try_get_matches_from(&call);
            assert!(parsed.is_ok(), "{unit}: {call:?}: {}", parsed.unwrap_err());
            calls += 1;
        }
    }
    assert_eq!(calls, 4, "a stop and a start in each that starts one");
    assert_eq!(read("man/systemd/fosse.socket").matches("\nListen").count(), 1, "one socket is taken, and no more");
}
