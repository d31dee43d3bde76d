//! Signals to `fosse init`, and its terminal: what it may pass on reaches the command's whole group, and its time to
//! end is what was asked for.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::init::{BOTH, Init, Place};
use crate::support::{
    CONT, Client, HUP, Home, INT, KILL, QUIT, TERM, TSTP, USR1, code, process_state, processes, stdout, wait_until,
};

const USR2: i32 = 12;
const WINCH: i32 = 28;
const PWR: i32 = 30;

/// Runs the body with a shell script under init in both places; the script says `ready`.
fn with_script(options: &[&str], script: &str, body: impl Fn(Init)) {
    for place in BOTH {
        if let Some(init) = Init::script(place, options, script) {
            body(init);
        }
    }
}

#[test]
fn every_signal_that_can_be_passed_on_reaches_the_command() {
    let script = "for s in HUP INT QUIT USR1 USR2 WINCH PWR CONT; do trap \"echo got-$s\" $s; done
        trap 'echo got-TERM; exit 33' TERM; echo ready; while :; do sleep 0.05; done";
    with_script(&[], script, |init| {
        let signals = [
            (HUP, "HUP"),
            (INT, "INT"),
            (QUIT, "QUIT"),
            (USR1, "USR1"),
            (USR2, "USR2"),
            (WINCH, "WINCH"),
            (PWR, "PWR"),
            (CONT, "CONT"),
        ];
        for (signal, name) in signals {
            init.signal(signal);
            init.client().wait_for_output(&format!("got-{name}\n"));
        }
        let output = init.end();
        assert_eq!(code(&output), 33, "{output:?}");
        // Once each: nothing is passed on twice.
        let all = signals.iter().map(|(_, name)| format!("got-{name}\n")).collect::<Vec<_>>().concat();
        assert_eq!(stdout(&output), format!("ready\n{all}got-TERM\n"), "{output:?}");
    });
}

#[test]
fn a_signal_that_ends_the_command_is_in_inits_code() {
    let real_time = [(35, 163), (64, 192)];
    let named = [(HUP, 129), (INT, 130), (QUIT, 131), (USR1, 138), (USR2, 140), (PWR, 158), (TERM, 143)];
    for (signal, wanted) in named.into_iter().chain(real_time) {
        with_script(&[], "ulimit -c 0; echo ready; exec sleep 1000", |init| {
            init.signal(signal);
            let output = init.ended();
            assert_eq!((code(&output), output.stderr.len()), (wanted, 0), "{output:?}");
        });
    }
}

/// Runs the body with a script in both places, and where init is neither.
fn everywhere(options: &[&str], script: &str, body: impl Fn(Init)) {
    with_script(options, script, &body);
    body(plain(options, script));
}

/// An init that is neither PID 1 nor a subreaper, with a script that says `ready`.
fn plain(options: &[&str], script: &str) -> Init {
    let home = Home::new();
    let command = home.cmd([&["init"], options, &["--", "sh", "-c", script]].concat());
    let init = Init::new(Place::Subreaper, home, command, None);
    init.client().wait_for_output("ready\n");
    init
}

/// The command itself ends only when its child has seen the signal.
#[test]
fn with_group_every_signal_reaches_the_commands_whole_group() {
    let script = "trap : TERM
        sh -c 'trap \"touch seen; exit\" TERM; touch up; while :; do sleep 0.05; done' &
        while ! [ -e up ]; do sleep 0.01; done; echo ready
        while ! [ -e seen ]; do sleep 0.05; done; exit 5";
    for option in ["-g", "--group"] {
        everywhere(&[option], script, |init| assert_eq!(code(&init.end()), 5));
    }
}

/// A shell whose child is in its group, and shows that it heard nothing by ending by itself.
#[test]
fn a_signal_reaches_the_command_alone() {
    let script = "trap 'echo asked' TERM USR1 PWR
        sh -c 'until [ -e go ]; do sleep 0.05; done; exit 7' & child=$!
        echo ready; until wait $child; code=$?; [ $code -lt 128 ]; do :; done; exit $code";
    for signal in [TERM, USR1, PWR] {
        everywhere(&[], script, |init| {
            init.signal(signal);
            init.client().wait_for_output("asked\n");
            fs::write(init.home.workspace().join("go"), "").unwrap();
            let output = init.ended();
            assert_eq!((code(&output), stdout(&output).as_str()), (7, "ready\nasked\n"), "{signal}: {output:?}");
        });
    }
}

/// As a terminal sends them. The shell waits for its child, which ends by them.
#[test]
fn int_and_quit_reach_the_whole_group() {
    let script = "trap 'echo shell' INT QUIT
        sh -c 'trap \"echo child; exit 5\" INT QUIT; echo ready; while :; do sleep 0.05; done'; exit $?";
    for signal in [INT, QUIT] {
        everywhere(&[], script, |init| {
            init.signal(signal);
            let output = init.ended();
            assert_eq!((code(&output), stdout(&output).as_str()), (5, "ready\nchild\nshell\n"), "{output:?}");
        });
    }
}

/// TSTP and CONT are for all that there is, also for what has left the command's group.
#[test]
fn what_stands_still_and_goes_on_is_everything() {
    let script = "trap 'exit 6' USR1; bash -c 'set -m; sleep 1000 & echo $! >other; wait' &
        until [ -s other ]; do sleep 0.01; done; sleep 1000 & echo ready; while :; do wait; done";
    with_script(&[], script, |init| {
        let others = || {
            let all = init.home.processes().into_iter().filter(|process| process.contains("sleep 1000"));
            all.filter(|process| process.trim_end().ends_with(" sleep 1000"))
                .map(|process| process_state(processes::number(&process)))
                .collect::<Vec<_>>()
        };
        wait_until("both are there", || others().len() == 2);
        init.signal(TSTP);
        wait_until("they stand still", || others().iter().all(|state| *state == Some('T')));
        init.signal(CONT);
        wait_until("they go on", || others().iter().all(|state| *state == Some('S')));
        init.signal(USR1);
        assert_eq!(code(&init.ended()), 6);
    });
}

// ---- the time to end --------------------------------------------------------------------------

#[test]
fn without_a_grace_the_command_has_all_the_time_it_wants() {
    let script = "trap 'echo term' TERM; trap 'exit 7' USR1; echo ready; while :; do sleep 0.05; done";
    with_script(&[], script, |init| {
        for times in 1..=3 {
            init.signal(TERM);
            init.client().wait_for_output(&"term\n".repeat(times));
        }
        assert!(matches!(process_state(init.pid), Some('S' | 'R')), "{:?}", process_state(init.pid));
        init.signal(USR1);
        let output = init.ended();
        assert_eq!(code(&output), 7, "{output:?}");
    });
}

#[test]
fn with_a_grace_a_command_that_ignores_term_is_killed_after_it_with_all_it_started() {
    let script = "trap '' TERM; (setsid sleep 1000 &); sleep 1000 & echo ready; while :; do sleep 0.1; done";
    with_script(&["--grace", "1s"], script, |init| {
        let output = init.end();
        assert_eq!(code(&output), 137, "{output:?}");
    });
}

#[test]
fn with_a_grace_a_command_that_ends_in_time_keeps_its_code() {
    let script = "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    with_script(&["--grace", "1h"], script, |init| {
        let output = init.end();
        assert_eq!((code(&output), stdout(&output).as_str()), (9, "ready\nbye\n"), "{output:?}");
    });
}

/// It is TERM that starts the grace, nothing else.
#[test]
fn a_grace_without_term_ends_nothing() {
    let script = "trap 'echo one' USR1; trap 'exit 4' USR2; echo ready; while :; do sleep 0.05; done";
    with_script(&["--grace", "1ms"], script, |init| {
        init.signal(USR1);
        init.client().wait_for_output("one\n");
        init.signal(USR2);
        let output = init.ended();
        assert_eq!(code(&output), 4, "{output:?}");
    });
}

#[test]
fn a_command_that_stands_still_is_killed_after_the_grace_too() {
    with_script(&["--grace", "1s"], "echo ready; kill -STOP $$; exit 3", |init| {
        let command = command_of(&init);
        wait_until("the command stands still", || process_state(command) == Some('T'));
        // After the KILL, or by TERM, should init continue what it asks to end.
        let ended = code(&init.end());
        assert!([137, 143].contains(&ended), "{ended}");
    });
}

// ---- standing still ---------------------------------------------------------------------------

/// The process that is the command.
fn command_of(init: &Init) -> i32 {
    let mut found = None;
    wait_until("the command is there", || {
        found = processes::children(init.pid).first().map(|(pid, _)| *pid);
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn tstp_stops_the_command_and_cont_continues_it() {
    // A shell that makes children would not stand still between vfork(2) and a child's program, if that child does.
    with_script(&[], "trap 'exit 6' USR1; sleep 1000 & echo ready; while :; do wait; done", |init| {
        let command = command_of(&init);
        for _ in 0..3 {
            init.signal(TSTP);
            wait_until("the command stands still", || process_state(command) == Some('T'));
            init.signal(CONT);
            wait_until("the command goes on", || matches!(process_state(command), Some('S' | 'R')));
        }
        init.signal(USR1);
        let output = init.ended();
        assert_eq!(code(&output), 6, "{output:?}");
    });
}

/// A stop by somebody else is no end, and neither is a continuation.
#[test]
fn a_command_that_was_stopped_has_not_ended() {
    with_script(&[], "echo ready; kill -STOP $$; echo on; exit 11", |init| {
        let command = command_of(&init);
        wait_until("the command stands still", || process_state(command) == Some('T'));
        assert_eq!(stdout_now(&init), "ready\n");
        crate::support::kill(command, CONT);
        let output = init.ended();
        assert_eq!((code(&output), stdout(&output).as_str()), (11, "ready\non\n"), "{output:?}");
    });
}

fn stdout_now(init: &Init) -> String {
    init.client().stdout_text()
}

#[test]
fn a_command_killed_from_outside_is_137() {
    with_script(&[], "echo ready; exec sleep 1000", |init| {
        crate::support::kill(command_of(&init), KILL);
        assert_eq!(code(&init.ended()), 137);
    });
}

// ---- a terminal -------------------------------------------------------------------------------

/// Init and a shell script in a terminal of their own, whose keyboard is the client's stdin.
fn in_terminal(place: Place, home: &Home, script: &str) -> (Client, std::process::ChildStdin) {
    let script = home.write("inner", script);
    let inner = place.cmd(home, &["--", "sh", script.to_str().unwrap()]);
    on_terminal(home, &inner, "exec")
}

/// A command in a terminal of its own, behind a shell's word.
fn on_terminal(home: &Home, inner: &Command, before: &str) -> (Client, std::process::ChildStdin) {
    let words = [inner.get_program()].into_iter().chain(inner.get_args());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut command = Command::new("script");
    command.args(["-qec", &format!("{before} {}", words.join(" ")), "/dev/null"]);
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("SHELL", "/bin/sh");
    command.current_dir(home.workspace()).stdin(Stdio::piped());
    let mut client = Client::spawn(command);
    let keyboard = client.stdin();
    (client, keyboard)
}

fn places() -> impl Iterator<Item = Place> {
    BOTH.into_iter().filter(|place| place.available())
}

/// Reading the keyboard in the background would stop it, and Ctrl-C would not reach it.
#[test]
fn in_a_terminal_the_command_has_the_foreground() {
    for place in places() {
        let home = Home::new();
        let script = "set -- $(cat /proc/$$/stat)
            if [ \"$5\" = \"$8\" ]; then echo foreground; else echo \"background $5 $8\"; fi
            [ \"$(stty size)\" = '' ] && echo no size
            read line; echo \"got $line\"
            trap 'echo interrupted; exit 21' INT; echo armed; while :; do sleep 0.05; done";
        let (client, mut keyboard) = in_terminal(place, &home, script);
        client.wait_for_output("ground");
        keyboard.write_all(b"hello\n").unwrap();
        client.wait_for_output("armed");
        keyboard.write_all(b"\x03").unwrap();
        let output = client.output();
        assert_eq!(code(&output), 21, "{place:?} {output:?}");
        let text = stdout(&output);
        assert!(text.contains("foreground\r\n") && text.contains("got hello\r\n"), "{place:?}: {text}");
        assert!(text.contains("interrupted\r\n"), "{place:?}: {text}");
        assert!(!text.contains("no size"), "{place:?}: {text}");
        assert_eq!(home.processes(), Vec::<String>::new());
    }
}

/// A shell's own job control works below init as it does in a terminal window.
#[test]
fn in_a_terminal_the_command_can_be_stopped_by_its_key_and_be_continued() {
    for place in places() {
        let home = Home::new();
        // Its child is made before that: between vfork(2) and the child's program it could not be stopped.
        let script = "trap 'exit 22' USR1; sleep 1000 & echo armed; while :; do wait; done";
        let (client, mut keyboard) = in_terminal(place, &home, script);
        client.wait_for_output("armed");
        let inner = home.dir.join("inner").to_string_lossy().into_owned();
        let wanted = format!("sh {inner}");
        // Its number as this test sees it is found by its argument, which a child of its own has as well, until that
        // is its own program.
        let named = home.processes().into_iter().filter(|entry| entry.split_once(' ').unwrap().1.trim() == wanted);
        let named: Vec<i32> = named.map(|entry| processes::number(&entry)).collect();
        let is_child = |pid: &i32| processes::parent_if_any(*pid).is_none_or(|parent| named.contains(&parent));
        let command = *named.iter().find(|pid| !is_child(pid)).unwrap_or_else(|| panic!("{:?}", home.processes()));
        let init = processes::parent(command);
        keyboard.write_all(b"\x1a").unwrap();
        wait_until("the command stands still", || process_state(command) == Some('T'));
        crate::support::kill(init, CONT);
        wait_until("the command goes on", || matches!(process_state(command), Some('S' | 'R')));
        crate::support::kill(init, USR1);
        let output = client.output();
        assert_eq!(code(&output), 22, "{place:?} {output:?}");
        assert_eq!(home.processes(), Vec::<String>::new());
    }
}

/// Without a controlling terminal there is no foreground to give, which is no failure.
#[test]
fn a_terminal_that_is_not_the_controlling_one_is_no_failure() {
    for place in places() {
        let home = Home::new();
        let inner = place.cmd(&home, &["--", "sh", "-c", "echo ran; exit 23"]);
        let (client, keyboard) = on_terminal(&home, &inner, "exec setsid --wait");
        let output = client.output();
        drop(keyboard);
        assert_eq!((code(&output), stdout(&output).as_str()), (23, "ran\r\n"), "{place:?}");
    }
}

/// The file that a trap of the command's writes is there when init has ended: nobody was in a hurry.
#[test]
fn init_ends_after_its_command_and_never_before() {
    let script = "trap 'sleep 0.3; echo saved >file; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    with_script(&[], script, |mut init| {
        init.signal(TERM);
        init.client_mut().wait();
        assert_eq!(fs::read_to_string(init.home.workspace().join("file")).unwrap_or_default(), "saved\n");
        assert_eq!(code(&init.ended()), 0);
    });
}
