//! Where programs are. What is started here is started outside, with all the caller's rights, and often in a workspace
//! that is not trusted: no element of PATH that depends on the current directory is ever used, neither by this process
//! nor by what it starts. An empty one is one of them (execvp(3)).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::base::env;

/// Where programs are if PATH says nothing.
const USUAL: &str = "/usr/local/bin:/usr/bin:/bin";

/// Whether a text names a program for certain: by a name to be looked up, or by an absolute path.
pub(crate) fn names_a_program(text: &str) -> bool {
    !text.is_empty() && (text.starts_with('/') || !text.contains('/'))
}

/// Where a program is that is called by a name: in an absolute directory of this process's PATH. One with an absolute
/// path is where that says; one with another path is nowhere.
pub(crate) fn find(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    let name = name.as_ref();
    let is_program = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_absolute() && is_program(path));
    }
    let path = env::exact("PATH".as_ref()).unwrap_or_else(|| USUAL.into());
    absolute(&path).map(|dir| dir.join(name)).find(is_program)
}

fn absolute(path: &OsStr) -> impl Iterator<Item = PathBuf> {
    std::env::split_paths(path).filter(|dir| dir.is_absolute())
}

/// The PATH of what is started, if that is not this process's own.
pub(super) fn path_of_others() -> Option<OsString> {
    other_path(&env::exact("PATH".as_ref())?)
}

fn other_path(path: &OsStr) -> Option<OsString> {
    let elements = || path.as_bytes().split(|byte| *byte == b':').map(|element| Path::new(OsStr::from_bytes(element)));
    if elements().all(Path::is_absolute) {
        return None;
    }
    let kept: Vec<&[u8]> = elements().filter(|dir| dir.is_absolute()).map(|dir| dir.as_os_str().as_bytes()).collect();
    // An empty one would mean the current directory.
    Some(if kept.is_empty() { USUAL.into() } else { OsStr::from_bytes(&kept.join(&b':')).to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_depends_on_the_current_directory_is_no_place_for_a_program() {
        let other = |path: &str| other_path(path.as_ref()).map(|path| path.into_string().unwrap());
        assert_eq!(other("/a:/b"), None);
        for (path, wanted) in [("/a:", "/a"), (":/a:.:/b:bin", "/a:/b"), ("/a::/b", "/a:/b"), ("", USUAL), (".", USUAL)]
        {
            assert_eq!(other(path).as_deref(), Some(wanted), "{path:?}");
        }
        for (text, wanted) in
            [("docker", true), ("/a/docker", true), ("./docker", false), ("a/docker", false), ("", false)]
        {
            assert_eq!(names_a_program(text), wanted, "{text:?}");
        }
        assert_eq!(find("./Cargo.toml"), None);
        assert!(find("sh").is_some_and(|path| path.is_absolute()) && find("/bin/sh").is_some() && find("").is_none());
    }
}
