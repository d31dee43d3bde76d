//! Lines of JSON between the tool, the supervisor and the process that becomes PID 1, with descriptors beside them.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use fosse::sys::socket;
use serde_json::Value;

/// Sends a line.
pub fn send(stream: &UnixStream, value: &Value, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let line = value.to_string() + "\n";
    let sent = socket::send(stream, line.as_bytes(), fds, true)?;
    let mut rest = &line.as_bytes()[sent..];
    while !rest.is_empty() {
        rest = &rest[socket::send(stream, rest, &[], true)?..];
    }
    Ok(())
}

/// A connection that lines come from.
pub struct Lines {
    stream: UnixStream,
    bytes: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

impl Lines {
    pub fn of(stream: UnixStream) -> Lines {
        Lines { stream, bytes: Vec::new(), fds: Vec::new() }
    }

    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// The next line; nothing at the end.
    pub fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(at) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=at).collect();
                return serde_json::from_slice(&line).ok();
            }
            let mut buffer = [0; 4096];
            match socket::receive(&self.stream, &mut buffer, &mut self.fds, true) {
                Ok(count) if count > 0 => self.bytes.extend_from_slice(&buffer[..count]),
                Ok(_) | Err(_) => return None,
            }
        }
    }

    /// The first of the descriptors that came.
    pub fn take_fd(&mut self) -> Option<OwnedFd> {
        if self.fds.is_empty() { None } else { Some(self.fds.remove(0)) }
    }
}

/// The path of a socket by way of an open directory: the name of a socket may only have some hundred bytes.
fn short(dir: &Path) -> io::Result<(File, PathBuf)> {
    let dir = File::open(dir)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/sup.sock", dir.as_fd().as_raw_fd()));
    Ok((dir, path))
}

pub fn listen(dir: &Path) -> io::Result<UnixListener> {
    let (_dir, path) = short(dir)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    UnixListener::bind(path)
}

pub fn connect(dir: &Path) -> io::Result<UnixStream> {
    let (_dir, path) = short(dir)?;
    UnixStream::connect(path)
}

/// Asks a supervisor, and waits for the one answer; an error if it is not there any more.
pub fn ask(dir: &Path, question: &Value) -> io::Result<Value> {
    let stream = connect(dir)?;
    send(&stream, question, &[])?;
    Lines::of(stream).next().ok_or_else(|| io::ErrorKind::BrokenPipe.into())
}

/// Reads what there is, again if a signal came in between.
pub fn read(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                fosse::sys::poll::wait_readable(&*file, None)?;
            }
            other => return other,
        }
    }
}
