//! The connection to the owner of the run whose place this is.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::base::error::Ignore;
use crate::sys::linux::page::SharedNumber;
use crate::sys::socket;
use crate::wire::channel::{Decoder, Exit, FromInit, Message, Page, Start, ToInit, VERSION};

/// An owner, or a client that one has introduced.
pub(crate) struct Peer {
    stream: UnixStream,
    decoder: Decoder,
    /// Descriptors that came with bytes, and belong to messages that are not read yet.
    fds: Vec<OwnedFd>,
}

/// What can be heard from a peer.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A message, with its descriptor if it carries one.
    Message(ToInit, Option<OwnedFd>),
    /// Nothing more for now.
    Nothing,
    /// It is gone, or talks nonsense.
    Gone,
}

impl Peer {
    /// At the other end of a connection.
    pub(crate) fn new(stream: UnixStream) -> Peer {
        Peer { stream, decoder: Decoder::default(), fds: Vec::new() }
    }

    /// The next message that has come; waits for one if `wait`.
    pub(crate) fn next(&mut self, wait: bool) -> Heard {
        loop {
            match self.decoder.message() {
                Ok(Some(message)) => {
                    // One descriptor with each message that carries any, and they come in order.
                    let carries = matches!(message, ToInit::Introduce | ToInit::Start(_)) && !self.fds.is_empty();
                    let fd = carries.then(|| self.fds.remove(0));
                    return Heard::Message(message, fd);
                }
                Err(_) => return Heard::Gone,
                Ok(None) => {}
            }
            let mut bytes = [0; 16 << 10];
            match socket::receive(&self.stream, &mut bytes, &mut self.fds, wait) {
                Ok(0) => return Heard::Gone,
                Ok(count) => self.decoder.feed(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Heard::Nothing,
                Err(_) => return Heard::Gone,
            }
        }
    }

    /// Whether the other end is closed, when all that it has said is read.
    pub(crate) fn is_gone(&self) -> bool {
        socket::is_at_its_end(&self.stream)
    }

    /// Says something, with descriptors. A peer that does not read what little it is told is none.
    pub(crate) fn say(&self, message: &FromInit, fds: &[BorrowedFd<'_>]) {
        socket::send(&self.stream, &message.encode(), fds, false).ignore();
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The owner of the run.
pub(crate) struct Owner {
    /// The connection.
    pub(crate) peer: Peer,
    page: SharedNumber,
}

impl Owner {
    /// Greets, and waits for the command to start. Nothing else runs in the place by now.
    pub(crate) fn greet(stream: UnixStream) -> io::Result<(Owner, Start)> {
        let mut peer = Peer::new(stream);
        peer.say(&FromInit::Hello(VERSION), &[]);
        match peer.next(true) {
            Heard::Message(ToInit::Start(start), Some(file)) => {
                let page = SharedNumber::map(&file)?;
                Ok((Owner { peer, page }, start))
            }
            _ => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the run's owner does not answer")),
        }
    }

    /// The command runs; these are the ends of its streams.
    pub(crate) fn started(&self, streams: &[BorrowedFd<'_>]) {
        self.page.store(Page::Started.encode());
        self.peer.say(&FromInit::Started, streams);
    }

    /// The command has ended. First where it is not lost.
    pub(crate) fn ended(&self, exit: Exit) {
        self.page.store(Page::Exited(exit).encode());
        self.peer.say(&FromInit::Exited(exit), &[]);
    }
}
