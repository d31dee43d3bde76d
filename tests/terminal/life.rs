//! A terminal session: what the command finds at its terminal, and what it hears of the caller's.

use crate::support::terminal::{COLUMNS, ROWS, SIZE, Terminal};
use crate::support::{
    Carrier, Engine, Home, code, on_each_engine, on_each_engine_with, on_native, on_native_and_docker, repeat, stdout,
};

/// How often something is repeated that is slow where an engine has to be asked.
fn rounds(engine: Engine, full: usize) -> usize {
    if engine.is_native() { repeat(full) } else { repeat(full / 10) }
}

/// A command whose first instruction asks for the size. The engine's client can tell it only once the command runs,
/// where the engine takes no size at its start: there it is right soon.
fn size_of(home: &Home) -> &'static [&'static str] {
    match home.carrier {
        Carrier::Init => &["stty", "size"],
        Carrier::Client => &["sh", "-c", "while [ \"$(stty size 2>&1)\" != '33 101' ]; do sleep 0.1; done; stty size"],
    }
}

/// The command's first instruction finds the size that the caller's window has.
#[test]
fn the_first_window_size_is_already_right() {
    on_each_engine(|engine, home| {
        for round in 0..rounds(engine, 500) {
            let ended = home.session(engine, &["--no-workspace"], size_of(home)).end();
            assert_eq!(ended.code, 0, "{}", ended.text());
            assert_eq!(ended.session(), format!("{SIZE}\r\n").as_bytes(), "{engine:?} {round}: {}", ended.text());
        }
        home.assert_nothing_left();
    });
}

/// The size is also right in one more command of a run.
#[test]
fn one_more_commands_first_window_size_is_already_right() {
    on_each_engine(|engine, home| {
        let client = home.start(engine, &["-n", "box"], "exec sleep 1000");
        for round in 0..rounds(engine, 100) {
            let command = home.cmd([&["exec", "-i", "box", "--"], size_of(home)].concat());
            let ended = Terminal::open(home, &command).end();
            assert_eq!((ended.code, ended.text()), (0, format!("{SIZE}\r\n")), "{engine:?} {round}");
        }
        assert_eq!(code(&home.fosse(["stop", "--grace", "0", "box"])), 0);
        client.output();
    });
}

/// A script that says its window's size at first and whenever it changes.
const SIZES: &str = "trap 'stty size' WINCH; stty size; echo ready; while :; do sleep 1 & wait $!; done";

/// Docker's client loses what comes before it listens, so that its sessions are left out here.
#[test]
fn a_resize_arrives() {
    on_each_engine_with(Carrier::Init, |engine, home| {
        let mut terminal = home.session(engine, &["--grace", "1"], &["sh", "-c", SIZES]);
        terminal.wait_for("ready\r\n");
        for (rows, columns) in [(40, 120), (2, 3), (ROWS, COLUMNS), (500, 1000)] {
            terminal.resize(rows, columns);
            terminal.wait_for(&format!("{rows} {columns}\r\n"));
        }
        terminal.type_in(b"\x1fk");
        terminal.end();
    });
}

/// However many resizes come, the last one is what the command has.
#[test]
fn after_a_storm_of_resizes_the_last_size_is_there() {
    on_each_engine_with(Carrier::Init, |engine, home| {
        let mut terminal = home.session(engine, &["--grace", "1"], &["sh", "-c", SIZES]);
        terminal.wait_for("ready\r\n");
        for size in 1..=200 {
            terminal.resize(size, size + 1);
        }
        terminal.resize(66, 77);
        terminal.wait_for("66 77\r\n");
        terminal.type_in(b"\x1fk");
        let ended = terminal.end();
        let sizes: Vec<&str> = ended.text().leak().lines().filter(|line| line.contains(' ')).collect();
        let last = sizes.iter().rfind(|line| line.split(' ').all(|word| word.parse::<u16>().is_ok()));
        assert_eq!(last, Some(&"66 77"), "{engine:?} {sizes:?}");
    });
}

// ---- the terminal inside ----------------------------------------------------------------------

/// It has a name, it is the one that the session is controlled by, and all three streams are it.
#[test]
fn the_commands_terminal_is_its_own() {
    on_each_engine(|engine, home| {
        let script = "tty; for fd in 0 1 2; do test -t $fd || echo $fd is none; done
            echo by name >/dev/stdout; echo err >&2; echo control >/dev/tty; ps -o tty= -p $$ 2>/dev/null | grep -c pts";
        for user in [&[][..], &["--user", "1234"], &["--user", "root"]] {
            if engine.is_native() && home.user.is_some() && user.last() == Some(&"1234") {
                continue;
            }
            let ended = home.session(engine, user, &["sh", "-c", script]).end();
            let said = String::from_utf8(ended.session()).unwrap();
            let lines: Vec<&str> = said.split("\r\n").collect();
            assert!(lines[0].starts_with("/dev/"), "{engine:?} {user:?} {said}");
            assert_eq!(lines[1..4], ["by name", "err", "control"], "{engine:?} {user:?} {said}");
        }
        home.assert_nothing_left();
    });
}

/// What the terminal is, is passed on; nothing else of the caller's.
#[test]
fn the_kind_of_the_terminal_is_passed_on_and_nothing_else() {
    on_each_engine(|engine, home| {
        let mut command = home.run_cmd(engine, &["-i"], &["sh", "-c", "echo \"<$TERM>\"; env"]);
        command.env("TERM", "screen-256color").env("COLORTERM", "truecolor").env("SECRET", "hunter2");
        let ended = Terminal::open(home, &command).end();
        let said = String::from_utf8(ended.session()).unwrap();
        assert!(said.starts_with("<screen-256color>\r\n"), "{engine:?} {said}");
        assert!(!said.contains("hunter2") && !said.contains("truecolor"), "{engine:?} {said}");
        // Where nothing is a terminal, it has none; podman names one of its own to every container.
        let output = home.run(engine, &[], &["sh", "-c", "echo \"<$TERM>\""]);
        assert!(["<>\n", "<xterm>\n"].contains(&stdout(&output).as_str()), "{engine:?} {output:?}");
        assert!(engine == Engine::Podman || stdout(&output) == "<>\n", "{engine:?} {output:?}");
    });
}

/// What `-e` says of the terminal is what counts.
#[test]
fn a_kind_of_terminal_that_is_asked_for_wins() {
    on_native_and_docker(|engine, home| {
        let ended = home.session(engine, &["-e", "TERM=dumb"], &["sh", "-c", "echo \"<$TERM>\""]).end();
        assert_eq!(ended.session(), b"<dumb>\r\n", "{engine:?}");
    });
}

/// One more command is told the kind of the terminal that it works at, and not of the one that its run does.
#[test]
fn one_more_commands_kind_of_terminal_is_its_own() {
    on_native_and_docker(|engine, home| {
        let client = home.start(engine, &["-n", "box", "-e", "TERM=dumb"], "exec sleep 1000");
        for (options, wanted) in [(&["-i"][..], "screen-256color"), (&["-i", "-e", "TERM=vt100"], "vt100")] {
            let args = [&["exec"], options, &["box", "--", "sh", "-c", "echo \"<$TERM>\""]].concat();
            let mut command = home.cmd(args);
            let ended = Terminal::open(home, command.env("TERM", "screen-256color")).end();
            assert_eq!(ended.text(), format!("<{wanted}>\r\n"), "{engine:?}");
        }
        assert_eq!(code(&home.fosse(["stop", "--grace", "0", "box"])), 0);
        client.output();
    });
}

// ---- jobs -------------------------------------------------------------------------------------

/// A shell at the terminal, which prompts with `$ `.
fn shell(home: &Home, engine: Engine) -> Terminal {
    // busybox's shell is in every image of the tests, bash on the host.
    let command: &[&str] = if engine.is_native() { &["bash", "--norc", "--noprofile", "-i"] } else { &["sh", "-i"] };
    let mut terminal = home.session(engine, &["-e", "PS1=prompt> ", "-e", "HISTFILE="], command);
    terminal.wait_for("prompt> ");
    terminal
}

/// Ctrl-Z stops the job in the foreground, `fg` continues it, Ctrl-C ends it, and the shell lives on.
#[test]
fn a_shell_controls_its_jobs() {
    on_each_engine(|engine, home| {
        let mut terminal = shell(home, engine);
        assert!(!terminal.text().contains("job control"), "{engine:?} {}", terminal.text());
        // Who types when the job is only about to go on types to the shell. It starts nothing: a shell that is stopped
        // between vfork and exec waits in the kernel for its stopped child, and is itself never seen to stop.
        let job = "trap \"echo again\\$((1+1))\" CONT; echo one$((1+1)); while :; do :; done";
        terminal.type_in(format!("sh -c '{job}'\r"));
        terminal.wait_for("one2\r\n");
        terminal.type_in(b"\x1a");
        terminal.wait_for("Stopped");
        terminal.wait_for("prompt> ");
        terminal.type_in("echo between$((1+1))\r");
        terminal.wait_for("between2");
        terminal.wait_for("prompt> ");
        terminal.type_in("fg\r");
        terminal.wait_for("again2\r\n");
        terminal.type_in(b"\x03");
        terminal.wait_for("prompt> ");
        terminal.type_in("echo code=$?\r");
        terminal.wait_for("code=130");
        // Who is in the background may not read.
        terminal.type_in("cat & while ! grep -q ') T ' /proc/$!/stat; do sleep 0.1; done; echo stands$((1+1))\r");
        terminal.wait_for("stands2\r\n");
        terminal.type_in("kill -9 %1; exit 7; exit 7\r");
        let ended = terminal.end();
        assert_eq!(ended.code, 7, "{engine:?} {}", ended.text());
        let record = home.newest();
        assert_eq!((record["reason"].as_str(), record["exit_code"].as_i64()), (Some("exited"), Some(7)), "{record}");
        home.assert_nothing_left();
    });
}

/// Ctrl-C at a shell that runs nothing ends nothing.
#[test]
fn a_key_that_interrupts_ends_no_shell() {
    on_each_engine(|engine, home| {
        let mut terminal = shell(home, engine);
        terminal.type_in(b"half a line\x03");
        terminal.wait_for("prompt> ");
        terminal.type_in("echo alive$((1+1))\r");
        terminal.wait_for("alive2");
        // Before that the shell does not read keys yet, and this one would be an end of file to the kernel.
        terminal.wait_for("prompt> ");
        terminal.type_in(b"\x04");
        let ended = terminal.end();
        assert_eq!(
            (home.newest()["reason"].as_str(), home.newest()["state"].as_str() == Some("stopped")),
            (Some("exited"), ended.code == 0),
            "{engine:?}"
        );
    });
}

// ---- what fosse says --------------------------------------------------------------------------

/// Of the start before the first byte, of the output when the terminal is the caller's again; nothing in between.
#[test]
fn nothing_of_ours_is_in_the_session() {
    on_each_engine(|engine, home| {
        let ended = home.session(engine, &["-n", "told"], &["sh", "-c", "printf 'x\\ny'"]).end();
        let id = home.newest_id();
        let wanted = format!("fosse: started told ({id})\r\nx\r\nyfosse: view output: fosse logs {id}\r\n");
        assert_eq!(ended.text(), wanted, "{engine:?}");
        let ended = home.session(engine, &["-q"], &["sh", "-c", "printf 'x\\ny'"]).end();
        assert_eq!(ended.text(), "x\r\ny", "{engine:?}");
    });
}

/// A command that cannot be executed is told of at a terminal that is the caller's.
#[test]
fn a_command_that_cannot_be_executed_leaves_the_terminal_as_it_was() {
    on_each_engine(|engine, home| {
        let ended = home.session(engine, &[], &["no-such-command"]).end();
        assert_eq!(ended.code, 127, "{engine:?} {}", ended.text());
        // What the engine's own init says there is, at a terminal, not told from what the command says.
        if home.carrier == Carrier::Init {
            assert!(ended.text().contains("fosse: starting the command failed: "), "{}", ended.text());
            assert!(ended.text().contains("\r\nhint: ") && !ended.text().contains("started"), "{}", ended.text());
            assert_eq!(home.newest()["reason"], "start_failed", "{engine:?}");
        }
        home.assert_nothing_left();
    });
}

/// Whatever the key is that opens the escape, it must be one.
#[test]
fn an_escape_that_is_no_key_is_refused() {
    on_native(|home| {
        for wrong in ["", "^", "k", "^^^", "ctrl-x"] {
            let ended = home.session(Engine::Native, &["--escape", wrong], &["true"]).end();
            assert_eq!(ended.code, 125, "{wrong:?} {}", ended.text());
            assert!(home.list().is_empty(), "{wrong:?}");
        }
    });
}

/// The record says that it was interactive, and who carried it.
#[test]
fn the_record_of_a_session_says_so() {
    on_each_engine(|engine, home| {
        for (script, wanted, state) in [("exit 0", 0, "stopped"), ("exit 3", 3, "failed")] {
            let ended = home.session(engine, &[], &["sh", "-c", script]).end();
            let record = home.newest();
            assert_eq!((ended.code, record["exit_code"].as_i64()), (wanted, Some(wanted.into())), "{engine:?}");
            assert_eq!((record["state"].as_str(), record["reason"].as_str()), (Some(state), Some("exited")));
            assert_eq!(record["interactive"], true);
            let by_init = home.carrier == Carrier::Init && !engine.is_apple();
            assert_eq!(record["io"], if by_init { "init" } else { "engine" });
        }
    });
}
