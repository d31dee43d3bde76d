//! What can be asked of the daemon. Nothing here waits for work but `reap`, which is asked to.

use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use serde::de::DeserializeOwned;

use crate::base::error::Ignore;
use crate::base::sync::locked;
use crate::http::request::Request;
use crate::http::response::Response;
use crate::run::store::{Entry, Store};
use crate::wire::daemon::{Fingerprint, Health, Lease, Phase, Reap, Runs, SCHEMA, Shutdown, Sweep};

use super::leases::Leases;

/// How long a client waits for a sweep; every call in it has a limit of its own.
const SWEEP_LIMIT: Duration = Duration::from_secs(120);

/// Clients that may wait for a sweep at the same time.
const SWEEP_WAITERS: u64 = 32;

/// What a client wants of the main loop.
pub(crate) enum Wish {
    /// The end.
    Stop {
        /// Whether another daemon follows.
        replace: bool,
    },
    /// A sweep.
    Reap {
        /// Whether nothing is to be removed.
        dry_run: bool,
        /// Where the result goes.
        answer: Sender<Sweep>,
    },
}

/// An answer.
pub(crate) enum Reply {
    /// And the end of the connection.
    Now(Response),
    /// And the connection of an owner.
    Lease(Lease, Response),
    /// And the end of the daemon, whether another one follows or not.
    End(bool, Response),
}

/// What the connections share with the main loop: facts, and a way to ask.
pub(crate) struct Api {
    /// What does not change.
    pub(crate) about: Health,
    /// The runs.
    pub(crate) store: Store,
    /// Freshness, which changes when the configuration is read again.
    pub(crate) fingerprint: Mutex<Fingerprint>,
    /// Where it listens, which changes if the directory of sockets goes away.
    pub(crate) socket: Mutex<String>,
    /// Whether it is on its way out.
    pub(crate) stopping: AtomicBool,
    /// Live runs at the last look.
    pub(crate) live: AtomicU64,
    /// Orphans that were finished.
    pub(crate) finished: AtomicU64,
    /// Orphans that could not be finished yet.
    pub(crate) waiting: AtomicU64,
    /// Why the last of them could not.
    pub(crate) waiting_for: Mutex<Option<String>>,
    /// Clients that wait for a sweep.
    pub(crate) waiters: AtomicU64,
    /// The last sweep.
    pub(crate) sweep: Mutex<Option<Sweep>>,
    /// The connections of owners.
    pub(crate) leases: Leases,
    /// The main loop.
    pub(crate) wishes: Sender<Wish>,
}

impl Api {
    /// Answers a request.
    pub(crate) fn answer(&self, request: &Request) -> Reply {
        let response = match (request.method.as_str(), request.path.as_str()) {
            ("GET" | "HEAD", "/v1/health") => Response::json(200, &self.health()),
            ("GET" | "HEAD", "/v1/runs") => self.runs(),
            ("POST", "/v1/reap") => self.reap(request),
            ("POST", "/v1/shutdown") => match self.shutdown(request) {
                Ok(replace) => {
                    let answer = serde_json::json!({"schema": SCHEMA, "state": Phase::Stopping});
                    return Reply::End(replace, Response::json(202, &answer));
                }
                Err(response) => response,
            },
            ("POST", "/v1/lease") => match body::<Lease>(request) {
                Ok(_) if self.stopping.load(Ordering::SeqCst) => Response::error(503, "the daemon is ending"),
                Ok(lease) => return Reply::Lease(lease, Response::json(200, &self.health())),
                Err(response) => response,
            },
            (_, "/v1/health" | "/v1/runs") => Response::not_allowed("GET, HEAD"),
            (_, "/v1/reap" | "/v1/shutdown" | "/v1/lease") => Response::not_allowed("POST"),
            _ => Response::error(404, "there is nothing here: fosse-daemon(8) lists what can be asked"),
        };
        Reply::Now(response)
    }

    /// How it is.
    pub(crate) fn health(&self) -> Health {
        let stopping = self.stopping.load(Ordering::SeqCst);
        Health {
            state: if stopping { Phase::Stopping } else { Phase::Serving },
            fingerprint: locked(&self.fingerprint).clone(),
            socket: locked(&self.socket).clone(),
            runs_live: self.live.load(Ordering::Relaxed),
            leases: self.leases.count(),
            finished: self.finished.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            waiting_for: locked(&self.waiting_for).clone(),
            last_sweep: locked(&self.sweep).clone(),
            ..self.about.clone()
        }
    }

    /// Ends the daemon.
    pub(crate) fn end(&self, replace: bool) {
        // Nobody there means that it is on its way out.
        self.wishes.send(Wish::Stop { replace }).ignore();
    }

    /// Keeps the connection of a run's owner.
    pub(crate) fn lease(&self, lease: Lease, stream: UnixStream) {
        self.leases.add(lease, stream);
    }

    /// Notes which orphans could not be finished yet.
    pub(crate) fn waits(&self, count: u64, why: Option<String>) {
        self.waiting.store(count, Ordering::Relaxed);
        *locked(&self.waiting_for) = why;
    }

    /// Notes a sweep.
    pub(crate) fn swept(&self, sweep: Sweep) {
        *locked(&self.sweep) = Some(sweep);
    }

    /// Notes where it listens now.
    pub(crate) fn moved(&self, socket: String) {
        *locked(&self.socket) = socket;
    }

    /// Notes what the configuration says now.
    pub(crate) fn reloaded(&self, fingerprint: Fingerprint) {
        *locked(&self.fingerprint) = fingerprint;
    }

    fn runs(&self) -> Response {
        let entries = match self.store.all_for_show() {
            Ok(entries) => entries,
            Err(failure) => return Response::error(500, &failure.to_string()),
        };
        let mut answer = Runs { schema: SCHEMA, runs: Vec::new(), unknown: Vec::new() };
        for entry in entries {
            match entry {
                Entry::Known(view) => answer.runs.push(view.shown()),
                Entry::Unreadable { id, .. } => answer.unknown.push(id),
            }
        }
        Response::json(200, &answer)
    }

    fn reap(&self, request: &Request) -> Response {
        let Reap { dry_run } = match body_or_default(request) {
            Ok(reap) => reap,
            Err(response) => return response,
        };
        if self.waiters.fetch_add(1, Ordering::SeqCst) >= SWEEP_WAITERS {
            self.waiters.fetch_sub(1, Ordering::SeqCst);
            return Response::error(503, "too many wait for a sweep already");
        }
        let (answer, answered) = bounded(1);
        let asked = self.wishes.send(Wish::Reap { dry_run, answer });
        let swept = asked.ok().and_then(|()| answered.recv_timeout(SWEEP_LIMIT).ok());
        self.waiters.fetch_sub(1, Ordering::SeqCst);
        match swept {
            Some(sweep) => Response::json(200, &sweep),
            None => Response::error(503, "the sweep did not come to its end: the daemon is ending, or an engine hangs"),
        }
    }

    /// Whether another daemon is to follow, if it is this one that is to end.
    fn shutdown(&self, request: &Request) -> Result<bool, Response> {
        let Shutdown { nonce, replace } = body_or_default(request)?;
        if nonce.is_some_and(|nonce| nonce != self.about.nonce) {
            return Err(Response::error(409, "that is another daemon's nonce"));
        }
        Ok(replace)
    }
}

/// A body as a value.
fn body<T: DeserializeOwned>(request: &Request) -> Result<T, Response> {
    serde_json::from_slice(&request.body).map_err(|error| Response::error(400, &format!("the body: {error}")))
}

/// The same, where no body asks for what is usual.
fn body_or_default<T: DeserializeOwned + Default>(request: &Request) -> Result<T, Response> {
    if request.body.is_empty() { Ok(T::default()) } else { body(request) }
}
