//! `fosse wait`: blocks until runs end. Reads records and locks; asks no engine and changes nothing.

use serde_json::json;

use super::args::Wait;
use super::output::Out;
use super::report::{Result, operand};
use super::stop::find;
use crate::base::error::Failure;
use crate::base::id::RunId;
use crate::run::finish::watch_lock;
use crate::run::store::{Entry, Store};
use crate::wire::record::{Reason, SCHEMA};

/// The exit code for an end that is not known.
const UNKNOWN: u8 = 125;

pub fn wait(args: &Wait) -> Result {
    let store = super::store()?;
    let (mut out, mut failed, mut last) = (Out::stdout(), 0, 0);
    for text in &args.run {
        let ended = find(&store, text, "waiting for a run").and_then(|id| Ok((end(&store, &id)?, id)));
        match ended {
            Err(failure) => operand(&failure, &mut failed),
            Ok((End { code, status }, id)) => {
                last = status;
                if args.json {
                    out.json(&json!({"schema": SCHEMA, "id": id, "exit_code": code}))?;
                } else {
                    out.line(&code.map_or_else(|| "null".to_owned(), |code| code.to_string()))?;
                }
                out.finish()?;
            }
        }
    }
    Ok(if failed == 0 { last } else { failed })
}

/// How a run ended, for who waits for it.
struct End {
    /// The command's exit code, if it is known.
    code: Option<u8>,
    /// What `wait` makes of it. A run that lost its owner did not end as it should, whatever its command ended with.
    status: u8,
}

/// The end, once nobody holds the run any more: then it is on disk, or will never be known.
fn end(store: &Store, id: &RunId) -> std::result::Result<End, Failure> {
    if store.run(id).owner_lock().exists() {
        watch_lock(store, id)?.recv().map_or_else(drop, |never| match never {});
    }
    match store.load(id) {
        Some(Entry::Known(view)) => {
            let record = view.shown();
            let code = record.exit_code;
            let known = code.filter(|_| record.reason != Some(Reason::Orphaned));
            Ok(End { code, status: known.unwrap_or(UNKNOWN) })
        }
        Some(Entry::Unreadable { why, .. }) => Err(Failure::new(format!("reading the record of {id}"), why)),
        None => Err(Failure::new(format!("waiting for run {id}"), "it was destroyed")),
    }
}
