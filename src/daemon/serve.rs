//! Connections: each has a thread, a limit on its number and on its time, and asks for one thing. They share with the
//! rest of the daemon only what `api` knows, so a busy daemon and a frozen one can be told apart.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::base::error::Ignore;
use crate::base::sync::locked;
use crate::base::threads;
use crate::base::time::Deadline;
use crate::http::guard::{Guard, Hosts};
use crate::http::request::{Limits, Reader, Request};
use crate::http::response::{CONTINUE, Response};
use crate::sys::socket::{peer, stop_listening};

use super::api::{Api, Reply};
use super::client::is_wait;

/// How long a client may take to send its request.
const SENDING: Duration = Duration::from_secs(5);

/// How long a client may take to take its answer.
const TAKING: Duration = Duration::from_secs(10);

/// Clients that may be sending at the same time: for one more, the oldest has to go.
const SENDERS: usize = 64;

/// Clients that are served at the same time; more are turned away.
const CLIENTS: usize = 256;

/// What a client may send: every body is a small object.
const LIMITS: Limits = Limits { head: 8 << 10, body: 64 << 10 };

/// How long nobody is let in where there is no descriptor for it.
const PAUSE: Duration = Duration::from_millis(100);

/// Clients that have not said yet what they want, the oldest first.
#[derive(Default)]
struct Hall(Mutex<VecDeque<(u64, UnixStream)>>);

impl Hall {
    fn enter(&self, number: u64, stream: UnixStream) {
        let mut waiting = locked(&self.0);
        if waiting.len() >= SENDERS {
            if let Some((_, oldest)) = waiting.pop_front() {
                oldest.shutdown(Shutdown::Both).ignore();
            }
        }
        waiting.push_back((number, stream));
    }

    fn leave(&self, number: u64) {
        locked(&self.0).retain(|(known, _)| *known != number);
    }
}

/// A listener that is served.
pub(crate) struct Served {
    listener: Option<UnixListener>,
}

impl Served {
    /// Lets nobody in any more.
    pub(crate) fn stop(&mut self) {
        if let Some(listener) = self.listener.take() {
            stop_listening(&listener);
        }
    }
}

/// Serves a listener until it is stopped.
pub(crate) fn serve(listener: UnixListener, uid: u32, api: Arc<Api>) -> io::Result<Served> {
    let served = Served { listener: Some(listener.try_clone()?) };
    let accept = move || {
        let hall = Arc::new(Hall::default());
        let served = Arc::new(AtomicUsize::new(0));
        for number in 0.. {
            match listener.accept() {
                Ok((stream, _)) => admit(number, stream, uid, &hall, &served, &api),
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => Deadline::after(PAUSE).wait(),
            }
        }
    };
    threads::start("accept", 64, accept)?;
    Ok(served)
}

fn admit(number: u64, stream: UnixStream, uid: u32, hall: &Arc<Hall>, served: &Arc<AtomicUsize>, api: &Arc<Api>) {
    // Whoever is not this user is not even told so.
    if !peer(&stream).is_ok_and(|peer| peer.uid == uid) || served.load(Ordering::SeqCst) >= CLIENTS {
        return;
    }
    let Ok(copy) = stream.try_clone() else { return };
    hall.enter(number, copy);
    served.fetch_add(1, Ordering::SeqCst);
    let (own_hall, own_served, api) = (Arc::clone(hall), Arc::clone(served), Arc::clone(api));
    let talk = move || {
        let request = read(&stream);
        own_hall.leave(number);
        match request {
            Ok(Some(request)) => answer(stream, &request, &api),
            Ok(None) => {}
            Err(response) => send(&stream, &response, false),
        }
        own_served.fetch_sub(1, Ordering::SeqCst);
    };
    if threads::start("client", 128, talk).is_err() {
        served.fetch_sub(1, Ordering::SeqCst);
        hall.leave(number);
    }
}

/// The request, if one comes in time.
fn read(mut stream: &UnixStream) -> Result<Option<Request>, Response> {
    let (mut reader, mut piece, late) = (Reader::new(LIMITS), [0; 4096], Deadline::after(SENDING));
    let guard = Guard { token: None, hosts: Hosts::Any };
    loop {
        match reader.next() {
            Err(refusal) => return Err(Response::from(refusal)),
            Ok(Some(request)) => return guard.admit(&request).map(|()| Some(request)),
            Ok(None) => {}
        }
        if reader.take_continue() {
            stream.write_all(CONTINUE).ignore();
        }
        let left = late.remaining().unwrap_or(SENDING);
        if left.is_zero() {
            let late = || Response::error(408, "the request did not come in time");
            return if reader.is_idle() { Ok(None) } else { Err(late()) };
        }
        if stream.set_read_timeout(Some(left)).is_err() {
            return Ok(None);
        }
        match stream.read(&mut piece) {
            Ok(0) => return Ok(None),
            Ok(count) => reader.feed(&piece[..count]),
            Err(error) if is_wait(&error) => {}
            Err(_) => return Ok(None),
        }
    }
}

fn answer(stream: UnixStream, request: &Request, api: &Arc<Api>) {
    let head_only = request.method == "HEAD";
    match api.answer(request) {
        Reply::Now(response) => send(&stream, &response, head_only),
        // The connection stays, so the answer must not say that it ends. Whoever has the answer is counted already.
        Reply::Lease(lease, response) => {
            if let Ok(kept) = stream.try_clone() {
                api.lease(lease, kept);
                write(&stream, &response.encode(true, head_only));
            }
        }
        // The end of the process would cut the answer off, so that comes first.
        Reply::End(replace, response) => {
            // Who reads the answer and asks again sees it end.
            api.stopping.store(true, Ordering::SeqCst);
            write(&stream, &response.encode(false, head_only));
            api.end(replace);
        }
    }
}

fn send(stream: &UnixStream, response: &Response, head_only: bool) {
    if write(stream, &response.encode(false, head_only)) {
        // What the client still sends would make the kernel throw the answer away.
        stream.shutdown(Shutdown::Write).ignore();
        let (mut rest, late) = ([0; 4096], Deadline::after(Duration::from_secs(1)));
        let mut stream = stream;
        while !late.expired() && stream.set_read_timeout(late.remaining().filter(|left| !left.is_zero())).is_ok() {
            if !matches!(stream.read(&mut rest), Ok(1..)) {
                return;
            }
        }
    }
}

/// Whether all of it was taken in time.
fn write(mut stream: &UnixStream, bytes: &[u8]) -> bool {
    let late = Deadline::after(TAKING);
    let mut sent = 0;
    while sent < bytes.len() {
        let left = late.remaining().unwrap_or(TAKING);
        if left.is_zero() || stream.set_write_timeout(Some(left)).is_err() {
            return false;
        }
        match stream.write(&bytes[sent..]) {
            Ok(count) => sent += count,
            Err(error) if is_wait(&error) => {}
            Err(_) => return false,
        }
    }
    true
}
