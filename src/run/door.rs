//! The file of a socket on which a run's owner or the daemon listens. It is bound under another name and renamed, so that
//! there is no moment without one; one that was given by a service manager is never touched; and only what is still this
//! process's own is removed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::base::error::{Failure, Ignore, Result};
use crate::base::fs::{private_dir, remove_file};
use crate::base::paths::Paths;

/// Which file it is: device, inode and the time of its making, for an inode's number comes again.
type Identity = (u64, u64, i64, i64);

/// The socket's file.
pub(crate) struct Door {
    path: PathBuf,
    /// None for one that is somebody else's.
    own: Option<Identity>,
}

impl Door {
    /// Opens one at a path, in the place of whatever is there.
    pub(crate) fn open(path: &Path) -> io::Result<(Door, UnixListener)> {
        let temporary = path.with_extension("new");
        remove_file(&temporary)?;
        let listener = UnixListener::bind(&temporary)?;
        let placed = identity(&temporary).and_then(|own| fs::rename(&temporary, path).map(|()| own));
        match placed {
            Ok(own) => Ok((Door { path: path.to_owned(), own: Some(own) }, listener)),
            Err(error) => {
                remove_file(&temporary).ignore();
                Err(error)
            }
        }
    }

    /// Opens it where it belongs, or in the spare directory if that one is gone for good.
    pub(crate) fn open_anywhere(path: &Path, uid: u32) -> Result<(Door, UnixListener)> {
        let open = |path: &Path| {
            private_dir(path.parent().unwrap_or(Path::new("/")), uid)?;
            Door::open(path).map_err(|error| {
                Failure::new(format!("listening on {}", path.display()), error)
                    .hint("is the runtime directory writable?")
            })
        };
        let spare = Paths::spare_sockets(uid).join(path.file_name().unwrap_or_default());
        let parent_is_gone = path.ancestors().nth(2).is_some_and(|dir| fs::symlink_metadata(dir).is_err());
        match open(path) {
            Err(_) if parent_is_gone && path != spare => open(&spare),
            other => other,
        }
    }

    /// One that was given.
    pub(crate) fn given(path: &Path) -> Door {
        Door { path: path.to_owned(), own: None }
    }

    /// Whether it is this process's, and not a service manager's.
    pub(crate) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still leads to it, as far as that is this process's business.
    pub(crate) fn is_in_place(&self) -> bool {
        self.own.is_none_or(|own| identity(&self.path).is_ok_and(|now| now == own))
    }

    /// Removes it, if it is still this process's.
    pub(crate) fn remove(&self) {
        if self.own.is_some() && self.is_in_place() {
            remove_file(&self.path).ignore();
        }
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino(), file.mtime(), file.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::random_hex;

    #[test]
    fn only_the_own_file_is_removed() {
        let dir = std::env::temp_dir().join(format!("fosse-door-{}", random_hex(6).unwrap()));
        fs::create_dir(&dir).unwrap();
        let path = dir.join("d.sock");
        fs::write(&path, "somebody's").unwrap();
        let (first, _listening) = Door::open(&path).unwrap();
        assert!(first.is_in_place());
        let (second, _listening) = Door::open(&path).unwrap();
        assert!(!first.is_in_place() && second.is_in_place());
        first.remove();
        assert!(second.is_in_place(), "the successor's was removed");
        second.remove();
        assert!(!path.exists() && !second.is_in_place());
        let given = Door::given(&path);
        fs::write(&path, "given").unwrap();
        given.remove();
        assert!(!given.is_own() && second.is_own());
        assert!(given.is_in_place() && path.exists());
        fs::remove_dir_all(&dir).unwrap();
    }
}
