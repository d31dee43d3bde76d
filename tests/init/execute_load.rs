//! `POST /process/execute` under load: every code is exact at any rate, floods are bounded, and limits that are
//! reached are errors in words.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use serde_json::json;

use crate::support::http::{Address, Answer, Conn, bytes_of};
use crate::support::init::{BOTH, Init, Place, code_of, new_tag, serving, tagged, wait_gone, wrapped};
use crate::support::{LIMIT, processes, repeat, wait_until};

/// A client that keeps its connection for as long as the server does.
struct Caller<'a> {
    address: &'a Address,
    kept: Option<Conn>,
}

impl Caller<'_> {
    fn call(&mut self, request: &[u8]) -> Answer {
        let mut conn = self.kept.take().unwrap_or_else(|| self.address.connect().unwrap());
        conn.send(request).unwrap();
        let answer = conn.answer().unwrap();
        if answer.header("connection") != Some("close") {
            self.kept = Some(conn);
        }
        answer
    }
}

/// Thousands of commands over many connections at once, all with their own code and output; each tenth leaves an
/// orphan. Half of the connections are kept, the others are new for each request.
fn storm(place: Place, connections: usize) {
    let Some(init) = Init::serve(place) else { return };
    let (total, next, wrong) = (repeat(10_000), AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for worker in 0..connections {
            let (init, next, wrong) = (&init, &next, &wrong);
            scope.spawn(move || {
                let mut caller = Caller { address: init.address(), kept: None };
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= total {
                        break;
                    }
                    let wanted = i64::try_from(number * 7 % 256).unwrap();
                    let orphan = if number % 10 == 0 { "(sleep 0.05 >/dev/null 2>&1 &); " } else { "" };
                    let script = format!("{orphan}echo {number}; exit {wanted}");
                    let request = json!({"command": ["sh", "-c", script]}).to_string();
                    let answer = caller.call(&init.address().post(&[], request.as_bytes()));
                    let body = answer.json();
                    let exact = answer.status == 200
                        && (&body["exitCode"], &body["signal"], &body["result"], &body["timedOut"])
                            == (&json!(wanted), &json!(null), &json!(format!("{number}\n")), &json!(false));
                    if !exact {
                        wrong.lock().unwrap().push(format!("{script}: {answer:?}"));
                    }
                    if worker % 2 == 0 {
                        caller.kept = None;
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(
        wrong.is_empty(),
        "{place:?}: {} of {total} are wrong:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(10)].join("\n")
    );
    init.wait_childless();
    init.assert_well();
    init.end();
}

/// E1 E2 E4.
#[test]
fn e1_e2_e4_a_storm_has_exact_codes_as_a_subreaper() {
    storm(Place::Subreaper, 50);
}

/// E1 E2 E4.
#[test]
fn e1_e2_e4_a_storm_has_exact_codes_as_pid_1() {
    storm(Place::Pid1, 50);
}

/// E1 E2 E4: a process number comes back after a hundred others. (Fewer at once: there are but a hundred numbers.)
#[test]
fn e1_e2_e4_a_storm_has_exact_codes_where_process_numbers_come_back() {
    storm(Place::FewPids, 20);
}

/// E1 E2 E4: the kernel would discard every status.
#[test]
fn e1_e2_e4_a_storm_has_exact_codes_where_sigchld_was_ignored() {
    storm(Place::IgnoredChld, 50);
}

/// A long command does not hold up the short ones, nor the question for health.
#[test]
fn a_command_that_takes_its_time_delays_no_other() {
    serving(&BOTH, |init| {
        let tag = new_tag();
        let request = tagged(&tag, "touch up; exec sleep 1000", 3600).to_string();
        let mut long = Vec::new();
        for _ in 0..20 {
            let mut conn = init.connect();
            conn.send(&init.address().post(&[], request.as_bytes())).unwrap();
            long.push(conn);
        }
        for _ in 0..20 {
            init.assert_well();
        }
        drop(long);
        wait_gone(&tag);
    });
}

// ---- floods -----------------------------------------------------------------------------------

/// A script that says so many bytes, none of which JSON has to escape: without optimisation that takes seconds, on
/// either side.
pub fn plain(size: usize) -> String {
    format!("head -c {size} /dev/zero | tr '\\0' x")
}

/// The most memory that a process ever had, in KiB.
fn peak(pid: i32) -> u64 {
    processes::status_field(pid, "VmHWM").trim_end_matches(" kB").parse().unwrap()
}

/// A gigabyte in a full run. The cap is on bytes of output, however many they are in JSON.
#[test]
fn a_gigabyte_of_output_is_cut_at_16_mib_and_init_stays_small() {
    serving(&[Place::Subreaper], |init| {
        let size = repeat(10) * 100_000_000;
        let script = format!("head -c {size} /dev/zero; exit 3");
        let result = init.done(&json!({"command": ["sh", "-c", script]}));
        assert_eq!((code_of(&result), &result["truncated"]), (3, &json!(true)));
        let said = bytes_of(&result, "result");
        assert!(said.len() == 16 << 20 && said.iter().all(|byte| *byte == 0), "{} bytes", said.len());
        assert!(peak(init.pid) < 100 << 10, "{} KiB", peak(init.pid));
    });
}

#[test]
fn output_is_marked_as_cut_only_when_some_is_missing() {
    serving(&[Place::Subreaper], |init| {
        for (size, cut) in [((16 << 20) - 1, false), (16 << 20, false), ((16 << 20) + 1, true)] {
            let result = init.done(&json!({"command": ["sh", "-c", plain(size)]}));
            assert_eq!(result["truncated"], cut, "{size}");
            assert_eq!(bytes_of(&result, "result").len(), size.min(16 << 20));
        }
        // A command that is cut still runs to its own end.
        let result =
            init.done(&json!({"command": ["sh", "-c", "head -c 20000000 /dev/urandom; echo end >end; exit 9"]}));
        assert_eq!((code_of(&result), &result["truncated"], &result["encoding"]), (9, &json!(true), &json!("base64")));
        assert_eq!(bytes_of(&result, "result").len(), 16 << 20);
        assert!(init.home.workspace().join("end").exists());
    });
}

// ---- limits -----------------------------------------------------------------------------------

/// A spawn that the kernel refuses is an answer, and what is there goes on.
#[test]
fn at_the_limit_of_processes_init_says_so_and_lives_on() {
    let Some(init) = Init::serve(Place::FewPids) else { return };
    // Beyond the first 300 only those above come back: a hundred in all.
    let (_, burnt) = init.sh("i=0; while [ $i -lt 350 ]; do /bin/true; i=$((i+1)); done; echo burnt");
    assert_eq!(burnt, "burnt\n");
    let tag = new_tag();
    let request = tagged(&tag, "exec sleep 1000", 3600).to_string();
    let bytes = init.address().post(&[], request.as_bytes());
    let (sender, answers) = channel();
    std::thread::scope(|scope| {
        let mut handles = Vec::new();
        for _ in 0..130 {
            let mut conn = init.connect();
            handles.push(conn.other_handle());
            conn.send(&bytes).unwrap();
            let sender = sender.clone();
            // Those that run have no answer until they are hung up.
            scope.spawn(move || conn.answer().map(|answer| sender.send(answer).unwrap()).unwrap_or_default());
        }
        let refused: Result<Vec<Answer>, _> = (0..25).map(|_| answers.recv_timeout(LIMIT)).collect();
        let health = init.address().ask(&init.address().get("/health"));
        // Each start takes two processes, so that of many at once none may get the second: one by one they fill what
        // is left.
        let mut more = Vec::new();
        wait_until("it is full", || {
            let mut conn = init.connect();
            conn.send(&bytes).unwrap();
            more.push(conn);
            init.execute(&json!({"command": "true"})).status >= 500
        });
        handles.iter().for_each(Conn::hang_up);
        for answer in refused.expect("more than there is room for were started") {
            assert!(answer.status >= 500, "{answer:?}");
            assert!(!answer.message().is_empty());
        }
        assert_eq!(health.status, 200, "{health:?}");
    });
    wait_gone(&tag);
    wait_until("it executes again", || init.execute(&json!({"command": "true"})).status == 200);
    init.wait_childless();
    init.assert_well();
    init.end();
}

/// Whatever is refused for want of descriptors, no answer is wrong, and it passes.
#[test]
fn at_the_limit_of_descriptors_init_gives_no_wrong_answer_and_recovers() {
    for place in BOTH {
        let few = |command: std::process::Command| wrapped(&command, &["sh", "-c", "ulimit -n 32; exec \"$@\"", "sh"]);
        let Some(init) = Init::serve_with(place, &[], few) else { continue };
        for _ in 0..3 {
            let idle: Vec<Conn> = (0..40).map(|_| init.connect()).collect();
            let seen = Mutex::new(BTreeMap::new());
            std::thread::scope(|scope| {
                for number in 0..100 {
                    let (init, seen) = (&init, &seen);
                    scope.spawn(move || {
                        let what = one_of_many(init, number);
                        *seen.lock().unwrap().entry(what).or_insert(0) += 1;
                    });
                }
                // They would be waited for: room for those who come after them.
                drop(idle);
            });
            let seen = seen.into_inner().unwrap();
            assert!(seen.keys().all(|what| !what.starts_with("wrong")), "{place:?}: {seen:?}");
            wait_until("it executes again", || one_of_many(&init, 3) == "done");
            init.assert_well();
        }
        init.wait_childless();
        init.end();
    }
}

/// A command may change init's limits where both have one user. Then nothing can be started, and nothing ends.
#[test]
fn init_survives_that_its_descriptors_are_taken_away() {
    for place in BOTH {
        let Some(init) = Init::serve(place) else { continue };
        let tag = new_tag();
        let mut before = init.connect();
        let long = tagged(&tag, "touch up; exec sleep 1000", 3600).to_string();
        before.send(&init.address().post(&[], long.as_bytes())).unwrap();
        wait_until("the command runs", || init.home.workspace().join("up").exists());
        let limit = |limit: &str| {
            let args = ["--pid", &init.pid.to_string(), &format!("--nofile={limit}")].map(str::to_owned);
            assert!(std::process::Command::new("prlimit").args(args).status().unwrap().success());
        };
        limit("0:1000");
        // One that waits to be accepted for as long as nobody can be.
        let mut waiting = init.connect();
        waiting.send(&init.address().get("/health")).unwrap();
        // Something to do in the meantime.
        crate::support::kill(init.pid, crate::support::CONT);
        limit("1000:1000");
        assert_eq!(waiting.answer().unwrap().status, 200);
        init.assert_well();
        drop(before);
        wait_gone(&tag);
        init.wait_childless();
        init.end();
    }
}

/// What comes of one request among many: its own answer, a refusal, or a closed connection.
fn one_of_many(init: &Init, number: usize) -> String {
    let wanted = i64::try_from(number).unwrap();
    let request = json!({"command": ["sh", "-c", format!("sleep 0.1; echo {number}; exit {number}")]}).to_string();
    let answer = init.address().connect().and_then(|mut conn| {
        conn.send(&init.address().post(&[], request.as_bytes()))?;
        conn.answer()
    });
    match answer {
        Ok(answer) if answer.status == 200 => {
            let result = answer.json();
            let exact = code_of(&result) == wanted && result["result"] == format!("{number}\n");
            if exact { "done".into() } else { format!("wrong: {number} {answer:?}") }
        }
        Ok(answer) if answer.status >= 429 => format!("refused: {}", answer.status),
        Ok(answer) => format!("wrong: {number} {answer:?}"),
        Err(error) => match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "closed".into(),
            kind => format!("wrong: {kind:?} {error}"),
        },
    }
}
