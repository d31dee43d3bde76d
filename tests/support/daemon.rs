//! Daemons of a home: how they are started, seen and ended.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use super::{CONT, Home, KILL, finish, kill, process_state, processes, wait_until};

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
        let is_lock = |name: &str| name.starts_with("daemon") && name.ends_with(".lock");
        let entries = fs::read_dir(self.state()).into_iter().flatten().flatten();
        let mut locks = entries.filter(|entry| is_lock(&entry.file_name().to_string_lossy()));
        locks.next().expect("no daemon was ever started here").path()
    }

    /// The daemon's log.
    pub fn daemon_log(&self) -> String {
        fs::read_to_string(self.state().join("daemon.log")).unwrap_or_default()
    }
}

/// The numbers of all processes of a home that are a daemon, or try to become one; zombies are not.
pub fn daemons(home: &Home) -> Vec<i32> {
    let named = processes::naming(&home.dir.to_string_lossy());
    named.iter().filter(|entry| entry.contains(" daemon start ")).map(|entry| processes::number(entry)).collect()
}

/// Ends what a test has left of its daemons; the ones that are frozen as well.
pub fn end_all(home: &Home) {
    for pid in daemons(home) {
        if process_state(pid).is_some() {
            Command::new("kill").args([format!("-{KILL}"), pid.to_string()]).output().unwrap();
            Command::new("kill").args([format!("-{CONT}"), pid.to_string()]).output().unwrap();
        }
    }
    wait_until("the daemons of the test are gone", || daemons(home).is_empty());
}

/// Stops a process and waits until it is stopped.
pub fn freeze(pid: i32) {
    kill(pid, super::STOP);
    wait_until("it is stopped", || process_state(pid) == Some('T'));
}
