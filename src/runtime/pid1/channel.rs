//! A started command behind fosse's own PID 1.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};

use super::{Link, read_page};
use crate::base::error::Ignore;
use crate::base::threads;
use crate::base::time::Deadline;
use crate::process::code_of_unstarted;
use crate::runtime::{Channel, End, Error, Fact, Outlet, Result, Streams, Whom};
use crate::sys::signal::Signal;
use crate::sys::socket;
use crate::wire::channel::{Exit, FromInit, Message, Page, Stage, Start, ToInit, Wanted};
use crate::wire::record;

/// How long init may take to end everything after a KILL: what does not die of it hangs in the kernel, or the whole
/// place was frozen from outside, and the engine is asked.
const KILL_LIMIT: Duration = Duration::from_secs(2);

/// What a process that the kernel killed with its whole place ends with.
const KILLED: Exit = Exit { code: 137, signal: Some(9), oom: false };

/// A command behind fosse's own PID 1.
pub(crate) struct Through {
    socket: Mutex<UnixStream>,
    outlet: Outlet,
    gone: Receiver<Infallible>,
    /// Whether the engine removes the place by itself when init has ended.
    pub(crate) removes_itself: bool,
}

impl Through {
    /// After init's first answer; `fds` came with it.
    pub(super) fn new(
        link: Link,
        answer: Option<FromInit>,
        fds: Vec<OwnedFd>,
        page: Option<PathBuf>,
        start: &Start,
    ) -> io::Result<Through> {
        let (tell, facts) = unbounded();
        let (going, gone) = bounded(0);
        let socket = Mutex::new(link.stream.try_clone()?);
        let mut streams = Streams::default();
        let cwd = String::from_utf8_lossy(&start.cwd).into_owned();
        let over = matches!(answer, Some(FromInit::Failed(..))) || (answer.is_none() && page.is_none());
        match answer {
            Some(FromInit::Started) if fds.len() == start.streams.descriptors() => {
                streams = streams_of(start.streams, fds)?;
                tell.send(Fact::Started).ignore();
            }
            Some(FromInit::Failed(stage, errno)) => tell.send(failed(stage, errno, &cwd)).ignore(),
            Some(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "init's answer makes no sense")),
            // A place that ends before it answers has not started one more command; of its own the page tells.
            None if page.is_none() => {
                let why = "the run ended before the command was started".into();
                tell.send(Fact::StartFailed { code: None, why }).ignore();
            }
            None => {}
        }
        let body = move || {
            follow(link, &tell, page.as_deref(), &cwd, over);
            drop(going);
        };
        threads::start("pid1", 64, body)?;
        Ok(Through { socket, outlet: Outlet::new(streams, facts), gone, removes_itself: false })
    }

    fn say(&self, message: &ToInit, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let failed = |error: io::Error| Error::Refused {
            call: "fosse's PID 1".into(),
            complaint: format!("it does not take what it is told: {error}"),
        };
        let socket = self.socket.lock().map_err(|_| failed(io::ErrorKind::Other.into()))?;
        let bytes = message.encode();
        match socket::send(&*socket, &bytes, fds, false) {
            Ok(count) if count == bytes.len() => Ok(()),
            Ok(_) => Err(failed(io::ErrorKind::WriteZero.into())),
            // It has ended, and so has the command: that fact is on its way.
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    fn is_gone_within(&self, limit: Deadline) -> bool {
        select! {
            recv(self.gone) -> _ => true,
            recv(limit.channel()) -> _ => false,
        }
    }
}

impl Channel for Through {
    fn io(&self) -> record::Io {
        record::Io::Init
    }

    fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    /// Init speaks by itself, and nobody else writes to the command's streams.
    fn look(&self) {}

    fn signal(&self, signal: Signal, whom: Whom, deadline: Deadline) -> Result<()> {
        let number = u8::try_from(signal.number()).unwrap_or_default();
        let message = match whom {
            Whom::Group if signal != Signal::KILL => ToInit::SignalGroup(number),
            Whom::Group | Whom::Command => ToInit::Signal(number),
        };
        self.say(&message, &[])?;
        if signal != Signal::KILL || self.is_gone_within(Deadline::after(KILL_LIMIT).min(deadline)) {
            return Ok(());
        }
        Err(Error::Refused { call: "fosse's PID 1".into(), complaint: "it does not end".into() })
    }

    fn freeze(&self, frozen: bool, _deadline: Deadline) -> Result<()> {
        self.say(&ToInit::Freeze(frozen), &[])
    }

    fn introduce(&self, client: OwnedFd) -> Result<()> {
        self.say(&ToInit::Introduce, &[client.as_fd()])
    }

    fn is_removed_by_itself(&self, limit: Deadline) -> bool {
        self.removes_itself && self.is_gone_within(limit)
    }
}

/// The streams that came.
fn streams_of(wanted: Wanted, fds: Vec<OwnedFd>) -> io::Result<Streams> {
    let mut fds = fds.into_iter();
    let mut next = || fds.next();
    Ok(match wanted {
        Wanted::Output => Streams { stdout: next(), stderr: next(), ..Streams::default() },
        Wanted::Pipes => Streams { stdin: next(), stdout: next(), stderr: next(), ..Streams::default() },
        Wanted::Terminal(_) => {
            // One end for everything; what is recorded and shown is what the terminal says.
            let leader = next();
            let copy = || leader.as_ref().map(OwnedFd::try_clone).transpose();
            Streams { stdin: copy()?, stdout: copy()?, stderr: None, terminal: leader }
        }
    })
}

/// Reads what init says until it ends, and turns it into facts; `told` if the last one is out already.
fn follow(mut link: Link, tell: &Sender<Fact>, page: Option<&std::path::Path>, cwd: &str, mut told: bool) {
    // What makes no sense ends it as well: closing the connection is then the end of the command.
    while let Ok(Some(message)) = link.next(&mut Vec::new()) {
        match message {
            FromInit::Exited(exit) if !told => {
                told = true;
                tell.send(ended(exit)).ignore();
            }
            // Its streams were handed out before it was known that it cannot be executed.
            FromInit::Failed(stage, errno) if !told => {
                told = true;
                tell.send(failed(stage, errno, cwd)).ignore();
            }
            FromInit::Hello(_) | FromInit::Started | FromInit::Failed(..) | FromInit::Exited(_) => {}
        }
    }
    if !told {
        // Only the kernel ends init without a word, with everybody in its place.
        let fact = match page.map_or(Page::Started, read_page) {
            Page::Exited(exit) => ended(exit),
            Page::Started => ended(KILLED),
            Page::Blank => {
                Fact::StartFailed { code: None, why: "the place ended before the command was started".into() }
            }
        };
        tell.send(fact).ignore();
    }
}

fn ended(exit: Exit) -> Fact {
    Fact::Ended(End { code: Some(exit.code), signal: exit.signal, oom: exit.oom, lost: None, output_cut: false })
}

fn failed(stage: Stage, errno: i32, cwd: &str) -> Fact {
    let error = io::Error::from_raw_os_error(errno);
    let why = match stage {
        Stage::Execute => format!("{error}"),
        Stage::Directory => format!("its directory {cwd} cannot be entered: {error}"),
        Stage::Fork => format!("no process could be had for it: {error}"),
        Stage::Streams => format!("no streams could be had for it: {error}"),
    };
    let code = if stage == Stage::Execute { code_of_unstarted(&error) } else { None };
    Fact::StartFailed { code, why }
}
