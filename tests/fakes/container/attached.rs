//! The clients that stay with a process: `run`, `start -a`, `exec`. They alone learn its exit code.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::Receiver;
use fosse::sys::fd;
use fosse::sys::signal::Signal;
use fosse::sys::termios::{Mode, Size};
use serde_json::{Value, json};

use crate::call::Call;
use crate::signals;
use crate::supervisor::guard;
use crate::texts::{Error, Fail, fail, invalid_argument, log_line};
use crate::wire::{self, Lines};

/// How long the streams may stay open after the end of the process.
const DRAIN: Duration = Duration::from_secs(3);

/// What kind of process is attached to, and how.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    pub terminal: bool,
    pub interactive: bool,
}

/// The streams of a process that is not started yet.
pub struct Streams {
    manner: Manner,
    /// Our ends of stdout and stderr.
    ours: Vec<OwnedFd>,
    input: Option<OwnedFd>,
    /// The ends that the service gets.
    theirs: Vec<OwnedFd>,
}

fn broken(error: std::io::Error) -> Error {
    fail("internalError", error.to_string()).into()
}

impl Streams {
    pub fn make(manner: Manner) -> Result<Streams, Error> {
        if manner.terminal && manner.interactive && !std::io::stdin().is_terminal() {
            return Err(invalid_argument("the input device is not a terminal").into());
        }
        let mut streams = Streams { manner, ours: Vec::new(), input: None, theirs: Vec::new() };
        if manner.interactive {
            // On what is open, which the caller may share.
            fd::set_nonblocking(std::io::stdin()).map_err(broken)?;
            let (read, write) = fd::pipe().map_err(broken)?;
            streams.input = Some(write);
            streams.theirs.push(read);
        }
        for _ in 0..if manner.terminal { 1 } else { 2 } {
            let (read, write) = fd::pipe().map_err(broken)?;
            streams.ours.push(read);
            streams.theirs.push(write);
        }
        Ok(streams)
    }

    /// Sends a request with the streams beside it, and waits until the process runs.
    pub fn begin(&mut self, conn: UnixStream, mut request: Value) -> Result<Lines, Begun> {
        request["stdin"] = self.manner.interactive.into();
        if let Some(size) = self.size() {
            (request["rows"], request["columns"]) = (size.rows.into(), size.columns.into());
        }
        let theirs = std::mem::take(&mut self.theirs);
        let fds: Vec<BorrowedFd<'_>> = theirs.iter().map(AsFd::as_fd).collect();
        wire::send(&conn, &request, &fds).map_err(|_| Begun::Lost)?;
        drop(theirs);
        begun(conn)
    }

    /// The window's size, which only counts where the terminal is in use both ways.
    fn size(&self) -> Option<Size> {
        let wanted = self.manner.terminal && self.manner.interactive;
        if wanted { Size::of(std::io::stdin()).ok() } else { None }
    }
}

/// Why a process does not run.
pub enum Begun {
    /// The runtime says why.
    Failed(Fail),
    /// It ended.
    Lost,
}

/// Waits until a process runs.
pub fn begun(conn: UnixStream) -> Result<Lines, Begun> {
    let mut lines = Lines::of(conn);
    let answer = lines.next().ok_or(Begun::Lost)?;
    if answer["started"] == true {
        return Ok(lines);
    }
    Err(serde_json::from_value(answer["error"].clone()).map_or(Begun::Lost, Begun::Failed))
}

/// How signals reach the process, where they do (up to 0.12).
pub type Forward = Box<dyn Fn(i32) + Send>;

/// How the window's size reaches the process.
pub type Resize = Box<dyn Fn(Size) + Send>;

/// Copies the streams until the process has ended; its exit code.
pub fn follow(
    call: &Call,
    process: &str,
    id: &str,
    streams: Streams,
    mut lines: Lines,
    ways: (Forward, Resize),
) -> Result<i32, Error> {
    let manner = streams.manner;
    handle_signals(call, manner, ways);
    let mode = raw(manner);
    let done = relay(streams);
    let end = lines.next().and_then(|line| i32::try_from(line["exit"].as_i64()?).ok());
    let late = done.recv_timeout(DRAIN).is_err_and(|error| error == crossbeam_channel::RecvTimeoutError::Timeout);
    if let Some(mode) = &*guard(&mode) {
        mode.set(std::io::stdin()).unwrap_or_default();
    }
    match end {
        None => {
            let text = format!("failed to wait for process {process} in container {id}");
            let cause = fail("interrupted", "XPC connection error: Connection interrupted");
            let line = fail("internalError", text).caused_by(cause);
            Err(Error::Raw(vec![format!("Error: {}", line.plain()), crate::texts::ENSURE.to_owned()], 1))
        }
        // The code is known here, and lost.
        Some(_) if late => Err(fail("timeout", "timed out waiting for process output to end").into()),
        Some(code) => Ok(code),
    }
}

/// Raw mode where the terminal is in use both ways; how it was before.
fn raw(manner: Manner) -> Arc<Mutex<Option<Mode>>> {
    let mut before = None;
    if manner.terminal && manner.interactive {
        if let Ok(mode) = Mode::of(std::io::stdin()) {
            mode.raw().set(std::io::stdin()).unwrap_or_default();
            before = Some(mode);
        }
    }
    Arc::new(Mutex::new(before))
}

fn handle_signals(call: &Call, manner: Manner, (forward, resize): (Forward, Resize)) {
    let version = call.store.version;
    let escapes = call.verb != "start";
    let mut polite = 0;
    signals::handle(move |signal| {
        let ends = signal == Signal::INT || signal == Signal::TERM;
        if manner.terminal && manner.interactive {
            if signal == Signal::WINCH {
                Size::of(std::io::stdin()).map(&resize).unwrap_or_default();
            } else if ends {
                crate::call::leave(128 + signal.number());
            }
            return;
        }
        polite += u32::from(ends);
        if escapes && ends && polite == 3 && !manner.terminal {
            crate::warn("Received 3 SIGINT/SIGTERM's, forcefully exiting.");
            crate::call::leave(1);
        }
        if version.forwards_signals() {
            return forward(signal.number());
        }
        let number = signal.number().to_string();
        let error = "invalidArgument: \"missing signal in xpc message\"";
        let line = log_line("failed to send signal", &[("error", error), ("signal", &number)]);
        crate::warn(line.trim_end());
    });
}

/// Copies in both directions; told when stdout and stderr are at their ends.
fn relay(streams: Streams) -> Receiver<std::convert::Infallible> {
    let (sender, done) = crossbeam_channel::bounded(0);
    for (at, end) in streams.ours.into_iter().enumerate() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let mut end = File::from(end);
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count @ 1..) = wire::read(&mut end, &mut buffer) {
                if say(at, &buffer[..count]).is_err() {
                    break;
                }
            }
            // Whoever writes there learns that nobody reads.
            drop((end, sender));
        });
    }
    if let Some(input) = streams.input {
        std::thread::spawn(move || {
            let Ok(stdin) = std::io::stdin().as_fd().try_clone_to_owned() else { return };
            let (mut stdin, mut input) = (File::from(stdin), File::from(input));
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count @ 1..) = wire::read(&mut stdin, &mut buffer) {
                if input.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
        });
    }
    done
}

/// Writes to stdout or stderr, which may have been made non-blocking by way of stdin.
fn say(stream: usize, mut bytes: &[u8]) -> std::io::Result<()> {
    let fd = if stream == 0 {
        std::io::stdout().as_fd().try_clone_to_owned()
    } else {
        std::io::stderr().as_fd().try_clone_to_owned()
    };
    let mut file = File::from(fd?);
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => fosse::sys::poll::wait_writable(&file)?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sends signals and sizes to a container's own process.
pub fn to_container(call: &Call, id: &str) -> (Forward, Resize) {
    let (dir, other) = (call.store.dir(id), call.store.dir(id));
    let forward = move |signal: i32| {
        wire::ask(&dir, &json!({"op": "kill", "signal": signal})).map(drop).unwrap_or_default();
    };
    let resize = move |size: Size| {
        let question = json!({"op": "resize", "rows": size.rows, "columns": size.columns});
        wire::ask(&other, &question).map(drop).unwrap_or_default();
    };
    (Box::new(forward), Box::new(resize))
}

/// Sends signals and sizes over the connection that a process was started on.
pub fn to_process(lines: &Lines) -> Result<(Forward, Resize), Error> {
    let copy = || lines.stream().try_clone().map_err(broken);
    let (conn, other) = (copy()?, copy()?);
    let forward = move |signal: i32| wire::send(&conn, &json!({"signal": signal}), &[]).unwrap_or_default();
    let resize = move |size: Size| {
        wire::send(&other, &json!({"rows": size.rows, "columns": size.columns}), &[]).unwrap_or_default();
    };
    Ok((Box::new(forward), Box::new(resize)))
}
