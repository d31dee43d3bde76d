//! Programs that people work with at a terminal, in a session within a real one: tmux shows what is on the screen.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::terminal::{COLUMNS, LEADER, ROWS, SIZE};
use crate::support::{
    Carrier, Engine, Home, code, finish, has, in_drop, init, on_native, on_native_and_docker, stdout, wait_until,
};

/// A screen: a server of its own with one window, where a program runs.
struct Screen<'a> {
    home: &'a Home,
    notes: PathBuf,
}

impl<'a> Screen<'a> {
    /// `fosse run -i` in a window.
    fn run(home: &'a Home, engine: Engine, options: &[&str], command: &[&str]) -> Self {
        let command = home.run_cmd(engine, &[&["-i"], options].concat(), command);
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let notes = home.dir.join(format!("screen-{}", COUNT.fetch_add(1, Ordering::SeqCst)));
        // What was on the screen before belongs to the caller.
        // The window stays when the program has ended, and no line in it is the screen's own.
        let leader = format!("echo the callers; ({LEADER}); exec cat >/dev/null");
        let run = init::wrapped(&command, &["sh", "-c", &leader, notes.to_str().unwrap()]);
        let words = [run.get_program()].into_iter().chain(run.get_args()).map(|word| word.to_str().unwrap());
        let screen = Screen { home, notes };
        let (width, height) = (COLUMNS.to_string(), ROWS.to_string());
        let mut args = vec!["new-session", "-d", "-x", &width, "-y", &height];
        args.extend(words);
        args.extend([";", "set", "-g", "status", "off"]);
        let output = screen.tmux(&args);
        assert!(output.status.success(), "{output:?}");
        screen
    }

    fn tmux(&self, args: &[&str]) -> Output {
        let known = self.home.cmd(["list"]);
        let mut tmux = Command::new("tmux");
        for (name, value) in known.get_envs() {
            match value {
                Some(value) => tmux.env(name, value),
                None => tmux.env_remove(name),
            };
        }
        // One for each screen: a server that ends would take the next one's first words.
        tmux.arg("-S").arg(self.notes.with_extension("sock")).args(["-f", "/dev/null"]).args(args);
        tmux.current_dir(self.home.workspace()).env_remove("TMUX").env("SHELL", "/bin/sh").stdin(Stdio::null());
        self.home.belongs(&mut tmux);
        finish(tmux)
    }

    /// What is on the screen now.
    fn text(&self) -> String {
        stdout(&self.tmux(&["capture-pane", "-p"]))
    }

    fn wait_for(&self, what: &str) {
        self.wait_until(what, |text| text.contains(what));
    }

    #[allow(clippy::disallowed_macros, reason = "the test runner shows it when the test fails")]
    fn wait_until(&self, what: &str, is_so: impl Fn(&str) -> bool) {
        let last = std::cell::RefCell::new(String::new());
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until(what, || {
                *last.borrow_mut() = self.text();
                is_so(&last.borrow())
            });
        }));
        if let Err(panic) = found {
            eprintln!("on the screen:\n{}", last.borrow());
            std::panic::resume_unwind(panic);
        }
    }

    /// Types a text.
    fn type_in(&self, text: &str) {
        assert!(self.tmux(&["send-keys", "-l", text]).status.success());
    }

    /// Presses keys by their names.
    fn press(&self, keys: &[&str]) {
        assert!(self.tmux(&[&["send-keys"], keys].concat()).status.success());
    }

    /// Ends an editor's insertion; what comes right behind the key would be taken for a part of it.
    fn leave_insertion(&self) {
        self.press(&["Escape"]);
        let inserts = |line: &str| line.contains("-- INSERT --") || line.starts_with("I ");
        self.wait_until("it takes commands", |text| !text.lines().any(inserts));
    }

    fn resize(&self, rows: u16, columns: u16) {
        let (rows, columns) = (rows.to_string(), columns.to_string());
        let output = self.tmux(&["resize-window", "-x", &columns, "-y", &rows]);
        assert!(output.status.success(), "{output:?}");
    }

    /// Waits for the end of the program, whose terminal is as it was before; what is on the screen then.
    fn end(self, wanted: i32) -> String {
        // Told by the shell and not by the screen, which may miss the end of a program.
        let note = |name: &str| fs::read_to_string(self.notes.with_extension(name)).unwrap_or_default();
        self.wait_until("the program has ended", |_| note("code").ends_with('\n'));
        assert_eq!(note("code").trim(), wanted.to_string(), "{}", self.text());
        assert_eq!(note("after"), note("before"), "the mode of the terminal");
        let text = self.text();
        drop(self);
        text
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        in_drop(self, &[|screen| drop(screen.tmux(&["kill-server"]))]);
    }
}

/// Ends with this code, and what was on the screen before is there again.
fn ends_as_it_was(screen: Screen<'_>, wanted: i32) {
    let text = screen.end(wanted);
    assert!(text.starts_with("the callers\nfosse: started "), "{text}");
    assert!(text.contains("fosse: view output: fosse logs "), "{text}");
}

#[test]
fn a_shell_is_worked_with() {
    on_native_and_docker(|engine, home| {
        if !has(&["tmux"]) {
            return;
        }
        let shells: &[&[&str]] =
            if engine.is_native() { &[&["sh", "-i"], &["bash", "--norc", "-i"]] } else { &[&["sh", "-i"]] };
        for shell in shells {
            let screen = Screen::run(home, engine, &["-e", "PS1=prompt> "], shell);
            screen.wait_for("prompt>");
            let until = |size: &str| format!("until [ \"$(stty size)\" = '{size}' ]; do sleep 0.1; done; stty size");
            // The engine's client tells the first size when the command runs already, and a later one nobody waits for.
            let first = if home.carrier == Carrier::Client { until(SIZE) } else { "stty size".to_owned() };
            screen.type_in(&format!("{first}; echo one$((1+1))\r"));
            screen.wait_for("one2");
            assert!(screen.text().contains(&format!("\n{SIZE}\n")), "{}", screen.text());
            screen.resize(20, 60);
            screen.type_in(&format!("{}\r", until("20 60")));
            screen.wait_for("\n20 60\n");
            // A line is edited by its keys.
            screen.type_in("echo wrong");
            screen.press(&["C-u"]);
            screen.type_in("echo rigx");
            screen.press(&["BSpace"]);
            screen.type_in("ht; exit 3\r");
            screen.wait_for("\nright\n");
            screen.end(3);
        }
        home.assert_nothing_left();
    });
}

/// An editor on the whole screen: it is as large as the window, follows it, writes its file, and gives the screen back.
#[test]
fn an_editor_is_worked_with() {
    on_native_and_docker(|engine, home| {
        if !has(&["tmux"]) || engine.is_native() && !has(&["vi"]) {
            return;
        }
        let screen = Screen::run(home, engine, &[], &["vi", "text"]);
        // A line of its own at the bottom: it knows how large the screen is.
        let is_full = |rows: usize| {
            move |text: &str| {
                let tildes = text.lines().filter(|line| line.starts_with('~')).count();
                tildes == rows - 2 || tildes == rows - 3
            }
        };
        screen.wait_until("it fills the screen", is_full(usize::from(ROWS)));
        assert!(!screen.text().contains("the callers"), "{}", screen.text());
        screen.resize(15, 50);
        screen.wait_until("it fills the smaller screen", is_full(15));
        screen.type_in("iwritten inside");
        screen.wait_for("written inside");
        screen.leave_insertion();
        screen.type_in(":wq\r");
        screen.end(0);
        assert_eq!(fs::read_to_string(home.workspace().join("text")).unwrap(), "written inside\n", "{engine:?}");
        fs::remove_file(home.workspace().join("text")).unwrap();
        home.assert_nothing_left();
    });
}

#[test]
fn a_pager_is_worked_with() {
    on_native_and_docker(|engine, home| {
        if !has(&["tmux"]) || engine.is_native() && !has(&["less"]) {
            return;
        }
        home.write("ws/lines", (1..=1000).map(|n| format!("line {n}\n")).collect::<Vec<_>>().concat());
        let screen = Screen::run(home, engine, &[], &["less", "lines"]);
        screen.wait_until("the first page", |text| text.contains("line 1\n") && text.contains("line 32\n"));
        screen.press(&["Space"]);
        screen.wait_until("the second page", |text| text.contains("line 64\n") && !text.contains("line 1\n"));
        screen.press(&["G"]);
        screen.wait_for("line 1000\n");
        screen.type_in("?line 500\r");
        screen.wait_for("line 500\n");
        screen.press(&["q"]);
        screen.end(0);
    });
}

#[test]
fn what_draws_again_and_again_is_worked_with() {
    on_native_and_docker(|engine, home| {
        if !has(&["tmux"]) || engine.is_native() && !has(&["top"]) {
            return;
        }
        let screen = Screen::run(home, engine, &[], &["top"]);
        screen.wait_until("it draws", |text| text.contains("PID") && text.contains("top"));
        screen.press(&["q"]);
        screen.end(0);
    });
}

#[test]
fn an_interpreter_is_worked_with() {
    on_native(|home| {
        if !has(&["tmux", "python3"]) {
            return;
        }
        let screen = Screen::run(home, Engine::Native, &[], &["python3", "-q"]);
        screen.wait_for(">>>");
        screen.type_in("6*7\r");
        screen.wait_for("\n42\n");
        screen.type_in("while True: pass\r\r");
        screen.press(&["C-c"]);
        screen.wait_for("KeyboardInterrupt");
        screen.type_in("import sys; sys.exit(9)\r");
        screen.end(9);
    });
}

/// A program that starts an editor at its own terminal.
#[test]
fn a_commit_is_written_in_an_editor() {
    on_native(|home| {
        if !has(&["tmux", "git", "vi"]) {
            return;
        }
        let options = [
            "-e",
            "GIT_EDITOR=vi",
            "-e",
            "EMAIL=a@example.org",
            "-e",
            "GIT_COMMITTER_NAME=A",
            "-e",
            "GIT_AUTHOR_NAME=A",
        ];
        let script = "git init -q . && git commit --allow-empty";
        let screen = Screen::run(home, Engine::Native, &options, &["sh", "-c", script]);
        screen.wait_for("# Please enter the commit message");
        screen.type_in("iwhat was done");
        screen.leave_insertion();
        screen.type_in(":wq\r");
        screen.end(0);
        let log = home.run(Engine::Native, &[], &["git", "log", "--format=%s"]);
        assert_eq!((code(&log), stdout(&log).as_str()), (0, "what was done\n"), "{log:?}");
        fs::remove_dir_all(home.workspace().join(".git")).unwrap();
    });
}

/// What a command turned on in the terminal is turned off, where it had no time to do so itself.
#[test]
fn a_stopped_editors_screen_is_the_callers_again() {
    on_native_and_docker(|engine, home| {
        if !has(&["tmux"]) || engine.is_native() && !has(&["vi"]) {
            return;
        }
        let script = "trap '' HUP TERM; printf '\\033[?1049h\\033[?25l\\033[?1000h\\033[?2004hinside'; while :; do sleep 1; done";
        let screen = Screen::run(home, engine, &["--grace", "1"], &["sh", "-c", script]);
        screen.wait_for("inside");
        let modes = "#{alternate_on} #{cursor_flag} #{mouse_any_flag}";
        let said = || stdout(&screen.tmux(&["display-message", "-p", modes]));
        assert_eq!(said().trim(), "1 0 1", "{engine:?}");
        screen.press(&["-H", "1f"]);
        screen.type_in("k");
        screen.wait_for("view output");
        assert_eq!(said().trim(), "0 1 0", "{engine:?}");
        ends_as_it_was(screen, 137);
    });
}
