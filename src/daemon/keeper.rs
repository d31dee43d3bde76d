//! The main loop: what happens when. It never waits for an engine: runs are finished and engines swept by threads of
//! their own, which are left behind if they do not come back.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, select, unbounded};

use crate::base::error::{Failure, Result};
use crate::base::fs::private_dir;
use crate::base::id::RunId;
use crate::base::log;
use crate::base::paths::Paths;
use crate::base::time::{Deadline, Timestamp};
use crate::process;
use crate::run::engines::Engines;
use crate::run::owner::prepare_places;
use crate::run::signals;
use crate::sys::signal::Signal;
use crate::wire::daemon::{Fingerprint, Health, Phase, SCHEMA};

use super::api::{Api, Wish};
use super::contend::{Goal, Outcome, contend};
use super::door::Door;
use super::journal::Journal;
use super::leases::Leases;
use super::lock::Held;
use super::manager::{self, Given};
use super::orphans::{News, Orphans};
use super::serve::{Served, serve};
use super::sweeper::Sweeper;
use super::watch::Watch;
use super::{Context, fingerprint};

/// How often the runs are looked at: the safety net below the leases.
const SCAN_EVERY: Duration = Duration::from_secs(5);

/// How often the daemon's own files are looked at where the kernel does not tell.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// For how long an engine may still make what a dead client had asked for.
const LATE_WINDOW: Duration = Duration::from_secs(60);

/// How long runs that are being finished have when the daemon ends. What it leaves, the next one finds.
const END_GRACE: Duration = Duration::from_secs(3);

/// What ends it or makes it read its configuration again.
const SIGNALS: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP];

/// What can be configured.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long it stays without live runs.
    pub idle: Duration,
    /// How often it sweeps.
    pub reap_every: Duration,
    /// How many ended runs stay.
    pub keep_runs: u64,
    /// For how long they stay.
    pub keep_time: Duration,
    /// How engines are reached.
    pub engines: Engines,
}

/// Reads the configuration.
pub type Load<'a> = dyn Fn() -> Result<Settings> + 'a;

/// How it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// By a client: it ends by itself, and logs to a file.
    Back,
    /// By a person or a service manager: it ends when it is told to, and logs to stderr.
    Fore,
}

/// How a start came out.
pub enum Start {
    /// This process was the daemon, and has ended.
    Over,
    /// Another one is.
    Running(Box<Health>),
}

/// Becomes the daemon, if there is none that is as good, and is it to its end. `ready` is called when it serves.
pub fn keep(context: &Context, load: &Load<'_>, ground: Ground, force: bool, ready: impl FnOnce(i32)) -> Result<Start> {
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
    held: Held,
    door: Door,
    served: Served,
    api: Arc<Api>,
    orphans: Orphans,
    sweeper: Sweeper,
    watch: Watch,
    journal: Option<Journal>,
    /// Whether the kernel tells of changes.
    watched: bool,
    wishes: Receiver<Wish>,
    leases: Receiver<RunId>,
    /// Since when nothing lives.
    quiet: Deadline,
    /// Until when things may come late.
    late: Option<Deadline>,
}

impl Keeper {
    fn begin(
        context: &Context,
        mut held: Held,
        settings: Settings,
        mut given: Given,
        ground: Ground,
        instance: &str,
    ) -> Result<(Keeper, i32)> {
        let store = &context.store;
        let failed = |error: std::io::Error| Failure::new("starting the daemon", error);
        let journal = match ground {
            // One that cannot be written ends nothing.
            Ground::Back => Journal::begin(&store.paths.daemon_log()).ok(),
            Ground::Fore => None,
        };
        let (door, listener) = match given.listener.take() {
            Some(listener) => (given_door(&listener)?, listener),
            None => open_door(store.paths.daemon_socket(instance), store.uid)?,
        };
        held.tell_socket(door.path()).map_err(failed)?;
        let (wish, wishes) = unbounded();
        let (ended, leases) = unbounded();
        let about = Health {
            schema: SCHEMA,
            state: Phase::Serving,
            pid: held.holder.pid,
            nonce: held.holder.nonce.clone(),
            fingerprint: fingerprint_of(context),
            user_config: store.paths.user_config.as_ref().map(|path| path.to_string_lossy().into_owned()),
            started_at: Timestamp::now(),
            socket: held.holder.socket.clone(),
            log: journal.as_ref().map(|_| store.paths.daemon_log().to_string_lossy().into_owned()),
            foreground: ground == Ground::Fore,
            runs_live: 0,
            leases: 0,
            finished: 0,
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
            sweep: Mutex::new(None),
            leases: Leases::watch(ended).map_err(failed)?,
            wishes: wish,
        });
        let served = serve(listener, store.uid, Arc::clone(&api)).map_err(failed)?;
        let pid = held.holder.pid;
        let keeper = Keeper {
            orphans: Orphans::new(store, &context.machine),
            sweeper: Sweeper::new(store),
            watch: Watch::new(),
            watched: false,
            context: context.clone(),
            quiet: Deadline::never(),
            late: None,
            settings,
            ground,
            given,
            held,
            door,
            served,
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
        self.sweep(false, None, true);
        loop {
            if check.expired() {
                self.watched = self.watch.add(&self.context.lock_path(), self.door.path());
                if !self.mind_own_files() {
                    return true;
                }
                check = Deadline::after(if self.watched { SCAN_EVERY } else { CHECK_EVERY });
            }
            if scan.expired() {
                self.scan();
                self.look_for_late();
                scan = Deadline::after(SCAN_EVERY);
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
                recv(self.leases) -> run => if let Ok(run) = run {
                    self.orphans.look(run, &self.settings.engines);
                    self.quiet = Deadline::never();
                    scan = Deadline::after(Duration::ZERO);
                },
                recv(self.orphans.done) -> done => if let Ok(done) = done {
                    self.on_done(done);
                    // More may wait for what has just come free.
                    scan = Deadline::after(Duration::ZERO);
                },
                recv(self.sweeper.done) -> sweep => if let Ok(sweep) = sweep {
                    self.on_sweep(sweep);
                },
                recv(self.watch.changed) -> _ => check = Deadline::after(Duration::ZERO),
                recv(alarm) -> _ => {}
            }
        }
    }

    fn scan(&mut self) {
        let live = self.orphans.scan(&self.settings.engines);
        self.api.live.store(live, Ordering::Relaxed);
        if live > 0 {
            self.quiet = Deadline::never();
        }
        if let Some(journal) = &mut self.journal {
            journal.mind().unwrap_or_default();
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
            self.quiet = Deadline::never();
            return false;
        }
        // What came since the last look.
        self.scan();
        self.quiet.elapsed() >= self.settings.idle
    }

    fn on_done(&mut self, done: super::orphans::Done) {
        match self.orphans.note(done) {
            News::Finished { late } => {
                self.quiet = Deadline::never();
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

    /// Heals what somebody took away or changed; `false` if the lock is no longer the one that others find, so that
    /// another process may be the daemon.
    fn mind_own_files(&mut self) -> bool {
        if !self.held.is_in_place() {
            log::warn("the lock's file was removed or replaced: the daemon ends");
            return false;
        }
        if !self.door.is_in_place() {
            log::warn("the socket was removed or replaced: opening it again");
            match self.reopen() {
                Ok(()) => {}
                // Nobody finds it; the next look tries again.
                Err(failure) => log::warn(&failure.to_string()),
            }
        }
        match self.held.repair() {
            Ok(true) => log::warn("the lock's file was changed: wrote it again"),
            Ok(false) => {}
            Err(error) => log::warn(&format!("writing the lock's file again failed: {error}")),
        }
        true
    }

    fn reopen(&mut self) -> Result<()> {
        let store = &self.context.store;
        let (door, listener) = open_door(self.door.path().to_owned(), store.uid)?;
        self.served.stop();
        let failed = |error: std::io::Error| Failure::new("opening the socket again", error);
        self.served = serve(listener, store.uid, Arc::clone(&self.api)).map_err(failed)?;
        self.door = door;
        self.held.tell_socket(self.door.path()).map_err(failed)?;
        self.api.moved(self.held.holder.socket.clone());
        self.watched = self.watch.add(&self.context.lock_path(), self.door.path());
        Ok(())
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
        self.served.stop();
        self.door.remove();
        if self.held.is_in_place() {
            self.held.clear();
        }
        log::info("the daemon has ended");
        // The lock falls with the process, and not before.
        std::mem::forget(self.held);
    }
}

fn fingerprint_of(context: &Context) -> Fingerprint {
    let settings = (context.settings_of)(context.store.paths.user_config.as_deref());
    Fingerprint { version: fingerprint::version(), settings }
}

fn given_door(listener: &UnixListener) -> Result<Door> {
    let address = listener.local_addr().ok();
    let path = address.as_ref().and_then(std::os::unix::net::SocketAddr::as_pathname);
    let why = "it has no path in the file system";
    path.map(Door::given).ok_or_else(|| Failure::new("taking the socket of the service manager", why))
}

/// Opens the socket where it belongs, or in the spare directory if that one is gone for good.
fn open_door(path: PathBuf, uid: u32) -> Result<(Door, UnixListener)> {
    let open = |path: PathBuf| {
        let dir = path.parent().map(std::path::Path::to_path_buf).unwrap_or_default();
        private_dir(&dir, uid)?;
        Door::open(&path).map_err(|error| {
            Failure::new(format!("listening on {}", path.display()), error).hint("is the runtime directory writable?")
        })
    };
    let spare = Paths::spare_sockets(uid).join(path.file_name().unwrap_or_default());
    let parent_is_gone = |path: &PathBuf| path.ancestors().nth(2).is_some_and(|dir| fs::symlink_metadata(dir).is_err());
    let gone = parent_is_gone(&path) && path != spare;
    match open(path) {
        Err(_) if gone => open(spare),
        other => other,
    }
}
