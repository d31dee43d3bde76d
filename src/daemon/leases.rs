//! The connections of owners: one thread waits for the ends of all of them. The end of one means that its owner is done
//! or dead, so its run is looked at.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use crossbeam_channel::Sender;

use crate::base::error::Ignore;
use crate::base::id::RunId;
use crate::base::sync::locked;
use crate::base::threads;
use crate::base::time::Deadline;
use crate::sys::fd;
use crate::sys::limit::DescriptorLimit;
use crate::sys::poll::{self, Interest};
use crate::wire::daemon::{Lease, ToolAt};

/// What an owner is told before its connection ends because somebody wants no daemon.
pub(crate) const STOPPED: &[u8] = b"{\"stopped\":true}\n";

/// Descriptors that are asked for, if this process may have so many.
const DESCRIPTORS: u64 = 1 << 16;

/// Descriptors that are left for everything else.
const SPARE: u64 = 512;

type Held = Vec<(RunId, Arc<UnixStream>)>;

/// What happens to a lease.
pub(crate) enum Notice {
    /// There is one more, and where its owner finds its engine's tool.
    Began(Option<ToolAt>),
    /// The run's owner is done, or dead, or cannot keep it.
    Ended(RunId),
}

/// All of them.
pub(crate) struct Leases {
    held: Arc<Mutex<Held>>,
    /// Written to when there is one more.
    wake: File,
    /// How many there may be; what is beyond is left to the scan.
    most: usize,
    /// What happens to them.
    tell: Sender<Notice>,
}

impl Leases {
    /// Starts to watch; what happens goes to `tell`.
    pub(crate) fn watch(tell: Sender<Notice>) -> io::Result<Leases> {
        // Without a descriptor nobody would be let in, and that looks like death.
        DescriptorLimit::raise(DESCRIPTORS)?;
        let descriptors = DescriptorLimit::now()?;
        let most = usize::try_from(descriptors.saturating_sub(SPARE).max(descriptors / 2)).unwrap_or(usize::MAX);
        let (woken, wake) = fd::pipe()?;
        fd::set_nonblocking(&wake)?;
        fd::set_nonblocking(&woken)?;
        let held = Arc::new(Mutex::new(Held::new()));
        let ended = tell.clone();
        let leases = Leases { held: Arc::clone(&held), wake: File::from(wake), most, tell };
        let woken = File::from(woken);
        threads::start("leases", 64, move || wait(&held, &woken, &ended))?;
        Ok(leases)
    }

    /// One more. One that cannot be watched ends, and its owner tries again.
    pub(crate) fn add(&self, lease: Lease, stream: UnixStream) {
        let mut held = locked(&self.held);
        if held.len() < self.most && stream.set_nonblocking(true).is_ok() {
            held.push((lease.run, Arc::new(stream)));
            drop(held);
            self.knock();
            self.tell.send(Notice::Began(lease.tool)).ignore();
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        locked(&self.held).len() as u64
    }

    /// Tells all owners that no daemon is wanted.
    pub(crate) fn say_stopped(&self) {
        for (_, stream) in locked(&self.held).iter() {
            // So short a line fits, and an owner that is frozen is not waited for.
            (&**stream).write_all(STOPPED).ignore();
        }
    }

    fn knock(&self) {
        // A full pipe wakes as well.
        (&self.wake).write_all(b"x").ignore();
    }
}

fn wait(held: &Mutex<Held>, woken: &File, ended: &Sender<Notice>) {
    loop {
        let watched: Held = locked(held).clone();
        let mut fds = vec![(woken.as_fd(), Interest::Read)];
        fds.extend(watched.iter().map(|(_, stream)| (stream.as_fd(), Interest::Read)));
        let Ok(ready) = poll::ready(&fds, None) else {
            // No memory for it at this moment.
            Deadline::after(std::time::Duration::from_secs(1)).wait();
            continue;
        };
        for at in ready {
            match at.checked_sub(1).and_then(|at| watched.get(at)) {
                None => drain(woken),
                // Its end; or words, which an owner has none of.
                Some((run, stream)) => {
                    locked(held).retain(|(_, known)| !Arc::ptr_eq(known, stream));
                    if ended.send(Notice::Ended(run.clone())).is_err() {
                        return;
                    }
                }
            }
        }
    }
}

fn drain(mut pipe: &File) {
    let mut bytes = [0; 256];
    while matches!(pipe.read(&mut bytes), Ok(1..)) {}
}
