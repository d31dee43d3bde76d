//! Many runs at once in Apple's containers, and a service that answers slowly, one call after the other, or not at all.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Carrier, Client, Home, KILL, code, finish, one_release, stdout, wait_until};

/// A service that takes 600 ms for each list, and serves one call at a time.
fn slow(home: &Home) {
    let latency = json!({"serial": true, "list": 600, "inspect": 600, "create": 50, "start": 50, "delete": 50});
    home.apple.as_ref().unwrap().latency(&latency);
}

/// X7: fifty runs at once do not pile calls up, whatever the service takes for each.
#[test]
fn fifty_runs_at_once_on_a_slow_service_end_with_their_codes() {
    let Some((release, home)) = one_release(Carrier::Init) else { return };
    slow(&home);
    let clients: Vec<(i32, Client)> = (0..50)
        .map(|number| {
            let script = format!("echo {number}; exit {number}");
            let mut command = home.run_cmd(release, &["--no-workspace"], &["sh", "-c", &script]);
            // The emulator serves in no order: some call has bad luck.
            command.env("FOSSE_QUERY_TIMEOUT", "60s");
            (number, Client::spawn(command))
        })
        .collect();
    for (number, client) in clients {
        let output = client.output();
        assert_eq!((code(&output), stdout(&output)), (number, format!("{number}\n")), "{output:?}");
    }
    let service = home.apple.as_ref().unwrap();
    // What is asked for at once, of all verbs together: the slots, and no more than those who have just let go.
    for verb in ["create", "delete", "list", "image inspect"] {
        service.assert_in_flight_at_most(verb, 4);
    }
    service.assert_one_change_at_a_time();
    service.assert_every_call_ended();
    home.assert_nothing_left();
}

/// D5: three hundred records and a service that hangs: `list` asks nobody, `status` has one limit for all.
#[test]
fn d5_three_hundred_stale_records_and_a_service_that_hangs() {
    let Some((release, home)) = one_release(Carrier::Init) else { return };
    let mut client = home.start(release, &[], "exec sleep 1000");
    let id = home.newest_id();
    client.signal(KILL);
    client.wait();
    let record: Value =
        serde_json::from_slice(&std::fs::read(home.state().join("runs").join(&id).join("record.json")).unwrap())
            .unwrap();
    for number in 0..300 {
        let mut stale = record.clone();
        let id = format!("{number:012x}");
        stale["id"] = json!(id);
        stale["name"] = json!(format!("stale-{number}"));
        stale["container_id"] = json!(format!("fosse-{id}"));
        home.write(&format!("state/runs/{id}/record.json"), stale.to_string());
        home.write(&format!("state/runs/{id}/owner.lock"), "");
        home.write(&format!("state/runs/{id}/engine"), "");
    }
    let service = home.apple.as_ref().unwrap();
    service.faults(&json!([{"do": "hang", "ignore_term": true}]));
    let before = service.calls().len();
    assert_eq!(home.list().len(), 301);
    assert_eq!(service.calls().len(), before, "list asked the service");
    let mut status = home.cmd(["status", "--json"]);
    status.env("FOSSE_QUERY_TIMEOUT", "2s");
    let begun = std::time::Instant::now();
    let output = finish(status);
    // One limit, and the end of what was killed; five for each record would be ten minutes.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["orphans"], 301, "{shown}");
    assert!(service.calls().len() - before <= 9, "{} calls", service.calls().len() - before);
    service.faults(&json!([]));
    for number in 0..300 {
        std::fs::remove_dir_all(home.state().join("runs").join(format!("{number:012x}"))).unwrap();
    }
    wait_until("the real one is finished", || code(&home.fosse(["stop", &id])) == 0);
    home.assert_nothing_left();
}

/// Without an init of ours the service is asked whether a silent command runs: as many starts as there are places do not
/// wait for each other's answers.
#[test]
fn silent_commands_that_start_at_once_are_all_seen_to_run() {
    let Some((release, home)) = one_release(Carrier::Client) else { return };
    let clients: Vec<Client> = (0..8)
        .map(|_| {
            let mut command = home.run_cmd(release, &["--no-workspace"], &["sh", "-c", "sleep 22; exit 3"]);
            command.env("FOSSE_CHANGE_TIMEOUT", "10s").env("FOSSE_QUERY_TIMEOUT", "6s");
            Client::spawn(command)
        })
        .collect();
    for client in clients {
        let output = client.output();
        assert_eq!(code(&output), 3, "{output:?}");
    }
    home.assert_nothing_left();
}
