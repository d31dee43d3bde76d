//! The thread that carries keys from the caller's terminal to the command's. It never waits for the command alone, so
//! that a command which reads nothing cannot keep a key from being understood.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::escape::{Action, Escape};
use crate::base::error::Ignore;
use crate::base::threads;
use crate::sys::fd;
use crate::sys::poll::{self, Interest};

/// Bytes that wait for a command which reads nothing; beyond that the caller's terminal keeps them.
const WAITING_MAX: usize = 1 << 20;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// How long the beginning of what may be an escape waits for its rest.
const REST: Duration = Duration::from_millis(50);

/// What the caller did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Did {
    /// Asked for the end of the session.
    Stop,
    /// Went away: its terminal is closed.
    HangUp,
}

/// The thread.
pub(crate) struct Keys {
    /// What is not for the command.
    pub(crate) did: Receiver<Did>,
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Keys {
    /// Begins to carry.
    pub(crate) fn carry(caller: OwnedFd, command: OwnedFd, escape: Escape) -> io::Result<Keys> {
        fd::set_nonblocking(&command)?;
        let (tell, did) = unbounded();
        let (stopped, stop) = fd::pipe()?;
        let carrier = Carrier {
            caller: File::from(caller),
            command: File::from(command),
            stopped,
            escape,
            waiting: VecDeque::new(),
            passed: Vec::new(),
            tell,
            open: true,
        };
        let thread = threads::start("keys", 192, move || carrier.run())?;
        Ok(Keys { did, stop: Some(stop), thread: Some(thread) })
    }

    /// Ends it: what is typed from here on is not the command's.
    pub(crate) fn end(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ignore();
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.end();
    }
}

struct Carrier {
    caller: File,
    command: File,
    stopped: OwnedFd,
    escape: Escape,
    waiting: VecDeque<u8>,
    /// What the escape let pass just now.
    passed: Vec<u8>,
    tell: Sender<Did>,
    /// Whether the caller may have something to say.
    open: bool,
}

impl Carrier {
    fn run(mut self) {
        let mut buffer = vec![0; CHUNK];
        loop {
            let mut fds = vec![(self.stopped.as_fd(), Interest::Read)];
            if !self.waiting.is_empty() {
                fds.push((self.command.as_fd(), Interest::Write));
            }
            let reads = self.open && self.waiting.len() < WAITING_MAX;
            if reads {
                fds.push((self.caller.as_fd(), Interest::Read));
            }
            let Ok(ready) = poll::ready(&fds, self.escape.is_holding().then_some(REST)) else { return };
            let (writes, last) = (!self.waiting.is_empty(), fds.len() - 1);
            drop(fds);
            if ready.contains(&0) {
                return;
            }
            if ready.is_empty() {
                self.escape.flush(&mut self.passed);
                self.waiting.extend(self.passed.drain(..));
            }
            if writes && ready.contains(&1) && !self.write() {
                return;
            }
            if reads && ready.contains(&last) {
                self.read(&mut buffer);
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) {
        match self.caller.read(buffer) {
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Ok(0) | Err(_) => {
                self.open = false;
                self.escape.finish(&mut self.passed);
                self.tell.send(Did::HangUp).ignore();
            }
            Ok(count) => {
                if let Some(Action::Stop) = self.escape.feed(&buffer[..count], &mut self.passed) {
                    self.tell.send(Did::Stop).ignore();
                }
            }
        }
        self.waiting.extend(self.passed.drain(..));
    }

    /// Whether the command can still be written to.
    fn write(&mut self) -> bool {
        let (first, _) = self.waiting.as_slices();
        match self.command.write(first) {
            Ok(count) => {
                self.waiting.drain(..count);
                true
            }
            Err(error) => matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock),
        }
    }
}
