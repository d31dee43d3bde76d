//! Writing data to stdout: buffered, and quiet when nobody reads it any more. Tables, colours and JSON.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};

use crossbeam_channel::{Receiver, bounded, never};
use serde::Serialize;

use super::args::Color;
use crate::base::env;
use crate::base::error::Failure;
use crate::base::threads;
use crate::sys::poll;

/// Why stdout takes no more.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// Its reader has gone.
    Closed,
    /// Anything else, such as a full disk.
    Failed(Failure),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => WriteError::Closed,
            _ => WriteError::Failed(Failure::new("writing to stdout", error)),
        }
    }
}

/// A file that takes everything, sooner or later: also one that somebody else has made non-blocking for all who
/// have it open, as a program at the other end of a terminal or pipe may.
struct Patient(File);

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => poll::wait_writable(&self.0)?,
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Where data goes.
pub(crate) struct Out(BufWriter<Box<dyn Write>>);

impl Out {
    /// Standard output, without std's line buffering.
    pub(crate) fn stdout() -> Self {
        Out::on(io::stdout().as_fd().try_clone_to_owned().map(File::from))
    }

    /// Standard error, for what a command wrote there.
    pub(crate) fn stderr() -> Self {
        Out::on(io::stderr().as_fd().try_clone_to_owned().map(File::from))
    }

    fn on(file: io::Result<File>) -> Self {
        let target: Box<dyn Write> = match file {
            Ok(file) => Box::new(Patient(file)),
            Err(_) => Box::new(io::sink()),
        };
        Out(BufWriter::with_capacity(64 << 10, target))
    }

    /// Writes bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        Ok(self.0.write_all(bytes)?)
    }

    /// Writes text as it is.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), WriteError> {
        self.bytes(text.as_bytes())
    }

    /// Writes text and a line end.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), WriteError> {
        self.text(text)?;
        self.text("\n")
    }

    /// Writes one JSON object on one line.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), WriteError> {
        let text =
            serde_json::to_string(value).map_err(|error| WriteError::Failed(Failure::new("writing JSON", error)))?;
        self.line(&text)
    }

    /// Writes one JSON document for people to read.
    pub(crate) fn json_pretty(&mut self, value: &impl Serialize) -> Result<(), WriteError> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| WriteError::Failed(Failure::new("writing JSON", error)))?;
        self.line(&text)
    }

    /// Hands over what is buffered.
    pub(crate) fn finish(&mut self) -> Result<(), WriteError> {
        Ok(self.0.flush()?)
    }
}

/// Disconnected once nobody can read stdout any more: for who waits for something to write, and would else stay until
/// that comes.
pub(crate) fn unread() -> Receiver<Infallible> {
    unread_at(io::stdout().as_fd().try_clone_to_owned())
}

/// The same of stderr.
pub(crate) fn unread_errors() -> Receiver<Infallible> {
    unread_at(io::stderr().as_fd().try_clone_to_owned())
}

fn unread_at(stream: io::Result<OwnedFd>) -> Receiver<Infallible> {
    let (sender, unread) = bounded(0);
    let wait = move || {
        if stream.and_then(|stream| poll::wait_unread(&stream)).is_ok() {
            drop(sender);
        } else {
            // It cannot be told: then a write tells it.
            std::mem::forget(sender);
        }
    };
    match threads::start("unread", 64, wait) {
        Ok(_) => unread,
        Err(_) => never(),
    }
}

/// Whether stdout gets colour (no-color.org, bixense.com/clicolors).
pub(crate) fn colored(choice: Color) -> bool {
    match choice {
        Color::Always => true,
        Color::Never => false,
        Color::Auto if env::get("NO_COLOR").is_some() => false,
        Color::Auto if env::get("CLICOLOR_FORCE").is_some_and(|value| value != "0") => true,
        Color::Auto => {
            io::stdout().is_terminal()
                && env::get("TERM").is_none_or(|term| term != "dumb")
                && env::get("CLICOLOR").is_none_or(|value| value != "0")
        }
    }
}

/// Rows under a heading, in columns as wide as their widest cell; the last one is not padded.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let columns = heading.len();
    let mut widths: Vec<usize> = heading.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let format = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (at, cell) in cells.enumerate() {
            line.push_str(cell);
            if at + 1 < columns {
                let padding = widths[at].saturating_sub(cell.chars().count()) + 2;
                line.extend(std::iter::repeat_n(' ', padding));
            }
        }
        line.trim_end().to_owned()
    };
    let first = format(&mut heading.iter().copied());
    std::iter::once(first).chain(rows.iter().map(|row| format(&mut row.iter().map(String::as_str)))).collect()
}

/// A word as a POSIX shell reads it back.
pub(crate) fn shell_quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(shell_quoted("a-b=/c"), "a-b=/c");
        assert_eq!(shell_quoted(""), "''");
        assert_eq!(shell_quoted("it's $x"), "'it'\\''s $x'");
    }

    #[test]
    fn tables_line_up_and_have_no_trailing_blanks() {
        let rows = [vec!["a".to_owned(), "b".to_owned()], vec!["ccc".to_owned(), String::new()]];
        assert_eq!(table(&["X", "Y"], &rows), ["X    Y", "a    b", "ccc"]);
    }
}
