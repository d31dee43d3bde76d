//! `fosse logs`: what a run wrote, on the stream it was written to. Reads records and locks; asks no engine and
//! changes nothing.

use std::collections::VecDeque;
use std::convert::Infallible;

use crossbeam_channel::{Receiver, bounded, select};
use serde_json::json;

use super::args::{Logs, StreamName};
use super::output::{self, Out};
use super::report::{Error, Result};
use super::stop::find;
use crate::base::base64;
use crate::base::error::Failure;
use crate::base::id::RunId;
use crate::base::log;
use crate::base::time::Timestamp;
use crate::run::output::{Frame, Reader, Stream};
use crate::run::store::{Store, is_owned};
use crate::run::waiting::watch_lock;

pub(crate) fn logs(args: &Logs) -> Result {
    let store = super::store()?;
    let id = find(&store, &args.run, "reading the output of a run")?;
    let path = store.run(&id).output();
    let failed = |error: std::io::Error| Failure::new(format!("reading the output of {id}"), error);
    let only = args.stream.map(|name| match name {
        StreamName::Stdout => Stream::Stdout,
        StreamName::Stderr => Stream::Stderr,
    });
    let mut printer = Printer::new(args, only);
    if let Some(lines) = args.tail {
        // The lines that are there when it starts; a follower then sees all that comes.
        printer.skip = tail(&mut Reader::open(&path).map_err(failed)?, lines, only).map_err(failed)?;
    }
    let mut reader = Reader::open(&path).map_err(failed)?;
    if args.follow {
        let unread = match (printer.form, only) {
            (Form::Bytes | Form::Timestamps, Some(Stream::Stderr)) => output::unread_errors(),
            (..) => output::unread(),
        };
        follow(&store, &id, &mut reader, &mut printer, &unread)?;
    }
    while let Some(frame) = reader.next_torn().map_err(failed)? {
        printer.frame(frame)?;
    }
    printer.finish()?;
    Ok(0)
}

/// Prints what comes, until nobody holds the run any more: then everything is in the file. Or until nobody reads it.
fn follow(
    store: &Store,
    id: &RunId,
    reader: &mut Reader,
    printer: &mut Printer,
    unread: &Receiver<Infallible>,
) -> Result<()> {
    let failed = |error: std::io::Error| Failure::new(format!("following the output of {id}"), error);
    let changed = watch_file(&store.run(id).output());
    if !is_owned(&store.run(id)).map_err(failed)? {
        return Ok(());
    }
    let ended = watch_lock(store, id)?;
    loop {
        while let Some(frame) = reader.next_whole().map_err(failed)? {
            printer.frame(frame)?;
        }
        printer.flush()?;
        // Where files cannot be watched, they are looked at.
        let look = crate::base::time::Deadline::after(std::time::Duration::from_secs(1)).channel();
        select! {
            recv(ended) -> _ => return Ok(()),
            recv(unread) -> _ => return Err(Error::Closed),
            recv(changed) -> _ => {}
            recv(look) -> _ => {}
        }
    }
}

/// Delivers once for one or several writes to the file.
#[cfg(target_os = "linux")]
fn watch_file(path: &std::path::Path) -> Receiver<()> {
    use crate::base::error::Ignore;

    let Ok(mut watch) = crate::sys::linux::inotify::Watch::new(path) else {
        return crossbeam_channel::never();
    };
    let (tell, changed) = bounded(1);
    let wait = move || {
        while watch.wait().is_ok() {
            tell.try_send(()).ignore();
        }
    };
    match crate::base::threads::start("watch", 64, wait) {
        Ok(_) => changed,
        Err(_) => crossbeam_channel::never(),
    }
}

/// Elsewhere files are looked at ten times a second.
#[cfg(not(target_os = "linux"))]
fn watch_file(_path: &std::path::Path) -> Receiver<()> {
    let (tell, changed) = bounded(1);
    let tick = crossbeam_channel::tick(std::time::Duration::from_millis(100));
    std::thread::spawn(move || tick.iter().try_for_each(|_| tell.send(())));
    changed
}

/// How many bytes of each stream come before its last lines. A line belongs where it starts, so the last lines
/// of both streams together are found by the order of their first bytes.
fn tail(reader: &mut Reader, lines: u64, only: Option<Stream>) -> std::io::Result<[u64; 2]> {
    let mut starts: VecDeque<(Stream, u64)> = VecDeque::new();
    let (mut seen, mut at_start) = ([0_u64; 2], [true; 2]);
    while let Some(frame) = reader.next_torn()? {
        let Frame::Bytes { stream, bytes, .. } = frame else {
            continue;
        };
        let (index, wanted) = (stream.index(), only.is_none_or(|only| only == stream));
        for byte in bytes {
            if at_start[index] && wanted {
                starts.push_back((stream, seen[index]));
                if starts.len() as u64 > lines {
                    starts.pop_front();
                }
            }
            at_start[index] = byte == b'\n';
            seen[index] += 1;
        }
    }
    let first = |stream| starts.iter().find(|(of, _)| *of == stream).map(|(_, at)| *at);
    Ok(Stream::BOTH.map(|stream| first(stream).unwrap_or(seen[stream.index()])))
}

/// How output is printed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Bytes,
    Timestamps,
    Json,
}

/// A line that is not complete yet.
#[derive(Default)]
struct Partial {
    bytes: Vec<u8>,
    at: Option<Timestamp>,
}

struct Printer {
    form: Form,
    only: Option<Stream>,
    skip: [u64; 2],
    out: Out,
    err: Out,
    partial: [Partial; 2],
    left_out: bool,
}

impl Printer {
    fn new(args: &Logs, only: Option<Stream>) -> Self {
        let form = match (args.json, args.timestamps) {
            (true, _) => Form::Json,
            (false, true) => Form::Timestamps,
            (false, false) => Form::Bytes,
        };
        let (out, err) = (Out::stdout(), Out::stderr());
        Printer { form, only, skip: [0; 2], out, err, partial: Default::default(), left_out: false }
    }

    fn frame(&mut self, frame: Frame) -> Result<()> {
        let Frame::Bytes { at, stream, bytes } = frame else {
            self.left_out = true;
            return Ok(());
        };
        let index = stream.index();
        let skipped = usize::try_from(self.skip[index]).unwrap_or(usize::MAX).min(bytes.len());
        self.skip[index] -= skipped as u64;
        let bytes = &bytes[skipped..];
        if self.only.is_some_and(|only| only != stream) || bytes.is_empty() {
            return Ok(());
        }
        match self.form {
            Form::Bytes => self.target(stream).bytes(bytes)?,
            Form::Timestamps => self.stamped(at, stream, bytes)?,
            Form::Json => {
                for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                    let partial = &mut self.partial[index];
                    partial.at.get_or_insert(at);
                    partial.bytes.extend_from_slice(piece);
                    if piece.ends_with(b"\n") {
                        self.json_line(stream)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn target(&mut self, stream: Stream) -> &mut Out {
        match stream {
            Stream::Stdout => &mut self.out,
            Stream::Stderr => &mut self.err,
        }
    }

    fn stamped(&mut self, at: Timestamp, stream: Stream, bytes: &[u8]) -> Result<()> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let partial = &mut self.partial[stream.index()];
            let starts = partial.at.is_none();
            partial.at = if piece.ends_with(b"\n") { None } else { Some(at) };
            let target = self.target(stream);
            if starts {
                target.text(&format!("{at} "))?;
            }
            target.bytes(piece)?;
        }
        Ok(())
    }

    /// One line of output, its line end included: the texts of a stream put together are its bytes.
    fn json_line(&mut self, stream: Stream) -> Result<()> {
        let Partial { bytes, at } = std::mem::take(&mut self.partial[stream.index()]);
        let Some(time) = at else { return Ok(()) };
        let stream = stream.as_str();
        let object = match String::from_utf8(bytes) {
            Ok(text) => json!({"time": time, "stream": stream, "text": text}),
            Err(raw) => json!({"time": time, "stream": stream, "base64": base64::encode(raw.as_bytes())}),
        };
        Ok(self.out.json(&object)?)
    }

    fn flush(&mut self) -> Result<()> {
        self.out.finish()?;
        Ok(self.err.finish()?)
    }

    fn finish(&mut self) -> Result<()> {
        if self.form == Form::Json {
            for stream in Stream::BOTH {
                self.json_line(stream)?;
            }
        }
        self.flush()?;
        if self.left_out {
            log::warn("more was written than is recorded (--log-max, a full disk, or a connection that broke)");
        }
        Ok(())
    }
}
