//! What a monitor is given, and what it gives back.

use std::sync::Arc;
use std::time::Duration;

use crate::base::error::Failure;
use crate::run::terminal::Caller;
use crate::runtime::{Runtime, Spec};
use crate::sys::signal::Signal;

/// What a run is started with.
pub(crate) struct Launch {
    /// Where.
    pub(crate) runtime: Arc<dyn Runtime>,
    /// What.
    pub(crate) spec: Arc<Spec>,
    /// Between the polite signal and the kill.
    pub(crate) grace: Duration,
    /// The signal that asks it to end; its image's own, or TERM, if none was chosen.
    pub(crate) stop_signal: Option<Signal>,
    /// The limit on its running time.
    pub(crate) timeout: Option<Duration>,
    /// Whether container and network stay.
    pub(crate) keep: bool,
    /// Where the id is told.
    pub(crate) id_file: Option<std::path::PathBuf>,
    /// Whether a pull may draw on the terminal.
    pub(crate) show_progress: bool,
    /// The caller's terminal, if the command is to work there.
    pub(crate) caller: Option<Caller>,
}

/// What became of a run, for its client.
pub(crate) struct Outcome {
    /// The exit code of the client.
    pub(crate) code: u8,
    /// Whether an interrupt came and was what ended the command.
    pub(crate) interrupted: bool,
    /// What to tell the user.
    pub(crate) failures: Vec<Failure>,
}
