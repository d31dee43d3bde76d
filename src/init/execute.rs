//! The life of a command that is executed for somebody: what it writes is kept, its time is limited, and when it is
//! over he is told. How he asked and how he is told is not known here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::source::Source;
use super::table::{CommandId, End, How, Table};
use super::timers::{Timers, after};
use crate::base::time::now;
use crate::sys::fd::{pipe, set_nonblocking};
use crate::sys::linux::epoll::{Epoll, Interest};
use crate::sys::linux::init::Ended;
use crate::sys::linux::keeper::Program;
use crate::sys::signal::Signal;

/// How much of what a command writes is kept, of both streams together.
const KEPT: usize = 16 << 20;

/// How long output is still read once the command has ended: somebody may hold its pipe for ever.
const DRAIN: Duration = Duration::from_millis(200);

/// How long after its time is up the answer is given, even if the kernel has not ended it by then.
const LATEST: Duration = Duration::from_millis(900);

/// How much is read at once.
const PIECE: usize = 64 << 10;

/// How often is read at the very end: a pipe holds less, unless somebody has enlarged it.
const LAST_READS: usize = 4;

/// For whom a command is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A client's connection.
    Connection(u64),
}

/// What is asked for beside the program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    pub(crate) timeout: Duration,
    /// Whether its two streams are told apart.
    pub(crate) split: bool,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) how: How,
    /// Both streams in their order, or each of them.
    pub(crate) output: Vec<Vec<u8>>,
    pub(crate) timed_out: bool,
    pub(crate) truncated: bool,
}

/// Where a command is.
enum State {
    /// It starts or runs, until this time.
    Running(Instant),
    /// It is being ended; the answer is due soon.
    Ending,
    /// It has ended; its output is read for a moment.
    Draining(End),
}

/// One command.
struct Command {
    /// Nobody, if he has gone.
    asker: Option<Asker>,
    state: State,
    timed_out: bool,
    /// One pipe or two; none when it is at its end.
    pipes: Vec<Option<File>>,
    kept: Vec<Vec<u8>>,
    truncated: bool,
}

/// All commands that are executed for somebody.
pub(crate) struct Executions {
    commands: BTreeMap<u64, Command>,
    timers: Timers<u64>,
    done: Vec<(Asker, Outcome)>,
    piece: Box<[u8]>,
}

impl Executions {
    pub(crate) fn new() -> Executions {
        let piece = vec![0; PIECE].into_boxed_slice();
        Executions { commands: BTreeMap::new(), timers: Timers::new(), done: Vec::new(), piece }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.commands.len()
    }

    /// Starts one.
    pub(crate) fn start(
        &mut self,
        (epoll, table): (&Epoll, &mut Table),
        asker: Asker,
        program: &Program,
        order: Order,
    ) -> io::Result<CommandId> {
        let (stdout, out) = pipe()?;
        let (mut ends, err) = if order.split {
            let (stderr, err) = pipe()?;
            (vec![stdout, stderr], err)
        } else {
            (vec![stdout], out.try_clone()?)
        };
        ends.iter().try_for_each(set_nonblocking)?;
        let id = table.start(epoll, program, &[no_input()?, out, err])?;
        for (end, source) in ends.iter().zip([Source::Stdout(id.0), Source::Stderr(id.0)]) {
            if let Err(error) = epoll.add(end, source.token(), Interest::READ) {
                table.end(id);
                return Err(error);
            }
        }
        let until = after(now(), order.timeout);
        self.timers.set(id.0, until);
        let command = Command {
            asker: Some(asker),
            state: State::Running(until),
            timed_out: false,
            kept: vec![Vec::new(); ends.len()],
            pipes: ends.drain(..).map(|end| Some(File::from(end))).collect(),
            truncated: false,
        };
        self.commands.insert(id.0, command);
        Ok(id)
    }

    /// He who asked has gone: the command ends, with all it started, and nobody is told.
    pub(crate) fn abandon(&mut self, (epoll, table): (&Epoll, &mut Table), id: CommandId) {
        let Some(command) = self.commands.get_mut(&id.0) else { return };
        command.asker = None;
        match command.state {
            State::Running(_) => {
                table.end(id);
                command.state = State::Ending;
                self.timers.set(id.0, now() + LATEST);
            }
            State::Ending => {}
            State::Draining(_) => self.finish(epoll, id.0),
        }
    }

    /// Reads what a command has written.
    pub(crate) fn read(&mut self, epoll: &Epoll, id: u64, stream: usize) {
        let Some(command) = self.commands.get_mut(&id) else { return };
        command.read(epoll, stream, &mut self.piece);
        if matches!(command.state, State::Draining(_)) && command.is_drained() {
            self.finish(epoll, id);
        }
    }

    /// Takes note of an end; whether it is one of these that has ended.
    pub(crate) fn ended(&mut self, epoll: &Epoll, id: CommandId, end: End) -> Option<End> {
        let Some(command) = self.commands.get_mut(&id.0) else { return Some(end) };
        // It may have ended by itself just before its time was up.
        command.timed_out = command.timed_out && end.forced;
        command.state = State::Draining(end);
        if command.asker.is_none() || command.is_drained() {
            self.finish(epoll, id.0);
        } else {
            self.timers.set(id.0, now() + DRAIN);
        }
        None
    }

    /// When [`tick`](Self::tick) is to be called.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Does what time has come for.
    pub(crate) fn tick(&mut self, (epoll, table): (&Epoll, &mut Table)) {
        let time = now();
        while let Some(id) = self.timers.take(time) {
            let Some(command) = self.commands.get_mut(&id) else { continue };
            match command.state {
                State::Running(until) => {
                    command.timed_out = true;
                    command.state = State::Ending;
                    self.timers.set(id, until + LATEST);
                    table.end(CommandId(id));
                }
                State::Ending => {
                    // It has got its KILL, and ends when the kernel lets it.
                    let how = How::Ended(Ended::Killed(Signal::KILL.number()));
                    command.state = State::Draining(End { how, forced: true });
                    self.finish(epoll, id);
                }
                State::Draining(_) => self.finish(epoll, id),
            }
        }
    }

    /// Those who are to be told, and what.
    pub(crate) fn take_done(&mut self) -> Vec<(Asker, Outcome)> {
        std::mem::take(&mut self.done)
    }

    fn finish(&mut self, epoll: &Epoll, id: u64) {
        self.timers.clear(id);
        let Some(mut command) = self.commands.remove(&id) else { return };
        for stream in 0..command.pipes.len() {
            // What is in the pipe by now was written in time, however late it is read.
            for _ in 0..LAST_READS {
                if !command.read(epoll, stream, &mut self.piece) {
                    break;
                }
            }
            command.close(epoll, stream);
        }
        if let (Some(asker), State::Draining(end)) = (command.asker, command.state) {
            let (timed_out, truncated) = (command.timed_out, command.truncated);
            self.done.push((asker, Outcome { how: end.how, output: command.kept, timed_out, truncated }));
        }
    }
}

/// A stream that is at its end.
pub(crate) fn no_input() -> io::Result<OwnedFd> {
    match File::open("/dev/null") {
        Ok(file) => Ok(file.into()),
        // Not every container has one.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(pipe()?.0),
        Err(error) => Err(error),
    }
}

impl Command {
    /// Reads once; whether there may be more.
    fn read(&mut self, epoll: &Epoll, stream: usize, piece: &mut [u8]) -> bool {
        let Some(Some(pipe)) = self.pipes.get_mut(stream) else { return false };
        match pipe.read(piece) {
            Ok(count @ 1..) => {
                self.keep(stream, &piece[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Ok(_) | Err(_) => {
                self.close(epoll, stream);
                false
            }
        }
    }

    fn keep(&mut self, stream: usize, bytes: &[u8]) {
        if self.asker.is_none() {
            return;
        }
        let room = KEPT - self.kept.iter().map(Vec::len).sum::<usize>();
        self.truncated |= bytes.len() > room;
        self.kept[stream].extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn close(&mut self, epoll: &Epoll, stream: usize) {
        if let Some(pipe) = self.pipes.get_mut(stream).and_then(Option::take) {
            epoll.remove(&pipe);
        }
    }

    fn is_drained(&self) -> bool {
        self.pipes.iter().all(Option::is_none)
    }
}
