//! What killed processes have left on disk: a client of a run that it was still making, a destroy of one, an owner or an
//! exec of what only a live run has, whoever wrote a file of what was only half written.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::base::error::Ignore;
use crate::base::fs::{is_abandoned, is_settled, remove_dir, remove_file};
use crate::base::id::RunId;
use crate::base::paths::RunPaths;
use crate::base::time::Deadline;
use crate::run::store::{Entry, Store, is_being_finished, is_owned};
use crate::run::{live, owner};

/// Removes it.
pub(crate) fn remove(store: &Store) {
    half_made_runs(store);
    ended_runs(store);
    owner::forget_free_names(store);
    for dir in [&store.paths.state, &store.paths.engines()] {
        half_written_files(dir);
    }
}

fn half_made_runs(store: &Store) {
    for entry in fs::read_dir(store.paths.runs()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let unfinished = name.strip_prefix(".new-").or_else(|| name.strip_prefix(".gone-"));
        if unfinished.and_then(RunId::parse).is_none() {
            continue;
        }
        let paths = RunPaths { dir: entry.path() };
        let locked = paths.owner_lock().exists();
        let in_hand = || is_owned(&paths).unwrap_or(true) || is_being_finished(&paths);
        // One without a lock may be made at this moment.
        let settled = if locked { !in_hand() } else { is_settled(&entry) };
        if settled {
            remove_dir(&paths.dir).ignore();
        }
    }
}

/// What only live runs have, of those that are over.
fn ended_runs(store: &Store) {
    let here = owner::machine_id();
    for id in store.ids().into_iter().flatten() {
        if !live::remains(store, &id) {
            continue;
        }
        let Some(Entry::Known(view)) = store.load(&id) else { continue };
        let ours = view.record.machine_id.is_empty() || view.record.machine_id == here;
        if view.owned || !view.record.state.is_final() || !ours {
            continue;
        }
        // Who has the run in hand at this moment does the same.
        if let Ok(Some(_held)) = owner::take_over(store, &id, Deadline::after(Duration::ZERO)) {
            live::remove(store, &id);
        }
    }
}

/// New files of atomic writes that nobody will finish.
fn half_written_files(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().filter(is_abandoned) {
        remove_file(&entry.path()).ignore();
    }
}
