//! Paths of the host, seen from a root that is `/` except in tests.

use std::ffi::OsString;
use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};

/// Where the host's root is.
pub(crate) struct Root(PathBuf);

impl Root {
    /// The root at `path`, with links resolved.
    pub(crate) fn new(path: &Path) -> io::Result<Root> {
        fs::canonicalize(path).map(Root)
    }

    /// The path under which a path of the host is reached.
    pub(crate) fn at(&self, path: &Path) -> PathBuf {
        match path.strip_prefix("/") {
            Ok(relative) if relative.as_os_str().is_empty() => self.0.clone(),
            Ok(relative) => self.0.join(relative),
            Err(_) => self.0.join(path),
        }
    }

    /// A path of the host without links, if it exists and this user can reach it.
    pub(crate) fn real(&self, path: &Path) -> Option<PathBuf> {
        let real = fs::canonicalize(self.at(path)).ok()?;
        real.strip_prefix(&self.0).ok().map(|relative| Path::new("/").join(relative))
    }

    /// What it is; a link is not followed.
    pub(crate) fn kind(&self, path: &Path) -> Option<FileType> {
        fs::symlink_metadata(self.at(path)).ok().map(|metadata| metadata.file_type())
    }

    /// What a directory holds, sorted by name. The types come with the names, without a look at each.
    pub(crate) fn list(&self, directory: &Path) -> io::Result<Vec<(OsString, FileType)>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.at(directory))? {
            let entry = entry?;
            // One that is gone by now is not there.
            names.extend(entry.file_type().ok().map(|kind| (entry.file_name(), kind)));
        }
        names.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(names)
    }
}
