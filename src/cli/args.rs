//! The command line: every verb and option, as typed. Nothing is looked up here.

#![allow(rustdoc::broken_intra_doc_links, reason = "the comments are the help texts, where brackets are brackets")]

use std::ffi::OsString;
#[cfg(target_os = "linux")]
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::config::{COUNT, WHOLE};
use crate::base::id::RunName;
use crate::base::{duration, size};

/// Run a command in an isolated place, and know for certain how it ended
#[derive(Debug, Parser)]
#[command(name = "fosse", version, disable_help_subcommand = true, args_override_self = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a command; block until it ends; exit as it exits
    Run(Box<Run>),
    /// Run one more command in a live run; exit as it exits
    Exec(Exec),
    /// List runs, newest first
    #[command(visible_alias = "ls")]
    List(List),
    /// Print whole records as JSON
    Inspect(Inspect),
    /// Print what a run wrote
    Logs(Logs),
    /// Block until runs end; print each exit code; exit with the last one
    Wait(Wait),
    /// End runs: a polite signal, a grace, then a kill
    Stop(Stop),
    /// Remove ended runs: record, output, engine objects
    #[command(visible_alias = "rm")]
    Destroy(Destroy),
    /// Destroy ended runs, and remove engine objects that belong to nobody
    Clean(Clean),
    /// Show runtimes, live runs and disk use on one screen
    Status(Status),
    /// Check everything that a run needs, with a hint for each problem
    Doctor(Doctor),
    /// Start, end and ask the background process that cleans up after runs
    Daemon(Daemon),
    /// Be PID 1: start a command, pass signals on, reap, end as it ends
    #[cfg(target_os = "linux")]
    Init(Init),
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR or TERM=dumb says otherwise
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// A whole number.
fn whole(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is not {WHOLE}"))
}

/// A whole number of at least 1.
fn count(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| format!("{text:?} is not {COUNT}"))
}

/// `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Name of the run, unique among live ones [default: generated]
    #[arg(short, long, value_name = "NAME", value_parser = RunName::parse)]
    pub name: Option<RunName>,
    /// Directory mounted read-write at /workspace [default: the current one]
    #[arg(short, long, value_name = "DIR")]
    pub workspace: Option<PathBuf>,
    /// Mount no workspace
    #[arg(long, conflicts_with = "workspace")]
    pub no_workspace: bool,
    /// Working directory inside [default: /workspace]
    #[arg(long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Give the command this program's stdin, and a terminal if stdin and stdout are both terminals
    #[arg(short, long)]
    pub interactive: bool,
    /// Key after which k stops a terminal session's run: none, or ^X [default: ^/]
    #[arg(long, value_name = "KEY")]
    pub escape: Option<String>,
    /// What provides the place: auto, native, docker, podman, apple [default: auto]
    #[arg(long, value_name = "RUNTIME")]
    pub runtime: Option<String>,
    /// Image to run in; a missing one is pulled [default: none, the host's own programs]
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Set a variable inside; KEY alone copies the caller's
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub env: Vec<OsString>,
    /// Read variables from a file, one KEY[=VALUE] a line
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Make a file or directory of the host visible at a path inside
    #[arg(short, long, value_name = "SRC:DST[:ro]")]
    pub mount: Vec<OsString>,
    /// User inside: caller, image, root, UID[:GID] [default: caller; in an image without a workspace: image]
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Limit of memory, swap included
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub memory: Option<u64>,
    /// Limit of processors, such as 1.5
    #[arg(long, value_name = "N")]
    pub cpus: Option<String>,
    /// Limit of processes and threads
    #[arg(long, value_name = "N", value_parser = count)]
    pub pids: Option<u64>,
    /// What the command can reach: open, none, private
    #[arg(long, value_name = "NETWORK")]
    pub network: Option<String>,
    /// Let the command make user namespaces, in the native runtime
    #[arg(long)]
    pub allow_userns: bool,
    /// End the command after this time; the exit code is then 124
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
    /// Time between the polite signal and the kill [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub grace: Option<Duration>,
    /// Most bytes of output to record [default: 64m]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub log_max: Option<u64>,
    /// Attach a label to the record
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Let an engine's container and network stay, stopped, until destroy or clean
    #[arg(long)]
    pub keep: bool,
    /// Write the run's id to this new file before the command starts
    #[arg(long, value_name = "FILE")]
    pub id_file: Option<PathBuf>,
    /// Print the plan and touch nothing
    #[arg(long)]
    pub dry_run: bool,
    /// With --dry-run: print the plan as JSON
    #[arg(long, requires = "dry_run")]
    pub json: bool,
    /// Say nothing but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say when the command starts and how to see its output
    #[arg(short, long)]
    pub verbose: bool,
    /// The command and its arguments; everything from here on belongs to it
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true)]
    pub command: Vec<OsString>,
}

/// `exec`.
#[derive(Debug, Args)]
pub struct Exec {
    /// Give the command this program's stdin, and a terminal if stdin and stdout are both terminals
    #[arg(short, long)]
    pub interactive: bool,
    /// Key after which k stops the command in a terminal session: none, or ^X [default: ^/]
    #[arg(long, value_name = "KEY")]
    pub escape: Option<String>,
    /// Set a variable for the command; KEY alone copies the caller's
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub env: Vec<OsString>,
    /// Working directory inside [default: the run's]
    #[arg(long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User inside: caller, image, root, UID[:GID] [default: the run's]
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// End the command after this time; the exit code is then 124
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
    /// Id, name or unique prefix of an id
    #[arg(value_name = "RUN")]
    pub run: String,
    /// The command and its arguments; everything from here on belongs to it
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true)]
    pub command: Vec<OsString>,
}

/// `list`.
#[derive(Debug, Args)]
pub struct List {
    /// Only live runs
    #[arg(long)]
    pub running: bool,
    /// Only runs with this state, name, label or runtime (label=KEY or label=KEY=VALUE)
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Print one JSON object a line
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
    /// Print ids only, one a line
    #[arg(short, long)]
    pub quiet: bool,
    /// When to use colour
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
}

/// `inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Id, name or unique prefix of an id
    #[arg(value_name = "RUN", required = true)]
    pub run: Vec<String>,
}

/// A stream to be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StreamName {
    /// Standard output
    Stdout,
    /// Standard error
    Stderr,
}

/// `logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// Go on until the run ends
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last N lines
    #[arg(short = 'n', long, value_name = "N", value_parser = whole)]
    pub tail: Option<u64>,
    /// Only one stream
    #[arg(long, value_name = "STREAM")]
    pub stream: Option<StreamName>,
    /// Put the time of its first byte before each line
    #[arg(long, conflicts_with = "json")]
    pub timestamps: bool,
    /// Print one JSON object a line of output
    #[arg(long)]
    pub json: bool,
    /// Id, name or unique prefix of an id
    #[arg(value_name = "RUN")]
    pub run: String,
}

/// `init`.
#[cfg(target_os = "linux")]
#[derive(Debug, Args)]
pub struct Init {
    /// Execute commands for who asks at this address; beyond this machine with FOSSE_INIT_TOKEN only
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub listen: Vec<SocketAddr>,
    /// Execute commands for who asks at this new socket file, which only this user can open
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Adopt orphans although this is not PID 1
    #[arg(long)]
    pub subreaper: bool,
    /// After a TERM, wait this long for the command, then kill it [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub grace: Option<Duration>,
    /// Leave in this file how the command ended, for who shares its directory; FILE.key has the key to it
    #[arg(long, value_name = "FILE", requires = "command")]
    pub exit_file: Option<PathBuf>,
    /// The command and its arguments; everything from here on belongs to it
    #[arg(value_name = "COMMAND", required_unless_present_any = ["listen", "socket"], trailing_var_arg = true)]
    pub command: Vec<OsString>,
}

/// An address to listen on.
#[cfg(target_os = "linux")]
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an address and a port such as 127.0.0.1:2280 or [::1]:2280"))
}

/// `wait`.
#[derive(Debug, Args)]
pub struct Wait {
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Id, name or unique prefix of an id
    #[arg(value_name = "RUN", required = true)]
    pub run: Vec<String>,
}

/// `stop`.
#[derive(Debug, Args)]
pub struct Stop {
    /// Time between the polite signal and the kill [default: the run's own]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub grace: Option<Duration>,
    /// Say nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
    /// Id, name or unique prefix of an id
    #[arg(value_name = "RUN", required = true)]
    pub run: Vec<String>,
}

/// `destroy`.
#[derive(Debug, Args)]
pub struct Destroy {
    /// Stop it first if it still runs; one that does not exist is fine
    #[arg(short, long)]
    pub force: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
    /// Id, name or unique prefix of an id
    #[arg(value_name = "RUN", required = true)]
    pub run: Vec<String>,
}

/// What to clean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// Ended runs, with their engine objects
    Runs,
    /// Engine objects that belong to nobody
    Networks,
    /// Both
    All,
}

/// `clean`.
#[derive(Debug, Args)]
pub struct Clean {
    /// What to clean
    #[arg(value_name = "WHAT", default_value = "runs")]
    pub what: Target,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Only runs that ended longer ago than this
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub older_than: Option<Duration>,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Say nothing but errors
    #[arg(short, long, conflicts_with = "json")]
    pub quiet: bool,
}

/// `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Print problems only
    #[arg(short, long, conflicts_with = "json")]
    pub quiet: bool,
}

/// `daemon`.
#[derive(Debug, Args)]
pub struct Daemon {
    /// What to do with it.
    #[command(subcommand)]
    pub action: DaemonAction,
}

/// What can be done with the daemon.
#[derive(Debug, Subcommand)]
pub enum DaemonAction {
    /// Start it, unless one serves already
    Start(DaemonStart),
    /// End it, and wait until it has ended
    Stop(DaemonEnd),
    /// End it, then start another one
    Restart(DaemonEnd),
    /// Say whether it serves: 0 serving, 3 not running, 4 running but not answering
    Status(DaemonStatus),
    /// Remove engine objects that belong to nobody, now
    Reap(DaemonReap),
}

/// `daemon start`.
#[derive(Debug, Args)]
pub struct DaemonStart {
    /// Be the daemon, for a service manager: log to stderr, and end only when told to
    #[arg(long)]
    pub foreground: bool,
    /// Replace one that does not answer even if a debugger holds it
    #[arg(long)]
    pub force: bool,
    /// Be the daemon, and report on stdout how the start came out.
    #[arg(long, hide = true, conflicts_with = "foreground")]
    pub detached: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
}

/// `daemon stop` and `daemon restart`.
#[derive(Debug, Args)]
pub struct DaemonEnd {
    /// End one that does not answer even if a debugger holds it
    #[arg(long)]
    pub force: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
}

/// `daemon status`.
#[derive(Debug, Args)]
pub struct DaemonStatus {
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Print nothing: the exit code says it
    #[arg(short, long, conflicts_with = "json")]
    pub quiet: bool,
}

/// `daemon reap`.
#[derive(Debug, Args)]
pub struct DaemonReap {
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Say nothing but errors
    #[arg(short, long, conflicts_with = "json")]
    pub quiet: bool,
}
