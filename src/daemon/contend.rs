//! Taking the lock from whoever should not have it. The decision is a pure function; the loop around it looks, asks,
//! ends what does not answer, and tries the lock between any two of these: having it is the only proof.

use std::fs::File;
use std::time::Duration;

use crate::base::error::{Failure, Ignore, Result};
use crate::base::time::{Deadline, Since};
use crate::wire::daemon::{Health, Phase, Shutdown};
use serde_json::Value;

use super::Context;
use super::client::{self, ANSWER_LIMIT, Error};
use super::fingerprint::{Judgement, judge, version};
use super::lock::{self, Held, Purpose, Tried};
use super::reclaim::{Met, Process, Reclaimed, holds, nameless, reclaim};

/// How long a daemon may take to end once it was asked: it keeps a limit of 10 s itself.
const END_LIMIT: Duration = Duration::from_secs(11);

/// How long a killed holder may keep the lock; longer means that the kernel does not let it die.
const DEATH_LIMIT: Duration = Duration::from_secs(5);

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(25);

/// How long the last look takes at one that has been silent.
const LAST_LOOK: Duration = Duration::from_millis(300);

/// Between two tries. A lock has no other way to tell that it is free without waiting for it.
const PAUSE: Duration = Duration::from_millis(10);

/// What is wanted from a daemon that answers.
#[derive(Debug, Clone)]
pub(crate) enum Goal {
    /// That it serves: only a stale one is replaced.
    Serve,
    /// That it ends. Its successor is nobody's business.
    End {
        /// Whether another one is to follow.
        replace: bool,
    },
}

/// How it came out.
pub(crate) enum Outcome {
    /// The lock is this process's.
    Won(Box<Held>),
    /// A daemon that is as good has it.
    Running(Box<Health>),
    /// The daemon that was to end has ended, and another one has the lock.
    Followed,
}

/// What is seen of the holder of the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// It answers, and may stay.
    Good,
    /// It answers, and must go.
    Bad,
    /// It answers that it is on its way out.
    Ending,
    /// It does not answer.
    Mute,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Leave,
    AskToEnd,
    Wait,
    Reclaim,
    GiveUp,
}

/// Decides. `mute` is for how long it has not answered, `asked` since when it was asked to end, `killed` since when it
/// was killed.
fn decide(seen: Seen, mute: Duration, asked: Option<Duration>, killed: Option<Duration>) -> Step {
    if let Some(since) = killed {
        return if since >= DEATH_LIMIT { Step::GiveUp } else { Step::Wait };
    }
    match (seen, asked) {
        (Seen::Good, _) => Step::Leave,
        (Seen::Mute, _) if mute >= ANSWER_LIMIT => Step::Reclaim,
        (Seen::Bad | Seen::Ending | Seen::Mute, Some(since)) if since >= END_LIMIT => Step::Reclaim,
        (Seen::Bad, None) => Step::AskToEnd,
        (Seen::Bad | Seen::Ending | Seen::Mute, _) => Step::Wait,
    }
}

/// What this process knows of one holder; another nonce is another one.
struct Acquaintance {
    nonce: Option<String>,
    mute: Since,
    asked: Option<Since>,
    killed: Option<Since>,
    /// Whether there was a process to kill.
    seen: bool,
    /// Whether the process that the lock's file names was seen to hold it.
    holds: bool,
}

impl Acquaintance {
    fn new(nonce: Option<String>) -> Self {
        Acquaintance { nonce, mute: Since::now(), asked: None, killed: None, seen: false, holds: false }
    }
}

/// Goes on until the goal is reached, or cannot be.
pub(crate) fn contend(context: &Context, goal: &Goal, force: bool) -> Result<Outcome> {
    let path = context.lock_path();
    let purpose = match goal {
        Goal::Serve => Purpose::Serve,
        Goal::End { .. } => Purpose::Prove,
    };
    let failed = |why: String| Failure::new("becoming the daemon", why);
    let late = Deadline::after(LIMIT);
    let mut holder: Option<Acquaintance> = None;
    // Who holds the lock while its file names nobody who does.
    let mut suspect: Option<Process> = None;
    // Whom the end is meant for: the first that is seen.
    let mut target: Option<String> = None;
    loop {
        let file = match lock::try_take(&path, purpose).map_err(|error| {
            failed(format!("{}: {error}", path.display())).hint("is the state directory writable, and is there space?")
        })? {
            Tried::Won(held) => return Ok(Outcome::Won(held)),
            Tried::Busy(file) => file,
        };
        // Before it is asked: a look at one that is silent takes long, and its lock may be another's afterwards.
        let writer = lock::read(&path).filter(|told| holds(&file, told)).map(|told| told.nonce);
        if writer.is_none() && suspect.is_none() {
            suspect = nameless(&file, context.store.uid);
        }
        let (told, health) = context.look(Deadline::after(ANSWER_LIMIT).min(late));
        // Without a word in the lock's file, by its own.
        let nonce = match (&told, &health) {
            (Some(told), _) => Some(told.nonce.clone()),
            (None, Ok(health)) => Some(health.nonce.clone()),
            (None, Err(_)) => None,
        };
        if holder.as_ref().is_none_or(|known| known.nonce != nonce) {
            holder = Some(Acquaintance::new(nonce.clone()));
        }
        if target.is_none() {
            target.clone_from(&nonce);
        }
        let known = holder.get_or_insert_with(|| Acquaintance::new(None));
        known.holds |= writer.is_some() && writer == known.nonce;
        if matches!(goal, Goal::End { .. }) && target.is_some() && nonce.is_some() && nonce != target {
            return Ok(Outcome::Followed);
        }
        let seen = judged(context, goal, &health);
        if seen != Seen::Mute {
            known.mute = Since::now();
        }
        // Somebody was silent for the whole of the limit; nobody there at all is waited for.
        let mute = if matches!(health, Err(Error::Silent)) { ANSWER_LIMIT } else { known.mute.elapsed() };
        let step = decide(seen, mute, known.asked.map(|at| at.elapsed()), known.killed.map(|at| at.elapsed()));
        match (step, &health) {
            (Step::Leave, Ok(health)) => return Ok(Outcome::Running(Box::new(health.clone()))),
            (Step::AskToEnd, Ok(health)) => {
                ask_to_end(context, health, goal);
                known.asked = Some(Since::now());
            }
            // Silence may be a stranger's who took its place: a living one has that back by now.
            (Step::Reclaim, _) if seen == Seen::Mute && context.look(Deadline::after(LAST_LOOK)).1.is_ok() => {}
            (Step::Reclaim, _) => {
                let met = if known.holds { Met::Holding } else { Met::Nameless(suspect) };
                match end(&file, &path, told.as_ref(), met, context, force)? {
                    // Its time begins now.
                    Reclaimed::Another => (holder, suspect) = (None, None),
                    ended => {
                        known.seen = ended == Reclaimed::Killed;
                        known.killed = Some(Since::now());
                    }
                }
            }
            (Step::GiveUp, _) if known.seen => return Err(immortal(told.as_ref())),
            (Step::GiveUp, _) => return Err(unseen()),
            (Step::Leave | Step::AskToEnd | Step::Wait, _) => {}
        }
        if late.expired() {
            return Err(unseen());
        }
        drop(file);
        Deadline::after(PAUSE).wait();
    }
}

/// Ends the holder, if it is still the one that was silent.
fn end(
    file: &File,
    path: &std::path::Path,
    told: Option<&crate::wire::daemon::Holder>,
    met: Met,
    context: &Context,
    force: bool,
) -> Result<Reclaimed> {
    let same = lock::read(path).map(|now| now.nonce) == told.map(|told| told.nonce.clone());
    if same { reclaim(file, told, met, context.store.uid, force) } else { Ok(Reclaimed::Nobody) }
}

fn judged(context: &Context, goal: &Goal, health: &Result<Health, Error>) -> Seen {
    let Ok(health) = health else { return Seen::Mute };
    if health.state == Phase::Stopping {
        return Seen::Ending;
    }
    match goal {
        Goal::End { .. } => Seen::Bad,
        Goal::Serve => match judge(&health.fingerprint, &version(), &settings(context, health)) {
            Judgement::Fresh => Seen::Good,
            Judgement::Stale(_) => Seen::Bad,
        },
    }
}

/// What a daemon's files say now.
pub(crate) fn settings(context: &Context, health: &Health) -> Value {
    (context.settings_of)(health.user_config.as_deref().map(std::path::Path::new))
}

/// Whether a daemon that answers is as good as a new one.
pub(crate) fn is_fresh(context: &Context, health: &Health) -> bool {
    judged(context, &Goal::Serve, &Ok(health.clone())) == Seen::Good
}

fn ask_to_end(context: &Context, health: &Health, goal: &Goal) {
    let replace = match goal {
        Goal::Serve => true,
        Goal::End { replace } => *replace,
    };
    let shutdown = Shutdown { nonce: Some(health.nonce.clone()), replace };
    let socket = std::path::Path::new(&health.socket);
    let deadline = Deadline::after(ANSWER_LIMIT);
    // A refusal or a silence is seen at the next look.
    client::post::<Value>(socket, context.store.uid, "/v1/shutdown", &shutdown, deadline).ignore();
}

fn unseen() -> Failure {
    let why = "its lock is held by a process that does not answer and cannot be seen from here";
    Failure::new("becoming the daemon", why).hint("it may run in a container that shares the state directory")
}

fn immortal(holder: Option<&crate::wire::daemon::Holder>) -> Failure {
    let who = holder.map_or_else(|| "it".into(), |holder| format!("process {}", holder.pid));
    let why = format!("{who} was killed and keeps its lock: the kernel does not let it end");
    Failure::new("replacing the daemon that does not answer", why)
        .hint("it hangs in the kernel, or its control group is frozen: see its state in ps")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: Duration = Duration::from_secs(1);
    const NOW: Duration = Duration::ZERO;

    #[test]
    fn a_good_daemon_is_left_alone() {
        assert_eq!(decide(Seen::Good, NOW, None, None), Step::Leave);
        assert_eq!(decide(Seen::Good, 60 * SEC, Some(60 * SEC), None), Step::Leave);
    }

    #[test]
    fn a_bad_one_is_asked_once_and_has_its_time() {
        assert_eq!(decide(Seen::Bad, NOW, None, None), Step::AskToEnd);
        assert_eq!(decide(Seen::Bad, NOW, Some(SEC), None), Step::Wait);
        assert_eq!(decide(Seen::Ending, NOW, Some(10 * SEC), None), Step::Wait);
        assert_eq!(decide(Seen::Ending, NOW, Some(END_LIMIT), None), Step::Reclaim);
    }

    #[test]
    fn one_that_ends_without_being_asked_is_waited_for() {
        assert_eq!(decide(Seen::Ending, NOW, None, None), Step::Wait);
    }

    #[test]
    fn a_mute_one_has_two_seconds() {
        assert_eq!(decide(Seen::Mute, SEC, None, None), Step::Wait);
        assert_eq!(decide(Seen::Mute, ANSWER_LIMIT, None, None), Step::Reclaim);
        assert_eq!(decide(Seen::Mute, ANSWER_LIMIT, Some(SEC), None), Step::Reclaim);
    }

    #[test]
    fn a_killed_one_is_killed_once() {
        for seen in [Seen::Mute, Seen::Bad, Seen::Ending] {
            assert_eq!(decide(seen, 60 * SEC, None, Some(SEC)), Step::Wait);
            assert_eq!(decide(seen, 60 * SEC, None, Some(DEATH_LIMIT)), Step::GiveUp);
        }
    }
}
