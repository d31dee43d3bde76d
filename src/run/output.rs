//! What a run wrote: one append-only file of frames, both streams in the order of arrival, with true times.
//!
//! A frame is 16 bytes of head and then the bytes as they came: a magic byte, the kind, two zero bytes, the length
//! (u32, little-endian), the time in microseconds since 1970 (u64, little-endian). A crash can tear the last frame:
//! a reader takes what there is of it. The whole file never exceeds its cap; the first bytes are kept, and a frame
//! of kind `LEFT_OUT` marks that more came. A write that the disk refuses is taken back and ends nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Mutex;

use crate::base::error::Ignore;
use crate::base::sync::locked;
use crate::base::time::Timestamp;

/// The length of a frame's head.
pub(crate) const HEAD: usize = 16;

const MAGIC: u8 = 0xF0;

/// The kind of the frame that stands for output which is not recorded.
const LEFT_OUT: u8 = 3;

/// The longest frame that is written; a longer one in a file is damage.
const FRAME_MAX: usize = 1 << 20;

/// One of the command's two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Both.
    pub(crate) const BOTH: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

    /// As in options and JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }

    /// Its place in an array of two.
    pub fn index(self) -> usize {
        match self {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
        }
    }
}

/// What a file holds by now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Recorded bytes of each stream.
    pub bytes: [u64; 2],
    /// Whether more came than was recorded.
    pub truncated: bool,
}

/// The end of the file, where bytes are added.
pub struct Writer {
    inner: Mutex<Inner>,
}

struct Inner {
    file: File,
    size: u64,
    cap: u64,
    totals: Totals,
    /// Why the rest could not be written, if it was not for the cap.
    failure: Option<io::Error>,
}

impl Writer {
    /// Continues a file: an empty one, or what a dead owner left, after repairing its end.
    pub fn open(path: &Path, cap: u64) -> io::Result<Writer> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let (size, totals) = repair(&file)?;
        Ok(Writer { inner: Mutex::new(Inner { file, size, cap, totals, failure: None }) })
    }

    /// Adds bytes of a stream with the time of now.
    pub fn append(&self, stream: Stream, bytes: &[u8]) {
        // A poisoned lock means that another appender panicked; the file is as good as its last frame.
        let mut inner = locked(&self.inner);
        for part in bytes.chunks(FRAME_MAX) {
            inner.append(stream, part);
        }
    }

    /// What the file holds by now.
    pub fn totals(&self) -> Totals {
        locked(&self.inner).totals
    }

    /// Why output is missing that was to be recorded, once.
    pub(crate) fn take_failure(&self) -> Option<io::Error> {
        locked(&self.inner).failure.take()
    }

    /// Says that output is missing that was never seen.
    pub(crate) fn mark_left_out(&self) {
        locked(&self.inner).leave_out();
    }

    /// Puts everything on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        locked(&self.inner).file.sync_data()
    }
}

impl Inner {
    fn append(&mut self, stream: Stream, bytes: &[u8]) {
        if self.totals.truncated {
            return;
        }
        // Room is kept for the marker.
        let room = self.cap.saturating_sub(self.size).saturating_sub(2 * HEAD as u64);
        let fits = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let kind = match stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        if fits > 0 {
            match self.write(kind, &bytes[..fits]) {
                Err(error) => self.failure = Some(error),
                Ok(()) => {
                    self.totals.bytes[stream.index()] += fits as u64;
                    if fits == bytes.len() {
                        return;
                    }
                }
            }
        }
        self.leave_out();
    }

    fn leave_out(&mut self) {
        if !self.totals.truncated {
            self.totals.truncated = true;
            // Where not even the marker fits, the record says it.
            if self.size + HEAD as u64 <= self.cap {
                self.write(LEFT_OUT, b"").ignore();
            }
        }
    }

    fn write(&mut self, kind: u8, bytes: &[u8]) -> io::Result<()> {
        let head = head(kind, bytes.len(), Timestamp::now());
        let whole = HEAD + bytes.len();
        let written = self.file.write_vectored(&[IoSlice::new(&head), IoSlice::new(bytes)]).and_then(|count| {
            // A short count is what a full disk or a signal gives; the rest says which.
            let (done, rest) = if count < HEAD { (0, &head[count..]) } else { (count - HEAD, &b""[..]) };
            self.file.write_all(rest)?;
            self.file.write_all(&bytes[done..])
        });
        match written {
            Ok(()) => {
                self.size += whole as u64;
                Ok(())
            }
            Err(error) => {
                self.file.set_len(self.size)?;
                self.file.seek(SeekFrom::Start(self.size))?;
                Err(error)
            }
        }
    }
}

fn head(kind: u8, length: usize, at: Timestamp) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[0] = MAGIC;
    head[1] = kind;
    head[4..8].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    head[8..16].copy_from_slice(&at.micros().to_le_bytes());
    head
}

/// A frame's head, if these bytes are one.
fn parse_head(head: &[u8; HEAD]) -> Option<(u8, usize, Timestamp)> {
    let (length, at) =
        (u32::from_le_bytes(head[4..8].try_into().ok()?), u64::from_le_bytes(head[8..16].try_into().ok()?));
    let length = usize::try_from(length).ok()?;
    let good =
        head[0] == MAGIC && matches!(head[1], 1..=LEFT_OUT) && head[2] == 0 && head[3] == 0 && length <= FRAME_MAX;
    good.then(|| (head[1], length, Timestamp::from_micros(at)))
}

/// Makes the file end with a whole frame; leaves it open at its end.
fn repair(file: &File) -> io::Result<(u64, Totals)> {
    let length = file.metadata()?.len();
    let (mut at, mut totals) = (0, Totals::default());
    let mut bytes = [0; HEAD];
    while length - at >= HEAD as u64 {
        file.read_exact_at(&mut bytes, at)?;
        let Some((kind, frame, time)) = parse_head(&bytes) else {
            break;
        };
        let there = (frame as u64).min(length - at - HEAD as u64);
        if there < frame as u64 {
            file.write_all_at(&head(kind, usize::try_from(there).unwrap_or(0), time), at)?;
        }
        match kind {
            1 => totals.bytes[0] += there,
            2 => totals.bytes[1] += there,
            _ => totals.truncated = true,
        }
        at += HEAD as u64 + there;
    }
    file.set_len(at)?;
    let mut end = file;
    end.seek(SeekFrom::Start(at))?;
    Ok((at, totals))
}

/// A piece of output, or the mark that some is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Bytes of a stream.
    Bytes {
        /// When they came.
        at: Timestamp,
        /// From which stream.
        stream: Stream,
        /// The bytes; never empty.
        bytes: Vec<u8>,
    },
    /// More came, and is not recorded.
    LeftOut,
}

/// Reads frames while the file may still grow.
pub struct Reader {
    file: File,
    at: u64,
}

impl Reader {
    /// From the start of the file.
    pub fn open(path: &Path) -> io::Result<Reader> {
        Ok(Reader { file: File::open(path)?, at: 0 })
    }

    /// The next frame that is whole; `None` at the end of what there is.
    pub fn next_whole(&mut self) -> io::Result<Option<Frame>> {
        self.next(false)
    }

    /// The next frame, or what there is of it: for a file that no longer grows.
    pub fn next_torn(&mut self) -> io::Result<Option<Frame>> {
        self.next(true)
    }

    fn next(&mut self, torn: bool) -> io::Result<Option<Frame>> {
        loop {
            let mut bytes = [0; HEAD];
            if read_at(&self.file, &mut bytes, self.at)? < HEAD {
                return Ok(None);
            }
            // Damage: what follows cannot be told apart any more.
            let Some((kind, length, at)) = parse_head(&bytes) else {
                return Ok(None);
            };
            let mut payload = vec![0; length];
            let there = read_at(&self.file, &mut payload, self.at + HEAD as u64)?;
            if there < length && !torn {
                return Ok(None);
            }
            payload.truncate(there);
            self.at += (HEAD + there) as u64;
            let stream = match kind {
                1 => Stream::Stdout,
                2 => Stream::Stderr,
                _ => return Ok(Some(Frame::LeftOut)),
            };
            if !payload.is_empty() {
                return Ok(Some(Frame::Bytes { at, stream, bytes: payload }));
            }
            if there < length {
                return Ok(None);
            }
        }
    }
}

/// As many bytes as there are, up to the buffer's length.
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], at + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Adds what `source` has beyond the first `skip` bytes; for saving what an engine kept and nobody saw.
pub(crate) fn append_beyond(
    writer: &Writer,
    stream: Stream,
    mut source: impl Read,
    skip: u64,
    mut also: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut left = skip;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let seen = usize::try_from(left.min(count as u64)).unwrap_or(count);
        left -= seen as u64;
        if seen < count {
            writer.append(stream, &buffer[seen..count]);
            also(&buffer[seen..count]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new() -> Self {
            let name = format!("fosse-output-{}", crate::base::id::random_hex(8).unwrap());
            Scratch(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_file(&self.0).ignore();
        }
    }

    fn read(path: &Path) -> ([Vec<u8>; 2], bool) {
        let (mut streams, mut left_out) = ([Vec::new(), Vec::new()], false);
        let mut reader = Reader::open(path).unwrap();
        while let Some(frame) = reader.next_torn().unwrap() {
            match frame {
                Frame::Bytes { stream, bytes, .. } => streams[stream.index()].extend(bytes),
                Frame::LeftOut => left_out = true,
            }
        }
        (streams, left_out)
    }

    #[test]
    fn x4_x11_both_streams_come_back_byte_for_byte() {
        let scratch = Scratch::new();
        let writer = Writer::open(&scratch.0, 1 << 20).unwrap();
        let binary: Vec<u8> = (0..=255).collect();
        writer.append(Stream::Stdout, &binary);
        writer.append(Stream::Stderr, b"err");
        writer.append(Stream::Stdout, b"no newline");
        let (streams, left_out) = read(&scratch.0);
        assert_eq!(streams[0], [&binary[..], b"no newline"].concat());
        assert_eq!(streams[1], b"err");
        assert!(!left_out);
    }

    #[test]
    fn the_file_never_exceeds_its_cap_and_says_that_more_came() {
        for cap in [0, 1, 16, 40, 100, 1000] {
            let scratch = Scratch::new();
            let writer = Writer::open(&scratch.0, cap).unwrap();
            for _ in 0..100 {
                writer.append(Stream::Stdout, b"0123456789");
            }
            assert!(std::fs::metadata(&scratch.0).unwrap().len() <= cap, "{cap}");
            assert!(writer.totals().truncated);
            assert_eq!(read(&scratch.0).1, cap >= 16, "{cap}");
        }
    }

    proptest! {
        #[test]
        fn a_torn_file_gives_every_byte_that_is_there(cut in 0_usize..200, more: Vec<u8>) {
            let scratch = Scratch::new();
            let whole = b"the quick brown fox jumps over the lazy dog";
            {
                let writer = Writer::open(&scratch.0, 1 << 20).unwrap();
                for part in whole.chunks(7) {
                    writer.append(Stream::Stdout, part);
                }
            }
            let length = std::fs::metadata(&scratch.0).unwrap().len();
            let kept = (cut as u64).min(length);
            std::fs::OpenOptions::new().write(true).open(&scratch.0).unwrap().set_len(kept).unwrap();
            let before = read(&scratch.0).0;
            prop_assert!(whole.starts_with(&before[0]));
            let writer = Writer::open(&scratch.0, 1 << 20).unwrap();
            prop_assert_eq!(writer.totals().bytes[0], before[0].len() as u64);
            writer.append(Stream::Stdout, &more);
            prop_assert_eq!(read(&scratch.0).0[0].clone(), [&before[0][..], &more[..]].concat());
        }

        #[test]
        fn no_bytes_make_the_reader_fail_otherwise(bytes: Vec<u8>) {
            let scratch = Scratch::new();
            std::fs::write(&scratch.0, &bytes).unwrap();
            read(&scratch.0);
            Writer::open(&scratch.0, 1 << 20).unwrap();
        }

        #[test]
        fn what_was_seen_is_not_saved_twice(seen in 0_usize..50, all in proptest::collection::vec(any::<u8>(), 0..50)) {
            let scratch = Scratch::new();
            let writer = Writer::open(&scratch.0, 1 << 20).unwrap();
            let seen = seen.min(all.len());
            writer.append(Stream::Stderr, &all[..seen]);
            append_beyond(&writer, Stream::Stderr, &all[..], seen as u64, |_| ()).unwrap();
            prop_assert_eq!(&read(&scratch.0).0[1], &all);
        }
    }
}
