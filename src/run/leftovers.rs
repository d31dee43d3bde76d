//! Half-made things on disk: what a killed client left of a run that it was still making, or a killed destroy of one.

use std::fs::{self, DirEntry};

use crate::base::fs::remove_dir;
use crate::base::id::RunId;
use crate::base::paths::RunPaths;
use crate::run::owner;
use crate::run::store::{Store, is_being_finished, is_owned};

/// How old a directory without a lock must be: it may be made at this moment.
const SETTLED_SECS: u64 = 60;

/// Removes them.
pub fn remove(store: &Store) {
    for entry in fs::read_dir(store.paths.runs()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let unfinished = name.strip_prefix(".new-").or_else(|| name.strip_prefix(".gone-"));
        if unfinished.and_then(RunId::parse).is_none() {
            continue;
        }
        let paths = RunPaths { dir: entry.path() };
        let locked = paths.owner_lock().exists();
        let in_hand = || is_owned(&paths).unwrap_or(true) || is_being_finished(&paths);
        let settled = if locked { !in_hand() } else { is_old(&entry) };
        if settled {
            remove_dir(&paths.dir).unwrap_or_default();
        }
    }
    owner::forget_free_names(store);
}

/// Whether a directory was last changed more than a minute ago.
fn is_old(entry: &DirEntry) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
    modified.and_then(|time| time.elapsed().ok()).is_some_and(|age| age.as_secs() > SETTLED_SECS)
}
