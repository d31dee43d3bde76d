//! Runs in Apple's containers when the tool or its service does not do what it should (X7, X8, D5, D6): in every release,
//! the right code or an honest "unknown", nothing left by the service's own books, and an end in bounded time.

use serde_json::{Value, json};

use crate::support::apple::Service;
use crate::support::{
    Carrier, Client, Engine, Home, KILL, TERM, code, finish, on_each_release, processes, stderr, stdout, try_kill,
    wait_until,
};

fn service(home: &Home) -> &Service {
    home.apple.as_ref().unwrap()
}

/// What must be so after every scenario, by the service's books.
fn all_is_well(home: &Home) {
    service(home).assert_one_change_at_a_time();
    all_is_well_beside_a_stranger(home);
}

/// The same where somebody else has changed something too, who knows nothing of our order.
fn all_is_well_beside_a_stranger(home: &Home) {
    let service = service(home);
    home.assert_nothing_left();
    service.assert_nothing_left();
    service.assert_every_call_understood();
    // Its log is merged, loses line ends, and never ends by itself.
    assert!(service.calls().iter().all(|call| call.verb != "logs"), "the log was asked for");
}

fn run(home: &Home, engine: Engine, script: &str) -> std::process::Output {
    home.run(engine, &["--no-workspace", "--grace", "1"], &["sh", "-c", script])
}

/// The code of the newest record, and its reason.
fn end(home: &Home) -> (Option<i64>, String) {
    let record = home.newest();
    (record["exit_code"].as_i64(), record["reason"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn every_code_is_the_commands_own_in_every_release() {
    on_each_release(Carrier::Init, |engine, home| {
        for wanted in [0, 1, 42, 64, 125, 137, 143, 255] {
            assert_eq!(code(&run(home, engine, &format!("exit {wanted}"))), wanted, "{engine:?}");
            assert_eq!(
                (home.newest()["exit_code"].as_i64(), &home.newest()["signal"]),
                (Some(wanted.into()), &Value::Null)
            );
        }
        for (signal, wanted) in [("KILL", 137), ("TERM", 143)] {
            assert_eq!(code(&run(home, engine, &format!("kill -s {signal} $$"))), wanted, "{engine:?}");
            assert_eq!(home.newest()["signal"], wanted - 128, "{engine:?}");
        }
        all_is_well(home);
        service(home).assert_every_call_ended();
    });
}

/// Without an init of ours: what the client cannot tell is not claimed.
#[test]
fn the_client_alone_tells_what_it_can() {
    on_each_release(Carrier::Client, |engine, home| {
        for wanted in [0, 1, 42, 64, 137] {
            assert_eq!(code(&run(home, engine, &format!("exit {wanted}"))), wanted, "{engine:?}");
        }
        // The service says so of an end that it does not know, and the tool's own errors look like this.
        for script in ["exit 255", "echo 'Error: no' >&2; exit 1"] {
            assert_eq!(code(&run(home, engine, script)), 125, "{engine:?} {script}");
            assert_eq!(end(home), (None, "lost".into()), "{engine:?} {script}");
        }
        all_is_well(home);
    });
}

/// Up to 0.9 the tool has no init: a command without a handler hears nothing but the kill.
#[test]
fn a_stop_ends_the_command_with_and_without_an_init() {
    for carrier in Carrier::BOTH {
        on_each_release(carrier, |engine, home| {
            let client = home.start(engine, &["-n", "stopped", "--grace", "1"], "exec sleep 1000");
            assert_eq!(code(&home.fosse(["stop", "stopped"])), 0, "{engine:?}");
            let heard = carrier == Carrier::Init || engine != Engine::Apple("0.9.0");
            assert_eq!(code(&client.output()), if heard { 143 } else { 137 }, "{engine:?} {carrier:?}");
            assert_eq!(home.newest()["reason"], "stopped");
            all_is_well(home);
        });
    }
}

/// X8: not found means ended, whichever way a release says it.
#[test]
fn x8_a_container_that_a_stranger_removes_is_an_end() {
    for carrier in Carrier::BOTH {
        on_each_release(carrier, |engine, home| {
            let client = home.start(engine, &[], "exec sleep 1000");
            let removed = service(home).call(["delete", "--force", &format!("fosse-{}", home.newest_id())]);
            assert_eq!(code(&removed), 0, "{removed:?}");
            let own = code(&client.output());
            match end(home) {
                (Some(code), _) => assert!(code == i64::from(own) && own == 137, "{engine:?} {own}"),
                (None, reason) => assert_eq!((own, reason.as_str()), (125, "lost"), "{engine:?}"),
            }
            all_is_well_beside_a_stranger(home);
        });
    }
}

/// D5: what hangs is killed, and holds nobody up for longer than its limit.
#[test]
fn d5_a_list_that_hangs_holds_up_no_run_and_no_verb() {
    on_each_release(Carrier::Init, |engine, home| {
        service(home).faults(&json!([{"verb": "list", "do": "hang", "ignore_term": true}]));
        assert_eq!(code(&run(home, engine, "exit 7")), 7, "a run needs no list, {engine:?}");
        let mut command = home.cmd(["status", "--json"]);
        command.env("FOSSE_QUERY_TIMEOUT", "5s");
        let status: Value = serde_json::from_slice(&finish(command).stdout).unwrap();
        assert_eq!(status["orphaned_objects"], Value::Null, "{engine:?} {status}");
        let mut command = home.cmd(["doctor"]);
        command.env("FOSSE_QUERY_TIMEOUT", "5s");
        let doctor = finish(command);
        let words = stdout(&doctor);
        assert!(words.contains("container list: no answer within 5s"), "{words}");
        assert!(words.contains("container system stop"), "{words}");
        assert_eq!(code(&doctor), 1);
        service(home).faults(&json!([]));
        all_is_well(home);
    });
}

/// D5: doctor says which call of a wedged service hung, how long, and what helps.
#[test]
fn d5_doctor_names_the_call_that_hangs_and_what_helps() {
    on_each_release(Carrier::Init, |_, home| {
        service(home).faults(&json!([{"do": "hang", "ignore_term": true}]));
        let mut command = home.cmd(["doctor"]);
        command.env("FOSSE_QUERY_TIMEOUT", "2s");
        let doctor = finish(command);
        let words = stdout(&doctor);
        assert!(code(&doctor) == 1 && words.contains("no answer within 2s"), "{words}");
        assert!(words.contains("container system stop") && words.contains("container system start"), "{words}");
        service(home).faults(&json!([]));
    });
}

/// A service that fails in the middle is asked again, and what it did all the same is found.
#[test]
fn interruptions_are_passed_over() {
    on_each_release(Carrier::Client, |engine, home| {
        for fault in ["xpc_interrupted", "xpc_timeout"] {
            for verb in ["create", "delete"] {
                for effect in ["none", "before"] {
                    let in_a_row = effect == "none" && (fault == "xpc_interrupted") == (verb == "create");
                    let times = if in_a_row { 5 } else { 1 };
                    let rule = json!({"verb": verb, "do": fault, "effect": effect, "times": times});
                    service(home).faults(&json!([rule]));
                    let output = run(home, engine, "echo out; exit 5");
                    assert_eq!((code(&output), stdout(&output).as_str()), (5, "out\n"), "{engine:?} {rule} {output:?}");
                }
            }
        }
        service(home).faults(&json!([{"verb": "list", "do": "xpc_interrupted", "times": 5}]));
        let client = home.start(engine, &["-n", "it"], "exec sleep 1000");
        let removed = service(home).call(["delete", "--force", &format!("fosse-{}", home.newest_id())]);
        assert_eq!(code(&removed), 0, "{removed:?}");
        assert_ne!(code(&client.output()), 0, "{engine:?}");
        service(home).faults(&json!([]));
        all_is_well_beside_a_stranger(home);
    });
}

/// A call without an answer may have done its work: what is there then is ours.
#[test]
fn a_create_that_hangs_once_it_has_made_the_container_leaves_none() {
    on_each_release(Carrier::Init, |engine, home| {
        service(home).faults(&json!([{"verb": "create", "do": "hang", "effect": "before", "times": 1}]));
        let mut command = home.run_cmd(engine, &["--no-workspace"], &["sh", "-c", "exit 4"]);
        command.env("FOSSE_CHANGE_TIMEOUT", "2s");
        let output = finish(command);
        // It was made, so it runs; or it was not, and that is said.
        assert!(matches!(code(&output), 4 | 125), "{engine:?} {output:?}");
        service(home).faults(&json!([]));
        assert_eq!(code(&home.fosse(["clean"])), 0);
        all_is_well(home);
    });
}

/// What the service says when it takes a machine down while another is to start, or loses it.
#[test]
fn a_start_that_fails_is_said_and_leaves_nothing() {
    for carrier in Carrier::BOTH {
        on_each_release(carrier, |engine, home| {
            let failures = [
                json!({"verb": "start", "do": "start_shutting_down", "times": 1}),
                json!({"verb": "start", "do": "no_kernel", "times": 1}),
                json!({"verb": "start", "do": "ip_exhausted", "times": 1}),
                json!({"verb": "start", "do": "xpc_interrupted", "effect": "none", "times": 1}),
                json!({"verb": "start", "do": "exit", "code": 1, "text": "Error: strange", "times": 1}),
            ];
            for rule in failures {
                service(home).faults(&json!([rule]));
                let output = run(home, engine, "exit 3");
                // Said, with the service's own words; never taken for the command's end.
                assert_eq!(code(&output), 125, "{engine:?} {rule} {output:?}");
                assert!(stderr(&output).contains("fosse: "), "{output:?}");
                assert_eq!(home.newest()["exit_code"], Value::Null, "{engine:?} {rule}");
            }
            service(home).faults(&json!([]));
            all_is_well(home);
        });
    }
}

/// Kills the tools that a client of ours has running.
fn kill_clients(client: &Client) {
    for (pid, _) in processes::children(client.pid()) {
        try_kill(pid, KILL); // a question may be over by now
    }
}

/// A lost client is not a lost code: init has left it.
#[test]
fn what_the_tool_loses_at_the_end_init_has_left() {
    on_each_release(Carrier::Init, |engine, home| {
        for rule in [
            json!({"verb": "start", "do": "exit_lost"}),
            json!({"verb": "start", "do": "exit_lost", "mode": "timeout"}),
        ] {
            service(home).faults(&json!([rule]));
            assert_eq!(code(&run(home, engine, "echo out; exit 42")), 42, "{engine:?} {rule}");
            assert_eq!(end(home), (Some(42), "exited".into()), "{engine:?}");
        }
        service(home).faults(&json!([]));
        all_is_well(home);
    });
}

/// The tool's attached client is killed by somebody: the command goes on, and its code is known all the same.
#[test]
fn a_killed_client_takes_no_code_along() {
    on_each_release(Carrier::Init, |engine, home| {
        let script = "while ! test -e /workspace/go; do sleep 0.1; done; exit 42";
        let client = home.start(engine, &[], script);
        kill_clients(&client);
        home.write("ws/go", "");
        let output = client.output();
        assert_eq!(code(&output), 42, "{engine:?} {output:?}");
        assert!(stderr(&output).contains("is lost"), "{output:?}");
        std::fs::remove_file(home.workspace().join("go")).unwrap();
        all_is_well(home);
    });
}

/// The same without an init of ours: honest, and nothing is left.
#[test]
fn a_killed_client_without_an_init_leaves_an_honest_unknown() {
    on_each_release(Carrier::Client, |engine, home| {
        let client = home.start(engine, &[], "while ! test -e /workspace/go; do sleep 0.1; done; exit 42");
        kill_clients(&client);
        home.write("ws/go", "");
        assert_eq!(code(&client.output()), 125, "{engine:?}");
        std::fs::remove_file(home.workspace().join("go")).unwrap();
        assert_eq!(end(home), (None, "lost".into()), "{engine:?}");
        all_is_well(home);
    });
}

/// A dead owner's run is finished by the next verb: the state is read anew, the code is in the file.
#[test]
fn a_run_whose_owner_died_is_finished_with_the_code_that_was_left() {
    on_each_release(Carrier::Init, |engine, home| {
        let mut client = home.start(engine, &["-n", "lone"], "trap 'exit 9' TERM; while :; do sleep 0.1; done");
        client.signal(KILL);
        client.wait();
        assert_eq!(code(&home.fosse(["stop", "--grace", "10", "lone"])), 0, "{engine:?}");
        assert_eq!(end(home), (Some(9), "orphaned".into()), "{engine:?}");
        all_is_well(home);
    });
}

#[test]
fn a_runtime_that_crashes_is_an_honest_unknown() {
    for carrier in Carrier::BOTH {
        on_each_release(carrier, |engine, home| {
            for ghost in [false, true] {
                let client = home.start(engine, &["--grace", "1"], "exec sleep 1000");
                service(home).faults(&json!([{"verb": "inspect", "do": "runtime_crash", "ghost": ghost, "times": 1}]));
                service(home).call(["inspect", &format!("fosse-{}", home.newest_id())]);
                // A ghost is shown as running for ever; whoever stops it gets rid of it.
                let ended = if ghost {
                    client.signal(TERM);
                    code(&client.output())
                } else {
                    code(&client.output())
                };
                assert!(matches!(ended, 125 | 137 | 143), "{engine:?} {carrier:?} {ghost} {ended}");
                assert_ne!(home.newest()["exit_code"], 0, "{engine:?}");
                service(home).faults(&json!([]));
            }
            all_is_well(home);
        });
    }
}

/// #2286: after a crash of the service everything is shown as stopped, though it lives; only a removal is real.
#[test]
fn a_service_that_crashes_during_a_run_leaves_nothing() {
    for carrier in Carrier::BOTH {
        on_each_release(carrier, |engine, home| {
            let client = home.start(engine, &["--grace", "1"], "exec sleep 1000");
            service(home).faults(&json!([{"verb": "list", "do": "server_crash", "restart_ms": 300, "times": 1}]));
            service(home).call(["list", "--all"]);
            wait_until("it is up again", || code(&service(home).call(["list"])) == 0);
            client.signal(TERM);
            let ended = code(&client.output());
            assert!(matches!(ended, 125 | 137 | 143), "{engine:?} {carrier:?} {ended}");
            assert_ne!(home.newest()["exit_code"], 0, "{engine:?}");
            service(home).faults(&json!([]));
            assert_eq!(code(&home.fosse(["clean"])), 0);
            all_is_well(home);
        });
    }
}

#[test]
fn a_service_that_is_down_is_said_to_be_and_nothing_is_claimed() {
    on_each_release(Carrier::Init, |engine, home| {
        service(home).server("unregistered");
        let output = run(home, engine, "true");
        assert_eq!(code(&output), 125, "{engine:?}");
        assert!(stderr(&output).contains("container system start"), "{output:?}");
        let status = stdout(&home.fosse(["status"]));
        assert!(status.contains("apple    not running"), "{engine:?} {status}");
        let doctor = stdout(&home.fosse(["doctor"]));
        assert!(doctor.contains("start its service: container system start"), "{doctor}");
        service(home).server("running");
        assert_eq!(code(&home.fosse(["clean"])), 0);
        all_is_well(home);
    });
}

/// Garbage is asked for once more, and never read as "nothing is there".
#[test]
fn answers_that_make_no_sense_change_nothing() {
    on_each_release(Carrier::Init, |engine, home| {
        for damage in ["garbage", "truncated", "empty", "wrong_shape"] {
            let mut client = home.start(engine, &["-n", "kept"], "exec sleep 1000");
            client.signal(KILL);
            client.wait();
            // For ever: an error, and the record stays as it is.
            service(home).faults(&json!([{"verb": "list", "do": damage}]));
            assert_eq!(code(&home.fosse(["stop", "kept"])), 1, "{engine:?} {damage}");
            assert_eq!(service(home).containers().len(), 1, "{engine:?} {damage}");
            // Once: no harm.
            service(home).faults(&json!([{"verb": "list", "do": damage, "times": 1}]));
            let stopped = home.fosse(["stop", "kept"]);
            assert_eq!(code(&stopped), 0, "{engine:?} {damage} {stopped:?}");
            service(home).faults(&json!([]));
        }
        all_is_well(home);
    });
}

/// #1722: a list without what is there has been seen; it takes two to believe it.
#[test]
fn one_list_without_a_container_is_not_believed() {
    on_each_release(Carrier::Init, |engine, home| {
        let mut client = home.start(engine, &["-n", "hidden"], "exec sleep 1000");
        client.signal(KILL);
        client.wait();
        service(home).faults(&json!([{"verb": "list", "do": "ls_empty", "times": 1}]));
        assert_eq!(code(&home.fosse(["stop", "hidden"])), 0, "{engine:?}");
        service(home).faults(&json!([]));
        all_is_well(home);
    });
}

#[test]
fn what_does_not_stop_is_removed_by_force() {
    on_each_release(Carrier::Init, |engine, home| {
        for rule in [
            json!({"verb": "kill", "do": "kill_ignored"}),
            json!({"verb": "kill", "do": "exit", "code": 1, "text": "Error: internalError: \"failed to kill container\""}),
        ] {
            service(home).faults(&json!([rule]));
            let client =
                home.start(engine, &["-n", "stubborn", "--grace", "1"], "trap '' TERM; while :; do sleep 0.1; done");
            let stopped = home.fosse(["stop", "stubborn"]);
            assert_eq!(code(&stopped), 0, "{engine:?} {rule} {stopped:?}");
            assert!(matches!(code(&client.output()), 125 | 137), "{engine:?} {rule}");
            service(home).faults(&json!([]));
        }
        all_is_well(home);
    });
}

#[test]
fn removals_are_tried_again_and_leftovers_are_said() {
    on_each_release(Carrier::Init, |engine, home| {
        for rule in [
            json!({"verb": "delete", "do": "rm_stale_exec", "times": 1}),
            json!({"verb": "delete", "do": "hang", "times": 1}),
            json!({"verb": "network delete", "do": "net_referring", "times": 2}),
            json!({"verb": "network delete", "do": "net_pending", "times": 2}),
        ] {
            service(home).faults(&json!([rule]));
            let mut command = home.run_cmd(engine, &["--network", "private"], &["sh", "-c", "exit 6"]);
            command.env("FOSSE_CHANGE_TIMEOUT", "12s");
            let output = finish(command);
            assert_eq!((code(&output), stderr(&output).as_str()), (6, ""), "{engine:?} {rule}");
        }
        service(home).faults(&json!([]));
        all_is_well(home);
    });
}

#[test]
fn a_network_that_cannot_be_made_is_said_and_leaves_nothing() {
    on_each_release(Carrier::Init, |engine, home| {
        service(home).faults(&json!([{"verb": "network create", "do": "net_limit", "n": 0}]));
        let output = home.run(engine, &["--network", "private"], &["true"]);
        assert_eq!(code(&output), 125, "{engine:?} {output:?}");
        assert!(stderr(&output).contains("creating the network failed"), "{output:?}");
        service(home).faults(&json!([]));
        all_is_well(home);
    });
}

/// What a stranger's container says of itself is its own affair.
#[test]
fn a_strangers_label_and_name_mean_nothing() {
    on_each_release(Carrier::Init, |engine, home| {
        let labels = [
            "create",
            "--name",
            "web",
            "--label",
            "state=\"running\"",
            "--label",
            "fosse.run=0123456789ab",
            crate::support::IMAGE,
        ];
        assert_eq!(code(&service(home).call(labels)), 0);
        assert_eq!(code(&run(home, engine, "true")), 0);
        assert_eq!(code(&home.fosse(["clean", "all"])), 0);
        assert_eq!(service(home).containers().len(), 1, "{engine:?}");
        assert_eq!(code(&service(home).call(["delete", "web"])), 0);
    });
}

/// Bytes that no log of the tool would give back.
#[test]
fn output_arrives_as_it_is() {
    for carrier in Carrier::BOTH {
        on_each_release(carrier, |engine, home| {
            let output = run(home, engine, r#"printf '\n\n\377\376 a\n\n'; printf 'no end' >&2"#);
            assert_eq!(
                (output.stdout.as_slice(), stderr(&output).as_str()),
                (&b"\n\n\xff\xfe a\n\n"[..], "no end"),
                "{engine:?}"
            );
            let logs = home.logs(&home.newest_id());
            assert_eq!((logs.stdout.as_slice(), logs.stderr.as_slice()), (&b"\n\n\xff\xfe a\n\n"[..], &b"no end"[..]));
            all_is_well(home);
        });
    }
}

#[test]
fn no_value_of_a_variable_is_in_an_argument() {
    for carrier in Carrier::BOTH {
        on_each_release(carrier, |engine, home| {
            let options = ["-e", "TOKEN=sesame", "-e", "PATH=/bin:/usr/bin:/sesame", "-e", "LINES2=sesame\nopen"];
            let output = home.run(engine, &options, &["sh", "-c", "echo \"$TOKEN $PATH $LINES2\""]);
            assert_eq!(stdout(&output), "sesame /bin:/usr/bin:/sesame sesame\nopen\n", "{engine:?} {output:?}");
            service(home).assert_no_argument_has("sesame");
            all_is_well(home);
        });
    }
}

/// What the command does to the file that tells its end changes no code.
#[test]
fn a_command_cannot_forge_its_end() {
    on_each_release(Carrier::Init, |engine, home| {
        let seen = run(home, engine, "ls -A /.fosse/exit; cat /proc/1/environ | tr '\\0' '\\n' | grep -c key; exit 3");
        assert_eq!((code(&seen), stdout(&seen).contains("exit.key")), (3, false), "{engine:?} {seen:?}");
        let forged = "echo '{\"key\":\"\",\"started\":true,\"code\":0,\"signal\":null,\"oom\":false,\"error\":null}' >/.fosse/exit/exit; exit 3";
        assert_eq!(code(&run(home, engine, forged)), 3, "{engine:?}");
        all_is_well(home);
    });
}

/// Away from macOS there is no such runtime unless a tool is named.
#[test]
fn without_a_tool_it_is_no_runtime_here() {
    let home = Home::new();
    let output = home.run(Engine::Apple("1.2.2"), &[], &["true"]);
    assert_eq!(code(&output), 125);
    assert!(stderr(&output).contains("macOS") && stderr(&output).contains("FOSSE_CONTAINER"), "{output:?}");
    assert!(!stdout(&home.fosse(["status"])).contains("apple"));
    drop(Client::spawn(home.cmd(["list"])).output());
}
