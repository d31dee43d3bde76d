//! Waiting for the end of a run that another process owns. The lock tells it; how it ended is on disk by then.

use std::convert::Infallible;
use std::fs::File;
use std::io;

use crossbeam_channel::{Receiver, bounded};

use crate::base::error::{Failure, Ignore, Result};
use crate::base::id::RunId;
use crate::base::threads;
use crate::run::lockfile::read_open;
use crate::run::store::{Entry, Store};
use crate::sys::lock;
use crate::wire::control::End;

/// Somebody who wants to know how a run ends. From the moment that this is made nobody can take that away, not even by
/// destroying the run as soon as it is over: the file of the owner's lock, in which it is told, is open.
pub(crate) struct Waiter {
    store: Store,
    id: RunId,
    /// None where no more files could be opened: then the record must be there when the end is asked for.
    lock: Option<File>,
}

impl Waiter {
    /// For a run that exists.
    pub(crate) fn of(store: &Store, id: &RunId) -> Result<Waiter> {
        let lock = match File::open(store.run(id).owner_lock()) {
            Ok(file) => Some(file),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOENT)) => None,
            Err(error) => return Err(failed(id, error)),
        };
        Ok(Waiter { store: store.clone(), id: id.clone(), lock })
    }

    /// Disconnected when it is over, as of [`watch_lock`].
    pub(crate) fn over(&self) -> Result<Receiver<Infallible>> {
        watch_lock(&self.store, &self.id)
    }

    /// How it ended, once it is over.
    pub(crate) fn end(&self) -> Result<End> {
        match self.store.load(&self.id) {
            Some(Entry::Known(view)) => {
                let record = view.shown();
                Ok(End { exit_code: record.exit_code, reason: record.reason })
            }
            Some(Entry::Unreadable { why, .. }) => Err(Failure::new(format!("reading the record of {}", self.id), why)),
            // Whoever destroys a run has told how it ended before.
            None => self
                .lock
                .as_ref()
                .and_then(|file| read_open(file)?.end)
                .ok_or_else(|| Failure::new(format!("waiting for run {}", self.id), "it was destroyed")),
        }
    }
}

fn failed(id: &RunId, error: io::Error) -> Failure {
    Failure::new(format!("waiting for run {id}"), error)
}

/// Disconnected when the run has no owner any more, and, if that was ended so that the run stops, nobody who does so.
/// The thread may outlive the caller's patience.
pub(crate) fn watch_lock(store: &Store, id: &RunId) -> Result<Receiver<Infallible>> {
    let paths = store.run(id);
    let (sender, freed) = bounded(0);
    let file = match File::open(paths.owner_lock()) {
        // Destroyed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(freed),
        other => other.map_err(|error| failed(id, error))?,
    };
    let wait = move || {
        lock::wait_shared(&file).ignore();
        drop(file);
        if paths.stop_marker().exists() {
            File::open(paths.output()).and_then(|output| lock::wait_shared(&output)).ignore();
        }
        drop(sender);
    };
    let started = threads::start("lock", 64, wait);
    started.map(|_| freed).map_err(|error| failed(id, error))
}
