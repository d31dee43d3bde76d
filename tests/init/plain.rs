//! `fosse init` and its command: exact codes, untouched streams and signals, and a clear word where it cannot.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use crate::support::init::{BOTH, Init, Place, wrapped};
use crate::support::{Client, Home, TERM, code, finish, fosse, left_out, processes, stderr, stdout, wait_until};

/// Runs the body in both places, each with a home of its own.
fn in_both(body: impl Fn(Place, &Home)) {
    for place in BOTH.into_iter().filter(|place| place.available()) {
        body(place, &Home::new());
    }
}

fn script(place: Place, home: &Home, script: &str) -> Output {
    finish(place.cmd(home, &["--", "sh", "-c", script]))
}

/// One line of what failed and why, and at most a hint.
fn assert_says_why(output: &Output, wanted: i32, what: &str) {
    assert_eq!(code(output), wanted, "{what}: {output:?}");
    let text = stderr(output);
    let mut lines = text.lines();
    let says = |l: &str| l.starts_with("fosse: invalid ") || l.starts_with("fosse: ") && l.contains(" failed: ");
    assert!(lines.next().is_some_and(says), "{what}: {text}");
    assert!(lines.next().is_none_or(|l| l.starts_with("hint: ")) && lines.next().is_none(), "{what}: {text}");
    assert_eq!(stdout(output), "", "{what}");
}

// ---- exit codes -------------------------------------------------------------------------------

/// E1: every one of them.
#[test]
fn e1_each_exit_code_of_the_command_is_inits_own() {
    in_both(|place, home| {
        for wanted in 0..=255 {
            let output = script(place, home, &format!("exit {wanted}"));
            assert_eq!((code(&output), stderr(&output).as_str()), (wanted, ""), "{place:?}");
        }
    });
}

/// E4: the kernel would discard every status if init left SIGCHLD as it found it.
#[test]
fn e4_codes_are_exact_when_sigchld_was_ignored_at_the_start() {
    let home = Home::new();
    for wanted in (0..=255).step_by(5) {
        let output = script(Place::IgnoredChld, &home, &format!("true & wait; (exit 7); exit {wanted}"));
        assert_eq!((code(&output), stderr(&output).as_str()), (wanted, ""));
    }
    if Place::Pid1.available() {
        let inner = home.cmd(["init", "sh", "-c", "true & wait; exit 41"]);
        let ignoring = wrapped(&inner, &["env", "--ignore-signal=CHLD"]);
        let unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
        let output = finish(wrapped(&ignoring, &unshare));
        assert_eq!((code(&output), stderr(&output).as_str()), (41, ""));
    }
}

#[test]
fn e1_a_command_that_is_missing_is_127_and_one_that_cannot_be_executed_126() {
    in_both(|place, home| {
        let plain = home.write("plain", "#!/bin/sh\nexit 0\n");
        fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
        for (command, wanted) in [
            ("no-such-command-anywhere", 127),
            ("/no/such/command", 127),
            ("./no-such-command", 127),
            ("", 127),
            (plain.to_str().unwrap(), 126),
            ("/tmp", 126),
        ] {
            let output = finish(place.cmd(home, &["--", command]));
            if command.is_empty() {
                // Nothing to be found, or nothing to be run: both are true.
                assert!([125, 127].contains(&code(&output)), "{output:?}");
            } else {
                assert_says_why(&output, wanted, command);
                assert!(stderr(&output).contains(command), "{output:?}");
            }
        }
    });
}

#[test]
fn e1_a_command_killed_by_a_signal_is_128_and_its_number() {
    in_both(|place, home| {
        for signal in [1, 2, 3, 4, 6, 8, 9, 10, 11, 12, 13, 14, 15] {
            let output = script(place, home, &format!("ulimit -c 0; kill -{signal} $$; exit 99"));
            assert_eq!(code(&output), 128 + signal, "{place:?} {output:?}");
        }
    });
}

/// E2: the command's own code, not that of an orphan that ends at the same time.
#[test]
fn e2_the_code_of_an_orphan_is_never_taken_for_the_commands() {
    in_both(|place, home| {
        for number in 0..crate::support::repeat(300) {
            let wanted = i32::try_from(number % 100).unwrap();
            let text = format!("i=0; while [ $i -lt 10 ]; do (sh -c 'exit 200' &); i=$((i+1)); done; exit {wanted}");
            let output = script(place, home, &text);
            assert_eq!(code(&output), wanted, "{place:?} {output:?}");
        }
    });
}

// ---- usage ------------------------------------------------------------------------------------

#[test]
fn wrong_usage_of_init_is_125_and_runs_nothing() {
    let home = Home::new();
    let ran = home.dir.join("ran");
    let touch = ["touch", ran.to_str().unwrap()];
    let file = home.write("a-file", "kept");
    for case in [
        &["--nonsense"][..],
        &["--listen", "nonsense"],
        &["--listen", "127.0.0.1"],
        &["--listen", "127.0.0.1:99999"],
        &["--listen", ""],
        &["--socket", ""],
        &["--socket", "/no/such/directory/api.sock"],
        &["--socket", file.to_str().unwrap()],
        &["--grace", "soon"],
        &["--grace", "-1"],
        &["--grace"],
    ] {
        let args = if case == ["--grace"] { case.to_vec() } else { [case, &["--"], &touch].concat() };
        assert_says_why(&finish(Place::Subreaper.cmd(&home, &args)), 125, &case.join(" "));
        assert!(!ran.exists(), "{case:?}: the command ran");
    }
    assert_says_why(&finish(Place::Subreaper.cmd(&home, &[])), 125, "nothing to run and nowhere to serve");
    assert_says_why(&home.fosse(["init"]), 125, "nothing at all");
    assert_eq!(fs::read_to_string(file).unwrap(), "kept", "somebody's file was replaced");
}

#[test]
fn everything_from_the_command_on_belongs_to_the_command() {
    let home = Home::new();
    for before in [&["--grace", "1s", "--"][..], &["--"], &[]] {
        let command = ["printf", "%s|", "--grace", "x", "--socket", "", "--", "-h", "--subreaper", "a b"];
        let output = finish(Place::Subreaper.cmd(&home, &[before, &command].concat()));
        assert_eq!((code(&output), stdout(&output).as_str()), (0, "--grace|x|--socket||--|-h|--subreaper|a b|"));
    }
}

// ---- what the command finds -------------------------------------------------------------------

/// X4 X11: init is no part of the command's streams.
#[test]
fn x4_x11_the_commands_streams_are_inits_own_and_untouched() {
    in_both(|place, home| {
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut command = place.cmd(home, &["--", "sh", "-c", "cat; tail -c 3 /proc/version >&2; exit 5"]);
        command.stdin(Stdio::piped());
        let mut client = Client::spawn(command);
        let mut stdin = client.stdin();
        stdin.write_all(&bytes).unwrap();
        drop(stdin);
        let output = client.output();
        assert_eq!(code(&output), 5);
        assert!(output.stdout == bytes, "{place:?}: {} bytes", output.stdout.len());
        assert_eq!(output.stderr.len(), 3, "{:?}", stderr(&output));
    });
}

#[test]
fn the_command_is_given_no_descriptor_of_inits() {
    in_both(|place, home| {
        let socket = home.dir.join("api.sock");
        let args = ["--socket", socket.to_str().unwrap(), "--", "sh", "-c", "ls -l /proc/self/fd"];
        let output = finish(place.cmd(home, &args));
        let text = stdout(&output);
        assert!(text.contains("pipe:"), "{output:?}");
        assert!(!text.contains("socket:") && !text.contains("anon_inode:"), "{place:?}: {text}");
        assert!(!socket.exists(), "the socket is left");
    });
}

/// The signals of a set in `/proc/PID/status`.
fn set(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    u64::from_str_radix(line.unwrap_or_else(|| panic!("no {name}: {status}")).trim(), 16).unwrap()
}

#[test]
fn an_ignored_signal_stays_ignored_and_all_else_is_as_for_a_new_program() {
    const INT: u64 = 1 << 1;
    const PIPE: u64 = 1 << 12;
    let own = fs::read_to_string("/proc/thread-self/status").unwrap();
    in_both(|place, home| {
        let command = place.cmd(home, &["--", "grep", "^Sig", "/proc/self/status"]);
        let env = ["env", "--ignore-signal=INT", "--block-signal=TERM,USR1,CHLD"];
        let output = finish(wrapped(&command, &env));
        let status = stdout(&output);
        assert_eq!(set(&status, "SigBlk"), 0, "{place:?}: signals are blocked: {output:?}");
        // The test program itself ignores PIPE, and its children do not.
        assert_eq!(set(&status, "SigIgn"), set(&own, "SigIgn") & !PIPE | INT, "{place:?}: {output:?}");
    });
}

#[test]
fn signals_that_were_blocked_at_the_start_are_passed_on_and_ignored_ones_are_not() {
    in_both(|place, _| {
        let home = Home::new();
        let command = place.cmd(&home, &["--", "sh", "-c", "echo ready; exec sleep 1000"]);
        let command = wrapped(&command, &["env", "--ignore-signal=INT", "--block-signal=TERM"]);
        let init = Init::new(place, home, command, None);
        init.client().wait_for_output("ready\n");
        init.signal(crate::support::INT);
        init.signal(TERM);
        assert_eq!(code(&init.ended()), 143, "{place:?}");
    });
}

#[test]
fn the_command_has_a_group_of_its_own() {
    in_both(|place, home| {
        // Number, group and parent of the shell itself.
        let output = script(place, home, "set -- $(cat /proc/$$/stat); echo $1 $5 $4");
        let text = stdout(&output);
        let numbers: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(numbers.len(), 3, "{output:?}");
        assert_eq!(numbers[0], numbers[1], "{place:?}: the command does not lead its group: {text}");
        assert_eq!(numbers[2] == "1", place == Place::Pid1, "{place:?}: {text}");
    });
}

// ---- beside its peer --------------------------------------------------------------------------

/// The exit code and stdout of a command line as PID 1 under another program.
fn under(home: &Home, init: &[&str], command: &[&str]) -> (i32, String) {
    let args = [&init[1..], &["--"], command].concat();
    // The home's environment, and another program.
    let mut inner = Command::new(init[0]);
    inner.args(args).envs(home.cmd([""; 0]).get_envs().filter_map(|(name, value)| Some((name, value?))));
    inner.current_dir(home.workspace());
    let client = Client::spawn(wrapped(&inner, &["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]));
    if command.last().is_some_and(|script| script.contains("echo ready")) {
        client.wait_for_output("ready\n");
        let mut init = None;
        wait_until("it is there", || {
            init = processes::children(client.pid()).first().map(|(pid, _)| *pid);
            init.is_some()
        });
        crate::support::kill(init.unwrap(), TERM);
    }
    let output = client.output();
    (code(&output), stdout(&output))
}

#[test]
fn as_pid_1_it_does_what_tini_does() {
    if !Place::Pid1.available() {
        return;
    }
    if Command::new("tini").arg("--version").output().is_err() {
        return left_out("tini is not installed");
    }
    let home = Home::new();
    let shell = |script: &'static str| vec!["sh", "-c", script];
    for command in [
        shell("exit 0"),
        shell("exit 3"),
        shell("exit 255"),
        shell("echo out; echo err >&2; exit 9"),
        shell("kill -9 $$"),
        shell("kill -TERM $$"),
        shell("(sh -c 'exit 9' &); sleep 0.1; exit 4"),
        shell("echo $$ $PPID >/dev/null; cat; exit 6"),
        shell("echo ready; exec sleep 1000"),
        shell("trap 'echo term; exit 5' TERM; echo ready; while :; do sleep 0.05; done"),
        shell("trap 'echo ignored' TERM; echo ready; sleep 5 & wait; wait; echo end; exit 8"),
        shell("cut -d ' ' -f 1,4,6 /proc/self/stat >/dev/null; echo \"$PPID\""),
        shell("grep -E '^Sig(Blk|Ign)' /proc/self/status"),
        vec!["no-such-command-anywhere"],
        vec!["/tmp"],
        vec!["printf", "%s|", "", "a b", "--"],
    ] {
        let (ours, peers) = (under(&home, &[fosse(), "init"], &command), under(&home, &["tini"], &command));
        assert_eq!(ours, peers, "{command:?}");
    }
}
