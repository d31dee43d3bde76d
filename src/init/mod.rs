//! PID 1: starts a command, passes signals on, reaps whoever ends, and ends as the command ended; while it does, it
//! executes further commands for who asks.
//!
//! One thread does all of it, in a loop over epoll(7). So an exit cannot be reaped before it is known whose it is,
//! and a signal cannot be sent to a number that has been reaped: no lock, no table of recent exits, no waiting
//! time decides whether a code is right. It also lets a process be forked that goes on without executing anything: each
//! executed command has such a keeper.
//!
//! | module | what it knows |
//! |---|---|
//! | `passed` | whom of a command a signal is for |
//! | `table` | children: keepers, commands, how each ended, and how one is ended with all it started |
//! | `execute` | a command's output and time, and for whom it runs |
//! | `owner`, `owned` | the owner of a run whose place this is, and the clients it introduces |
//! | `memory` | whether the kernel killed for memory |
//! | `testament` | the file in which the command's end is left, where nobody can be told |
//! | `serve` | HTTP: connections, and the way from a request to a command and back |
//! | `api` | requests and answers as values: bodies, words, encodings |
//! | `source`, `timers` | whose an event is; what is due when |
//! | `directory` | where a command starts |
//! | `ending` | the end of everybody else after the command's |
//! | `spawn`, `tree`, `rest` | a program's strings; who descends from whom; what is left at the end |

pub mod api;
mod directory;
mod ending;
mod execute;
mod memory;
mod owned;
mod owner;
mod passed;
mod rest;
mod serve;
mod source;
mod spawn;
mod table;
mod testament;
mod timers;
mod tree;

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::base::env;
use crate::base::error::{Failure, Ignore, Result};
use crate::base::time::{Deadline, now};
use crate::process::{code_of_signal, code_of_unstarted};
use crate::sys::limit::DescriptorLimit;
use crate::sys::linux::epoll::{Epoll, Interest};
use crate::sys::linux::init::{self as kernel, Ended, Found};
use crate::sys::linux::signalfd::SignalFd;
use crate::sys::process::Pid;
use crate::sys::signal::Signal;
use execute::{Asker, Executions};
use owned::Owned;
pub(crate) use owned::{run_for_an_owner, run_in_a_place};
use passed::Passed;
use rest::Rest;
use serve::{Core, Listener, Server, TOKEN};
use source::Source;
use spawn::Base;
use table::Table;
use testament::Testament;

/// Between TERM and KILL for what the command left behind.
const REST_GRACE: Duration = Duration::from_secs(1);

/// As many descriptors as all connections and their commands can need.
const DESCRIPTORS: u64 = 20_000;

/// What init is asked to do.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The command and its arguments; empty if init only serves.
    pub(crate) command: Vec<OsString>,
    /// Whether to adopt orphans although this is not PID 1.
    pub(crate) subreaper: bool,
    /// Whether every signal is for the command's whole process group.
    pub(crate) group: bool,
    /// How long the command may take after a TERM; no limit if none.
    pub(crate) grace: Option<Duration>,
    /// Addresses to serve on.
    pub(crate) listen: Vec<SocketAddr>,
    /// A socket file to serve on.
    pub(crate) socket: Option<PathBuf>,
    /// A file to leave in how the command ended.
    pub(crate) exit_file: Option<PathBuf>,
}

impl Options {
    fn serves(&self) -> bool {
        !self.listen.is_empty() || self.socket.is_some()
    }
}

/// Runs the command to its end, or serves until it is asked to end; its exit code.
pub(crate) fn run(options: &Options) -> Result<u8> {
    let failed = |error: io::Error| Failure::new("preparing to be init", error);
    let rest = become_init(options)?;
    // What is pending from before is read like any other signal: nothing is lost between here and the loop.
    let signals = SignalFd::new().map_err(failed)?;
    let setup = Setup::new(signals).map_err(failed)?;
    let listeners = listen(options)?;
    let testament = options.exit_file.as_deref().map(Testament::prepare).transpose()?;
    let server = if listeners.is_empty() { None } else { Some(Server::new(listeners, &setup.epoll).map_err(failed)?) };
    let descriptors = if server.is_some() { DescriptorLimit::raise(DESCRIPTORS).ok() } else { None };
    let main = match options.command.is_empty() {
        true => None,
        false => match start(&options.command, descriptors) {
            Ok(main) => Some(main),
            Err(error) => {
                let (code, failure) = (code_of_start(&error), unstarted(&options.command, &error));
                // Who reads the file says it.
                if !testament.is_some_and(|testament| testament.unstarted(code, &failure)) {
                    crate::base::log::error(&failure);
                }
                return Ok(code);
            }
        },
    };
    if let Some(testament) = &testament {
        testament.started();
    }
    let base = Base { env: env::all_but(TOKEN), descriptors };
    let (grace, group) = (options.grace, options.group);
    let init = Init { main, grace, group, server, testament, ..setup.init(rest, base) };
    Ok(init.run().map_err(failed)?.map_or(0, code_of))
}

/// What is there before anything is started.
struct Setup {
    signals: SignalFd,
    epoll: Epoll,
    quiet: Epoll,
}

impl Setup {
    fn new(signals: SignalFd) -> io::Result<Setup> {
        let [epoll, quiet] = [Epoll::new()?, Epoll::new()?];
        for each in [&epoll, &quiet] {
            each.add(&signals, Source::Signals.token(), Interest::READ)?;
        }
        Ok(Setup { signals, epoll, quiet })
    }

    /// An init without a command, that serves nobody.
    fn init(self, rest: Rest, base: Base) -> Init {
        Init {
            signals: self.signals,
            epoll: self.epoll,
            quiet: self.quiet,
            main: None,
            grace: None,
            group: false,
            rest,
            kill: Deadline::never(),
            table: Table::default(),
            executions: Executions::new(),
            base,
            server: None,
            owned: None,
            testament: None,
            echild: 0,
        }
    }
}

/// The code that a shell would give.
fn code_of(ended: Ended) -> u8 {
    match ended {
        Ended::Exited(code) => code,
        Ended::Killed(number) => code_of_signal(Signal::from_number(number)),
    }
}

/// Makes this process the one that orphans come to; how far its reach then goes.
fn become_init(options: &Options) -> Result<Rest> {
    let first = Pid::is_first();
    let leaves = options.exit_file.is_some();
    if first || options.serves() || leaves {
        kernel::become_undumpable().map_err(|error| Failure::new("preparing to be init", error))?;
    }
    if first {
        return Ok(Rest::Everybody);
    }
    // What is executed leaves orphans, too; and nobody who could write may be left when a command's end is written.
    if !options.subreaper && !options.serves() && !leaves {
        return Ok(Rest::Group);
    }
    kernel::become_subreaper().map_err(|error| {
        Failure::new("becoming a subreaper", error).hint("Linux 3.4 or later can; or run fosse init as PID 1")
    })?;
    Ok(Rest::Descendants)
}

fn listen(options: &Options) -> Result<Vec<Listener>> {
    let token = env::text(TOKEN).map_err(|why| Failure::new("reading the environment", why))?;
    let mut listeners = Vec::new();
    for address in &options.listen {
        listeners.push(Listener::tcp(*address, token.as_deref())?);
    }
    if let Some(path) = &options.socket {
        listeners.push(Listener::unix(path)?);
    }
    Ok(listeners)
}

/// The signal that ended it, if one did.
fn signal_of(ended: Ended) -> Option<u8> {
    match ended {
        Ended::Exited(_) => None,
        Ended::Killed(number) => u8::try_from(number).ok(),
    }
}

fn start(command: &[OsString], descriptors: Option<DescriptorLimit>) -> io::Result<Pid> {
    let Some((program, args)) = command.split_first() else {
        return Err(io::ErrorKind::NotFound.into());
    };
    #[allow(clippy::disallowed_methods, reason = "init holds what it starts without a deadline")]
    let mut child = Command::new(program);
    // The secret is for init's clients.
    child.args(args).env_remove(TOKEN);
    kernel::own_group_in_the_foreground(&mut child, descriptors);
    // The loop reaps it: a `Child` neither waits nor kills when it is dropped.
    let child = child.spawn()?;
    i32::try_from(child.id()).ok().and_then(Pid::new).ok_or_else(|| io::Error::other("it got no process id"))
}

/// The exit code for a command that cannot be started.
fn code_of_start(error: &io::Error) -> u8 {
    code_of_unstarted(error).unwrap_or(125)
}

fn unstarted(command: &[OsString], error: &io::Error) -> Failure {
    let program = command.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    Failure::new(format!("starting {}", crate::base::error::one_line(&program)), error)
        .hint("is it there, on PATH, and executable?")
}

/// PID 1 while its command runs, or while it only serves.
struct Init {
    signals: SignalFd,
    /// Everything that is waited for.
    epoll: Epoll,
    /// Signals alone: what is waited for at the end.
    quiet: Epoll,
    /// The command, if there is one.
    main: Option<Pid>,
    grace: Option<Duration>,
    /// Whether every signal that is received is for the command's whole group.
    group: bool,
    rest: Rest,
    /// When the command is killed.
    kill: Deadline,
    table: Table,
    executions: Executions,
    /// What every executed command gets.
    base: Base,
    server: Option<Server>,
    /// The owner of the run whose place this is.
    owned: Option<Owned>,
    /// The file for the command's end.
    testament: Option<Testament>,
    /// How many children's ends were seen and could not be had: a fault.
    echild: u64,
}

impl Init {
    fn run(mut self) -> io::Result<Option<Ended>> {
        let ended = loop {
            let asked = self.read_signals()?;
            // After the signals: a CHLD that was read just now is looked into, and a later one wakes the wait below.
            if let Some(ended) = self.reap()? {
                break Some(ended);
            }
            if asked && self.main.is_none() {
                self.rest.ask(self.reach());
                break None;
            }
            if self.owned.as_ref().is_some_and(|owned| owned.gone) {
                // Nobody is left to run for: the place ends with its init.
                kernel::kill_all(Signal::KILL).ignore();
                return Ok(Some(Ended::Killed(Signal::KILL.number())));
            }
            if self.kill.expired() {
                if self.owned.as_ref().is_some_and(|owned| owned.killed) {
                    // Killed, and not dead: it hangs in the kernel. With this process its place ends.
                    break Some(Ended::Killed(Signal::KILL.number()));
                }
                self.kill = Deadline::never();
                self.to_the_command(Passed { signal: Signal::KILL, to_group: true });
                if let Some(testament) = &mut self.testament {
                    testament.killed = true;
                }
            }
            self.go_on();
            for event in self.epoll.wait(self.limit())? {
                self.on_event(Source::from_token(event.token), event.hung_up);
            }
        };
        if let (Some(owned), Some(ended)) = (&self.owned, ended) {
            owned.ended(ended);
        }
        let will = self.testament.take().zip(ended).map(|(testament, ended)| testament.ended(ended));
        // Nobody is served any more. Pipes stay open: who writes his last words shall not die of it.
        self.server = None;
        self.end_the_rest()?;
        if let (Rest::Group, Some(main)) = (self.rest, self.main) {
            // Nobody bears its number any more, unless its group hangs in the kernel.
            kernel::reap(main).ignore();
        }
        kernel::take_foreground();
        if let Some(will) = will {
            if self.rest.kill_strangers(&self.signals, &mut self.quiet).is_ok() {
                will.leave();
            }
        }
        Ok(ended)
    }

    /// Passes signals on; whether one of them asks init itself to end.
    fn read_signals(&mut self) -> io::Result<bool> {
        let mut asked = false;
        let frozen = self.owned.as_ref().is_some_and(|owned| owned.frozen);
        while let Some(signal) = self.signals.next()? {
            asked |= matches!(signal, Signal::TERM | Signal::INT);
            if signal == Signal::CHLD {
                self.see_stopped(frozen)?;
            }
            self.pass_on(signal);
        }
        Ok(asked)
    }

    fn see_stopped(&mut self, frozen: bool) -> io::Result<()> {
        while let Some(pid) = kernel::next_stopped()? {
            self.table.stopped(pid, frozen);
        }
        Ok(())
    }

    /// Reaps all who have ended, the command last: as long as it is a zombie, its number is its group's and nobody
    /// else's.
    fn reap(&mut self) -> io::Result<Option<Ended>> {
        loop {
            match kernel::look()? {
                Found::NoneDead => return Ok(None),
                Found::NoChild if self.main.is_none() => return Ok(None),
                Found::NoChild => return Err(io::Error::other("the command vanished unseen")),
                Found::Dead(pid, ended) if Some(pid) == self.main => {
                    self.rest.ask(pid);
                    if self.rest != Rest::Group {
                        kernel::reap(pid)?;
                    }
                    return Ok(Some(ended));
                }
                Found::Dead(pid, ended) => {
                    self.table.dead(&self.epoll, pid, ended);
                    if kernel::reap(pid).is_err() {
                        self.echild += 1;
                    }
                }
            }
        }
    }

    /// Does what time has come for, and tells who waits for an end.
    fn go_on(&mut self) {
        self.table.look();
        self.executions.tick((&self.epoll, &mut self.table));
        self.with_server(|server, core| server.tick(core));
        for (id, end) in self.table.take_ends() {
            if let (Some(end), Some(owned)) = (self.executions.ended(&self.epoll, id, end), &mut self.owned) {
                owned.command_ended(&self.epoll, id, &end);
            }
        }
        if let Some(owned) = &mut self.owned {
            owned.go_on(&self.table);
        }
        for (Asker::Connection(id), outcome) in self.executions.take_done() {
            self.with_server(|server, core| server.deliver(core, id, outcome));
        }
    }

    /// How long nothing is to be done unless something happens.
    fn limit(&self) -> Option<Duration> {
        let server = self.server.as_ref().and_then(Server::due);
        let next = [self.table.due(), self.executions.due(), server].into_iter().flatten().min();
        let next = next.map(|when: Instant| when.saturating_duration_since(now()));
        next.into_iter().chain(self.kill.remaining()).min()
    }

    fn on_event(&mut self, source: Source, hung_up: bool) {
        match source {
            // They are read each time round.
            Source::Signals => {}
            Source::Listener(number) => self.with_server(|server, core| server.accept(core, number)),
            Source::Connection(id) => self.with_server(|server, core| server.on_event(core, id, hung_up)),
            Source::Reports(id) => self.table.read_reports(&self.epoll, id),
            Source::Stdout(id) => self.executions.read(&self.epoll, id, 0),
            Source::Stderr(id) => self.executions.read(&self.epoll, id, 1),
            Source::Owner => {
                for passed in self.with_owned(|owned, core| owned.hear_owner(core)) {
                    self.on_owners_signal(passed);
                }
            }
            Source::Session(id) => self.with_owned(|owned, core| owned.hear_client(core, id)),
        }
    }

    fn with_owned<T: Default>(&mut self, act: impl FnOnce(&mut Owned, &mut owned::Core<'_>) -> T) -> T {
        let Init { epoll, table, base, owned, .. } = self;
        owned.as_mut().map_or_else(T::default, |owned| act(owned, &mut owned::Core { epoll, table, base }))
    }

    /// KILL is for everybody in the place, any other for the command.
    fn on_owners_signal(&mut self, passed: Passed) {
        if passed.signal != Signal::KILL {
            return self.to_the_command(passed);
        }
        if let Some(owned) = &mut self.owned {
            owned.killed = true;
        }
        self.kill = Deadline::after(REST_GRACE);
        kernel::kill_all(Signal::KILL).ignore();
    }

    fn with_server(&mut self, act: impl FnOnce(&mut Server, &mut Core<'_>)) {
        let Init { epoll, table, executions, base, echild, .. } = self;
        if let Some(server) = &mut self.server {
            act(server, &mut Core { epoll, table, executions, base, echild: *echild });
        }
    }

    fn pass_on(&mut self, signal: Signal) {
        match signal {
            // The loop looks for the dead each time round. Reading and writing the terminal in the background is
            // this process's own affair, and waits until it is in the foreground.
            Signal::CHLD | Signal::TTIN | Signal::TTOU => return,
            Signal::TERM => {
                if let (Some(grace), None) = (self.grace, self.kill.limit()) {
                    self.kill = Deadline::after(grace);
                }
            }
            // What stands still or goes on is all that there is, as far as init's reach goes.
            Signal::TSTP | Signal::CONT if !self.group => return self.rest.signal(self.reach(), signal),
            _ => {}
        }
        self.to_the_command(Passed::received(signal, self.group));
    }

    /// The command is not reaped yet, so this is it. Gone in between: its exit is about to be read.
    fn to_the_command(&self, passed: Passed) {
        if let Some(main) = self.main {
            passed.to(main);
        }
    }

    /// The command, whose group init ends where that is as far as its reach goes.
    fn reach(&self) -> Pid {
        self.main.unwrap_or(Pid::own())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_fails_has_the_code_of_a_shell() {
        for (number, wanted) in [
            (libc::ENOENT, 127),
            (libc::ENOTDIR, 127),
            (libc::EACCES, 126),
            (libc::ENOEXEC, 126),
            (libc::EAGAIN, 125),
            (libc::EMFILE, 125),
            (libc::E2BIG, 125),
        ] {
            assert_eq!(code_of_start(&io::Error::from_raw_os_error(number)), wanted, "{number}");
        }
    }
}
