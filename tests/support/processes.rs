//! Processes as /proc shows them.

use std::fs;

/// The numbers of all processes.
fn all() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Processes that have a text in their arguments or environment, other than this one, each with its number first.
pub fn naming(needle: &str) -> Vec<String> {
    let own = i32::try_from(std::process::id()).unwrap();
    let mut found = Vec::new();
    for pid in all().filter(|pid| *pid != own) {
        let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let text = [read("cmdline"), read("environ")].concat();
        // A zombie has neither, and is its parent's business.
        // An engine of the test's own is not what is looked for.
        let text = String::from_utf8_lossy(&text).into_owned();
        if text.contains(needle) && !text.contains("own-engine") {
            found.push(format!("{pid} {}", String::from_utf8_lossy(&read("cmdline")).replace('\0', " ")));
        }
    }
    found
}

/// Processes in a place of its own (another mount namespace) that is shown a directory, or whose environment has one of
/// the lines, each with its number first.
pub fn inside(shown: &str, lines: &[String]) -> Vec<String> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let own = namespace("self");
    let is_inside = |pid: &i32| {
        let there = namespace(&pid.to_string());
        if there.is_none() || there == own {
            return false;
        }
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        let mut roots = mounts.lines().filter_map(|line| line.split(' ').nth(3));
        // An engine of the test's own is not what is looked for.
        variables.any(|variable| lines.iter().any(|line| line.as_bytes() == variable))
            || roots.any(|root| root.contains(shown) && !root.contains("own-engine"))
    };
    let command = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
    all().filter(is_inside).map(|pid| format!("{pid} {}", command(pid))).collect()
}

/// The number in front of an entry of [`naming`].
pub fn number(entry: &str) -> i32 {
    entry.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no number: {entry}"))
}

/// State and parent of a process (proc_pid_stat(5)), if it exists.
fn state_and_parent(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// The parent of a process, if it exists.
pub fn parent_if_any(pid: i32) -> Option<i32> {
    Some(state_and_parent(pid)?.1)
}

/// The parent of a process that exists.
pub fn parent(pid: i32) -> i32 {
    state_and_parent(pid).unwrap_or_else(|| panic!("there is no process {pid}")).1
}

/// The children of a process, zombies included, with their states.
pub fn children(of: i32) -> Vec<(i32, char)> {
    let states = all().filter_map(|pid| Some((pid, state_and_parent(pid)?)));
    states.filter(|(_, (_, parent))| *parent == of).map(|(pid, (state, _))| (pid, state)).collect()
}

/// The name of a process's program, empty if there is no such process.
pub fn name(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// A field of `/proc/PID/status`.
pub fn status_field(pid: i32, name: &str) -> String {
    status_field_if_any(pid, name).unwrap_or_else(|| panic!("no {name} of process {pid}"))
}

/// The same of a process that may be gone.
pub fn status_field_if_any(pid: i32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map(|value| value.trim().to_owned())
}
