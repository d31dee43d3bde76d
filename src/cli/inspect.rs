//! `fosse inspect`: whole records as JSON. Reads records and locks; asks no engine and changes nothing.

use serde_json::json;

use super::args::Inspect;
use super::output::Out;
use super::report::{Result, operand};
use super::stop::find;
use crate::run::store::Entry;
use crate::wire::record::SCHEMA;

pub(crate) fn inspect(args: &Inspect) -> Result {
    let store = super::store()?;
    let (mut out, mut code) = (Out::stdout(), 0);
    // One document for one object, and one object a line for several.
    let pretty = args.run.len() == 1 && !args.json;
    for text in &args.run {
        let id = match find(&store, text, "inspecting a run") {
            Ok(id) => id,
            Err(failure) => {
                operand(&failure, &mut code);
                continue;
            }
        };
        let value = match store.load(&id) {
            Some(Entry::Known(view)) => serde_json::to_value(view.shown()).unwrap_or_default(),
            Some(Entry::Unreadable { why, .. }) => {
                json!({"schema": SCHEMA, "id": id, "state": "unknown", "error": why})
            }
            None => continue,
        };
        if pretty { out.json_pretty(&value)? } else { out.json(&value)? }
    }
    out.finish()?;
    Ok(code)
}
