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
use crate::sys::signal::Signal;

/// Run a command in an isolated place, and know for certain how it ended
#[derive(Debug, Parser)]
#[command(name = "fosse", version, disable_help_subcommand = true, args_override_self = true)]
#[command(subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
#[command(after_help = "fosse help VERB lists the options of a verb; man fosse-VERB has all about it.")]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a command in isolation, wait for it, and exit with its code
    Run(Box<Run>),
    /// Run another command in a live run, and exit with its code
    Exec(Exec),
    /// List runs, newest first
    #[command(visible_alias = "ls")]
    List(List),
    /// Show the full records of runs as JSON
    Inspect(Inspect),
    /// Show the output of a run
    Logs(Logs),
    /// Wait for runs to end, print their exit codes, and exit with the last one
    Wait(Wait),
    /// Stop runs: the stop signal, then SIGKILL after a grace period
    Stop(Stop),
    /// Remove ended runs: record, output, container and network
    #[command(visible_alias = "rm")]
    Destroy(Destroy),
    /// Remove all ended runs, and orphaned containers and networks
    Clean(Clean),
    /// Show runtimes, the daemon, live runs and disk usage
    Status(Status),
    /// Check that everything works, with a hint for each problem
    Doctor(Doctor),
    /// Manage the background process that cleans up after runs
    Daemon(Daemon),
    /// Run a command as PID 1 of a container: forward signals, reap processes
    #[cfg(target_os = "linux")]
    Init(Init),
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
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
pub(crate) struct Run {
    /// Name of the run, unique among live runs [default: generated]
    #[arg(short, long, value_name = "NAME", value_parser = RunName::parse)]
    pub(crate) name: Option<RunName>,
    /// Directory to mount read-write at /workspace [default: the current directory]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workspace: Option<PathBuf>,
    /// Do not mount a workspace
    #[arg(long, conflicts_with = "workspace")]
    pub(crate) no_workspace: bool,
    /// Working directory inside [default: /workspace]
    #[arg(long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Pass stdin to the command; if stdin and stdout are terminals, give it a terminal
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Escape key of terminal sessions (then k: stop the run): none, or ^X [default: ^/]
    #[arg(long, value_name = "KEY")]
    pub(crate) escape: Option<String>,
    /// Runtime: auto, native, docker, podman, apple [default: auto]
    #[arg(long, value_name = "RUNTIME")]
    pub(crate) runtime: Option<String>,
    /// Container image, pulled if missing [default: none, a sandbox around the host's programs]
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// Set an environment variable; KEY alone passes on the caller's value
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(crate) env: Vec<OsString>,
    /// Read environment variables from a file, one KEY[=VALUE] per line
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Mount a file or directory of the host
    #[arg(short, long, value_name = "SRC:DST[:ro]")]
    pub(crate) mount: Vec<OsString>,
    /// User inside: caller, image, root, UID[:GID] [default: caller; in an image without a workspace: image]
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Memory limit, including swap
    #[arg(long, value_name = "SIZE", value_parser = size::parse, allow_hyphen_values = true)]
    pub(crate) memory: Option<u64>,
    /// CPU limit, such as 1.5
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) cpus: Option<String>,
    /// Maximum number of processes and threads
    #[arg(long, value_name = "N", value_parser = count, allow_hyphen_values = true)]
    pub(crate) pids: Option<u64>,
    /// Network access: open, none, private [default: open]
    #[arg(long, value_name = "NETWORK")]
    pub(crate) network: Option<String>,
    /// Allow the command to create user namespaces (native runtime)
    #[arg(long)]
    pub(crate) allow_userns: bool,
    /// Stop the command after this time, with exit code 124; 0 is no limit
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) timeout: Option<Duration>,
    /// Grace period between the stop signal and SIGKILL [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) grace: Option<Duration>,
    /// Signal that asks the command to stop [default: the image's own, else TERM]
    #[arg(long, value_name = "SIGNAL", value_parser = signal)]
    pub(crate) stop_signal: Option<Signal>,
    /// Maximum size of the recorded output [default: 64m]
    #[arg(long, value_name = "SIZE", value_parser = size::parse, allow_hyphen_values = true)]
    pub(crate) log_max: Option<u64>,
    /// Add a label to the record
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// Keep the stopped container and its network until destroy or clean
    #[arg(long)]
    pub(crate) keep: bool,
    /// Write the run's ID to this file before the command starts; it must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) id_file: Option<PathBuf>,
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// With --dry-run: print JSON
    #[arg(long, requires = "dry_run")]
    pub(crate) json: bool,
    /// Print errors only
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print when the command starts, and how to view its output
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Command to run and its arguments; options after it are its own
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}

/// `exec`.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Pass stdin to the command; if stdin and stdout are terminals, give it a terminal
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Escape key of terminal sessions (then k: stop the command): none, or ^X [default: ^/]
    #[arg(long, value_name = "KEY")]
    pub(crate) escape: Option<String>,
    /// Set an environment variable; KEY alone passes on the caller's value
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(crate) env: Vec<OsString>,
    /// Working directory inside [default: the run's]
    #[arg(long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User inside: caller, image, root, UID[:GID] [default: the run's]
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Stop the command after this time, with exit code 124; 0 is no limit
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) timeout: Option<Duration>,
    /// Name, ID or unique ID prefix of a run
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    /// Command to run and its arguments; options after it are its own
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}

/// `list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Show live runs only
    #[arg(long)]
    pub(crate) running: bool,
    /// Show only runs with this state, name, runtime or label (label=KEY or label=KEY=VALUE)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Print JSON, one object per line
    #[arg(long, conflicts_with = "quiet")]
    pub(crate) json: bool,
    /// Print IDs only, one per line
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Use colour: auto, always, never
    #[arg(long, value_name = "WHEN", default_value = "auto", hide_possible_values = true)]
    pub(crate) color: Color,
}

/// `inspect`.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// Print JSON, one object per line
    #[arg(long)]
    pub(crate) json: bool,
    /// Name, ID or unique ID prefix of a run
    #[arg(value_name = "RUN", required = true)]
    pub(crate) run: Vec<String>,
}

/// A stream to be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StreamName {
    /// Standard output
    Stdout,
    /// Standard error
    Stderr,
}

/// `logs`.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Follow the output until the run ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Show only the last N lines
    #[arg(short = 'n', long, value_name = "N", value_parser = whole, allow_hyphen_values = true)]
    pub(crate) tail: Option<u64>,
    /// Show only one stream: stdout, stderr
    #[arg(long, value_name = "STREAM", hide_possible_values = true)]
    pub(crate) stream: Option<StreamName>,
    /// Start each line with its time
    #[arg(long, conflicts_with = "json")]
    pub(crate) timestamps: bool,
    /// Print JSON, one object per line of output
    #[arg(long)]
    pub(crate) json: bool,
    /// Name, ID or unique ID prefix of a run
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
}

/// `init`.
#[cfg(target_os = "linux")]
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Serve requests to run commands on this address; a non-loopback one needs FOSSE_INIT_TOKEN
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub(crate) listen: Vec<SocketAddr>,
    /// Serve requests to run commands on this Unix socket, which only this user can open
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Adopt orphaned processes without being PID 1
    #[arg(long)]
    pub(crate) subreaper: bool,
    /// Forward every signal to the command's process group, not only INT and QUIT
    #[arg(short, long)]
    pub(crate) group: bool,
    /// Grace period between SIGTERM and SIGKILL [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) grace: Option<Duration>,
    /// Write the command's exit status to this file; FILE.key holds the key that proves it
    #[arg(long, value_name = "FILE", requires = "command")]
    pub(crate) exit_file: Option<PathBuf>,
    /// Command to run and its arguments; options after it are its own
    #[arg(value_name = "COMMAND", required_unless_present_any = ["listen", "socket"], trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}

/// A signal by its name or number.
fn signal(text: &str) -> Result<Signal, String> {
    Signal::parse(text).ok_or_else(|| format!("{text:?} is not {}", Signal::FORM))
}

/// An address to listen on.
#[cfg(target_os = "linux")]
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an address and a port such as 127.0.0.1:2280 or [::1]:2280"))
}

/// `wait`.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// Print JSON, one object per line
    #[arg(long)]
    pub(crate) json: bool,
    /// Name, ID or unique ID prefix of a run
    #[arg(value_name = "RUN", required = true)]
    pub(crate) run: Vec<String>,
}

/// `stop`.
#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// Grace period between the stop signal and SIGKILL [default: the run's own]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) grace: Option<Duration>,
    /// Print errors only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Name, ID or unique ID prefix of a run
    #[arg(value_name = "RUN", required = true)]
    pub(crate) run: Vec<String>,
}

/// `destroy`.
#[derive(Debug, Args)]
pub(crate) struct Destroy {
    /// Stop live runs first, and ignore runs that do not exist
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Print errors only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Name, ID or unique ID prefix of a run
    #[arg(value_name = "RUN", required = true)]
    pub(crate) run: Vec<String>,
}

/// What to clean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// Ended runs, with their containers and networks
    Runs,
    /// Orphaned containers and networks
    Networks,
    /// Both
    All,
}

/// `clean`.
#[derive(Debug, Args)]
pub(crate) struct Clean {
    /// What to remove: runs, networks, all
    #[arg(value_name = "WHAT", default_value = "runs", hide_possible_values = true)]
    pub(crate) what: Target,
    /// Print what would be removed, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Remove only runs that ended longer ago than this
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(crate) older_than: Option<Duration>,
    /// Print JSON, one object per line
    #[arg(long)]
    pub(crate) json: bool,
    /// Print errors only
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) quiet: bool,
}

/// `status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print JSON, one object per line
    #[arg(long)]
    pub(crate) json: bool,
    /// Print problems only
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) quiet: bool,
}

/// `daemon`.
#[derive(Debug, Args)]
#[command(subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
pub(crate) struct Daemon {
    /// What to do with it.
    #[command(subcommand)]
    pub(crate) action: DaemonAction,
}

/// What can be done with the daemon.
#[derive(Debug, Subcommand)]
pub(crate) enum DaemonAction {
    /// Start the daemon, unless it is running
    Start(DaemonStart),
    /// Stop the daemon, and wait until it has ended
    Stop(DaemonEnd),
    /// Stop the daemon, and start it again
    Restart(DaemonEnd),
    /// Show whether the daemon runs; exit code 0 running, 3 not running, 4 not answering
    Status(DaemonStatus),
    /// Remove orphaned containers and networks now
    Reap(DaemonReap),
}

/// `daemon start`.
#[derive(Debug, Args)]
pub(crate) struct DaemonStart {
    /// Run in the foreground, for a service manager: log to stderr, never time out
    #[arg(long)]
    pub(crate) foreground: bool,
    /// Replace a daemon that does not answer, even if a debugger is attached
    #[arg(long)]
    pub(crate) force: bool,
    /// Be the daemon, and report on stdout how the start came out.
    #[arg(long, hide = true, conflicts_with = "foreground")]
    pub(crate) detached: bool,
    /// Print errors only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `daemon stop` and `daemon restart`.
#[derive(Debug, Args)]
pub(crate) struct DaemonEnd {
    /// Kill a daemon that does not answer, even if a debugger is attached
    #[arg(long)]
    pub(crate) force: bool,
    /// Print errors only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `daemon status`.
#[derive(Debug, Args)]
pub(crate) struct DaemonStatus {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print nothing, and only set the exit code
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) quiet: bool,
}

/// `daemon reap`.
#[derive(Debug, Args)]
pub(crate) struct DaemonReap {
    /// Print what would be removed, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON, one object per line
    #[arg(long)]
    pub(crate) json: bool,
    /// Print errors only
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) quiet: bool,
}
