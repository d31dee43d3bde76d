//! `fosse clean`: destroys ended runs, and removes engine objects that belong to nobody.

use serde_json::json;

use super::args::{Clean, Target};
use super::config;
use super::engines::Engines;
use super::output::Out;
use super::report::{Result, operand};
use crate::base::error::Failure;
use crate::base::fs::remove_dir;
use crate::base::id::RunId;
use crate::base::time::Timestamp;
use crate::run::store::{Entry, Store};
use crate::run::{finish, reap};
use crate::runtime::{Error, Kind, Object, ObjectKind, Runtime};
use crate::wire::record::{Engine, Record, SCHEMA};

pub fn clean(args: &Clean) -> Result {
    let store = super::store()?;
    let engines = Engines::new(&store, &config::trusted(&store.paths)?, !args.dry_run);
    let mut cleaner =
        Cleaner { args, store: &store, engines: &engines, out: Out::stdout(), code: 0, silent: Vec::new() };
    let ended = if args.what == Target::Networks { Vec::new() } else { cleaner.ended()? };
    // First what an engine has of runs that are known to be over: once they are destroyed, nobody knows whose it was.
    cleaner.objects()?;
    for (id, name) in &ended {
        cleaner.run(id, name)?;
    }
    if !args.dry_run {
        cleaner.leftovers();
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
            if let Err(failure) = finish::destroy(self.store, id, &of) {
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

    /// What a killed client left of a run that it was still making, or a killed destroy of one.
    fn leftovers(&self) {
        let Ok(entries) = std::fs::read_dir(self.store.paths.runs()) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let unfinished = name.strip_prefix(".new-").or_else(|| name.strip_prefix(".gone-"));
            let paths = crate::base::paths::RunPaths { dir: entry.path() };
            if unfinished.and_then(RunId::parse).is_none() {
                continue;
            }
            let locked = paths.owner_lock().exists();
            // One without its lock may be made at this moment.
            let settled =
                if locked { crate::run::store::is_owned(&paths).is_ok_and(|owned| !owned) } else { is_old(&entry) };
            if settled {
                remove_dir(&paths.dir).unwrap_or_default();
            }
        }
        crate::run::owner::forget_free_names(self.store);
    }

    /// Engine objects that belong to nobody, in every engine that may have some.
    fn objects(&mut self) -> Result<()> {
        let Some(instance) = self.store.instance() else {
            return Ok(());
        };
        for runtime in self.runtimes()? {
            let orphans = match reap::orphaned(self.store, &instance, &*runtime) {
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
                let kind = match kind {
                    ObjectKind::Container => "container",
                    ObjectKind::Network => "network",
                };
                self.say(kind, id, None, "remove")?;
            }
        }
        Ok(())
    }

    /// The engines that are reachable from here, and those that records name. One that is not there at all has
    /// nothing; one that does not answer may.
    fn runtimes(&mut self) -> Result<Vec<Box<dyn Runtime>>> {
        let mut found: Vec<Box<dyn Runtime>> = Vec::new();
        for kind in Kind::ENGINES {
            let limits = self.engines.limits();
            let answered = self.engines.today(kind, limits.query()).and_then(|runtime| {
                runtime.version(limits.query())?;
                Ok(runtime)
            });
            match answered {
                Ok(runtime) => found.push(runtime),
                Err(Error::Call(error)) if error.is_missing() => {}
                Err(Error::Unreachable { .. }) => {}
                Err(error) => {
                    let what = format!("asking {}", kind.as_str());
                    operand(&Failure::new(what, error).hint("when it answers again, clean once more"), &mut self.code);
                }
            }
        }
        for entry in self.store.all()? {
            let Entry::Known(view) = entry else { continue };
            let Ok(runtime) = self.engines.of(&view.record) else {
                continue;
            };
            let same = |other: &dyn Runtime| other.kind() == runtime.kind() && other.endpoint() == runtime.endpoint();
            if self.store.run(&view.record.id).engine_marker().exists() && !found.iter().any(|other| same(&**other)) {
                found.push(runtime);
            }
        }
        Ok(found)
    }
}

/// Whether a directory was last changed more than a minute ago.
fn is_old(entry: &std::fs::DirEntry) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
    modified.and_then(|time| time.elapsed().ok()).is_some_and(|age| age.as_secs() > 60)
}
