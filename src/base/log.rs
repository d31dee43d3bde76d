//! What fosse has to say: one line each on stderr, prefixed `fosse: `. stdout is never touched.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::base::error::Ignore;
use crate::base::sync::locked;
use crate::base::time::Timestamp;

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Errors only (`-q`).
    Quiet = 0,
    /// Errors and warnings.
    Normal = 1,
    /// Progress as well (`-v`, or stderr is a terminal).
    Verbose = 2,
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Normal as u8);

/// Sets how much is said, once, when the arguments are known.
pub(crate) fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

static UNREAD: AtomicBool = AtomicBool::new(false);

/// Says nothing more, not even errors: nobody reads stderr, and a line on a full pipe would wait for ever.
pub(crate) fn nobody_reads() {
    UNREAD.store(true, Ordering::Relaxed);
}

/// Lines that wait, while somebody else has the terminal.
static HELD: Mutex<Option<Vec<String>>> = Mutex::new(None);

/// The most lines that wait.
const HELD_MAX: usize = 1000;

/// Keeps back what is said, until [`release`]: it would be drawn into a command's screen.
pub(crate) fn hold() {
    locked(&HELD).get_or_insert_with(Vec::new);
}

/// Says what was kept back.
pub(crate) fn release() {
    let held = locked(&HELD).take();
    for line in held.into_iter().flatten() {
        write(&line);
    }
}

static STAMPED: AtomicBool = AtomicBool::new(false);

/// Every line begins with the time instead of the program's name from now on: stderr is a log.
pub(crate) fn stamp() {
    STAMPED.store(true, Ordering::Relaxed);
}

fn says(level: Level) -> bool {
    LEVEL.load(Ordering::Relaxed) >= level as u8
}

/// Who says it.
const PROGRAM: &str = "fosse";

/// Writes one line. A stderr that is closed or full changes nothing else.
fn line(prefix: &str, text: &str) {
    if UNREAD.load(Ordering::Relaxed) {
        return;
    }
    let whole = match (STAMPED.load(Ordering::Relaxed), prefix) {
        (true, PROGRAM) => format!("{} {text}\n", Timestamp::now()),
        (true, prefix) => format!("{} {prefix}: {text}\n", Timestamp::now()),
        (false, prefix) => format!("{prefix}: {text}\n"),
    };
    match &mut *locked(&HELD) {
        Some(held) if held.len() < HELD_MAX => held.push(whole),
        Some(_) => {}
        None => write(&whole),
    }
}

fn write(line: &str) {
    std::io::stderr().lock().write_all(line.as_bytes()).ignore();
}

/// A failure: said at every level.
pub(crate) fn error(failure: &crate::base::error::Failure) {
    line(PROGRAM, &failure.to_string());
    if let Some(advice) = failure.advice() {
        line("hint", advice);
    }
}

/// Something that went wrong beside the point.
pub(crate) fn warn(text: &str) {
    if says(Level::Normal) {
        line(PROGRAM, text);
    }
}

/// Something that was asked for and done.
pub(crate) fn info(text: &str) {
    if says(Level::Normal) {
        line(PROGRAM, text);
    }
}

/// Whether people are told of progress.
pub(crate) fn shows_progress() -> bool {
    says(Level::Verbose)
}

/// Progress, for people.
pub(crate) fn progress(text: &str) {
    if says(Level::Verbose) {
        line(PROGRAM, text);
    }
}
