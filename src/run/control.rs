//! Asking the owner of a run for something: one JSON line each way on its control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

use crate::sys::socket::{self, peer};
use crate::wire::control::{MAX_LINE, Reply, Request};

/// How long an owner may take to answer before it counts as frozen.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Connections that are served at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 16;

/// A request with the way back.
pub struct Asked {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes.
    pub answer: Sender<Answer>,
}

/// What an owner answers.
pub struct Answer {
    /// In words.
    pub reply: Reply,
    /// A connection that goes to the asker.
    pub connection: Option<OwnedFd>,
}

/// Starts to listen. Requests go to `requests`; who is not this user (or root) gets no answer.
pub fn listen(socket: &Path, uid: u32, requests: Sender<Asked>) -> io::Result<()> {
    crate::base::fs::remove_file(socket)?;
    let listener = UnixListener::bind(socket)?;
    let (taken, room) = bounded(CONNECTIONS);
    let accept = move || {
        for stream in listener.incoming().flatten() {
            // Waits for room. This thread has one end of it, so that it cannot fail.
            taken.send(()).unwrap_or_default();
            let (requests, done) = (requests.clone(), room.clone());
            let served = thread::Builder::new().name("control".into()).stack_size(64 << 10).spawn(move || {
                // A client that goes away or talks nonsense gets no answer; there is nobody to tell.
                serve(&stream, uid, &requests).unwrap_or_default();
                done.recv().unwrap_or_default();
            });
            if served.is_err() {
                room.recv().unwrap_or_default();
            }
        }
    };
    thread::Builder::new().name("accept".into()).stack_size(64 << 10).spawn(accept).map(drop)
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

/// Asks; an error means that the owner did not answer in time, for whatever cause.
pub fn ask(socket: &Path, uid: u32, request: &Request) -> io::Result<Reply> {
    ask_for_answer(socket, uid, request).map(|answer| answer.reply)
}

/// Asks to be introduced to the init in the run's place.
pub fn introduce(socket: &Path, uid: u32) -> io::Result<UnixStream> {
    let connection = ask_for_answer(socket, uid, &Request::Introduce)?.connection;
    let refused = || io::Error::new(io::ErrorKind::Unsupported, "the owner introduces nobody");
    connection.map(UnixStream::from).ok_or_else(refused)
}

fn ask_for_answer(socket: &Path, uid: u32, request: &Request) -> io::Result<Answer> {
    // connect(2) on a unix socket blocks while the queue of a frozen listener is full, without a limit of its
    // own: it is done in a thread that can be left behind.
    let (socket, request) = (socket.to_owned(), serde_json::to_string(request)?);
    let (done, answered) = bounded(1);
    thread::Builder::new().name("ask".into()).stack_size(64 << 10).spawn(move || {
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
        done.send(talk()).unwrap_or_default();
    })?;
    answered.recv_timeout(ANSWER_LIMIT).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
