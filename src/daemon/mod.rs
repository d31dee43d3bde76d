//! The one background process of a state directory: it finishes what dead owners left, and sweeps.
//!
//! Whoever holds the lock on a file that is never removed *is* the daemon, for the whole life of its process: the
//! kernel lets nobody else have it, and takes it back however the holder ends. Only the holder binds the socket,
//! writes the file or removes anything. Everybody else looks (`client`), and becomes the daemon (`contend`) only by
//! that lock. Nothing it says about itself is a proof: not a pid, a socket or a file's content.
//!
//! It is never on the path of a run's bytes, and a run works without it.
//!
//! | file | what it knows |
//! |---|---|
//! | `lock` | the lock, and what its holder writes into it |
//! | `client` | asking a daemon something under a deadline |
//! | `fingerprint` | whether a daemon is fresh, one function for both sides |
//! | `contend` | taking the lock from whoever should not have it: the pure decision, and the loop around it |
//! | `reclaim` | ending a holder that does not answer, once its identity is proved |
//! | `launch` | starting one in the background |
//! | `lease` | the owner's side: a connection for the time of a run |
//! | `keeper` | the main loop: what happens when |
//! | `presence` | what others find the daemon by |
//! | `serve`, `api` | connections, and what can be asked |
//! | `leases` | the connections of owners |
//! | `orphans` | the scan of the runs, and finishing them |
//! | `sweep`, `sweeper`, `retention` | engine objects that belong to nobody, and records nobody needs any more |
//! | `journal` | the log |
//! | `watch` | being told when the daemon's own files change |
//! | `manager` | service managers: readiness, and a socket that is given |

mod api;
pub(crate) mod client;
pub(crate) mod contend;
pub(crate) mod fingerprint;
mod journal;
pub(crate) mod keeper;
pub(crate) mod launch;
pub(crate) mod lease;
mod leases;
mod lock;
mod manager;
mod orphans;
mod presence;
mod reclaim;
mod retention;
mod serve;
pub(crate) mod sweep;
mod sweeper;
mod watch;

use std::path::Path;

use serde_json::Value;

use crate::run::owner;
use crate::run::store::Store;

/// The daemon's own keys as the files set them, for a user's configuration file; null if one cannot be read.
pub(crate) type SettingsOf = fn(Option<&Path>) -> Value;

/// Which daemon is meant, and how its freshness is told.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// The state directory's runs.
    pub(crate) store: Store,
    /// This machine.
    pub(crate) machine: String,
    /// See [`SettingsOf`].
    pub(crate) settings_of: SettingsOf,
}

impl Context {
    /// The daemon of these runs on this machine.
    pub(crate) fn new(store: &Store, settings_of: SettingsOf) -> Self {
        Context { store: store.clone(), machine: owner::machine_id(), settings_of }
    }

    fn lock_path(&self) -> std::path::PathBuf {
        self.store.paths.daemon_lock(&self.machine)
    }
}
