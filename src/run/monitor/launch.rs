//! What a monitor is given, and what it gives back.

use std::sync::Arc;
use std::time::Duration;

use crate::base::error::Failure;
use crate::run::terminal::Caller;
use crate::runtime::{Runtime, Spec};
use crate::sys::signal::Signal;

/// What a run is started with.
pub struct Launch {
    /// Where.
    pub runtime: Arc<dyn Runtime>,
    /// What.
    pub spec: Arc<Spec>,
    /// Between the polite signal and the kill.
    pub grace: Duration,
    /// The signal that asks it to end; its image's own, or TERM, if none was chosen.
    pub stop_signal: Option<Signal>,
    /// The limit on its running time.
    pub timeout: Option<Duration>,
    /// Whether container and network stay.
    pub keep: bool,
    /// Where the id is told.
    pub id_file: Option<std::path::PathBuf>,
    /// Whether a pull may draw on the terminal.
    pub show_progress: bool,
    /// The caller's terminal, if the command is to work there.
    pub caller: Option<Caller>,
}

/// What became of a run, for its client.
pub struct Outcome {
    /// The exit code of the client.
    pub code: u8,
    /// Whether an interrupt came and was what ended the command.
    pub interrupted: bool,
    /// What to tell the user.
    pub failures: Vec<Failure>,
    /// Whether there is a record to look at.
    pub recorded: bool,
}
