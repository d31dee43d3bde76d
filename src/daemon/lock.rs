//! The lock that makes a process the daemon, and what its holder writes into the file.
//!
//! The file is made once and never removed. The lock belongs to the open file, which is closed on exec, so no child
//! of a dead daemon keeps it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::base::error::Ignore;
use crate::base::fs::read_bounded;
use crate::base::id::random_hex;
use crate::run::owner::boot_id;
use crate::sys::file::leads_to;
use crate::sys::lock;
use crate::sys::process::Pid;
use crate::sys::stat::Stat;
use crate::wire::daemon::Holder;

/// The most bytes that a holder writes.
const MAX: u64 = 16 << 10;

/// The lock, held until this process ends.
pub(crate) struct Held {
    file: File,
    path: PathBuf,
    /// What is written into it.
    pub(crate) holder: Holder,
}

/// What a try came to.
pub(crate) enum Tried {
    /// This process is the daemon.
    Won(Box<Held>),
    /// Another one holds this file's lock.
    Busy(File),
}

/// Why the lock is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be the daemon: its file says so at once, so that whoever finds this process frozen knows who it is.
    Serve,
    /// To know that nobody is: nothing is written.
    Prove,
}

/// Tries to take the lock.
pub(crate) fn try_take(path: &Path, purpose: Purpose) -> io::Result<Tried> {
    loop {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = options.open(path)?;
        if !file.metadata()?.is_file() {
            return Err(not_a_lock());
        }
        if !lock::try_exclusive(&file)? {
            return Ok(Tried::Busy(file));
        }
        // Replaced between the two: this lock is on a file that nobody will find.
        if leads_to(path, &file) {
            let own = Pid::own();
            let holder = Holder {
                pid: own.number(),
                start_time: Stat::of(own).map_or(0, |stat| stat.start),
                boot_id: boot_id(),
                nonce: random_hex(8)?,
                socket: String::new(),
            };
            let held = Held { file, path: path.to_owned(), holder };
            if purpose == Purpose::Serve {
                held.write()?;
            }
            return Ok(Tried::Won(Box::new(held)));
        }
    }
}

/// Whether somebody holds the lock. Nothing is made.
pub(crate) fn is_held(path: &Path) -> io::Result<bool> {
    // O_NONBLOCK: a FIFO in its place must not hold anybody up.
    match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
        Ok(file) if !file.metadata()?.is_file() => Err(not_a_lock()),
        Ok(file) => lock::try_shared(&file).map(|free| !free),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the holder wrote, or an earlier one, if it can be understood.
pub(crate) fn read(path: &Path) -> Option<Holder> {
    let bytes = read_bounded(path, MAX).ok()?;
    // A longer line of an earlier holder may stand behind it for a moment.
    serde_json::from_slice(bytes.split(|byte| *byte == b'\n').next()?).ok()
}

fn not_a_lock() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the lock is not a regular file")
}

impl Held {
    fn write(&self) -> io::Result<()> {
        let mut line = serde_json::to_vec(&self.holder)?;
        line.push(b'\n');
        self.file.write_all_at(&line, 0)?;
        self.file.set_len(line.len() as u64)
    }

    /// Says where it listens.
    pub(crate) fn tell_socket(&mut self, socket: &Path) -> io::Result<()> {
        self.holder.socket = socket.to_string_lossy().into_owned();
        self.write()
    }

    /// Whether the path still leads to this lock; otherwise another process can become the daemon.
    pub(crate) fn is_in_place(&self) -> bool {
        leads_to(&self.path, &self.file)
    }

    /// Writes its content again if somebody else has changed it; whether that was so.
    pub(crate) fn repair(&self) -> io::Result<bool> {
        if read(&self.path).as_ref() == Some(&self.holder) {
            return Ok(false);
        }
        self.write().map(|()| true)
    }

    /// Takes back what it says, as the last thing before the end.
    pub(crate) fn clear(&self) {
        self.file.set_len(0).ignore();
    }
}
