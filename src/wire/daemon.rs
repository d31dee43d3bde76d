//! What the daemon tells and is asked over its socket, and what it writes into its lock's file.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record::Record;
use crate::base::id::RunId;
use crate::base::time::Timestamp;

/// The version of these shapes; only ever added to.
pub(crate) const SCHEMA: u32 = 1;

/// What the holder of the lock writes into its file: information for who asks it or, proved, ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    /// Its process id.
    pub(crate) pid: i32,
    /// Its start time in clock ticks since boot (proc_pid_stat(5), field 22).
    pub(crate) start_time: u64,
    /// The boot that both numbers belong to.
    pub(crate) boot_id: String,
    /// Random, and its alone: what is meant for this daemon never reaches its successor.
    pub(crate) nonce: String,
    /// The path of its socket.
    pub(crate) socket: String,
}

/// Where a daemon is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// It does what it is for.
    Serving,
    /// It was asked to end, and does.
    Stopping,
}

/// By what a daemon is judged fresh: by content, never by times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    /// The version of the program.
    pub(crate) version: String,
    /// The daemon's own keys, as the files of the system and the user set them; null where one cannot be read.
    pub(crate) settings: Value,
}

/// What a daemon says of itself (`GET /v1/health`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// See [`SCHEMA`].
    pub(crate) schema: u32,
    /// Where it is in its life.
    pub(crate) state: Phase,
    /// Its process id.
    pub(crate) pid: i32,
    /// See [`Holder::nonce`].
    pub(crate) nonce: String,
    /// Its freshness.
    pub(crate) fingerprint: Fingerprint,
    /// The user's configuration file that it reads, whether it exists or not.
    pub(crate) user_config: Option<String>,
    /// When it began to serve.
    pub(crate) started_at: Timestamp,
    /// Its socket.
    pub(crate) socket: String,
    /// Its log; null where that is stderr.
    pub(crate) log: Option<String>,
    /// Whether somebody else decides when it ends.
    pub(crate) foreground: bool,
    /// Runs that are neither over nor orphaned, as of the last look.
    pub(crate) runs_live: u64,
    /// Runs whose owner keeps a connection.
    pub(crate) leases: u64,
    /// Orphans that it has finished.
    pub(crate) finished: u64,
    /// Orphans that could not be finished yet. An older daemon does not say.
    #[serde(default)]
    pub(crate) waiting: u64,
    /// Why the last of them could not.
    #[serde(default)]
    pub(crate) waiting_for: Option<String>,
    /// The last sweep that is over.
    pub(crate) last_sweep: Option<Sweep>,
}

/// What a sweep did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// When it was over.
    pub(crate) at: Option<Timestamp>,
    /// Whether nothing was removed.
    pub(crate) dry_run: bool,
    /// Orphaned engine objects.
    pub(crate) objects: Vec<Removed>,
    /// Ended runs that were pruned.
    pub(crate) pruned: Vec<RunId>,
    /// What could not be done, each on one line.
    pub(crate) problems: Vec<String>,
}

/// An engine object that belonged to nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// `container` or `network`.
    pub(crate) kind: String,
    /// The engine's id.
    pub(crate) id: String,
    /// The engine.
    pub(crate) runtime: String,
    /// The run that its label names.
    pub(crate) run: Option<RunId>,
}

/// `GET /v1/runs`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Runs {
    /// See [`SCHEMA`].
    pub(crate) schema: u32,
    /// All records, newest first.
    pub(crate) runs: Vec<Record>,
    /// Runs whose record cannot be read.
    pub(crate) unknown: Vec<RunId>,
}

/// `POST /v1/reap`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reap {
    /// Whether to say only what would be removed.
    pub(crate) dry_run: bool,
}

/// `POST /v1/shutdown`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// Only the daemon of this nonce is meant; null means whichever this is.
    pub(crate) nonce: Option<String>,
    /// Whether another daemon is about to take its place, so that owners look for it at once.
    pub(crate) replace: bool,
}

/// `POST /v1/lease`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// The run whose owner asks.
    pub(crate) run: RunId,
    /// Where the owner finds the tool of the run's engine, and its usual name: the daemon may have another PATH.
    #[serde(default)]
    pub(crate) tool: Option<ToolAt>,
}

/// Where a program is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToolAt {
    /// As it is called.
    pub(crate) name: String,
    /// Its absolute path.
    pub(crate) path: String,
}

/// How a start in the background came out: one line on the pipe that waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// It serves.
    Ready {
        /// Its process id.
        pid: i32,
    },
    /// Another one does, and is as good.
    Running {
        /// That one's process id.
        pid: i32,
    },
    /// There is none that does.
    Failed {
        /// Why.
        why: String,
        /// What to do about it.
        hint: Option<String>,
    },
}
