//! The emulator's own means: faults by rule, latency, the log of calls, and what is asserted of it.

use serde_json::{Value, json};

use crate::apple::facts::{IMAGE, detached, is_running, one_release_plays, shown_state};
use crate::support::apple::Service;
use crate::support::{Client, Home, KILL, code, process_state, stderr, stdout, wait_until};

const ENSURE: &str = "Ensure container system service has been started with `container system start`.";

fn service(home: &Home) -> Service {
    Service::new(home, "1.2.2")
}

#[test]
fn a_rule_strikes_after_so_many_calls_and_so_many_times() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = service(&home);
    assert_eq!(code(&service.call(["create", "--name", "web-1", IMAGE])), 0);
    service.faults(&json!([
        {"verb": "inspect", "match": "web-*", "after": 1, "times": 2, "do": "xpc_interrupted"},
        {"verb": "inspect", "match": "other", "do": "missing_empty"},
    ]));
    let codes: Vec<i32> = (0..4).map(|_| code(&service.call(["inspect", "web-1"]))).collect();
    assert_eq!(codes, [0, 1, 1, 0]);
    let interrupted = service.calls()[2].clone();
    assert_eq!((interrupted.code, &interrupted.line["fault"]), (Some(1), &json!("xpc_interrupted")));
    assert_eq!(stdout(&service.call(["inspect", "other"])), "[]\n");
}

/// Section 0: a timed-out `create` may have created the container.
#[test]
fn a_call_can_fail_with_its_effect_done() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = service(&home);
    service.faults(&json!([{"verb": "create", "do": "xpc_timeout", "effect": "before", "times": 1}]));
    let late = service.call(["create", "--name", "late", IMAGE]);
    let text = "Error: XPC timeout for request to com.apple.container.apiserver/containerCreate\n";
    assert_eq!((code(&late), stdout(&late).as_str(), stderr(&late).as_str()), (1, "", text));
    assert_eq!(shown_state(&service, "late"), "stopped");
    let again = service.call(["create", "--name", "late", IMAGE]);
    assert_eq!(stderr(&again), "Error: container already exists: late\n");
    service.faults(&json!([{"verb": "start", "do": "xpc_interrupted", "effect": "after"}]));
    assert_eq!(code(&service.call(["start", "--attach", "late"])), 1);
    wait_until("it was started after all", || service.state("late")["started"].is_u64());
}

/// Section 0: a peer that never answers hangs the tool for ever; #1884: a hung operation blocks others until it is killed.
#[test]
fn a_hanging_call_may_need_kill_and_may_block_the_others() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = service(&home);
    service.faults(&json!([{"verb": "start", "do": "hang", "ignore_term": true, "hold_lock": true}]));
    let mut hung = Client::spawn(service.cmd(["start", "any"]));
    wait_until("it has begun", || service.calls().len() == 1);
    let wedge = service.root.join("wedge.lock");
    let is_held = || std::fs::File::open(&wedge).is_ok_and(|file| fosse::sys::linux::flock::holds(hung.pid(), &file));
    wait_until("it holds the others up", is_held);
    let listed = Client::spawn(service.cmd(["list"]));
    wait_until("the other has begun", || service.calls().len() == 2);
    hung.signal(crate::support::TERM);
    assert!(service.calls().iter().all(|call| call.end.is_none()));
    hung.signal(KILL);
    hung.wait();
    assert_eq!(code(&listed.output()), 0, "blocked calls proceed afterwards");
    assert!(std::panic::catch_unwind(|| service.assert_every_call_ended()).is_err(), "a killed call has no end");
}

#[test]
fn output_can_be_damaged_in_every_way() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = service(&home);
    assert_eq!(code(&service.call(["create", "--name", "whole", IMAGE])), 0);
    let inspect = |fault: &str| {
        service.faults(&json!([{"verb": "inspect", "do": fault, "state": "stopping"}]));
        let output = service.call(["inspect", "whole"]);
        assert_eq!(code(&output), 0, "{output:?}");
        output.stdout
    };
    for fault in ["garbage", "truncated", "empty"] {
        assert!(serde_json::from_slice::<Value>(&inspect(fault)).is_err(), "{fault}");
    }
    let value = |fault: &str| serde_json::from_slice::<Value>(&inspect(fault)).unwrap();
    assert!(value("wrong_shape").is_object());
    assert_eq!(value("state")[0]["status"]["state"], "stopping");
    assert_eq!(value("null_fields")[0]["configuration"]["labels"], Value::Null);
    assert!(value("extra_fields")[0]["futureField"].is_object());
}

/// #1050: a killed runtime may still be shown as running.
#[test]
fn a_runtime_can_crash_and_leave_a_ghost() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = service(&home);
    detached(&service, "ghost", "sleep 1000");
    let init = i32::try_from(service.state("ghost")["init"].as_i64().unwrap()).unwrap();
    service.faults(&json!([{"verb": "inspect", "do": "runtime_crash", "ghost": true, "times": 1}]));
    assert_eq!(shown_state(&service, "ghost"), "running");
    wait_until("its machine is gone", || process_state(init).is_none());
    assert_eq!(shown_state(&service, "ghost"), "running");
    assert_eq!(code(&service.call(["exec", "ghost", "true"])), 1);
    detached(&service, "plain", "sleep 1000");
    service.faults(&json!([{"verb": "inspect", "do": "runtime_crash", "times": 1}]));
    assert_eq!(shown_state(&service, "plain"), "stopped");
}

/// #2286: after a crash all are shown as stopped though they live; stop does nothing, kill fails, delete really removes.
#[test]
fn a_service_that_crashed_has_forgotten_what_runs() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = service(&home);
    detached(&service, "alive", "sleep 1000");
    let init = i32::try_from(service.state("alive")["init"].as_i64().unwrap()).unwrap();
    service.faults(&json!([{"verb": "list", "do": "server_crash", "restart_ms": 0, "times": 1}]));
    let crashed = service.call(["list"]);
    assert!(
        stderr(&crashed).contains("XPC connection error: Connection interrupted") && stderr(&crashed).contains(ENSURE)
    );
    wait_until("the service is up again", || code(&service.call(["list"])) == 0);
    let shown: Value = serde_json::from_slice(&service.call(["inspect", "alive"]).stdout).unwrap();
    assert_eq!(shown[0]["status"], json!({"networks": [], "state": "stopped"}));
    assert_eq!(stdout(&service.call(["stop", "alive"])), "alive\n");
    assert!(process_state(init).is_some(), "it lives");
    assert!(stderr(&service.call(["kill", "alive"])).contains("no runtime client exists"));
    assert_eq!(code(&service.call(["delete", "alive"])), 0);
    wait_until("it is really gone", || process_state(init).is_none());
}

#[test]
fn single_faults_have_their_texts() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = service(&home);
    assert_eq!(code(&service.call(["create", "--name", "odd", IMAGE, "sh", "-c", "exit 3"])), 0);
    let strike = |rule: Value, args: &[&str]| {
        service.faults(&json!([rule]));
        let output = service.call(args);
        service.faults(&json!([]));
        (code(&output), stderr(&output))
    };
    let start = ["start", "--attach", "odd"];
    let (failed, text) = strike(json!({"do": "start_shutting_down"}), &start);
    assert!(failed == 1 && text.contains("container expected to be in created state, got: shuttingDown"), "{text}");
    assert_eq!(strike(json!({"do": "exit_lost"}), &start).0, 255);
    assert_eq!(strike(json!({"do": "exit_lost", "mode": "timeout"}), &start).0, 1);
    assert_eq!(strike(json!({"do": "exit", "code": 64, "text": "Error: odd"}), &start), (64, "Error: odd\n".into()));
    assert!(strike(json!({"do": "ip_exhausted"}), &start).1.contains("no free indices are available for allocation"));
    assert!(strike(json!({"do": "port_in_use"}), &start).1.contains("Address already in use (errno: 48)"));
    assert!(
        strike(json!({"do": "no_kernel"}), &start).1.contains("default kernel not configured for architecture arm64")
    );
    let not_found = strike(json!({"do": "not_found"}), &["inspect", "odd"]);
    assert_eq!(not_found, (1, "Error: container not found: odd\n".into()));
    let (_, text) = strike(json!({"do": "net_limit", "n": 0}), &["network", "create", "more"]);
    assert!(text.contains("vmnet_return_t(rawValue: 1001)"), "{text}");
    let (failed, text) = strike(json!({"do": "rm_stale_exec"}), &["delete", "odd"]);
    assert!(failed == 1 && text.contains("deleteProcess: exec ") && text.contains(" does not exist"), "{text}");
    assert_eq!(strike(json!({"do": "rm_leftover"}), &["delete", "odd"]).0, 1);
    assert_eq!(code(&service.call(["delete", "odd"])), 1, "and again");
    assert_eq!(service.containers().len(), 1);
}

#[test]
fn what_should_stop_can_survive() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = service(&home);
    detached(&service, "stubborn", "sleep 1000");
    service.faults(&json!([{"verb": "stop", "do": "stop_noop"}, {"verb": "kill", "do": "kill_ignored"}]));
    assert_eq!(stdout(&service.call(["stop", "stubborn"])), "stubborn\n");
    assert_eq!(stdout(&service.call(["kill", "stubborn"])), "stubborn\n");
    assert!(is_running(&service, "stubborn"));
    service.faults(&json!([{"verb": "list", "do": "ls_empty"}]));
    assert_eq!(stdout(&service.call(["list", "--format", "json"])), "[]\n");
}

/// Section 0: the time-out comes with the late answer, and the work is done.
#[test]
fn an_answer_that_is_too_late_is_an_error_with_the_work_done() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = service(&home);
    service.latency(&json!({"create": 5, "list": 5, "timeouts": {"containerCreate": 1, "containerList": 1}}));
    let late = service.call(["create", "--name", "late", IMAGE]);
    assert!(code(&late) == 1 && stderr(&late).contains("XPC timeout for request to"), "{late:?}");
    let text = "Error: failed to list containers (cause: \"internalError: \"XPC timeout for request to \
                com.apple.container.apiserver/containerList\"\")\n";
    assert_eq!(stderr(&service.call(["list"])), text);
    assert_eq!(service.containers().len(), 1);
}

#[test]
fn a_service_with_one_place_serves_one_call_at_a_time() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = service(&home);
    service.latency(&json!({"serial": true, "create": 100}));
    let names: Vec<String> = (0..8).map(|number| format!("many-{number}")).collect();
    let clients: Vec<Client> =
        names.iter().map(|name| Client::spawn(service.cmd(["create", "--name", name, IMAGE]))).collect();
    for client in clients {
        assert_eq!(code(&client.output()), 0);
    }
    assert_eq!(service.containers().len(), 8);
    service.assert_every_call_ended();
    service.assert_one_change_at_a_time();
    service.assert_every_call_understood();
    let mut ends: Vec<u64> =
        service.calls().iter().filter(|call| call.verb == "create").filter_map(|call| call.end).collect();
    ends.sort_unstable();
    assert!(ends.windows(2).all(|two| two[1] - two[0] >= 90_000_000), "two at a time: {ends:?}");
}

#[test]
fn the_log_of_calls_says_who_was_beside_whom() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = service(&home);
    assert_eq!(code(&service.call(["create", "--name", "logged", "-e", "TOKEN=sesame", IMAGE, "sleep", "1000"])), 0);
    let client = Client::spawn(service.cmd(["start", "--attach", "logged"]));
    wait_until("it runs", || service.calls().last().is_some_and(|call| call.running.is_some()));
    service.faults(&json!([{"verb": "stop", "do": "hang", "times": 1}]));
    let hung = Client::spawn(service.cmd(["stop", "logged"]));
    wait_until("the stop has begun", || service.calls().len() == 3);
    assert_eq!(code(&service.call(["kill", "logged"])), 0);
    assert_eq!(code(&client.output()), 137);
    let calls = service.calls();
    assert_eq!(
        (calls[2].line["in_flight"].as_u64(), calls[2].line["beside"][0]["attached"].as_bool()),
        (Some(0), Some(true))
    );
    assert_eq!(calls[3].line["in_flight"], 1, "{:?}", calls[3]);
    assert_eq!((calls[0].line["stdin"].as_str(), calls[0].line["stdout"].as_str()), (Some("null"), Some("pipe")));
    let fails = |check: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_err();
    assert!(fails(&|| service.assert_no_argument_has("sesame")));
    assert!(fails(&|| service.assert_every_call_ended()));
    assert!(fails(&|| service.assert_nothing_left()));
    service.assert_no_argument_has("open");
    drop(hung);
    service.call(["wait", "logged"]);
    assert!(fails(&|| service.assert_every_call_understood()));
}
