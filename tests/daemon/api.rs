//! What can be asked of the daemon on its socket, by whom, and what no client can do to it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::daemon::daemons;
use crate::support::http::{Address, Answer, Conn, raw};
use crate::support::{Engine, Home, KILL, code, finish, has, left_out, wait_until};

/// A client that is no owner has this id.
const RUN: &str = "0123456789ab";

/// Starts a daemon; where it listens.
fn serve(home: &Home) -> Address {
    assert_eq!(code(&home.daemon(["start"])), 0);
    Address::Unix(socket(home))
}

fn socket(home: &Home) -> PathBuf {
    PathBuf::from(home.daemon_status()["socket"].as_str().unwrap())
}

/// A request with a JSON body.
fn post(path: &str, body: &str) -> Vec<u8> {
    let length = format!("Content-Length: {}", body.len());
    raw(&format!("POST {path} HTTP/1.1"), &["Host: fosse", "Content-Type: application/json", &length], body.as_bytes())
}

fn lease(run: &str) -> Vec<u8> {
    post("/v1/lease", &json!({"run": run}).to_string())
}

/// Gets a lease and keeps it.
fn leased(address: &Address, run: &str) -> Conn {
    let mut conn = address.connect().unwrap();
    conn.send(&lease(run)).unwrap();
    let answer = conn.answer().unwrap();
    assert_eq!((answer.status, answer.json()["state"].as_str()), (200, Some("serving")), "{answer:?}");
    conn
}

fn health(address: &Address) -> Value {
    let answer = address.ask(&address.get("/v1/health"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Runs the body where native runs are possible, with a daemon of the user whose test this is: others are not served.
fn with_runs(body: impl Fn(&Home)) {
    if Engine::Native.available() {
        body(&Home::without_engines());
    }
}

/// Descriptors and threads of a process.
fn open_things(pid: i32) -> (usize, usize) {
    let count = |dir: &str| fs::read_dir(format!("/proc/{pid}/{dir}")).unwrap().count();
    (count("fd"), count("task"))
}

#[test]
fn it_says_how_it_is_and_which_runs_there_are() {
    with_runs(|home| {
        let address = serve(home);
        wait_until("its first sweep is over", || !health(&address)["last_sweep"].is_null());
        let told = health(&address);
        assert_eq!(told, home.daemon_status());
        assert_eq!(
            (&told["state"], &told["pid"], &told["schema"]),
            (&"serving".into(), &home.daemon_pid().into(), &1.into())
        );
        assert_eq!(code(&home.run(Engine::Native, &["--name", "over"], &["sh", "-c", "exit 3"])), 3);
        home.write("state/runs/aaaaaaaaaaaa/record.json", "no record");
        let answer = address.ask(&address.get("/v1/runs"));
        let runs = answer.json();
        assert_eq!((answer.status, runs["runs"].as_array().map(Vec::len)), (200, Some(1)), "{answer:?}");
        let run = &runs["runs"][0];
        assert_eq!((&run["name"], &run["exit_code"], &run["reason"]), (&"over".into(), &3.into(), &"exited".into()));
        assert_eq!(runs["unknown"], json!(["aaaaaaaaaaaa"]));
        // A HEAD has no body.
        let mut conn = address.connect().unwrap();
        conn.send(&raw("HEAD /v1/health HTTP/1.1", &["Host: fosse"], b"")).unwrap();
        assert_eq!(conn.head().unwrap().status, 200);
        assert!(conn.is_over());
        fs::remove_dir_all(home.state().join("runs/aaaaaaaaaaaa")).unwrap();
    });
}

#[test]
fn curl_speaks_to_it_as_the_contract_says() {
    if Command::new("curl").arg("--version").output().is_err() {
        return left_out("curl is not there");
    }
    let home = Home::without_engines();
    serve(&home);
    let socket = socket(&home);
    let curl = |args: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail-with-body", "--unix-socket"]).arg(&socket).args(args);
        let output = finish(command);
        (code(&output), serde_json::from_slice::<Value>(&output.stdout).unwrap())
    };
    let (code, told) = curl(&["http://fosse/v1/health"]);
    assert_eq!((code, &told["state"]), (0, &"serving".into()));
    let (code, told) = curl(&["http://fosse/v1/runs"]);
    assert_eq!((code, &told["runs"]), (0, &json!([])));
    let json = ["--header", "Content-Type: application/json", "--data"];
    let (code, told) = curl(&[&json[..], &["{\"dry_run\": true}", "http://fosse/v1/reap"]].concat());
    assert_eq!((code, &told["dry_run"], &told["objects"]), (0, &true.into(), &json!([])), "{told}");
    // Without the header, curl says that it is a form.
    let (code, told) = curl(&["--data", "{}", "http://fosse/v1/reap"]);
    assert_eq!((code, &told["error"]["status"]), (22, &415.into()), "{told}");
    let (code, told) = curl(&[&json[..], &["{}", "http://fosse/v1/shutdown"]].concat());
    assert_eq!((code, &told["state"]), (0, &"stopping".into()));
    wait_until("it has ended", || daemons(&home).is_empty());
}

#[test]
fn it_ends_for_who_knows_its_nonce_and_not_for_who_means_another() {
    let home = Home::without_engines();
    let address = serve(&home);
    let nonce = health(&address)["nonce"].as_str().unwrap().to_owned();
    for wrong in ["", "0000000000000000", &nonce[1..], &format!("{nonce}0")] {
        let answer = address.ask(&post("/v1/shutdown", &json!({"nonce": wrong}).to_string()));
        assert_eq!(answer.status, 409, "{wrong:?}: {answer:?}");
        answer.message();
    }
    let pid = home.daemon_pid();
    let answer = address.ask(&post("/v1/shutdown", &json!({"nonce": nonce}).to_string()));
    assert_eq!(answer.status, 202, "{answer:?}");
    wait_until("it has ended", || !daemons(&home).contains(&pid));
    assert!(!socket_is_there(&address), "its socket is still there");
}

fn socket_is_there(address: &Address) -> bool {
    matches!(address, Address::Unix(path) if path.exists())
}

/// The end of an owner's connection makes it look at the run at once; until then it is left alone.
#[test]
fn a_lease_stays_and_its_end_is_told_from_every_other_ones() {
    with_runs(|home| {
        let address = serve(home);
        let client = home.start(Engine::Native, &[], "exec sleep 1000");
        let id = home.newest_id();
        let first = leased(&address, &id);
        let second = leased(&address, &id);
        let other = leased(&address, RUN);
        assert_eq!(health(&address)["leases"], 3);
        // One that says anything is no owner.
        let mut talker = leased(&address, RUN);
        talker.send(b"GET /v1/health HTTP/1.1\r\n\r\n").unwrap();
        assert!(talker.is_over(), "it was answered");
        drop(first);
        wait_until("it is forgotten", || health(&address)["leases"] == 2);
        assert_eq!(home.newest()["state"], "running", "its owner lives, whoever has lost a connection");
        client.signal(KILL);
        client.output();
        drop((second, other));
        wait_until("the orphan is finished", || health(&address)["finished"] == 1);
        wait_until("no lease is left", || health(&address)["leases"] == 0);
    });
}

#[test]
fn what_is_no_proper_request_is_refused_with_the_reason() {
    let home = Home::without_engines();
    let address = serve(&home);
    let (host, json, empty) = ("Host: fosse", "Content-Type: application/json", "Content-Length: 2");
    let long = format!("X: {}", "x".repeat(9000));
    let many: Vec<String> = (0..400).map(|number| format!("X-{number}: x")).collect();
    let many: Vec<&str> = std::iter::once(host).chain(many.iter().map(String::as_str)).collect();
    let large = format!("{{\"nonce\": \"{}\"}}", "x".repeat(70_000));
    let cases = [
        (404, address.get("/")),
        (404, address.get("/health")),
        (404, address.get("/v1/health/")),
        (404, address.get("/v2/health")),
        (404, address.get("/v1/../v1/health")),
        (404, post("/v1/nothing", "{}")),
        (405, post("/v1/health", "{}")),
        (405, post("/v1/runs", "{}")),
        (405, address.get("/v1/reap")),
        (405, address.get("/v1/shutdown")),
        (405, address.get("/v1/lease")),
        (405, raw("DELETE /v1/runs HTTP/1.1", &[host], b"")),
        (400, post("/v1/reap", "{")),
        (400, post("/v1/reap", "[true]x")),
        (400, post("/v1/reap", r#"{"dry_run": "yes"}"#)),
        (400, post("/v1/reap", r#"{"dryrun": true}"#)),
        (400, post("/v1/reap", r#"{"dry_run": true, "force": true}"#)),
        (400, post("/v1/shutdown", r#"{"nonce": null, "now": true}"#)),
        (400, post("/v1/lease", "")),
        (400, post("/v1/lease", "{}")),
        (400, post("/v1/lease", r#"{"run": "../../etc"}"#)),
        (400, post("/v1/lease", r#"{"run": "0123456789ab", "pid": 1}"#)),
        (415, raw("POST /v1/reap HTTP/1.1", &[host, empty], b"{}")),
        (415, raw("POST /v1/reap HTTP/1.1", &[host], b"")),
        (415, raw("POST /v1/shutdown HTTP/1.1", &[host, "Content-Type: text/plain", empty], b"{}")),
        (403, raw("GET /v1/health HTTP/1.1", &[host, "Origin: http://fosse"], b"")),
        (403, raw("POST /v1/shutdown HTTP/1.1", &[host, "Origin: null", json, empty], b"{}")),
        (413, post("/v1/shutdown", &large)),
        (413, raw("POST /v1/reap HTTP/1.1", &[host, json, "Content-Length: 999999999999"], b"")),
        (431, raw("GET /v1/health HTTP/1.1", &[host, &long], b"")),
        (431, raw("GET /v1/health HTTP/1.1", &many, b"")),
        (414, raw(&format!("GET /{} HTTP/1.1", "x".repeat(9000)), &[host], b"")),
        (505, raw("GET /v1/health HTTP/2.0", &[host], b"")),
        (400, b"no http at all\r\n\r\n".to_vec()),
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()),
        (400, b"{\"command\": \"stop\"}\n\n".to_vec()),
    ];
    let before = health(&address);
    for (wanted, request) in cases {
        let shown = String::from_utf8_lossy(&request[..request.len().min(200)]).into_owned();
        let mut conn = address.connect().unwrap();
        // What it does not want to read it need not take.
        conn.send(&request).unwrap_or_default();
        let answer: Answer = conn.answer().unwrap_or_else(|error| panic!("{error}: {shown:?}"));
        assert_eq!(answer.status, wanted, "{shown:?}: {answer:?}");
        answer.message();
        assert!(conn.is_over(), "{shown:?}: the connection stays");
    }
    let mut after = health(&address);
    after["last_sweep"] = before["last_sweep"].clone();
    assert_eq!(after, before);
}

#[test]
fn half_a_request_and_silence_have_their_time_and_hold_up_nobody() {
    let home = Home::without_engines();
    let address = serve(&home);
    let silent: Vec<Conn> = (0..200).map(|_| address.connect().unwrap()).collect();
    let mut half = address.connect().unwrap();
    half.send(b"POST /v1/shutdown HTTP/1.1\r\nHost: fosse\r\nContent-Length: 2\r\nContent-Type: applica").unwrap();
    let mut body = address.connect().unwrap();
    let request = post("/v1/shutdown", "{} ");
    body.send(&request[..request.len() - 1]).unwrap();
    for _ in 0..20 {
        let begun = Instant::now();
        assert_eq!(health(&address)["state"], "serving");
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    }
    assert_eq!(code(&home.daemon(["status"])), 0);
    let begun = Instant::now();
    for mut conn in [half, body] {
        let answer = conn.answer().unwrap();
        assert_eq!(answer.status, 408, "{answer:?}");
    }
    for mut conn in silent {
        assert!(conn.is_over(), "it was answered");
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let pid = home.daemon_pid();
    assert_eq!(daemons(&home), [pid]);
}

/// Only the owning user may connect: by the kernel's word, not by the modes on the way.
#[test]
fn another_user_is_not_served_even_where_the_way_is_open() {
    const OTHER: &str = "54321";
    let home = Home::without_engines();
    let address = serve(&home);
    let socket = socket(&home);
    let modes = [(home.dir.clone(), 0o755), (home.dir.join("run"), 0o700), (socket.clone(), 0o700)];
    let dir = fs::metadata(&modes[1].0).unwrap().permissions().mode() & 0o777;
    assert_eq!(dir, 0o700, "the directory of the sockets is open to others");
    if fosse::sys::process::effective_ids().0 != 0 || Command::new("setpriv").arg("--version").output().is_err() {
        return left_out("another user's client needs root and setpriv");
    }
    if !has(&["curl"]) {
        return;
    }
    let other = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", OTHER, "--regid", OTHER, "--clear-groups"]).args(words).arg(&socket);
        finish(command)
    };
    let can_reach = || code(&other(&["test", "-w"])) == 0;
    assert!(!can_reach());
    // Root opens the way, so that only the daemon itself is left to refuse.
    for (path, _) in &modes {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    assert!(can_reach());
    let curl = ["curl", "--silent", "--max-time", "60", "http://fosse/v1/health", "--unix-socket"];
    let refused = other(&curl);
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
    let mut own = Command::new(curl[0]);
    own.args(&curl[1..]).arg(&socket);
    assert_eq!(code(&finish(own)), 0);
    for (path, mode) in modes {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    assert_eq!(health(&address)["state"], "serving");
    // Nor is root, by a daemon of somebody else's.
    let theirs = Home::of_user(OTHER.parse().ok());
    assert_eq!(code(&theirs.daemon(["start"])), 0);
    let mut conn = Address::Unix(self::socket(&theirs)).connect().unwrap();
    conn.send(&address.get("/v1/health")).unwrap_or_default();
    assert!(conn.is_over(), "it was answered");
}

#[test]
fn clients_that_do_not_take_their_answer_hold_up_nobody() {
    with_runs(|home| {
        let address = serve(home);
        assert_eq!(code(&home.run(Engine::Native, &["--label", "long=value"], &["true"])), 0);
        let from = home.state().join("runs").join(home.newest_id()).join("record.json");
        let record: Value = serde_json::from_slice(&fs::read(from).unwrap()).unwrap();
        // More than any socket's buffer takes.
        let count = 400;
        for number in 0..count {
            let mut copy = record.clone();
            let id = format!("{number:012x}");
            copy["id"] = id.as_str().into();
            copy["labels"] = json!({"long": "x".repeat(2000)});
            home.write(&format!("state/runs/{id}/record.json"), copy.to_string());
            home.write(&format!("state/runs/{id}/owner.lock"), "");
        }
        let pid = home.daemon_pid();
        let before = open_things(pid);
        let mut stuck: Vec<Conn> = (0..20).map(|_| address.connect().unwrap()).collect();
        for conn in &mut stuck {
            conn.send(&address.get("/v1/runs")).unwrap();
        }
        // These go away in the middle of their answer.
        for _ in 0..20 {
            let mut conn = address.connect().unwrap();
            conn.send(&address.get("/v1/runs")).unwrap();
            conn.take(10).unwrap();
        }
        let whole = address.ask(&address.get("/v1/runs"));
        assert_eq!(whole.json()["runs"].as_array().map(Vec::len), Some(count + 1));
        assert_eq!(health(&address)["state"], "serving");
        wait_until("it has given them up", || open_things(pid) <= before);
        // What it had sent by then is there, and the end.
        for conn in stuck {
            let (mut stream, mut come) = (conn.other_handle(), Vec::new());
            drop(conn);
            stream.read_to_end(&mut come).unwrap_or_default();
            assert!(come.len() < whole.body.len(), "{}", come.len());
        }
        // A slow one that goes on reading gets all of it.
        let mut stream = UnixStream::connect(socket(home)).unwrap();
        stream.write_all(&address.get("/v1/runs")).unwrap();
        let (mut come, mut piece) = (0, vec![0; 50_000]);
        for round in 0.. {
            match stream.read(&mut piece).unwrap() {
                0 => break,
                count => come += count,
            }
            // It takes its time, within what the daemon gives it.
            if round % 5 == 0 {
                health(&address);
            }
        }
        assert!(come > whole.body.len(), "{come}");
        assert_eq!(home.daemon_pid(), pid);
    });
}

#[test]
fn many_requests_leave_no_descriptor_and_no_thread() {
    let home = Home::without_engines();
    let address = serve(&home);
    let pid = home.daemon_pid();
    wait_until("its first sweep is over", || !home.daemon_status()["last_sweep"].is_null());
    let before = open_things(pid);
    for round in 0..1000 {
        match round % 5 {
            0 => drop(leased(&address, RUN)),
            1 => assert_eq!(address.ask(&post("/v1/nothing", "{}")).status, 404),
            2 => drop(address.connect().unwrap()),
            3 => {
                // It goes away before its answer comes.
                let mut conn = address.connect().unwrap();
                conn.send(&address.get("/v1/runs")).unwrap();
            }
            _ => drop(health(&address)),
        }
    }
    wait_until("all is as it was", || open_things(pid) <= before);
    assert_eq!(health(&address)["leases"], 0);
    assert_eq!(daemons(&home), [pid]);
}
