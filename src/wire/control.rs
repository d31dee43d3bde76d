//! What another process may ask the owner of a run: one JSON line each way on the run's control socket.

use serde::{Deserialize, Serialize};

use super::record::{Reason, State};

/// The most bytes a line may have.
pub(crate) const MAX_LINE: usize = 4096;

/// Asked of the owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Request {
    /// End the run: polite signal, grace, then kill. `grace_ms` of null means the run's own.
    Stop {
        /// The grace in milliseconds.
        grace_ms: Option<u64>,
    },
    /// Introduce the asker to the init in the run's place: its connection comes with the answer, if it is accepted.
    Introduce,
}

/// Answered by the owner, at once: the end itself is known by the owner's lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) struct Reply {
    /// Whether the request was taken.
    pub(crate) accepted: bool,
    /// The state after it was.
    pub(crate) state: State,
}

/// What the owner writes into its lock's file: information for who asks it or, proved, ends it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// Its process id.
    pub(crate) pid: i32,
    /// Its start time in clock ticks since boot (proc_pid_stat(5), field 22).
    pub(crate) start_time: u64,
    /// The boot that both numbers belong to.
    pub(crate) boot_id: String,
    /// The path of its control socket.
    pub(crate) socket: String,
    /// How the run ended, once that is on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) end: Option<End>,
}

/// How a run ended, for who waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    /// The command's exit code, if it is known.
    pub(crate) exit_code: Option<u8>,
    /// Why it ended.
    pub(crate) reason: Option<Reason>,
}
