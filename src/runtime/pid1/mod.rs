//! The first path of a run's bytes, signals and exit code: fosse's own PID 1 inside the place, on one socket.
//!
//! The owner listens on a socket file that is mounted, read-only, beside fosse's binary. init connects to it and
//! greets, before anything else runs there, and the owner listens no longer: what is started later can speak neither
//! as init nor as the owner. Until the greeting is answered nothing has run, so a place where it does not come (a
//! virtual machine, a remote engine, SELinux, another architecture) is given up without loss for the second path.

mod channel;

use std::ffi::OsString;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::error::Ignore;
use crate::base::fs::remove_file;
use crate::base::time::Deadline;
use crate::runtime::spec::{Input, OwnInit};
use crate::sys::poll;
use crate::sys::socket;
use crate::wire::channel::{Decoder, FromInit, Message, Page, Start, ToInit, VERSION};
pub(crate) use channel::Through;

/// How long a place may take to end after its command: what the command left has a second, and is killed.
pub(crate) const PLACE_LIMIT: Duration = Duration::from_secs(3);

/// How long a greeting may take once init has connected.
const GREETING: Duration = Duration::from_secs(2);

/// Where init connects.
pub(crate) struct Door {
    listener: UnixListener,
    socket: PathBuf,
}

impl Door {
    /// Opens it, for whatever user the place has: who can reach the file is decided by the directory it is in.
    pub(crate) fn open(own: &OwnInit) -> io::Result<Door> {
        remove_file(&own.socket)?;
        let listener = UnixListener::bind(&own.socket)?;
        let door = Door { listener, socket: own.socket.clone() };
        std::fs::set_permissions(&door.socket, Permissions::from_mode(0o666))?;
        door.listener.set_nonblocking(true)?;
        Ok(door)
    }

    /// Waits for init's greeting. `None`: nobody has connected within `limit`.
    pub(crate) fn wait(&self, limit: Duration) -> io::Result<Option<Visitor>> {
        poll::wait_readable(&self.listener, Some(limit))?;
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(false)?;
        Visitor::on(stream).map(Some)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        remove_file(&self.socket).ignore();
    }
}

/// The owner's end of a connection.
struct Link {
    stream: UnixStream,
    decoder: Decoder,
}

impl Link {
    /// Says what to start; init's first answer, and the descriptors that came with it.
    fn ask_to_start(
        &mut self,
        start: &Start,
        mut fds: &[BorrowedFd<'_>],
        limit: Duration,
    ) -> io::Result<(Option<FromInit>, Vec<OwnedFd>)> {
        self.stream.set_write_timeout(Some(limit))?;
        self.stream.set_read_timeout(Some(limit))?;
        let mut bytes = &ToInit::Start(start.clone()).encode()[..];
        while !bytes.is_empty() {
            let count = socket::send(&self.stream, bytes, fds, true)?;
            (bytes, fds) = (&bytes[count..], &[]);
        }
        let mut fds = Vec::new();
        let answer = self.next(&mut fds)?;
        self.stream.set_read_timeout(None)?;
        Ok((answer, fds))
    }

    /// The next message, with the descriptors that came by then; `None` at the end.
    fn next(&mut self, fds: &mut Vec<OwnedFd>) -> io::Result<Option<FromInit>> {
        loop {
            if let Some(message) = self.decoder.message().map_err(io::Error::other)? {
                return Ok(Some(message));
            }
            let mut bytes = [0; 4096];
            match socket::receive(&self.stream, &mut bytes, fds, true) {
                Ok(0) => return Ok(None),
                Ok(count) => self.decoder.feed(&bytes[..count]),
                // The end of a peer that left something unread.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

/// An init that has greeted. Nothing runs in its place; if it is dropped, nothing will.
pub(crate) struct Visitor {
    link: Link,
}

impl Visitor {
    /// Waits for init's greeting on a connection.
    pub(crate) fn on(stream: UnixStream) -> io::Result<Visitor> {
        stream.set_read_timeout(Some(GREETING))?;
        let mut link = Link { stream, decoder: Decoder::default() };
        match link.next(&mut Vec::new())? {
            Some(FromInit::Hello(VERSION)) => Ok(Visitor { link }),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it was greeted by something else")),
        }
    }

    /// Lets it start the command; `page` is where it leaves the exit.
    pub(crate) fn start(mut self, start: &Start, page: &Path, limit: Duration) -> io::Result<Through> {
        let file = open_page(page)?;
        let (answer, fds) = self.link.ask_to_start(start, &[file.as_fd()], limit)?;
        Through::new(self.link, answer, fds, Some(page.to_owned()), start)
    }
}

/// Starts one more command, over a connection to which the owner of a run has introduced its init.
pub(crate) fn start_another(stream: UnixStream, start: &Start, limit: Duration) -> io::Result<Through> {
    let mut link = Link { stream, decoder: Decoder::default() };
    let (answer, fds) = link.ask_to_start(start, &[], limit)?;
    Through::new(link, answer, fds, None, start)
}

/// The exit page: a file with its bytes written, since memory of a file's hole is none on a full disk.
fn open_page(path: &Path) -> io::Result<File> {
    remove_file(path)?;
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut &file, &[0; Page::LEN])?;
    Ok(file)
}

/// What init left in the exit page; blank if there is none.
pub(crate) fn read_page(path: &Path) -> Page {
    let bytes = crate::base::fs::read_bounded(path, Page::LEN as u64).ok();
    let bytes = bytes.and_then(|bytes| <[u8; Page::LEN]>::try_from(bytes).ok());
    bytes.map_or(Page::Blank, |bytes| Page::decode(u64::from_le_bytes(bytes)))
}

/// A command as init is told it.
pub(crate) fn start_of(command: &[OsString], env: &[(OsString, OsString)], cwd: Option<&str>, input: Input) -> Start {
    let bytes = |text: &OsString| text.as_bytes().to_vec();
    Start {
        argv: command.iter().map(bytes).collect(),
        env: env.iter().map(|(name, value)| (bytes(name), bytes(value))).collect(),
        cwd: cwd.unwrap_or_default().as_bytes().to_vec(),
        shared: Vec::new(),
        streams: input.wanted(),
    }
}

/// How long an engine that says it has started a place may take until init greets.
pub(crate) const HANDSHAKE: Deadlines = Deadlines { first: Duration::from_millis(300), all: Duration::from_secs(15) };

/// See [`HANDSHAKE`].
pub(crate) struct Deadlines {
    /// After this, the engine is asked whether the place lives at all.
    pub(crate) first: Duration,
    /// After this, nothing comes any more.
    pub(crate) all: Duration,
}

impl Deadlines {
    /// The whole, from now.
    pub(crate) fn begin(&self) -> Deadline {
        Deadline::after(self.all)
    }
}
