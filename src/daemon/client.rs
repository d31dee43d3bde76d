//! Asking a daemon something, under a deadline. A connection is no proof of life: only an answer is.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Context, lock};
use crate::base::time::Deadline;
use crate::http::client::{Answer, answer, request};
use crate::sys::socket::{connect_now, peer};
use crate::wire::daemon::{Health, Holder};

/// How long a daemon may take to answer before it counts as frozen.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// The longest answer.
const ANSWER_MAX: usize = 64 << 20;

/// Between two tries to connect while the queue is full.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Error {
    /// Nobody listens there.
    Nobody(io::Error),
    /// Somebody took the question, or let it wait, and did not answer in time.
    Silent,
    /// Whoever listens there is no daemon of this user's.
    Foreign(String),
    /// The daemon's no.
    Refused(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Nobody(error) => write!(f, "nobody listens: {error}"),
            Error::Silent => f.write_str("it does not answer"),
            Error::Foreign(why) => write!(f, "what listens there is no daemon of yours: {why}"),
            Error::Refused(why) => f.write_str(why),
        }
    }
}

/// An open connection after one answer.
pub(crate) struct Talk {
    /// The connection.
    pub(crate) stream: UnixStream,
    /// The answer.
    pub(crate) answer: Answer,
}

/// Asks, and keeps the connection.
pub(crate) fn talk(socket: &Path, uid: u32, bytes: &[u8], deadline: Deadline) -> Result<Talk, Error> {
    let mut stream = connect(socket, deadline)?;
    match peer(&stream) {
        Ok(peer) if peer.uid == uid => {}
        Ok(peer) => return Err(Error::Foreign(format!("it belongs to user {}", peer.uid))),
        Err(error) => return Err(Error::Foreign(error.to_string())),
    }
    let mut sent = 0;
    while sent < bytes.len() {
        stream.set_write_timeout(Some(left(deadline)?)).map_err(Error::Nobody)?;
        match stream.write(&bytes[sent..]) {
            Ok(count) => sent += count,
            Err(error) => waited(error)?,
        }
    }
    let (mut come, mut piece) = (Vec::new(), [0; 8192]);
    loop {
        match answer(&come, ANSWER_MAX) {
            Ok(Some(answer)) => return Ok(Talk { stream, answer }),
            Ok(None) => {}
            Err(why) => return Err(Error::Foreign(why)),
        }
        stream.set_read_timeout(Some(left(deadline)?)).map_err(Error::Nobody)?;
        match stream.read(&mut piece) {
            // It ended with the question in hand.
            Ok(0) => return Err(Error::Nobody(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => come.extend_from_slice(&piece[..count]),
            Err(error) => waited(error)?,
        }
    }
}

fn connect(socket: &Path, deadline: Deadline) -> Result<UnixStream, Error> {
    loop {
        match connect_now(socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if deadline.expired() {
                    return Err(Error::Silent);
                }
                // Nothing tells when the queue has room again.
                Deadline::after(TRY_AGAIN).min(deadline).wait();
            }
            other => return other.map_err(Error::Nobody),
        }
    }
}

fn left(deadline: Deadline) -> Result<Duration, Error> {
    let left = deadline.remaining().unwrap_or(ANSWER_LIMIT);
    if left.is_zero() { Err(Error::Silent) } else { Ok(left) }
}

/// A wait that is over is looked at by whoever knows the deadline.
fn waited(error: io::Error) -> Result<(), Error> {
    if is_wait(&error) { Ok(()) } else { Err(Error::Nobody(error)) }
}

/// Whether a read or write was only not done yet.
pub(super) fn is_wait(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// Sends a value, and gives the answer, both in JSON.
pub(crate) fn post<T: DeserializeOwned>(
    socket: &Path,
    uid: u32,
    path: &str,
    body: &impl Serialize,
    deadline: Deadline,
) -> Result<T, Error> {
    let Talk { answer, .. } = talk(socket, uid, &posted(path, body), deadline)?;
    understood(&answer)
}

/// The bytes of a question with a value. What this program sends has a form in JSON.
pub(crate) fn posted(path: &str, body: &impl Serialize) -> Vec<u8> {
    request("POST", path, Some(&serde_json::to_vec(body).unwrap_or_default()))
}

/// What an answer says.
pub(crate) fn understood<T: DeserializeOwned>(answer: &Answer) -> Result<T, Error> {
    if !(200..300).contains(&answer.status) {
        let message = serde_json::from_slice::<serde_json::Value>(&answer.body)
            .ok()
            .and_then(|value| value["error"]["message"].as_str().map(str::to_owned));
        return Err(Error::Refused(message.unwrap_or_else(|| format!("status {}", answer.status))));
    }
    serde_json::from_slice(&answer.body).map_err(|error| Error::Foreign(format!("its answer makes no sense: {error}")))
}

/// Asks how a daemon is.
pub(crate) fn health(socket: &Path, uid: u32, deadline: Deadline) -> Result<Health, Error> {
    understood(&talk(socket, uid, &request("GET", "/v1/health", None), deadline)?.answer)
}

impl Context {
    /// Where the daemon listens: as its lock's file says; without that, where it would by this environment.
    pub(crate) fn socket(&self, holder: Option<&Holder>) -> Option<PathBuf> {
        let told = holder.map(|holder| holder.socket.as_str()).filter(|socket| !socket.is_empty());
        let instance = || self.store.instance().map(|instance| self.store.paths.daemon_socket(&instance));
        told.map(PathBuf::from).or_else(instance)
    }

    /// Who says to be the holder, and what listens where it should. A listener that is not the holder is foreign.
    pub(crate) fn look(&self, deadline: Deadline) -> (Option<Holder>, Result<Health, Error>) {
        let holder = lock::read(&self.lock_path());
        let Some(socket) = self.socket(holder.as_ref()) else {
            return (holder, Err(Error::Nobody(io::ErrorKind::NotFound.into())));
        };
        let health = health(&socket, self.store.uid, deadline).and_then(|health| match &holder {
            Some(holder) if holder.nonce != health.nonce => Err(Error::Foreign("it does not hold the lock".into())),
            Some(_) | None => Ok(health),
        });
        (holder, health)
    }

    /// Whether some process is the daemon, whatever it says.
    pub(crate) fn is_held(&self) -> io::Result<bool> {
        lock::is_held(&self.lock_path())
    }
}
