//! Engine objects that belong to nobody: listed first, then judged by what is on disk, so that nothing newer than
//! the list can be judged. A run in the making holds its lock, and so keeps what it has just made.

use std::time::Duration;

use crate::base::error::{Failure, Result};
use crate::base::id::RunId;
use crate::base::time::{Deadline, Timestamp};
use crate::run::store::{Entry, Store, is_being_finished};
use crate::runtime::{Object, ObjectKind, Runtime};

/// How old an object of an unknown run must be: its client may have died, or its record may be in the making.
const UNKNOWN_AGE: Duration = Duration::from_secs(60);

/// How long an engine may take to remove a container that was asked to go with its end.
const REMOVAL: Duration = Duration::from_secs(10);

/// What is known of the run that an object names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Somebody holds it, or it waits to be finished.
    Unfinished,
    /// It is over, and its objects were to stay.
    Kept,
    /// It is over.
    Over,
    /// Its record cannot be read.
    Unreadable,
    /// There is no such run.
    Unknown,
}

/// Whether an object is nobody's.
pub(crate) fn is_orphaned(known: Known, created: Option<Timestamp>, now: Timestamp) -> bool {
    match known {
        Known::Over => true,
        Known::Unknown => created.is_some_and(|created| created.age(now) > UNKNOWN_AGE),
        Known::Unfinished | Known::Kept | Known::Unreadable => false,
    }
}

/// What is on disk of a run.
pub(crate) fn known(store: &Store, run: Option<&RunId>) -> Known {
    match run.and_then(|id| store.load(id)) {
        None => Known::Unknown,
        Some(Entry::Unreadable { .. }) => Known::Unreadable,
        Some(Entry::Known(view)) if view.owned || !view.record.state.is_final() => Known::Unfinished,
        // Its objects are somebody's to remove who is doing that.
        Some(Entry::Known(view)) if is_being_finished(&store.run(&view.record.id)) => Known::Unfinished,
        Some(Entry::Known(view)) if view.record.keep => Known::Kept,
        Some(Entry::Known(_)) => Known::Over,
    }
}

/// The orphaned objects of one engine, containers first.
pub(crate) fn orphaned(
    store: &Store,
    instance: &str,
    runtime: &dyn Runtime,
    deadline: Deadline,
) -> Result<Vec<Object>> {
    let listed = runtime.list(instance, deadline);
    let objects =
        listed.map_err(|error| Failure::new(format!("listing the objects in {}", runtime.kind().as_str()), error))?;
    let now = Timestamp::now();
    let mut orphans: Vec<Object> = objects
        .into_iter()
        .filter(|object| is_orphaned(known(store, object.run.as_ref()), object.created, now))
        .collect();
    orphans.sort_by_key(|object| object.kind);
    Ok(orphans)
}

/// Those of the objects that an engine is not removing by itself at this moment: their run ended a while ago.
pub(crate) fn settled(store: &Store, objects: Vec<Object>) -> Vec<Object> {
    let now = Timestamp::now();
    let is_recent = |run: &RunId| match store.load(run) {
        Some(Entry::Known(view)) => view.record.stopped_at.is_some_and(|at| at.age(now) < REMOVAL),
        Some(Entry::Unreadable { .. }) | None => false,
    };
    objects.into_iter().filter(|object| !object.run.as_ref().is_some_and(is_recent)).collect()
}

/// Removes objects, containers before networks.
pub(crate) fn remove(objects: &[Object], runtime: &dyn Runtime) -> Result<()> {
    let ids =
        |kind| objects.iter().filter(|object| object.kind == kind).map(|object| object.id.clone()).collect::<Vec<_>>();
    let failed = |error| Failure::new(format!("removing objects from {}", runtime.kind().as_str()), error);
    runtime.remove_containers(&ids(ObjectKind::Container), runtime.limits().change()).map_err(failed)?;
    runtime.remove_networks(&ids(ObjectKind::Network), runtime.limits().change()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_nobodys_is_orphaned() {
        let (then, now) = (Timestamp::from_micros(0), Timestamp::from_micros(61_000_000));
        let recent = Timestamp::from_micros(59_000_000);
        assert!(is_orphaned(Known::Over, Some(recent), now));
        assert!(is_orphaned(Known::Over, None, now));
        assert!(is_orphaned(Known::Unknown, Some(then), now));
        assert!(!is_orphaned(Known::Unknown, Some(recent), now));
        assert!(!is_orphaned(Known::Unknown, None, now), "an object without an age may be new");
        for known in [Known::Unfinished, Known::Kept, Known::Unreadable] {
            assert!(!is_orphaned(known, Some(then), now), "{known:?}");
        }
    }
}
