//! The end of a terminal session, in each of its ways: the record says why, nothing is left, and the caller's terminal
//! is as it was.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::terminal::{Ended, Terminal, ready};
use crate::support::{
    CONT, Carrier, Client, Engine, HUP, Home, INT, KILL, QUIT, STOP, TERM, TSTP, code, kill, on_docker, on_each_engine,
    on_each_engine_with, on_native, on_native_and_docker, process_state, processes, stderr, try_kill, wait_until,
};

/// The escape, and the key that stops.
const STOP_KEYS: &[u8] = b"\x1fk";

/// A script that lives on whatever it is told politely.
const STUBBORN: &str = "trap '' HUP INT TERM QUIT; echo ready; while :; do sleep 1; done";

/// Fails unless the newest run ended so: code, reason and state.
fn assert_recorded(home: &Home, ended: &Ended, wanted: i32, reason: &str, state: &str) -> Value {
    let record = home.newest();
    assert_eq!(ended.code, wanted, "{record} {}", ended.text());
    assert_eq!((record["reason"].as_str(), record["state"].as_str()), (Some(reason), Some(state)), "{record}");
    assert_eq!(record["interactive"], true);
    assert!(ended.text().ends_with(&format!("fosse: view output: fosse logs {}\r\n", home.newest_id())), "{record}");
    home.assert_nothing_left();
    record
}

// ---- keys -------------------------------------------------------------------------------------

/// Ctrl-C is the command's; it is a signal's end, and nobody of ours asked for it.
#[test]
fn a_command_that_ctrl_c_ends_gives_130() {
    on_each_engine(|engine, home| {
        let terminal = home.ready_session(engine, &[], "sleep 1000");
        terminal.type_in(b"\x03");
        let ended = terminal.end();
        // The engine's client knows of a code, and not of a signal.
        let reason = home.newest()["reason"].as_str().unwrap().to_owned();
        assert!(reason == "signaled" || (home.carrier == Carrier::Client && reason == "exited"), "{engine:?} {reason}");
        assert_recorded(home, &ended, 130, &reason, "failed");
    });
}

/// Who ends politely after Ctrl-C, ends with its own code.
#[test]
fn a_command_may_catch_ctrl_c() {
    on_each_engine(|engine, home| {
        let terminal = home.ready_session(engine, &[], "trap 'exit 5' INT; echo ready; while :; do sleep 1; done");
        terminal.type_in(b"\x03");
        assert_recorded(home, &terminal.end(), 5, "exited", "failed");
    });
}

/// The first word is HUP: a shell that people work at ignores TERM and INT, and ends at once.
#[test]
fn the_escape_stops_a_shell_that_ignores_other_signals() {
    on_each_engine(|engine, home| {
        let since = Instant::now();
        let shell: &[&str] = if engine.is_native() { &["bash", "--norc", "-i"] } else { &["sh", "-i"] };
        let mut terminal = home.session(engine, &["--grace", "60", "-e", "PS1=prompt> "], shell);
        terminal.wait_for("prompt> ");
        terminal.type_in(STOP_KEYS);
        assert_recorded(home, &terminal.end(), 129, "stopped", "stopped");
        assert!(since.elapsed() < Duration::from_secs(50), "{engine:?}: not by the first word");
    });
}

/// TERM is the second word.
#[test]
fn the_escape_stops_a_command_that_ignores_the_first_word() {
    on_each_engine(|engine, home| {
        let script = "trap '' HUP INT; trap 'exit 9' TERM; echo ready; while :; do sleep 0.2; done";
        let terminal = home.ready_session(engine, &["--grace", "60"], script);
        terminal.type_in(STOP_KEYS);
        assert_recorded(home, &terminal.end(), 9, "stopped", "stopped");
    });
}

/// KILL is the last word, after the grace.
#[test]
fn the_escape_kills_a_command_that_ignores_everything() {
    on_each_engine(|engine, home| {
        let terminal = home.ready_session(engine, &["--grace", "1"], STUBBORN);
        terminal.type_in(STOP_KEYS);
        assert_recorded(home, &terminal.end(), 137, "stopped", "stopped");
    });
}

/// Keys that a command gets, as it sees them: a line of hexadecimal digits for so many bytes.
fn keys_seen(home: &Home, engine: Engine, options: &[&str], keys: &[u8], count: usize) -> String {
    let script = format!("stty raw -echo; echo ready; head -c {count} | od -An -tx1");
    let mut terminal = home.session(engine, options, &["sh", "-c", &script]);
    terminal.wait_for("ready\n");
    terminal.type_in(keys);
    let ended = terminal.end();
    assert_eq!(ended.code, 0, "{}", ended.text());
    let said = String::from_utf8(ended.session()).unwrap();
    said.trim_start_matches("ready\n").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// After the escape any other key is the command's, with it; twice it is once.
#[test]
fn keys_that_are_not_for_us_pass_through() {
    on_each_engine(|engine, home| {
        for (keys, wanted) in [
            (&b"\x1fd"[..], "1f 64"),
            (b"\x1f\x1f", "1f"),
            (b"\x1f\x1fk", "1f 6b"),
            (b"\x1fK", "1f 4b"),
            (b"a\x1f\x03b", "61 1f 03 62"),
            (b"\x03\x1a\x1c\x04\x11\x13\r\n\x7f", "03 1a 1c 04 11 13 0d 0a 7f"),
            (b"\x1b[A\xc3\xa4\xff\x00", "1b 5b 41 c3 a4 ff 00"),
        ] {
            // Docker's client keeps one that comes alone until the next key: it could begin what detaches it.
            if wanted == "1f" && engine == Engine::Docker && home.carrier == Carrier::Client {
                continue;
            }
            let count = wanted.split(' ').count();
            assert_eq!(keys_seen(home, engine, &[], keys, count), wanted, "{engine:?} {keys:?}");
        }
    });
}

/// Another key opens it, or none.
#[test]
fn the_escape_can_be_another_key_or_none() {
    on_native(|home| {
        assert_eq!(keys_seen(home, Engine::Native, &["--escape", "none"], b"\x1fk\x1f\x1f", 4), "1f 6b 1f 1f");
        assert_eq!(keys_seen(home, Engine::Native, &["--escape", "^]"], b"\x1fk\x1d\x1d\x1dd", 5), "1f 6b 1d 1d 64");
        let terminal = home.ready_session(Engine::Native, &["--escape", "^]"], "exec sleep 1000");
        terminal.type_in(b"\x1dk");
        assert_recorded(home, &terminal.end(), 129, "stopped", "stopped");
    });
}

/// A command that reads nothing keeps no key from being understood.
#[test]
fn the_escape_works_where_the_command_reads_nothing() {
    on_each_engine(|engine, home| {
        let script = "stty raw -echo; echo ready; exec sleep 1000";
        let mut terminal = home.session(engine, &[], &["sh", "-c", script]);
        terminal.wait_for("ready\n");
        terminal.type_in(vec![b'x'; 200_000]);
        terminal.type_in(STOP_KEYS);
        assert_recorded(home, &terminal.end(), 129, "stopped", "stopped");
    });
}

// ---- signals ----------------------------------------------------------------------------------

/// A signal to the client is about the session.
#[test]
fn a_signal_to_the_client_ends_the_session() {
    on_each_engine(|engine, home| {
        for signal in [TERM, INT, HUP, QUIT] {
            let terminal = home.ready_session(engine, &["--grace", "20"], "exec sleep 1000");
            assert_ne!(terminal.mode(), terminal.mode_before(), "it is the command's");
            terminal.signal(signal);
            assert_recorded(home, &terminal.end(), 129, "stopped", "stopped");
        }
    });
}

/// One more signal shortens nothing that was promised, and changes no reason.
#[test]
fn a_session_that_is_told_twice_ends_once() {
    on_each_engine(|engine, home| {
        let terminal = home.ready_session(engine, &["--grace", "1"], STUBBORN);
        let client = terminal.pid();
        for signal in [TERM, HUP, QUIT, TERM] {
            // The last ones may find it over.
            try_kill(client, signal);
        }
        assert_recorded(home, &terminal.end(), 137, "stopped", "stopped");
    });
}

/// A window that is closed ends what ran there.
#[test]
fn a_closed_terminal_ends_the_run() {
    on_each_engine(|engine, home| {
        for script in ["exec sleep 1000", STUBBORN, "while :; do echo more; done"] {
            let mut terminal = home.ready_session(engine, &["--grace", "1"], script);
            terminal.pid();
            terminal.close();
            terminal.end();
            wait_until("the run has ended", || home.newest()["stopped_at"].is_string());
            let record = home.newest();
            let state = (record["state"].as_str(), record["reason"].as_str());
            assert_eq!(state, (Some("stopped"), Some("stopped")), "{engine:?} {script}: {record}");
            wait_until("the client is gone", || home.processes().is_empty());
            home.assert_nothing_left();
        }
    });
}

/// Stopped and continued without being asked, the client goes on where it was.
#[test]
fn a_client_that_stood_still_goes_on() {
    on_each_engine(|engine, home| {
        if engine.is_apple() {
            return; // its emulated terminal hangs up while its client stands still
        }
        let script = "while [ \"$(stty size)\" != '44 55' ]; do sleep 0.1; done; read x; echo \"<$x>\"; exit 4";
        let mut terminal = home.ready_session(engine, &[], script);
        let pid = terminal.pid();
        terminal.signal(STOP);
        wait_until("it stands still", || process_state(pid) == Some('T'));
        terminal.resize(44, 55);
        terminal.type_in("kept\r");
        terminal.signal(CONT);
        // Whoever stood still hears of a resize later.
        terminal.wait_for("<kept>\r\n");
        assert_eq!(terminal.end().code, 4, "{engine:?}");
    });
}

/// `stop` of a session whose client stands still takes its time and not for ever.
#[test]
fn a_session_whose_client_stands_still_can_be_stopped() {
    on_native_and_docker(|engine, home| {
        let terminal = home.ready_session(engine, &["--grace", "1"], "exec sleep 1000");
        terminal.signal(STOP);
        let output = home.fosse(["stop", "--grace", "1", &home.newest_id()]);
        assert_eq!(code(&output), 0, "{engine:?} {}", stderr(&output));
        let record = home.newest();
        assert_eq!(
            (record["state"].as_str(), record["reason"].as_str()),
            (Some("stopped"), Some("stopped")),
            "{record}"
        );
        drop(terminal);
        home.assert_nothing_left();
    });
}

/// A shell that controls its jobs stops fosse with TSTP: the terminal is the shell's until `fg`.
#[test]
fn tstp_gives_the_terminal_back_for_the_time() {
    on_each_engine(|engine, home| {
        let mut line = format!("exec 2>&1; {}", crate::support::fosse());
        for word in [&["run", "-i", "-q"], engine.options(), &["--", "sh", "-c"]].concat() {
            line += &format!(" {word}");
        }
        let mut shell = home.cmd(["list"]);
        shell = crate::support::init::wrapped(&shell, &["bash", "--norc", "--noprofile", "-i"]);
        let mut bash = std::process::Command::new("bash");
        bash.args(["--norc", "--noprofile", "-i"])
            .env("PS1", "caller> ")
            .env("HISTFILE", "")
            .stdin(std::process::Stdio::null());
        for (name, value) in shell.get_envs() {
            match value {
                Some(value) => bash.env(name, value),
                None => bash.env_remove(name),
            };
        }
        home.belongs(bash.current_dir(home.workspace()));
        let mut terminal = Terminal::open(home, &bash);
        terminal.wait_for("caller> ");
        let program = home.program();
        let line = line.replacen(crate::support::fosse(), program.to_str().unwrap(), 1);
        terminal.type_in(format!("{line} 'stty raw -echo; echo ready$((1+1)); head -c 3 | od -An -tx1; exit 6'\r"));
        terminal.wait_for("ready2\n");
        let client = home.owner();
        let raw = terminal.mode();
        kill(client, TSTP);
        terminal.wait_for("Stopped");
        terminal.wait_for("caller> ");
        assert_eq!(process_state(client), Some('T'), "{engine:?}");
        terminal.type_in("stty -a\r");
        terminal.wait_for("caller> ");
        terminal.resize(20, 30);
        terminal.type_in("fg\r");
        wait_until("the command has the terminal again", || terminal.mode() == raw);
        terminal.type_in(b"\x03\x1a\r");
        terminal.wait_for("03 1a 0d");
        terminal.wait_for("caller> ");
        terminal.type_in("echo code=$?\r");
        terminal.wait_for("code=6");
        terminal.type_in("exit\r");
        terminal.end();
        home.assert_nothing_left();
    });
}

// ---- others -----------------------------------------------------------------------------------

#[test]
fn another_process_can_stop_a_session() {
    on_each_engine(|engine, home| {
        for (script, grace, wanted) in [("exec sleep 1000", "20", 129), (STUBBORN, "1", 137)] {
            let terminal = home.ready_session(engine, &[], script);
            let output = home.fosse(["stop", "--grace", grace, &home.newest_id()]);
            assert_eq!(code(&output), 0, "{}", stderr(&output));
            assert_recorded(home, &terminal.end(), wanted, "stopped", "stopped");
        }
    });
}

#[test]
fn a_session_that_takes_too_long_gives_124() {
    on_each_engine(|engine, home| {
        for script in ["exec sleep 1000", STUBBORN, "trap 'exit 0' HUP TERM; echo ready; while :; do sleep 0.2; done"] {
            let terminal = home.ready_session(engine, &["--timeout", "2", "--grace", "1"], script);
            assert_recorded(home, &terminal.end(), 124, "timeout", "failed");
        }
    });
}

/// Its place is killed by whoever can.
#[test]
fn a_container_that_its_engine_kills_gives_137() {
    on_docker(|home| {
        let terminal = home.ready_session(Engine::Docker, &[], "exec sleep 1000");
        Engine::Docker.call(["kill", &format!("fosse-{}", home.newest_id())]);
        let ended = terminal.end();
        let reason = home.newest()["reason"].as_str().unwrap().to_owned();
        assert!(matches!(reason.as_str(), "signaled" | "exited"), "{reason}");
        assert_recorded(home, &ended, 137, &reason, "failed");
    });
}

#[test]
fn an_init_that_is_killed_ends_the_session() {
    on_each_engine_with(Carrier::Init, |engine, home| {
        let terminal = home.ready_session(engine, &[], "exec sleep 1000");
        kill(home.init_of(engine), KILL);
        let record = assert_recorded(home, &terminal.end(), 137, "signaled", "failed");
        assert_eq!(record["signal"], 9);
    });
}

/// A client that is killed can give nothing back, and leaves nothing that runs.
#[test]
fn a_killed_clients_session_is_gone() {
    on_each_engine_with(Carrier::Init, |engine, home| {
        if engine.is_apple() {
            return; // no connection leads into its machine
        }
        let terminal = home.ready_session(engine, &[], STUBBORN);
        let init = home.init_of(engine);
        terminal.signal(KILL);
        wait_until("its place is gone", || process_state(init).is_none());
        drop(terminal);
        assert_eq!(home.newest()["reason"], "orphaned");
        assert_eq!(code(&home.fosse(["stop", &home.newest_id()])), 0);
        home.assert_nothing_left();
    });
}

// ---- one more command -------------------------------------------------------------------------

/// `exec -i` in a run called `box`.
fn exec(home: &Home, options: &[&str], script: &str) -> Terminal {
    let script = ready(script);
    let args = [&["exec", "-i"], options, &["box", "--", "sh", "-c", &script]].concat();
    let mut terminal = Terminal::open(home, &home.cmd(args));
    terminal.wait_for("ready\r\n");
    terminal
}

/// The number of processes inside that sleep so long: one for the run, and what is left of others.
fn end_box(home: &Home, client: Client) {
    assert_eq!(code(&home.fosse(["stop", "--grace", "0", "box"])), 0);
    client.output();
    home.assert_nothing_left();
}

/// The keys and the signals of one more command's client are about that command, and not about the run.
#[test]
fn one_more_command_ends_alone() {
    on_each_engine(|engine, home| {
        let client = home.start(engine, &["-n", "box", "--grace", "2"], "exec sleep 1000");
        let terminal = exec(home, &[], STUBBORN);
        terminal.type_in(STOP_KEYS);
        let ended = terminal.end();
        assert!(matches!(ended.code, 137 | 125), "{engine:?} {} {}", ended.code, ended.text());

        for signal in [TERM, HUP, INT, QUIT] {
            let terminal = exec(home, &[], "exec sleep 2000");
            terminal.signal(signal);
            assert_eq!(terminal.end().code, 129, "{engine:?} {signal}");
        }
        let terminal = exec(home, &[], "exec sleep 2000");
        terminal.type_in(b"\x03");
        assert_eq!(terminal.end().code, 130, "{engine:?}");
        // It need not have come to its first word by then.
        let args = ["exec", "-i", "--timeout", "2", "box", "--", "sleep", "2000"];
        assert_eq!(Terminal::open(home, &home.cmd(args)).end().code, 124, "{engine:?}");
        let mut terminal = exec(home, &[], "exec sleep 2000");
        terminal.close();
        terminal.end();
        wait_until("the command has ended", || {
            !processes::inside(&home.dir.to_string_lossy(), &[]).iter().any(|entry| entry.contains("sleep 2000"))
        });
        assert_eq!(home.newest()["state"], "running", "{engine:?}");
        end_box(home, client);
    });
}

/// A run that ends takes the terminals of its other commands with it.
#[test]
fn the_runs_end_is_the_end_of_one_more_command() {
    on_each_engine(|engine, home| {
        let client = home.start(engine, &["-n", "box"], "exec sleep 1000");
        let terminal = exec(home, &[], STUBBORN);
        end_box(home, client);
        let ended = terminal.end();
        assert!(matches!(ended.code, 137 | 125), "{engine:?} {} {}", ended.code, ended.text());
    });
}
