//! What must not be seen, gathered from all who know of something.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::FileType;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::mounts::Mounts;
use super::needed::{is_needed, not_needed};
use super::real::Root;
use super::{Hidden, Question, explain, is_shown, secrets, sockets, unreadable};

/// More hidden names than this in one directory, and all of it is hidden: each is a mount of its own.
pub(crate) const CROWD: usize = 32;

/// The places of the sandbox's own that are the caller's, or other users', at the host.
const PRIVATE: [&str; 4] = ["/home", "/root", "/run", "/tmp"];

/// All that `/` (it holds `names`) shows and that must not be seen.
pub(crate) fn find(
    root: &Root,
    asked: &Question,
    names: &[(OsString, FileType)],
    mounts: &Mounts,
) -> io::Result<Vec<Hidden>> {
    let links = names.iter().filter(|(_, kind)| kind.is_symlink()).map(|(name, _)| Path::new("/").join(name)).collect();
    let mut finder = Finder { root, mounts, links, found: HashSet::new() };
    let homes = finder.homes(asked);
    finder.secrets();
    // Where such a place is a link, what it leads to is shown under its own name.
    for private in PRIVATE {
        finder.add(Path::new(private));
    }
    for path in asked.own.iter().chain(&asked.sockets) {
        finder.add(path);
    }
    finder.sockets()?;
    if asked.search {
        let closed = unreadable::find(root, names, mounts, &finder.found);
        finder.found.extend(closed);
    }
    finder.mirrors(&homes);
    crowds(&mut finder.found, false);
    Ok(finder.finish())
}

struct Finder<'h> {
    root: &'h Root,
    mounts: &'h Mounts,
    /// Which names at the root are links.
    links: HashSet<PathBuf>,
    /// Real paths that are shown.
    found: HashSet<PathBuf>,
}

impl Finder<'_> {
    /// Hides what a path leads to, if that is there, shown, and not needed. Gives its real path, shown or not.
    fn add(&mut self, path: &Path) -> Option<PathBuf> {
        // An automounter would mount something only because we look.
        if !path.is_absolute() || self.mounts.is_in_pseudo(path) {
            return None;
        }
        let real = self.root.real(path)?;
        self.found.extend(not_needed(real.clone()).filter(|real| is_shown(real)));
        Some(real)
    }

    /// Whether a path begins with a name that the sandbox has of its own, and that is no link at the host. What else
    /// may be a link in it is not asked.
    fn is_private(&self, path: &Path) -> bool {
        let top: PathBuf = path.iter().take(2).collect();
        !is_shown(path) && !self.links.contains(&top) && !path.iter().any(|part| part == "..")
    }

    /// Home directories: the caller's, and those of other people. Gives the caller's.
    fn homes(&mut self, asked: &Question) -> Vec<PathBuf> {
        let mine = asked.homes.iter().filter_map(|home| self.add(home)).collect();
        // A missing user database names nobody.
        let passwd = std::fs::read(self.root.at(Path::new("/etc/passwd"))).unwrap_or_default();
        let homes: HashSet<&Path> = people(&passwd).collect();
        for home in homes {
            if !self.is_private(home) {
                self.add(home);
            }
        }
        // In /home itself only links lead elsewhere. Also people whom the user database does not know have them.
        let home = Path::new("/home");
        if self.is_private(home) && !self.mounts.is_in_pseudo(home) {
            let names = self.root.list(home).unwrap_or_default();
            for (name, _) in names.iter().filter(|(_, kind)| kind.is_symlink()) {
                self.add(&home.join(name));
            }
        }
        // A machine with very many people has their homes together.
        crowds(&mut self.found, true);
        mine
    }

    fn secrets(&mut self) {
        for place in secrets::PLACES {
            let place = Path::new(place);
            let (Some(directory), Some(name)) = (place.parent(), place.file_name()) else { continue };
            if !name.as_bytes().contains(&b'*') {
                // Most are not there, and this asks less than resolving links does.
                if self.root.kind(place).is_some() {
                    self.add(place);
                }
                continue;
            }
            for (other, _) in self.root.list(directory).unwrap_or_default() {
                if secrets::fits(name.as_bytes(), other.as_bytes()) {
                    self.add(&directory.join(other));
                }
            }
        }
    }

    /// Sockets: an overlay does not connect to them, but a directory that is shown as it is would.
    fn sockets(&mut self) -> io::Result<()> {
        let table = match std::fs::read(self.root.at(Path::new("/proc/net/unix"))) {
            Ok(table) => table,
            // A kernel without them.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(explain("/proc/net/unix", &error)),
        };
        for path in sockets::parse(&table) {
            // Anybody may give a socket any path, in a root of one's own: here it may be something else.
            let is_socket = |kind: FileType| kind.is_socket();
            if !self.is_private(&path)
                && !self.mounts.is_in_pseudo(&path)
                && self.root.kind(&path).is_some_and(is_socket)
            {
                self.add(&path);
            }
        }
        Ok(())
    }

    /// The same files under other paths.
    fn mirrors(&mut self, homes: &[PathBuf]) {
        let private = PRIVATE.iter().map(Path::new).filter(|path| self.is_private(path));
        let paths = private.chain(homes.iter().map(PathBuf::as_path)).chain(self.found.iter().map(PathBuf::as_path));
        for mirror in self.mounts.mirrors(paths.filter(|path| !is_needed(path))) {
            // What a mount hides is not there.
            if is_shown(&mirror) && !self.found.contains(&mirror) {
                self.add(&mirror);
            }
        }
    }

    /// Sorted, with what they are, and none below another.
    fn finish(self) -> Vec<Hidden> {
        let mut paths: Vec<PathBuf> = self.found.into_iter().collect();
        paths.sort_unstable();
        let mut hidden: Vec<Hidden> = Vec::new();
        for path in paths {
            // What is below comes right after what it is below.
            if hidden.last().is_some_and(|last| path.starts_with(&last.path)) {
                continue;
            }
            if let Some(kind) = self.root.kind(&path) {
                hidden.push(Hidden { path, directory: kind.is_dir() });
            }
        }
        hidden
    }
}

/// Hides a directory instead of very many names in it, from the bottom up. `tops`: also a directory of the root.
fn crowds(found: &mut HashSet<PathBuf>, tops: bool) {
    loop {
        let mut parents: BTreeMap<&Path, usize> = BTreeMap::new();
        for parent in found.iter().filter_map(|path| path.parent()) {
            *parents.entry(parent).or_default() += 1;
        }
        let is_top = |path: &Path| path.iter().count() <= 2;
        let crowded = |path: &&Path| !found.contains(*path) && !is_needed(path) && (tops || !is_top(path));
        let crowded = parents.into_iter().filter(|(path, count)| *count > CROWD && crowded(path));
        let crowded: Vec<PathBuf> = crowded.map(|(path, _)| path.to_path_buf()).collect();
        if crowded.is_empty() {
            return;
        }
        found.extend(crowded);
    }
}

/// The home directories of people in the user database (passwd(5)), as distinct from services.
fn people(passwd: &[u8]) -> impl Iterator<Item = &Path> {
    passwd.split(|byte| *byte == b'\n').filter_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let [_, _, uid, _, _, home, shell] = fields[..] else { return None };
        let uid: u32 = std::str::from_utf8(uid).ok()?.parse().ok()?;
        let shell = Path::new(OsStr::from_bytes(shell)).file_name();
        let is_person = uid >= 1000 && uid != 65534 && !shell.is_some_and(|name| name == "nologin" || name == "false");
        let home = Path::new(OsStr::from_bytes(home));
        (is_person && home.is_absolute()).then_some(home)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_have_a_number_and_a_shell() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\na:x:1000:1000::/home/a:/bin/sh\nb:x:1001:1:,,:/srv/b:\n\
            c:x:1002:1::/c:/usr/sbin/nologin\nd:x:1003:1::/d:/bin/false\nn:x:65534:1::/n:/bin/sh\ne:x:1004:1::rel:/bin/sh\n\
            +::::::\nbad\nf:x:x:1::/f:/bin/sh\ng:x:999:1::/g:/bin/sh\nh:x:4294967296:1::/h:/bin/sh\nz:x:60000:1::/z:/bin/sh";
        assert_eq!(people(passwd).collect::<Vec<_>>(), ["/home/a", "/srv/b", "/z"].map(Path::new));
        assert_eq!(people(b"").count(), 0);
    }

    #[test]
    fn a_crowd_is_hidden_with_its_directory_unless_that_is_needed() {
        let many = |directory: &str, count: usize| -> Vec<PathBuf> {
            (0..count).map(|at| PathBuf::from(format!("{directory}/{at}"))).collect()
        };
        let crowd = |found: &mut HashSet<PathBuf>, tops| {
            let before = found.clone();
            crowds(found, tops);
            let mut new: Vec<PathBuf> = found.difference(&before).cloned().collect();
            new.sort();
            new
        };
        let beside = [many("/srv/a", CROWD), many("/srv/b", CROWD + 1), many("/etc", CROWD + 1)];
        let mut found = beside.into_iter().flatten().collect();
        assert_eq!(crowd(&mut found, false), [PathBuf::from("/srv/b")]);
        let mut found = many("/users", CROWD + 1).into_iter().collect();
        assert_eq!(crowd(&mut found, false), [""; 0].map(PathBuf::from));
        assert_eq!(crowd(&mut found, true), [PathBuf::from("/users")]);
        // A crowd of crowds.
        let crowds = many("/srv/c", CROWD + 1);
        let mut found = crowds.iter().flat_map(|path| many(path.to_str().unwrap(), CROWD + 1)).collect();
        assert!(crowd(&mut found, false).contains(&PathBuf::from("/srv/c")));
        let mut found = many("/etc/ssl", CROWD + 1).into_iter().collect();
        assert_eq!(crowd(&mut found, true), [""; 0].map(PathBuf::from));
    }
}
