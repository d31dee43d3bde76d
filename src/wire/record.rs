//! The record of a run: what is known about it on disk, and what `inspect` prints (fosse-records(7)).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::id::{RunId, RunName};
use crate::base::time::Timestamp;

/// The version of this shape. It only ever gains fields.
pub(crate) const SCHEMA: u32 = 1;

/// The most bytes a record may have; a longer file is no record.
pub const MAX_BYTES: u64 = 4 << 20;

/// Where a run is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It has an id and an owner.
    Created,
    /// Its place is being made.
    Starting,
    /// The command runs.
    Running,
    /// It was asked to end.
    Stopping,
    /// It ended with 0, or because it was asked to. Final.
    Stopped,
    /// Any other end, or it could not be run. Final.
    Failed,
}

impl State {
    /// Whether nothing can change it any more.
    pub fn is_final(self) -> bool {
        matches!(self, State::Stopped | State::Failed)
    }

    /// As in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Created => "created",
            State::Starting => "starting",
            State::Running => "running",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
            State::Failed => "failed",
        }
    }
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The command ended by itself.
    Exited,
    /// A signal ended the command.
    Signaled,
    /// It was asked to: `stop`, the escape, a signal to the client.
    Stopped,
    /// `--timeout` ended it.
    Timeout,
    /// It could not be run.
    StartFailed,
    /// Its owner died.
    Orphaned,
    /// The engine no longer knows it.
    Lost,
    /// The command was killed for memory.
    Oom,
}

impl Reason {
    /// As in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Exited => "exited",
            Reason::Signaled => "signaled",
            Reason::Stopped => "stopped",
            Reason::Timeout => "timeout",
            Reason::StartFailed => "start_failed",
            Reason::Orphaned => "orphaned",
            Reason::Lost => "lost",
            Reason::Oom => "oom",
        }
    }
}

/// The engine a run is in, always used again for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    /// The program that speaks to it.
    pub tool: String,
    /// Where it listens: an address, `context:NAME`, or `local`.
    pub endpoint: String,
}

/// Who carries a run's bytes, signals and exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Io {
    /// fosse's own PID 1.
    Init,
    /// The engine's attached client.
    Engine,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Its id.
    pub id: RunId,
    /// Its name.
    pub name: RunName,
    /// Where it is in its life.
    pub state: State,
    /// What provides the place.
    pub runtime: String,
    /// The engine, for runtimes that have one.
    pub engine: Option<Engine>,
    /// Who carries bytes, signals and the exit code.
    pub io: Io,
    /// The image.
    pub image: Option<String>,
    /// The command and its arguments. Bytes that are not UTF-8 are replaced.
    pub command: Vec<String>,
    /// The directory mounted at `/workspace`.
    pub workspace: Option<String>,
    /// Where the command started, inside; null where the image said it.
    #[serde(default)]
    pub(crate) workdir: Option<String>,
    /// The user inside, as resolved: `UID:GID`, or `image`.
    pub user: String,
    /// `open`, `none` or `private`.
    pub network: String,
    /// Whether the command gets the caller's stdin.
    #[serde(default)]
    pub interactive: bool,
    /// The labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Names of the environment variables that were set; never values.
    #[serde(default)]
    pub env: Vec<String>,
    /// When the run got its id.
    pub created_at: Timestamp,
    /// When the command was first known to run.
    pub started_at: Option<Timestamp>,
    /// When the end was known.
    pub stopped_at: Option<Timestamp>,
    /// 0 to 255, or null when it cannot be known.
    pub exit_code: Option<u8>,
    /// The signal that ended the command, where that is certain.
    pub signal: Option<u8>,
    /// Why it ended; null while it has not.
    pub reason: Option<Reason>,
    /// What failed, in words.
    pub error: Option<String>,
    /// The engine's id of the container.
    pub container_id: Option<String>,
    /// The engine's id of the network.
    pub network_id: Option<String>,
    /// Whether container and network stay after the end.
    #[serde(default)]
    pub keep: bool,
    /// The limit on its running time, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Directories of the host that can only be read inside because the kernel refused an overlay over them (native).
    #[serde(default)]
    pub read_only: Vec<String>,
    /// Between the polite signal and the kill, in milliseconds.
    #[serde(default = "default_grace")]
    pub grace_ms: u64,
    /// The signal that asks it to end; null: its image's own, or TERM.
    #[serde(default)]
    pub(crate) stop_signal: Option<u8>,
    /// The most bytes that the output's file may have.
    #[serde(default = "default_log_max")]
    pub log_max: u64,
    /// Bytes of output that were recorded.
    #[serde(default)]
    pub log_bytes: u64,
    /// Whether output was left out of the record: more than the cap, or a full disk.
    #[serde(default)]
    pub log_truncated: bool,
    /// The machine that ran it (machine-id(5)).
    #[serde(default)]
    pub machine_id: String,
    /// The boot of that machine.
    #[serde(default)]
    pub boot_id: String,
}

fn default_grace() -> u64 {
    10_000
}

fn default_log_max() -> u64 {
    64 << 20
}

/// Reads a record. Fields of later versions are ignored; a missing or impossible one is an error.
pub fn parse(bytes: &[u8]) -> Result<Record, String> {
    let record: Record = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if record.schema == 0 {
        return Err("schema 0 does not exist".into());
    }
    if record.state.is_final() != record.reason.is_some() {
        return Err(format!("state {} and reason {:?} do not fit", record.state.as_str(), record.reason));
    }
    if record.state.is_final() != record.stopped_at.is_some() {
        return Err(format!("state {} and stopped_at do not fit", record.state.as_str()));
    }
    Ok(record)
}

/// The bytes of a record's file: JSON, indented, with a final newline.
pub fn format(record: &Record) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(record).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
