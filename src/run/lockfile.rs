//! What the file of an owner's lock says: who the owner is, where it listens, and in the end how the run ended. The last
//! is for who waits: it has this file open, and reads it also if the run has been destroyed by the time it looks.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::base::paths::RunPaths;
use crate::wire::control::{End, Owner};
use crate::wire::record::Record;

/// The most bytes that are read of it.
const MAX: usize = 16 << 10;

/// The file in the hands of the owner. While this lives, the lock is held.
pub struct LockFile {
    file: File,
    owner: Mutex<Owner>,
}

impl LockFile {
    /// Writes who the owner is into its lock's file.
    pub fn new(file: File, owner: Owner) -> io::Result<LockFile> {
        write(&file, &owner)?;
        Ok(LockFile { file, owner: Mutex::new(owner) })
    }

    fn change(&self, change: impl FnOnce(&mut Owner)) -> io::Result<()> {
        let mut owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut owner);
        write(&self.file, &owner)
    }

    /// Says where the owner listens from now on.
    pub fn tell_socket(&self, socket: &Path) -> io::Result<()> {
        self.change(|owner| owner.socket = socket.to_string_lossy().into_owned())
    }

    /// Says how the run ended, which is on disk by now.
    pub fn tell_end(&self, record: &Record) -> io::Result<()> {
        self.change(|owner| owner.end = end_of(record))
    }
}

/// Says in a dead owner's place how its run ended. The caller holds the run.
pub fn tell_end(paths: &RunPaths, record: &Record) -> io::Result<()> {
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
pub fn read_open(file: &File) -> Option<Owner> {
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
pub fn read(paths: &RunPaths) -> Option<Owner> {
    read_open(&File::open(paths.owner_lock()).ok()?)
}
