//! When sweeps run: one at a time, in a thread of its own. What is asked for while one runs waits for the next, which
//! sees what is there by then.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::base::error::Ignore;
use crate::base::threads;
use crate::base::time::{Since, Timestamp};
use crate::run::engines::Engines;
use crate::run::store::Store;
use crate::wire::daemon::Sweep;

use super::retention::{Keep, is_steady};
use super::sweep::{Job, sweep};

/// A sweep that was asked for, with those who wait for it.
struct Asked {
    job: Job,
    answers: Vec<Sender<Sweep>>,
}

/// Sweeps, one after the other.
pub(crate) struct Sweeper {
    store: Store,
    running: Option<Asked>,
    waiting: Vec<Asked>,
    /// The wall clock and the steady one at the last look.
    clocks: Option<(Timestamp, Since)>,
    tell: Sender<Sweep>,
    /// Ends of sweeps.
    pub(crate) done: Receiver<Sweep>,
}

impl Sweeper {
    /// None runs yet.
    pub(crate) fn new(store: &Store) -> Self {
        let (tell, done) = unbounded();
        Sweeper { store: store.clone(), running: None, waiting: Vec::new(), clocks: None, tell, done }
    }

    /// Which records stay, as far as the clock can be trusted: after a jump nothing is too old until the next time.
    pub(crate) fn keep(&mut self, runs: u64, time: Duration) -> Keep {
        let now = Timestamp::now();
        let steady = self.clocks.as_ref().is_none_or(|(then, since)| {
            let wall = Duration::from_micros(now.micros().abs_diff(then.micros()));
            is_steady(wall, since.elapsed()) && now >= *then
        });
        self.clocks = Some((now, Since::now()));
        Keep { runs, time: steady.then_some(time) }
    }

    /// Asks for one.
    pub(crate) fn ask(&mut self, engines: &Engines, dry_run: bool, keep: Option<Keep>, answer: Option<Sender<Sweep>>) {
        let job = Job { dry_run, keep };
        match self.waiting.iter_mut().find(|asked| asked.job.dry_run == dry_run) {
            Some(asked) => {
                asked.answers.extend(answer);
                asked.job.keep = asked.job.keep.or(keep);
            }
            None => self.waiting.push(Asked { job, answers: answer.into_iter().collect() }),
        }
        self.next(engines);
    }

    /// Asks for one unless one runs that will do: for things that come late.
    pub(crate) fn look_again(&mut self, engines: &Engines) {
        if self.running.is_none() {
            self.ask(engines, false, None, None);
        }
    }

    /// One is over: whoever waited for it is told, and the next one begins.
    pub(crate) fn answered(&mut self, sweep: Sweep, engines: &Engines) {
        for answer in self.running.take().into_iter().flat_map(|asked| asked.answers) {
            answer.send(sweep.clone()).ignore();
        }
        self.next(engines);
    }

    fn next(&mut self, engines: &Engines) {
        if self.running.is_some() || self.waiting.is_empty() {
            return;
        }
        let asked = self.waiting.remove(0);
        let (store, engines, job, tell) = (self.store.clone(), engines.clone(), asked.job, self.tell.clone());
        let work = move || tell.send(sweep(&store, &engines, job)).ignore();
        if threads::start("sweep", 512, work).is_ok() {
            self.running = Some(asked);
        }
    }
}
