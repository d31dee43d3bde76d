//! One client's connection: bytes to requests, answers to bytes, and when it is over.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::http::guard::Guard;
use crate::http::request::{Limits, Reader, Request};
use crate::http::response::{CONTINUE, Response};
use crate::init::table::CommandId;
use crate::sys::linux::epoll::Interest;

/// How long a client may take to send a request, from its first byte to its last.
const SENDING: Duration = Duration::from_secs(10);

/// How long a client may wait before it asks, or asks again.
const IDLE: Duration = Duration::from_secs(60);

/// How long a client may take nothing of its answer.
const TAKING: Duration = Duration::from_secs(60);

/// How long what a client still sends is thrown away once it has its last answer, which it could lose otherwise.
const LINGERING: Duration = Duration::from_secs(2);

/// Answers up to this size are sent with their head.
const SMALL: usize = 32 << 10;

/// How much is sent before others have their turn.
const AT_ONCE: usize = 512 << 10;

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wait {
    /// That the client closes it too.
    Close,
    /// A request's first byte.
    Idle,
    /// The rest of a request.
    Rest,
    /// That the client takes its answer.
    Taker,
    /// The end of a command.
    Command,
}

/// What came of going on with it.
pub(crate) enum Step {
    /// It waits.
    Wait,
    /// A request that may ask.
    Request(Request),
    /// It is over.
    Over,
}

pub(crate) struct Connection {
    stream: TcpStream,
    guard: Guard,
    reader: Reader,
    /// What is to be sent.
    out: VecDeque<Vec<u8>>,
    /// What is to be sent after that, and is made only then.
    pieces: Option<Box<dyn Iterator<Item = Vec<u8>>>>,
    /// How much of the first of it is sent.
    sent: usize,
    /// The command that the client waits for.
    command: Option<CommandId>,
    /// How the request that is being answered wants it: whether another one may follow, and whether without a body.
    manner: (bool, bool),
    /// The last answer is under way or sent.
    last: bool,
    /// It is sent, and the client was told that nothing follows.
    shut: bool,
    /// The client sends no more.
    ended: bool,
    /// Since when it waits for what it waits for.
    since: Instant,
    waits: Wait,
    /// What epoll was told.
    pub(crate) interest: Interest,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, guard: Guard, now: Instant) -> Connection {
        Connection {
            stream,
            guard,
            reader: Reader::new(Limits::default()),
            out: VecDeque::new(),
            pieces: None,
            sent: 0,
            command: None,
            manner: (false, false),
            last: false,
            shut: false,
            ended: false,
            since: now,
            waits: Wait::Idle,
            interest: Interest::READ,
        }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn command(&self) -> Option<CommandId> {
        self.command
    }

    /// What it waits for, and since when.
    pub(crate) fn waits(&self) -> (Wait, Instant) {
        (self.waits, self.since)
    }

    /// When it is too late for what it waits for.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let span = match self.waits {
            Wait::Close => LINGERING,
            Wait::Idle => IDLE,
            Wait::Rest => SENDING,
            Wait::Taker => TAKING,
            Wait::Command => return None,
        };
        Some(self.since + span)
    }

    /// What epoll is to tell.
    pub(crate) fn wanted(&self) -> Interest {
        match self.waits {
            Wait::Close | Wait::Idle | Wait::Rest => Interest::READ,
            Wait::Taker => Interest::WRITE,
            // A client that sends on without waiting for answers is read only as far as there is room.
            Wait::Command if self.reader.wants_more() => Interest::READ.and(Interest::HANGUP),
            Wait::Command => Interest::HANGUP,
        }
    }

    /// Reads once; `false` if the connection is broken.
    fn read(&mut self, piece: &mut [u8]) -> bool {
        match self.stream.read(piece) {
            Ok(0) => self.ended = true,
            Ok(_) if self.last => {}
            Ok(count) => self.reader.feed(&piece[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => return false,
        }
        true
    }

    /// Goes on after an event: reads if that is what it waits for, and then as [`step`](Self::step).
    pub(crate) fn on_event(&mut self, hung_up: bool, piece: &mut [u8], now: Instant) -> Step {
        let reads = match self.waits {
            Wait::Close | Wait::Idle | Wait::Rest => true,
            Wait::Command => !hung_up && self.reader.wants_more(),
            Wait::Taker => false,
        };
        if reads && !self.read(piece) {
            return Step::Over;
        }
        // Who does not wait for a command's end ends the command.
        if self.waits == Wait::Command && (hung_up || self.ended) {
            return Step::Over;
        }
        let step = self.step(now);
        // It could not be written to, and will not be.
        if hung_up && self.waits == Wait::Taker && matches!(step, Step::Wait) { Step::Over } else { step }
    }

    /// Sends what there is to send, then takes the next request if it is complete.
    pub(crate) fn step(&mut self, now: Instant) -> Step {
        loop {
            if !self.send(now) {
                return Step::Over;
            }
            if !self.out.is_empty() || self.pieces.is_some() {
                return self.wait(Wait::Taker, now);
            }
            if self.last {
                if self.ended || (!self.shut && self.stream.shutdown(Shutdown::Write).is_err()) {
                    return Step::Over;
                }
                self.shut = true;
                return self.wait(Wait::Close, now);
            }
            if self.command.is_some() {
                return self.wait(Wait::Command, now);
            }
            match self.reader.next() {
                Err(refusal) => self.refuse(Response::from(refusal)),
                Ok(Some(request)) => {
                    self.manner = (request.keep_alive, request.method == "HEAD");
                    match self.guard.admit(&request) {
                        Ok(()) => return Step::Request(request),
                        Err(response) => self.answer(response),
                    }
                }
                Ok(None) if self.ended => return Step::Over,
                // Who may not ask is told before all of it has come.
                Ok(None) => match self.reader.pending().map(|request| self.guard.admit(request)) {
                    Some(Err(response)) => self.refuse(response),
                    _ if self.reader.take_continue() => self.out.push_back(CONTINUE.to_vec()),
                    _ => return self.wait(if self.reader.is_idle() { Wait::Idle } else { Wait::Rest }, now),
                },
            }
        }
    }

    fn wait(&mut self, what: Wait, now: Instant) -> Step {
        if self.waits != what {
            (self.waits, self.since) = (what, now);
        }
        Step::Wait
    }

    /// The request asks for a command, which is under way.
    pub(crate) fn await_command(&mut self, id: CommandId) {
        self.command = Some(id);
    }

    /// Answers the request.
    pub(crate) fn answer(&mut self, response: Response) {
        let (keep_alive, head_only) = self.begin_answer();
        self.out.push_back(response.encode(keep_alive, head_only));
    }

    /// Answers the request with a body of so many bytes in all, of which no more is made than is taken.
    pub(crate) fn answer_in_pieces(
        &mut self,
        status: u16,
        length: usize,
        pieces: impl Iterator<Item = Vec<u8>> + 'static,
    ) {
        let (keep_alive, head_only) = self.begin_answer();
        self.out.push_back(Response::from_json(status, Vec::new()).head_for(length, keep_alive));
        if !head_only {
            self.pieces = Some(Box::new(pieces));
        }
    }

    fn begin_answer(&mut self) -> (bool, bool) {
        let (keep_alive, head_only) = self.manner;
        self.command = None;
        self.last = !keep_alive;
        (keep_alive, head_only)
    }

    /// Answers for the last time.
    pub(crate) fn refuse(&mut self, response: Response) {
        self.manner = (false, false);
        self.answer(response);
    }

    /// Sends as much as is taken, and not so much that others wait for it; `false` if the connection is broken.
    fn send(&mut self, now: Instant) -> bool {
        let mut total = 0;
        while total < AT_ONCE {
            if let Some(pieces) = self.pieces.as_mut().filter(|_| self.out.len() < 2) {
                match pieces.next() {
                    // A small answer goes with its head.
                    Some(piece) => match self.out.back_mut().filter(|last| last.len() + piece.len() <= SMALL) {
                        Some(last) => last.extend_from_slice(&piece),
                        None => self.out.push_back(piece),
                    },
                    None => self.pieces = None,
                }
                continue;
            }
            let Some(first) = self.out.front() else { return true };
            match self.stream.write(&first[self.sent..]) {
                Ok(count) => {
                    (self.sent, self.since) = (self.sent + count, now);
                    total += count;
                    if self.sent == first.len() {
                        self.out.pop_front();
                        self.sent = 0;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        true
    }
}
