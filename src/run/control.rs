//! Asking the owner of a run for something: one JSON line each way on its control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use crate::base::error::{Failure, Ignore, Result};
use crate::base::threads;
use crate::run::door::Door;
use crate::run::lockfile::LockFile;
use crate::sys::poll;
use crate::sys::socket::{self, peer};
use crate::wire::control::{MAX_LINE, Reply, Request};

/// How long an owner may take to answer before it counts as frozen.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// How often an owner looks whether its socket is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long whoever finds no socket waits for another one: a few of those looks.
pub(crate) const MOVE_LIMIT: Duration = Duration::from_secs(4);

/// Connections that are served at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 16;

/// A request with the way back.
pub(crate) struct Asked {
    /// What is asked.
    pub(crate) request: Request,
    /// Where the answer goes.
    pub(crate) answer: Sender<Answer>,
}

/// What an owner answers.
pub(crate) struct Answer {
    /// In words.
    pub(crate) reply: Reply,
    /// A connection that goes to the asker.
    pub(crate) connection: Option<OwnedFd>,
}

/// Starts to listen where the lock's file says. Requests go to `requests`; who is not this user (or root) gets no answer.
/// If somebody takes the socket away, as the end of a login does, it is opened again, if need be elsewhere: the lock's file
/// tells where.
pub(crate) fn listen(socket: &Path, uid: u32, lock: &Arc<LockFile>, requests: Sender<Asked>) -> Result<()> {
    let failed = |error| Failure::starting(format!("listening on {}", socket.display()), &error);
    let (mut door, mut listener) = Door::open_anywhere(socket, uid)?;
    if door.path() != socket {
        lock.move_to(|| Ok((door.path().to_owned(), ())))?;
    }
    // The lock is the owner's to let go.
    let lock = Arc::downgrade(lock);
    let (taken, room) = bounded(CONNECTIONS);
    let accept = move || loop {
        if !wait_for_somebody(&listener) {
            if !door.is_in_place() {
                let Some(lock) = lock.upgrade() else { return };
                let open = || Door::open_anywhere(door.path(), uid).map(|opened| (opened.0.path().to_owned(), opened));
                // What fails now may be possible at the next look.
                if let Ok(Some(opened)) = lock.move_to(open) {
                    (door, listener) = opened;
                }
            }
            continue;
        }
        let Ok((stream, _)) = listener.accept() else { continue };
        // Waits for room. This thread has one end of it, so that it cannot fail.
        taken.send(()).ignore();
        let (requests, done) = (requests.clone(), room.clone());
        let served = threads::start("control", 64, move || {
            // A client that goes away or talks nonsense gets no answer; there is nobody to tell.
            serve(&stream, uid, &requests).ignore();
            done.recv().ignore();
        });
        if served.is_err() {
            room.recv().ignore();
        }
    };
    threads::start("accept", 64, accept).map(drop).map_err(failed)
}

/// Whether somebody wants to connect; no after a while, or if that cannot be known.
fn wait_for_somebody(listener: &UnixListener) -> bool {
    let ready = poll::ready(&[(listener.as_fd(), poll::Interest::Read)], Some(LOOK_EVERY));
    ready.is_ok_and(|ready| !ready.is_empty())
}

fn serve(mut stream: &UnixStream, uid: u32, requests: &Sender<Asked>) -> io::Result<()> {
    let peer = peer(stream)?;
    if peer.uid != uid && peer.uid != 0 {
        return Ok(());
    }
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    let request = serde_json::from_str(&read_line(stream)?)?;
    let (answer, answered) = bounded(1);
    requests.send(Asked { request, answer }).map_err(io::Error::other)?;
    let Answer { reply, connection } = answered.recv_timeout(ANSWER_LIMIT).map_err(io::Error::other)?;
    let line = format!("{}\n", serde_json::to_string(&reply)?);
    match connection {
        None => stream.write_all(line.as_bytes()),
        // So short a line is taken whole.
        Some(fd) => socket::send(stream, line.as_bytes(), &[fd.as_fd()], true).map(drop),
    }
}

fn read_line(stream: &UnixStream) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream).take(MAX_LINE as u64).read_line(&mut line)?;
    if line.ends_with('\n') { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn write_line(mut stream: &UnixStream, line: &str) -> io::Result<()> {
    stream.write_all(format!("{line}\n").as_bytes())
}

fn read_answer(stream: &UnixStream) -> io::Result<Answer> {
    let (mut line, mut fds) = (Vec::new(), Vec::new());
    while line.last() != Some(&b'\n') {
        let mut bytes = [0; MAX_LINE];
        let count = socket::receive(stream, &mut bytes, &mut fds, true)?;
        if count == 0 || line.len() + count > MAX_LINE {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(&bytes[..count]);
    }
    Ok(Answer { reply: serde_json::from_slice(&line)?, connection: fds.pop() })
}

/// Whether nobody listens at a socket, which says nothing about the owner's health.
pub(crate) fn is_unreachable(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused | NotADirectory)
}

/// Asks; an error means that the owner did not answer in time, for whatever cause.
pub(crate) fn ask(socket: &Path, uid: u32, request: &Request) -> io::Result<Reply> {
    ask_for_answer(socket, uid, request).map(|answer| answer.reply)
}

/// Asks to be introduced to the init in the run's place.
pub(crate) fn introduce(socket: &Path, uid: u32) -> io::Result<UnixStream> {
    let connection = ask_for_answer(socket, uid, &Request::Introduce)?.connection;
    let refused = || io::Error::new(io::ErrorKind::Unsupported, "the owner introduces nobody");
    connection.map(UnixStream::from).ok_or_else(refused)
}

fn ask_for_answer(socket: &Path, uid: u32, request: &Request) -> io::Result<Answer> {
    // connect(2) on a unix socket blocks while the queue of a frozen listener is full, without a limit of its
    // own: it is done in a thread that can be left behind.
    let (socket, request) = (socket.to_owned(), serde_json::to_string(request)?);
    let (done, answered) = bounded(1);
    threads::start("ask", 64, move || {
        let talk = || {
            let stream = UnixStream::connect(&socket)?;
            let owner = peer(&stream)?;
            if owner.uid != uid && uid != 0 {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "another user listens there"));
            }
            stream.set_read_timeout(Some(ANSWER_LIMIT))?;
            stream.set_write_timeout(Some(ANSWER_LIMIT))?;
            write_line(&stream, &request)?;
            read_answer(&stream)
        };
        done.send(talk()).ignore();
    })?;
    answered.recv_timeout(ANSWER_LIMIT).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
