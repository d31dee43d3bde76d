//! `fosse stop`: ends runs, several in parallel.

use std::thread;

use super::args::Stop;
use super::config;
use super::engines::engines;
use super::report::{Result, operand};
use crate::base::error::Failure;
use crate::base::id::RunId;
use crate::base::log::{self, Level};
use crate::run::finish::{self, Ended};
use crate::run::resolve::resolve;
use crate::run::store::{Entry, Store};

/// Runs that are ended at the same time.
const PARALLEL: usize = 16;

/// Finds the run that an operand means.
pub(crate) fn find(store: &Store, text: &str, what: &str) -> std::result::Result<RunId, Failure> {
    resolve(store, text)?.map_err(|none| {
        let several = !none.candidates.is_empty();
        let hint = if several { "give more of the id" } else { "fosse list shows all runs" };
        Failure::new(what, none).hint(hint)
    })
}

/// A run as people know it.
pub(crate) fn title(store: &Store, id: &RunId) -> String {
    match store.load(id) {
        Some(Entry::Known(view)) => format!("{} ({id})", view.record.name),
        Some(Entry::Unreadable { .. }) | None => id.to_string(),
    }
}

pub(crate) fn stop(args: &Stop) -> Result {
    log::set_level(if args.quiet { Level::Quiet } else { Level::Normal });
    let store = super::store()?;
    let engines = engines(&store, &config::trusted(&store.paths)?, true);
    let mut code = 0;
    for some in args.run.chunks(PARALLEL) {
        let results: Vec<_> = thread::scope(|scope| {
            let one = |text: &String| {
                let text = text.clone();
                let (store, engines) = (&store, &engines);
                scope.spawn(move || {
                    let id = find(store, &text, "stopping a run")?;
                    let title = title(store, &id);
                    let ended = finish::stop(store, &id, args.grace, &|record| engines.of(record))?;
                    Ok((title, ended))
                })
            };
            let threads: Vec<_> = some.iter().map(one).collect();
            threads.into_iter().map(thread::ScopedJoinHandle::join).collect()
        });
        for result in results {
            match result {
                Ok(Ok((title, Ended::Already))) => log::info(&format!("{title} had ended already")),
                Ok(Ok((title, Ended::ByOwner))) => log::info(&format!("stopped {title}")),
                Ok(Ok((title, Ended::Here))) => log::info(&format!("finished {title}, whose owner did not answer")),
                Ok(Err(failure)) => operand(&failure, &mut code),
                Err(_) => operand(&Failure::new("stopping a run", "an internal error"), &mut code),
            }
        }
    }
    Ok(code)
}
