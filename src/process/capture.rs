//! Reading a child's pipe in a thread that can be called off, keeping a bounded part.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, bounded, select};

use crate::base::threads;
use crate::base::time::Deadline;
use crate::sys::fd;
use crate::sys::poll::{self, Ready};

/// Which part is kept when there is more than fits.
#[derive(Clone, Copy)]
enum Keep {
    Head(usize),
    Tail(usize),
}

/// A pipe being read.
pub(crate) struct Capture {
    reader: Option<JoinHandle<(Vec<u8>, bool)>>,
    /// Closing it tells the reader to stop.
    call_off: Option<OwnedFd>,
    /// Disconnected when the reader is done.
    done: Receiver<()>,
}

impl Capture {
    /// Reads to the end and keeps the first `max` bytes.
    pub(crate) fn head(pipe: OwnedFd, max: usize) -> io::Result<Self> {
        Capture::start(pipe, Keep::Head(max))
    }

    /// Reads to the end and keeps the last `max` bytes.
    pub(crate) fn tail(pipe: OwnedFd, max: usize) -> io::Result<Self> {
        Capture::start(pipe, Keep::Tail(max))
    }

    /// Out of descriptors or threads is an error: what was not read must not look like nothing.
    fn start(pipe: OwnedFd, keep: Keep) -> io::Result<Self> {
        let (sender, done) = bounded(0);
        let (stop, call_off) = fd::pipe()?;
        let body = move || {
            let captured = read(File::from(pipe), &stop, keep);
            drop(sender);
            captured
        };
        let reader = threads::start("capture", 128, body)?;
        Ok(Capture { reader: Some(reader), call_off: Some(call_off), done })
    }

    /// What was read, and whether some was left out; waits for the end of the pipe until `deadline`.
    pub(crate) fn finish(mut self, deadline: Deadline) -> (Vec<u8>, bool) {
        let late = deadline.channel();
        select! {
            recv(self.done) -> _ => {}
            recv(late) -> _ => {}
        }
        drop(self.call_off.take());
        self.reader.take().and_then(|reader| reader.join().ok()).unwrap_or_default()
    }
}

fn read(mut pipe: File, stop: &OwnedFd, keep: Keep) -> (Vec<u8>, bool) {
    let mut kept = VecDeque::new();
    let mut left_out = false;
    let mut buffer = vec![0; 32 << 10];
    while let Ok(Ready::First) = poll::either(&pipe, stop) {
        let count = match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        match keep {
            Keep::Head(max) => {
                let room = count.min(max - kept.len());
                kept.extend(&buffer[..room]);
                left_out |= room < count;
            }
            Keep::Tail(max) => {
                kept.extend(&buffer[..count]);
                let over = kept.len().saturating_sub(max);
                kept.drain(..over);
                left_out |= over > 0;
            }
        }
    }
    (kept.into(), left_out)
}
