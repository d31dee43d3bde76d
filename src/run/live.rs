//! What only a live run has on disk, in one list: whoever ends a run, finishes or destroys one, or looks for what a dead
//! owner has left goes by it.
//!
//! The list says what stays. A file that is added to a live run, or a temporary one that was never renamed, so needs no
//! mention anywhere to go with the run's end; it may hold a secret.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::base::error::Ignore;
use crate::base::fs::{remove_dir, remove_file};
use crate::base::id::RunId;
use crate::run::owner::read_owner;
use crate::run::store::Store;

/// What stays of a run that is over.
fn stays(path: &Path, may_have_objects: bool) -> bool {
    match path.file_name().map(OsStrExt::as_bytes) {
        Some(b"record.json" | b"output.log" | b"owner.lock") => true,
        // They go with what they are about, and not before.
        Some(b"engine" | b"groups") => may_have_objects,
        Some(_) | None => false,
    }
}

/// What is there of a run that only a live one may have.
pub(crate) fn found(store: &Store, id: &RunId) -> Vec<PathBuf> {
    let paths = store.run(id);
    let may_have_objects = paths.engine_marker().exists();
    let entries = fs::read_dir(&paths.dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = entries.filter(|path| !stays(path, may_have_objects));
    // Its owner may have known another directory for them than this process.
    let told = read_owner(&paths).map(|owner| PathBuf::from(owner.socket)).filter(|path| is_socket_of(path, id));
    // What init connects to, and a control socket in the making, are beside it.
    let beside = |socket: PathBuf| [socket.with_extension("init"), socket.with_extension("new"), socket];
    let mut sockets: Vec<PathBuf> = Some(store.paths.socket(id)).into_iter().chain(told).flat_map(beside).collect();
    sockets.sort();
    sockets.dedup();
    files.chain(sockets.into_iter().filter(|path| fs::symlink_metadata(path).is_ok())).collect()
}

/// Whether a path, which was read from a file, is that of a run's control socket.
fn is_socket_of(path: &Path, id: &RunId) -> bool {
    path.is_absolute() && path.file_name().is_some_and(|name| name.as_bytes() == format!("{id}.sock").as_bytes())
}

/// Whether there is anything of that.
pub(crate) fn remains(store: &Store, id: &RunId) -> bool {
    !found(store, id).is_empty()
}

/// Removes it. The caller holds the run, and its final record is on disk: what is written here by others later is seen
/// by them to be too late.
pub(crate) fn remove(store: &Store, id: &RunId) {
    for path in found(store, id) {
        let is_dir = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
        // What cannot be removed now is found again by the next who looks.
        if is_dir { remove_dir(&path) } else { remove_file(&path) }.ignore();
    }
}
