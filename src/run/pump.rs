//! Bytes from the command to the record and to the caller.
//!
//! Each output stream has two threads. One reads the command's pipe and records, if there is a record; the other
//! writes to the caller.
//! Between them lie a few buffers: a caller that reads slowly slows the command, as a pipe would. Once the run
//! is ending, the reader no longer waits for the caller, so that a caller who does not read delays nothing.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded, select, select_biased, unbounded};

use crate::base::error::Ignore;
use crate::base::time::Deadline;
use crate::run::output::{Stream, Writer};
use crate::sys::{fd, poll};
use crate::term::screen::Screen;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// Chunks on their way to a caller that reads slowly.
const IN_FLIGHT: usize = 8;

/// Chunks that wait for a caller who does not read, once the run is ending and nobody waits for that caller.
const UNREAD_MAX: usize = 512;

/// How much of a stream's start is kept for understanding what the engine's init said.
const START_KEPT: usize = 1 << 10;

/// What happens to a stream.
#[derive(Debug)]
pub(crate) enum Event {
    /// Its first bytes are here, and wait for [`Gate::open`] or [`Gate::withhold`]. As many of them as are kept.
    First(Stream, Vec<u8>),
    /// The command wrote, and the caller no longer reads.
    Unread(Stream),
    /// Writing to the caller failed in another way; said once.
    Failed(Stream, io::Error),
    /// The command's end of it is closed.
    Closed(Stream, Ending),
}

/// What a stream was, all in all.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// How many bytes it had.
    pub(crate) bytes: u64,
    /// The first of them.
    pub(crate) start: Vec<u8>,
    /// Whether the caller left so much unread that it gets no more.
    pub(crate) cut: bool,
}

/// Holds back the first bytes until it is known that they are the command's.
pub(crate) struct Gate {
    verdict: Option<Sender<Infallible>>,
    withheld: Option<Sender<Infallible>>,
}

impl Gate {
    /// They are the command's: record and pass on.
    pub(crate) fn open(&mut self) {
        self.verdict = None;
    }

    /// They are not: keep them for [`Ending::start`] alone.
    pub(crate) fn withhold(&mut self) {
        self.withheld = None;
    }
}

/// The output of a running command.
pub(crate) struct Pump {
    /// What happens.
    pub(crate) events: Receiver<Event>,
    /// Holds back the first bytes.
    pub(crate) gate: Gate,
    hurry: Option<Sender<Infallible>>,
    /// Closed when a stream is not to be waited for any longer.
    reading: [Option<OwnedFd>; 2],
    /// Streams that are not to be read any longer, whatever is there to read.
    closed: [Arc<AtomicBool>; 2],
    forwarders: Vec<Forwarder>,
    /// To the forwarders directly, for what comes another way.
    aside: [Option<Sender<Vec<u8>>>; 2],
}

/// The thread that writes a stream to the caller.
struct Forwarder {
    stream: Stream,
    thread: JoinHandle<()>,
    /// Disconnected when it has written everything, or knows that it never will.
    done: Receiver<Infallible>,
    /// One message, at least, for each time it wrote something.
    progressed: Receiver<()>,
}

impl Pump {
    /// Starts to pump both streams. `callers` are where they go: fosse's stdout and stderr. Without a `log` nothing
    /// is recorded; a `screen` takes note of what it is shown.
    pub(crate) fn start(
        streams: [Option<OwnedFd>; 2],
        callers: [OwnedFd; 2],
        log: Option<&Arc<Writer>>,
        screen: Option<&Arc<Screen>>,
    ) -> io::Result<Pump> {
        let (tell, events) = unbounded();
        let (verdict, passed) = bounded(0);
        let (withheld, refused) = bounded(0);
        let (hurry, hurried) = bounded(0);
        let mut reading = [None, None];
        let closed = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let mut forwarders = Vec::new();
        let mut aside = [None, None];
        for ((stream, pipe), caller) in Stream::BOTH.into_iter().zip(streams).zip(callers) {
            let Some(pipe) = pipe else {
                tell.send(Event::Closed(stream, Ending::default())).ignore();
                continue;
            };
            fd::enlarge_pipe(&pipe, 256 << 10);
            let (stop, go_on) = fd::pipe()?;
            reading[stream.index()] = Some(go_on);
            let (chunks, to_forward) = unbounded();
            aside[stream.index()] = Some(Sender::clone(&chunks));
            let (credit, used) = bounded(IN_FLIGHT);
            let (spent, spare) = bounded(IN_FLIGHT);
            let (progress, progressed) = bounded(1);
            let (finished, done) = bounded(0);
            let teller = tell.clone();
            let screen = screen.map(Arc::clone);
            let thread = spawn("forward", move || {
                let mut caller = Shown { file: File::from(caller), screen };
                forward(stream, &mut caller, &to_forward, &used, &teller, &progress, &spent);
                drop(finished);
            })?;
            forwarders.push(Forwarder { stream, thread, done, progressed });
            let drain = Drain {
                stream,
                log: log.map(Arc::clone),
                stop,
                closed: Arc::clone(&closed[stream.index()]),
                tell: tell.clone(),
                passed: passed.clone(),
                refused: refused.clone(),
                hurried: hurried.clone(),
                chunks,
                credit,
                spare,
            };
            spawn("drain", move || drain.run(File::from(pipe)))?;
        }
        let gate = Gate { verdict: Some(verdict), withheld: Some(withheld) };
        Ok(Pump { events, gate, hurry: Some(hurry), reading, closed, forwarders, aside })
    }

    /// Passes on bytes of a stream that did not come through its pipe. They are recorded by whoever has them.
    pub(crate) fn deliver(&self, stream: Stream, bytes: &[u8]) {
        if let Some(chunks) = &self.aside[stream.index()] {
            chunks.send(bytes.to_vec()).ignore();
        }
    }

    /// The run is ending: what still comes is recorded without waiting for the caller.
    pub(crate) fn hurry(&mut self) {
        self.hurry = None;
    }

    /// The streams' other ends are in hands that do not let go: stop reading.
    pub(crate) fn give_up(&mut self) {
        self.reading = [None, None];
    }

    /// Nobody reads a stream any more: its pipe is closed, and the command meets that itself.
    pub(crate) fn close(&mut self, stream: Stream) {
        self.closed[stream.index()].store(true, Ordering::SeqCst);
        self.reading[stream.index()] = None;
    }

    /// Waits until the caller has everything. With `patience`, only as long as it goes on reading: each chunk
    /// that it takes within that time buys as much again.
    pub(crate) fn flush(
        mut self,
        patience: Option<std::time::Duration>,
        interrupted: &Receiver<crate::sys::signal::Signal>,
    ) -> Flushed {
        // Nothing more comes.
        self.aside = [None, None];
        let mut undelivered = Vec::new();
        for Forwarder { stream, thread, done, progressed } in self.forwarders {
            let delivered = loop {
                // Patience is spent once for both.
                let patience = if undelivered.is_empty() { patience } else { Some(std::time::Duration::ZERO) };
                let late = patience.map_or_else(Deadline::never, Deadline::after).channel();
                select_biased! {
                    recv(done) -> _ => break thread.join().is_ok(),
                    recv(progressed) -> _ => {}
                    recv(late) -> _ => break false,
                    recv(interrupted) -> _ => break false,
                }
            };
            if !delivered {
                undelivered.push(stream);
            }
        }
        // The last writes were still under way when the command's end was taken.
        let failed = |event| match event {
            Event::Failed(stream, error) => Some((stream, error)),
            Event::First(..) | Event::Unread(_) | Event::Closed(..) => None,
        };
        Flushed { undelivered, failed: self.events.try_iter().filter_map(failed).collect() }
    }
}

/// What came of the last writes to the caller.
#[derive(Default)]
pub(crate) struct Flushed {
    /// The streams that were not delivered to their end.
    pub(crate) undelivered: Vec<Stream>,
    /// Those that could not be written, which was not known before.
    pub(crate) failed: Vec<(Stream, io::Error)>,
}

impl Flushed {
    /// Whether words on stderr would find nobody who reads them. Both streams may lead to the same reader.
    pub(crate) fn is_stderr_unread(&self) -> bool {
        let full = || !poll::writable(io::stderr()).unwrap_or(true);
        self.undelivered.contains(&Stream::Stderr) || (!self.undelivered.is_empty() && full())
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).stack_size(128 << 10).spawn(body)
}

/// The thread that reads the command's pipe.
struct Drain {
    stream: Stream,
    log: Option<Arc<Writer>>,
    stop: OwnedFd,
    closed: Arc<AtomicBool>,
    tell: Sender<Event>,
    passed: Receiver<Infallible>,
    refused: Receiver<Infallible>,
    hurried: Receiver<Infallible>,
    chunks: Sender<Vec<u8>>,
    credit: Sender<()>,
    /// Buffers that were written to the caller.
    spare: Receiver<Vec<u8>>,
}

impl Drain {
    fn run(self, mut pipe: File) {
        let mut ending = Ending::default();
        let mut passing = None;
        let mut buffer = Vec::new();
        while let Ok(poll::Ready::First) = poll::either(&pipe, &self.stop) {
            if buffer.is_empty() {
                buffer = self.spare.try_recv().unwrap_or_default();
                buffer.resize(CHUNK, 0);
            }
            if self.closed.load(Ordering::SeqCst) {
                break;
            }
            let count = match pipe.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                    continue;
                }
                // The end of a terminal is an error as well (EIO).
                Err(_) => break,
            };
            let bytes = &buffer[..count];
            ending.bytes += count as u64;
            let room = START_KEPT.saturating_sub(ending.start.len()).min(count);
            ending.start.extend_from_slice(&bytes[..room]);
            if *passing.get_or_insert_with(|| self.first(&ending.start)) {
                // The record first: what the caller has seen is always there.
                if let Some(log) = &self.log {
                    log.append(self.stream, bytes);
                }
                select! {
                    send(self.credit, ()) -> _ => {}
                    recv(self.hurried) -> _ => {}
                }
                // A caller that reads nothing of a flood to its end gets no more, and no hole; a record has it.
                ending.cut |= self.chunks.len() >= UNREAD_MAX;
                if !ending.cut {
                    buffer.truncate(count);
                    self.chunks.send(std::mem::take(&mut buffer)).ignore();
                }
            }
        }
        self.tell.send(Event::Closed(self.stream, ending)).ignore();
    }

    /// Whether the first bytes, and so all, are the command's.
    fn first(&self, start: &[u8]) -> bool {
        self.tell.send(Event::First(self.stream, start.to_vec())).ignore();
        select! {
            recv(self.passed) -> _ => true,
            recv(self.refused) -> _ => false,
        }
    }
}

/// Writes what comes to the caller, until the caller no longer reads; then says so at each further chunk.
fn forward(
    stream: Stream,
    caller: &mut Shown,
    chunks: &Receiver<Vec<u8>>,
    used: &Receiver<()>,
    tell: &Sender<Event>,
    progress: &Sender<()>,
    spent: &Sender<Vec<u8>>,
) {
    let mut gone = false;
    for chunk in chunks {
        if gone {
            tell.send(Event::Unread(stream)).ignore();
        } else if let Err(error) = caller.write_all(&chunk) {
            gone = true;
            let event = match error.kind() {
                io::ErrorKind::BrokenPipe => Event::Unread(stream),
                _ => Event::Failed(stream, error),
            };
            tell.send(event).ignore();
        }
        // Without a credit taken the reader was in a hurry: then there is none to give back.
        used.try_recv().ignore();
        progress.try_send(()).ignore();
        spent.try_send(chunk).ignore();
    }
}

/// Where a stream goes, and who takes note of it there.
struct Shown {
    file: File,
    screen: Option<Arc<Screen>>,
}

impl Shown {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Before: what is written in part may be what has to be undone.
        if let Some(screen) = &self.screen {
            screen.shown(bytes);
        }
        write_all(&mut self.file, bytes)
    }
}

/// Writes everything, also to a descriptor that somebody else made non-blocking.
pub(crate) fn write_all(to: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => poll::wait_writable(to.as_fd())?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
