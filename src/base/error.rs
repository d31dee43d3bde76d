//! The one error that reaches a user: what failed, why, and what to do about it.

use std::{fmt, io};

/// A failure in words: printed as `fosse: WHAT failed: WHY`, then `hint: WHAT TO DO`. What was wrong from the start,
/// such as an option, did not fail: `fosse: invalid WHAT: WHY`.
///
/// Modules whose callers must branch on the cause have an error type of their own and turn into this one at
/// the edge; everything else uses it directly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    what: String,
    why: String,
    hint: Option<String>,
    invalid: bool,
}

/// A result whose error is ready for the user.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// `what` is the step in the -ing form ("creating the container"), `why` the cause.
    pub(crate) fn new(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Failure { what: what.into(), why: one_line(&why.to_string()), hint: None, invalid: false }
    }

    /// A mistake in what was typed: `what` is the kind of word, such as "option".
    pub(crate) fn invalid(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Failure { invalid: true, ..Failure::new(what, why) }
    }

    /// Adds the line that says what to do.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(one_line(&hint.into()));
        self
    }

    /// For what needed a process or thread more: the kernel says no more than "try again".
    pub(crate) fn starting(what: impl Into<String>, error: &io::Error) -> Self {
        let failure = Failure::new(what, error);
        match error.kind() {
            io::ErrorKind::WouldBlock => failure.hint("raise the limit on processes and threads: ulimit -u"),
            _ => failure,
        }
    }

    /// What to do about it, if there is something.
    pub(crate) fn advice(&self) -> Option<&str> {
        exhausted(&self.why).or(self.hint.as_deref())
    }

    /// The cause alone, as it is kept in a record.
    pub(crate) fn why(&self) -> &str {
        &self.why
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.invalid {
            false => write!(f, "{} failed: {}", self.what, self.why),
            true => write!(f, "invalid {}: {}", self.what, self.why),
        }
    }
}

impl std::error::Error for Failure {}

/// Whatever was being done, what ran out is one and the same, and std names it in the same way.
fn exhausted(why: &str) -> Option<&'static str> {
    let known = [
        (libc::EMFILE, "raise the limit on open files: ulimit -n 256"),
        (libc::ENFILE, "no process on this machine can open more files: as root, sysctl -w fs.file-max=1000000"),
        (libc::EFBIG, "raise the limit on the size of files: ulimit -f unlimited"),
        (libc::EDQUOT, "this user's disk quota is used up: fosse clean removes ended runs"),
        (
            libc::E2BIG,
            "arguments and variables together are too long: put them into a file, or pass them by -i on stdin",
        ),
    ];
    let is = |number: i32| why.ends_with(&format!("(os error {number})"));
    known.into_iter().find(|(number, _)| is(*number)).map(|(_, hint)| hint)
}

/// The most characters of foreign text in a message.
const MESSAGE_MAX: usize = 600;

/// Folds line ends and control bytes, so that foreign text cannot forge a second message or move the cursor; cuts
/// what is longer than anyone reads.
pub(crate) fn one_line(text: &str) -> String {
    let mut out = String::new();
    for piece in text.split(['\n', '\r']).map(str::trim).filter(|piece| !piece.is_empty()) {
        if !out.is_empty() {
            out.push_str("; ");
        }
        out.extend(piece.chars().take(MESSAGE_MAX).map(|c| if c.is_control() { '?' } else { c }));
        if out.len() > MESSAGE_MAX {
            let end = out.char_indices().nth(MESSAGE_MAX).map_or(out.len(), |(at, _)| at);
            out.truncate(end);
            out.push('…');
            break;
        }
    }
    out
}

/// For what is tried and may fail: nobody is worse off than without the try, and nobody could be told.
pub(crate) trait Ignore {
    /// Goes on whatever came of it.
    fn ignore(self);
}

impl<T, E> Ignore for std::result::Result<T, E> {
    fn ignore(self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_the_cause_says() {
        let failure = Failure::new("creating", "a\n\n  b\u{1b}[2J\r\nc").hint("x\ny");
        assert_eq!(failure.to_string(), "creating failed: a; b?[2J; c");
        assert_eq!(failure.advice(), Some("x; y"));
        assert_eq!(Failure::invalid("option", "--a\nb").to_string(), "invalid option: --a; b");
        let full = |number| Failure::new("creating", io::Error::from_raw_os_error(number)).hint("is it writable?");
        assert_eq!(full(libc::EACCES).advice(), Some("is it writable?"));
        assert!(full(libc::EMFILE).advice().unwrap().contains("ulimit -n"));
        assert!(one_line(&"noise\n".repeat(10_000)).chars().count() <= MESSAGE_MAX + 1);
        assert!(one_line(&"é".repeat(10_000)).chars().count() <= MESSAGE_MAX + 1);
    }
}
