//! The records on disk, seen by anyone: read with what the owner's lock says, never written here.

use std::fs::{self, File};
use std::io;

use crate::base::error::{Failure, Result};
use crate::base::fs::read_bounded;
use crate::base::id::RunId;
use crate::base::paths::{Paths, RunPaths};
use crate::run::orphan::Orphan;
use crate::run::state::State;
use crate::sys::lock;
use crate::wire::record::{self, Record};

/// The runs of one state directory.
#[derive(Debug, Clone)]
pub struct Store {
    /// Where they are.
    pub paths: Paths,
    /// Whose they are.
    pub uid: u32,
}

/// A run as a reader sees it.
#[derive(Debug, Clone)]
pub enum Entry {
    /// Its record could be read.
    Known(Box<View>),
    /// It could not; it stops nothing.
    Unreadable {
        /// The run's id, which is its directory's name.
        id: RunId,
        /// What is wrong.
        why: String,
    },
}

/// A record with what its lock says.
#[derive(Debug, Clone)]
pub struct View {
    /// As it is on disk.
    pub record: Record,
    /// Whether its owner lives.
    pub(crate) owned: bool,
    /// What an owner has left that died before the end was recorded.
    orphan: Option<Orphan>,
}

impl View {
    /// Whether its owner died before the end was recorded.
    pub(crate) fn is_orphan(&self) -> bool {
        self.orphan.is_some()
    }

    /// Whether it is neither over nor orphaned.
    pub(crate) fn is_live(&self) -> bool {
        self.owned && !self.record.state.is_final()
    }

    /// The record as it is shown: an orphan as what it will become, before anyone has finished it.
    pub fn shown(&self) -> Record {
        let mut record = self.record.clone();
        if let Some(orphan) = &self.orphan {
            let at = record.started_at.unwrap_or(record.created_at);
            if let Ok(shown) = orphan.shown(&State::of(&record), at) {
                shown.describe(&mut record);
                // When it died is not known: only that it was after this.
                record.stopped_at = None;
            }
        }
        record
    }
}

/// Whether the run has an owner that lives.
pub(crate) fn is_owned(paths: &RunPaths) -> io::Result<bool> {
    match File::open(paths.owner_lock()) {
        Ok(file) => lock::try_shared(&file).map(|free| !free),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether somebody finishes the run of a dead owner at this moment.
pub(crate) fn is_being_finished(paths: &RunPaths) -> bool {
    File::open(paths.output()).and_then(|file| lock::try_shared(&file)).is_ok_and(|free| !free)
}

/// The record, or why it cannot be read; `None` if there is no such run.
fn read(paths: &RunPaths) -> Option<std::result::Result<Record, String>> {
    match read_bounded(&paths.record(), record::MAX_BYTES) {
        Ok(bytes) => Some(record::parse(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !paths.dir.exists() => None,
        Err(error) => Some(Err(error.to_string())),
    }
}

impl Store {
    /// The files of a run.
    pub(crate) fn run(&self, id: &RunId) -> RunPaths {
        self.paths.run(id)
    }

    /// Reads one run; `None` if there is no such run.
    ///
    /// The lock is looked at first: if it is free, whatever its owner wrote is already on disk, so a record that
    /// is not final then means that the owner died.
    pub fn load(&self, id: &RunId) -> Option<Entry> {
        let paths = self.run(id);
        let owned = match is_owned(&paths) {
            Ok(owned) => owned,
            Err(error) => {
                return Some(Entry::Unreadable { id: id.clone(), why: error.to_string() });
            }
        };
        let mut parsed = read(&paths)?;
        let mut orphan = None;
        if !owned && parsed.as_ref().is_ok_and(|record| !record.state.is_final()) {
            let left = Orphan::of(&paths);
            // Whoever finishes the run takes away what was left once the record is final: it is, or all of that was seen.
            parsed = read(&paths)?;
            orphan = parsed.as_ref().is_ok_and(|record| !record.state.is_final()).then_some(left);
        }
        Some(match parsed {
            Ok(record) if record.id == *id => Entry::Known(Box::new(View { record, owned, orphan })),
            Ok(record) => Entry::Unreadable { id: id.clone(), why: format!("it is the record of run {}", record.id) },
            Err(why) => Entry::Unreadable { id: id.clone(), why },
        })
    }

    /// Reads one run for showing it: the lock of a run that is over says nothing that is shown, and is not looked
    /// at. Half the time of a long list.
    fn glance(&self, id: &RunId) -> Option<Entry> {
        let parsed =
            read_bounded(&self.run(id).record(), record::MAX_BYTES).ok().and_then(|bytes| record::parse(&bytes).ok());
        match parsed {
            Some(record) if record.state.is_final() && record.id == *id => {
                Some(Entry::Known(Box::new(View { record, owned: false, orphan: None })))
            }
            Some(_) | None => self.load(id),
        }
    }

    /// The ids of all runs, in no order. No state directory means none.
    pub(crate) fn ids(&self) -> Result<Vec<RunId>> {
        let runs = self.paths.runs();
        let what = || format!("reading {}", runs.display());
        let entries = match fs::read_dir(&runs) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Failure::new(what(), error)),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| Failure::new(what(), error))?;
            ids.extend(entry.file_name().to_str().and_then(RunId::parse));
        }
        Ok(ids)
    }

    /// All runs, newest first; unreadable ones last.
    pub fn all(&self) -> Result<Vec<Entry>> {
        self.sorted(|id| self.load(id))
    }

    /// All runs as [`Store::all`], for showing them: whether a run that is over is still held is not told.
    pub(crate) fn all_for_show(&self) -> Result<Vec<Entry>> {
        self.sorted(|id| self.glance(id))
    }

    fn sorted(&self, read: impl Fn(&RunId) -> Option<Entry>) -> Result<Vec<Entry>> {
        let mut entries: Vec<Entry> = self.ids()?.iter().filter_map(read).collect();
        entries.sort_by(|a, b| match (a, b) {
            (Entry::Known(a), Entry::Known(b)) => {
                b.record.created_at.cmp(&a.record.created_at).then_with(|| a.record.id.cmp(&b.record.id))
            }
            (Entry::Known(_), Entry::Unreadable { .. }) => std::cmp::Ordering::Less,
            (Entry::Unreadable { .. }, Entry::Known(_)) => std::cmp::Ordering::Greater,
            (Entry::Unreadable { id: a, .. }, Entry::Unreadable { id: b, .. }) => a.cmp(b),
        });
        Ok(entries)
    }

    /// The random name of this state directory; `None` before its first run.
    pub(crate) fn instance(&self) -> Option<String> {
        let bytes = read_bounded(&self.paths.instance(), 64).ok()?;
        let text = String::from_utf8(bytes).ok()?.trim().to_owned();
        (text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit())).then_some(text)
    }
}
