//! Files: private directories, atomic writes, bounded reads that follow no link.

use std::fs::{DirBuilder, DirEntry, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use crate::base::error::{Failure, Ignore, Result};
use crate::base::id::random_hex;

/// Makes a directory that only `uid` can enter, with its parents, or checks that an existing one is that.
pub(crate) fn private_dir(path: &Path, uid: u32) -> Result<()> {
    let failed = |error: io::Error| {
        Failure::new(format!("preparing the directory {}", path.display()), error)
            .hint("can you write there, and is there space?")
    };
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
            }
            match DirBuilder::new().mode(0o700).create(path) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let metadata = std::fs::symlink_metadata(path).map_err(failed)?;
    if metadata.file_type().is_symlink() && !sticky_parent(path) {
        // The user's own link, in a directory that only the user can write.
        let target = std::fs::metadata(path).map_err(failed)?;
        return check_private(path, &target, uid);
    }
    check_private(path, &metadata, uid)
}

/// Whether others could have placed `path`: its parent is a shared directory such as /tmp.
fn sticky_parent(path: &Path) -> bool {
    let shared = |metadata: std::fs::Metadata| metadata.permissions().mode() & 0o022 != 0;
    path.parent().and_then(|parent| std::fs::metadata(parent).ok()).is_none_or(shared)
}

fn check_private(path: &Path, metadata: &std::fs::Metadata, uid: u32) -> Result<()> {
    let refuse = |why: String| {
        Err(Failure::new(format!("using the directory {}", path.display()), why)
            .hint("it must be a directory of your own that nobody else can enter"))
    };
    if !metadata.is_dir() {
        return refuse("it is not a directory".into());
    }
    if metadata.uid() != uid {
        return refuse(format!("it belongs to user {}", metadata.uid()));
    }
    if metadata.mode() & 0o077 != 0 {
        // Ours, but open to others: made by a careless mkdir. Closing it is what the user would do.
        let closed = std::fs::Permissions::from_mode(0o700);
        if let Err(error) = std::fs::set_permissions(path, closed) {
            return refuse(format!("others can enter it, and closing it failed: {error}"));
        }
    }
    Ok(())
}

/// Replaces a file so that a reader, a crash or a power loss sees the old bytes or the new ones, nothing between:
/// a new file beside it, synced, then renamed over it, then the directory synced. Of several writers at once the last
/// one wins: each has a new file of its own. What one that was killed leaves is [`is_abandoned`] a minute later.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}.new", random_hex(6)?));
    let written = write_new(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path));
    if let Err(error) = written {
        std::fs::remove_file(&temporary).ignore();
        return Err(error);
    }
    if let Some(parent) = path.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// How long after its last change a half-made thing may still be somebody's work.
const SETTLED: Duration = Duration::from_secs(60);

/// Whether a directory's entry was last changed so long ago that nobody is still making it.
pub(crate) fn is_settled(entry: &DirEntry) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
    modified.and_then(|time| time.elapsed().ok()).is_some_and(|age| age > SETTLED)
}

/// Whether a directory's entry is the new file of an atomic write that nobody will finish.
pub(crate) fn is_abandoned(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(b".new") && is_settled(entry)
}

/// Makes a file that must not exist yet, readable by its owner only.
pub(crate) fn create_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes).inspect_err(|_| std::fs::remove_file(path).ignore())
}

/// Reads a file that somebody else may have placed: a regular file, not a link, at most `max` bytes.
pub(crate) fn read_bounded(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    // O_NONBLOCK: a FIFO in its place must not hold us up before we have seen what it is.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    // Room for all of it and for the read that finds the end: two calls a file instead of seven.
    let length = metadata.len().min(max).saturating_add(64);
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("longer than {max} bytes")));
    }
    Ok(bytes)
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes a directory with all that is in it; one that is not there is fine.
pub(crate) fn remove_dir(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_writers_of_one_file_do_not_disturb_each_other() {
        let dir = std::env::temp_dir().join(format!("fosse-fs-{}", random_hex(6).unwrap()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("file");
        let texts: Vec<Vec<u8>> = (0..4_u8).map(|writer| vec![b'a' + writer; 1 << writer]).collect();
        std::thread::scope(|scope| {
            for text in &texts {
                let path = &path;
                scope.spawn(move || (0..50).for_each(|_| write_atomic(path, text).unwrap()));
            }
        });
        let written = std::fs::read(&path).unwrap();
        assert!(texts.contains(&written), "{written:?}");
        let names: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["file"]);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
