//! Ids and names of runs: parsed once, then trusted.

use std::fmt;
use std::io::Read;

use serde::{Deserialize, Serialize};

/// A run's id: 12 lower-case hex digits, random.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

impl RunId {
    /// The number of hex digits.
    pub(crate) const LEN: usize = 12;

    /// A new random id.
    pub(crate) fn random() -> std::io::Result<Self> {
        random_hex(Self::LEN / 2).map(RunId)
    }

    /// Reads an exact id.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (text.len() == Self::LEN && text.bytes().all(hex)).then(|| RunId(text.to_owned()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of this run's objects in an engine.
    pub(crate) fn object_name(&self) -> String {
        format!("fosse-{}", self.0)
    }
}

impl TryFrom<String> for RunId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        RunId::parse(&text).ok_or_else(|| format!("not a run id: {text:?}"))
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> String {
        id.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a run's name looks like, for messages.
pub(crate) const NAME_FORM: &str =
    "a name of 1 to 63 of the characters a-z 0-9 _ . - that starts with a letter or digit";

/// A run's name, unique among live runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunName(String);

impl RunName {
    /// Reads a name; the error says what one looks like.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let later = |b: u8| first(b) || matches!(b, b'_' | b'.' | b'-');
        let good = text.len() <= 63 && text.bytes().next().is_some_and(first) && text.bytes().all(later);
        if good { Ok(RunName(text.to_owned())) } else { Err(format!("{text:?} is not {NAME_FORM}")) }
    }

    /// A generated name: an adjective, a noun and the start of the id, so that it is easy to say and to tell apart.
    pub(crate) fn generated(id: &RunId) -> Self {
        const ADJECTIVES: [&str; 16] = [
            "amber", "brisk", "calm", "deep", "early", "fair", "green", "high", "keen", "late", "mild", "north",
            "plain", "quiet", "swift", "warm",
        ];
        const NOUNS: [&str; 16] = [
            "ash", "bank", "brook", "cliff", "dale", "elm", "fen", "glen", "heath", "isle", "lake", "moor", "oak",
            "pond", "reed", "weir",
        ];
        let digit = |at: usize| usize::from_str_radix(&id.0[at..=at], 16).unwrap_or(0);
        RunName(format!("{}-{}-{}", ADJECTIVES[digit(0)], NOUNS[digit(1)], &id.0[2..6]))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RunName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        RunName::parse(&text)
    }
}

impl From<RunName> for String {
    fn from(name: RunName) -> String {
        name.0
    }
}

impl fmt::Display for RunName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `bytes` random bytes as hex, from the kernel's generator (random(4)).
pub fn random_hex(bytes: usize) -> std::io::Result<String> {
    let mut buffer = vec![0_u8; bytes];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut buffer)?;
    Ok(buffer.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_checked_as_the_contract_says() {
        for good in ["a", "0", "web-1", "a.b_c", &"x".repeat(63)] {
            assert!(RunName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a b", "é", "a/b", "..", &"x".repeat(64), "a\n"] {
            assert!(RunName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn generated_names_are_valid_and_ids_differ() {
        let (a, b) = (RunId::random().unwrap(), RunId::random().unwrap());
        assert_ne!(a, b);
        assert!(RunId::parse(a.as_str()).is_some());
        assert!(RunName::parse(RunName::generated(&a).as_str()).is_ok());
    }

    proptest! {
        #[test]
        fn every_id_has_a_valid_generated_name(hex in "[0-9a-f]{12}") {
            let id = RunId::parse(&hex).unwrap();
            prop_assert!(RunName::parse(RunName::generated(&id).as_str()).is_ok());
        }
    }
}
