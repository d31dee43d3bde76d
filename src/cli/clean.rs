//! `fosse clean`: destroys ended runs, and removes engine objects that belong to nobody.

use serde_json::json;

use super::args::{Clean, Target};
use super::config;
use super::engines::engines;
use super::output::Out;
use super::report::{Result, operand};
use crate::base::error::Failure;
use crate::base::id::RunId;
use crate::base::time::Timestamp;
use crate::run::destroy::destroy;
use crate::run::engines::{Engines, Found};
use crate::run::store::{Entry, Store};
use crate::run::{leftovers, owner, reap};
use crate::runtime::Object;
use crate::wire::record::{Engine, Record, SCHEMA};

pub(crate) fn clean(args: &Clean) -> Result {
    let store = super::store()?;
    let engines = engines(&store, &config::trusted(&store.paths)?, !args.dry_run);
    let mut cleaner =
        Cleaner { args, store: &store, engines: &engines, out: Out::stdout(), code: 0, silent: Vec::new() };
    let ended = if args.what == Target::Networks { Vec::new() } else { cleaner.ended()? };
    // First what an engine has of runs that are known to be over: once they are destroyed, nobody knows whose it was.
    cleaner.objects()?;
    for (id, name) in &ended {
        cleaner.run(id, name)?;
    }
    if !args.dry_run {
        leftovers::remove(&store);
    }
    cleaner.out.finish()?;
    Ok(cleaner.code)
}

struct Cleaner<'a> {
    args: &'a Clean,
    store: &'a Store,
    engines: &'a Engines,
    out: Out,
    code: u8,
    /// Engines that did not answer: asked once, not once for each of their runs.
    silent: Vec<Engine>,
}

impl Cleaner<'_> {
    /// Runs that are over, or whose owner is, and that ended long enough ago.
    fn ended(&self) -> Result<Vec<(RunId, String)>> {
        let now = Timestamp::now();
        let old = |at: Timestamp| self.args.older_than.is_none_or(|limit| at.age(now) > limit);
        let ended = self.store.all()?.into_iter().filter_map(|entry| match entry {
            Entry::Known(view) if view.owned => None,
            Entry::Known(view) => {
                let at = view.record.stopped_at.or(view.record.started_at).unwrap_or(view.record.created_at);
                old(at).then(|| (view.record.id.clone(), view.record.name.to_string()))
            }
            // An unreadable record may be a newer version's: only destroy removes it, by name.
            Entry::Unreadable { .. } => None,
        });
        Ok(ended.collect())
    }

    fn run(&mut self, id: &RunId, name: &str) -> Result<()> {
        if !self.args.dry_run {
            let silent = self.silent.clone();
            let of = |record: &Record| {
                if record.engine.as_ref().is_some_and(|engine| silent.contains(engine)) {
                    return Err(Failure::new(format!("destroying run {id}"), "its engine did not answer before"));
                }
                self.engines.of(record)
            };
            if let Err(failure) = destroy(self.store, id, &of) {
                operand(&failure, &mut self.code);
                self.remember_silence(id);
                return Ok(());
            }
        }
        self.say("run", id.as_str(), Some(name), "destroy")
    }

    /// After a failure: whether the run's engine answers at all.
    fn remember_silence(&mut self, id: &RunId) {
        let Some(Entry::Known(view)) = self.store.load(id) else { return };
        let Some(engine) = view.record.engine.clone().filter(|engine| !self.silent.contains(engine)) else { return };
        let answers =
            self.engines.of(&view.record).is_ok_and(|runtime| runtime.version(runtime.limits().query()).is_ok());
        if !answers {
            self.silent.push(engine);
        }
    }

    fn say(&mut self, kind: &str, id: &str, name: Option<&str>, action: &str) -> Result<()> {
        if self.args.quiet {
            return Ok(());
        }
        if self.args.json {
            let dry_run = self.args.dry_run;
            let object =
                json!({"schema": SCHEMA, "action": action, "kind": kind, "id": id, "name": name, "dry_run": dry_run});
            return Ok(self.out.json(&object)?);
        }
        let done = match (self.args.dry_run, action) {
            (true, action) => format!("would {action}"),
            (false, "destroy") => "destroyed".to_owned(),
            (false, _) => "removed".to_owned(),
        };
        let name = name.map(|name| format!(" {name}")).unwrap_or_default();
        Ok(self.out.line(&format!("{done} {kind}{name} ({id})"))?)
    }

    /// Engine objects that belong to nobody, in every engine that may have some.
    fn objects(&mut self) -> Result<()> {
        let Some(instance) = owner::known_instance(self.store)? else {
            return Ok(());
        };
        let Found { runtimes, failures } = self.engines.of_runs(self.store)?;
        failures.iter().for_each(|failure| operand(failure, &mut self.code));
        for runtime in runtimes {
            let orphans = match reap::orphaned(self.store, &instance, &*runtime, runtime.limits().query()) {
                Ok(orphans) => orphans,
                Err(failure) => {
                    operand(&failure.hint("when it answers again, clean once more"), &mut self.code);
                    continue;
                }
            };
            if !self.args.dry_run {
                if let Err(failure) = reap::remove(&orphans, &*runtime) {
                    operand(&failure, &mut self.code);
                    continue;
                }
            }
            for Object { kind, id, .. } in &orphans {
                self.say(kind.as_str(), id, None, "remove")?;
            }
        }
        Ok(())
    }
}
