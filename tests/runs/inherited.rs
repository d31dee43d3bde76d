//! What whoever starts fosse has done to its signals: fosse works all the same, and its command finds them as they were.

use std::fs;

use crate::exec::commands::{exec_cmd, start_box};
use crate::support::init::wrapped;
use crate::support::terminal::{SIZE, Terminal};
use crate::support::{Carrier, Engine, Home, code, finish, on_docker, on_each_engine, on_native, stdout, wait_until};

const IGNORED: [&str; 2] = ["env", "--ignore-signal=CHLD"];

#[test]
fn ignored_ends_of_children_are_seen_all_the_same() {
    on_each_engine(|engine, home| {
        let output = finish(wrapped(&home.run_cmd(engine, &[], &["sh", "-c", "echo out; exit 3"]), &IGNORED));
        assert_eq!((code(&output), stdout(&output).as_str()), (3, "out\n"), "{engine:?} {output:?}");
        let _run = start_box(engine, home, &[]);
        let output = finish(wrapped(&exec_cmd(home, &[], &["sh", "-c", "exit 4"]), &IGNORED));
        assert_eq!(code(&output), 4, "{engine:?} {output:?}");
        for args in [&["stop", "-q", "box"][..], &["status"], &["clean", "-q"]] {
            let output = finish(wrapped(&home.cmd(args), &IGNORED));
            assert_eq!(code(&output), 0, "{engine:?} {args:?} {output:?}");
        }
    });
}

#[test]
fn ignored_ends_of_children_lose_no_code_of_the_engines_exec() {
    on_docker(|home| {
        let _run = start_box(Engine::Docker, home, &[]);
        let output = finish(wrapped(&exec_cmd(home, &["--user", "1234"], &["sh", "-c", "exit 5"]), &IGNORED));
        assert_eq!(code(&output), 5, "{output:?}");
    });
}

#[test]
fn a_daemon_starts_where_ends_of_children_are_ignored() {
    let home = Home::without_engines();
    let start = |args: &[&str]| {
        let mut command = home.cmd(args);
        command.env_remove("FOSSE_DAEMON");
        finish(wrapped(&command, &IGNORED))
    };
    let started = start(&["daemon", "start"]);
    assert_eq!(code(&started), 0, "{started:?}");
    assert_eq!(code(&start(&["daemon", "status"])), 0);
    assert_eq!(code(&start(&["daemon", "stop"])), 0);
}

/// A set of signals in a status file of /proc.
fn set(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    u64::from_str_radix(line.unwrap_or_else(|| panic!("no {name}: {status}")).trim(), 16).unwrap()
}

/// Natively a command finds ignored what its caller has ignored, and nothing else; and nothing is blocked.
#[test]
fn a_native_command_finds_ignored_what_was_ignored() {
    on_native(|home| {
        let show = ["grep", "^Sig", "/proc/self/status"];
        let ignoring = |names: &str| {
            let wrapper = ["env", &format!("--ignore-signal={names}"), "--block-signal=TERM,CHLD,USR1,WINCH"];
            let inside = finish(wrapped(&home.run_cmd(Engine::Native, &[], &show), &wrapper));
            assert_eq!(code(&inside), 0, "{inside:?}");
            let mut plain = std::process::Command::new(show[0]);
            plain.args(&show[1..]).current_dir(home.workspace());
            let outside = finish(wrapped(&plain, &wrapper));
            let (inside, outside) = (stdout(&inside), stdout(&outside));
            assert_eq!(set(&inside, "SigIgn"), set(&outside, "SigIgn"), "{names}: {inside} {outside}");
            assert_eq!(set(&inside, "SigBlk"), 0, "{names}: {inside}");
        };
        ignoring("USR2");
        ignoring("HUP,INT,QUIT,PIPE,CHLD,XFSZ,WINCH,TTIN,TTOU,TSTP,PWR");
    });
}

/// The ends of this program's own children, as init.
#[test]
fn init_hands_down_what_was_ignored() {
    let home = Home::without_engines();
    for args in [&["init"][..], &["init", "--subreaper"]] {
        let command = home.cmd([args, &["--", "grep", "^SigIgn", "/proc/self/status"]].concat());
        let output = finish(wrapped(&command, &["env", "--ignore-signal=CHLD,PIPE"]));
        assert_eq!(code(&output), 0, "{output:?}");
        assert_eq!(set(&stdout(&output), "SigIgn") & (1 << 16 | 1 << 12), 1 << 16 | 1 << 12, "{args:?} {output:?}");
    }
}

/// What a terminal session needs for itself works whoever ignored it.
#[test]
fn a_terminal_session_hears_of_a_resize_that_was_ignored() {
    on_native(|home| {
        let script = "stty size; trap 'stty size; exit 8' WINCH; echo armed; while :; do sleep 0.05; done";
        // Inside it must not be ignored for the shell's trap.
        let script = format!("exec env --default-signal=WINCH sh -c {}", shell_quoted(script));
        let command = home.run_cmd(Engine::Native, &["-i"], &["sh", "-c", &script]);
        let mut terminal = Terminal::open(home, &wrapped(&command, &["env", "--ignore-signal=WINCH,CONT,CHLD"]));
        terminal.wait_for(SIZE);
        terminal.wait_for("armed");
        terminal.resize(44, 55);
        terminal.wait_for("44 55");
        assert_eq!(terminal.end().code, 8);
    });
}

fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The pull of an image, whose progress is the terminal's, is not stopped by a terminal that stops whoever writes there
/// in the background.
#[test]
fn a_pull_shows_its_progress_under_tostop() {
    let home = Home::with(Carrier::Init);
    let tool = home.script(
        "docker",
        "case $1 in pull) echo progress >&2; touch \"$0.pulled\"; echo stopped-or-not >&2; exit 1;; \
         info|version) echo '[]';; *) echo 'Error: No such image: x' >&2; exit 1;; esac",
    );
    let mut command = home.cmd(["run", "--runtime", "docker", "--image", "no/such:image", "--no-workspace", "--", "x"]);
    command.env("FOSSE_DOCKER", &tool);
    let script = "stty tostop; \"$@\"; code=$?; stty -tostop; echo ended-$code";
    let mut terminal = Terminal::open(&home, &wrapped(&command, &["bash", "--norc", "-c", script, "bash"]));
    terminal.wait_for("ended-125\r\n");
    let text = terminal.end().text();
    assert!(text.contains("progress\r\nstopped-or-not\r\n"), "{text:?}");
    wait_until("it was asked to pull", || fs::metadata(tool.with_extension("pulled")).is_ok());
}
