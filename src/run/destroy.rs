//! Removing an ended run: its objects in the engine, its record and its output.

use std::time::Duration;

use crate::base::error::{Failure, Ignore, Result};
use crate::base::id::RunId;
use crate::run::finish::{Late, RuntimeOf, finish, held, remove_objects};
use crate::run::objects::Objects;
use crate::run::store::{Entry, Store, is_owned};
use crate::run::{live, lockfile, owner};

/// Removes an ended run: its objects in the engine, its record and its output. One that still runs is refused.
pub(crate) fn destroy(store: &Store, id: &RunId, runtime_of: RuntimeOf) -> Result<()> {
    let what = || format!("destroying run {id}");
    let view = match store.load(id) {
        None => return Ok(()),
        Some(Entry::Unreadable { .. }) => return destroy_unreadable(store, id),
        Some(Entry::Known(view)) => view,
    };
    if view.is_live() {
        return Err(
            Failure::new(what(), "it is still running").hint(format!("fosse stop {id}, or fosse destroy -f {id}"))
        );
    }
    if view.is_orphan() || store.run(id).engine_marker().exists() {
        finish(store, id, Duration::ZERO, Late::Here, runtime_of)?.ok_or_else(|| held(id))?;
    }
    let Some((lock, slot)) = owner::take_over(store, id, Late::Here.patience(Duration::ZERO))? else {
        return store.load(id).map_or(Ok(()), |_| Err(held(id)));
    };
    let paths = store.run(id);
    if slot.record().keep && paths.engine_marker().exists() {
        let runtime = runtime_of(slot.record())?;
        let objects = Objects::of(slot.record(), store.instance());
        remove_objects(&*runtime, &objects, &paths, false)?;
    }
    // Whoever waits has the lock's file open, and reads it there.
    lockfile::tell_end(&paths, slot.record()).ignore();
    // Its sockets are not in its directory.
    live::remove(store, id);
    owner::forget_name(store, &slot.record().name, id);
    remove_dir_atomically(store, id).map_err(|error| Failure::new(what(), error))?;
    drop(lock);
    Ok(())
}

/// Removes the directory of a run whose record says nothing, if nobody holds it.
fn destroy_unreadable(store: &Store, id: &RunId) -> Result<()> {
    let what = || format!("destroying run {id}");
    let paths = store.run(id);
    if is_owned(&paths).map_err(|error| Failure::new(what(), error))? {
        return Err(Failure::new(what(), "it is still running, and its record cannot be read"));
    }
    remove_dir_atomically(store, id).map_err(|error| Failure::new(what(), error))
}

/// First out of sight, then removed: nobody sees half of a run.
fn remove_dir_atomically(store: &Store, id: &RunId) -> std::io::Result<()> {
    let gone = store.paths.runs().join(format!(".gone-{id}"));
    crate::base::fs::remove_dir(&gone)?;
    match std::fs::rename(store.run(id).dir, &gone) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => crate::base::fs::remove_dir(&gone),
    }
}
