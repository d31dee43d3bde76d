//! Child programs under a deadline: the only place that starts one.
//!
//! Each child gets a process group of its own, a death signal where the kernel has one, stdin from nowhere
//! unless it is given, and is always reaped. A call captures a bounded amount of output, and an exit is not an
//! end of file: a grandchild may hold the pipe, so draining has a short limit of its own.
//!
//! | module | what it knows |
//! |---|---|
//! | `lookup` | where programs are |
//! | `child` | a running program: its group, its wait, its kill |
//! | `capture` | its pipes, bounded |
//! | `exit` | how it ended |
//! | `detached` | one that outlives this process |

mod capture;
mod child;
mod detached;
mod exit;
mod lookup;

pub use child::{Child, Io, Stdio, end_all};
pub(crate) use detached::{Detached, spawn_detached};
pub use exit::{Exit, code_of_signal, code_of_unstarted};
pub(crate) use lookup::{find, names_a_program};

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::{Receiver, never, select};

use crate::base::error::one_line;
use crate::base::time::Deadline;
use capture::Capture;

/// How long after the end of a program its pipes may stay open in other hands.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);

/// How long a program that overstayed its deadline has between TERM and KILL.
const TERM_GRACE: Duration = Duration::from_millis(500);

/// The most that is kept of a program's stdout and of its stderr.
const STDOUT_MAX: usize = 64 << 20;
const STDERR_MAX: usize = 64 << 10;

/// A program, its arguments, and what it gets beside this process's environment.
#[derive(Clone)]
pub struct Cmd {
    /// The program: an absolute path, or a name to be found on PATH.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables to set.
    pub env: Vec<(OsString, OsString)>,
}

impl Cmd {
    /// A program without arguments.
    pub fn new(program: impl Into<OsString>) -> Self {
        Cmd { program: program.into(), args: Vec::new(), env: Vec::new() }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// As std starts it: by an absolute path, so that nothing else can be meant by its name.
    #[allow(clippy::disallowed_methods)]
    fn command(&self) -> io::Result<std::process::Command> {
        let path = match find(&self.program) {
            Some(path) => path,
            // Whatever is wrong there, or with what is no name at all, is the kernel's to say.
            None if Path::new(&self.program).is_absolute() || self.program.as_bytes().contains(&0) => {
                PathBuf::from(&self.program)
            }
            None => return Err(io::Error::from_raw_os_error(libc::ENOENT)),
        };
        let mut command = std::process::Command::new(path);
        command.arg0(&self.program).args(&self.args);
        command.envs(lookup::path_of_others().map(|path| ("PATH", path)));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }

    /// Program and verb, for messages: enough to know the call, and nothing that could be a secret. A call that
    /// begins with an option has no verb that is known to be one.
    pub(crate) fn title(&self) -> String {
        let name = std::path::Path::new(&self.program).file_name().unwrap_or(&self.program);
        let mut words = vec![name.to_string_lossy()];
        let mut verbs = self.args.iter().map(|arg| arg.to_string_lossy()).take_while(|arg| !arg.starts_with('-'));
        if let Some(verb) = verbs.next() {
            // Nouns that have verbs of their own.
            let noun = matches!(&*verb, "network" | "container" | "context" | "image" | "system");
            words.push(verb);
            words.extend(verbs.next().filter(|_| noun));
        }
        words.join(" ")
    }
}

impl fmt::Debug for Cmd {
    /// Neither arguments nor values: they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cmd").field(&self.title()).finish()
    }
}

/// What a finished program left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// The start of its stdout.
    pub stdout: Vec<u8>,
    /// The end of its stderr.
    pub stderr: Vec<u8>,
    /// Whether stdout was longer than what is kept.
    pub truncated: bool,
}

impl Output {
    /// stderr as text on one line.
    pub fn complaint(&self) -> String {
        one_line(&String::from_utf8_lossy(&self.stderr))
    }
}

/// Why a program could not be started or did not finish.
#[derive(Debug)]
pub enum Error {
    /// There is no such program, or it cannot be executed.
    Start {
        /// Program and verb.
        call: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// It was still running at its deadline, and was killed with its group.
    Deadline {
        /// Program and verb.
        call: String,
        /// How long it had.
        limit: Duration,
        /// The end of its stderr, on one line.
        complaint: String,
    },
    /// The caller gave up on it, and it was killed with its group.
    Cancelled {
        /// Program and verb.
        call: String,
    },
}

impl Error {
    /// Whether the program is not there at all.
    pub fn is_missing(&self) -> bool {
        matches!(self, Error::Start { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Start { call, source } => write!(f, "{call}: cannot be started: {source}"),
            Error::Deadline { call, limit, complaint } => {
                write!(f, "{call}: no answer within {} and killed", crate::base::duration::format(*limit))?;
                if complaint.is_empty() { Ok(()) } else { write!(f, " (it said: {complaint})") }
            }
            Error::Cancelled { call } => write!(f, "{call}: cancelled"),
        }
    }
}

impl std::error::Error for Error {}

/// Says when a caller gives up: its sender is dropped.
pub(crate) type Cancel = Receiver<std::convert::Infallible>;

/// A [`Cancel`] that never happens.
pub fn no_cancel() -> Cancel {
    never()
}

/// Runs a program to its end, or to the deadline.
pub fn call(cmd: &Cmd, deadline: Deadline, cancel: &Cancel) -> Result<Output, Error> {
    call_with(cmd, Stdio::Null, deadline, cancel)
}

/// [`call`], with a choice of where stderr goes: a program that reports progress may have the terminal.
pub(crate) fn call_with(cmd: &Cmd, stderr: Stdio, deadline: Deadline, cancel: &Cancel) -> Result<Output, Error> {
    let io = Io {
        stdin: Stdio::Null,
        stdout: Stdio::Pipe,
        stderr: if stderr == Stdio::Inherit { stderr } else { Stdio::Pipe },
    };
    let mut child = Child::spawn(cmd, io)?;
    let unread = |source| Error::Start { call: cmd.title(), source };
    let stdout = child.stdout.take().map(|pipe| Capture::head(pipe, STDOUT_MAX)).transpose().map_err(unread)?;
    let stderr = child.stderr.take().map(|pipe| Capture::tail(pipe, STDERR_MAX)).transpose().map_err(unread)?;
    let late = deadline.channel();
    let ended = child.ended();
    let failure = select! {
        recv(ended) -> _ => None,
        recv(cancel) -> _ => Some(Error::Cancelled { call: cmd.title() }),
        recv(late) -> _ => Some(Error::Deadline {
            call: cmd.title(), limit: deadline.limit().unwrap_or_default(), complaint: String::new(),
        }),
    };
    let exit = match &failure {
        None => child.reap(),
        Some(_) => child.terminate(TERM_GRACE),
    };
    let drained = Deadline::after(DRAIN_LIMIT);
    let (stdout, truncated) = stdout.map(|capture| capture.finish(drained)).unwrap_or_default();
    let (stderr, _) = stderr.map(|capture| capture.finish(drained)).unwrap_or_default();
    let output = Output { exit, stdout, stderr, truncated };
    match failure {
        None => Ok(output),
        Some(Error::Deadline { call, limit, .. }) => {
            Err(Error::Deadline { call, limit, complaint: output.complaint() })
        }
        Some(other) => Err(other),
    }
}
