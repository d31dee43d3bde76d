//! The scan of the runs, and finishing those whose owner died. A run that is over is read once; an engine that does not
//! answer is left alone for a while, and so is a run that could not be finished.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::base::error::{Failure, Ignore};
use crate::base::id::RunId;
use crate::base::log;
use crate::base::threads;
use crate::base::time::{Deadline, Timestamp};
use crate::run::engines::Engines;
use crate::run::finish::{self, Ended};
use crate::run::live;
use crate::run::store::{Entry, Store, View};
use crate::run::waiting::watch_lock;
use crate::runtime::Kind;
use crate::wire::record::{Engine, Reason, Record, State};

/// For how long an engine may still make what a dead client had asked for.
pub(crate) const LATE_WINDOW: Duration = Duration::from_secs(60);

/// Runs that are finished at the same time: each may have a tool of an engine's running.
const AT_ONCE: usize = 4;

/// How long an engine that did not answer is not asked for runs.
const SILENCE: Duration = Duration::from_secs(10);

/// How long a run that could not be finished is left alone, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// How a try to finish a run ended.
pub(crate) struct Done {
    id: RunId,
    /// `None` if somebody else is finishing it.
    result: Result<Option<Ended>, Failure>,
    /// The engine, if it does not answer at all.
    silent: Option<Engine>,
    /// Whether the engine may still make something that its owner had asked for.
    late: bool,
}

/// When a run is tried again.
struct Retry {
    at: Deadline,
    pause: Duration,
}

/// What one finished try means to the main loop.
pub(crate) enum News {
    /// A run was finished.
    Finished {
        /// Whether something of it may come late.
        late: bool,
    },
    /// Nothing that anybody waits for.
    Nothing,
}

/// The runs of dead owners.
pub(crate) struct Orphans {
    store: Store,
    machine: String,
    /// Runs that are over, with nothing left to do.
    settled: HashSet<RunId>,
    busy: HashSet<RunId>,
    retries: HashMap<RunId, Retry>,
    silent: Vec<(Engine, Deadline)>,
    tell: Sender<Done>,
    /// Ends of tries.
    pub(crate) done: Receiver<Done>,
    /// For how long the engines of runs that were seen to be over may still make something.
    late: Option<Duration>,
    complaint: Option<String>,
    /// Runs whose lock is waited for.
    watched: HashSet<RunId>,
    release: Sender<RunId>,
    /// Runs that nobody holds any more.
    pub(crate) released: Receiver<RunId>,
}

/// What a look at all runs has shown.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// How many live.
    pub(crate) live: u64,
    /// How many could not be finished yet.
    pub(crate) waiting: u64,
    /// For how long an engine may still make what a dead owner had asked for, if one may.
    pub(crate) late: Option<Duration>,
}

/// For how long the engine of a run that is over may still make what its owner had asked for. Also by a daemon that
/// did not finish it: its predecessor may have, just before it was replaced.
fn late_left(record: &Record, now: Timestamp) -> Option<Duration> {
    let acquiring = record.reason == Some(Reason::Orphaned) && record.started_at.is_none();
    if !acquiring || record.runtime == Kind::Native.as_str() {
        return None;
    }
    let ended = record.stopped_at.unwrap_or(record.created_at);
    LATE_WINDOW.checked_sub(ended.age(now)).filter(|left| !left.is_zero())
}

/// What there is to do about a run.
enum Need {
    Nothing,
    /// Nothing, for ever.
    Settled,
    /// It lives.
    Live,
    /// Its owner's duty.
    Finish,
}

/// `remains` is whether anything is there that only a live run has.
fn need(view: &View, remains: bool, machine: &str) -> Need {
    // A run of another machine is not judged here.
    let ours = view.record.machine_id.is_empty() || view.record.machine_id == machine;
    match (view.owned, view.record.state.is_final()) {
        (true, false) => Need::Live,
        (true, true) => Need::Nothing,
        (false, _) if !ours => Need::Settled,
        (false, false) => Need::Finish,
        (false, true) if remains => Need::Finish,
        (false, true) => Need::Settled,
    }
}

impl Orphans {
    /// Of one machine's runs.
    pub(crate) fn new(store: &Store, machine: &str) -> Self {
        let (tell, done) = unbounded();
        let (release, released) = unbounded();
        Orphans {
            store: store.clone(),
            machine: machine.to_owned(),
            settled: HashSet::new(),
            busy: HashSet::new(),
            retries: HashMap::new(),
            silent: Vec::new(),
            tell,
            done,
            late: None,
            complaint: None,
            watched: HashSet::new(),
            release,
            released,
        }
    }

    /// Waits for the end of an owner whose connection has ended: the kernel closes what a killed process had open in an
    /// order of its own, so that its lock may fall last; and an owner may live on without a connection.
    pub(crate) fn watch_owner(&mut self, id: RunId) {
        let is_live = matches!(self.store.load(&id), Some(Entry::Known(view)) if view.is_live());
        if !is_live || self.watched.contains(&id) {
            return;
        }
        let Ok(freed) = watch_lock(&self.store, &id) else { return };
        let (release, run) = (self.release.clone(), id.clone());
        let wait = move || {
            freed.recv().map_or_else(drop, |never| match never {});
            release.send(run).ignore();
        };
        if threads::start("release", 64, wait).is_ok() {
            self.watched.insert(id);
        }
    }

    /// Takes note that nobody holds a run any more.
    pub(crate) fn release(&mut self, id: &RunId) {
        self.watched.remove(id);
    }

    /// Looks at every run that is not over, and starts to finish the orphans.
    pub(crate) fn scan(&mut self, engines: &Engines) -> Seen {
        let ids = match self.store.ids() {
            Ok(ids) => ids,
            Err(failure) => {
                log::warn(&failure.to_string());
                return Seen::default();
            }
        };
        self.silent.retain(|(_, until)| !until.expired());
        let mut seen = Seen::default();
        self.late = None;
        let present: HashSet<RunId> = ids.iter().cloned().collect();
        self.settled.retain(|id| present.contains(id));
        self.retries.retain(|id, _| present.contains(id));
        for id in ids {
            seen.live += u64::from(!self.settled.contains(&id) && self.look(id, engines));
        }
        seen.waiting = self.retries.len() as u64;
        seen.late = self.late.take();
        seen
    }

    /// Why the last run that could not be finished could not.
    pub(crate) fn complaint(&self) -> Option<String> {
        self.complaint.clone()
    }

    /// Looks at one run; whether it lives.
    pub(crate) fn look(&mut self, id: RunId, engines: &Engines) -> bool {
        if self.busy.contains(&id) {
            // It is held, but by this process.
            return false;
        }
        let Some(Entry::Known(view)) = self.store.load(&id) else { return false };
        match need(&view, self.remains(&id, view.record.keep), &self.machine) {
            Need::Live => return true,
            Need::Nothing => {}
            Need::Settled => {
                self.late = self.late.max(late_left(&view.record, Timestamp::now()));
                self.settled.insert(id);
            }
            Need::Finish => self.begin(id, &view, engines),
        }
        false
    }

    /// Whether an owner that died at its very end has left something: in an engine, or on disk.
    fn remains(&self, id: &RunId, kept: bool) -> bool {
        let in_engine = self.store.run(id).engine_marker().exists() && !kept;
        in_engine || live::remains(&self.store, id)
    }

    /// Whether a try is under way.
    pub(crate) fn is_busy(&self) -> bool {
        !self.busy.is_empty()
    }

    fn begin(&mut self, id: RunId, view: &View, engines: &Engines) {
        let paused = self.retries.get(&id).is_some_and(|retry| !retry.at.expired());
        let silent =
            self.silent.iter().any(|(engine, until)| Some(engine) == view.record.engine.as_ref() && !until.expired());
        if paused || silent || self.busy.len() >= AT_ONCE {
            return;
        }
        let (store, engines, tell) = (self.store.clone(), engines.clone(), self.tell.clone());
        let acquiring = matches!(view.record.state, State::Created | State::Starting);
        let late = acquiring && view.record.runtime != Kind::Native.as_str();
        let (run, engine) = (id.clone(), view.record.engine.clone());
        let work = move || {
            let result = finish::finish_orphan(&store, &run, &|record| engines.of(record));
            let silent = if result.is_err() { silent_engine(&store, &run, &engines).and(engine) } else { None };
            tell.send(Done { id: run, result, silent, late }).ignore();
        };
        if threads::start("finish", 512, work).is_ok() {
            self.busy.insert(id);
        }
    }

    /// Takes note of the end of a try.
    pub(crate) fn note(&mut self, done: Done) -> News {
        self.busy.remove(&done.id);
        self.silent.extend(done.silent.map(|engine| (engine, Deadline::after(SILENCE))));
        match done.result {
            Ok(ended) => {
                self.retries.remove(&done.id);
                if ended.is_none() {
                    self.retries.insert(done.id, Retry { at: Deadline::after(FIRST_PAUSE), pause: FIRST_PAUSE });
                    return News::Nothing;
                }
                if ended != Some(Ended::Here) {
                    return News::Nothing;
                }
                log::info(&format!("finished run {}, whose owner died", done.id));
                News::Finished { late: done.late }
            }
            Err(failure) => {
                log::warn(&failure.to_string());
                self.complaint = Some(failure.to_string());
                let pause = self.retries.get(&done.id).map_or(FIRST_PAUSE, |retry| (retry.pause * 2).min(LAST_PAUSE));
                self.retries.insert(done.id, Retry { at: Deadline::after(pause), pause });
                News::Nothing
            }
        }
    }
}

/// Whether the engine of a run does not answer at all.
fn silent_engine(store: &Store, id: &RunId, engines: &Engines) -> Option<()> {
    let Some(Entry::Known(view)) = store.load(id) else { return None };
    let runtime = engines.of(&view.record).ok()?;
    runtime.version(runtime.limits().query()).is_err().then_some(())
}
