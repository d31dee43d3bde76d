//! The parsers, on what the tool prints in each of its shapes: containers up to 0.7, 0.8 to 0.12, and from 1.0 on (where
//! slashes are escaped up to 1.2, and `list` and `inspect` differ in blanks alone).

use super::*;
use proptest::prelude::*;

const UP_TO_0_7: &str = r#"[{"status":"running","configuration":{"id":"fosse-0123456789ab","labels":{"fosse.run":"0123456789ab","fosse.instance":"i"},"initProcess":{"user":{"id":{"uid":501,"gid":20}}}},"networks":[{"address":"192.168.64.3\/24","gateway":"192.168.64.1","hostname":"x","network":"default"}]}]"#;

const UP_TO_0_12: &str = r#"[{"status":"stopped","configuration":{"id":"fosse-0123456789ab","labels":{"fosse.run":"0123456789ab","fosse.instance":"i"},"initProcess":{"user":{"raw":{"userString":"node"}}}},"networks":[{"ipv4Address":"192.168.64.3\/24"}],"startedDate":802450114.597753}]"#;

const FROM_1_0: &str = r#"[
  {
    "configuration" : {
      "creationDate" : "2026-06-10T12:19:49Z",
      "id" : "fosse-0123456789ab",
      "image" : { "reference" : "docker.io\/library\/alpine:latest" },
      "initProcess" : { "arguments" : [ "\"status\":{\"state\":\"stopped\"}" ], "user" : { "id" : { "gid" : 0, "uid" : 0 } } },
      "labels" : { "fosse.instance" : "i", "fosse.run" : "0123456789ab", "state" : "\"running\"" },
      "publishedPorts" : [

      ]
    },
    "id" : "fosse-0123456789ab",
    "status" : { "networks" : [ ], "startedDate" : "2026-06-10T12:19:50Z", "state" : "running" }
  }
]"#;

const NEVER_STARTED: &str = r#"[{"configuration":{"creationDate":"2026-06-10T12:19:49Z","id":"a","labels":{}},"id":"a","status":{"networks":[],"state":"stopped"}}]"#;

const NETWORKS_1_0: &str = r#"[{"configuration":{"creationDate":"2026-06-10T12:19:49Z","labels":{"fosse.run":"0123456789ab"},"mode":"nat","name":"fosse-0123456789ab","options":{}},"id":"fosse-0123456789ab","status":{"ipv4Subnet":"192.168.65.0\/24"}}]"#;

const NETWORKS_0_12: &str = r#"[{"id":"fosse-0123456789ab","state":"running","config":{"id":"fosse-0123456789ab","mode":"nat","creationDate":802450114.5,"labels":{"fosse.run":"0123456789ab"}},"status":{"ipv4Subnet":"192.168.65.0\/24"}}]"#;

fn one(text: &str) -> Container {
    containers(text.as_bytes()).unwrap().remove(0)
}

#[test]
fn a_container_is_read_in_every_shape() {
    for (text, status, started, user) in [
        (UP_TO_0_7, Status::Live, false, "501:20"),
        (UP_TO_0_12, Status::Stopped, true, "node"),
        (FROM_1_0, Status::Live, true, "0:0"),
    ] {
        let found = one(text);
        assert_eq!((found.status(), found.has_started(), found.user.as_str()), (status, started, user), "{text}");
        assert_eq!(found.label("fosse.instance"), Some("i"));
        let facts = found.facts();
        assert_eq!((facts.name.as_str(), facts.id.as_str()), ("fosse-0123456789ab", "fosse-0123456789ab"));
        assert_eq!(facts.run.unwrap().as_str(), "0123456789ab");
    }
}

#[test]
fn what_a_label_or_an_argument_says_is_no_state() {
    assert_eq!(one(FROM_1_0).status(), Status::Live);
    let stopped = FROM_1_0.replace(r#""state" : "running" }"#, r#""state" : "stopped" }"#);
    assert_eq!(one(&stopped).status(), Status::Stopped);
}

#[test]
fn a_container_that_was_never_started_has_no_date_of_it() {
    let found = one(NEVER_STARTED);
    assert!(!found.has_started() && found.status() == Status::Stopped);
    assert!(found.object().created.is_some());
}

#[test]
fn states_that_no_version_was_seen_to_use_are_neither_running_nor_stopped() {
    for state in ["stopping", "unknown", "paused"] {
        let text = NEVER_STARTED.replace("stopped", state);
        assert_eq!(one(&text).status(), Status::Other, "{state}");
    }
}

#[test]
fn networks_are_read_in_both_shapes_with_both_kinds_of_date() {
    for text in [NETWORKS_1_0, NETWORKS_0_12] {
        let object = networks(text.as_bytes()).unwrap().remove(0).object();
        assert_eq!((object.kind, object.id.as_str()), (ObjectKind::Network, "fosse-0123456789ab"));
        assert!(object.run.is_some() && object.created.is_some(), "{object:?}");
    }
    let early = networks(NETWORKS_0_12.as_bytes()).unwrap().remove(0).object().created.unwrap();
    assert_eq!(early.to_string().get(..19), Some("2026-06-06T14:48:34"));
}

#[test]
fn images_are_named_in_both_shapes() {
    let new = br#"[{"configuration":{"name":"docker.io\/library\/alpine:latest"},"id":"9f","variants":[]}]"#;
    let old = br#"[{"reference":"docker.io\/library\/alpine:latest","fullSize":"4.2 MB"}]"#;
    assert_eq!(images(new), images(old));
    assert_eq!(images(old).unwrap(), ["docker.io/library/alpine:latest"]);
}

#[test]
fn the_version_is_the_first_number_of_three_parts() {
    let version = |text: &str| version(text.as_bytes()).map(|version| version.to_string());
    assert_eq!(version("container CLI version 1.2.2 (build: release, commit: 0a1b2c3)\n").as_deref(), Some("1.2.2"));
    assert_eq!(version("container-apiserver version 0.12.0"), Some("0.12.0".into()));
    assert_eq!(version("none"), None);
    let old = super::version(b"0.9.0").unwrap();
    assert!(old.at_least(0, 9) && !old.at_least(0, 10) && !old.at_least(1, 0));
}

#[test]
fn the_service_is_up_only_where_its_status_says_so() {
    assert!(is_up(br#"{"apiServerVersion":"x","status":"running"}"#, true));
    assert!(is_up(br#"{"server":{"status":"running"},"paths":{}}"#, true));
    assert!(is_up(b"apiserver is running\n", true));
    assert!(!is_up(br#"{"apiServerVersion":"","status":"unregistered"}"#, false));
    assert!(!is_up(br#"{"status":"not running"}"#, true));
    assert!(!is_up(b"apiserver is not running\n", false));
}

#[test]
fn broken_answers_are_errors_and_none_is_none() {
    assert_eq!(containers(b"[]"), Ok(vec![]));
    for broken in [
        "",
        "[",
        "{}",
        "null",
        "[{}]",
        r#"[{"configuration":{"id":"x"}}]"#,
        r#"[{"configuration":{"id":"x"},"status":null}]"#,
        "warning: x\n[]",
    ] {
        assert!(containers(broken.as_bytes()).is_err(), "{broken}");
    }
    assert!(networks(b"[{}]").is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_the_parsers_fail_otherwise(bytes: Vec<u8>) {
        let _parsed = (containers(&bytes).is_ok(), networks(&bytes).is_ok(), images(&bytes).is_ok(), version(&bytes));
    }

    #[test]
    fn a_damaged_answer_makes_no_container_of_nothing(at in 0..FROM_1_0.len(), byte: u8) {
        let mut bytes = FROM_1_0.as_bytes().to_vec();
        bytes[at] = byte;
        prop_assert!(containers(&bytes).unwrap_or_default().len() <= 1);
    }
}
