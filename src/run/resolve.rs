//! What a RUN on the command line means: an exact id, else an exact name, else a unique prefix of an id.

use std::fmt;

use crate::base::error::Result;
use crate::base::id::{RunId, RunName};
use crate::run::store::{Entry, Store};

/// The shortest prefix of an id that is looked up.
const PREFIX_MIN: usize = 4;

/// A RUN that means none or several.
#[derive(Debug)]
pub(crate) struct NoRun {
    text: String,
    /// The runs that it may mean, as `NAME (ID)`.
    pub(crate) candidates: Vec<String>,
}

impl fmt::Display for NoRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.candidates.is_empty() {
            write!(f, "no run is called {:?}", self.text)
        } else {
            write!(f, "{:?} means several runs: {}", self.text, self.candidates.join(", "))
        }
    }
}

/// Finds the run that `text` means. A name means the live run of that name, else the newest.
pub(crate) fn resolve(store: &Store, text: &str) -> Result<std::result::Result<RunId, NoRun>> {
    if let Some(id) = RunId::parse(text) {
        if store.load(&id).is_some() {
            return Ok(Ok(id));
        }
    }
    if RunName::parse(text).is_ok() {
        // Newest first; the live one may be older than a later one that has ended.
        let all = store.all()?;
        let named = || {
            all.iter().filter_map(|entry| match entry {
                Entry::Known(view) if view.record.name.as_str() == text => Some(view),
                Entry::Known(_) | Entry::Unreadable { .. } => None,
            })
        };
        if let Some(view) = named().find(|view| view.is_live()).or_else(|| named().next()) {
            return Ok(Ok(view.record.id.clone()));
        }
    }
    let hex = text.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
    let mut matching: Vec<RunId> = Vec::new();
    if text.len() >= PREFIX_MIN && hex {
        matching = store.ids()?.into_iter().filter(|id| id.as_str().starts_with(text)).collect();
    }
    if let [id] = matching.as_slice() {
        return Ok(Ok(id.clone()));
    }
    matching.sort();
    let describe = |id: &RunId| match store.load(id) {
        Some(Entry::Known(view)) => format!("{} ({id})", view.record.name),
        Some(Entry::Unreadable { .. }) | None => id.to_string(),
    };
    Ok(Err(NoRun { text: text.to_owned(), candidates: matching.iter().map(describe).collect() }))
}
