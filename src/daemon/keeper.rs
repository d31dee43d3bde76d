//! The main loop: what happens when. It never waits for an engine: runs are finished and engines swept by threads of
//! their own, which are left behind if they do not come back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, never, select, unbounded};

use crate::base::error::{Failure, Ignore, Result};
use crate::base::log;
use crate::base::time::{Deadline, Since, Timestamp};
use crate::process;
use crate::run::engines::Engines;
use crate::run::owner::prepare_places;
use crate::run::signals;
use crate::sys::fd;
use crate::sys::signal::Signal;
use crate::wire::daemon::{Fingerprint, Health, Phase, SCHEMA};

use super::api::{Api, Wish};
use super::contend::{Goal, Outcome, contend};
use super::journal::Journal;
use super::leases::{Leases, Notice};
use super::lock::Held;
use super::manager::{self, Given};
use super::orphans::{LATE_WINDOW, News, Orphans};
use super::presence::Presence;
use super::sweeper::Sweeper;
use super::{Context, fingerprint};

/// How often the runs are looked at: the safety net below the leases.
const SCAN_EVERY: Duration = Duration::from_secs(5);

/// The same; debug builds can look less often, for tests of what is to be noticed without it.
fn scan_every() -> Duration {
    #[cfg(debug_assertions)]
    if let Ok(Some(text)) = crate::base::env::text("FOSSE_TEST_SCAN") {
        return crate::base::duration::parse(&text).unwrap_or(SCAN_EVERY);
    }
    SCAN_EVERY
}

/// How often the daemon's own files are looked at where the kernel does not tell.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// How long runs that are being finished have when the daemon ends. What it leaves, the next one finds.
const END_GRACE: Duration = Duration::from_secs(3);

/// Descriptors that it cannot do without.
const DESCRIPTORS: usize = 64;

/// What ends it or makes it read its configuration again.
const SIGNALS: [Signal; 6] = [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP, Signal::USR1, Signal::USR2];

/// What can be configured.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// How long it stays without live runs.
    pub(crate) idle: Duration,
    /// How often it sweeps.
    pub(crate) reap_every: Duration,
    /// How many ended runs stay.
    pub(crate) keep_runs: u64,
    /// For how long they stay.
    pub(crate) keep_time: Duration,
    /// How engines are reached.
    pub(crate) engines: Engines,
}

/// Reads the configuration.
pub(crate) type Load<'a> = dyn Fn() -> Result<Settings> + 'a;

/// How it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    /// By a client: it ends by itself, and logs to a file.
    Back,
    /// By a person or a service manager: it ends when it is told to, and logs to stderr.
    Fore,
}

/// How a start came out.
pub(crate) enum Start {
    /// This process was the daemon, and has ended.
    Over,
    /// Another one is.
    Running(Box<Health>),
}

/// Becomes the daemon, if there is none that is as good, and is it to its end. `ready` is called when it serves.
pub(crate) fn keep(
    context: &Context,
    load: &Load<'_>,
    ground: Ground,
    force: bool,
    ready: impl FnOnce(i32),
) -> Result<Start> {
    let given = if ground == Ground::Fore { manager::take()? } else { Given::default() };
    let instance = prepare_places(&context.store)?;
    let settings = load()?;
    let held = match contend(context, &Goal::Serve, force)? {
        Outcome::Won(held) => *held,
        Outcome::Running(health) => return Ok(Start::Running(health)),
        Outcome::Followed => return Err(Failure::new("becoming the daemon", "another one came first")),
    };
    let signals = signals::receive(&SIGNALS)?;
    let (mut keeper, pid) = Keeper::begin(context, held, settings, given, ground, &instance)?;
    log::info(&format!(
        "daemon {} of {} serves (pid {pid})",
        fingerprint::version(),
        context.store.paths.state.display()
    ));
    ready(pid);
    keeper.given.tell("READY=1");
    let replace = keeper.run(&signals, load);
    keeper.end(replace);
    Ok(Start::Over)
}

struct Keeper {
    context: Context,
    settings: Settings,
    ground: Ground,
    given: Given,
    presence: Presence,
    api: Arc<Api>,
    orphans: Orphans,
    sweeper: Sweeper,
    journal: Option<Journal>,
    wishes: Receiver<Wish>,
    leases: Receiver<Notice>,
    /// Since when nothing lives.
    quiet: Since,
    /// Until when things may come late.
    late: Option<Deadline>,
}

impl Keeper {
    fn begin(
        context: &Context,
        held: Held,
        settings: Settings,
        mut given: Given,
        ground: Ground,
        instance: &str,
    ) -> Result<(Keeper, i32)> {
        let store = &context.store;
        let failed = |error: std::io::Error| Failure::new("starting the daemon", error);
        // Without them it would be there, and let nobody in.
        fd::has_room_for(DESCRIPTORS).map_err(failed)?;
        let journal = match ground {
            // One that cannot be written ends nothing.
            Ground::Back => Journal::begin(&store.paths.daemon_log()).ok(),
            Ground::Fore => None,
        };
        let socket = store.paths.daemon_socket(instance);
        let (mut presence, listener) =
            Presence::open(held, context.lock_path(), socket, store.uid, given.listener.take())?;
        let holder = presence.holder().clone();
        let (wish, wishes) = unbounded();
        let (tell, leases) = unbounded();
        let about = Health {
            schema: SCHEMA,
            state: Phase::Serving,
            pid: holder.pid,
            nonce: holder.nonce,
            fingerprint: fingerprint_of(context),
            user_config: store.paths.user_config.as_ref().map(|path| path.to_string_lossy().into_owned()),
            started_at: Timestamp::now(),
            socket: holder.socket,
            log: journal.as_ref().map(|_| store.paths.daemon_log().to_string_lossy().into_owned()),
            foreground: ground == Ground::Fore,
            runs_live: 0,
            leases: 0,
            finished: 0,
            waiting: 0,
            waiting_for: None,
            last_sweep: None,
        };
        let api = Arc::new(Api {
            fingerprint: Mutex::new(about.fingerprint.clone()),
            socket: Mutex::new(about.socket.clone()),
            about,
            store: store.clone(),
            stopping: AtomicBool::new(false),
            live: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            waiting_for: Mutex::new(None),
            waiters: AtomicU64::new(0),
            sweep: Mutex::new(None),
            leases: Leases::watch(tell).map_err(failed)?,
            wishes: wish,
        });
        presence.serve(listener, &api)?;
        let pid = api.about.pid;
        let keeper = Keeper {
            orphans: Orphans::new(store, &context.machine),
            sweeper: Sweeper::new(store),
            context: context.clone(),
            quiet: Since::now(),
            late: None,
            settings,
            ground,
            given,
            presence,
            api,
            journal,
            wishes,
            leases,
        };
        Ok((keeper, pid))
    }

    /// Goes on until there is a reason to end; whether another daemon is to follow.
    fn run(&mut self, signals: &Receiver<Signal>, load: &Load<'_>) -> bool {
        let mut scan = Deadline::after(Duration::ZERO);
        let mut reap = Deadline::after(self.settings.reap_every);
        let mut check = Deadline::after(Duration::ZERO);
        let mut watched = false;
        self.sweep(false, None, true);
        loop {
            if check.expired() {
                watched = self.presence.is_watched();
                if !self.presence.mind(&self.api) {
                    // Whoever has the new one follows.
                    return true;
                }
                check = if watched { Deadline::never() } else { Deadline::after(CHECK_EVERY) };
            }
            if scan.expired() {
                if watched {
                    // Beside the scan: one waking for both.
                    check = Deadline::after(Duration::ZERO);
                }
                self.scan();
                self.look_for_late();
                scan = Deadline::after(scan_every());
            }
            if reap.expired() {
                self.sweep(false, None, true);
                reap = Deadline::after(self.settings.reap_every);
            }
            if self.is_idle() {
                log::info("nothing lives: the daemon ends");
                return false;
            }
            let alarm = scan.min(reap).min(check).min(self.idle_alarm()).channel();
            select! {
                recv(signals) -> signal => match signal {
                    Ok(Signal::HUP) => {
                        self.reload(load);
                        reap = Deadline::after(self.settings.reap_every);
                    }
                    // Nobody means anything by them, and they would end a program that does not take them.
                    Ok(Signal::USR1 | Signal::USR2) => {}
                    Ok(signal) => {
                        log::info(&format!("{}: the daemon ends", signal.name()));
                        return false;
                    }
                    Err(_) => return false,
                },
                recv(self.wishes) -> wish => match wish {
                    Ok(Wish::Stop { replace }) => {
                        log::info(if replace { "another daemon follows" } else { "asked to end" });
                        return replace;
                    }
                    Ok(Wish::Reap { dry_run, answer }) => {
                        self.scan();
                        self.sweep(dry_run, Some(answer), false);
                    }
                    Err(_) => return false,
                },
                recv(self.leases) -> notice => {
                    self.on_notice(notice.ok());
                    self.scan_soon(&mut scan);
                }
                recv(self.orphans.done) -> done => if let Ok(done) = done {
                    self.on_done(done);
                    // More may wait for what has just come free.
                    scan = Deadline::after(Duration::ZERO);
                },
                recv(self.orphans.released) -> run => if let Ok(run) = run {
                    self.orphans.release(&run);
                    self.scan_soon(&mut scan);
                },
                recv(self.sweeper.done) -> sweep => if let Ok(sweep) = sweep {
                    self.on_sweep(sweep);
                },
                recv(self.presence.changed()) -> told => {
                    check = Deadline::after(Duration::ZERO);
                    if told.is_err() {
                        self.presence.unwatched();
                    }
                },
                recv(alarm) -> _ => {}
            }
        }
    }

    /// Takes note of what happened to a lease.
    fn on_notice(&mut self, notice: Option<Notice>) {
        match notice {
            Some(Notice::Ended(run)) => self.orphans.watch_owner(run),
            Some(Notice::Began(Some(tool))) => {
                if self.settings.engines.learn(&tool.name, &tool.path) {
                    log::info(&format!("{} is {} from now on: it is not on this PATH", tool.name, tool.path));
                }
            }
            Some(Notice::Began(None)) => {}
            None => self.leases = never(),
        }
    }

    /// An owner is done, or dead.
    fn scan_soon(&mut self, scan: &mut Deadline) {
        *scan = Deadline::after(Duration::ZERO);
        self.quiet = Since::now();
    }

    fn scan(&mut self) {
        let seen = self.orphans.scan(&self.settings.engines);
        self.api.live.store(seen.live, Ordering::Relaxed);
        self.api.waits(seen.waiting, self.orphans.complaint().filter(|_| seen.waiting > 0));
        if let Some(left) = seen.late {
            let until = Deadline::after(left);
            self.late = Some(self.late.take().map_or(until, |known| known.max(until)));
        }
        if seen.live > 0 {
            self.quiet = Since::now();
        }
        if let Some(journal) = &mut self.journal {
            journal.mind().ignore();
        }
    }

    fn idle_alarm(&self) -> Deadline {
        match self.ground {
            Ground::Fore => Deadline::never(),
            Ground::Back => Deadline::after(self.settings.idle.saturating_sub(self.quiet.elapsed())),
        }
    }

    /// Whether it has nothing to stay for. Work that is stuck in an engine is nothing to stay for.
    fn is_idle(&mut self) -> bool {
        if self.ground == Ground::Fore || self.quiet.elapsed() < self.settings.idle {
            return false;
        }
        if self.late.is_some() || self.api.leases.count() > 0 {
            self.quiet = Since::now();
            return false;
        }
        // What came since the last look.
        self.scan();
        self.quiet.elapsed() >= self.settings.idle
    }

    fn on_done(&mut self, done: super::orphans::Done) {
        match self.orphans.note(done) {
            News::Finished { late } => {
                self.quiet = Since::now();
                self.api.finished.fetch_add(1, Ordering::Relaxed);
                if late {
                    self.late = Some(Deadline::after(LATE_WINDOW));
                }
            }
            News::Nothing => {}
        }
    }

    /// Looks again for what engines may have made since a client died.
    fn look_for_late(&mut self) {
        let Some(until) = &self.late else { return };
        if until.expired() {
            self.late = None;
        }
        self.sweeper.look_again(&self.settings.engines);
    }

    fn sweep(&mut self, dry_run: bool, answer: Option<Sender<crate::wire::daemon::Sweep>>, prune: bool) {
        let keep = prune.then(|| self.sweeper.keep(self.settings.keep_runs, self.settings.keep_time));
        self.sweeper.ask(&self.settings.engines, dry_run, keep, answer);
    }

    fn on_sweep(&mut self, sweep: crate::wire::daemon::Sweep) {
        for removed in sweep.objects.iter().filter(|_| !sweep.dry_run) {
            log::info(&format!("removed {} {} from {}", removed.kind, removed.id, removed.runtime));
        }
        if !sweep.pruned.is_empty() {
            log::info(&format!("pruned {} ended runs", sweep.pruned.len()));
        }
        sweep.problems.iter().for_each(|problem| log::warn(problem));
        if !sweep.dry_run {
            self.api.swept(sweep.clone());
        }
        self.sweeper.answered(sweep, &self.settings.engines);
    }

    fn reload(&mut self, load: &Load<'_>) {
        match load() {
            Ok(settings) => {
                self.settings = settings;
                self.api.reloaded(fingerprint_of(&self.context));
                log::info("read the configuration again");
            }
            Err(failure) => log::warn(&format!("{failure}; the configuration stays as it was")),
        }
    }

    /// The end, within its limit whatever hangs.
    fn end(mut self, replace: bool) {
        self.api.stopping.store(true, Ordering::SeqCst);
        self.given.tell("STOPPING=1");
        if !replace {
            self.api.leases.say_stopped();
        }
        // A sweep is left behind: the next daemon begins with one.
        let late = Deadline::after(END_GRACE);
        while self.orphans.is_busy() && !late.expired() {
            let alarm = late.channel();
            select! {
                recv(self.orphans.done) -> done => if let Ok(done) = done { self.on_done(done) },
                recv(alarm) -> _ => {}
            }
        }
        // Of what hangs, the processes at least go with this one.
        process::end_all();
        self.presence.end();
        log::info("the daemon has ended");
    }
}

fn fingerprint_of(context: &Context) -> Fingerprint {
    let settings = (context.settings_of)(context.store.paths.user_config.as_deref());
    Fingerprint { version: fingerprint::version(), settings }
}
