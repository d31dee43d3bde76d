//! The end of what a client says, remembered while it passes: the tool's own words come last, and its exit code 1 means
//! them or the command's.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};

use crate::base::sync::locked;
use crate::base::threads;
use crate::base::time::Deadline;
use crate::process;
use crate::runtime::{Error, Result, Streams};
use crate::sys::{fd, poll};

/// As much as an error with its cause has.
const KEPT: usize = 4096;

/// How long after its end a client's stream may stay open in other hands.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);

/// What passed last.
#[derive(Default)]
pub(crate) struct Tail {
    kept: Arc<Mutex<Vec<u8>>>,
    /// Disconnected when all has passed.
    passed: Option<Receiver<()>>,
}

impl Tail {
    /// Listens to the stream on which the tool speaks: stderr, or the terminal that stands for all of them.
    pub(crate) fn listen(&mut self, mut streams: Streams) -> Result<Streams> {
        let slot = if streams.stderr.is_some() { &mut streams.stderr } else { &mut streams.stdout };
        if let Some(source) = slot.take() {
            *slot = Some(self.pass_on(source)?);
        }
        Ok(streams)
    }

    fn pass_on(&mut self, source: OwnedFd) -> Result<OwnedFd> {
        let failed = |source| Error::Call(process::Error::Start { call: "container start".into(), source });
        let (reader, writer) = fd::pipe().map_err(failed)?;
        let kept = Arc::clone(&self.kept);
        let (over, passed) = bounded(0);
        let body = move || {
            pass(File::from(source), File::from(writer), &kept);
            drop(over);
        };
        threads::start("tail", 64, body).map_err(failed)?;
        self.passed = Some(passed);
        Ok(reader)
    }

    /// The end of what was said, once the client has ended and all of it has been read.
    pub(crate) fn last_words(&mut self) -> Vec<u8> {
        if let Some(passed) = self.passed.take() {
            // A child of the client may hold the stream for ever; the words came before.
            let late = Deadline::after(DRAIN_LIMIT).channel();
            select! {
                recv(passed) -> _ => {}
                recv(late) -> _ => {}
            }
        }
        std::mem::take(&mut locked(&self.kept))
    }
}

/// Copies until either end is gone. A terminal's end is an error (EIO).
fn pass(mut source: File, mut target: File, kept: &Mutex<Vec<u8>>) {
    let mut piece = [0; 16 << 10];
    loop {
        let count = match source.read(&mut piece) {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // Whoever writes the keys shares the terminal, and does not want to wait.
            Err(error) if error.kind() == ErrorKind::WouldBlock => match poll::wait_readable(&source, None) {
                Ok(_) => continue,
                Err(_) => return,
            },
            Err(_) => return,
        };
        {
            let mut kept = locked(kept);
            kept.extend_from_slice(&piece[..count]);
            let beyond = kept.len().saturating_sub(KEPT);
            kept.drain(..beyond);
        }
        if target.write_all(&piece[..count]).is_err() {
            return;
        }
    }
}
