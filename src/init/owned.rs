//! As the init of a run's place: for the run's owner, whose command is the main one, and for the clients that he
//! introduces, each of whom executes one more.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::directory;
use super::memory::OomKills;
use super::owner::{Heard, Owner, Peer};
use super::passed::Passed;
use super::source::Source;
use super::spawn::{self, Base};
use super::table::{CommandId, End, How, Table};
use super::{Init, Rest, Setup};
use crate::base::env;
use crate::base::error::{Failure, Ignore, Result};
use crate::sys::fd;
use crate::sys::linux::epoll::{Epoll, Interest};
use crate::sys::linux::init::{self as kernel, Ended};
use crate::sys::linux::keeper;
use crate::sys::linux::signalfd::SignalFd;
use crate::sys::process::Pid;
use crate::sys::pty;
use crate::sys::signal::Signal;
use crate::sys::termios::Size;
use crate::wire::channel::{Exit, FromInit, Stage, Start, ToInit, Wanted, Window};

/// Between TERM and KILL for a command whose client is gone.
const GRACE: Duration = Duration::from_millis(500);

/// What the owner of a run has to do with init.
pub(crate) struct Owned {
    owner: Owner,
    kills: OomKills,
    sessions: BTreeMap<u64, Session>,
    last: u64,
    /// Whether everything was killed because the owner asked for that.
    pub(crate) killed: bool,
    /// Whether everything stands still.
    pub(crate) frozen: bool,
    /// Whether the owner is gone.
    pub(crate) gone: bool,
}

/// One client, and its command once it has named one.
struct Session {
    peer: Peer,
    command: Option<CommandId>,
    /// Signals that came before the command had a number.
    waiting: Vec<Passed>,
}

/// Runs the command that the owner of a run names, to its end or the owner's; the owner listens on a socket. The exit
/// code is for the engine alone: the owner is told, and knows it from the exit page if it is lost.
pub(crate) fn run_for_an_owner(socket: &Path) -> Result<u8> {
    let connect = || UnixStream::connect(socket);
    run(connect, OomKills::now).map_err(|error| failed_to_greet(&socket.display().to_string(), error))?
}

/// The same in a place that has a connection to its owner already; `counter` is the file that counts kills for memory.
pub(crate) fn run_in_a_place(owner: UnixStream, counter: Option<File>) -> Result<u8> {
    run(|| Ok(owner), || OomKills::in_file(counter)).map_err(|error| failed_to_greet("its connection", error))?
}

fn failed_to_greet(at: &str, error: io::Error) -> Failure {
    Failure::new(format!("greeting the owner on {at}"), error)
}

fn run(connect: impl FnOnce() -> io::Result<UnixStream>, kills: impl FnOnce() -> OomKills) -> io::Result<Result<u8>> {
    let failed = |error: io::Error| Failure::new("preparing to be a run's init", error);
    if !Pid::is_first() {
        // It ends everybody it can reach.
        return Ok(Err(failed(io::Error::other("it is not PID 1 of a place of its own"))));
    }
    let prepared = kernel::become_undumpable().and_then(|()| Setup::new(SignalFd::new()?));
    let setup = match prepared {
        Ok(setup) => setup,
        Err(error) => return Ok(Err(failed(error))),
    };
    let (owner, start) = Owner::greet(connect()?)?;
    Ok(serve(setup, owner, &start, kills()).map_err(failed))
}

fn serve(setup: Setup, owner: Owner, start: &Start, kills: OomKills) -> io::Result<u8> {
    setup.epoll.add(&owner.peer, Source::Owner.token(), Interest::READ)?;
    let main = match start_piped(start) {
        Ok((main, streams)) => {
            let ends: Vec<BorrowedFd> = streams.iter().map(AsFd::as_fd).collect();
            owner.started(&ends);
            main
        }
        Err((stage, error)) => {
            owner.peer.say(&FromInit::Failed(stage, error.raw_os_error().unwrap_or(libc::EIO)), &[]);
            return Ok(super::code_of_start(&error));
        }
    };
    let sessions = BTreeMap::new();
    let owned = Owned { owner, kills, sessions, last: 0, killed: false, frozen: false, gone: false };
    // What else is executed here finds the command's variables.
    let own = start.env.iter().map(|(name, value)| (text(name), text(value)));
    let is_own = |name: &OsStr| start.env.iter().any(|(own, _)| own == name.as_bytes());
    let env = env::all_but("").into_iter().filter(|(name, _)| !is_own(name)).chain(own).collect();
    let base = Base { env, descriptors: None };
    let init = Init { main: Some(main), owned: Some(owned), ..setup.init(Rest::Everybody, base) };
    Ok(init.run()?.map_or(0, super::code_of))
}

/// Starts a command with pipes; the other ends are for its owner: stdin if it has one, stdout, stderr.
fn start_piped(start: &Start) -> std::result::Result<(Pid, Vec<OwnedFd>), (Stage, io::Error)> {
    let mut words = start.argv.iter().map(|word| OsStr::from_bytes(word));
    let program = words.next().ok_or_else(|| (Stage::Execute, io::ErrorKind::NotFound.into()))?;
    if !start.cwd.is_empty() {
        let dir = Path::new(OsStr::from_bytes(&start.cwd));
        directory::enter(dir, &start.shared).map_err(|error| (Stage::Directory, error))?;
    }
    let streams = Streams::new(start.streams).map_err(|error| (Stage::Streams, error))?;
    let is_terminal = matches!(start.streams, Wanted::Terminal(_));
    #[allow(clippy::disallowed_methods, reason = "init holds what it starts without a deadline")]
    let mut child = Command::new(program);
    let [stdin, stdout, stderr] = streams.commands.map(Stdio::from);
    child.args(words).stdin(stdin).stdout(stdout).stderr(stderr);
    child.envs(start.env.iter().map(|(name, value)| (OsStr::from_bytes(name), OsStr::from_bytes(value))));
    if is_terminal {
        pty::own_terminal(&mut child);
    } else {
        kernel::own_group_in_the_foreground(&mut child, None);
    }
    let child = child.spawn().map_err(|error| (Stage::Execute, error))?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::new);
    Ok((pid.ok_or_else(|| (Stage::Fork, io::ErrorKind::Other.into()))?, streams.clients))
}

/// A command's streams. They are made here, inside: made elsewhere, `echo >/dev/stdout` would fail for another user.
struct Streams {
    /// Its stdin, stdout and stderr.
    commands: [OwnedFd; 3],
    /// The other ends: where stdin is written if it is open, where stdout and stderr are read.
    clients: Vec<OwnedFd>,
}

impl Streams {
    fn new(wanted: Wanted) -> io::Result<Streams> {
        let (stdin, writer) = match wanted {
            Wanted::Terminal(Window { rows, columns, width, height }) => {
                let (leader, follower) = pty::open(Size { rows, columns, width, height })?;
                let commands = [follower.try_clone()?, follower.try_clone()?, follower];
                return Ok(Streams { commands, clients: vec![leader] });
            }
            Wanted::Pipes => {
                let (read, write) = fd::pipe()?;
                (read, Some(write))
            }
            Wanted::Output => (super::execute::no_input()?, None),
        };
        let ((stdout, out), (stderr, err)) = (fd::pipe()?, fd::pipe()?);
        let clients = writer.into_iter().chain([stdout, stderr]).collect();
        Ok(Streams { commands: [stdin, out, err], clients })
    }
}

/// What of init a session acts on.
pub(crate) struct Core<'a> {
    pub(crate) epoll: &'a Epoll,
    pub(crate) table: &'a mut Table,
    pub(crate) base: &'a Base,
}

impl Owned {
    /// Takes what the owner has said; signals for the command are given back.
    pub(crate) fn hear_owner(&mut self, core: &mut Core<'_>) -> Vec<Passed> {
        let mut signals = Vec::new();
        loop {
            match self.owner.peer.next(false) {
                Heard::Nothing => return signals,
                Heard::Gone => {
                    self.gone = true;
                    return signals;
                }
                Heard::Message(message, fd) => match message {
                    ToInit::Signal(number) => signals.push(passed(number, false)),
                    ToInit::SignalGroup(number) => signals.push(passed(number, true)),
                    ToInit::Freeze(frozen) => {
                        self.frozen = frozen;
                        let signal = if frozen { Signal::STOP } else { Signal::CONT };
                        kernel::kill_all(signal).ignore();
                    }
                    ToInit::Introduce => self.meet(core, fd),
                    // It has its command, which ends with the place.
                    ToInit::Start(_) => {}
                },
            }
        }
    }

    /// The command has ended. First where it is not lost.
    pub(crate) fn ended(&self, ended: Ended) {
        let signal = super::signal_of(ended);
        // Counted before it is killed, so what is counted by now may be the command itself, and must be somebody.
        let oom = !self.killed && signal == Some(9) && self.kills.rose();
        self.owner.ended(Exit { code: super::code_of(ended), signal, oom });
    }

    fn meet(&mut self, core: &Core<'_>, client: Option<OwnedFd>) {
        // Without one there was no room for it: whoever waits at its other end sees that it is closed.
        let Some(client) = client else { return };
        self.last += 1;
        let peer = Peer::new(UnixStream::from(client));
        if core.epoll.add(&peer, Source::Session(self.last).token(), Interest::READ).is_ok() {
            self.sessions.insert(self.last, Session { peer, command: None, waiting: Vec::new() });
        }
    }

    /// Takes what a client has said. One that is gone ends its command.
    pub(crate) fn hear_client(&mut self, core: &mut Core<'_>, id: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.hear(core) {
            return;
        }
        core.epoll.remove(&session.peer);
        if let Some(command) = session.command {
            core.table.end_within(command, GRACE);
        }
        self.sessions.remove(&id);
    }

    /// Delivers signals that came too early.
    pub(crate) fn go_on(&mut self, table: &Table) {
        for session in self.sessions.values_mut() {
            if let Some(command) = session.command {
                session.waiting.retain(|passed| !table.signal(command, *passed));
            }
        }
    }

    /// Tells the end of a client's command.
    pub(crate) fn command_ended(&mut self, epoll: &Epoll, command: CommandId, end: &End) {
        let found = self.sessions.iter().find(|(_, session)| session.command == Some(command)).map(|(id, _)| *id);
        let Some(session) = found.and_then(|id| self.sessions.remove(&id)) else { return };
        epoll.remove(&session.peer);
        session.peer.say(&told(end), &[]);
    }
}

/// An end as the channel tells it.
fn told(end: &End) -> FromInit {
    match &end.how {
        How::Ended(ended) => {
            FromInit::Exited(Exit { code: super::code_of(*ended), signal: super::signal_of(*ended), oom: false })
        }
        How::NotStarted(stage, error) => {
            let stage = match stage {
                keeper::Stage::Fork => Stage::Fork,
                keeper::Stage::Prepare => Stage::Streams,
                keeper::Stage::Chdir => Stage::Directory,
                keeper::Stage::Exec => Stage::Execute,
            };
            FromInit::Failed(stage, error.raw_os_error().unwrap_or(libc::EIO))
        }
    }
}

impl Session {
    fn signal(&mut self, core: &mut Core<'_>, command: CommandId, passed: Passed) {
        if passed.signal == Signal::KILL {
            core.table.end_within(command, Duration::ZERO);
        } else if !core.table.signal(command, passed) {
            self.waiting.push(passed);
        }
    }

    /// Whether the client is still there.
    fn hear(&mut self, core: &mut Core<'_>) -> bool {
        loop {
            match self.peer.next(false) {
                Heard::Nothing => return true,
                Heard::Gone => return false,
                Heard::Message(message, _) => match (message, self.command) {
                    // One that gave up before init came to hear it wants nothing to run.
                    (ToInit::Start(_), None) if self.peer.is_gone() => return false,
                    (ToInit::Start(start), None) => match begin(core, &start) {
                        Ok((command, clients)) => {
                            let ends: Vec<BorrowedFd> = clients.iter().map(AsFd::as_fd).collect();
                            self.peer.say(&FromInit::Started, &ends);
                            self.command = Some(command);
                        }
                        Err((stage, error)) => {
                            let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
                            self.peer.say(&FromInit::Failed(stage, errno), &[]);
                            return false;
                        }
                    },
                    (ToInit::Signal(number), Some(command)) => self.signal(core, command, passed(number, false)),
                    (ToInit::SignalGroup(number), Some(command)) => self.signal(core, command, passed(number, true)),
                    // Nothing to do it to; freezing and introducing are the owner's.
                    (_, _) => {}
                },
            }
        }
    }
}

fn passed(number: u8, to_group: bool) -> Passed {
    Passed { signal: Signal::from_number(number.into()), to_group }
}

fn text(bytes: &[u8]) -> OsString {
    OsStr::from_bytes(bytes).to_owned()
}

type Begun = (CommandId, Vec<OwnedFd>);

fn begin(core: &mut Core<'_>, start: &Start) -> std::result::Result<Begun, (Stage, io::Error)> {
    let argv: Vec<OsString> = start.argv.iter().map(|word| text(word)).collect();
    let env: Vec<(OsString, OsString)> = start.env.iter().map(|(name, value)| (text(name), text(value))).collect();
    let cwd = Some(PathBuf::from(text(&start.cwd))).filter(|cwd| !cwd.as_os_str().is_empty());
    let terminal = matches!(start.streams, Wanted::Terminal(_));
    let command = spawn::Command { argv: &argv, env: &env, cwd: cwd.as_ref(), holds: true, terminal };
    let program = core.base.program(&command).map_err(|error| (Stage::Execute, error))?;
    let streams = Streams::new(start.streams).map_err(|error| (Stage::Streams, error))?;
    let id = core.table.start(core.epoll, &program, &streams.commands).map_err(|error| (Stage::Fork, error))?;
    Ok((id, streams.clients))
}
