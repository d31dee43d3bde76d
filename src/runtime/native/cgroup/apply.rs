//! Making groups, moving into them, emptying and removing them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Group, PREFIX};
use crate::base::error::Ignore;
use crate::base::time::Deadline;
use crate::sys::poll::wait_readable;
use crate::sys::process::{Pid, PidHandle};
use crate::sys::signal::Signal;

#[cfg(test)]
mod tests;

/// How many processes are waited for at a time: each takes a descriptor.
const AT_A_TIME: usize = 64;

/// How long they are waited for before the next look, which may find others.
const ROUND: Duration = Duration::from_millis(100);

/// After how long a group is looked at again in which nobody is seen, but which is in use. A process leaves the
/// list a little before the kernel lets go of the group, and nothing tells of that.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// What makes the end of a group's processes quick: who may use no processor cannot even die, and who cannot start
/// processes is not faster at that than we are at killing them.
const AT_THE_END: [(&str, &str); 3] = [("cpu.max", "max"), ("cpu.cfs_quota_us", "-1"), ("pids.max", "0")];

/// How often controllers are enabled that a manager takes away again before the group is there to keep them.
const TRIES: u32 = 5;

/// Makes a group and sets its values. An existing directory of that name is an error; a failure leaves no directory
/// behind. Controllers that were enabled for it stay so as long as it is there.
pub(crate) fn make(group: &Group) -> io::Result<()> {
    if !group.enable.is_empty() {
        hand_on(group.top().parent(), &group.enable)?;
    }
    match group.keeper() {
        Some(keeper) => make_keeper(keeper, &controllers(group))?,
        None => fs::create_dir(&group.dir).map_err(|error| about(&group.dir, &error))?,
    }
    let set = || {
        if group.keeper().is_some() {
            fs::create_dir(&group.dir).map_err(|error| about(&group.dir, &error))?;
        }
        inherit_processors(&group.dir)?;
        for setting in &group.values {
            match write(&group.dir.join(&setting.file), &setting.value) {
                Err(error) if setting.optional && error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    };
    set().inspect_err(|_| remove_tree(group.top()).ignore())
}

/// Those that its values are of: each file is called by its controller.
fn controllers(group: &Group) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in group.values.iter().filter_map(|setting| setting.file.split('.').next()) {
        if !names.iter().any(|other| other == name) {
            names.push(name.to_owned());
        }
    }
    names
}

fn hand_on(group: Option<&Path>, controllers: &[String]) -> io::Result<()> {
    let words: Vec<String> = controllers.iter().map(|controller| format!("+{controller}")).collect();
    write(&group.ok_or(io::ErrorKind::InvalidInput)?.join("cgroup.subtree_control"), &words.join(" "))
}

/// Makes a group that hands controllers on: while it does, its parent cannot stop doing so.
fn make_keeper(dir: &Path, controllers: &[String]) -> io::Result<()> {
    let mut tries = 1;
    loop {
        fs::create_dir(dir).map_err(|error| about(dir, &error))?;
        let Err(error) = hand_on(Some(dir), controllers) else { return Ok(()) };
        fs::remove_dir(dir).ignore();
        // The kernel says so of a controller that the parent does not hand on, or no longer.
        if error.kind() != io::ErrorKind::NotFound || tries == TRIES {
            return Err(error);
        }
        hand_on(dir.parent(), controllers)?;
        tries += 1;
    }
}

/// In version 1 a group that names no processor and no memory node can be entered by nobody, and so begins.
fn inherit_processors(dir: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let path = dir.join(file);
        // Only version 1 has that switch.
        if !dir.join("cgroup.clone_children").exists() || !path.exists() || !fs::read(&path)?.trim_ascii().is_empty() {
            continue;
        }
        let parent = dir.parent().ok_or(io::ErrorKind::InvalidInput)?;
        write(&path, fs::read_to_string(parent.join(file))?.trim_end())?;
    }
    Ok(())
}

/// Opens a group for being entered. Who opens it is whom the kernel asks for the right to enter, whoever writes.
pub(crate) fn door(group: &Group) -> io::Result<File> {
    let path = group.dir.join("cgroup.procs");
    OpenOptions::new().write(true).open(&path).map_err(|error| about(&path, &error))
}

/// Moves the calling process, which has one thread, into a group. The limits hold for it and for what it starts from
/// then on; memory that it has already stays counted where it was.
pub(crate) fn enter(mut door: &File) -> io::Result<()> {
    // Who writes it, whatever number that one has in its pid namespace (cgroups(7)).
    door.write_all(b"0")
}

/// Kills what is still in it or below it, and removes it. One that does not exist is fine. An error leaves it, and
/// removing it can be tried again. Of several groups the first of the plan comes first, since the processes of the
/// others may wait for what it limits.
pub(crate) fn remove(dir: &Path, deadline: Deadline) -> io::Result<()> {
    // Everything in it is killed: a path that went astray must not name anybody else's.
    let is_ours = dir.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX));
    if !is_ours {
        return Err(about(dir, &io::Error::new(io::ErrorKind::InvalidInput, "it is no group of a run")));
    }
    loop {
        let Err(error) = remove_tree(dir) else { return Ok(()) };
        // The kernel says so of a group with processes or groups; ENOTEMPTY is a file system's word.
        if !matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::DirectoryNotEmpty) {
            return Err(about(dir, &error));
        }
        if deadline.expired() {
            return Err(about(dir, &io::Error::new(io::ErrorKind::TimedOut, "its processes do not end")));
        }
        let killed = match kill(dir) {
            // Somebody else removed it meanwhile.
            Err(_) if !dir.exists() => return Ok(()),
            killed => killed?,
        };
        let round = Deadline::after(if killed.is_empty() { LOOK_AGAIN } else { ROUND }).min(deadline);
        for process in &killed {
            wait_readable(process, round.remaining())?;
        }
        if killed.is_empty() {
            round.wait();
        }
    }
}

/// The file that counts kills for memory in a group that exists, if it has one: the number of its line `oom_kill`.
pub(crate) fn oom_counter(group: &Group) -> Option<PathBuf> {
    // In version 2 with those in groups below it; version 1 counts since Linux 4.13.
    let files = ["memory.events", "memory.oom_control"].map(|file| group.dir.join(file));
    files.into_iter().find(|file| file.exists())
}

/// The groups directly in one. What is gone has none.
fn children(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let entry = match entry {
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            entry => entry?,
        };
        // Without following links.
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Removes a group and those below it, as far as nobody is in them. The first that cannot be removed ends it.
fn remove_tree(dir: &Path) -> io::Result<()> {
    for child in children(dir)? {
        remove_tree(&child)?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Kills what is in a group and below it, some of it where there is much; returns those to wait for.
fn kill(dir: &Path) -> io::Result<Vec<PidHandle>> {
    let mut groups = vec![dir.to_owned()];
    let mut at = 0;
    while let Some(group) = groups.get(at) {
        groups.extend(children(group)?);
        at += 1;
    }
    for (group, (file, value)) in groups.iter().flat_map(|group| AT_THE_END.map(|setting| (group, setting))) {
        // Most groups lack most of these, and without them it only takes longer.
        write(&group.join(file), value).ignore();
    }
    let mut handles = Vec::new();
    for group in &groups {
        handles.extend(hold(group, AT_A_TIME - handles.len())?);
    }
    // All at once, with those that are being forked (Linux 5.14, version 2).
    let at_once = dir.join("cgroup.kill");
    if at_once.exists() {
        write(&at_once, "1")?;
        return Ok(handles);
    }
    for handle in &handles {
        match handle.signal(Signal::KILL) {
            // It has ended by itself.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            other => other.map_err(|error| about(dir, &error))?,
        }
    }
    Ok(handles)
}

/// Handles of processes in a group. First the handle, then another look: a number that is still in the list then
/// means a process of the group, and if it is not the one of the handle, that one has ended.
fn hold(group: &Path, most: usize) -> io::Result<Vec<PidHandle>> {
    let mut held = Vec::new();
    let listed = processes(group)?;
    if listed.contains(&Pid::own().number()) {
        return Err(about(group, &io::Error::new(io::ErrorKind::InvalidInput, "this process is in it")));
    }
    for pid in listed.into_iter().filter_map(Pid::new).take(most) {
        match PidHandle::open(pid) {
            Ok(handle) => held.push((pid, handle)),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            // What is held can be killed; the rest is for the next round.
            Err(error) if error.raw_os_error() == Some(libc::EMFILE) && !held.is_empty() => break,
            Err(error) => return Err(about(group, &error)),
        }
    }
    let still = processes(group)?;
    Ok(held.into_iter().filter(|(pid, _)| still.contains(&pid.number())).map(|(_, handle)| handle).collect())
}

/// The numbers of the processes in a group; 0 for those of other pid namespaces, which have none here.
fn processes(group: &Path) -> io::Result<Vec<i32>> {
    match fs::read_to_string(group.join("cgroup.procs")) {
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        // It went away meanwhile (its open file says ENODEV), or is threaded: then it has none of its own.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EOPNOTSUPP)) => Ok(Vec::new()),
        Err(error) => Err(about(group, &error)),
    }
}

/// Writes a value in one piece to a file that exists.
fn write(path: &Path, value: &str) -> io::Result<()> {
    let write = || OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes());
    write().map_err(|error| io::Error::new(error.kind(), format!("writing {value:?} to {}: {error}", path.display())))
}

fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the control group {}: {error}", path.display()))
}
