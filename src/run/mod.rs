//! What a run is: its state, its record and output on disk, its owner, and how its end is made certain.
//!
//! | file | what it knows |
//! |---|---|
//! | `state` | the life of a run as a pure function |
//! | `store` | records on disk: read by anyone, with what their lock says |
//! | `owner` | becoming the one writer of a run, and proving who that is |
//! | `lockfile` | what the file of an owner's lock says |
//! | `live` | what only a live run has on disk |
//! | `slot` | the one door to a run's record: apply, commit |
//! | `output` | what a run wrote: one append-only file |
//! | `pump` | bytes from the command to the record and to the caller |
//! | `feed` | bytes from the caller to the command |
//! | `terminal` | a command at the caller's terminal |
//! | `objects` | what an engine has of one run, and nobody else's |
//! | `prepare` | acquiring what a run needs, with an undo stack armed first |
//! | `monitor` | the one thread that decides, from the first resource to the last |
//! | `exec` | one more command in a live run, from its start to its end |
//! | `door` | the file of a socket on which somebody listens |
//! | `control` | asking the owner of a run for something |
//! | `orphan` | what a dead owner has left, and what that means |
//! | `finish` | ending a run from another process, and doing what a dead owner can no longer do |
//! | `waiting` | waiting for the end of a run that another process owns |
//! | `destroy` | removing an ended run |
//! | `leftovers` | half-made things on disk |
//! | `engines` | which runtimes there are now, and which one a record means |
//! | `reap` | engine objects that belong to nobody |
//! | `signals` | signals as messages |
//! | `failpoint` | moments at which a test kills the process |
//! | `resolve` | what a RUN on the command line means |

pub(crate) mod control;
pub(crate) mod destroy;
pub(crate) mod door;
pub(crate) mod engines;
pub(crate) mod exec;
pub(crate) mod failpoint;
pub(crate) mod feed;
pub(crate) mod finish;
pub(crate) mod leftovers;
pub(crate) mod live;
mod lockfile;
pub(crate) mod monitor;
mod objects;
mod orphan;
pub mod output;
pub mod owner;
mod prepare;
mod pump;
pub(crate) mod reap;
pub(crate) mod resolve;
pub(crate) mod signals;
mod slot;
pub(crate) mod state;
pub mod store;
pub(crate) mod terminal;
pub(crate) mod waiting;
