//! The daemon's log: stderr itself, so that whatever anybody in this process says is in it, a panic too. Its size has
//! a bound: the last whole file and the present one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::base::log;
use crate::sys::fd;
use crate::sys::file::leads_to;

/// From this size on, the next one begins.
const SIZE_MAX: u64 = 1 << 20;

/// A log in a file.
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Leads stderr there. Only the holder of the lock does.
    pub(crate) fn begin(path: &Path) -> io::Result<Journal> {
        let file = open(path)?;
        fd::redirect_stderr(&file)?;
        log::stamp();
        Ok(Journal { path: path.to_owned(), file })
    }

    /// Begins the next file if this one is full, or gone.
    pub(crate) fn mind(&mut self) -> io::Result<()> {
        let own = self.file.metadata()?;
        let in_place = leads_to(&self.path, &self.file);
        if in_place && own.len() < SIZE_MAX {
            return Ok(());
        }
        if in_place {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
        }
        self.file = open(&self.path)?;
        fd::redirect_stderr(&self.file)
    }
}

fn open(path: &Path) -> io::Result<File> {
    // O_NONBLOCK: a FIFO in its place must not hold anybody up.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}
