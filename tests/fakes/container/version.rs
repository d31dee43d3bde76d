//! Which release of the tool is played. Everything that differs between releases asks here.

use std::fmt;

/// A release, which others are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Reads `1.2.2`; what is left out is 0.
    pub fn parse(text: &str) -> Option<Version> {
        let mut parts = text.split('.').map(str::parse);
        let mut next = || parts.next().unwrap_or(Ok(0)).ok();
        Some(Version(next()?, next()?, next()?))
    }

    /// 1.0: JSON with sorted keys and real dates, strict inspect, broken forwarding of signals.
    pub fn is_modern(self) -> bool {
        self >= Version(1, 0, 0)
    }

    /// 0.10: errors are shown without the code in front.
    pub fn has_plain_errors(self) -> bool {
        self >= Version(0, 10, 0)
    }

    /// 0.11: a verb that stops or deletes minds that there is no such container, and says so in an aggregate.
    pub fn is_strict(self) -> bool {
        self >= Version(0, 11, 0)
    }

    /// 0.12: progress as plain lines where there is no terminal.
    pub fn has_plain_progress(self) -> bool {
        self >= Version(0, 12, 0)
    }

    /// Up to 1.2.x a slash in JSON is escaped.
    pub fn escapes_slashes(self) -> bool {
        self < Version(1, 3, 0)
    }

    /// The last that forwarded signals to the command was 0.12.
    pub fn forwards_signals(self) -> bool {
        !self.is_modern()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}
