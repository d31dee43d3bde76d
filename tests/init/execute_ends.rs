//! The ends of an executed command that are not its own choice: a time-out, a client that goes away, the end of init.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::init::execute_load::plain;
use crate::support::http::{Answer, Conn, bytes_of};
use crate::support::init::{BOTH, Init, Place, code_of, new_tag, serving, tagged, wait_gone};
use crate::support::{Client, Home, code, process_state, processes, repeat, wait_until};

/// More than any time-out here needs beyond its limit; init promises a second. Without optimisation it takes several
/// to write and read an answer of 16 MiB.
const GENEROUS: Duration = Duration::from_secs(30);

/// Executes what is expected to be timed out, and gives what it said until then.
fn timed_out(init: &Init, request: &Value) -> String {
    let start = Instant::now();
    let answer = init.execute(request);
    let limit = Duration::from_secs(request["timeout"].as_u64().unwrap());
    let took = start.elapsed();
    assert!(took >= limit && took < limit + GENEROUS, "after {took:?}: {request} {answer:?}");
    assert_timed_out(request, &answer)
}

fn assert_timed_out(request: &Value, answer: &Answer) -> String {
    assert_eq!(answer.status, 408, "{request}: {answer:?}");
    let result = answer.json();
    assert_eq!(result["timedOut"], true, "{request}: {result}");
    code_of(&result);
    String::from_utf8(bytes_of(&result, "result")).unwrap()
}

// ---- time-outs --------------------------------------------------------------------------------

/// Each says `before`, and then overstays its time in another way.
const OVERSTAYING: [(&str, &str); 9] = [
    ("a plain one", "echo before; exec sleep 1000"),
    ("one that ignores TERM", "trap '' TERM; echo before; while :; do sleep 1000; done"),
    ("one whose child holds the pipe", "sleep 1000 & echo before; wait"),
    ("one whose child ignores TERM and holds the pipe", "(trap '' TERM; sleep 1000) & echo before; exec sleep 1000"),
    ("one whose child has left the session and holds the pipe", "setsid sleep 1000 & echo before; wait"),
    (
        "one whose grandchild has left the session and ignores TERM",
        "(setsid sh -c 'trap \"\" TERM; while :; do sleep 1000; done' &); echo before; exec sleep 1000",
    ),
    (
        "one whose grandchild has left the session without output",
        "(setsid sleep 1000 >/dev/null 2>&1 </dev/null &); echo before; exec sleep 1000",
    ),
    ("one that stands still", "echo before; kill -STOP $$; exit 0"),
    ("one with its output closed", "echo before; exec >&- 2>&-; exec sleep 1000"),
];

/// E3: the answer comes in time, with what was said until then, and everything that was started is gone.
#[test]
fn e3_a_time_out_ends_everything_that_was_started_and_tells_what_was_said() {
    serving(&BOTH, |init| {
        std::thread::scope(|scope| {
            for (what, script) in OVERSTAYING {
                scope.spawn(move || {
                    let tag = new_tag();
                    assert_eq!(timed_out(init, &tagged(&tag, script, 3)), "before\n", "{what}");
                    wait_gone(&tag);
                });
            }
        });
        init.wait_childless();
        init.assert_well();
    });
}

/// E3: what init did not start is not its to end, though its arguments are the same.
#[test]
fn e3_a_process_of_somebody_elses_survives_all_of_it() {
    let Some(init) = Init::serve(Place::Subreaper) else { return };
    let mut command = std::process::Command::new("setsid");
    let mut stranger = Client::spawn({
        command.args(["sh", "-c", "echo ready; read end; exit 17"]).stdin(std::process::Stdio::piped());
        command
    });
    stranger.wait_for_output("ready\n");
    let tag = new_tag();
    timed_out(&init, &tagged(&tag, "(setsid sleep 1000 &); exec sleep 1000", 1));
    drop(begin(&init, &tagged(&tag, "touch up; exec sleep 1000", 3600)));
    wait_gone(&tag);
    init.end();
    stranger.stdin().write_all(b"end\n").unwrap();
    assert_eq!(code(&stranger.output()), 17);
}

/// E3: it is the time that decides, not who is quicker.
#[test]
fn e3_of_many_time_outs_at_once_each_one_says_so() {
    serving(&[Place::Pid1], |init| {
        let tag = new_tag();
        std::thread::scope(|scope| {
            for number in 0..repeat(500) {
                let tag = &tag;
                scope.spawn(move || {
                    // One that ends politely, with success, is timed out all the same. (Its shell would
                    // also say that its sleep was terminated.)
                    let script = if number % 2 == 0 {
                        "sleep 1000 & echo hi; wait"
                    } else {
                        "trap 'exit 0' TERM; echo hi; exec 2>/dev/null; while :; do sleep 0.05; done"
                    };
                    assert_eq!(timed_out(init, &tagged(tag, script, 5)), "hi\n");
                });
            }
        });
        wait_gone(&tag);
        init.wait_childless();
    });
}

#[test]
fn a_command_that_is_asked_to_end_by_its_time_out_has_a_moment_for_it() {
    serving(&BOTH, |init| {
        let tag = new_tag();
        let script = "trap 'echo saved >saved; exit 0' TERM; while :; do sleep 0.01; done";
        // On a machine that is busy the moment may be over before the shell has its turn: it gets several.
        let saves = || {
            timed_out(init, &tagged(&tag, script, 1));
            fs::read_to_string(init.home.workspace().join("saved")).unwrap_or_default() == "saved\n"
        };
        assert!((0..5).any(|_| saves()), "it had no chance");
        wait_gone(&tag);
    });
}

#[test]
fn a_time_out_with_split_streams_tells_both_parts() {
    serving(&BOTH, |init| {
        let mut request = tagged(&new_tag(), "echo out; echo err >&2; exec sleep 1000", 3);
        request["split"] = true.into();
        let answer = init.execute(&request);
        let result = answer.json();
        assert_eq!((answer.status, &result["timedOut"]), (408, &json!(true)), "{result}");
        assert_eq!((&result["stdout"], &result["stderr"]), (&json!("out\n"), &json!("err\n")), "{result}");
    });
}

#[test]
fn a_time_out_in_the_middle_of_a_flood_is_in_time() {
    serving(&BOTH, |init| {
        let tag = new_tag();
        let said = timed_out(init, &tagged(&tag, "yes & yes & wait", 2));
        assert!(said.len() <= 16 << 20 && said.starts_with("y\n"), "{} bytes", said.len());
        wait_gone(&tag);
    });
}

/// E3: numbers come back at once here, and whoever has one now must not be hit for who had it before.
#[test]
fn e3_a_time_out_never_hits_a_stranger() {
    let Some(init) = Init::serve(Place::FewPids) else { return };
    let tag = new_tag();
    std::thread::scope(|scope| {
        let (init, tag) = (&init, &tag);
        for number in 0..5_u64 {
            scope.spawn(move || {
                // Each child that were hit would say so.
                let script =
                    "i=0; while [ $i -lt 60 ]; do sh -c 'sleep 0.005' || exit 99; i=$((i+1)); done; echo whole";
                assert_eq!(init.sh(script), (0, "whole\n".into()));
            });
            scope.spawn(move || {
                for _ in 0..2 {
                    let script = "(while :; do sh -c 'sleep 0.001'; done) & while :; do sh -c :; done";
                    timed_out(init, &tagged(tag, script, 1 + number % 2));
                }
            });
        }
    });
    wait_gone(&tag);
    init.wait_childless();
    init.end();
}

// ---- the leader's end -------------------------------------------------------------------------

/// It is over when the command is, whoever still holds the pipe.
#[test]
fn a_command_that_left_a_child_with_its_pipe_returns_at_once_with_its_output() {
    serving(&BOTH, |init| {
        for round in 0..repeat(100) {
            for (left, wanted) in [("sleep 1000 &", 0), ("setsid sleep 1000 &", 7), ("(setsid sleep 1000 &);", 255)] {
                let start = Instant::now();
                let result = init.done(&json!({"command": ["sh", "-c", format!("{left} echo hi; exit {wanted}")]}));
                assert!(start.elapsed() < GENEROUS, "{left}: {:?}", start.elapsed());
                let said = bytes_of(&result, "result");
                assert_eq!((code_of(&result), &said[..]), (wanted, &b"hi\n"[..]), "round {round}: {left} {result}");
            }
        }
    });
}

#[test]
fn a_child_that_never_stops_writing_does_not_hold_the_answer() {
    serving(&BOTH, |init| {
        let start = Instant::now();
        let (code, said) = init.sh("echo first; while :; do echo y; done & exit 3");
        assert!(start.elapsed() < GENEROUS, "{:?}", start.elapsed());
        assert!(code == 3 && said.starts_with("first\n"), "{code} {} bytes", said.len());
    });
}

// ---- commands that turn against init ----------------------------------------------------------

/// Each command has a process above it that it can signal.
#[test]
fn e2_who_kills_or_stops_the_process_above_him_still_has_his_own_code() {
    serving(&BOTH, |init| {
        for round in 0..repeat(300) {
            for signal in ["KILL", "STOP", "TERM", "CONT"] {
                let wanted = i64::try_from(round % 256).unwrap();
                let script = format!("kill -{signal} $PPID; echo on; (exit 9); (exit 8 &); exit {wanted}");
                assert_eq!(init.sh(&script), (wanted, "on\n".into()), "{signal}");
            }
        }
        init.wait_childless();
        init.assert_well();
    });
}

/// E3: without it, who has left the session cannot be told from others; everybody else can.
#[test]
fn e3_a_time_out_ends_who_has_killed_or_stopped_the_process_above_him() {
    serving(&BOTH, |init| {
        for signal in ["KILL", "STOP"] {
            for (rest, said) in [
                ("exec sleep 1000", "before\n"),
                ("trap '' TERM; while :; do sleep 1000; done", "before\n"),
                ("(sleep 1000 &); sleep 1000 & wait", "before\n"),
            ] {
                let tag = new_tag();
                let script = format!("kill -{signal} $PPID; echo before; {rest}");
                assert_eq!(timed_out(init, &tagged(&tag, &script, 3)), said, "{signal} {rest}");
                wait_gone(&tag);
            }
        }
        init.wait_childless();
        init.assert_well();
    });
}

/// A client that leaves in the middle of its answer raises SIGPIPE, which is none of the main command's business.
#[test]
fn no_client_can_raise_a_signal_that_is_passed_on() {
    for place in BOTH {
        let script = "while ! [ -e end ]; do sleep 0.05; done; exit 21";
        let Some(init) = Init::serve_with(place, &["--", "sh", "-c", script], |command| command) else { continue };
        for _ in 0..5 {
            let mut conn = init.connect();
            let request = json!({"command": ["sh", "-c", plain(8_000_000)]});
            conn.send(&init.address().post(&[], request.to_string().as_bytes())).unwrap();
            conn.take(12).unwrap();
        }
        init.assert_well();
        init.home.write("ws/end", "");
        assert_eq!(code(&init.ended()), 21, "{place:?}");
    }
}

// ---- clients that go away ---------------------------------------------------------------------

/// Sends a request and waits until its command has made the file `up`.
fn begin(init: &Init, request: &Value) -> Conn {
    let up = init.home.workspace().join("up");
    fs::remove_file(&up).unwrap_or_default();
    let mut conn = init.connect();
    conn.send(&init.address().post(&[], request.to_string().as_bytes())).unwrap();
    wait_until("the command runs", || up.exists());
    conn
}

#[test]
fn a_client_that_goes_away_ends_its_command_with_all_it_started() {
    serving(&BOTH, |init| {
        for script in [
            "touch up; exec sleep 1000",
            "trap '' TERM HUP INT; touch up; while :; do sleep 1000; done",
            "sleep 1000 & (setsid sleep 1000 &); touch up; wait",
            "(setsid sh -c 'trap \"\" TERM; touch up; while :; do sleep 1000; done' >/dev/null 2>&1 &); exec sleep 1000",
            "exec >&- 2>&-; touch up; exec sleep 1000",
        ] {
            let tag = new_tag();
            drop(begin(init, &tagged(&tag, script, 3600)));
            wait_gone(&tag);
        }
        init.wait_childless();
        init.assert_well();
    });
}

#[test]
fn a_client_that_goes_away_in_the_middle_of_the_output_ends_its_command() {
    serving(&BOTH, |init| {
        let tag = new_tag();
        drop(begin(init, &tagged(&tag, "touch up; exec yes", 3600)));
        wait_gone(&tag);
        init.assert_well();
    });
}

#[test]
fn a_client_that_goes_away_in_the_middle_of_the_answer_harms_nobody() {
    serving(&BOTH, |init| {
        let mut others = init.connect();
        for _ in 0..repeat(100) {
            let mut conn = init.connect();
            let request = json!({"command": ["sh", "-c", plain(8_000_000)]});
            conn.send(&init.address().post(&[], request.to_string().as_bytes())).unwrap();
            assert_eq!(conn.take(12).unwrap(), b"HTTP/1.1 200");
        }
        others.send(&init.address().get("/health")).unwrap();
        assert_eq!(others.answer().unwrap().status, 200);
        init.wait_childless();
        init.assert_well();
    });
}

/// Hundreds at once, at any moment of their requests.
#[test]
fn clients_that_go_away_at_any_moment_leave_nothing() {
    serving(&BOTH, |init| {
        let tag = new_tag();
        let request = tagged(&tag, "echo x; sleep 1000 & wait", 3600);
        let bytes = init.address().post(&[], request.to_string().as_bytes());
        for number in 0..repeat(2000) {
            let mut conn = init.connect();
            let part = if number % 2 == 0 { bytes.len() } else { bytes.len() * (number % 100) / 100 };
            conn.send(&bytes[..part]).unwrap();
        }
        // It is served after all of those, so that none of them can still begin.
        init.assert_well();
        wait_gone(&tag);
        init.wait_childless();
        init.assert_well();
    });
}

/// A reader that does not read holds up nobody but itself.
#[test]
fn a_client_that_does_not_read_its_answer_delays_no_other() {
    serving(&BOTH, |init| {
        let request = json!({"command": ["sh", "-c", plain(8_000_000)]});
        let mut deaf: Vec<Conn> = (0..3).map(|_| init.connect()).collect();
        for conn in &mut deaf {
            conn.send(&init.address().post(&[], request.to_string().as_bytes())).unwrap();
        }
        for _ in 0..10 {
            init.assert_well();
        }
        for conn in &mut deaf {
            let answer = conn.answer().unwrap();
            assert_eq!(bytes_of(&answer.json(), "result").len(), 8_000_000);
        }
    });
}

// ---- the end of init --------------------------------------------------------------------------

/// Once its own command has ended, so has everything else, and nobody waits for an answer in vain.
#[test]
fn the_end_of_inits_command_ends_what_is_executed_and_removes_the_socket() {
    for place in BOTH {
        let script = "while ! [ -e end ]; do sleep 0.05; done; exit 8";
        let Some(mut init) = Init::serve_with(place, &["--", "sh", "-c", script], |command| command) else { continue };
        let script = "trap '' TERM; (setsid sh -c 'sleep 1000' &) ; touch up; while :; do sleep 1000; done";
        let mut conn = begin(&init, &tagged(&new_tag(), script, 3600));
        init.home.write("ws/end", "");
        assert_eq!(init.client_mut().wait().code(), Some(8), "{place:?}");
        // An answer that says so, or none, but no waiting.
        conn.answer().map(drop).unwrap_or_default();
        assert!(conn.is_over(), "{place:?}: somebody still holds the connection");
        assert_eq!(code(&init.ended()), 8);
    }
}

#[test]
fn term_ends_an_init_that_only_serves_with_all_it_executes() {
    for place in BOTH {
        let Some(init) = Init::serve(place) else { continue };
        let script = "trap '' TERM; (setsid sleep 1000 &); touch up; while :; do sleep 1000; done";
        let conn = begin(&init, &tagged(&new_tag(), script, 3600));
        assert!(process_state(init.pid).is_some());
        init.end();
        drop(conn);
    }
}

/// What an answered command left behind goes with init at the latest.
#[test]
fn what_executed_commands_left_is_gone_after_init() {
    for place in BOTH {
        let Some(init) = Init::serve(place) else { continue };
        let tag = new_tag();
        for left in ["(sleep 1000 >/dev/null 2>&1 &)", "(setsid sh -c 'trap \"\" TERM; sleep 1000' >/dev/null 2>&1 &)"]
        {
            let answer = init.execute(&tagged(&tag, left, 60));
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        init.end();
        assert_eq!(processes::naming(&tag), Vec::<String>::new(), "{place:?}");
    }
}

/// Two of them on one machine know nothing of each other.
#[test]
fn a_second_init_does_not_take_the_socket_of_a_first_that_lives() {
    let Some(init) = Init::serve(Place::Subreaper) else { return };
    let home = Home::new();
    let socket = init.home.dir.join("api.sock");
    let mut second = Place::Subreaper.cmd(&home, &["--socket", socket.to_str().unwrap(), "--", "sleep", "1000"]);
    second.stdin(std::process::Stdio::null());
    let output = crate::support::finish(second);
    assert_eq!(code(&output), 125, "{output:?}");
    init.assert_well();
    init.end();
}
