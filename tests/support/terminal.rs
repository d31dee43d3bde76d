//! Programs at a real terminal, whose leader the test has: what they show, what is typed in, and its mode before and
//! after. A shell leads the session, as somebody's shell does: the kernel resets the mode of a terminal whose session's
//! leader has ended, so that nothing could be said of it afterwards.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fosse::sys::termios::Size;
use fosse::sys::{fd, poll, pty};

use super::{Engine, Home, LIMIT, init, kill, processes, wait_until};

/// The size that a terminal has at first: nobody's default.
pub const ROWS: u16 = 33;
pub const COLUMNS: u16 = 101;

/// What `stty size` says of that.
pub const SIZE: &str = "33 101";

/// Makes the mode another one than any terminal has at first, notes it, and notes it again at the end.
pub const LEADER: &str = r#"stty erase ^H -echoctl; stty -g >"$0.before"; "$@"; code=$?; stty -g >"$0.after"; echo $code >"$0.code"; exit $code"#;

/// A program at a terminal.
pub struct Terminal {
    leader: Option<OwnedFd>,
    child: Child,
    notes: PathBuf,
    reader: Reader,
    /// How much of what was shown was waited for already.
    seen: usize,
}

/// The thread that takes what is shown.
struct Reader {
    shown: Arc<Mutex<Vec<u8>>>,
    /// Whether it takes nothing for now.
    paused: Arc<AtomicBool>,
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

/// What became of a program.
pub struct Ended {
    pub code: i32,
    /// All that was shown.
    pub shown: Vec<u8>,
}

impl Ended {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    /// What was shown between the line that tells of the start and the one that tells of the output.
    pub fn session(&self) -> Vec<u8> {
        let line = |from: usize| self.shown[from..].iter().position(|byte| *byte == b'\n').map(|at| from + at + 1);
        assert!(self.shown.starts_with(b"fosse: started "), "{:?}", self.text());
        let (start, last) = (line(0).unwrap(), b"fosse: view output: fosse logs ");
        let end = self.shown.windows(last.len()).rposition(|window| window == last);
        self.shown[start..end.unwrap_or_else(|| panic!("no last line: {:?}", self.text()))].to_vec()
    }
}

impl Reader {
    fn start(leader: &OwnedFd) -> Reader {
        let (shown, paused) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (stopped, stop) = fd::pipe().unwrap();
        let mut leader = File::from(leader.try_clone().unwrap());
        let (into, waits) = (Arc::clone(&shown), Arc::clone(&paused));
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            loop {
                if waits.load(Ordering::SeqCst) {
                    // Its pace, not its time: a terminal that takes nothing.
                    if poll::wait_readable(&stopped, Some(Duration::from_millis(5))).is_err() {
                        return;
                    }
                    continue;
                }
                match poll::either(&stopped, &leader) {
                    Ok(poll::Ready::Second) => {}
                    Ok(poll::Ready::First) | Err(_) => return,
                }
                // EIO: nobody is at the terminal any more.
                let Ok(count) = leader.read(&mut buffer) else { return };
                into.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Reader { shown, paused, stop: Some(stop), thread: Some(thread) }
    }

    fn end(&mut self) {
        self.stop = None;
        self.paused.store(false, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Terminal {
    /// Starts a command of a home's at a terminal of its own, with everything on it.
    pub fn open(home: &Home, command: &Command) -> Terminal {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let notes = home.dir.join(format!("terminal-{}", COUNT.fetch_add(1, Ordering::SeqCst)));
        let mut wrapped = init::wrapped(command, &["sh", "-c", LEADER, notes.to_str().unwrap()]);
        home.belongs(&mut wrapped);
        let known = wrapped.get_envs().any(|(name, _)| name == "TERM");
        if !known {
            wrapped.env("TERM", "xterm");
        }
        let size = Size { rows: ROWS, columns: COLUMNS, width: 0, height: 0 };
        let (leader, follower) = pty::open(size).unwrap();
        let copy = || follower.try_clone().unwrap();
        wrapped.stdin(copy()).stdout(copy()).stderr(copy());
        pty::own_terminal(&mut wrapped);
        let child = wrapped.spawn().unwrap();
        let reader = Reader::start(&leader);
        Terminal { leader: Some(leader), child, notes, reader, seen: 0 }
    }

    /// The number of the program, which the shell has started.
    pub fn pid(&self) -> i32 {
        let shell = i32::try_from(self.child.id()).unwrap();
        let mut found = None;
        wait_until("the program is there", || {
            found = processes::children(shell).into_iter().map(|(pid, _)| pid).find(|pid| is_fosse(*pid));
            found.is_some()
        });
        found.unwrap()
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: i32) {
        kill(self.pid(), signal);
    }

    fn leader(&self) -> &OwnedFd {
        self.leader.as_ref().expect("the terminal was closed")
    }

    /// Types.
    pub fn type_in(&self, keys: impl AsRef<[u8]>) {
        let mut leader = File::from(self.leader().try_clone().unwrap());
        leader.write_all(keys.as_ref()).unwrap();
    }

    /// Gives the window another size.
    pub fn resize(&self, rows: u16, columns: u16) {
        Size { rows, columns, width: 0, height: 0 }.set(self.leader()).unwrap();
    }

    /// Whether what is shown is taken.
    pub fn pause(&self, paused: bool) {
        self.reader.paused.store(paused, Ordering::SeqCst);
    }

    pub fn shown(&self) -> Vec<u8> {
        self.reader.shown.lock().unwrap().clone()
    }

    /// How much was shown.
    pub fn count(&self) -> usize {
        self.reader.shown.lock().unwrap().len()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown()).into_owned()
    }

    /// Waits until a text is shown, after the one that was waited for before.
    pub fn wait_for(&mut self, text: &str) {
        let start = Instant::now();
        loop {
            let over = self.reader.thread.as_ref().is_none_or(JoinHandle::is_finished);
            {
                let shown = self.reader.shown.lock().unwrap();
                let found = shown[self.seen..].windows(text.len()).position(|window| window == text.as_bytes());
                if let Some(at) = found {
                    self.seen += at + text.len();
                    return;
                }
            }
            assert!(!over && start.elapsed() < LIMIT, "no {text:?}: {:?}", self.text());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The mode of the terminal now, as stty says it.
    pub fn mode(&self) -> String {
        let mut stty = Command::new("stty");
        let output = stty.arg("-g").stdin(self.leader().try_clone().unwrap()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The mode before the program was started.
    pub fn mode_before(&self) -> String {
        let path = self.notes.with_extension("before");
        wait_until("the mode was noted", || fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n')));
        fs::read_to_string(path).unwrap()
    }

    /// Closes the terminal, as a window is closed.
    pub fn close(&mut self) {
        self.reader.end();
        self.leader = None;
    }

    fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < LIMIT, "it does not end: {:?}", self.text());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end of the program. The terminal is as it was before it.
    pub fn end(mut self) -> Ended {
        let status = self.wait();
        let mut ended = Ended { code: status.code().unwrap_or(-1), shown: Vec::new() };
        if self.leader.is_some() {
            let thread = self.reader.thread.as_ref().unwrap();
            wait_until("all that was shown is taken", || thread.is_finished());
            let after = fs::read_to_string(self.notes.with_extension("after")).unwrap_or_default();
            assert_eq!(after, self.mode_before(), "the mode of the terminal; shown: {:?}", self.text());
        }
        ended.shown = std::mem::take(&mut self.reader.shown.lock().unwrap());
        ended
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Everything at it hears that; what is left of a test that failed ends with its home.
        self.reader.end();
        self.leader = None;
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

/// Whether a process is the program under test, and no shell on its way to it.
fn is_fosse(pid: i32) -> bool {
    let first = |line: &[u8]| line.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| first(&line).ends_with(b"fosse"))
}

/// A script that says once that it is ready.
pub fn ready(script: &str) -> String {
    if script.contains("echo ready;") { script.to_owned() } else { format!("echo ready; {script}") }
}

impl Home {
    /// `fosse run -i` of a command at a terminal.
    pub fn session(&self, engine: Engine, options: &[&str], command: &[&str]) -> Terminal {
        Terminal::open(self, &self.run_cmd(engine, &[&["-i"], options].concat(), command))
    }

    /// The same of a script that says first that it is there, unless it says so itself, when it is ready.
    pub fn ready_session(&self, engine: Engine, options: &[&str], script: &str) -> Terminal {
        let mut terminal = self.session(engine, options, &["sh", "-c", &ready(script)]);
        terminal.wait_for("ready\r\n");
        terminal
    }
}
