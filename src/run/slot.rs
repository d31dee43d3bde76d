//! The one door to a run's record: apply the event, commit to disk, and only then is it so.

use crate::base::error::{Failure, Result};
use crate::base::fs::write_atomic;
use crate::base::paths::RunPaths;
use crate::base::time::Timestamp;
use crate::run::output::Totals;
use crate::run::state::{Event, State, apply};
use crate::wire::record::{self, Record};

/// A run's state and record, in the hands of the holder of its lock.
pub(crate) struct Slot {
    paths: RunPaths,
    state: State,
    record: Record,
}

impl Slot {
    /// Continues from a record. The caller holds the owner's lock.
    pub(crate) fn new(paths: RunPaths, record: Record) -> Self {
        Slot { paths, state: State::of(&record), record }
    }

    /// Where the run is in its life.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// The record as last committed, or as it would be.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Takes an event. If it cannot be written, the state has changed all the same: what happened has happened.
    pub(crate) fn advance(&mut self, event: Event) -> Result<()> {
        let next = apply(&self.state, event, Timestamp::now())
            .map_err(|illegal| Failure::new("recording what happened", illegal))?;
        self.state = next;
        self.state.describe(&mut self.record);
        self.commit()
    }

    /// Changes facts beside the state, and writes them if they are others now.
    pub(crate) fn note(&mut self, change: impl FnOnce(&mut Record)) -> Result<()> {
        let before = self.record.clone();
        change(&mut self.record);
        if self.record == before { Ok(()) } else { self.commit() }
    }

    /// Changes facts beside the state, to be written with the next event.
    pub(crate) fn remember(&mut self, change: impl FnOnce(&mut Record)) {
        change(&mut self.record);
    }

    /// Counts of the output, to be written with the next event.
    pub(crate) fn remember_totals(&mut self, totals: &Totals) {
        self.record.log_bytes = totals.bytes.iter().sum();
        self.record.log_truncated = totals.truncated;
    }

    fn commit(&self) -> Result<()> {
        let path = self.paths.record();
        write_atomic(&path, &record::format(&self.record))
            .map_err(|error| Failure::new(format!("writing the record {}", path.display()), error))
    }
}
