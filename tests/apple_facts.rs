//! The emulator of Apple's tool against the page of facts, fact by fact: what a container's life looks like from outside.

use crate::support::apple::Service;
use crate::support::{Home, code, stderr, stdout};

/// Section 1, `--version`; section 4, the exit code path; section 2.1, states.
#[test]
fn a_container_is_created_started_and_keeps_no_exit_code() {
    let home = Home::new();
    let service = Service::new(&home, "1.2.2");
    assert_eq!(
        stdout(&service.call(&["--version"])),
        "container CLI version 1.2.2 (build: release, commit: abcdefg)\n"
    );
    let script = "echo out; echo err >&2; exit 42";
    let created = service.call(&["create", "--name", "first", "fosse-test:busybox", "sh", "-c", script]);
    assert_eq!((code(&created), stdout(&created).as_str()), (0, "first\n"), "{created:?}");
    let run = service.call(&["start", "--attach", "first"]);
    assert_eq!((code(&run), stdout(&run).as_str(), stderr(&run).as_str()), (42, "out\n", "err\n"));
    let shown: serde_json::Value = serde_json::from_slice(&service.call(&["inspect", "first"]).stdout).unwrap();
    assert_eq!(shown[0]["status"]["state"], "stopped", "{shown}");
    assert!(!shown.to_string().contains("exit\":"), "{shown}");
    assert_eq!(service.state("first")["exit"], 42);
}
