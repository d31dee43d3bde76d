//! What only user 0 may read. A sandbox of user 0 has no capabilities, but it still owns these files, and their modes
//! would let it in: so what ordinary users cannot read is hidden from it.

use std::collections::{HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, FileType, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::hidden::CROWD;
use super::is_shown;
use super::mounts::Mounts;
use super::needed::is_needed;
use super::real::Root;

/// At most so many entries are visited, nearest to the root first.
const VISITS_MAX: usize = 20_000;

/// How deep to look below a directory of the root. Nothing for those that packages fill with what everybody reads.
fn depth(top: &OsStr) -> Option<usize> {
    let text = top.to_str().unwrap_or_default();
    match text {
        "etc" => Some(usize::MAX),
        "var" | "opt" | "srv" => Some(3),
        "boot" => Some(1),
        "bin" | "gnu" | "nix" | "sbin" | "snap" | "usr" => None,
        lib if lib.starts_with("lib") && is_needed(&Path::new("/").join(lib)) => None,
        _ => Some(2),
    }
}

/// Whether others than owner and group are kept out.
fn is_closed(metadata: &Metadata) -> bool {
    let needed = if metadata.is_dir() { libc::S_IROTH | libc::S_IXOTH } else { libc::S_IROTH };
    metadata.mode() & needed != needed
}

/// Searches what is shown of the root, which holds `names`, except below what is hidden already. Links are not
/// followed: what they lead to has a place of its own.
pub(crate) fn find(
    root: &Root,
    names: &[(OsString, FileType)],
    mounts: &Mounts,
    hidden: &HashSet<PathBuf>,
) -> Vec<PathBuf> {
    let mut search = Search { root, mounts, hidden, found: Vec::new(), queue: VecDeque::new(), visits: 0 };
    let tops =
        names.iter().filter(|(_, kind)| !kind.is_symlink()).map(|(name, _)| (Path::new("/").join(name), depth(name)));
    let local = (PathBuf::from("/usr/local"), Some(3));
    for (path, depth) in
        tops.chain([local]).filter(|(path, _)| is_shown(path) && !mounts.is_pseudo(path.as_os_str().as_encoded_bytes()))
    {
        let Ok(metadata) = fs::symlink_metadata(root.at(&path)) else { continue };
        if is_closed(&metadata) && !is_needed(&path) {
            search.found.push(path);
        } else if let (true, Some(depth)) = (metadata.is_dir(), depth) {
            search.queue.push_back((path, depth));
        }
    }
    while let Some((directory, depth)) = search.queue.pop_front() {
        search.visit(directory, depth);
    }
    search.found
}

struct Search<'h> {
    root: &'h Root,
    mounts: &'h Mounts,
    hidden: &'h HashSet<PathBuf>,
    found: Vec<PathBuf>,
    /// Directories, and how many levels of them to look at.
    queue: VecDeque<(PathBuf, usize)>,
    visits: usize,
}

impl Search<'_> {
    fn visit(&mut self, directory: PathBuf, depth: usize) {
        if self.hidden.contains(&directory) || self.mounts.is_strange(&directory) {
            return;
        }
        let Ok(entries) = fs::read_dir(self.root.at(&directory)) else { return };
        let (mut closed, mut below) = (Vec::new(), Vec::new());
        for entry in entries.flatten() {
            self.visits += 1;
            if self.visits > VISITS_MAX {
                self.queue.clear();
                below.clear();
                break;
            }
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_symlink() {
                continue;
            }
            let is_pseudo = || self.mounts.is_pseudo(directory.join(entry.file_name()).as_os_str().as_encoded_bytes());
            // Looking at the root of an automounter mounts something.
            if kind.is_dir() && is_pseudo() {
                continue;
            }
            let Ok(metadata) = entry.metadata() else { continue };
            let is_closed = is_closed(&metadata);
            if is_closed || (kind.is_dir() && depth > 1) {
                let path = directory.join(entry.file_name());
                let list = if is_closed && !is_needed(&path) { &mut closed } else { &mut below };
                list.push((path, kind));
            }
        }
        let is_top = directory.parent() == Some(Path::new("/"));
        if closed.len() > CROWD && !is_top && !is_needed(&directory) {
            self.found.push(directory);
            return;
        }
        self.found.extend(closed.into_iter().map(|(path, _)| path));
        let below = below.into_iter().filter(|(_, kind)| kind.is_dir() && depth > 1);
        self.queue.extend(below.map(|(path, _)| (path, depth - 1)));
    }
}
