//! Which file is which.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Which file it is, for as long as it is open or has a name: device and inode (inode(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    dev: u64,
    ino: u64,
}

impl From<&Metadata> for FileId {
    fn from(metadata: &Metadata) -> Self {
        FileId { dev: metadata.dev(), ino: metadata.ino() }
    }
}

/// The file that a path names, which may be a link.
pub(crate) fn named(path: &Path) -> io::Result<FileId> {
    fs::symlink_metadata(path).map(|metadata| FileId::from(&metadata))
}

/// Whether a path still names an open file: otherwise a lock on it is one that nobody else will find.
pub(crate) fn leads_to(path: &Path, file: &File) -> bool {
    named(path).is_ok_and(|there| file.metadata().is_ok_and(|here| FileId::from(&here) == there))
}
