//! How many calls there are at once: a few in all, and one at a time for each container or network, among all processes
//! of a state directory. The service answers them one after the other when it is slow, and each client that waits costs
//! memory and makes the others later; two changes of one container at once have broken it more than once.
//!
//! The order is made by locks on files, so whoever dies lets go. Nobody keeps one for longer than its call may last.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{bounded, select};

use crate::base::error::Ignore;
use crate::base::hash::fnv1a;
use crate::base::threads;
use crate::base::time::Deadline;
use crate::process::{self, Cancel, Cmd, Output, Stdio};
use crate::runtime::{Error, Result};
use crate::sys::lock;

/// The most calls at once.
const SLOTS: usize = 4;

/// Among so many locks the names of containers and networks are spread: two that share one wait for each other.
const OBJECTS: u64 = 64;

/// How often the limit of a change the wait for one's turn may last: everybody in front has one such limit.
pub(crate) const TURNS: u32 = 20;

/// Where the locks are.
#[derive(Debug, Clone)]
pub(crate) struct Locks {
    directory: PathBuf,
    /// Whether files may be made: who only looks changes nothing.
    may_make: bool,
}

impl Locks {
    /// In a directory of the state directory.
    pub(crate) fn below(directory: &Path, may_make: bool) -> Locks {
        Locks { directory: directory.join("apple"), may_make }
    }

    /// The file of a lock. `None` where there is none and none may be made, or none can be: then there is no order,
    /// which is better than no answer.
    fn file(&self, name: &str) -> Option<File> {
        let path = self.directory.join(name);
        if let Ok(file) = File::open(&path) {
            return Some(file);
        }
        if !self.may_make {
            return None;
        }
        std::fs::create_dir_all(&self.directory).ok()?;
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).ok()
    }
}

/// What a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What<'a> {
    /// Something that changes nothing, of somebody who wants to know: the wait for one's turn is part of the answer.
    Question,
    /// The same as a step of a run, which has begun and is to come to its end.
    Step,
    /// A change of the container or network of that name.
    Change(&'a str),
}

/// One's turn to call, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _object: Option<File>,
    slot: Option<File>,
}

impl Turn {
    /// Makes room for another call, and stays the only one that changes the object: who asks a question while holding
    /// a place would wait for others who do the same.
    pub(crate) fn make_room(&mut self) {
        self.slot = None;
    }
}

/// The calls of one process.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    locks: Locks,
}

impl Calls {
    /// With these locks.
    pub(crate) fn new(locks: Locks) -> Calls {
        Calls { locks }
    }

    /// A directory of the host in which there is nothing, and never will be.
    pub(crate) fn empty(&self) -> PathBuf {
        self.locks.directory.join("empty")
    }

    /// Runs a call when it is its turn. For a question the wait counts; the others have their whole time once they begin.
    pub(crate) fn call(&self, what: What<'_>, cmd: &Cmd, deadline: Deadline, cancel: &Cancel) -> Result<Output> {
        let (turn, deadline) = match what {
            What::Question => (self.turn(what, cmd, deadline, cancel)?, deadline),
            What::Step | What::Change(_) => {
                let time = deadline.remaining().unwrap_or_default();
                let turn = self.turn(what, cmd, Deadline::after(time.saturating_mul(TURNS)), cancel)?;
                (turn, Deadline::after(time))
            }
        };
        let output = process::call(cmd, deadline, cancel)?;
        drop(turn);
        Ok(output)
    }

    /// A call that lasts as long as it lasts, and holds up nobody.
    pub(crate) fn fetch(&self, cmd: &Cmd, show_progress: bool, cancel: &Cancel) -> Result<Output> {
        let stderr = if show_progress { Stdio::Inherit } else { Stdio::Pipe };
        Ok(process::call_with(cmd, stderr, Deadline::never(), cancel)?)
    }

    /// Waits for one's turn: first for the object, then for a place among all calls.
    pub(crate) fn turn(&self, what: What<'_>, cmd: &Cmd, limit: Deadline, cancel: &Cancel) -> Result<Turn> {
        let late = || Error::Refused { call: cmd.title(), complaint: waited(limit) };
        let object = match what {
            What::Question | What::Step => None,
            What::Change(name) => self.locks.file(&format!("object-{:02}", fnv1a(name.bytes()) % OBJECTS)),
        };
        let object = object.map(|file| wait(file, cmd, limit, cancel)).transpose()?;
        let object = match object {
            Some(None) => return Err(late()),
            Some(held) => held,
            None => None,
        };
        match self.slot(cmd, limit, cancel)? {
            Slot::Late => Err(late()),
            Slot::Held(slot) => Ok(Turn { _object: object, slot: Some(slot) }),
            Slot::NotOrdered => Ok(Turn { _object: object, slot: None }),
        }
    }

    fn slot(&self, cmd: &Cmd, limit: Deadline, cancel: &Cancel) -> Result<Slot> {
        // All of them are made at once: later calls change nothing on disk.
        let files: Option<Vec<File>> = (0..SLOTS).map(|number| self.locks.file(&format!("slot-{number}"))).collect();
        let Some(mut files) = files else { return Ok(Slot::NotOrdered) };
        if let Some(free) = files.iter().position(|file| lock::try_exclusive(file).unwrap_or(true)) {
            return Ok(Slot::Held(files.swap_remove(free)));
        }
        // All are taken: whoever waits for one waits in its line, and the lines are about as long as each other.
        let line =
            usize::try_from(fnv1a(format!("{:?}", thread::current().id()).bytes()) ^ u64::from(std::process::id()))
                .unwrap_or_default();
        let file = files.swap_remove(line % SLOTS);
        Ok(wait(file, cmd, limit, cancel)?.map_or(Slot::Late, Slot::Held))
    }
}

enum Slot {
    Held(File),
    /// There are no locks to be had.
    NotOrdered,
    Late,
}

/// Waits for a lock. The thread that is left waiting when somebody gives up lets go as soon as it has it.
fn wait(file: File, cmd: &Cmd, limit: Deadline, cancel: &Cancel) -> Result<Option<File>> {
    if lock::try_exclusive(&file).unwrap_or(true) {
        return Ok(Some(file));
    }
    let (tell, held) = bounded::<File>(0);
    let body = move || {
        lock::wait_exclusive(&file).ignore();
        tell.send(file).ignore();
    };
    let thread = threads::start("turn", 64, body);
    thread.map_err(|source| Error::Call(process::Error::Start { call: cmd.title(), source }))?;
    select! {
        recv(held) -> file => Ok(file.ok()),
        recv(cancel) -> _ => Err(Error::Call(process::Error::Cancelled { call: cmd.title() })),
        recv(limit.channel()) -> _ => Ok(None),
    }
}

fn waited(limit: Deadline) -> String {
    let limit = crate::base::duration::format(limit.limit().unwrap_or(Duration::ZERO));
    format!("waited {limit} for other calls of the tool, which do not end")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::no_cancel;

    fn calls() -> (Calls, PathBuf) {
        let directory = std::env::temp_dir().join(format!("fosse-calls-{}", crate::base::id::random_hex(6).unwrap()));
        (Calls::new(Locks::below(&directory, true)), directory)
    }

    #[test]
    fn a_few_calls_at_once_and_one_for_each_object() {
        let (calls, directory) = calls();
        let cmd = Cmd::new("container").args(["delete"]);
        let now = || Deadline::after(Duration::ZERO);
        let first = calls.turn(What::Change("a"), &cmd, now(), &no_cancel()).unwrap();
        assert!(calls.turn(What::Change("a"), &cmd, now(), &no_cancel()).is_err(), "two changes of one container");
        let others: Vec<Turn> =
            (1..SLOTS).map(|_| calls.turn(What::Question, &cmd, now(), &no_cancel()).unwrap()).collect();
        let late = calls.turn(What::Question, &cmd, now(), &no_cancel()).unwrap_err();
        assert!(late.to_string().contains("other calls"), "{late}");
        drop(first);
        calls.turn(What::Change("a"), &cmd, Deadline::after(Duration::from_secs(60)), &no_cancel()).unwrap();
        drop(others);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn who_may_make_no_file_asks_all_the_same() {
        let directory = std::env::temp_dir().join("fosse-calls-nowhere");
        let calls = Calls::new(Locks::below(&directory, false));
        let limit = Deadline::after(Duration::ZERO);
        calls.turn(What::Change("a"), &Cmd::new("container"), limit, &no_cancel()).unwrap();
        assert!(!directory.exists());
    }
}
