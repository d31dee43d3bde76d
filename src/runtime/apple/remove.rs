//! Taking containers and networks away, until they are gone or the time is over. A failed call may have done its work,
//! so the state is looked at before anything is tried again.

use std::time::Duration;

use super::calls::What;
use super::words::{self, Meaning, meaning_of_removal};
use super::{Apple, PAUSE_MAX};
use crate::base::time::Deadline;
use crate::process::{Output, no_cancel};
use crate::runtime::{Error, Result, Status};
use crate::sys::signal::Signal;

/// Between a refusal and the next try.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// How long a container that was killed may take to be known as stopped, before it is removed by force.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// What a failed removal leaves to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It is not there.
    Done,
    /// End what runs in it first.
    Kill,
    /// Look whether it is there, and try again after a moment.
    Again,
    /// That was all that can be done.
    GiveUp,
}

fn next(error: &Error) -> Next {
    match error {
        Error::Refused { complaint, .. } => match meaning_of_removal(complaint) {
            Meaning::Absent => Next::Done,
            Meaning::Running => Next::Kill,
            Meaning::NoSuchVerb => Next::GiveUp,
            // What it says of a failure in the middle, or not at all, is found out by looking.
            _ => Next::Again,
        },
        Error::Call(crate::process::Error::Deadline { .. }) | Error::Unreachable { .. } => Next::Again,
        Error::Call(_)
        | Error::Garbled { .. }
        | Error::NoImage
        | Error::Forbidden { .. }
        | Error::NoAddresses { .. } => Next::GiveUp,
    }
}

/// Ends and removes a container.
pub(crate) fn container(apple: &Apple, id: &str, deadline: Deadline) -> Result<()> {
    let (mut pause, mut force) = (FIRST_PAUSE, false);
    loop {
        let options: &[&str] = if force { &["delete", "--force", id] } else { &["delete", id] };
        let cmd = apple.cmd(options);
        // A call that hangs is killed in time for another one.
        let time = deadline.remaining().unwrap_or_default() / 2;
        let deleted = apple.change(id, &cmd, Deadline::after(time), &no_cancel());
        let error = match deleted.and_then(|output| succeeded(&cmd, &output)) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        match next(&error) {
            Next::Done => return Ok(()),
            Next::GiveUp => return Err(error),
            Next::Kill => {
                end(apple, id, deadline);
                force = true;
            }
            Next::Again => {
                if apple.one(id, apple.limits.query()).is_ok_and(|found| found.is_none()) {
                    return Ok(());
                }
                force = !words::is_passing(&error);
            }
        }
        if deadline.expired() {
            return Err(error);
        }
        Deadline::after(pause).min(deadline).wait();
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn succeeded(cmd: &crate::process::Cmd, output: &Output) -> Result<()> {
    if output.exit.success() { Ok(()) } else { Err(Apple::refusal(cmd, output)) }
}

/// Kills what runs in a container. Up to 0.12 the tool does not wait for its end, and removing it by force in that
/// state loses its address for good.
fn end(apple: &Apple, id: &str, deadline: Deadline) {
    let cmd = apple.cmd(super::argv::kill(id, Signal::KILL));
    let time = deadline.remaining().unwrap_or_default() / 2;
    // Whatever it answers: the state decides.
    drop(apple.change(id, &cmd, Deadline::after(time), &no_cancel()));
    let limit = Deadline::after(STOP_LIMIT).min(deadline);
    while !limit.expired() {
        match apple.one(id, apple.limits.query().min(limit)) {
            Ok(Some(found)) if found.status() != Status::Stopped => Deadline::after(FIRST_PAUSE).min(limit).wait(),
            _ => return,
        }
    }
}

/// Removes a network. One that containers refer to, stopped ones included, is refused until they are gone.
pub(crate) fn network(apple: &Apple, id: &str, deadline: Deadline) -> Result<()> {
    let mut pause = FIRST_PAUSE;
    loop {
        let cmd = apple.cmd(["network", "delete", id]);
        let deleted = apple.change(id, &cmd, deadline, &no_cancel());
        let error = match deleted.and_then(|output| succeeded(&cmd, &output)) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        match next(&error) {
            Next::Done => return Ok(()),
            Next::GiveUp => return Err(error),
            Next::Kill | Next::Again => {
                let all = apple.networks(What::Step, apple.limits.query());
                if all.is_ok_and(|networks| networks.iter().all(|network| network.id != id)) {
                    return Ok(());
                }
            }
        }
        if deadline.expired() {
            return Err(error);
        }
        Deadline::after(pause).min(deadline).wait();
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
