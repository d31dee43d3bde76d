//! Files of the host's root that programs believe only if they belong to root or to whoever reads them. Inside, the
//! host's root is nobody, so a sandbox shows copies of them that belong to its own user.
//!
//! *ssh* looks at the owner of what its configuration includes (`readconf.c`; not of the configuration itself), which
//! is where distributions have theirs: Debian links a file of /usr/lib/systemd, Fedora includes one of
//! crypto-policies, which is a link. *logrotate* does so if its user is 0. What else looks at owners looks at files of
//! the caller's own, which are in the workspace or the home; or is a set-user-ID program, which does not work here.
//!
//! Only what nobody but the host's root could have written is copied: whoever believes a copy believes it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::real::Root;
use super::secrets::fits;

/// What ssh reads for everybody; names without a directory in it are of the first one's.
const SSH: [&str; 2] = ["/etc/ssh/ssh_config", "/usr/etc/ssh/ssh_config"];

/// What user 0 has checked.
const FOR_ROOT: [&str; 2] = ["/etc/logrotate.conf", "/etc/logrotate.d/*"];

/// So many files at most: configuration, not data.
const FILES_MAX: usize = 100;
/// The largest file that is copied.
pub(crate) const SIZE_MAX: u64 = 256 << 10;

/// How deep ssh follows what includes others.
const DEPTH_MAX: usize = 16;

/// Real paths, sorted. `owner` is the number of the host's root.
pub(crate) fn find(root: &Root, owner: u32, for_root: bool) -> Vec<PathBuf> {
    let mut finder = Finder { root, owner, found: BTreeSet::new() };
    for configuration in SSH {
        if let Ok(text) = fs::read(root.at(Path::new(configuration))) {
            finder.includes(&text, 0);
        }
    }
    if for_root {
        for pattern in FOR_ROOT {
            finder.add(pattern.as_bytes());
        }
    }
    finder.found.into_iter().collect()
}

struct Finder<'h> {
    root: &'h Root,
    owner: u32,
    found: BTreeSet<PathBuf>,
}

impl Finder<'_> {
    /// What a configuration of ssh includes, and what that does (ssh_config(5), Include).
    fn includes(&mut self, text: &[u8], depth: usize) {
        for pattern in text.split(|byte| *byte == b'\n').flat_map(included) {
            for added in self.add(pattern) {
                if depth < DEPTH_MAX {
                    let text = fs::read(self.root.at(&added)).unwrap_or_default();
                    self.includes(&text, depth + 1);
                }
            }
        }
    }

    /// Adds what a pattern names; only its last part may have wildcards. Gives those that are new.
    fn add(&mut self, pattern: &[u8]) -> Vec<PathBuf> {
        let pattern = Path::new("/etc/ssh").join(Path::new(std::ffi::OsStr::from_bytes(pattern)));
        let (Some(directory), Some(name)) = (pattern.parent(), pattern.file_name()) else { return Vec::new() };
        let name = name.as_bytes();
        let paths: Vec<PathBuf> = if name.iter().any(|byte| b"*?[".contains(byte)) {
            // Too many do no harm: nobody reads them.
            let all = name.iter().any(|byte| b"?[".contains(byte));
            let names = self.root.list(directory).unwrap_or_default().into_iter().map(|(other, _)| other);
            names.filter(|other| all || fits(name, other.as_bytes())).map(|other| directory.join(other)).collect()
        } else {
            vec![pattern.clone()]
        };
        let real = paths.iter().filter_map(|path| self.root.real(path));
        let new = real.filter(|path| !self.found.contains(path) && self.is_roots(path)).collect::<Vec<_>>();
        let room = FILES_MAX.saturating_sub(self.found.len());
        let new: Vec<PathBuf> = new.into_iter().take(room).collect();
        self.found.extend(new.iter().cloned());
        new
    }

    /// Whether it is a file that everybody may read and that the host's root alone could have put there.
    fn is_roots(&self, path: &Path) -> bool {
        let mut way = path.ancestors().map(|part| fs::metadata(self.root.at(part)));
        let is_alone = |found: &fs::Metadata| found.uid() == self.owner && found.mode() & 0o022 == 0;
        let is_file = |found: &fs::Metadata| found.is_file() && found.mode() & 0o004 != 0 && found.len() <= SIZE_MAX;
        way.next().is_some_and(|file| file.is_ok_and(|file| is_file(&file) && is_alone(&file)))
            && way.all(|part| part.is_ok_and(|part| is_alone(&part)))
    }
}

/// The paths and patterns in a line that includes something; quotes hold blanks together.
fn included(line: &[u8]) -> Vec<&[u8]> {
    let line = line.trim_ascii();
    let end = line.iter().position(|byte| byte.is_ascii_whitespace() || *byte == b'=' || *byte == b'"');
    let (word, mut rest) = line.split_at(end.unwrap_or(line.len()));
    if !word.eq_ignore_ascii_case(b"include") {
        return Vec::new();
    }
    rest = rest.trim_ascii_start();
    rest = rest.strip_prefix(b"=").unwrap_or(rest);
    let mut found = Vec::new();
    loop {
        rest = rest.trim_ascii_start();
        let quoted = rest.strip_prefix(b"\"");
        let text = quoted.unwrap_or(rest);
        let is_end = |byte: &u8| if quoted.is_some() { *byte == b'"' } else { byte.is_ascii_whitespace() };
        let end = text.iter().position(is_end).unwrap_or(text.len());
        if text.is_empty() || (quoted.is_none() && text[0] == b'#') {
            return found;
        }
        found.push(&text[..end]);
        rest = text.get(end + usize::from(quoted.is_some())..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_what_it_includes() {
        let found = |line: &str| {
            let names = included(line.as_bytes()).into_iter().map(|name| String::from_utf8(name.to_vec()).unwrap());
            names.collect::<Vec<_>>()
        };
        assert_eq!(found("Include /etc/ssh/ssh_config.d/*.conf"), ["/etc/ssh/ssh_config.d/*.conf"]);
        assert_eq!(found("\tinclude=a \"b c\" d # e"), ["a", "b c", "d"]);
        assert_eq!(found("  INCLUDE = \"a\""), ["a"]);
        for other in ["", "#Include a", "Host include", "IncludeX a", "Include", "Include #x", "Include \""] {
            assert_eq!(found(other), [""; 0], "{other}");
        }
    }
}
