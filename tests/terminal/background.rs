//! At a terminal, and not in its foreground: neither what is read there nor what is written stops fosse.

use std::fs;
use std::process::Command;

use crate::exec::commands::{exec_cmd, start_box};
use crate::support::Carrier;
use crate::support::init::wrapped;
use crate::support::terminal::Terminal;
use crate::support::{
    Engine, Home, TERM, kill, on_native, on_native_and_docker, on_native_and_docker_with, wait_until,
};

/// A shell's script at a terminal around a command, which is its arguments.
fn at_a_terminal(home: &Home, script: &str, command: &Command) -> Terminal {
    Terminal::open(home, &wrapped(command, &["bash", "--norc", "-c", script, "bash"]))
}

/// A shell with jobs: what it starts with & is in a group of its own, in the background, and has the terminal as stdin.
const JOBS: &str = "set -m; \"$@\" >out & wait $!; echo ended-$?";

#[test]
fn in_the_background_a_time_out_is_kept_and_the_end_is_seen() {
    on_native_and_docker(|engine, home| {
        let timed = home.run_cmd(engine, &["-i", "--timeout", "1s"], &["sleep", "1000"]);
        let mut terminal = at_a_terminal(home, JOBS, &timed);
        terminal.wait_for("ended-124\r\n");
        terminal.end();
        // timeout(1) gives it a group of its own, and the terminal to nobody.
        let inner = home.run_cmd(engine, &["-i"], &["sh", "-c", "sleep 1; echo done"]);
        let mut terminal = at_a_terminal(home, "timeout 60 \"$@\" >out; echo ended-$?", &inner);
        terminal.wait_for("ended-0\r\n");
        terminal.end();
        assert_eq!(fs::read_to_string(home.workspace().join("out")).unwrap(), "done\n");
    });
}

#[test]
fn in_the_background_a_signal_ends_it() {
    on_native_and_docker(|engine, home| {
        let command = home.run_cmd(engine, &["-i"], &["sh", "-c", "echo up; exec sleep 1000"]);
        let mut terminal = at_a_terminal(home, JOBS, &command);
        wait_until("the command is there", || {
            fs::read_to_string(home.workspace().join("out")).is_ok_and(|text| text == "up\n")
        });
        kill(home.owner(), TERM);
        terminal.wait_for("ended-143\r\n");
        terminal.end();
    });
}

#[test]
fn one_more_command_in_the_background_ends_as_well() {
    on_native_and_docker(|engine, home| {
        let _run = start_box(engine, home, &["--grace", "1s"]);
        let command = exec_cmd(home, &["-i", "--timeout", "1s"], &["sleep", "500"]);
        let mut terminal = at_a_terminal(home, JOBS, &command);
        terminal.wait_for("ended-124\r\n");
        terminal.end();
    });
}

/// Where the terminal stops whoever writes to it in the background, fosse writes all the same.
#[test]
fn in_the_background_it_writes_under_tostop() {
    on_native_and_docker_with(Carrier::Init, |engine, home| {
        let script = "stty tostop; set -m; \"$@\" & wait $!; code=$?; stty -tostop; echo ended-$code";
        let command = home.run_cmd(engine, &["-v"], &["sh", "-c", "echo out; echo err >&2; exit 6"]);
        let mut terminal = at_a_terminal(home, script, &command);
        terminal.wait_for("ended-6\r\n");
        let text = terminal.end().text();
        for said in ["fosse: started ", "out\r\n", "err\r\n", "fosse: view output"] {
            assert!(text.contains(said), "{said:?} in {text:?}");
        }
    });
}

/// What is typed is the shell's, until fosse is in the foreground; that is said once.
#[test]
fn reading_waits_for_the_foreground() {
    on_native(|home| {
        let command = home.run_cmd(Engine::Native, &["-i"], &["sh", "-c", "echo up; head -n 1; exit 5"]);
        let script = "set -m; \"$@\" >out & until grep -qs up out; do sleep 0.05; done
            read line; echo shell-$line; read line; echo shell-$line; echo now; fg >/dev/null; echo ended-$?";
        let mut terminal = at_a_terminal(home, script, &command);
        let notice = "fosse: in the background: reading the terminal waits for the foreground";
        terminal.wait_for(notice);
        terminal.type_in("one\r");
        terminal.wait_for("shell-one");
        terminal.type_in("two\r");
        terminal.wait_for("shell-two");
        terminal.wait_for("now");
        terminal.type_in("three\r");
        terminal.wait_for("ended-5\r\n");
        let text = terminal.end().text();
        assert_eq!(text.matches(notice).count(), 1, "{text:?}");
        assert_eq!(fs::read_to_string(home.workspace().join("out")).unwrap(), "up\nthree\n");
    });
}
