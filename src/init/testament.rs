//! How the command ended, left in a file for the owner of a place into which no descriptor can be passed (a virtual
//! machine): `init --exit-file`. What it says, and what the key is for, is in [`crate::wire::exit`].
//!
//! The key is known to nobody in the place but this process, which cannot be traced: its file is gone before anything
//! is started, and all of it is only written again when nobody is left. The directory is taken out of the command's
//! sight where that can be done. Once the command runs, the streams are the command's: what cannot be written is not,
//! without a word.

use std::ffi::{OsStr, OsString};
use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::memory::OomKills;
use crate::base::error::{Failure, Ignore, Result};
use crate::base::fs::read_bounded;
use crate::base::id::random_hex;
use crate::sys::linux::directory::{self, Directory};
use crate::sys::linux::init::Ended;
use crate::sys::process::Pid;
use crate::wire::exit::{ExitFile, KEY_SUFFIX, MAX_KEY, format};

/// A file, before the command has ended.
pub(crate) struct Testament {
    file: Place,
    key: String,
    kills: OomKills,
    /// Whether init killed the command.
    pub(crate) killed: bool,
}

/// What is to be left, once nobody else is.
pub(crate) struct Will {
    file: Place,
    text: ExitFile,
}

/// Where it is left.
struct Place {
    directory: Directory,
    name: OsString,
    /// Under these names the notice and the last word are written, before they get the file's. Who has seen the one
    /// cannot be in the way of the other.
    temporary: [OsString; 2],
}

impl Testament {
    /// Takes the key, and the place out of sight. Nothing else of the place may run by now, and this process must be
    /// one that nobody can trace.
    pub(crate) fn prepare(path: &Path) -> Result<Testament> {
        let failed = |error: io::Error| {
            Failure::new(format!("preparing the exit file {}", path.display()), error)
                .hint("its directory must be there, and this user must be able to write in it")
        };
        let (parent, name) = halves(path).ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let directory = Directory::open(parent).map_err(failed)?;
        let key = take_key(parent, &directory, &joined(name, KEY_SUFFIX)).map_err(failed)?;
        // One from before would be taken for this one.
        absent_is_fine(directory.remove(name)).map_err(failed)?;
        let hidden = || random_hex(8).map(|random| joined(OsStr::new("."), &random)).map_err(failed);
        let temporary = [hidden()?, hidden()?];
        // Permissions alone do not tell whether a file can be made.
        directory.create(&temporary[0], 0o644).and_then(|_| directory.remove(&temporary[0])).map_err(failed)?;
        let file = Place { directory, name: name.to_owned(), temporary };
        hide(parent);
        Ok(Testament { file, key, kills: OomKills::now(), killed: false })
    }

    /// The command runs.
    pub(crate) fn started(&self) {
        self.file.put(&ExitFile::running(&self.key), false).ignore();
    }

    /// The command could not be started; whether that is written.
    pub(crate) fn unstarted(&self, code: u8, failure: &Failure) -> bool {
        self.file.put(&ExitFile::unstarted(&self.key, code, failure.why()), true).is_ok()
    }

    /// The command has ended.
    pub(crate) fn ended(self, ended: Ended) -> Will {
        let signal = super::signal_of(ended);
        // Counted before it is killed, so what is counted by now may be the command itself, and must be somebody.
        let oom = !self.killed && signal == Some(9) && self.kills.rose();
        Will { file: self.file, text: ExitFile::ended(&self.key, super::code_of(ended), signal, oom) }
    }
}

impl Will {
    /// Leaves it. Only where nobody is left who could read the key and write something else.
    pub(crate) fn leave(&self) {
        self.file.put(&self.text, true).ignore();
    }
}

impl Place {
    /// Puts it there in one step; `last` if nothing may be lost of it.
    fn put(&self, text: &ExitFile, last: bool) -> io::Result<()> {
        let temporary = &self.temporary[usize::from(last)];
        let mut file = self.directory.create(temporary, 0o644)?;
        // Who reads it outside need not be who this is inside, and the mask of modes is the engine's. Where modes cannot
        // be changed there are none.
        file.set_permissions(Permissions::from_mode(0o644)).ignore();
        let written = file
            .write_all(&format(text))
            .and_then(|()| if last { as_far_as_possible(file.sync_all()) } else { Ok(()) })
            .and_then(|()| self.directory.rename(temporary, &self.name));
        if written.is_err() {
            self.directory.remove(temporary).ignore();
        } else if last {
            // It is there, and more cannot be done.
            self.directory.sync().ignore();
        }
        written
    }
}

/// The directory of a file, and its name there.
fn halves(path: &Path) -> Option<(&Path, &OsStr)> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Some((parent.unwrap_or(Path::new(".")), path.file_name()?))
}

fn joined(name: &OsStr, end: &str) -> OsString {
    let mut name = name.to_owned();
    name.push(end);
    name
}

/// Reads the key and takes it away; without one it is empty, which no reader believes.
fn take_key(parent: &Path, directory: &Directory, name: &OsStr) -> io::Result<String> {
    let bytes = match read_bounded(&parent.join(name), MAX_KEY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        other => other?,
    };
    directory.remove(name)?;
    let key = String::from_utf8(bytes).map_err(|_| io::Error::other("the key is not text"))?;
    Ok(key.trim().to_owned())
}

/// A file system that is another machine's may not know how to sync.
fn as_far_as_possible(synced: io::Result<()>) -> io::Result<()> {
    match synced {
        Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => Ok(()),
        other => other,
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Takes the directory out of the sight of what is started, where it is a mount for this alone and where that is
/// permitted. PID 1 only: elsewhere it would be a surprise.
fn hide(parent: &Path) {
    let is_empty = || std::fs::read_dir(parent).is_ok_and(|mut entries| entries.next().is_none());
    if Pid::is_first() && directory::is_mount_point(parent) && is_empty() {
        // Otherwise there is still the key.
        directory::hide(parent).ignore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_in_a_directory() {
        let of = |path: &'static str| halves(Path::new(path)).map(|(parent, name)| (parent.to_str(), name.to_str()));
        assert_eq!(of("/a/b"), Some((Some("/a"), Some("b"))));
        assert_eq!(of("/b"), Some((Some("/"), Some("b"))));
        assert_eq!(of("b"), Some((Some("."), Some("b"))));
        assert_eq!(of("a/b/"), Some((Some("a"), Some("b"))));
        for none in ["", "/", "..", "a/.."] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
