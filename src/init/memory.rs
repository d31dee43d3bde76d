//! Whether the kernel killed for memory: the counter of the place's own control group.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Where it stands, in version 2 and 1 of control groups (Linux 4.13 and later count kills).
const FILES: [&str; 2] = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];

/// The counter, and what it was. The file stays open: later there may be no descriptor to be had.
pub(crate) struct OomKills(Option<(File, u64)>);

impl OomKills {
    /// As it is before the command starts.
    pub(crate) fn now() -> OomKills {
        let found = FILES.into_iter().find_map(|path| OomKills::in_file(File::open(path).ok()).0);
        OomKills(found)
    }

    /// The same in a file that is open already, if there is one.
    pub(crate) fn in_file(file: Option<File>) -> OomKills {
        OomKills(file.and_then(|file| {
            let count = count(&file).ok()??;
            Some((file, count))
        }))
    }

    /// Whether there were kills since then.
    pub(crate) fn rose(&self) -> bool {
        self.0.as_ref().is_some_and(|(file, before)| count(file).is_ok_and(|count| count > Some(*before)))
    }
}

fn count(file: &File) -> io::Result<Option<u64>> {
    let mut bytes = [0; 1024];
    let length = file.read_at(&mut bytes, 0)?;
    Ok(parse(&bytes[..length]))
}

/// The number of the line `oom_kill N`.
fn parse(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_understood() {
        assert_eq!(parse(b"low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(parse(b"oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), Some(7));
        assert_eq!(parse(b"oom_kill_disable 0\nunder_oom 0\n"), None);
    }
}
