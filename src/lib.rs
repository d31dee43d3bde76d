//! fosse runs a command in an isolated place, streams what it says, and always knows what became of it.
//!
//! # The map of the house
//!
//! | module | what it owns |
//! |---|---|
//! | [`base`] | values everybody needs: ids, time, paths, files, durations, sizes, messages |
//! | [`sys`] | the kernel: **the only unsafe code**; thin wrappers, no policy, no text for users |
//! | [`process`] | child programs under a deadline: the only place that starts one |
//! | [`wire`] | the shapes that are stored or sent: the record, the owner's requests and replies |
//! | [`http`] | the server side of HTTP/1.1 as values: bytes to requests, responses to bytes, who may ask |
//! | [`runtime`] | places to run in: the trait `Runtime`, the trait `Channel`, the native sandbox, docker and podman |
//! | [`term`] | terminal sessions: the caller's terminal, given and taken back, and the keys on their way |
//! | [`run`] | what a run is: its state, record, output, owner, monitor, and how an orphan is finished |
//! | `init` | PID 1 for a container (Linux): one thread that starts, signals, reaps, and executes commands for who asks |
//! | [`daemon`] | the one background process: who it is, what it finishes and sweeps, what it can be asked |
//! | [`cli`] | the verbs: arguments, configuration layers, one file per verb |
//!
//! `use` goes one way: cli → daemon → run → runtime → process → sys, daemon and init → http, cli → term, and everyone
//! may use base and wire (`tests/layers.rs` holds the code to it).
//!
//! # One writer per run, proved by a lock
//!
//! The process that runs `fosse run` owns the run: it holds an exclusive lock on `runs/ID/owner.lock` until the
//! final record is on disk and the engine's objects are gone. The kernel drops the lock when the owner dies,
//! however it dies, so *lock free and record not final* means *orphan*: no pid, no timer, no heartbeat. Whoever
//! finishes an orphan holds a lock on `runs/ID/output.log` meanwhile, so that it still looks like one to everybody
//! else. All others only read, or ask the owner over its socket.

pub mod base;
pub mod cli;
pub mod daemon;
pub mod http;
#[cfg(target_os = "linux")]
pub mod init;
pub mod process;
pub mod run;
pub mod runtime;
pub mod sys;
pub mod term;
pub mod wire;

pub use cli::main;
