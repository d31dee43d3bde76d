//! The daemon's life, as its verbs tell it: exit codes, JSON, one at a time.

use std::fs;

use crate::support::daemon::{daemons, freeze};
use crate::support::{CONT, Client, Home, TERM, code, finish, kill, stderr, stdout, wait_until};

/// Exit codes of `daemon status`.
const SERVING: i32 = 0;
const NOT_RUNNING: i32 = 3;
const NOT_ANSWERING: i32 = 4;

fn status(home: &Home) -> i32 {
    code(&home.daemon(["status", "--quiet"]))
}

#[test]
fn it_starts_serves_and_ends_with_the_exit_codes_of_the_contract() {
    let home = Home::without_engines();
    assert_eq!(status(&home), NOT_RUNNING);
    assert!(!home.state().exists(), "asking made something");
    let started = home.daemon(["start"]);
    assert_eq!((code(&started), stdout(&started)), (0, String::new()), "{started:?}");
    assert_eq!(status(&home), SERVING);
    let pid = home.daemon_pid();
    // G8: a second start says so.
    let again = home.daemon(["start"]);
    assert_eq!(code(&again), 0);
    assert!(stderr(&again).contains(&format!("serves already (pid {pid})")), "{again:?}");
    assert_eq!((home.daemon_pid(), daemons(&home)), (pid, vec![pid]));
    let stopped = home.daemon(["stop"]);
    assert_eq!(code(&stopped), 0, "{stopped:?}");
    assert_eq!((status(&home), daemons(&home)), (NOT_RUNNING, vec![]));
    assert_eq!(code(&home.daemon(["stop"])), 0, "nothing to stop is done");
    assert_eq!(home.temporary_files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn restart_takes_over_and_is_a_start_where_there_is_none() {
    let home = Home::without_engines();
    assert_eq!(code(&home.daemon(["restart"])), 0);
    let first = home.daemon_pid();
    assert_eq!(code(&home.daemon(["restart"])), 0);
    let second = home.daemon_pid();
    assert_ne!(first, second);
    assert_eq!(daemons(&home), [second]);
}

#[test]
fn a_frozen_daemon_is_told_from_none_and_replaced() {
    // G4
    let home = Home::without_engines();
    assert_eq!(code(&home.daemon(["start"])), 0);
    let first = home.daemon_pid();
    freeze(first);
    let asked = home.daemon(["status"]);
    assert_eq!(code(&asked), NOT_ANSWERING, "{asked:?}");
    assert!(stderr(&asked).contains("hint: fosse daemon restart"), "{asked:?}");
    assert_eq!(code(&home.daemon(["start"])), 0);
    assert_ne!(home.daemon_pid(), first);
    assert_eq!(daemons(&home), [home.daemon_pid()]);
}

#[test]
fn in_the_foreground_it_logs_to_stderr_and_ends_on_term() {
    let home = Home::without_engines();
    let mut client = Client::spawn(home.cmd(["daemon", "start", "--foreground"]));
    wait_until("it serves", || status(&home) == SERVING);
    assert_eq!(home.daemon_pid(), client.pid());
    let shown = home.daemon_status();
    assert_eq!((shown["foreground"].as_bool(), shown["log"].is_null()), (Some(true), true), "{shown}");
    // G1 G8: one that serves is found by the foreground as well.
    let second = finish(home.cmd(["daemon", "start", "--foreground"]));
    assert_eq!(code(&second), 0, "{second:?}");
    assert!(stderr(&second).contains("serves already"), "{second:?}");
    client.signal(TERM);
    assert_eq!(client.wait().code(), Some(0));
    let output = client.output();
    assert!(stderr(&output).contains("the daemon has ended"), "{output:?}");
    assert_eq!(status(&home), NOT_RUNNING);
    assert!(!home.state().join("daemon.log").exists());
}

#[test]
fn a_daemon_that_was_stopped_and_goes_on_is_still_the_one() {
    let home = Home::without_engines();
    assert_eq!(code(&home.daemon(["start"])), 0);
    let pid = home.daemon_pid();
    freeze(pid);
    kill(pid, CONT);
    wait_until("it answers again", || status(&home) == SERVING);
    assert_eq!(home.daemon_pid(), pid);
}

#[test]
fn a_test_binary_or_a_missing_one_is_refused() {
    // D4
    let home = Home::without_engines();
    let test = std::env::current_exe().unwrap();
    for program in [test.to_str().unwrap(), "/nonexistent/fosse", "fosse", "/etc/passwd"] {
        let mut command = home.cmd(["daemon", "start"]);
        command.env("FOSSE_EXECUTABLE", program);
        let refused = finish(command);
        assert_eq!(code(&refused), 1, "{program}: {refused:?}");
        assert!(stderr(&refused).contains("hint: set FOSSE_EXECUTABLE"), "{program}: {refused:?}");
        assert_eq!((status(&home), daemons(&home)), (NOT_RUNNING, vec![]), "{program}");
    }
    let copy = home.dir.join("other-fosse");
    crate::support::copy_program(std::path::Path::new(&home.program()), &copy);
    let mut command = home.cmd(["daemon", "start"]);
    command.env("FOSSE_EXECUTABLE", &copy);
    assert_eq!(code(&finish(command)), 0);
    let program = fs::read_link(format!("/proc/{}/exe", home.daemon_pid())).unwrap();
    assert_eq!(program, copy);
}
