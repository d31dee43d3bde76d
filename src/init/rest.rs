//! What a command leaves behind when it ends, and how far init's reach goes.

use std::fs;
use std::io;
use std::time::Duration;

use crate::base::time::Deadline;
use crate::sys::linux::init::{self as kernel, Found};
use crate::sys::linux::signalfd::SignalFd;
use crate::sys::poll;
use crate::sys::process::{Pid, PidHandle};
use crate::sys::signal::Signal;

/// How long killed processes are waited for: one in an uninterruptible sleep may take for ever.
const DEATH_LIMIT: Duration = Duration::from_secs(5);

/// Whom init ends after its command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// PID 1: everybody in the pid namespace.
    Everybody,
    /// A subreaper: all its descendants, which no orphan leaves.
    Descendants,
    /// Neither: the command's group. Who has left that belongs to another init.
    Group,
}

impl Rest {
    /// Signals them, while the command, whose group it may be, is not reaped yet.
    pub fn signal(self, main: Pid, signal: Signal) {
        match self {
            Rest::Everybody => kernel::kill_all(signal).unwrap_or_default(),
            Rest::Descendants | Rest::Group => {
                for process in self.members(main) {
                    process.signal(self, main, signal);
                }
            }
        }
    }

    /// Reaps all who have ended; what is left then.
    pub fn reap(self) -> io::Result<Found> {
        loop {
            match kernel::look()? {
                Found::Dead(pid, _) => kernel::reap(pid)?,
                other => return Ok(other),
            }
        }
    }

    /// Whether nobody is left that init would have to end. `false`: it is the reaping that tells.
    pub fn is_over(self, main: Pid) -> bool {
        self == Rest::Group && self.members(main).is_empty()
    }

    /// When to look again although no child has ended.
    pub fn look_again(self) -> Duration {
        match self {
            Rest::Everybody | Rest::Descendants => Duration::from_secs(1),
            Rest::Group => Duration::from_millis(20),
        }
    }

    /// Kills them until nobody is left; some may fork faster than they are found, so again and again.
    pub fn kill(self, main: Pid, signals: &SignalFd) -> io::Result<()> {
        let late = Deadline::after(DEATH_LIMIT);
        loop {
            self.signal(main, Signal::KILL);
            while signals.next()?.is_some() {}
            match self.reap()? {
                Found::NoChild => return Ok(()),
                _ if self.is_over(main) || late.expired() => return Ok(()),
                _ => {}
            }
            poll::wait_readable(signals, Some(Duration::from_millis(10)))?;
        }
    }

    fn members(self, main: Pid) -> Vec<Process> {
        let all = processes();
        match self {
            Rest::Everybody => all,
            Rest::Group => all.into_iter().filter(|process| process.group == main.number() && process.live).collect(),
            Rest::Descendants => descendants(&all, Pid::own().number()),
        }
    }
}

/// A process as proc_pid_stat(5) shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    group: i32,
    live: bool,
}

impl Process {
    /// Signals it if it still is who it was: the handle first, then the check, so that no stranger is hit.
    fn signal(self, rest: Rest, main: Pid, signal: Signal) {
        let Some(pid) = Pid::new(self.pid) else { return };
        let Ok(handle) = PidHandle::open(pid) else { return };
        let same = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok().and_then(|stat| parse(&stat));
        let belongs = same.is_some_and(|same| match rest {
            Rest::Everybody => true,
            Rest::Group => same.group == main.number(),
            // An orphan's parent is init by now.
            Rest::Descendants => same.parent == self.parent || same.parent == Pid::own().number(),
        });
        if belongs {
            handle.signal(signal).unwrap_or_default();
        }
    }
}

fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit))
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter_map(|stat| parse(&stat))
        .collect()
}

/// Pid, parent, group and whether it is no zombie, of a line of /proc/PID/stat.
fn parse(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(' ')?;
    // The name in parentheses may hold anything.
    let mut fields = rest.rsplit_once(')')?.1.split_whitespace();
    let live = !matches!(fields.next()?, "Z" | "X");
    let (parent, group) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Process { pid: pid.parse().ok()?, parent, group, live })
}

/// Those of `all` who descend from `root`.
fn descendants(all: &[Process], root: i32) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for child in all.iter().filter(|process| process.parent == parent && process.pid != root) {
            if !found.contains(child) {
                parents.push(child.pid);
                found.push(*child);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks_is_no_trap() {
        let process = parse("12 (a) b (c) S 3 7 7 0 -1 4194560").unwrap();
        assert_eq!(process, Process { pid: 12, parent: 3, group: 7, live: true });
        assert!(!parse("12 (x) Z 3 7 7 0").unwrap().live);
        assert_eq!(parse("12 (x"), None);
    }

    #[test]
    fn descendants_are_found_through_every_generation_and_nobody_else() {
        let process = |pid, parent| Process { pid, parent, group: pid, live: true };
        let all = [process(2, 1), process(3, 2), process(4, 3), process(5, 1), process(6, 5)];
        let mut found: Vec<i32> = descendants(&all, 2).iter().map(|process| process.pid).collect();
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
    }
}
