//! What the file of an owner's lock says: who the owner is, where it listens, and in the end how the run ended. The last
//! is for who waits: it has this file open, and reads it also if the run has been destroyed by the time it looks.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use crate::base::error::{Failure, Result};
use crate::base::paths::RunPaths;
use crate::base::sync::locked;
use crate::wire::control::{End, Owner};
use crate::wire::record::Record;

/// The most bytes that are read of it.
const MAX: usize = 16 << 10;

/// The file in the hands of the owner. While this lives, the lock is held.
pub(crate) struct LockFile {
    file: File,
    said: Mutex<Said>,
}

struct Said {
    owner: Owner,
    /// The run is over for its owner, who is not to be reached any more.
    over: bool,
}

impl LockFile {
    /// Writes who the owner is into its lock's file.
    pub(crate) fn new(file: File, owner: Owner) -> io::Result<LockFile> {
        write(&file, &owner)?;
        Ok(LockFile { file, said: Mutex::new(Said { owner, over: false }) })
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        locked(&self.said)
    }

    /// Opens a socket and says that the owner listens there from now on, unless the run is over: then nobody would take
    /// the socket away again.
    pub(crate) fn move_to<T>(&self, open: impl FnOnce() -> Result<(PathBuf, T)>) -> Result<Option<T>> {
        let mut said = self.said();
        if said.over {
            return Ok(None);
        }
        let (socket, opened) = open()?;
        said.owner.socket = socket.to_string_lossy().into_owned();
        write(&self.file, &said.owner).map_err(|error| Failure::new("telling where the owner listens", error))?;
        Ok(Some(opened))
    }

    /// Says how the run ended, which is on disk by now. From here on its owner listens nowhere else.
    pub(crate) fn tell_end(&self, record: &Record) -> io::Result<()> {
        let mut said = self.said();
        said.over = true;
        said.owner.end = end_of(record);
        write(&self.file, &said.owner)
    }
}

/// Says in a dead owner's place how its run ended. The caller holds the run.
pub(crate) fn tell_end(paths: &RunPaths, record: &Record) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(paths.owner_lock())?;
    let told = read_open(&file).unwrap_or_default();
    let end = end_of(record);
    if told.end == end { Ok(()) } else { write(&file, &Owner { end, ..told }) }
}

fn end_of(record: &Record) -> Option<End> {
    record.state.is_final().then_some(End { exit_code: record.exit_code, reason: record.reason })
}

/// One line, over the one that is there: a reader sees one of them, or for a moment something that makes no sense.
fn write(file: &File, owner: &Owner) -> io::Result<()> {
    let mut line = serde_json::to_vec(owner)?;
    line.push(b'\n');
    file.write_all_at(&line, 0)?;
    file.set_len(line.len() as u64)
}

/// What an open file says, if that makes sense.
pub(crate) fn read_open(file: &File) -> Option<Owner> {
    let (mut bytes, mut length) = (vec![0; MAX], 0);
    loop {
        match file.read_at(&mut bytes[length..], length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    serde_json::from_slice(bytes[..length].split(|byte| *byte == b'\n').next()?).ok()
}

/// Who owns a run, as its lock's file says. Information only: the lock is the proof that somebody does.
pub(crate) fn read(paths: &RunPaths) -> Option<Owner> {
    read_open(&File::open(paths.owner_lock()).ok()?)
}
