//! Who is who among init's children: the commands that were started, their keepers, and how each command ended.
//!
//! A command's number is known before its death can be seen: its process writes it into a pipe before anything else,
//! and when somebody unknown has died, the pipes are read before it is called an orphan. An entry goes when its
//! processes are reaped, so no signal by number can hit a stranger.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::passed::Passed;
use super::source::Source;
use super::timers::after;
use super::tree::{self, Tree};
use crate::base::error::Ignore;
use crate::base::time::now;
use crate::sys::linux::epoll::{Epoll, Interest};
use crate::sys::linux::init::Ended;
use crate::sys::linux::keeper::{self, Program, Report, Reports, Stage};
use crate::sys::process::{Pid, kill_child, kill_group};
use crate::sys::signal::Signal;
use crate::sys::stat::Stat;

/// Between TERM and KILL for what a command has left that had all the time it wanted.
const REST_GRACE: Duration = Duration::from_secs(1);

/// Between TERM and KILL.
const GRACE: Duration = Duration::from_millis(500);

/// How often processes that were told to end are looked at: they end without a word to init.
const LOOK: Duration = Duration::from_millis(15);

/// The same for those that were killed, among whom some may just have been forked.
const LOOK_AGAIN: Duration = Duration::from_millis(4);

/// How long killed processes are waited for: one in an uninterruptible sleep may take for ever.
const DEATH_LIMIT: Duration = Duration::from_secs(5);

/// A command that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CommandId(pub u64);

/// What became of a command.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) how: How,
    /// Whether it was ended by [`Table::end`] before it ended by itself.
    pub(crate) forced: bool,
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum How {
    /// Its process ended.
    Ended(Ended),
    /// It could not be started.
    NotStarted(Stage, io::Error),
}

/// How far the ending of a command with all it started has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Nobody wants it.
    None,
    /// Its keeper is told to stand still: the tree's orphans then stay below it, whoever ends.
    Stopping,
    /// It does; nobody has been signalled yet.
    Stopped,
    /// All were asked to end.
    Asked { kill: Instant },
    /// All are killed, again and again.
    Killing { late: Instant },
    /// Nobody is left.
    Over,
}

/// A command, until it and its keeper are reaped.
struct Entry {
    keeper: Option<Pid>,
    /// None when all reports are read.
    reports: Option<Reports>,
    leader: Option<Pid>,
    failed: Option<(Stage, i32)>,
    ended: Option<Ended>,
    ending: Ending,
    /// Between TERM and KILL.
    grace: Duration,
    /// Whether what it leaves ends with it.
    holds: bool,
    /// Whether its end has been told.
    told: bool,
}

/// All commands.
#[derive(Default)]
pub(crate) struct Table {
    entries: BTreeMap<u64, Entry>,
    /// Whose a process is.
    numbers: BTreeMap<i32, u64>,
    last: u64,
    ends: Vec<(CommandId, End)>,
    /// When to look at the commands that are being ended.
    due: Option<Instant>,
    /// Looking takes time where there are many processes: not before this.
    rest: Option<Instant>,
    /// With whom to begin the next time.
    next: u64,
}

impl Table {
    /// Starts a command. Its end is told by [`take_ends`](Self::take_ends), whatever it is.
    pub(crate) fn start(&mut self, epoll: &Epoll, program: &Program, stdio: &[OwnedFd; 3]) -> io::Result<CommandId> {
        let [stdin, stdout, stderr] = stdio;
        let (keeper, reports) = keeper::start(program, [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
        self.last += 1;
        let id = self.last;
        // Should it fail, the reports are read when the keeper has ended.
        epoll.add(&reports, Source::Reports(id).token(), Interest::READ).ignore();
        self.numbers.insert(keeper.number(), id);
        let (keeper, reports) = (Some(keeper), Some(reports));
        let entry = Entry {
            keeper,
            reports,
            leader: None,
            failed: None,
            ended: None,
            ending: Ending::None,
            grace: Duration::MAX,
            holds: program.holds,
            told: false,
        };
        self.entries.insert(id, entry);
        Ok(CommandId(id))
    }

    /// Begins to end a command with everything it started; nothing happens to one that has ended.
    pub(crate) fn end(&mut self, id: CommandId) {
        self.end_within(id, GRACE);
    }

    /// Signals a command, if its number is known and it has not ended; whether there is nothing left to do.
    pub(crate) fn signal(&self, id: CommandId, passed: Passed) -> bool {
        let Some(entry) = self.entries.get(&id.0) else { return true };
        match (entry.ended, entry.leader) {
            (Some(_), _) => true,
            (None, None) => false,
            (None, Some(leader)) => {
                passed.to(leader);
                true
            }
        }
    }

    /// The same as [`end`](Self::end), with so much time between TERM and KILL. A later wish can shorten it.
    pub(crate) fn end_within(&mut self, id: CommandId, grace: Duration) {
        let Some(entry) = self.entries.get_mut(&id.0) else { return };
        entry.grace = entry.grace.min(grace);
        if let Ending::Asked { kill } = &mut entry.ending {
            *kill = (*kill).min(after(now(), grace));
            self.due = Some(now());
        }
        if entry.told || entry.ended.is_some() || entry.ending != Ending::None {
            return;
        }
        entry.ending = if entry.keeper.is_some() { Ending::Stopping } else { Ending::Stopped };
        entry.stop_keeper();
        self.due = Some(now());
    }

    /// The ends that have not been told yet.
    pub(crate) fn take_ends(&mut self) -> Vec<(CommandId, End)> {
        std::mem::take(&mut self.ends)
    }

    /// Reads what a command's start has to say.
    pub(crate) fn read_reports(&mut self, epoll: &Epoll, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.read_reports(epoll);
        if let Some(leader) = entry.leader.filter(|_| entry.ended.is_none()) {
            self.numbers.insert(leader.number(), id);
        }
        self.settle(epoll, id);
    }

    /// Reads what the starts have to say whose commands have no number yet.
    pub(crate) fn catch_up(&mut self, epoll: &Epoll) {
        let unknown = self.entries.iter().filter(|(_, entry)| entry.leader.is_none());
        for id in unknown.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.read_reports(epoll, id);
        }
    }

    /// Takes note of a child's death before it is reaped; whether it is one of these.
    pub(crate) fn dead(&mut self, epoll: &Epoll, pid: Pid, ended: Ended) -> bool {
        if !self.numbers.contains_key(&pid.number()) {
            self.catch_up(epoll);
        }
        let Some(id) = self.numbers.remove(&pid.number()) else { return false };
        if let Some(entry) = self.entries.get_mut(&id) {
            if entry.keeper == Some(pid) {
                entry.keeper_ended(ended);
            } else {
                entry.leader_ended(ended);
            }
            // What is not said by now is said by nobody, or by the command when its keeper was killed.
            self.read_reports(epoll, id);
        }
        true
    }

    /// Takes note that a child stands still. A keeper that a command has stopped goes on, unless all are `frozen`.
    pub(crate) fn stopped(&mut self, pid: Pid, frozen: bool) {
        let Some(entry) = self.numbers.get(&pid.number()).and_then(|id| self.entries.get_mut(id)) else { return };
        if entry.keeper != Some(pid) {
            return;
        }
        match entry.ending {
            Ending::None if entry.leader_is_over() => {
                entry.grace = entry.grace.min(REST_GRACE);
                entry.ending = Ending::Stopped;
                self.due = Some(now());
            }
            Ending::None if frozen => {}
            Ending::None => kill_child(pid, Signal::CONT).ignore(),
            Ending::Stopping => {
                entry.ending = Ending::Stopped;
                self.due = Some(now());
            }
            Ending::Stopped | Ending::Asked { .. } | Ending::Killing { .. } | Ending::Over => {}
        }
    }

    /// When [`look`](Self::look) is to be called.
    pub(crate) fn due(&self) -> Option<Instant> {
        Some(self.due?.max(self.rest.unwrap_or(self.due?)))
    }

    /// Goes on with ending what is to be ended.
    pub(crate) fn look(&mut self) {
        let start = now();
        if self.due().is_none_or(|due| due > start) {
            return;
        }
        // One look at all processes is enough for all commands, and only if there is something to see.
        let is_seen = |entry: &Entry| !matches!(entry.ending, Ending::None | Ending::Stopping | Ending::Over);
        let tree = if self.entries.values().any(is_seen) { Tree::look().ok() } else { None };
        let seen = now();
        let (before, behind): (Vec<u64>, Vec<u64>) = self.entries.keys().partition(|id| **id < self.next);
        let late = seen + LOOK.max(seen - start);
        self.next = 0;
        for id in behind.into_iter().chain(before) {
            if now() > late {
                // Others have their turn before the rest.
                self.next = id;
                break;
            }
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            match entry.ending {
                Ending::None | Ending::Over => {}
                // Again: somebody may have continued it.
                Ending::Stopping => entry.stop_keeper(),
                Ending::Stopped | Ending::Asked { .. } | Ending::Killing { .. } => {
                    entry.stop_keeper();
                    entry.go_on(tree.as_ref());
                }
            }
        }
        let end = now();
        self.rest = Some(end + (end - start));
        let spans = self.entries.values().filter_map(|entry| match entry.ending {
            Ending::None | Ending::Over => None,
            Ending::Stopping | Ending::Stopped | Ending::Asked { .. } => Some(LOOK),
            Ending::Killing { .. } => Some(LOOK_AGAIN),
        });
        self.due = spans.min().map(|span| end + span);
    }

    /// Tells the end of a command that has come to it, and forgets it when all of it is reaped.
    fn settle(&mut self, epoll: &Epoll, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if !entry.told {
            if let Some(how) = entry.how() {
                entry.told = true;
                let forced = !matches!(entry.ending, Ending::None | Ending::Stopping);
                self.ends.push((CommandId(id), End { how, forced }));
            }
        }
        let over = entry.told && entry.keeper.is_none() && (entry.leader.is_none() || entry.ended.is_some());
        if over {
            entry.close_reports(epoll);
            self.entries.remove(&id);
        }
    }
}

impl Entry {
    fn read_reports(&mut self, epoll: &Epoll) {
        let Some(reports) = &self.reports else { return };
        let (said, is_all) = reports.read().unwrap_or((Vec::new(), true));
        for report in said {
            match report {
                Report::Leader(pid) => self.leader = Some(pid),
                Report::Failed(stage, errno) => self.failed = Some((stage, errno)),
            }
        }
        if is_all {
            self.close_reports(epoll);
        }
    }

    fn close_reports(&mut self, epoll: &Epoll) {
        if let Some(reports) = self.reports.take() {
            epoll.remove(&reports);
        }
    }

    /// What is to be told, if it is known.
    fn how(&self) -> Option<How> {
        let failed = |(stage, errno)| How::NotStarted(stage, io::Error::from_raw_os_error(errno));
        match (self.ended, self.leader) {
            (Some(ended), _) => Some(self.failed.map_or(How::Ended(ended), failed)),
            // There is no process, and there will be none.
            (None, None) if self.reports.is_none() => Some(match self.failed {
                Some(why) => failed(why),
                None if self.ending == Ending::None => {
                    How::NotStarted(Stage::Fork, io::Error::other("its keeper was killed"))
                }
                None => How::Ended(Ended::Killed(Signal::KILL.number())),
            }),
            (None, _) => None,
        }
    }

    /// Whether its keeper has a reason of its own to stand still.
    fn leader_is_over(&self) -> bool {
        let stat = self.leader.filter(|_| self.holds).and_then(Stat::of);
        stat.is_some_and(|stat| !stat.live)
    }

    fn stop_keeper(&self) {
        if let Some(keeper) = self.keeper {
            kill_child(keeper, Signal::STOP).ignore();
        }
    }

    fn keeper_ended(&mut self, ended: Ended) {
        self.keeper = None;
        if self.ending == Ending::Stopping {
            // By itself it ends with its command: then nothing is to be ended any more. Killed by somebody, it leaves
            // a command that goes on.
            self.ending = if matches!(ended, Ended::Exited(_)) { Ending::None } else { Ending::Stopped };
        }
    }

    fn leader_ended(&mut self, ended: Ended) {
        self.ended = Some(ended);
        let being_ended = matches!(self.ending, Ending::Stopped | Ending::Asked { .. } | Ending::Killing { .. });
        if self.keeper.is_none() && being_ended {
            // Without a keeper only the command's number, which it has until it is reaped, tells who belongs to it.
            if let Ok(tree) = Tree::look() {
                signal_all(&self.members(&tree), Signal::KILL);
            }
            self.ending = Ending::Over;
        }
    }

    /// Those who are to be ended. Below a keeper that is everybody. If a command has killed its keeper, it is who
    /// descends from the command or is in its session, which is all that can be told.
    fn members(&self, tree: &Tree) -> Vec<Stat> {
        match (self.keeper, self.leader) {
            (Some(keeper), _) => tree.descendants(&[keeper.number()]),
            (None, Some(leader)) => {
                let number = leader.number();
                let mut members = tree.those(|process| process.pid == number || process.session == number);
                let roots: Vec<i32> = members.iter().map(|process| process.pid).chain([number]).collect();
                members.extend(tree.descendants(&roots));
                members
            }
            (None, None) => Vec::new(),
        }
    }

    /// One step of the ending, at one look at the processes; without one, where they cannot be seen, the command's
    /// own group is what can be reached.
    fn go_on(&mut self, tree: Option<&Tree>) {
        let members = tree.map(|tree| self.members(tree));
        let signal = match self.ending {
            _ if members.as_ref().is_some_and(Vec::is_empty) => return self.finish(),
            Ending::Stopped if self.grace.is_zero() => {
                self.ending = Ending::Killing { late: now() + DEATH_LIMIT };
                Signal::KILL
            }
            Ending::Stopped => {
                self.ending = Ending::Asked { kill: after(now(), self.grace) };
                Signal::TERM
            }
            Ending::Asked { kill } if now() < kill => return,
            Ending::Asked { .. } => {
                self.ending = Ending::Killing { late: now() + DEATH_LIMIT };
                Signal::KILL
            }
            Ending::Killing { late } if now() < late => Signal::KILL,
            Ending::Killing { .. } => return self.finish(),
            Ending::None | Ending::Stopping | Ending::Over => return,
        };
        match (members, self.leader) {
            (Some(members), _) => signal_all(&members, signal),
            (None, Some(leader)) if self.ended.is_none() => kill_group(leader, signal).ignore(),
            (None, _) => {}
        }
    }

    /// The keeper goes too; with it, all who are dead come to init.
    fn finish(&mut self) {
        self.ending = Ending::Over;
        if let Some(keeper) = self.keeper {
            kill_child(keeper, Signal::KILL).ignore();
        }
    }
}

fn signal_all(members: &[Stat], signal: Signal) {
    members.iter().for_each(|process| tree::signal(process, signal, |_| true));
}
