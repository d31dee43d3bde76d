//! Processes as /proc shows them (proc_pid_stat(5)); where there is no such place, there are none.

use std::fs::{self, File};
use std::io::{self, Read};

use super::process::Pid;

/// Whether a process is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Halt {
    /// It is not.
    No,
    /// By a signal, as Ctrl-Z does (state T).
    Stopped,
    /// By a debugger (state t).
    Traced,
}

/// What is known of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Its number; 1 too, so that it is no [`Pid`].
    pub(crate) pid: i32,
    /// Whether it is more than a zombie.
    pub(crate) live: bool,
    /// Whether it was stopped, and by whom.
    pub(crate) halt: Halt,
    /// Its parent.
    pub(crate) parent: i32,
    /// Its process group.
    pub(crate) group: i32,
    /// Its session.
    pub(crate) session: i32,
    /// When it began, in clock ticks since boot: with the number it names one process of this boot.
    pub(crate) start: u64,
}

impl Stat {
    /// Of one process, if it is there.
    pub(crate) fn of(pid: Pid) -> Option<Stat> {
        read(pid.number()).ok().flatten()
    }

    /// Of every process that can be seen. An error means that it is not known who is there.
    pub(crate) fn all() -> io::Result<Vec<Stat>> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let number = entry?.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(stat) = number.map(read).transpose()?.flatten() {
                found.push(stat);
            }
        }
        Ok(found)
    }

    /// Of a line of /proc/PID/stat.
    pub(crate) fn parse(line: &str) -> Option<Stat> {
        let (pid, rest) = line.split_once(' ')?;
        // The name in parentheses may hold anything.
        let mut fields = rest.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        Some(Stat {
            pid: pid.parse().ok()?,
            live: !matches!(state, "Z" | "X"),
            halt: match state {
                "T" => Halt::Stopped,
                "t" => Halt::Traced,
                _ => Halt::No,
            },
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
            session: fields.next()?.parse().ok()?,
            start: fields.nth(15)?.parse().ok()?,
        })
    }
}

/// None for a process that is gone, or hidden from this user (proc(5), hidepid).
fn read(pid: i32) -> io::Result<Option<Stat>> {
    let unseen = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
            || error.raw_os_error() == Some(libc::ESRCH)
    };
    // The line has less than fifty numbers and a name of at most fifteen bytes.
    let mut line = [0; 2048];
    match File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut line)) {
        Ok(count) => Ok(Stat::parse(&String::from_utf8_lossy(&line[..count]))),
        Err(error) if unseen(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks_is_no_trap() {
        let line = "12 (a) b (c) S 3 7 8 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 9 9";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat, Stat { pid: 12, live: true, halt: Halt::No, parent: 3, group: 7, session: 8, start: 12345 });
        assert_eq!(Stat::parse(&line.replace(" S ", " T ")).unwrap().halt, Halt::Stopped);
        assert_eq!(Stat::parse(&line.replace(" S ", " t ")).unwrap().halt, Halt::Traced);
        assert!(!Stat::parse(&line.replace(" S ", " Z ")).unwrap().live);
        for cut in ["", "12", "12 (x", "12 (x) S 3 7", "x (x) S 3 7 8 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345"] {
            assert_eq!(Stat::parse(cut), None, "{cut}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_found_alone_and_among_all() {
        let own = Stat::of(Pid::own()).unwrap();
        assert!(own.live && own.start > 0);
        assert!(Stat::all().unwrap().contains(&own));
    }
}
