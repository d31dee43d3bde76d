//! The processes of one more command, seen from the host where they can be: by a mark in their environment. And the run's
//! own command behind an engine's init, which passes no signal on to a group.
//!
//! No engine's client passes signals on to what it started by `exec`, and none tells its process. But each such
//! command gets a variable of its own with a random value, and its descendants inherit it. Where this user may read
//! the environment of processes in the container (as root, or with a rootless engine on this machine), they are
//! found in /proc and signalled through handles that never come to mean a stranger. What drops the variable and
//! leaves the command's session is not found; nor is a command that replaces its own environment.

use std::ffi::OsString;

use super::carry::words;
use super::{EXEC_MARK, Whom};
use crate::base::time::Deadline;
use crate::sys::signal::Signal;

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// A process took the signal.
    Sent,
    /// The container's processes can be seen, and none is meant.
    NoneThere,
    /// They cannot be seen or signalled from here.
    Blind,
}

/// Whose processes: the engine's id of the container, if it is known, and the mark of one more command; without one it
/// is the container's own command behind its init.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "nothing is seen there"))]
pub(crate) struct Target<'a> {
    /// Part of the path of their control group, where the engine makes one.
    pub(crate) container_id: Option<&'a str>,
    /// `NAME=VALUE`.
    pub(crate) mark: Option<&'a str>,
}

/// Signals the command itself, or its process group.
pub(crate) fn signal(target: Target<'_>, signal: Signal, whom: Whom) -> Attempt {
    platform::signal(target, signal, whom)
}

/// Kills the command and everything it started, as far as that can be known; looks until nothing is left.
pub(crate) fn kill(target: Target<'_>, deadline: Deadline) -> Attempt {
    platform::kill(target, deadline)
}

/// How far a signal from inside goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// To the command, or its group.
    Of(Whom),
    /// To every process that carries its mark.
    All,
}

/// The same from inside, by a shell of the image, as far as its user may. It ends with 0 if there was somebody, and with
/// 3 if there was nobody.
pub(crate) fn script(mark: &str, signal: &str, reach: Reach) -> Vec<OsString> {
    // The command goes first: it would say what became of its children, and start others.
    const SCRIPT: &str = r#"
sent= mates=
say() {
    # One shell wants it before a group, another takes it for a process.
    if kill -s 0 -- "$2" 2>/dev/null; then kill -s "$1" -- "$2" 2>/dev/null; else kill -s "$1" "$2" 2>/dev/null; fi
}
send() {
    for dir in /proc/[0-9]*; do
        mine=
        { while IFS= read -r line || [ -n "$line" ]; do
            case $line in *"$1"*) mine=1; break ;; esac
        done <"$dir/environ"; } 2>/dev/null
        [ -n "$mine" ] || continue
        { IFS= read -r stat <"$dir/stat"; } 2>/dev/null || continue
        parent=${stat##*) }
        parent=${parent#* }
        group=${parent#* }
        parent=${parent%% *}
        group=${group%% *} whom=${dir#/proc/}
        case $3 in
        all) ;;
        mates) [ "$group" = "$mates" ] || continue ;;
        *) [ "$parent" = 0 ] || continue ;;
        esac
        if [ "$3" = group ]; then
            # One whose number cannot be seen here is who belongs to it.
            if [ "$group" -le 1 ]; then mates=$group; continue; fi
            whom=-$group
        fi
        say "$2" "$whom" && sent=1
    done
}
case $3 in
all) send "$1" "$2" first; send "$1" "$2" all ;;
group) send "$1" "$2" group; [ -z "$mates" ] || send "$1" "$2" mates ;;
*) send "$1" "$2" "$3" ;;
esac
[ -n "$sent" ] || exit 3
"#;
    let mark = format!("{EXEC_MARK}={mark}");
    let which = match reach {
        Reach::Of(Whom::Command) => "first",
        Reach::Of(Whom::Group) => "group",
        Reach::All => "all",
    };
    words(["sh", "-c", SCRIPT, "fosse-signal", &mark, signal, which])
}

/// The same for the container's own command behind its init: of init's children, the one that has been there longest.
pub(crate) fn script_for_the_command(signal: &str, whom: Whom) -> Vec<OsString> {
    const SCRIPT: &str = r#"
signal=$1 to=$2 first= whom=
for dir in /proc/[0-9]*; do
    { IFS= read -r stat <"$dir/stat"; } 2>/dev/null || continue
    set -- ${stat##*) }
    [ "$2" = 1 ] || continue
    if [ -n "$first" ] && [ "${20}" -ge "$first" ]; then continue; fi
    first=${20} whom=${dir#/proc/}
    if [ "$to" = group ] && [ "$3" -gt 1 ]; then whom=-$3; fi
done
[ -n "$whom" ] || exit 3
# One shell wants it before a group, another takes it for a process.
if kill -s 0 -- "$whom" 2>/dev/null; then kill -s "$signal" -- "$whom"; else kill -s "$signal" "$whom"; fi || exit 3
"#;
    let to = if whom == Whom::Group { "group" } else { "command" };
    words(["sh", "-c", SCRIPT, "fosse-signal", signal, to])
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use super::{Attempt, Deadline, Signal, Target, Whom};

    pub(crate) fn signal(_: Target<'_>, _: Signal, _: Whom) -> Attempt {
        Attempt::Blind
    }

    pub(crate) fn kill(_: Target<'_>, _: Deadline) -> Attempt {
        Attempt::Blind
    }
}

#[cfg(target_os = "linux")]
mod platform {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use super::{Attempt, Deadline, Signal, Target, Whom};
    use crate::sys::process::{Pid, PidHandle};
    use crate::sys::stat::Stat;

    /// Between two looks, while processes are dying.
    const LOOK_AGAIN: Duration = Duration::from_millis(10);

    /// A process of the container (proc_pid_stat(5)).
    #[derive(Debug)]
    struct Process {
        pid: i32,
        parent: i32,
        group: i32,
        session: i32,
        /// In clock ticks since the boot: with the number, its identity.
        started: u64,
        /// Whether it carries the mark; `None`: that may not be known.
        marked: Option<bool>,
        /// Whether its parent is in no container: an engine started it.
        first: bool,
        /// Whether its parent is the container's init.
        below_init: bool,
    }

    pub(crate) fn signal(target: Target<'_>, signal: Signal, whom: Whom) -> Attempt {
        let seen = look(target);
        let command = match target.mark {
            Some(_) => seen.iter().find(|process| process.first && process.marked == Some(true)),
            // What init has adopted began later.
            None => seen.iter().filter(|process| process.below_init).min_by_key(|process| process.started),
        };
        let Some(command) = command else { return nobody(&seen) };
        if !send(command, signal) {
            return Attempt::Blind;
        }
        // An init in the same group would pass it on once more.
        let not = [command.pid, command.parent];
        let others = |process: &&Process| process.group == command.group && !not.contains(&process.pid);
        if whom == Whom::Group {
            for process in seen.iter().filter(others) {
                // One that has ended meanwhile takes none.
                send(process, signal);
            }
        }
        Attempt::Sent
    }

    pub(crate) fn kill(target: Target<'_>, deadline: Deadline) -> Attempt {
        let mut attempt = Attempt::NoneThere;
        loop {
            let seen = look(target);
            let meant = family(&seen);
            if meant.is_empty() {
                return if attempt == Attempt::Sent { attempt } else { nobody(&seen) };
            }
            // One that has just ended takes no signal, and is not there at the next look.
            if meant.iter().any(|process| send(process, Signal::KILL)) {
                attempt = Attempt::Sent;
            }
            if deadline.expired() {
                return Attempt::Blind;
            }
            Deadline::after(LOOK_AGAIN).wait();
        }
    }

    fn nobody(seen: &[Process]) -> Attempt {
        if seen.iter().any(|process| process.marked.is_some()) { Attempt::NoneThere } else { Attempt::Blind }
    }

    /// Those with the mark, those in a session that one of them leads, and all their descendants.
    fn family(seen: &[Process]) -> Vec<&Process> {
        let marked = |process: &&Process| process.marked == Some(true);
        let mut pids: BTreeSet<i32> = seen.iter().filter(marked).map(|process| process.pid).collect();
        loop {
            let belongs = |process: &&Process| pids.contains(&process.parent) || pids.contains(&process.session);
            let more: Vec<i32> = seen.iter().filter(belongs).map(|process| process.pid).collect();
            let before = pids.len();
            pids.extend(more);
            if pids.len() == before {
                let mut meant: Vec<&Process> = seen.iter().filter(|process| pids.contains(&process.pid)).collect();
                // The command goes first: it would say what became of its children, and start others.
                meant.sort_by_key(|process| !process.first);
                return meant;
            }
        }
    }

    /// Signals exactly that process: the handle is opened first, and then it is looked at once more.
    fn send(process: &Process, signal: Signal) -> bool {
        let handle = Pid::new(process.pid).and_then(|pid| PidHandle::open(pid).ok());
        let same = Pid::new(process.pid).and_then(Stat::of).is_some_and(|stat| stat.start == process.started);
        same && handle.is_some_and(|handle| handle.signal(signal).is_ok())
    }

    fn directory(pid: i32) -> PathBuf {
        Path::new("/proc").join(pid.to_string())
    }

    /// The container's processes, as far as they can be told.
    fn look(target: Target<'_>) -> Vec<Process> {
        let here = depth(Path::new("/proc/self")).unwrap_or(1);
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(|pid| examine(pid, here, target)).collect()
    }

    fn examine(pid: i32, here: usize, target: Target<'_>) -> Option<Process> {
        let directory = directory(pid);
        // Only what is in a pid namespace below this one: the engine's tool itself has the mark as well.
        depth(&directory).filter(|depth| *depth > here)?;
        let stat = Pid::new(pid).and_then(Stat::of).filter(|stat| stat.live)?;
        let marked = target.mark.and_then(|mark| {
            let bytes = std::fs::read(directory.join("environ")).ok()?;
            Some(bytes.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()))
        });
        let inside = || {
            let group = std::fs::read_to_string(directory.join("cgroup")).unwrap_or_default();
            target.container_id.is_some_and(|id| !id.is_empty() && group.contains(id))
        };
        if marked != Some(true) && !inside() {
            return None;
        }
        let parents = numbers(&self::directory(stat.parent));
        let first = parents.as_ref().is_none_or(|numbers| numbers.len() <= here);
        let below_init = !first && parents.is_some_and(|numbers| numbers.last().is_some_and(|last| last == "1"));
        let Stat { parent, group, session, start: started, .. } = stat;
        Some(Process { pid, parent, group, session, started, marked, first, below_init })
    }

    /// The numbers that a process has in the pid namespaces that it is in, counted from that of this /proc.
    fn numbers(directory: &Path) -> Option<Vec<String>> {
        let status = std::fs::read_to_string(directory.join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        Some(line.split_whitespace().map(str::to_owned).collect())
    }

    /// How many those are.
    fn depth(directory: &Path) -> Option<usize> {
        numbers(directory).map(|numbers| numbers.len())
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn process(pid: i32, parent: i32, session: i32, marked: bool) -> Process {
            let (group, marked) = (session, Some(marked));
            Process { pid, parent, group, session, started: 0, marked, first: false, below_init: false }
        }

        #[test]
        fn a_family_is_what_is_marked_its_sessions_and_its_descendants() {
            let all = [
                process(10, 1, 10, true),
                // Dropped the mark, and was adopted; the session tells.
                process(11, 2, 10, false),
                // Dropped the mark and the session; its parent tells.
                process(12, 11, 12, false),
                process(13, 12, 13, false),
                // The container's own command, and another one.
                process(2, 1, 2, false),
                process(20, 1, 20, false),
            ];
            let pids: Vec<i32> = family(&all).iter().map(|process| process.pid).collect();
            assert_eq!(pids, [10, 11, 12, 13]);
        }

        #[test]
        fn what_is_not_in_a_container_is_never_meant() {
            // This process has it, as whoever started the tests; no container does.
            let variable = |name: &str| Some(format!("{name}={}", crate::base::env::get(name)?.to_str()?));
            let mark = variable("CARGO_MANIFEST_DIR").unwrap_or_else(|| "NOBODY=has this".into());
            for mark in [Some(&*mark), None] {
                let target = Target { container_id: None, mark };
                assert_eq!(signal(target, Signal::CONT, Whom::Group), Attempt::Blind);
            }
        }
    }
}
