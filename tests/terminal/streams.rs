//! The bytes of a terminal session, on their way in and out and in the record; and what happens where only one end is a
//! terminal.

use std::io::Write;
use std::process::{Command, Stdio};

use fosse::sys::pty;
use fosse::sys::termios::Size;
use serde_json::Value;

use crate::support::terminal::Terminal;
use crate::support::{
    Carrier, Client, Engine, Home, TERM, code, finish, init, kill, on_each_engine, on_native_and_docker,
    on_native_and_docker_with, processes, repeat, stderr, stdout, wait_until,
};

// ---- the record -------------------------------------------------------------------------------

/// What was shown is what is recorded, byte for byte, however the session ended.
#[test]
fn the_record_has_what_was_shown() {
    on_each_engine(|engine, home| {
        let script = "printf 'plain\\n\\033[31mred\\033[0m\\r\\0\\377\\n'; seq 1 2000; printf 'no newline'";
        let ended = home.session(engine, &[], &["sh", "-c", script]).end();
        let logs = home.logs(&home.newest_id());
        assert!(logs.stdout == ended.session(), "{engine:?} {} {}", logs.stdout.len(), ended.text());
        assert!(ended.session().starts_with(b"plain\r\n\x1b[31mred\x1b[0m\r\0\xff\r\n1\r\n"), "{}", ended.text());
        assert!(ended.session().ends_with(b"2000\r\nno newline"), "{}", ended.text());

        let mut terminal = home.ready_session(engine, &[], "seq 1 3000; echo typed; read x; exec sleep 1000");
        terminal.wait_for("typed\r\n");
        terminal.type_in("seen\r");
        terminal.wait_for("seen\r\n");
        terminal.type_in(b"\x1fk");
        let ended = terminal.end();
        let logs = home.logs(&home.newest_id());
        assert!(logs.stdout == ended.session(), "{engine:?} {:?} {}", stdout(&logs), ended.text());
        assert_eq!(stderr(&logs), "", "a terminal has one stream");
    });
}

#[test]
fn the_record_of_a_session_has_times() {
    on_native_and_docker(|engine, home| {
        home.session(engine, &[], &["sh", "-c", "echo one; sleep 1; printf '\\377'; exit 0"]).end();
        let lines = stdout(&home.fosse(["logs", "--json", &home.newest_id()]));
        let all: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(all.len(), 2, "{lines}");
        assert_eq!((all[0]["stream"].as_str(), all[0]["text"].as_str()), (Some("stdout"), Some("one\r\n")), "{lines}");
        assert!(all[1]["base64"].is_string(), "{lines}");
        assert!(all[0]["time"].as_str() < all[1]["time"].as_str(), "{lines}");
    });
}

// ---- amounts ----------------------------------------------------------------------------------

/// A terminal that takes its time slows the command, and costs no memory and no byte.
#[test]
fn a_flood_to_a_slow_terminal_arrives_whole() {
    on_native_and_docker(|engine, home| {
        let count = repeat(100) * 1_000_000;
        let script = format!("stty -opost; head -c {count} /dev/zero | tr '\\0' x; echo; exit 3");
        let mut terminal = home.session(engine, &["--log-max", "1m"], &["sh", "-c", &script]);
        let client = terminal.pid();
        let peak = std::cell::Cell::new(0_usize);
        let sample = || {
            let now = processes::status_field_if_any(client, "VmHWM").unwrap_or_default();
            peak.set(peak.get().max(now.trim_end_matches(" kB").parse().unwrap_or_default()));
        };
        terminal.wait_for("xxxxxxxx");
        // It stands still until nothing more can be under way, and goes on.
        terminal.pause(true);
        let (mut before, mut looks) = (String::new(), 0);
        wait_until("the command waits for it", || {
            sample();
            // What it has written by now (proc_pid_io(5)).
            let now = std::fs::read_to_string(format!("/proc/{client}/io")).unwrap_or_default();
            looks = if now == before { looks + 1 } else { 0 };
            before = now;
            looks >= 5
        });
        terminal.pause(false);
        wait_until("most of it has arrived", || {
            sample();
            terminal.count() > count / 2
        });
        let ended = terminal.end();
        assert_eq!(ended.code, 3, "{engine:?}");
        assert_eq!(ended.session().iter().filter(|byte| **byte == b'x').count(), count, "{engine:?}");
        assert!((1..64 << 10).contains(&peak.get()), "{engine:?}: {} kB at {count} bytes", peak.get());
    });
}

/// What is pasted arrives whole, whoever reads it and however slowly.
#[test]
fn a_large_paste_arrives_whole() {
    on_each_engine(|engine, home| {
        let count = repeat(100) * 100_000;
        let script = format!("stty raw -echo; echo ready; head -c {count} | md5sum; stty sane; exit 4");
        let mut terminal = home.session(engine, &[], &["sh", "-c", &script]);
        terminal.wait_for("ready\n");
        // Every byte but the one that opens the escape.
        let bytes: Vec<u8> =
            (0..count).map(|at| (at * 7 + at / 255) as u8).map(|b| if b == 0x1f { 0 } else { b }).collect();
        let sum = home.write("paste", &bytes);
        let wanted = finish({
            let mut command = Command::new("sh");
            command.args(["-c", "md5sum <\"$0\""]).arg(sum).stdin(Stdio::null());
            command
        });
        terminal.type_in(&bytes);
        terminal.wait_for(stdout(&wanted).trim());
        assert_eq!(terminal.end().code, 4, "{engine:?}");
    });
}

/// What is typed before the command reads is the command's.
#[test]
fn what_is_typed_early_is_kept() {
    on_each_engine(|engine, home| {
        let script = "while ! test -e /workspace/go; do sleep 0.1; done; read a; read b; echo \"<$a><$b>\"";
        let terminal = home.ready_session(engine, &[], script);
        terminal.type_in("first\rsecond\r");
        home.write("ws/go", "");
        let ended = terminal.end();
        assert!(ended.text().contains("<first><second>\r\n"), "{engine:?} {}", ended.text());
        std::fs::remove_file(home.workspace().join("go")).unwrap();
    });
}

// ---- one end is no terminal -------------------------------------------------------------------

/// What the command sees of its three streams.
const WHAT: &str = "for fd in 0 1 2; do test -t $fd && echo $fd is one; done; tty; cat";

/// A program whose stdin is a terminal, or its stdout, and not both.
fn half(home: &Home, engine: Engine, stdin: bool) -> (i32, String) {
    let mut command = home.run_cmd(engine, &["-i", "-q"], &["sh", "-c", WHAT]);
    let (leader, follower) = pty::open(Size { rows: 9, columns: 9, width: 0, height: 0 }).unwrap();
    if stdin {
        // The end of the input, by its key.
        std::fs::File::from(leader.try_clone().unwrap()).write_all(b"line\n\x04").unwrap();
        command.stdin(follower);
        let output = finish(command);
        return (code(&output), stdout(&output));
    }
    let file = home.write("input", "line\n");
    command.stdin(std::fs::File::open(file).unwrap()).stdout(follower.try_clone().unwrap()).stderr(Stdio::null());
    drop(follower);
    let mut child = command.spawn().unwrap();
    drop(command);
    let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
    let mut leader = std::fs::File::from(leader);
    // The end of a terminal is an error.
    while let Ok(count) = std::io::Read::read(&mut leader, &mut buffer) {
        shown.extend_from_slice(&buffer[..count]);
    }
    (child.wait().unwrap().code().unwrap(), String::from_utf8(shown).unwrap().replace("\r\n", "\n"))
}

#[test]
fn where_only_one_end_is_a_terminal_the_command_has_none() {
    on_each_engine(|engine, home| {
        for stdin in [true, false] {
            let (status, said) = half(home, engine, stdin);
            assert_eq!((status, said.as_str()), (0, "not a tty\nline\n"), "{engine:?} stdin: {stdin}");
            assert_eq!(home.newest()["interactive"], true);
        }
    });
}

/// Not interactive, a terminal is nothing special.
#[test]
fn without_being_asked_for_no_terminal_is_taken() {
    on_native_and_docker(|engine, home| {
        let terminal = Terminal::open(home, &home.run_cmd(engine, &["-q"], &["sh", "-c", WHAT]));
        let ended = terminal.end();
        assert_eq!((ended.code, ended.text().as_str()), (0, "not a tty\r\n"), "{engine:?}");
    });
}

#[test]
fn a_pipe_goes_through_exactly() {
    on_each_engine(|engine, home| {
        let mut command = home.run_cmd(engine, &["-i"], &["cat"]);
        let mut client = Client::spawn({
            command.stdin(Stdio::piped());
            command
        });
        client.stdin().write_all(b"a\nb\n").unwrap();
        let output = client.output();
        assert_eq!(
            (code(&output), stdout(&output).as_str(), stderr(&output).as_str()),
            (0, "a\nb\n", ""),
            "{engine:?}"
        );
    });
}

/// A signal to a piped client is the command's, as without `-i`.
#[test]
fn a_piped_client_passes_signals_on() {
    on_native_and_docker_with(Carrier::Init, |engine, home| {
        let script = "trap 'exit 8' TERM; echo ready; while :; do sleep 0.2; done";
        let mut command = home.run_cmd(engine, &["-i"], &["sh", "-c", script]);
        command.stdin(Stdio::piped());
        let client = Client::spawn(command);
        client.wait_for_output("ready\n");
        kill(client.pid(), TERM);
        assert_eq!(code(&client.output()), 8, "{engine:?}");
    });
}

/// Another program's terminal is as good as ours.
#[test]
fn a_session_works_within_script() {
    on_native_and_docker(|engine, home| {
        let mut line = format!("{}", home.program().display());
        for word in [&["run", "-i", "-q"], engine.options(), &["--", "tty"]].concat() {
            line += &format!(" {word}");
        }
        let script = ["script", "-qec", &line, "/dev/null"];
        let known = home.cmd(["list"]);
        let mut command = init::wrapped(&known, &["env"]);
        let mut within = Command::new("script");
        within.args(&script[1..]).stdin(Stdio::null()).current_dir(home.workspace());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => within.env(name, value),
                None => within.env_remove(name),
            };
        }
        home.belongs(&mut within);
        command = within;
        let output = finish(command);
        assert_eq!(code(&output), 0, "{output:?}");
        // script(1) may echo what it makes of the end of its own input.
        assert!(stdout(&output).contains("/dev/"), "{engine:?} {output:?}");
    });
}

/// One more command at a terminal is not recorded; its bytes arrive as they are.
#[test]
fn one_more_commands_bytes_are_exact() {
    on_each_engine(|engine, home| {
        if engine.is_apple() {
            return; // the emulator's exec has a terminal that tty(1) does not find
        }
        let client = home.start(engine, &["-n", "box"], "exec sleep 1000");
        let script = "printf 'a\\n\\033[1m\\0\\377'; seq 1 2000; tty >/dev/null && exit 6";
        let ended = Terminal::open(home, &home.cmd(["exec", "-i", "box", "--", "sh", "-c", script])).end();
        assert_eq!(ended.code, 6, "{engine:?} {}", ended.text());
        assert!(ended.shown.starts_with(b"a\r\n\x1b[1m\0\xff1\r\n2\r\n"), "{}", ended.text());
        // What it left on is turned off, and nothing else is added.
        assert!(ended.shown.ends_with(b"\r\n2000\r\n\x1b[0m"), "{}", ended.text());
        assert_eq!(stdout(&home.logs("box")), "ready\n");
        assert_eq!(code(&home.fosse(["stop", "--grace", "0", "box"])), 0);
        client.output();
    });
}
