//! The API over HTTP: who is connected, what he asks for, and what he is answered.
//!
//! Nobody can hold up another: everything is non-blocking, every wait for a client has a limit, and where there are
//! too many of them those go who wait for nothing but themselves.

mod connection;
mod listener;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use super::api::{self, Call, Execute, Outcome, Output};
use super::execute::{self, Asker, Executions, Order};
use super::source::Source;
use super::spawn::{Base, Command};
use super::table::{How, Table};
use super::timers::Timers;
use crate::base::error::Ignore;
use crate::base::time::now;
use crate::http::request::Request;
use crate::http::response::Response;
use crate::process::code_of_unstarted;
use crate::sys::limit::DescriptorLimit;
use crate::sys::linux::epoll::{Epoll, Interest};
use crate::sys::linux::keeper::Stage;
use connection::{Connection, Step, Wait};

pub(crate) use listener::{Listener, TOKEN};

/// The most connections.
const CONNECTIONS: u64 = 4096;

/// Connections that are left for who only asks a short question, when all others wait for commands.
const SPARE: u64 = 4;

/// Descriptors that are not for connections: init's own, those of one start, and a look at all processes.
const RESERVED: u64 = 20;

/// The descriptors of a connection and the command it waits for: its own, two pipes, and the reports of the start.
const EACH: u64 = 4;

/// How many are accepted before others have their turn.
const ACCEPTED: usize = 64;

/// How long nobody is accepted when there is no descriptor to be had.
const PAUSE: Duration = Duration::from_millis(100);

/// How much is read at once.
const PIECE: usize = 64 << 10;

/// What the server acts on.
pub(crate) struct Core<'a> {
    pub(crate) epoll: &'a Epoll,
    pub(crate) table: &'a mut Table,
    pub(crate) executions: &'a mut Executions,
    /// What every command gets.
    pub(crate) base: &'a Base,
    /// How many children's ends were seen and could not be had.
    pub(crate) echild: u64,
}

/// All listeners and all clients.
pub(crate) struct Server {
    listeners: Vec<Listener>,
    /// By number, the oldest first.
    connections: BTreeMap<u64, Connection>,
    last: u64,
    timers: Timers<u64>,
    /// Until when nobody is accepted.
    paused: Option<Instant>,
    piece: Box<[u8]>,
}

impl Server {
    /// Serves on these.
    pub(crate) fn new(listeners: Vec<Listener>, epoll: &Epoll) -> io::Result<Server> {
        for (number, listener) in (0..).zip(&listeners) {
            epoll.add(listener, Source::Listener(number).token(), Interest::READ)?;
        }
        let piece = vec![0; PIECE].into_boxed_slice();
        let (connections, timers) = (BTreeMap::new(), Timers::new());
        Ok(Server { listeners, connections, last: 0, timers, paused: None, piece })
    }

    /// Accepts who waits at a listener.
    pub(crate) fn accept(&mut self, core: &mut Core<'_>, number: u64) {
        let Ok(number) = usize::try_from(number) else { return };
        for round in 0..ACCEPTED {
            let Some(listener) = self.listeners.get(number) else { return };
            let guard = listener.guard.clone();
            let mut accepted = listener.accept();
            if accepted.as_ref().is_err_and(is_want) {
                // The kernel says so before it looks whether anybody waits. If so, there is another event.
                if round > 0 {
                    return;
                }
                self.make_room(core);
                accepted = self.listeners[number].accept();
            }
            let stream = match accepted {
                Ok(stream) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if is_want(&error) => return self.pause(core.epoll),
                // This client has gone already (accept(2)).
                Err(_) => continue,
            };
            while self.connections.len() as u64 >= most_connections() && self.make_room(core) {}
            self.last += 1;
            let id = self.last;
            if core.epoll.add(&stream, Source::Connection(id).token(), Interest::READ).is_ok() {
                self.connections.insert(id, Connection::new(stream, guard, now()));
                self.watch(core.epoll, id);
            }
        }
    }

    /// Goes on with a connection after an event.
    pub(crate) fn on_event(&mut self, core: &mut Core<'_>, id: u64, hung_up: bool) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let step = connection.on_event(hung_up, &mut self.piece, now());
        self.go_on(core, id, step);
    }

    /// Answers who waits for a command that is over.
    pub(crate) fn deliver(&mut self, core: &mut Core<'_>, id: u64, outcome: execute::Outcome) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match outcome_of(outcome) {
            Ok(outcome) => {
                let (status, body) = api::reply(outcome);
                connection.answer_in_pieces(status, body.left(), body);
            }
            Err(response) => connection.answer(response),
        }
        let step = connection.step(now());
        self.go_on(core, id, step);
    }

    /// When [`tick`](Self::tick) is to be called.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.timers.next().into_iter().chain(self.paused).min()
    }

    /// Ends connections that take too long, and accepts again after a pause.
    pub(crate) fn tick(&mut self, core: &mut Core<'_>) {
        let now = now();
        while let Some(id) = self.timers.take(now) {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            if connection.waits().0 != Wait::Rest {
                self.close(core, id);
                continue;
            }
            connection.refuse(Response::error(408, "the request took too long to arrive"));
            let step = connection.step(now);
            self.go_on(core, id, step);
        }
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
            for (number, listener) in (0..).zip(&self.listeners) {
                // One that cannot be added again is tried again.
                if core.epoll.add(listener, Source::Listener(number).token(), Interest::READ).is_err() {
                    self.paused = Some(now + PAUSE);
                }
            }
        }
    }

    fn go_on(&mut self, core: &mut Core<'_>, id: u64, mut step: Step) {
        loop {
            match step {
                Step::Over => return self.close(core, id),
                Step::Wait => return self.watch(core.epoll, id),
                Step::Request(request) => {
                    let reply = self.obey(core, id, &request);
                    let Some(connection) = self.connections.get_mut(&id) else { return };
                    if let Some(response) = reply {
                        connection.answer(response);
                    }
                    step = connection.step(now());
                }
            }
        }
    }

    /// Does what is asked for; the answer, if there is one already.
    fn obey(&mut self, core: &mut Core<'_>, id: u64, request: &Request) -> Option<Response> {
        match api::route(request) {
            Err(response) => Some(response),
            Ok(Call::Health) => Some(api::health(core.echild)),
            Ok(Call::Execute(execute)) => self.execute(core, id, &execute).err(),
        }
    }

    fn execute(&mut self, core: &mut Core<'_>, id: u64, execute: &Execute) -> Result<(), Response> {
        let busy = self.connections.values().filter(|connection| connection.command().is_some()).count() as u64;
        if busy.max(core.executions.count() as u64) + SPARE > most_connections() {
            return Err(Response::error(503, "too many commands are under way"));
        }
        let cwd = execute.cwd.as_ref();
        let command = Command { argv: &execute.argv, env: &execute.env, cwd, holds: false, terminal: false };
        let program = core.base.program(&command).map_err(|error| Response::error(400, &error.to_string()))?;
        let order = Order { timeout: execute.timeout, split: execute.split };
        let start = |core: &mut Core<'_>| {
            core.executions.start((core.epoll, core.table), Asker::Connection(id), &program, order)
        };
        // Somebody who waits for nothing but himself may have the descriptor that is missing.
        let started =
            start(core).or_else(|error| if is_want(&error) && self.make_room(core) { start(core) } else { Err(error) });
        let command = started.map_err(|error| not_started(Stage::Fork, &error))?;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.await_command(command);
        }
        Ok(())
    }

    /// Ends the connection that is missed least; `false` if all of them wait for commands.
    fn make_room(&mut self, core: &mut Core<'_>) -> bool {
        let others = self.connections.iter().filter(|(_, connection)| connection.command().is_none());
        let least = others.min_by_key(|(_, connection)| connection.waits()).map(|(id, _)| *id);
        least.map(|id| self.close(core, id)).is_some()
    }

    fn pause(&mut self, epoll: &Epoll) {
        self.paused = Some(now() + PAUSE);
        self.listeners.iter().for_each(|listener| epoll.remove(listener));
    }

    /// Waits for what the connection waits for.
    fn watch(&mut self, epoll: &Epoll, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match connection.deadline() {
            Some(when) => self.timers.set(id, when),
            None => self.timers.clear(id),
        }
        let wanted = connection.wanted();
        if wanted != connection.interest {
            connection.interest = wanted;
            // It cannot fail for a descriptor that is there.
            epoll.change(connection.stream(), Source::Connection(id).token(), wanted).ignore();
        }
    }

    /// Ends a connection, and the command that it waited for.
    fn close(&mut self, core: &mut Core<'_>, id: u64) {
        self.timers.clear(id);
        let Some(connection) = self.connections.remove(&id) else { return };
        core.epoll.remove(connection.stream());
        if let Some(command) = connection.command() {
            core.executions.abandon((core.epoll, core.table), command);
        }
    }
}

/// Whether there is no descriptor, or no memory for one: others have too many.
fn is_want(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// How many connections there may be; the limit on descriptors can be changed from outside at any time.
fn most_connections() -> u64 {
    let descriptors = DescriptorLimit::now().unwrap_or(0);
    (descriptors.saturating_sub(RESERVED) / EACH).clamp(SPARE + 1, CONNECTIONS)
}

/// What a client is told of its command, or that it could not be started.
fn outcome_of(outcome: execute::Outcome) -> Result<Outcome, Response> {
    let execute::Outcome { how, mut output, timed_out, truncated } = outcome;
    let (code, signal) = match how {
        How::Ended(ended) => (super::code_of(ended), super::signal_of(ended)),
        How::NotStarted(Stage::Exec, error) => match code_of_unstarted(&error) {
            Some(code) => (code, None),
            None => return Err(not_started(Stage::Exec, &error)),
        },
        How::NotStarted(stage, error) => return Err(not_started(stage, &error)),
    };
    let second = if output.len() > 1 { output.pop() } else { None };
    let first = output.pop().unwrap_or_default();
    let output = match second {
        Some(second) => Output::Split(first, second),
        None => Output::Merged(first),
    };
    Ok(Outcome { code, signal, output, timed_out, truncated })
}

/// What a client is told when its command could not be started.
fn not_started(stage: Stage, error: &io::Error) -> Response {
    match stage {
        Stage::Chdir => Response::error(400, &format!("cwd: {error}")),
        // It may be better in a moment.
        Stage::Fork | Stage::Prepare | Stage::Exec => {
            Response::error(503, &format!("the command could not be started: {error}"))
        }
    }
}
