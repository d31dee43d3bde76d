//! The table of mounts (proc(5), mountinfo).

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::is_shown;

/// File systems that hold no files but views of the kernel, wherever they are mounted. One of them, autofs, even
/// mounts something when it is looked into.
const PSEUDO: [&str; 20] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "sysfs",
    "tracefs",
];

/// File systems of which each look may be a question to somebody far away.
const REMOTE: [&str; 9] = ["9p", "afs", "ceph", "cifs", "lustre", "ncpfs", "nfs", "nfs4", "smb3"];

/// A line of the table.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// major:minor.
    device: Vec<u8>,
    /// Which directory of the file system is mounted.
    root: PathBuf,
    point: PathBuf,
    kind: Vec<u8>,
}

impl Mount {
    fn is_pseudo(&self) -> bool {
        PSEUDO.iter().any(|kind| kind.as_bytes() == self.kind)
    }

    fn is_remote(&self) -> bool {
        // A file system of a user's own program is refused to everybody else, root included, and as slow as it likes.
        self.kind.starts_with(b"fuse") || REMOTE.iter().any(|kind| kind.as_bytes() == self.kind)
    }
}

/// All mounts that are visible from here.
pub(crate) struct Mounts {
    all: Vec<Mount>,
    /// The one on top at each point.
    at: HashMap<Vec<u8>, usize>,
}

impl Mounts {
    /// Reads the table. A line that is none is passed over: the kernel writes no such line.
    pub(crate) fn parse(table: &[u8]) -> Mounts {
        Mounts::of(table.split(|byte| *byte == b'\n').filter_map(parse_line).collect())
    }

    fn of(all: Vec<Mount>) -> Mounts {
        let at = all.iter().enumerate().map(|(index, mount)| (mount.point.as_os_str().as_bytes().to_vec(), index));
        let at = at.collect();
        Mounts { all, at }
    }

    /// The same mounts with their paths below a root, and none of the others.
    pub(crate) fn below(self, root: &Path) -> Mounts {
        let below = |mount: Mount| {
            let point = Path::new("/").join(mount.point.strip_prefix(root).ok()?);
            Some(Mount { point, ..mount })
        };
        Mounts::of(self.all.into_iter().filter_map(below).collect())
    }

    /// Where something is mounted.
    pub(crate) fn points(&self) -> impl Iterator<Item = &Path> {
        self.all.iter().map(|mount| mount.point.as_path())
    }

    /// Where file systems are that somebody far away, or a user's own program, answers for.
    pub(crate) fn remote(&self) -> impl Iterator<Item = &Path> {
        self.all.iter().filter(|mount| mount.is_remote()).map(|mount| mount.point.as_path())
    }

    /// Whether a pseudo file system is mounted exactly here.
    pub(crate) fn is_pseudo(&self, path: &[u8]) -> bool {
        self.at.get(path).is_some_and(|index| self.all[*index].is_pseudo())
    }

    /// Whether to search a directory would be slow or without sense.
    pub(crate) fn is_strange(&self, path: &Path) -> bool {
        let mount = self.at.get(path.as_os_str().as_bytes()).map(|index| &self.all[*index]);
        mount.is_some_and(|mount| mount.is_pseudo() || mount.is_remote())
    }

    /// The name of the file system that a path is in, if somebody else than this kernel decides who may do what there.
    pub(crate) fn foreign(&self, path: &Path) -> Option<String> {
        let mount = &self.all[self.index_of(path)?];
        mount.is_remote().then(|| String::from_utf8_lossy(&mount.kind).into_owned())
    }

    /// Whether a path leads through a pseudo file system, so that a mere look could make a mount.
    pub(crate) fn is_in_pseudo(&self, path: &Path) -> bool {
        path.ancestors().any(|above| self.is_pseudo(above.as_os_str().as_bytes()))
    }

    /// The mount that a path is in.
    fn index_of(&self, path: &Path) -> Option<usize> {
        path.ancestors().find_map(|above| self.at.get(above.as_os_str().as_bytes()).copied())
    }

    /// Under which other, shown paths the same files are visible, because their file system or a directory of it is
    /// mounted there too: bind mounts, a volume with all its subvolumes, the other root of an image-based system.
    pub(crate) fn mirrors<'p>(&self, paths: impl Iterator<Item = &'p Path>) -> Vec<PathBuf> {
        self.others(paths, |point| is_shown(point) || point == Path::new("/"))
    }

    /// The same for all that is mounted anywhere.
    pub(crate) fn aliases<'p>(&self, paths: impl Iterator<Item = &'p Path>) -> Vec<PathBuf> {
        self.others(paths, |_| true)
    }

    fn others<'p>(&self, paths: impl Iterator<Item = &'p Path>, is_meant: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
        // By what is mounted, so that each path asks for its ancestors only, however many mounts there are.
        let mut by_root: HashMap<(&[u8], &[u8]), Vec<usize>> = HashMap::new();
        for (index, mount) in self.all.iter().enumerate() {
            if is_meant(&mount.point) && !mount.is_pseudo() {
                by_root.entry((&mount.device, mount.root.as_os_str().as_bytes())).or_default().push(index);
            }
        }
        let mut found = Vec::new();
        for path in paths {
            let Some(index) = self.index_of(path) else { continue };
            let own = &self.all[index];
            let inside = own.root.join(path.strip_prefix(&own.point).unwrap_or(path));
            for above in inside.ancestors() {
                let others = by_root.get(&(own.device.as_slice(), above.as_os_str().as_bytes()));
                for other in others.into_iter().flatten().filter(|other| **other != index) {
                    // Joining nothing would add a slash, which is a path's last byte nowhere else.
                    let rest = inside.strip_prefix(above).unwrap_or(Path::new(""));
                    let mirror: PathBuf = self.all[*other].point.iter().chain(rest.iter()).collect();
                    found.extend((mirror != path).then_some(mirror));
                }
            }
        }
        found
    }
}

/// `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS TAG… - TYPE SOURCE OPTIONS`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = fields.nth(2)?.to_vec();
    let root = path(fields.next()?)?;
    let point = path(fields.next()?)?;
    // Optional fields follow, in any number, up to a lone dash.
    let kind = fields.by_ref().skip(1).find(|field| *field == b"-").and_then(|_| fields.next())?;
    Some(Mount { device, root, point, kind: kind.to_vec() })
}

fn path(field: &[u8]) -> Option<PathBuf> {
    let bytes = unescape(field);
    (!bytes.is_empty()).then(|| OsString::from_vec(bytes.into_owned()).into())
}

/// Blank, tab, newline and backslash are written as `\` and three octal digits.
fn unescape(field: &[u8]) -> Cow<'_, [u8]> {
    if !field.contains(&b'\\') {
        return Cow::Borrowed(field);
    }
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let digits = if *first == b'\\' { after.get(..3).and_then(octal) } else { None };
        bytes.push(digits.unwrap_or(*first));
        rest = if digits.is_some() { &after[3..] } else { after };
    }
    Cow::Owned(bytes)
}

fn octal(digits: &[u8]) -> Option<u8> {
    digits.iter().try_fold(0_u8, |sum, digit| match digit {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(digit - b'0'),
        _ => None,
    })
}

/// The strict ancestors of a real path below `/`, from the top.
pub(crate) fn ancestors(path: &Path) -> impl Iterator<Item = &[u8]> {
    let bytes = path.as_os_str().as_bytes();
    (1..bytes.len()).filter(|at| bytes[*at] == b'/').map(|at| &bytes[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Option<(String, String, String, String)> {
        let mount = parse_line(text.as_bytes())?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let path = |path: PathBuf| path.into_os_string().into_string().unwrap();
        Some((text(&mount.device), path(mount.root), path(mount.point), text(&mount.kind)))
    }

    fn four(a: &str, b: &str, c: &str, d: &str) -> Option<(String, String, String, String)> {
        Some((a.into(), b.into(), c.into(), d.into()))
    }

    #[test]
    fn lines_have_any_number_of_optional_fields() {
        for (text, wanted) in [
            ("27 1 254:0 / / rw,relatime - ext4 /dev/vda rw", four("254:0", "/", "/", "ext4")),
            ("45 27 254:0 /a /b rw shared:2 - ext4 /dev/vda rw", four("254:0", "/a", "/b", "ext4")),
            ("45 27 0:4 net:[40] /n rw master:1 shared:3 - nsfs nsfs rw", four("0:4", "net:[40]", "/n", "nsfs")),
            // Neither a dash as the source nor an empty source misleads.
            ("45 27 0:4 / /n rw - tmpfs - rw", four("0:4", "/", "/n", "tmpfs")),
            ("45 27 0:4 / /n rw - tmpfs  rw", four("0:4", "/", "/n", "tmpfs")),
            // Only the first dash after the options ends what is optional.
            ("45 27 0:4 / /- - - tmpfs x rw", four("0:4", "/", "/-", "tmpfs")),
            ("45 27 0:4 / /n - shared:1 - tmpfs - rw", four("0:4", "/", "/n", "tmpfs")),
            ("45 27 0:4 / /n rw shared:1 tmpfs x rw", None),
            ("45 27 0:4 /", None),
            ("", None),
        ] {
            assert_eq!(line(text), wanted, "{text}");
        }
    }

    #[test]
    fn points_are_unescaped() {
        for (field, wanted) in [
            (&b"/plain"[..], &b"/plain"[..]),
            (b"/a\\040b\\011c\\012d\\134e", b"/a b\tc\nd\\e"),
            // What looks like an escape after one that was a backslash is not.
            (b"/\\134040", b"/\\040"),
            (b"/\\04", b"/\\04"),
            (b"/\\048", b"/\\048"),
            (b"/\\777\\", b"/\\777\\"),
            (b"/\xff\\040", b"/\xff "),
        ] {
            assert_eq!(unescape(field).as_ref(), wanted);
        }
        let mounts = Mounts::parse(b"1 1 0:1 / /a\\040b\\012c rw - ext4 x rw\nno line\n2 1 0:1 / /d rw - proc x rw\n");
        assert_eq!(mounts.points().collect::<Vec<_>>(), [Path::new("/a b\nc"), Path::new("/d")]);
    }

    #[test]
    fn what_is_mounted_last_at_a_point_counts() {
        let mounts =
            Mounts::parse(b"1 1 0:1 / /a rw - autofs x rw\n2 1 0:2 / /a rw - nfs4 x rw\n3 1 0:3 / /b rw - proc x rw");
        assert!(!mounts.is_pseudo(b"/a"));
        assert!(mounts.is_strange(Path::new("/a")));
        assert!(!mounts.is_strange(Path::new("/a/b")));
        assert!(mounts.is_pseudo(b"/b") && mounts.is_in_pseudo(Path::new("/b/c")));
        assert!(!mounts.is_pseudo(b"/b/c"));
    }

    #[test]
    fn the_same_files_are_found_under_their_other_paths() {
        let table = b"1 1 8:1 /@ / rw - btrfs x rw\n2 1 8:1 /@home /home rw - btrfs x rw\n\
            3 1 8:1 / /mnt/all rw - btrfs x rw\n4 1 8:2 / /data rw - ext4 x rw\n5 1 8:2 /u /home/u rw - ext4 x rw\n\
            6 1 8:1 /@/etc/keys /srv/keys rw - btrfs x rw\n7 1 8:1 /@home /run/home rw - btrfs x rw\n";
        let mounts = Mounts::parse(table);
        let found = |path: &str| {
            let paths = mounts.mirrors([Path::new(path)].into_iter());
            paths.into_iter().map(|path| path.into_os_string().into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(found("/home"), ["/mnt/all/@home"]);
        assert_eq!(found("/home/u"), ["/data/u"]);
        // The mount that holds least comes first.
        assert_eq!(found("/etc/keys"), ["/srv/keys", "/mnt/all/@/etc/keys"]);
        assert_eq!(found("/etc/shadow"), ["/mnt/all/@/etc/shadow"]);
        // A neighbour whose name only begins like it is another.
        assert_eq!(found("/etc/keys2"), ["/mnt/all/@/etc/keys2"]);
        assert_eq!(found("/data/x"), [""; 0]);
    }

    #[test]
    fn ancestors_come_from_the_top_without_root_and_self() {
        assert_eq!(ancestors(Path::new("/a/bc/d")).collect::<Vec<_>>(), [&b"/a"[..], b"/a/bc"]);
        assert_eq!(ancestors(Path::new("/a")).count(), 0);
        assert_eq!(ancestors(Path::new("/")).count(), 0);
    }
}
