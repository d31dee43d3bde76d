//! A run, resolved: everything a runtime needs to make its place, and nothing it would have to look up.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::base::id::RunId;
use crate::sys::termios::Size;
use crate::wire::channel::{Wanted, Window};

/// Where a command's stdin leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// Nowhere: it is at its end.
    Empty,
    /// To the caller's, through a pipe.
    Pipe,
    /// To a terminal of its own, which the caller works at.
    Terminal,
}

impl Input {
    /// Whether the command gets what the caller has to say.
    pub(crate) fn is_open(self) -> bool {
        self != Input::Empty
    }

    /// The size of the caller's terminal, at this moment.
    pub(crate) fn size(self) -> Size {
        Size::of(std::io::stdin()).or_else(|_| Size::of(std::io::stdout())).unwrap_or_default()
    }

    /// What fosse's own PID 1 is to make for it. A terminal has the size that the caller's has at this moment.
    pub(crate) fn wanted(self) -> Wanted {
        match self {
            Input::Empty => Wanted::Output,
            Input::Pipe => Wanted::Pipes,
            Input::Terminal => {
                let Size { rows, columns, width, height } = self.size();
                Wanted::Terminal(Window { rows, columns, width, height })
            }
        }
    }
}

/// The private home directory inside.
pub(crate) const HOME: &str = "/home/fosse";

/// The variable by which the processes of one more command are known: its value is random, and new each time.
pub(crate) const EXEC_MARK: &str = "FOSSE_EXEC_ID";

/// Where the workspace is mounted inside.
pub(crate) const WORKSPACE: &str = "/workspace";

/// A directory or file of the host that the command can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The host's path: absolute, without links.
    pub(crate) source: PathBuf,
    /// The path inside.
    pub(crate) target: PathBuf,
    /// Whether the command cannot write there.
    pub(crate) read_only: bool,
}

/// A place inside that would show one of fosse's own directories, and shows an empty one instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cover {
    /// The path inside.
    pub(crate) target: PathBuf,
}

/// What the command can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The engine's default network.
    Open,
    /// Loopback only.
    None,
    /// A network of the run's own.
    Private,
}

impl Network {
    /// As in options and records.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Network::Open => "open",
            Network::None => "none",
            Network::Private => "private",
        }
    }
}

/// Who the command is inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// Whoever the image says.
    Image,
    /// These ids, as the container sees them.
    Ids {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
        /// Whether the engine's own remapping of ids must be off, so that the ids mean the host's.
        host_ids: bool,
    },
}

impl User {
    /// The ids inside where there is no image to name them: then it is the caller.
    pub(crate) fn ids_or(self, caller: (u32, u32)) -> (u32, u32) {
        match self {
            User::Image => caller,
            User::Ids { uid, gid, .. } => (uid, gid),
        }
    }

    /// As in the record.
    pub(crate) fn describe(self) -> String {
        match self {
            User::Image => "image".into(),
            User::Ids { uid, gid, .. } => format!("{uid}:{gid}"),
        }
    }
}

/// Where fosse's own files are inside: its binary, and the socket that init greets its owner through.
pub(crate) const OWN_DIRECTORY: &str = "/.fosse";

/// The files of the host that fosse's own PID 1 needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnInit {
    /// This program, linked statically.
    pub(crate) binary: PathBuf,
    /// Where the owner listens until init has greeted.
    pub(crate) socket: PathBuf,
    /// Where init leaves the exit.
    pub(crate) page: PathBuf,
}

/// What fosse's own PID 1 needs in a virtual machine, where no socket of the host leads.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct MountedInit {
    /// fosse for the machine's kernel and processor, linked statically.
    pub(crate) binary: PathBuf,
    /// The directory into which init leaves how the command ended.
    pub(crate) directory: PathBuf,
    /// The word that proves who left it. Never printed.
    pub(crate) key: String,
    /// Where the owner keeps that word.
    pub(crate) key_file: PathBuf,
}

/// A run, resolved.
#[derive(Clone, PartialEq)]
pub(crate) struct Spec {
    /// Its id.
    pub(crate) id: RunId,
    /// The state directory it belongs to.
    pub(crate) instance: String,
    /// The image; empty where the place is made of the host.
    pub(crate) image: String,
    /// The command and its arguments; never empty.
    pub(crate) command: Vec<OsString>,
    /// Where its stdin leads.
    pub(crate) input: Input,
    /// The working directory inside; the image's if none.
    pub(crate) workdir: Option<String>,
    /// Who the command is.
    pub(crate) user: User,
    /// Variables to set, with values. Never printed.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// The file through which values travel to the engine's tool.
    pub(crate) env_file: PathBuf,
    /// What of the host is visible.
    pub(crate) mounts: Vec<Mount>,
    /// What of that is not.
    pub(crate) covers: Vec<Cover>,
    /// Bytes of memory.
    pub(crate) memory: Option<u64>,
    /// Processors, in thousandths.
    pub(crate) cpus_milli: Option<u64>,
    /// Processes and threads.
    pub(crate) pids: Option<u64>,
    /// What the command can reach.
    pub(crate) network: Network,
    /// Bytes of output that are worth keeping.
    pub(crate) log_max: u64,
    /// Whether user namespaces can be made inside.
    pub(crate) allow_userns: bool,
    /// Whether the container stays when it has ended.
    pub(crate) keep: bool,
    /// What fosse's own PID 1 needs; none if the engine's client is to carry the run.
    pub(crate) own_init: Option<OwnInit>,
    /// The same in a virtual machine.
    pub(crate) mounted_init: Option<MountedInit>,
}

impl Spec {
    /// The name of the run's objects in the engine.
    pub(crate) fn object_name(&self) -> String {
        self.id.object_name()
    }
}

impl std::fmt::Debug for Spec {
    /// Names of variables, never values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let env: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Spec")
            .field("id", &self.id)
            .field("image", &self.image)
            .field("env", &env)
            .finish_non_exhaustive()
    }
}

/// One more command in a place that runs.
#[derive(Clone, PartialEq)]
pub(crate) struct Exec {
    /// The name of the container.
    pub(crate) container: String,
    /// The engine's id of it, if that is recorded.
    pub(crate) container_id: Option<String>,
    /// The command and its arguments; never empty.
    pub(crate) command: Vec<OsString>,
    /// Where its stdin leads.
    pub(crate) input: Input,
    /// The working directory inside; the run's if none.
    pub(crate) workdir: Option<String>,
    /// Who the command is, as the engine takes it; whoever the run's is if none.
    pub(crate) user: Option<String>,
    /// Variables to set beside the run's, with values, the mark among them. Never printed.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// The file through which some values may travel to the engine's tool.
    pub(crate) env_file: PathBuf,
    /// The value of [`EXEC_MARK`].
    pub(crate) mark: String,
    /// Whether fosse's own PID 1 is there as a file (see [`MountedInit`]).
    pub(crate) has_init: bool,
}

impl std::fmt::Debug for Exec {
    /// Names of variables, never values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let env: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Exec").field("container", &self.container).field("env", &env).finish_non_exhaustive()
    }
}
