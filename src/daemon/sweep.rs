//! The sweep: engine objects that belong to nobody, half-made things on disk, and records nobody needs any more. Each
//! engine is swept beside the others, so one that hangs holds up nobody.

use std::thread;

use crate::base::error::Failure;
use crate::base::time::Timestamp;
use crate::run::destroy::destroy;
use crate::run::engines::{Engines, Found};
use crate::run::store::{Entry, Store};
use crate::run::{leftovers, owner, reap};
use crate::runtime::{Object, Runtime};
use crate::wire::daemon::{Removed, Sweep};

use super::retention::{Ended, Keep, expired};

/// What a sweep is to do beside the engines' objects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    /// Whether nothing is to be removed.
    pub(crate) dry_run: bool,
    /// Which records stay; `None` leaves all of them alone.
    pub(crate) keep: Option<Keep>,
}

/// Sweeps.
pub(crate) fn sweep(store: &Store, engines: &Engines, job: Job) -> Sweep {
    let mut sweep = Sweep { dry_run: job.dry_run, ..Sweep::default() };
    let problems = match objects(store, engines, job.dry_run, &mut sweep.objects) {
        Ok(failures) => failures,
        Err(failure) => vec![failure],
    };
    sweep.problems.extend(problems.iter().map(Failure::to_string));
    if !job.dry_run {
        leftovers::remove(store);
    }
    if let Some(keep) = job.keep {
        prune(store, engines, keep, job.dry_run, &mut sweep);
    }
    sweep.at = Some(Timestamp::now());
    sweep
}

/// Only what engines have: for a look at what a dead client's last request made.
fn objects(
    store: &Store,
    engines: &Engines,
    dry_run: bool,
    removed: &mut Vec<Removed>,
) -> crate::base::error::Result<Vec<Failure>> {
    let Some(instance) = owner::known_instance(store)? else { return Ok(Vec::new()) };
    let Found { runtimes, mut failures } = engines.of_runs(store)?;
    let swept = thread::scope(|scope| {
        let one = |runtime: &dyn Runtime| {
            let kind = runtime.kind().as_str();
            let orphans = reap::orphaned(store, &instance, runtime, runtime.limits().query())?;
            if !dry_run && !orphans.is_empty() {
                remove(&orphans, runtime)?;
            }
            let told = |object: Object| Removed {
                kind: object.kind.as_str().to_owned(),
                id: object.id,
                runtime: kind.to_owned(),
                run: object.run,
            };
            Ok(orphans.into_iter().map(told).collect::<Vec<_>>())
        };
        let threads: Vec<_> = runtimes.iter().map(|runtime| scope.spawn(move || one(&**runtime))).collect();
        threads.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    for result in swept {
        match result {
            Ok(Ok(objects)) => removed.extend(objects),
            Ok(Err(failure)) => failures.push(failure),
            Err(_) => failures.push(Failure::new("sweeping an engine", "an internal error")),
        }
    }
    Ok(failures)
}

/// An engine may call something busy that is on its way out: it is asked once more.
fn remove(orphans: &[Object], runtime: &dyn Runtime) -> crate::base::error::Result<()> {
    reap::remove(orphans, runtime).or_else(|_| reap::remove(orphans, runtime))
}

fn prune(store: &Store, engines: &Engines, keep: Keep, dry_run: bool, sweep: &mut Sweep) {
    let all = match store.all() {
        Ok(all) => all,
        Err(failure) => return sweep.problems.push(failure.to_string()),
    };
    let here = owner::machine_id();
    let ended = all.into_iter().filter_map(|entry| match entry {
        Entry::Known(view) if view.owned || !view.record.state.is_final() || view.record.machine_id != here => None,
        Entry::Known(view) => {
            let at = view.record.stopped_at.or(view.record.started_at).unwrap_or(view.record.created_at);
            Some(Ended { id: view.record.id.clone(), at, kept: view.record.keep })
        }
        Entry::Unreadable { .. } => None,
    });
    for id in expired(ended.collect(), keep, Timestamp::now()) {
        let destroyed = if dry_run { Ok(()) } else { destroy(store, &id, &|record| engines.of(record)) };
        match destroyed {
            Ok(()) => sweep.pruned.push(id),
            Err(failure) => sweep.problems.push(failure.to_string()),
        }
    }
}
