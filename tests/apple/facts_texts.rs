//! The emulator of Apple's tool against the page of facts: what it says when something is not as it should be.

use crate::apple::facts::{IMAGE, detached, is_modern, on_each_release, one_release_plays};
use crate::support::apple::Service;
use crate::support::{Home, code, stderr, stdout};

/// A call that fails: its exit code and all of stderr.
fn failure(service: &Service, args: &[&str]) -> (i32, String) {
    let output = service.call(args);
    assert_eq!(stdout(&output), "", "{args:?}");
    (code(&output), stderr(&output))
}

/// A text as a release shows it: with its code up to 0.9.
fn said(release: &str, error: &str, text: &str) -> (i32, String) {
    let line = if release == "0.9.0" { format!("Error: {error}: \"{text}\"\n") } else { format!("Error: {text}\n") };
    (1, line)
}

/// Section 3, the rows of what is missing.
#[test]
fn what_is_missing_is_said_as_each_release_says_it() {
    if !one_release_plays() {
        return;
    }
    on_each_release(|service, release| {
        let get = said(release, "notFound", "get failed: container no-one not found");
        assert_eq!(failure(service, &["start", "no-one"]), get);
        assert_eq!(failure(service, &["exec", "no-one", "true"]), get);
        let inspect = service.call(["inspect", "no-two", "no-one"]);
        if is_modern(release) {
            assert_eq!(
                (code(&inspect), stderr(&inspect).as_str()),
                (1, "Error: container not found: no-one, no-two\n")
            );
            assert_eq!(stdout(&inspect), "");
        } else {
            assert_eq!((code(&inspect), stdout(&inspect).as_str()), (0, "[]\n"));
        }
        let coded = |verb: &str| {
            let cause = "(cause: \"notFound: \"container with ID no-one not found\"\")";
            (1, format!("Error: internalError: \"failed to {verb} container\" {cause}\n"))
        };
        assert_eq!(failure(service, &["kill", "no-one"]), coded("kill"));
        if release == "0.9.0" {
            assert_eq!(failure(service, &["stop", "no-one"]), (0, String::new()));
            let text = "failed to delete one or more containers: [\"no-one\"]";
            assert_eq!(failure(service, &["delete", "no-one"]), said(release, "notFound", text));
        } else {
            assert_eq!(failure(service, &["stop", "no-one"]), coded("stop"));
            assert_eq!(failure(service, &["rm", "no-one"]), coded("delete"));
        }
        let network = service.call(["network", "inspect", "no-net"]);
        if is_modern(release) {
            assert_eq!((code(&network), stderr(&network).as_str()), (1, "Error: network not found: no-net\n"));
            assert_eq!(
                failure(service, &["image", "inspect", "no:image"]),
                (1, "Error: image not found: no:image\n".into())
            );
        } else {
            assert_eq!((code(&network), stdout(&network).as_str()), (0, "[]\n"));
        }
        let text = "failed to delete one or more networks: [\"no-net\"]";
        assert_eq!(failure(service, &["network", "delete", "no-net"]), said(release, "notFound", text));
        let text = "network no-net not found";
        assert_eq!(failure(service, &["create", "--network", "no-net", IMAGE]), said(release, "notFound", text));
    });
}

/// Section 0: 0.10 has plain errors already, and is not strict yet.
#[test]
fn release_0_10_says_that_a_delete_failed_and_not_why() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = Service::new(&home, "0.10.0");
    assert_eq!(failure(&service, &["stop", "no-one"]), (0, String::new()));
    let text = "Error: failed to delete one or more containers: [\"no-one\"]\n";
    assert_eq!(failure(&service, &["delete", "no-one"]), (1, text.into()));
    detached(&service, "alive", "sleep 1000");
    let (code, text) = failure(&service, &["delete", "alive"]);
    assert_eq!(code, 1);
    assert!(text.contains("container is running: [\"id\": alive]\n"), "{text}");
    assert!(text.ends_with("Error: delete failed for one or more containers: [\"alive\"]\n"), "{text}");
}

/// Section 3, the rows of what is in the wrong state.
#[test]
fn what_is_in_the_wrong_state_is_refused() {
    if !one_release_plays() {
        return;
    }
    on_each_release(|service, release| {
        assert_eq!(code(&service.call(["create", "--name", "idle", IMAGE, "sleep", "1000"])), 0);
        assert_eq!(stdout(&service.call(["stop", "idle"])), "idle\n", "a stop of what never ran is a success");
        let text = "container idle is not running";
        assert_eq!(failure(service, &["exec", "idle", "true"]), said(release, "invalidState", text));
        let client = if ["0.9.0", "0.12.0", "1.0.0"].contains(&release) { "sandbox" } else { "runtime" };
        let cause = format!("(cause: \"invalidState: \"no {client} client exists: container is stopped\"\")");
        let killed = failure(service, &["kill", "idle"]);
        assert_eq!(killed, (1, format!("Error: internalError: \"failed to kill container\" {cause}\n")));
        assert_eq!(code(&service.call(["logs", "idle"])), 1, "one that never ran has no log");
        detached(service, "busy", "sleep 1000");
        let refused = failure(service, &["kill", "--signal", "FOO", "busy"]);
        assert_eq!(refused, said(release, "invalidArgument", "invalid signal: FOO"));
        if release != "0.9.0" {
            let cause = "(cause: \"invalidState: \"container busy is running and can not be deleted\"\")";
            let text = format!("Error: internalError: \"failed to delete container\" {cause}\n");
            assert_eq!(failure(service, &["delete", "busy"]), (1, text));
        }
        let both = service.call(["delete", "--force", "idle", "busy"]);
        let mut lines: Vec<String> = stdout(&both).lines().map(str::to_owned).collect();
        lines.sort();
        assert_eq!((code(&both), lines), (0, vec!["busy".to_owned(), "idle".into()]));
        service.assert_nothing_left();
    });
}

/// Section 0: "Ids that worked are still printed on stdout, exit 1".
#[test]
fn of_several_containers_those_that_worked_are_printed() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = Service::new(&home, "1.2.2");
    assert_eq!(code(&service.call(["create", "--name", "here", IMAGE])), 0);
    let stop = service.call(["stop", "gone", "here"]);
    assert_eq!((code(&stop), stdout(&stop).as_str()), (1, "here\n"));
    assert_eq!(failure(&service, &["stop"]), (1, "Error: no containers specified and --all not supplied\n".into()));
    let text = "Error: explicitly supplied container IDs conflict with the --all flag\n";
    assert_eq!(failure(&service, &["stop", "--all", "here"]), (1, text.into()));
}

/// Section 1 and 3: what `create` refuses.
#[test]
fn create_checks_what_it_is_given() {
    if !one_release_plays() {
        return;
    }
    on_each_release(|service, release| {
        let refused = |args: &[&str], error: &str, text: &str| {
            assert_eq!(failure(service, &[&["create"], args].concat()), said(release, error, text), "{args:?}");
        };
        let invalid = "invalidArgument";
        refused(&["--name", ".x", IMAGE], invalid, "container ID .x is not a valid container ID");
        refused(&["--name", "a", IMAGE], invalid, "container ID a is not a valid container ID");
        refused(&["--label", "a=b=c", IMAGE], invalid, "invalid label format a=b=c");
        refused(&["--volume", "/no/such:/x", IMAGE], invalid, "path '/no/such' does not exist");
        refused(
            &["--mount", "type=bind,source=/etc/passwd,target=/x", IMAGE],
            invalid,
            "path '/etc/passwd' is not a directory",
        );
        refused(&["--publish", "0:80", IMAGE], invalid, "invalid publish host port range");
        refused(&["none:such"], "notFound", "image not found: docker.io/library/none:such");
        if release != "0.9.0" {
            let text = "minimum memory amount allowed is 200 MiB (got 104857600 bytes)";
            refused(&["--memory", "100m", IMAGE], invalid, text);
        }
        assert_eq!(code(&service.call(["create", "--name", "twice", "--label", "bare", IMAGE])), 0);
        refused(&["--name", "twice", IMAGE], "exists", "container already exists: twice");
        let run = failure(service, &["run", "--name", "twice", "--progress", "none", IMAGE]);
        assert_eq!(run, said(release, "exists", "container with id twice already exists"));
        service.image("bare:latest", "busybox", &serde_json::json!({}));
        refused(&["bare"], invalid, "command/entrypoint not specified for container process");
    });
}

/// Section 4: "`run` tries a non-forced delete (even without --rm)"; section 3, a bad program.
#[test]
fn a_program_that_is_not_there_fails_and_run_removes_its_container() {
    if !one_release_plays() {
        return;
    }
    on_each_release(|service, _| {
        let (code_of_run, text) = failure(service, &["run", "--name", "bad", "--progress", "none", IMAGE, "nope"]);
        assert_eq!(code_of_run, 1);
        assert!(text.contains("failed to start process bad in container bad"), "{text}");
        assert!(text.contains("failed to find target executable nope"), "{text}");
        assert_eq!(service.containers(), Vec::new());
        detached(service, "good", "sleep 1000");
        let (code_of_exec, text) = failure(service, &["exec", "good", "nope"]);
        assert_eq!(code_of_exec, 1);
        assert!(text.contains("failed to find target executable nope"), "{text}");
    });
}

/// Section 0: 64 with the error, a usage line and a line that says where there is more.
#[test]
fn usage_errors_are_64_with_three_lines() {
    if !one_release_plays() {
        return;
    }
    on_each_release(|service, _| {
        for (args, first) in [
            (&["start", "--x", "id"][..], "Error: Unknown option '--x'"),
            (&["create"][..], "Error: Missing expected argument '<image>'"),
            (&["stop", "--time", "soon", "id"][..], "Error: The value 'soon' is invalid for '--time <time>'"),
            (&["inspect"][..], "Error: Missing expected argument '<container-ids> ...'"),
        ] {
            let (code, text) = failure(service, args);
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!((code, lines[0]), (64, first), "{args:?}");
            assert!(lines[1].starts_with(&format!("Usage: container {} ", args[0])), "{text}");
            assert_eq!(lines[2].trim(), format!("See 'container {} --help' for more information.", args[0]));
        }
    });
}

/// Section 0: `wait`, `attach`, `restart` and others exist in no release.
#[test]
fn verbs_that_there_are_not_are_looked_for_as_plugins() {
    if !one_release_plays() {
        return;
    }
    on_each_release(|service, _| {
        for verb in ["wait", "attach", "restart", "ps", "events", "pause", "top", "port", "rename", "update", "commit"]
        {
            let (code, text) = failure(service, &[verb, "id"]);
            assert!(
                code == 64 && text.starts_with(&format!("Error: Plugin 'container-{verb}' not found.\n")),
                "{text}"
            );
        }
        service.server("not_running");
        let (code, text) = failure(service, &["wait", "id"]);
        assert!(code == 64 && text.contains("Plugins are unavailable. Start the container system services and retry:"));
    });
}

/// Section 1, "First release of a feature", and what no release has.
#[test]
fn options_come_with_their_release() {
    if !one_release_plays() {
        return;
    }
    let cases: [(&[&str], &str, &str); 7] = [
        (&["create", "--init", "IMAGE"], "0.9.0", "0.10.0"),
        (&["create", "--cap-drop", "ALL", "IMAGE"], "0.11.0", "0.12.0"),
        (&["create", "--shm-size", "64m", "IMAGE"], "0.12.0", "1.0.0"),
        (&["create", "--kernel-arg", "a", "IMAGE"], "1.1.0", "1.2.0"),
        (&["create", "--masked-path", "/x", "IMAGE"], "1.2.0", "1.2.1"),
        (&["create", "--ulimit", "nofile=9:9", "IMAGE"], "0.8.0", "0.9.0"),
        (&["system", "status", "--format", "json"], "0.9.0", "0.10.0"),
    ];
    for (args, before, since) in cases {
        let args: Vec<&str> = args.iter().map(|arg| if *arg == "IMAGE" { IMAGE } else { arg }).collect();
        for (release, expected) in [(before, 64), (since, 0)] {
            let home = Home::new();
            let service = Service::new(&home, release);
            let output = service.call(&args);
            assert_eq!(code(&output), expected, "{release}: {output:?}");
        }
    }
    on_each_release(|service, _| {
        for option in
            ["--add-host=a:1.2.3.4", "--hostname=a", "--privileged", "--pid=host", "--pull=never", "--gpus=all"]
        {
            assert_eq!(code(&service.call(["create", option, IMAGE])), 64, "{option}");
        }
    });
}

/// Section 0, XPC failures: the service is down.
#[test]
fn a_service_that_is_down_is_said_as_captured() {
    if !one_release_plays() {
        return;
    }
    on_each_release(|service, release| {
        service.server("unregistered");
        let invalid = "XPC connection error: Connection invalid";
        let ensure = "Ensure container system service has been started with `container system start`.";
        let list = format!("internalError: \"failed to list containers\" (cause: \"interrupted: \"{invalid}\"\")");
        let expected = match release {
            "0.9.0" => format!("Error: interrupted: \"{list}\n{ensure}\"\n"),
            _ => format!("Error: {list}\n{ensure}\n"),
        };
        assert_eq!(failure(service, &["list"]), (1, expected.clone()));
        assert_eq!(failure(service, &["inspect", "any"]), (1, expected));
        if is_modern(release) {
            let expected = format!("Error: interrupted: \"{invalid}\"\n{ensure}\n");
            assert_eq!(failure(service, &["create", IMAGE]), (1, expected.clone()));
            assert_eq!(failure(service, &["run", IMAGE]), (1, expected));
        }
        assert_eq!(code(&service.call(["--version"])), 0);
        assert_eq!(code(&service.call(["system", "status"])), 1);
        assert_eq!(code(&service.call(["system", "start", "--enable-kernel-install"])), 0);
        assert_eq!(code(&service.call(["list"])), 0);
    });
}

/// Section 2.4 and 3: a network is in use by stopped containers too; builtin, existing and bad names.
#[test]
fn networks_are_kept_as_long_as_a_container_names_them() {
    if !one_release_plays() {
        return;
    }
    on_each_release(|service, release| {
        assert_eq!(stdout(&service.call(["network", "create", "own"])), "own\n");
        assert_eq!(
            failure(service, &["network", "create", "own"]),
            said(release, "exists", "network own already exists")
        );
        let text = "invalid network name: Own";
        assert_eq!(failure(service, &["network", "create", "Own"]), said(release, "invalidArgument", text));
        let text = "cannot delete a builtin network: default";
        assert_eq!(failure(service, &["network", "rm", "default"]), said(release, "invalidArgument", text));
        assert_eq!(code(&service.call(["create", "--name", "user", "--network", "own", IMAGE])), 0);
        let (code_of_delete, text) = failure(service, &["network", "delete", "own"]);
        assert_eq!(code_of_delete, 1);
        let why = "\"error\": invalidState: \"cannot delete subnet own with referring containers: user\"";
        assert!(
            text.contains("failed to delete network: [") && text.contains("\"id\": own") && text.contains(why),
            "{text}"
        );
        assert!(text.contains("delete failed for one or more networks: [\"own\"]"), "{text}");
        assert_eq!(code(&service.call(["delete", "user"])), 0);
        assert_eq!(stdout(&service.call(["network", "delete", "own"])), "own\n");
        service.assert_nothing_left();
    });
}
