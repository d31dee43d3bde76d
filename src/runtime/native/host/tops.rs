//! What the root holds, and how each of it can be shown.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, FileType};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::mounts::{Mounts, ancestors};
use super::real::Root;
use super::{Entry, Hidden, Kind, OWN, is_shown};

/// At most so many entries come from directories that are taken apart: each is a mount of its own.
pub(crate) const ENTRIES_MAX: usize = 1500;

/// A directory more levels below the root than this is not taken apart.
pub(crate) const DEPTH_MAX: usize = 6;

type Names = Vec<(OsString, FileType)>;

/// The root's entries, of its `names`.
pub(crate) fn find(root: &Root, names: Names, mounts: &Mounts, hidden: &[Hidden]) -> Vec<Entry> {
    let hidden = hidden.iter().map(|hidden| hidden.path.as_os_str().as_bytes()).collect();
    let names: Names = names.into_iter().filter(|(name, _)| !OWN.iter().any(|own| name == *own)).collect();
    let mut tops = Tops { root, mounts, hidden, above: HashSet::new(), apart: HashMap::new() };
    tops.mark();
    tops.take_apart(directories(Path::new("/"), &names));
    tops.entries(Path::new("/"), &names)
}

/// What a directory holds that was whole when the root was looked at, if it must be taken apart by now and can be.
/// Nothing is hidden in it yet.
pub(crate) fn apart(root: &Root, mounts: &Mounts, directory: &Path) -> Option<Vec<Entry>> {
    let mut tops = Tops { root, mounts, hidden: HashSet::new(), above: HashSet::new(), apart: HashMap::new() };
    tops.mark();
    tops.take_apart(vec![directory.to_owned()]);
    tops.apart.get(directory).map(|names| tops.entries(directory, names))
}

fn directories(directory: &Path, names: &Names) -> Vec<PathBuf> {
    let names = names.iter().filter(|(_, kind)| kind.is_dir());
    names.map(|(name, _)| directory.join(name)).collect()
}

/// Whether an empty directory stands for one that a path leads through, so that the path is not there inside.
pub(crate) fn is_emptied(tops: &[Entry], path: &Path) -> bool {
    let mut entries = tops;
    let mut parts = path.iter().skip(1);
    while let Some(part) = parts.next() {
        let Ok(at) = entries.binary_search_by(|entry| entry.name.as_os_str().cmp(part)) else { return false };
        match &entries[at].kind {
            Kind::Split(below) => entries = below,
            Kind::Empty => return parts.next().is_some(),
            Kind::Directory | Kind::ReadOnly | Kind::Link(_) | Kind::File => return false,
        }
    }
    false
}

struct Tops<'h> {
    root: &'h Root,
    mounts: &'h Mounts,
    hidden: HashSet<&'h [u8]>,
    /// The directories that have a mount somewhere below.
    above: HashSet<&'h [u8]>,
    /// What those hold that are taken apart; nothing if this user cannot read it.
    apart: HashMap<PathBuf, Names>,
}

impl Tops<'_> {
    /// Marks the directories above each mount. What is hidden, or a pseudo file system, is shown as an empty
    /// directory, so that mounts below it are in nobody's way; but what is above it has it as a mount below. (Tried:
    /// Linux 6.18 refuses /var as a layer as long as anything is mounted below, seen or not.)
    fn mark(&mut self) {
        for point in self.mounts.points().filter(|point| is_shown(point)) {
            for above in ancestors(point) {
                if self.above.contains(above) {
                    continue;
                }
                if self.is_empty_anyway(above) {
                    break;
                }
                self.above.insert(above);
            }
        }
    }

    fn is_empty_anyway(&self, path: &[u8]) -> bool {
        self.mounts.is_pseudo(path) || self.hidden.contains(path)
    }

    fn is_above(&self, path: &Path) -> bool {
        self.above.contains(path.as_os_str().as_bytes())
    }

    /// Lists the directories to be taken apart, these and what is below them, level by level, so that a large one far down takes nothing from
    /// those at the top.
    fn take_apart(&mut self, mut level: Vec<PathBuf>) {
        let mut left = ENTRIES_MAX;
        for _ in 0..DEPTH_MAX {
            let mut next = Vec::new();
            for directory in level.into_iter().filter(|directory| self.above.contains(directory.as_os_str().as_bytes()))
            {
                let names = self.root.list(&directory).unwrap_or_default();
                if let Some(rest) = left.checked_sub(names.len()) {
                    left = rest;
                    next.extend(directories(&directory, &names));
                    self.apart.insert(directory, names);
                }
            }
            level = next;
        }
    }

    fn entries(&self, directory: &Path, names: &Names) -> Vec<Entry> {
        let entry = |(name, kind): &(OsString, FileType)| {
            let kind = self.kind(directory.join(name), *kind)?;
            Some(Entry { name: name.clone(), kind })
        };
        names.iter().filter_map(entry).collect()
    }

    /// Nothing for a link that leads nowhere, and for what is no file.
    fn kind(&self, path: PathBuf, kind: FileType) -> Option<Kind> {
        let at = self.root.at(&path);
        if kind.is_symlink() {
            // Leading to where this user may not go is leading somewhere.
            let leads =
                fs::metadata(&at).map_or_else(|error| error.kind() == std::io::ErrorKind::PermissionDenied, |_| true);
            return if leads { fs::read_link(at).ok().map(Kind::Link) } else { None };
        }
        if !kind.is_dir() {
            return kind.is_file().then_some(Kind::File);
        }
        if self.is_empty_anyway(path.as_os_str().as_bytes()) {
            return Some(Kind::Empty);
        }
        if !self.is_above(&path) {
            let holds = fs::read_dir(at).is_ok_and(|mut entries| entries.next().is_some_and(|first| first.is_ok()));
            return Some(if holds { Kind::Directory } else { Kind::Empty });
        }
        match self.apart.get(&path) {
            None => Some(Kind::ReadOnly),
            Some(names) => match self.entries(&path, names) {
                entries if entries.is_empty() => Some(Kind::Empty),
                entries => Some(Kind::Split(entries)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_an_empty_directory_is_not_there() {
        let entry = |name: &str, kind: Kind| Entry { name: name.into(), kind };
        let below = vec![entry("e", Kind::Empty), entry("f", Kind::File)];
        let tops = [entry("a", Kind::Directory), entry("b", Kind::Empty), entry("c", Kind::Split(below))];
        for (path, wanted) in [
            ("/a/x", false),
            ("/b", false),
            ("/b/x", true),
            ("/b/x/y", true),
            ("/c", false),
            ("/c/e", false),
            ("/c/e/x", true),
            ("/c/f", false),
            ("/c/g/x", false),
            ("/d/x", false),
            ("/", false),
        ] {
            assert_eq!(is_emptied(&tops, Path::new(path)), wanted, "{path}");
        }
    }
}
