//! A running child program: in its own group, awaited by a thread, killed when it is dropped.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{self, Command};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use super::{Cmd, Error, Exit};
use crate::base::error::Ignore;
use crate::base::sync::locked;
use crate::base::time::Deadline;
use crate::sys::process::{
    Pid, kill_group, own_group_and_die_with_parent, own_terminal_and_die_with_parent, wait_unreaped,
    write_in_the_background,
};
use crate::sys::signal::Signal;

/// How long a program may take to die of KILL.
const KILL_LIMIT: Duration = Duration::from_secs(2);

/// The programs that run: started, and not yet reaped, so that none of these numbers can be a stranger's.
struct Running {
    leaders: Vec<Pid>,
    /// How many are just being started.
    starting: usize,
    /// Whether no more may start.
    over: bool,
}

static RUNNING: Mutex<Running> = Mutex::new(Running { leaders: Vec::new(), starting: 0, over: false });

/// Told when one has been started, or not.
static STARTED: Condvar = Condvar::new();

/// How long the end of this process waits for programs that are just being started.
const START_LIMIT: Duration = Duration::from_millis(500);

/// A program that is just being started; nothing if no more may start.
struct Starting;

impl Starting {
    fn begin() -> io::Result<Starting> {
        let mut running = running();
        if running.over {
            return Err(ending());
        }
        running.starting += 1;
        Ok(Starting)
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        running().starting -= 1;
        STARTED.notify_all();
    }
}

fn ending() -> io::Error {
    io::Error::other("this process is ending")
}

fn running() -> MutexGuard<'static, Running> {
    locked(&RUNNING)
}

/// Kills every program that runs, with its whole group, and lets no other one start. For the end of this process, if
/// threads of it are stuck in calls: the kernel would end the programs with it, but not what these have started.
pub fn end_all() {
    let mut running = running();
    running.over = true;
    for leader in running.leaders.drain(..) {
        kill_group(leader, Signal::KILL).ignore();
    }
    // Whoever starts one at this moment kills it when this is seen.
    drop(STARTED.wait_timeout_while(running, START_LIMIT, |running| running.starting > 0));
}

/// What one of a child's standard streams is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdio {
    /// Nothing: end of file to read, anything may be written.
    Null,
    /// A pipe whose other end is ours.
    Pipe,
    /// The same as this process's.
    Inherit,
}

/// A child's three streams.
#[derive(Debug, Clone, Copy)]
pub struct Io {
    /// Standard input.
    pub stdin: Stdio,
    /// Standard output.
    pub stdout: Stdio,
    /// Standard error.
    pub stderr: Stdio,
}

impl From<Stdio> for process::Stdio {
    fn from(stdio: Stdio) -> Self {
        match stdio {
            Stdio::Null => process::Stdio::null(),
            Stdio::Pipe => process::Stdio::piped(),
            Stdio::Inherit => process::Stdio::inherit(),
        }
    }
}

/// A program that was started and not yet reaped.
///
/// The kernel kills it when the *thread* that started it ends (prctl(2), PR_SET_PDEATHSIG), so it is started
/// by a thread that outlives it.
pub struct Child {
    inner: process::Child,
    pid: Option<Pid>,
    ended: Receiver<Infallible>,
    reaped: Option<Exit>,
    /// Our end of its stdin, if that is a pipe.
    pub stdin: Option<OwnedFd>,
    /// Our end of its stdout, if that is a pipe.
    pub(crate) stdout: Option<OwnedFd>,
    /// Our end of its stderr, if that is a pipe.
    pub(crate) stderr: Option<OwnedFd>,
}

impl Child {
    /// Starts a program.
    pub fn spawn(cmd: &Cmd, io: Io) -> Result<Child, Error> {
        let mut command = cmd.command().map_err(|source| Error::Start { call: cmd.title(), source })?;
        command.stdin(io.stdin).stdout(io.stdout).stderr(io.stderr);
        own_group_and_die_with_parent(&mut command);
        if [io.stdout, io.stderr].contains(&Stdio::Inherit) {
            // Its own group is never the terminal's foreground.
            write_in_the_background(&mut command);
        }
        Self::started(cmd, command)
    }

    /// Starts a program at a terminal, which is its own from then on: it is told when the window has another size.
    pub(crate) fn spawn_at(cmd: &Cmd, terminal: &OwnedFd) -> Result<Child, Error> {
        let failed = |source| Error::Start { call: cmd.title(), source };
        let copy = || terminal.try_clone().map(process::Stdio::from).map_err(failed);
        let mut command = cmd.command().map_err(failed)?;
        command.stdin(copy()?).stdout(copy()?).stderr(copy()?);
        own_terminal_and_die_with_parent(&mut command);
        Self::started(cmd, command)
    }

    fn started(cmd: &Cmd, mut command: Command) -> Result<Child, Error> {
        let _starting = Starting::begin().map_err(|source| Error::Start { call: cmd.title(), source })?;
        let mut inner = command.spawn().map_err(|source| Error::Start { call: cmd.title(), source })?;
        let pid = i32::try_from(inner.id()).ok().and_then(Pid::new);
        let (sender, ended) = bounded(0);
        let waiter = thread::Builder::new().name("wait".into()).stack_size(64 << 10);
        let started = waiter.spawn(move || {
            // An error can only say that there is no such child: then it has ended as well.
            if let Some(pid) = pid {
                wait_unreaped(pid).ignore();
            }
            drop(sender);
        });
        let (stdin, stdout, stderr) = (inner.stdin.take(), inner.stdout.take(), inner.stderr.take());
        let mut child = Child {
            inner,
            pid,
            ended,
            reaped: None,
            stdin: stdin.map(OwnedFd::from),
            stdout: stdout.map(OwnedFd::from),
            stderr: stderr.map(OwnedFd::from),
        };
        let failed = match started {
            Ok(_) => {
                let mut running = running();
                if !running.over {
                    running.leaders.extend(pid);
                    return Ok(child);
                }
                ending()
            }
            Err(source) => source,
        };
        // Nobody waits for it, so it is reaped here.
        child.signal(Signal::KILL);
        child.reaped = Some(child.inner.wait().map_or(Exit::Signal(9), Exit::from_status));
        Err(Error::Start { call: cmd.title(), source: failed })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.inner.id()
    }

    /// Disconnected once the program has ended; it is not reaped by that.
    pub fn ended(&self) -> Receiver<Infallible> {
        self.ended.clone()
    }

    /// Signals its whole group. After it was reaped, nothing: its number may be a stranger's.
    pub fn signal(&self, signal: Signal) {
        if let (None, Some(pid)) = (self.reaped, self.pid) {
            // ESRCH: the group is gone, which is what a signal to it would have been for.
            kill_group(pid, signal).ignore();
        }
    }

    /// Waits for its end and reaps it. What is left of its group is killed first: nobody reads it any more.
    pub fn reap(&mut self) -> Exit {
        if let Some(exit) = self.reaped {
            return exit;
        }
        self.ended.recv().map_or_else(drop, |never| match never {});
        self.signal(Signal::KILL);
        running().leaders.retain(|leader| Some(*leader) != self.pid);
        // An error means that something else reaped it, which nothing in this program does.
        let exit = self.inner.wait().map_or(Exit::Signal(9), Exit::from_status);
        self.reaped = Some(exit);
        exit
    }

    /// Ends it: TERM, `grace`, KILL, for the whole group; then reaps it. A program that cannot be killed (it runs
    /// for another user, or hangs in the kernel) is left behind after a moment: nothing waits for it for ever.
    pub fn terminate(&mut self, grace: Duration) -> Exit {
        self.signal(Signal::TERM);
        // A stopped program takes TERM only once it runs again.
        self.signal(Signal::CONT);
        if !self.ends_within(grace) {
            self.signal(Signal::KILL);
            if !self.ends_within(KILL_LIMIT) {
                self.reaped = Some(Exit::Signal(9));
                return Exit::Signal(9);
            }
        }
        self.reap()
    }

    fn ends_within(&self, limit: Duration) -> bool {
        let late = Deadline::after(limit).channel();
        crossbeam_channel::select! {
            recv(self.ended) -> _ => true,
            recv(late) -> _ => false,
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.reaped.is_none() {
            self.signal(Signal::KILL);
            if self.ends_within(KILL_LIMIT) {
                self.reap();
            }
        }
    }
}
