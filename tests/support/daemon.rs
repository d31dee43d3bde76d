//! Daemons of a home: how they are started, seen and ended.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::Address;
use super::{CONT, Client, Home, KILL, finish, kill, process_state, processes, some_at_once, wait_until};

/// Longer than any answer takes that has a limit, on a machine that is busy with other tests. What it takes on a quiet
/// one is measured, not asserted.
pub const SOON: Duration = Duration::from_secs(30);

impl Home {
    /// The program with arguments, where runs start a daemon.
    pub fn with_daemon<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.cmd(args);
        command.env("FOSSE_DAEMON", "auto");
        command
    }

    /// `fosse daemon` with arguments, to its end.
    pub fn daemon<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Output {
        let mut command = self.cmd(["daemon"]);
        command.args(args);
        finish(command)
    }

    /// Starts a daemon in the background; its number.
    pub fn start_daemon(&self) -> i32 {
        let started = self.daemon(["start"]);
        assert!(started.status.success(), "{started:?}");
        self.daemon_pid()
    }

    /// Starts a daemon in the foreground, and waits until it serves.
    pub fn start_in_foreground(&self) -> Client {
        let client = Client::spawn(self.cmd(["daemon", "start", "--foreground"]));
        wait_until("it serves", || self.daemon(["status", "-q"]).status.success());
        client
    }

    /// What `fosse daemon status --json` says.
    pub fn daemon_status(&self) -> Value {
        serde_json::from_slice(&self.daemon(["status", "--json"]).stdout).unwrap()
    }

    /// The number of the daemon that answers.
    pub fn daemon_pid(&self) -> i32 {
        let status = self.daemon_status();
        assert_eq!(status["state"], "serving", "{status}");
        i32::try_from(status["pid"].as_i64().unwrap()).unwrap()
    }

    /// The lock of the daemon.
    pub fn daemon_lock(&self) -> PathBuf {
        self.daemon_lock_if_any().expect("no daemon was ever started here")
    }

    fn daemon_lock_if_any(&self) -> Option<PathBuf> {
        let is_lock = |name: &str| name.starts_with("daemon") && name.ends_with(".lock");
        let entries = fs::read_dir(self.state()).into_iter().flatten().flatten();
        let mut locks = entries.filter(|entry| is_lock(&entry.file_name().to_string_lossy()));
        locks.next().map(|entry| entry.path())
    }

    /// What the daemon has written into the file of its lock, if it has.
    pub fn daemon_record(&self) -> Value {
        let bytes = self.daemon_lock_if_any().and_then(|path| fs::read(path).ok()).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// The daemon's socket, as the one that answers names it.
    pub fn daemon_socket(&self) -> PathBuf {
        self.daemon_status()["socket"].as_str().unwrap().into()
    }

    /// Asks the daemon's socket itself; the number of the daemon that answers there, if one does.
    pub fn health(&self) -> Option<i64> {
        let socket = Address::Unix(self.daemon_record()["socket"].as_str()?.into());
        let mut conn = socket.connect().ok()?;
        conn.send(&socket.get("/v1/health")).ok()?;
        serde_json::from_slice::<Value>(&conn.answer().ok()?.body).ok()?["pid"].as_i64()
    }

    /// The daemon's log.
    pub fn daemon_log(&self) -> String {
        fs::read_to_string(self.state().join("daemon.log")).unwrap_or_default()
    }
}

/// The numbers of all processes of a home that are a daemon, or try to become one; zombies are not. A child of one of
/// them is not yet the program that it will be: an engine's tool, or a daemon that nobody sees yet.
pub fn daemons(home: &Home) -> Vec<i32> {
    let named = processes::naming(&home.dir.to_string_lossy());
    let found = named.iter().filter(|entry| entry.contains(" daemon start ")).map(|entry| processes::number(entry));
    let found: Vec<i32> = found.collect();
    let is_child = |pid: &i32| processes::parent_if_any(*pid).is_none_or(|parent| found.contains(&parent));
    found.iter().filter(|pid| !is_child(pid)).copied().collect()
}

/// Fails unless there is one daemon, which answers; its number.
pub fn the_one(home: &Home) -> i32 {
    // One that has found another and said so may take a moment to go.
    let mut pid = 0;
    wait_until("there is one daemon that answers", || {
        let (all, status) = (daemons(home), home.daemon_status());
        pid = all.first().copied().unwrap_or_default();
        let is_alone = all.len() == 1 && status["state"] == "serving" && status["pid"] == pid;
        is_alone && home.health() == Some(i64::from(pid)) && daemons(home) == all
    });
    pid
}

/// Kills the daemon at once, and waits until it is gone, and its lock: another thread of it, or a child that has not
/// yet become its program, holds that a moment longer (proc_locks(5) names who took it).
pub fn kill_daemon(pid: i32) {
    kill(pid, KILL);
    wait_until("it is gone", || process_state(pid).is_none_or(|state| state == 'Z'));
    let holds = |line: &str| line.contains("FLOCK") && line.split_whitespace().any(|word| word == pid.to_string());
    wait_until("its lock is free", || !fs::read_to_string("/proc/locks").unwrap().lines().any(holds));
}

/// Sends a signal to a process that may be gone.
pub fn kill_if_there(pid: i32, signal: i32) {
    super::try_kill(pid, signal);
}

/// Lets a random time pass, up to so many milliseconds: what is done next shall meet others at any moment.
#[allow(clippy::disallowed_macros, reason = "the test runner shows it when the test fails")]
pub fn at_any_moment(millis: u64) {
    let random = u64::from_str_radix(&fosse::base::id::random_hex(4).unwrap(), 16).unwrap();
    let moment = Duration::from_micros(random % (millis * 1000));
    eprintln!("after {moment:?}");
    std::thread::sleep(moment);
}

/// Runs a command to its end; what it says, and how long it took. Fails if that was no way to answer.
pub fn timed(command: Command) -> (Output, Duration) {
    let begun = Instant::now();
    let output = finish(command);
    let took = begun.elapsed();
    assert!(took < SOON, "{took:?}: {output:?}");
    (output, took)
}

/// How a daemon is started, in a race of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Foreground,
    Background,
    Restart,
}

/// One of several that were started at once.
pub struct Racer {
    pub way: Way,
    pub client: Client,
    begun: Instant,
    /// How long it took, once it has ended.
    pub took: Option<Duration>,
}

impl Racer {
    pub fn start(home: &Home, way: Way) -> Racer {
        let args: &[&str] = match way {
            Way::Foreground => &["start", "--foreground"],
            Way::Background => &["start"],
            Way::Restart => &["restart"],
        };
        let mut command = home.cmd(["daemon"]);
        command.args(args);
        Racer { way, begun: Instant::now(), client: Client::spawn(command), took: None }
    }

    /// Whether it is still there.
    pub fn lives(&mut self) -> bool {
        if self.took.is_none() && self.client.has_ended() {
            self.took = Some(self.begun.elapsed());
        }
        self.took.is_none()
    }
}

/// Starts several at once.
pub fn race(home: &Home, ways: impl IntoIterator<Item = Way>) -> Vec<Racer> {
    ways.into_iter().map(|way| Racer::start(home, way)).collect()
}

/// Waits until one of the racers or its child is the daemon, and all others have ended well: 0, in time, and, where
/// somebody is told about it, with a word about who serves. The daemon's number, and how long the slowest took.
pub fn settled(home: &Home, racers: Vec<Racer>) -> (i32, Duration) {
    let (ended, worst) = raced(home, racers, true);
    for (way, output) in &ended {
        assert_eq!(output.status.code(), Some(0), "{way:?}: {output:?}\n{}", home.daemon_log());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(*way != Way::Foreground || said.contains("the daemon serves already (pid "), "{output:?}");
    }
    (the_one(home), worst)
}

/// Waits until all racers have ended but the daemon, if there is one; how they ended, and how long the slowest took. A
/// daemon in the foreground goes on, if it is to.
pub fn raced(home: &Home, mut racers: Vec<Racer>, needed: bool) -> (Vec<(Way, Output)>, Duration) {
    wait_until("all but the daemon have ended", || {
        let living: Vec<(Way, i32)> =
            racers.iter_mut().filter_map(|racer| racer.lives().then(|| (racer.way, racer.client.pid()))).collect();
        match living[..] {
            [] => !needed || daemons(home).len() == 1,
            [(Way::Foreground, pid)] => daemons(home) == [pid] && home.health() == Some(i64::from(pid)),
            _ => false,
        }
    });
    let worst = racers.iter().filter_map(|racer| racer.took).max().unwrap_or_default();
    assert!(worst < SOON, "{worst:?}");
    let (living, ended): (Vec<Racer>, Vec<Racer>) = racers.into_iter().partition(|racer| racer.took.is_none());
    // The daemon itself is its home's to end.
    living.into_iter().for_each(|racer| racer.client.leave());
    (ended.into_iter().map(|racer| (racer.way, racer.client.output())).collect(), worst)
}

impl Client {
    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// Lets it go on by itself; somebody reaps it when it ends.
    pub fn leave(mut self) {
        let mut child = self.child.take().unwrap();
        std::thread::spawn(move || child.wait());
    }
}

/// Ends what a test has left of its daemons; the ones that are frozen as well.
pub fn end_all(home: &Home) {
    wait_until("the daemons of the test are gone", || {
        let left = daemons(home);
        for pid in left.iter().filter(|pid| process_state(**pid).is_some()) {
            kill_if_there(*pid, KILL);
            kill_if_there(*pid, CONT);
        }
        left.is_empty()
    });
}

/// Does something so many times, some of them at once: most of it is waiting.
pub fn side_by_side(rounds: usize, body: impl Fn(usize) + Sync) {
    some_at_once(&(0..rounds).collect::<Vec<_>>(), 7, |round| body(*round));
}

/// Stops a process and waits until it is stopped.
pub fn freeze(pid: i32) {
    kill(pid, super::STOP);
    wait_until("it is stopped", || process_state(pid) == Some('T'));
}
