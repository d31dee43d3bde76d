//! Where control groups are mounted and where this process is in them: text of /proc as values, and a look at a group.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::sys::fd::{writable, writable_file};

/// What there is of control groups.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    mounts: Vec<Mount>,
    own: Vec<Own>,
}

/// A mount of a hierarchy, or of a part of one.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// What the hierarchy controls; `None`: it is that of version 2.
    controllers: Option<Vec<String>>,
    /// The group that it shows at its mount point, seen from the root of the cgroup namespace.
    root: String,
    point: PathBuf,
}

/// The group that this process is in, of one hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Own {
    /// As in [`Mount`].
    controllers: Option<Vec<String>>,
    /// Seen from the root of the cgroup namespace.
    path: String,
}

/// A group of this process, in the file system.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The highest group that can be seen: the mount point.
    pub(crate) top: PathBuf,
    /// The own one, at or below `top`.
    pub(crate) own: PathBuf,
}

/// Why this process's own group cannot be found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Nowhere {
    /// Its hierarchy is not mounted.
    Unmounted,
    /// It is, but shows another part, or is hidden by another mount.
    Elsewhere(PathBuf),
}

/// What a look at a group's directory shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    /// Whether it is the root of the whole hierarchy, not only of a namespace. Version 2.
    pub(crate) is_root: bool,
    /// Whether its children may take processes of any kind: it is no part of a threaded tree. Version 2.
    pub(crate) is_domain: bool,
    /// Whether no process sits in it itself. Version 2.
    pub(crate) is_empty: bool,
    /// What it could hand on. Version 2.
    pub(crate) offered: Vec<String>,
    /// What it does hand on. Version 2.
    pub(crate) enabled: Vec<String>,
    /// Whether a group can be made in it.
    pub(crate) can_make: bool,
    /// Whether a process can be moved into it, and so out of it.
    pub(crate) can_move: bool,
    /// Whether it can be told to hand on more. Version 2.
    pub(crate) can_enable: bool,
}

impl Machine {
    /// The one this runs on. What cannot be read is not there.
    pub(crate) fn read() -> Machine {
        let text = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        Machine::parse(&text("/proc/self/mountinfo"), &text("/proc/self/cgroup"))
    }

    /// Of the texts of /proc/self/mountinfo (proc_pid_mountinfo(5)) and /proc/self/cgroup (cgroups(7)).
    pub(crate) fn parse(mountinfo: &str, own: &str) -> Machine {
        let mounts = mountinfo.lines().filter_map(Mount::parse).collect();
        Machine { mounts, own: own.lines().filter_map(Own::parse).collect() }
    }

    /// Whether there are control groups of any kind.
    pub(crate) fn has_groups(&self) -> bool {
        !self.mounts.is_empty()
    }

    /// Whether a controller has a hierarchy of version 1; then version 2 has it not.
    pub(crate) fn is_old(&self, controller: &str) -> bool {
        self.own.iter().any(|own| names(&own.controllers, controller))
    }

    /// How the hierarchy of version 1 that has a controller is called: by all that it has.
    pub(crate) fn hierarchy(&self, controller: &str) -> String {
        let own = self.own.iter().find(|own| names(&own.controllers, controller));
        own.and_then(|own| own.controllers.as_ref()).map(|names| names.join(",")).unwrap_or_default()
    }

    /// Whether there is a hierarchy of version 1.
    pub(crate) fn has_old(&self) -> bool {
        self.own.iter().any(|own| own.controllers.is_some())
    }

    /// Finds this process's group in the hierarchy of version 1 that has a controller, or in that of version 2.
    pub(crate) fn find(&self, old: Option<&str>, look: &dyn Fn(&Path) -> Option<Seen>) -> Result<Place, Nowhere> {
        let is_it = |controllers: &Option<Vec<String>>| match old {
            Some(controller) => names(controllers, controller),
            None => controllers.is_none(),
        };
        let own = self.own.iter().find(|own| is_it(&own.controllers)).ok_or(Nowhere::Unmounted)?;
        let mounts: Vec<&Mount> = self.mounts.iter().filter(|mount| is_it(&mount.controllers)).collect();
        let places = mounts.iter().filter_map(|mount| mount.place(&own.path));
        // The one that shows the most. Something else may be mounted above it.
        let seen = places.filter(|place| look(&place.own).is_some());
        let depth = |place: &Place| place.own.components().count() - place.top.components().count();
        seen.max_by_key(depth).ok_or_else(|| match mounts.last() {
            Some(mount) => Nowhere::Elsewhere(mount.point.clone()),
            None => Nowhere::Unmounted,
        })
    }
}

fn names(controllers: &Option<Vec<String>>, controller: &str) -> bool {
    controllers.as_ref().is_some_and(|names| names.iter().any(|name| name == controller))
}

impl Mount {
    /// Of a line `ID PARENT DEVICE ROOT POINT OPTIONS [FIELD…] - TYPE SOURCE SUPEROPTIONS`, if it is one of ours.
    fn parse(line: &str) -> Option<Mount> {
        let (mount, kind) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let mut kind = kind.split(' ');
        let (root, point) = (unescape(mount.next()?), unescape(mount.next()?));
        let controllers = match kind.next()? {
            "cgroup" => Some(kind.nth(1)?.split(',').map(str::to_owned).collect()),
            "cgroup2" => None,
            _ => return None,
        };
        Some(Mount { controllers, root, point: point.into() })
    }

    /// Where a group is below it, if it shows that one.
    fn place(&self, group: &str) -> Option<Place> {
        // As long as both begin with the same steps up they begin at the same group. What is left must lead down:
        // what lies between a root of `/..` and one of `/` has names that cannot be known.
        let below = Path::new(group).strip_prefix(&self.root).ok()?;
        let leads_down = below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        leads_down.then(|| Place { top: self.point.clone(), own: self.point.join(below).components().collect() })
    }
}

impl Own {
    /// Of a line `NUMBER:CONTROLLERS:PATH`.
    fn parse(line: &str) -> Option<Own> {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let controllers = (number != "0").then(|| controllers.split(',').map(str::to_owned).collect());
        Some(Own { controllers, path: path.to_owned() })
    }
}

/// A field of mountinfo, in which blanks and backslashes are three octal digits.
fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                out.push_str(&part[3..]);
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

/// Looks at a directory; `None`: it is no control group.
pub(crate) fn look(dir: &Path) -> Option<Seen> {
    let processes = dir.join("cgroup.procs");
    processes.exists().then(|| {
        let words = |file| -> Vec<String> {
            let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
            text.split_whitespace().map(str::to_owned).collect()
        };
        // Both files are in every group but the root.
        let is_root = !dir.join("cgroup.events").exists();
        let kind = words("cgroup.type");
        Seen {
            is_root,
            is_domain: kind.is_empty() || kind == ["domain"],
            // A threaded group refuses the read.
            is_empty: File::open(&processes).and_then(|mut file| file.read(&mut [0])).is_ok_and(|count| count == 0),
            offered: words("cgroup.controllers"),
            enabled: words("cgroup.subtree_control"),
            can_make: writable(dir),
            can_move: writable_file(&processes),
            can_enable: writable_file(&dir.join("cgroup.subtree_control")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::random_hex;

    fn place(top: &str, own: &str) -> Option<Place> {
        Some(Place { top: top.into(), own: own.into() })
    }

    #[test]
    fn lines_of_proc_are_understood() {
        let line =
            "35 31 0:32 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:7 master:2 - cgroup cgroup rw,cpu,cpuacct";
        let mount = Mount::parse(line).unwrap();
        let words = ["rw", "cpu", "cpuacct"].map(String::from).to_vec();
        let expected = Mount { controllers: Some(words), root: "/".into(), point: "/sys/fs/cgroup/cpu,cpuacct".into() };
        assert_eq!(mount, expected);
        let mount = Mount::parse("30 23 0:26 /../.. /a\\040b\\134c ro,nosuid - cgroup2 cgroup2 rw,nsdelegate").unwrap();
        assert_eq!(mount, Mount { controllers: None, root: "/../..".into(), point: "/a b\\c".into() });
        for other in ["", "22 27 0:21 / /proc rw - proc proc rw", "22 27 0:21 / /proc - cgroup", "1 2 3 - cgroup2 x rw"]
        {
            assert_eq!(Mount::parse(other), None, "{other}");
        }
        assert_eq!(unescape("\\x\\04"), "\\x\\04");

        assert_eq!(Own::parse("0::/a:b"), Some(Own { controllers: None, path: "/a:b".into() }));
        let words = ["cpu", "cpuacct"].map(String::from).to_vec();
        assert_eq!(Own::parse("4:cpu,cpuacct:/"), Some(Own { controllers: Some(words), path: "/".into() }));
        assert_eq!(Own::parse("4:cpu"), None);
    }

    #[test]
    fn a_mount_shows_what_begins_with_its_root() {
        for (root, group, expected) in [
            ("/", "/", place("/c", "/c")),
            ("/", "/a/b", place("/c", "/c/a/b")),
            ("/a", "/a/b", place("/c", "/c/b")),
            ("/a", "/a", place("/c", "/c")),
            ("/a", "/ab", None),
            ("/a/b", "/a", None),
            // Of a namespace whose root lies further up or aside.
            ("/", "/../a", None),
            ("/..", "/", None),
            ("/..", "/../a", place("/c", "/c/a")),
            ("/..", "/../../a", None),
            ("/../..", "/../../a/b", place("/c", "/c/a/b")),
            ("/../a", "/../a/b", place("/c", "/c/b")),
        ] {
            let mount = Mount { controllers: None, root: root.into(), point: "/c".into() };
            assert_eq!(mount.place(group), expected, "{root} {group}");
        }
    }

    #[test]
    fn the_mount_is_taken_that_shows_this_group_and_most_of_the_way_to_it() {
        let mount = |root: &str, point: &str, rest: &str| format!("1 1 0:1 {root} {point} rw - {rest}\n");
        let lines = [
            mount("/x", "/x", "cgroup2 c rw"),
            mount("/a", "/part", "cgroup2 c rw"),
            mount("/", "/whole", "cgroup2 c rw"),
            mount("/", "/hidden", "cgroup2 c rw"),
            mount("/", "/v1/memory", "cgroup c rw,memory"),
        ];
        let machine = Machine::parse(&lines.concat(), "3:memory:/m\n2:pids:/\n1:name=systemd:/\n0::/a/b\n");
        let look = |dir: &Path| (!dir.starts_with("/hidden")).then(Seen::default);
        assert_eq!(machine.find(None, &look).ok(), place("/whole", "/whole/a/b"));
        assert_eq!(
            machine.find(None, &|dir| look(dir).filter(|_| dir.starts_with("/part"))).ok(),
            place("/part", "/part/b")
        );
        assert_eq!(machine.find(None, &|_| None), Err(Nowhere::Elsewhere("/hidden".into())));
        assert_eq!(machine.find(Some("memory"), &look).ok(), place("/v1/memory", "/v1/memory/m"));
        assert_eq!(machine.find(Some("pids"), &look), Err(Nowhere::Unmounted));
        assert_eq!(machine.find(Some("cpu"), &look), Err(Nowhere::Unmounted));
        assert_eq!(Machine::default().find(None, &look), Err(Nowhere::Unmounted));
        assert!(machine.is_old("pids") && !machine.is_old("cpu") && machine.has_groups());
        assert!(!Machine::parse("", "0::/").has_groups());
    }

    #[test]
    fn a_look_reads_what_is_there() {
        let dir = std::env::temp_dir().join(format!("fosse-look-{}", random_hex(8).unwrap()));
        fs::create_dir(&dir).unwrap();
        assert_eq!(look(&dir), None);
        let write = |file: &str, text: &str| fs::write(dir.join(file), text).unwrap();
        write("cgroup.procs", "");
        let root =
            Seen { is_root: true, is_domain: true, is_empty: true, can_make: true, can_move: true, ..Seen::default() };
        assert_eq!(look(&dir), Some(root.clone()));
        write("cgroup.procs", "12\n");
        write("cgroup.events", "populated 1\nfrozen 0\n");
        write("cgroup.type", "domain\n");
        write("cgroup.controllers", "cpu memory pids\n");
        write("cgroup.subtree_control", "memory\n");
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        let (offered, enabled) = (words("cpu memory pids"), words("memory"));
        let seen = Seen { is_root: false, is_empty: false, offered, enabled, can_enable: true, ..root };
        assert_eq!(look(&dir), Some(seen.clone()));
        for threaded in ["threaded", "domain threaded", "domain invalid"] {
            write("cgroup.type", threaded);
            assert_eq!(look(&dir), Some(Seen { is_domain: false, ..seen.clone() }), "{threaded}");
        }
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn this_process_is_where_it_is_said_to_be() {
        let machine = Machine::read();
        let own = |place: &Place| fs::read_to_string(place.own.join("cgroup.procs")).unwrap();
        let places = [None, Some("memory"), Some("cpu"), Some("pids")].map(|old| machine.find(old, &look));
        for place in places.iter().flatten() {
            let pid = std::process::id().to_string();
            assert!(own(place).lines().any(|line| line == pid), "{place:?}");
        }
    }
}
