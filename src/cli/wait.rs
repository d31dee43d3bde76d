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
use crate::wire::record::SCHEMA;

/// The exit code for an end that is not known.
const UNKNOWN: u8 = 125;

pub fn wait(args: &Wait) -> Result {
    let store = super::store()?;
    let (mut out, mut failed, mut last) = (Out::stdout(), 0, 0);
    for text in &args.run {
        let ended = find(&store, text, "waiting for a run").and_then(|id| Ok((exit_code(&store, &id)?, id)));
        match ended {
            Err(failure) => operand(&failure, &mut failed),
            Ok((code, id)) => {
                last = code.unwrap_or(UNKNOWN);
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

/// The exit code, once nobody holds the run any more: then it is on disk, or will never be known.
fn exit_code(store: &Store, id: &RunId) -> std::result::Result<Option<u8>, Failure> {
    if store.run(id).owner_lock().exists() {
        watch_lock(store, id)?.recv().map_or_else(drop, |never| match never {});
    }
    match store.load(id) {
        Some(Entry::Known(view)) => Ok(view.shown().exit_code),
        Some(Entry::Unreadable { why, .. }) => Err(Failure::new(format!("reading the record of {id}"), why)),
        None => Err(Failure::new(format!("waiting for run {id}"), "it was destroyed")),
    }
}
