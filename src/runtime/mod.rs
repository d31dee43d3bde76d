//! Places to run in. A runtime makes, starts, asks about and removes a place; what happens inside comes and goes
//! through its [`Channel`].
//!
//! `not found` is an answer and an error is not: nothing here turns silence into a fact.
//!
//! | module | what it knows |
//! |---|---|
//! | `about` | what an engine is asked before a run, and for how long the answer is remembered |
//! | `spec` | a run, resolved: all that a runtime needs, nothing it would have to look up |
//! | `channel` | the seam between a run and what happens inside its place |
//! | `pid1` | the first path through it: fosse's own PID 1, on one socket |
//! | `client` | an engine's client that stays attached, the second path |
//! | `exec` | the second path of one more command in a live run |
//! | `inside` | the processes of such a command, seen from the host |
//! | `carry` | how words and values of variables reach an engine's tool |
//! | `options` | options that the engines' tools have in common |
//! | `workdir` | whether the directory to start in is there |
//! | `refusal` | what to do when an engine refuses |
//! | `tail` | the last words of a client |
//! | `native` | the built-in sandbox |
//! | `docker` | docker and podman |
//! | `apple` | Apple's containers |

mod about;
pub(crate) mod apple;
mod carry;
mod channel;
mod client;
pub mod docker;
mod exec;
mod inside;
#[cfg(target_os = "linux")]
pub(crate) mod native;
mod options;
pub(crate) mod pid1;
pub(crate) mod refusal;
mod spec;
mod tail;
mod workdir;

pub(crate) use about::{About, Cache};
pub(crate) use carry::fits_a_line;
pub(crate) use channel::{Channel, End, Fact, Outlet, Refusal, Streams, Whom};
pub(crate) use spec::{
    Cover, EXEC_MARK, Exec, HOME, Input, Mount, MountedInit, Network, OWN_DIRECTORY, OwnInit, Spec, User, WORKSPACE,
};

use std::fmt;
use std::time::Duration;

use crate::base::id::RunId;
use crate::base::time::{Deadline, Timestamp};
use crate::process::{self, Cancel, Child, Cmd};
use crate::sys::signal::Signal;

/// The label that names an object's run.
pub(crate) const LABEL_RUN: &str = "fosse.run";

/// The label that names the state directory an object belongs to.
pub(crate) const LABEL_INSTANCE: &str = "fosse.instance";

/// What provides the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The built-in sandbox.
    Native,
    /// The Docker engine, through `docker`.
    Docker,
    /// Podman, through `podman`.
    Podman,
    /// Apple's containers, through `container`.
    Apple,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Native, Kind::Docker, Kind::Podman, Kind::Apple];

    /// As in options and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Native => "native",
            Kind::Docker => "docker",
            Kind::Podman => "podman",
            Kind::Apple => "apple",
        }
    }

    /// The usual name of its tool.
    pub(crate) fn tool(self) -> &'static str {
        match self {
            Kind::Apple => "container",
            other => other.as_str(),
        }
    }

    /// Reads it back.
    pub(crate) fn parse(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Limits of calls by kind (fosse(1), Time limits).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// inspect, list, version.
    pub(crate) query: Duration,
    /// create, start, remove, network.
    pub(crate) change: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { query: Duration::from_secs(5), change: Duration::from_secs(30) }
    }
}

impl Limits {
    /// A deadline for a question.
    pub(crate) fn query(&self) -> Deadline {
        Deadline::after(self.query)
    }

    /// A deadline for a change.
    pub(crate) fn change(&self) -> Deadline {
        Deadline::after(self.change)
    }
}

/// Why a runtime could not do what it was asked.
#[derive(Debug)]
pub enum Error {
    /// The tool could not be started, or did not answer in time.
    Call(process::Error),
    /// The tool answered that it will not or cannot.
    Refused {
        /// Program and verb.
        call: String,
        /// Its words, on one line.
        complaint: String,
    },
    /// The tool's answer makes no sense.
    Garbled {
        /// Program and verb.
        call: String,
        /// What is wrong with it.
        why: String,
    },
    /// The image is not on this engine.
    NoImage,
    /// The engine behind the tool does not answer at all.
    Unreachable {
        /// The tool's words, on one line.
        complaint: String,
    },
    /// The kernel does not let it be done.
    Forbidden {
        /// What, and why not.
        why: String,
        /// What to do about it.
        hint: String,
    },
    /// All address ranges of the engine are taken.
    NoAddresses {
        /// The tool's words, on one line.
        complaint: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Call(error) => error.fmt(f),
            Error::Refused { call, complaint } | Error::Garbled { call, why: complaint } => {
                write!(f, "{call}: {complaint}")
            }
            Error::NoImage => f.write_str("the image is not there"),
            Error::Forbidden { why, .. } => f.write_str(why),
            Error::Unreachable { complaint } | Error::NoAddresses { complaint } => f.write_str(complaint),
        }
    }
}

impl std::error::Error for Error {}

impl From<process::Error> for Error {
    fn from(error: process::Error) -> Self {
        Error::Call(error)
    }
}

/// A result of a runtime's call.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Where a container is in its life, as the engine says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Made, never started.
    Created,
    /// Its processes run, or are paused.
    Live,
    /// It ran and ended.
    Ended {
        /// Its exit code.
        code: u8,
        /// Whether the kernel killed something in it for memory.
        oom: bool,
    },
    /// It does not run, and the engine does not keep how it ended, or whether it ever ran.
    Stopped,
    /// Something else: restarting, being removed, unknown to us.
    Other,
}

/// What an engine knows about one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its id.
    pub id: String,
    /// Its name.
    pub(crate) name: String,
    /// Where it is in its life.
    pub status: Status,
    /// The engine's words if it failed to start.
    pub(crate) error: String,
    /// The run its label names.
    pub(crate) run: Option<RunId>,
    /// When it was made.
    pub(crate) created: Option<Timestamp>,
}

/// Which kind of thing an engine keeps for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ObjectKind {
    /// A container.
    Container,
    /// A network.
    Network,
}

impl ObjectKind {
    /// In one word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ObjectKind::Container => "container",
            ObjectKind::Network => "network",
        }
    }
}

/// A thing in an engine that carries our label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub(crate) kind: ObjectKind,
    /// The engine's id.
    pub(crate) id: String,
    /// The run its label names; a label that is no run id names none.
    pub(crate) run: Option<RunId>,
    /// When it was made.
    pub(crate) created: Option<Timestamp>,
}

/// What of a run a runtime cannot do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// What, and why.
    pub(crate) why: String,
    /// What to do about it; empty if the words say so themselves.
    pub(crate) hint: String,
}

impl From<String> for Unfit {
    fn from(why: String) -> Self {
        Unfit { why, hint: String::new() }
    }
}

/// What making a place would do.
pub(crate) enum Plan {
    /// Calls of an engine's tool.
    Calls(Vec<Cmd>),
    /// Steps of the built-in sandbox.
    #[cfg(target_os = "linux")]
    Steps(Vec<native::plan::Step>),
}

/// A container whose command has not started.
pub(crate) struct Made {
    /// The engine's id, where there is an engine.
    pub(crate) id: Option<String>,
    /// fosse's own init, which runs in it already and has greeted; none where the engine is to start the command.
    pub(crate) init: Option<pid1::Visitor>,
    /// What of the host can only be read in it, because the kernel refused an overlay (native).
    pub(crate) read_only: Vec<std::path::PathBuf>,
}

/// A way to provide places. Each method is one call of a tool, or a few, and ends by its deadline.
pub(crate) trait Runtime: Send + Sync {
    /// Which one it is.
    fn kind(&self) -> Kind;

    /// The program that speaks to the engine.
    fn tool(&self) -> &str;

    /// Where the engine listens; see `wire::record::Engine`.
    fn endpoint(&self) -> &str;

    /// The limits its calls keep.
    fn limits(&self) -> Limits;

    /// The engine's version: proof that it answers.
    fn version(&self, deadline: Deadline) -> Result<String>;

    /// How users are mapped; remembered between calls.
    fn about(&self, deadline: Deadline) -> Result<About>;

    /// What of the run cannot be carried to this engine, in words.
    fn check(&self, spec: &Spec) -> std::result::Result<(), Unfit>;

    /// Begins with what a run will need in any case, before it is recorded: what nobody then asks for leaves no trace.
    fn begin(&self) {}

    /// Fetches an image; progress goes to stderr if it is a terminal. No deadline: only the caller gives up.
    fn pull(&self, image: &str, show_progress: bool, cancel: &Cancel) -> Result<()>;

    /// Makes the run's own network; its id.
    fn create_network(&self, spec: &Spec, deadline: Deadline, cancel: &Cancel) -> Result<String>;

    /// Makes the container, without starting its command.
    fn create(&self, spec: &Spec, deadline: Deadline, cancel: &Cancel) -> Result<Made>;

    /// Starts the command, with a channel to it.
    fn start(&self, spec: &Spec, made: Made) -> Result<Box<dyn Channel>>;

    /// What of one more command cannot be carried to this engine, in words.
    fn check_exec(&self, exec: &Exec) -> std::result::Result<(), String>;

    /// Starts one more command in a running container, with a channel to it.
    fn exec(&self, exec: &Exec) -> Result<Box<dyn Channel>>;

    /// Whom the image of a container names as its user.
    fn image_user(&self, container: &str, deadline: Deadline) -> Result<String>;

    /// The signal that is to end the command, if its image names one.
    fn stop_signal(&self, _container: &str, _deadline: Deadline) -> Result<Option<Signal>> {
        Ok(None)
    }

    /// Signals the command; KILL ends everything in the container.
    fn signal(&self, container: &str, signal: Signal, deadline: Deadline) -> Result<()>;

    /// Facts about those of the containers that exist, in one call however many they are.
    fn inspect(&self, containers: &[String], deadline: Deadline, cancel: &Cancel) -> Result<Vec<Facts>>;

    /// Facts about every container that carries the label of `instance`: a call or two, however many runs there are.
    fn containers(&self, instance: &str, deadline: Deadline) -> Result<Vec<Facts>>;

    /// Everything that carries the label of `instance`.
    fn list(&self, instance: &str, deadline: Deadline) -> Result<Vec<Object>>;

    /// Whether what a client has asked for may come to be after the client has died.
    fn may_come_late(&self) -> bool {
        true
    }

    /// Starts to read what the engine has kept of the command's output, on the child's stdout and stderr. `None`: it
    /// keeps nothing that could be told from what is recorded.
    fn output(&self, container: &str) -> Result<Option<Child>>;

    /// Ends and removes containers. One that does not exist is fine.
    fn remove_containers(&self, containers: &[String], deadline: Deadline) -> Result<()>;

    /// Removes networks. One that does not exist is fine.
    fn remove_networks(&self, networks: &[String], deadline: Deadline) -> Result<()>;

    /// Tries whether a container can run at all; the error says why not. `None`: there is no image to try with.
    fn trial(&self, instance: &str, deadline: Deadline) -> Result<Option<()>>;

    /// What a run would do, for `--dry-run`.
    fn plan(&self, spec: &Spec) -> Result<Plan>;
}
