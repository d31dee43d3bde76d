//! Ending a run from another process, and doing what a dead owner can no longer do.
//!
//! The owner is asked first. One that does not answer in time is ended, once its identity is proved; then its lock
//! is free, and whoever takes it has the owner's duty: save the output, end the processes, write the final record,
//! remove what the engine has. An engine that does not answer changes nothing: the run stays as it is.

use std::fs::File;
use std::thread;
use std::time::Duration;

use crate::base::error::{Failure, Ignore, Result};
use crate::base::fs::{remove_file, write_atomic};
use crate::base::id::RunId;
use crate::base::paths::RunPaths;
use crate::base::time::{Deadline, Timestamp};
use crate::process::{self, no_cancel};
use crate::run::objects::Objects;
use crate::run::orphan::Orphan;
use crate::run::output::{Stream, Writer, append_beyond};
use crate::run::prepare::Undo;
use crate::run::slot::Slot;
use crate::run::store::{Entry, Store, View, is_being_finished};
use crate::run::waiting::watch_lock;
use crate::run::{control, failpoint, live, lockfile, owner, signals};
use crate::runtime::{Facts, ObjectKind, Runtime, Status};
use crate::sys::signal::Signal;
use crate::wire::channel::Exit;
use crate::wire::control::Request;
use crate::wire::record::{self, Record, State};

/// How long a daemon waits for an owner at its very end, and for another that finishes its run. It comes again.
const LOCK_LIMIT: Duration = Duration::from_secs(1);

/// How long an engine may go on with what a client asked that has died since (a measured `network create` still
/// happened after a first look), and how long after the client's last step that can be.
const LATE_LOOK: Duration = Duration::from_secs(3);
const LATE_WINDOW: Duration = Duration::from_secs(60);

/// How long beyond the grace an owner may take to end its run, and another to finish it (fosse-stop(1)).
const OWNER_LIMIT: Duration = Duration::from_secs(10);

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How a runtime is made for a run's record.
pub(crate) type RuntimeOf<'a> = &'a dyn Fn(&Record) -> Result<Box<dyn Runtime>>;

/// What became of a request to end a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was over before.
    Already,
    /// Its owner ended it.
    ByOwner,
    /// Its owner was dead or frozen, and it was finished here.
    Here,
}

/// Ends a run: asks its owner, or finishes it. `None` for the grace means the run's own.
pub(crate) fn stop(store: &Store, id: &RunId, grace: Option<Duration>, runtime_of: RuntimeOf) -> Result<Ended> {
    let Some(view) = known(store, id)? else { return Ok(Ended::Already) };
    let polite = grace.unwrap_or(Duration::from_millis(view.record.grace_ms));
    if view.record.state.is_final() && !view.owned {
        // Somebody still removes what an engine has of it: only then it is done. Or nobody has come to do that.
        if is_being_finished(&store.run(id)) || live::remains(store, id) {
            finish(store, id, polite, Late::Here, runtime_of)?.ok_or_else(|| held(id))?;
        }
        return Ok(Ended::Already);
    }
    if view.owned {
        match stop_by_owner(store, id, grace, polite)? {
            Frozen::No => {
                return Ok(if view.record.state.is_final() { Ended::Already } else { Ended::ByOwner });
            }
            Frozen::Gone => {
                // So that everybody sees the same end of it. Without space it ends as any orphan.
                mark_to_stop(&store.run(id), polite).ignore();
                finish(store, id, polite, Late::Here, runtime_of)?.ok_or_else(|| held(id))?;
            }
            Frozen::Ended(lock) => {
                let taken = owner::adopt(store, id, lock, Late::Here.patience(polite))?.ok_or_else(|| held(id))?;
                finish_taken(store, taken, polite, Late::Here, runtime_of)?;
            }
        }
        return Ok(Ended::Here);
    }
    finish(store, id, polite, Late::Here, runtime_of)?.ok_or_else(|| held(id))
}

/// Tells whoever finishes the run that it was asked to stop.
fn mark_to_stop(paths: &RunPaths, grace: Duration) -> std::io::Result<()> {
    // Its owner is as good as dead, and the disk may be full.
    owner::spend_reserve(paths);
    write_atomic(&paths.stop_marker(), grace.as_millis().to_string().as_bytes())
}

pub(super) fn held(id: &RunId) -> Failure {
    Failure::new(format!("finishing run {id}"), "somebody else is doing that")
        .hint("try again in a moment; fosse doctor tells whether the engine works")
}

/// What is known of a run; `None` if somebody has destroyed it meanwhile.
fn known(store: &Store, id: &RunId) -> Result<Option<View>> {
    match store.load(id) {
        Some(Entry::Known(view)) => Ok(Some(*view)),
        Some(Entry::Unreadable { why, .. }) => Err(Failure::new(format!("reading the record of {id}"), why)),
        None => Ok(None),
    }
}

/// Whether an owner had to be ended.
enum Frozen {
    /// It has ended the run itself.
    No,
    /// It is gone, and the run is not over.
    Gone,
    /// It was ended, with the lock in hand by which nobody else finishes the run.
    Ended(owner::Held),
}

fn stop_by_owner(store: &Store, id: &RunId, grace: Option<Duration>, polite: Duration) -> Result<Frozen> {
    let paths = store.run(id);
    let answer_by = Deadline::after(control::ANSWER_LIMIT);
    let grace_ms = grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
    let freed = watch_lock(store, id)?;
    // An owner that is just starting or just ending does not listen, and one whose socket was taken away opens another:
    // it is asked again until its time is over.
    let mut reachable = true;
    let accepted = loop {
        let owner = owner::read_owner(&paths);
        let socket = owner.map(|owner| std::path::PathBuf::from(owner.socket)).unwrap_or_default();
        match control::ask(&socket, store.uid, &Request::Stop { grace_ms }) {
            Ok(reply) => break reply.accepted,
            Err(error) if answer_by.expired() => {
                reachable = !control::is_unreachable(&error);
                break false;
            }
            Err(_) => {
                let pause = Deadline::after(Duration::from_millis(20)).channel();
                crossbeam_channel::select! {
                    recv(freed) -> _ => return let_go(store, id),
                    recv(pause) -> _ => {}
                }
            }
        }
    };
    // There is no way to it, which is not its fault: it is asked as any program is.
    let accepted = accepted || (!reachable && ask_by_signal(store, id)?);
    if accepted {
        // The end itself is the lock. The owner has the grace, and its own engine calls after it.
        let limit = polite.saturating_add(OWNER_LIMIT);
        let late = Deadline::after(limit).channel();
        crossbeam_channel::select! {
            recv(freed) -> _ => return let_go(store, id),
            recv(late) -> _ => {}
        }
        // Frozen after it had answered, or held up by its engine: one more question tells.
        if let Some(owner) = owner::read_owner(&paths) {
            if control::ask(std::path::Path::new(&owner.socket), store.uid, &Request::Stop { grace_ms: Some(0) })
                .is_ok()
            {
                let why = format!("its owner could not end it within {}", crate::base::duration::format(limit));
                return Err(
                    Failure::new(format!("stopping run {id}"), why).hint("fosse doctor tells whether the engine works")
                );
            }
        }
    }
    end_frozen(store, id, polite)
}

/// Asks an owner to end its run by a signal, as whoever sees its process may. Not one that stands still.
fn ask_by_signal(store: &Store, id: &RunId) -> Result<bool> {
    match owner::read_owner(&store.run(id)).filter(|owner| !owner::stands_still(owner)) {
        Some(owner) => owner::signal_proved(&owner, store.uid, Signal::TERM).map(|()| true),
        None => Ok(false),
    }
}

/// Ends an owner that does not answer. Its lock falls with it: by then it is on disk what the run was asked for, and in
/// hand what keeps everybody else from finishing it, so that whoever waits sees one end of it.
fn end_frozen(store: &Store, id: &RunId, polite: Duration) -> Result<Frozen> {
    let paths = store.run(id);
    let failed = |error: std::io::Error| Failure::new(format!("stopping run {id}"), error);
    let taken = owner::hold(store, id, Late::Here.patience(polite))?;
    if !known(store, id)?.is_some_and(|view| view.owned) {
        return let_go(store, id);
    }
    let lock = taken.ok_or_else(|| held(id))?;
    let Some(owner) = owner::read_owner(&paths) else {
        return Err(Failure::new(format!("stopping run {id}"), "its owner cannot be identified"));
    };
    mark_to_stop(&paths, polite).map_err(failed)?;
    owner::signal_proved(&owner, store.uid, Signal::KILL)
        .inspect_err(|_| remove_file(&paths.stop_marker()).ignore())?;
    Ok(Frozen::Ended(lock))
}

/// What it means that the lock is free: the owner has ended the run, or it has died or given up, and the run is to
/// be finished here. A run that is destroyed by now is over.
fn let_go(store: &Store, id: &RunId) -> Result<Frozen> {
    match store.load(id) {
        Some(Entry::Known(view)) if !view.record.state.is_final() => Ok(Frozen::Gone),
        _ => Ok(Frozen::No),
    }
}

/// Who looks for what an engine makes late, because its client had asked for it just before it died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    /// Whoever finishes the run, for a moment.
    Here,
    /// Somebody else, afterwards.
    Elsewhere,
}

impl Late {
    /// Until when an owner at its very end, and another who finishes its run, are waited for.
    pub(super) fn patience(self, grace: Duration) -> Deadline {
        match self {
            Late::Here => Deadline::after(grace.saturating_add(OWNER_LIMIT)),
            Late::Elsewhere => Deadline::after(LOCK_LIMIT),
        }
    }
}

/// Finishes a run whose owner died, unless somebody else is doing that. What its engine makes late is looked for
/// elsewhere.
pub(crate) fn finish_orphan(store: &Store, id: &RunId, runtime_of: RuntimeOf) -> Result<Option<Ended>> {
    finish(store, id, Duration::ZERO, Late::Elsewhere, runtime_of)
}

/// Takes a run over and does the owner's duty; its command has the grace between TERM and KILL. A run that somebody
/// else finished meanwhile is done. `None` if somebody else has it for longer than is waited.
pub(super) fn finish(
    store: &Store,
    id: &RunId,
    grace: Duration,
    looks: Late,
    runtime_of: RuntimeOf,
) -> Result<Option<Ended>> {
    if let Some(taken) = owner::take_over(store, id, looks.patience(grace))? {
        return finish_taken(store, taken, grace, looks, runtime_of).map(Some);
    }
    Ok(match store.load(id) {
        None => Some(Ended::Already),
        Some(Entry::Known(view)) if view.record.state.is_final() && !is_being_finished(&store.run(id)) => {
            Some(Ended::Already)
        }
        Some(_) => None,
    })
}

/// Does the owner's duty for a run that was taken over.
fn finish_taken(
    store: &Store,
    (lock, mut slot): (owner::Held, Slot),
    grace: Duration,
    looks: Late,
    runtime_of: RuntimeOf,
) -> Result<Ended> {
    let id = &slot.record().id.clone();
    if !slot.record().machine_id.is_empty() && slot.record().machine_id != owner::machine_id() {
        return Err(
            Failure::new(format!("finishing run {id}"), "it belongs to another machine").hint("finish it there")
        );
    }
    let paths = store.run(id);
    let was_final = slot.record().state.is_final();
    let mut removed = Ok(());
    if !was_final || paths.engine_marker().exists() {
        let runtime = runtime_of(slot.record())?;
        let objects = Objects::of(slot.record(), store.instance());
        let late = looks == Late::Here && runtime.may_come_late() && may_come_late(&slot, &paths.record());
        if !was_final {
            end_and_record(&paths, &mut slot, &*runtime, &objects, grace)?;
            lockfile::tell_end(&paths, slot.record()).ignore();
        }
        failpoint::pass("finish-recorded");
        if !slot.record().keep {
            removed = remove_objects(&*runtime, &objects, &paths, late);
        }
    }
    // Also if an engine keeps what it has: the run is over.
    live::remove(store, id);
    owner::forget_name(store, &slot.record().name, id);
    drop(lock);
    removed.map(|()| if was_final { Ended::Already } else { Ended::Here })
}

/// Whether the owner died while it asked an engine for something, so recently that it may still come to be.
fn may_come_late(slot: &Slot, record_file: &std::path::Path) -> bool {
    let acquiring = matches!(slot.record().state, State::Created | State::Starting);
    let modified = std::fs::metadata(record_file).and_then(|metadata| metadata.modified()).ok();
    let since = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let last_step = since.map_or(slot.record().created_at, |since| {
        Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    });
    acquiring && last_step.age(Timestamp::now()) < LATE_WINDOW
}

fn end_and_record(
    paths: &RunPaths,
    slot: &mut Slot,
    runtime: &dyn Runtime,
    objects: &Objects,
    grace: Duration,
) -> Result<()> {
    let id = slot.record().id.clone();
    let failed = |error| Failure::new(format!("finishing run {id}"), error);
    let grace = Orphan::of(paths).stop.unwrap_or(grace);
    let container = objects.find(runtime, ObjectKind::Container).map_err(failed)?.into_iter().next();
    let facts = match &container {
        Some(container) => {
            let chosen = slot.record().stop_signal.map(|number| Signal::from_number(number.into()));
            end_command(runtime, container, chosen, grace).map_err(failed)?
        }
        None => None,
    };
    let log = Writer::open(&paths.output(), slot.record().log_max)
        .map_err(|error| Failure::new("opening the output", error))?;
    // Where fosse's own init carries the bytes, an engine has none to give, and would say so in their place.
    if let (Some(container), true, record::Io::Engine) = (&container, facts.is_some(), slot.record().io) {
        if let Err(failure) = save_output(runtime, container, &log, &|_, _| ()) {
            crate::base::log::warn(&failure.to_string());
        }
    }
    log.sync().map_err(|error| Failure::new("writing the output to disk", error))?;
    slot.remember_totals(&log.totals());
    let mut orphan = Orphan::of(paths);
    if let (Some(_), None, Some(Status::Ended { code, .. }), record::Io::Engine) =
        (orphan.stop, orphan.exit, facts.map(|facts| facts.status), slot.record().io)
    {
        orphan.exit = Some(Exit { code, signal: None, oom: false });
    }
    orphan.events(slot.record().state).into_iter().try_for_each(|event| slot.advance(event))
}

/// Ends what still runs, politely if there is time, and says what the engine knows then.
fn end_command(
    runtime: &dyn Runtime,
    name: &str,
    chosen: Option<Signal>,
    grace: Duration,
) -> crate::runtime::Result<Option<Facts>> {
    let limits = runtime.limits();
    let look =
        || runtime.inspect(&[name.to_owned()], limits.query(), &no_cancel()).map(|facts| facts.into_iter().next());
    let facts = look()?;
    if facts.as_ref().is_none_or(|facts| facts.status != Status::Live) {
        return Ok(facts);
    }
    if !grace.is_zero() {
        // A refusal means that it has ended meanwhile, which the next look tells.
        let signal = signals::of_the_end(chosen, runtime, name, grace);
        runtime.signal(name, signal, limits.change()).map_or_else(refused_is_fine, Ok)?;
        let late = Deadline::after(grace);
        while !late.expired() {
            let facts = look()?;
            if facts.as_ref().is_none_or(|facts| facts.status != Status::Live) {
                return Ok(facts);
            }
            Deadline::after(LOOK_AGAIN).min(late).wait();
        }
    }
    runtime.signal(name, Signal::KILL, limits.change()).map_or_else(refused_is_fine, Ok)?;
    let late = limits.change();
    loop {
        let facts = look()?;
        if facts.as_ref().is_none_or(|facts| facts.status != Status::Live) || late.expired() {
            return Ok(facts);
        }
        Deadline::after(LOOK_AGAIN).min(late).wait();
    }
}

fn refused_is_fine(error: crate::runtime::Error) -> crate::runtime::Result<()> {
    match error {
        crate::runtime::Error::Refused { .. } => Ok(()),
        other => Err(other),
    }
}

/// Adds what the engine kept of the output beyond what is recorded already; `also` sees it too. Whether it keeps any.
pub(crate) fn save_output(
    runtime: &dyn Runtime,
    name: &str,
    log: &Writer,
    also: &(dyn Fn(Stream, &[u8]) + Sync),
) -> Result<bool> {
    let failed = |error: String| Failure::new("saving the output that the engine kept", error);
    let totals = log.totals();
    if totals.truncated {
        return Ok(true);
    }
    let Some(mut child) = runtime.output(name).map_err(|error| failed(error.to_string()))? else {
        return Ok(false);
    };
    let pipes = [child.stdout.take(), child.stderr.take()];
    let deadline = runtime.limits().change();
    let (late, ended) = (deadline.channel(), child.ended());
    thread::scope(|scope| {
        let readers: Vec<_> = Stream::BOTH
            .into_iter()
            .zip(pipes)
            .filter_map(|(stream, pipe)| Some((stream, File::from(pipe?))))
            .map(|(stream, pipe)| {
                let skip = totals.bytes[stream.index()];
                scope.spawn(move || append_beyond(log, stream, pipe, skip, |bytes| also(stream, bytes)))
            })
            .collect();
        let in_time = crossbeam_channel::select! {
            recv(ended) -> _ => true,
            recv(late) -> _ => false,
        };
        let exit = if in_time { child.reap() } else { child.terminate(Duration::ZERO) };
        let read = readers.into_iter().all(|reader| reader.join().is_ok_and(|result| result.is_ok()));
        if in_time && read && exit == process::Exit::Code(0) {
            Ok(true)
        } else {
            log.mark_left_out();
            Err(failed("the engine did not deliver all of it".into()))
        }
    })
}

/// Removes what an engine has of a run, and looks again for what it may still be making.
pub(super) fn remove_objects(runtime: &dyn Runtime, objects: &Objects, paths: &RunPaths, late: bool) -> Result<()> {
    let until = Deadline::after(LATE_LOOK);
    loop {
        if let Some(failure) = Undo::everything().run(runtime, objects, paths).into_iter().next() {
            return Err(failure);
        }
        if !late || until.expired() {
            return Ok(());
        }
        Deadline::after(LOOK_AGAIN).wait();
    }
}
