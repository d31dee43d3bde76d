//! How a command ended, in a file: `fosse init --exit-file` leaves it where no descriptor can be handed out (a virtual
//! machine), in a directory that the owner of the place shares with it.
//!
//! The command may be able to write there too, so that what is found there is nothing without the key: a secret that
//! the owner leaves beside the file, and that init takes away before it starts anything. The end carries all of it, and
//! is written when nobody is left. The notice that the command runs is written while it may be looking on, and carries
//! one half: whoever reads it there can say no more with it than that the command runs, which is true.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::base::fs::read_bounded;
use crate::base::id::random_hex;

/// The file's customary name: what [`read`] looks for.
pub const NAME: &str = "exit";

/// What is added to the file's name for that of the key's.
pub(crate) const KEY_SUFFIX: &str = ".key";

/// The most bytes a key may have.
pub(crate) const MAX_KEY: u64 = 64;

/// The most bytes a file may have.
const MAX_BYTES: usize = 4096;

/// What the file says. There are three kinds: the command runs (neither code nor error), it has ended (a code), it
/// could not be started (not started, a code and an error).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct ExitFile {
    /// The key, or its half.
    pub(crate) key: String,
    /// Whether the command was started.
    pub started: bool,
    /// Its exit code, 128+N if signal N ended it; null while it runs.
    pub code: Option<u8>,
    /// The signal that ended it.
    pub signal: Option<u8>,
    /// Whether the kernel killed it for memory.
    #[serde(default)]
    pub oom: bool,
    /// Why it could not be started.
    pub error: Option<String>,
}

impl ExitFile {
    /// The command runs.
    pub fn running(key: &str) -> ExitFile {
        ExitFile { key: half(key).to_owned(), started: true, code: None, signal: None, oom: false, error: None }
    }

    /// The command has ended.
    pub fn ended(key: &str, code: u8, signal: Option<u8>, oom: bool) -> ExitFile {
        ExitFile { key: key.to_owned(), started: true, code: Some(code), signal, oom, error: None }
    }

    /// The command could not be started.
    pub(crate) fn unstarted(key: &str, code: u8, why: &str) -> ExitFile {
        let error = Some(why.to_owned());
        ExitFile { key: key.to_owned(), started: false, code: Some(code), signal: None, oom: false, error }
    }

    /// Whether it is one of the three kinds.
    fn is_coherent(&self) -> bool {
        match (self.started, self.code) {
            (true, None) => self.is_notice(),
            (true, Some(code)) => {
                let of_signal = self.signal.is_none_or(|signal| (1..=64).contains(&signal) && code == 128 + signal);
                of_signal && self.error.is_none() && (!self.oom || self.signal == Some(9))
            }
            (false, code) => code.is_some() && self.error.is_some() && self.signal.is_none() && !self.oom,
        }
    }

    fn is_notice(&self) -> bool {
        self.started && self.code.is_none() && self.signal.is_none() && !self.oom && self.error.is_none()
    }
}

/// A new key.
pub(crate) fn new_key() -> io::Result<String> {
    random_hex(16)
}

/// What a notice shows of a key.
fn half(key: &str) -> &str {
    let middle = key.char_indices().nth(key.chars().count() / 2).map_or(0, |(at, _)| at);
    &key[..middle]
}

/// Reads what the file has; none unless it is well-formed, of one of the three kinds, and carries this key: all of it,
/// or if it is a notice at least the half that a notice has. Without a key nothing is believed.
pub fn parse(bytes: &[u8], key: &str) -> Option<ExitFile> {
    if bytes.len() > MAX_BYTES {
        return None;
    }
    let file: ExitFile = serde_json::from_slice(bytes).ok()?;
    let carries = file.key == key || (file.is_notice() && file.key == half(key));
    (!file.key.is_empty() && carries && file.is_coherent()).then_some(file)
}

/// The bytes of a file: JSON on one line.
pub fn format(file: &ExitFile) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(file).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Reads the file [`NAME`] of a directory that a command may have written in: none if there is none to be believed.
pub fn read(directory: &Path, key: &str) -> Option<ExitFile> {
    let bytes = read_bounded(&directory.join(NAME), MAX_BYTES as u64).ok()?;
    parse(&bytes, key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "0123456789abcdef";

    fn line(text: &str) -> Option<ExitFile> {
        parse(text.as_bytes(), KEY)
    }

    #[test]
    fn what_is_written_is_one_line_and_comes_back() {
        for file in [
            ExitFile::running(KEY),
            ExitFile::ended(KEY, 0, None, false),
            ExitFile::ended(KEY, 255, None, false),
            ExitFile::ended(KEY, 137, Some(9), true),
            ExitFile::ended(KEY, 192, Some(64), false),
            ExitFile::unstarted(KEY, 127, "No such file or directory (os error 2)"),
        ] {
            let bytes = format(&file);
            assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(parse(&bytes, KEY), Some(file));
        }
        let text = String::from_utf8(format(&ExitFile::ended("k", 143, Some(15), false))).unwrap();
        let wanted = r#"{"key":"k","started":true,"code":143,"signal":15,"oom":false,"error":null}"#;
        assert_eq!(text, format!("{wanted}\n"));
    }

    #[test]
    fn a_notice_shows_half_of_the_key_and_half_of_the_key_makes_no_more_than_a_notice() {
        let notice = ExitFile::running(KEY);
        assert_eq!(notice.key, "01234567");
        assert_eq!(parse(&format(&notice), KEY), Some(notice.clone()));
        for forged in [
            ExitFile { code: Some(0), ..notice.clone() },
            ExitFile { error: Some("x".into()), ..notice.clone() },
            ExitFile::unstarted(&notice.key, 127, "x"),
            ExitFile::ended(&notice.key, 137, Some(9), true),
        ] {
            assert_eq!(parse(&format(&forged), KEY), None, "{forged:?}");
        }
    }

    #[test]
    fn without_the_very_key_nothing_is_believed() {
        let good = |key: &str| ExitFile::ended(key, 0, None, false);
        for (written, wanted) in [("", ""), ("", "k"), ("k", ""), ("k", "K"), ("k", "kk"), ("kk", "k"), (" k", "k")] {
            assert_eq!(parse(&format(&good(written)), wanted), None, "{written:?} {wanted:?}");
        }
        // Half of so short a key is nothing.
        assert_eq!(parse(&format(&ExitFile::running("k")), "k"), None);
        assert_eq!(half("äöü"), "ä");
    }

    #[test]
    fn what_no_init_writes_is_not_believed() {
        let rest = r#""code":137,"signal":9,"oom":true,"error":null}"#;
        assert!(line(&format!(r#"{{"key":"{KEY}","started":true,{rest}"#)).is_some());
        for (started, rest) in [
            ("true", r#""code":137,"signal":9,"oom":true,"error":null} {}"#),
            ("true", r#""code":137,"signal":9,"oom":true,"error":null"#),
            ("true", r#""code":137,"code":0,"signal":9,"oom":true,"error":null}"#),
            ("true", r#""code":136,"signal":9,"oom":false,"error":null}"#),
            ("true", r#""code":128,"signal":0,"oom":false,"error":null}"#),
            ("true", r#""code":193,"signal":65,"oom":false,"error":null}"#),
            ("true", r#""code":143,"signal":15,"oom":true,"error":null}"#),
            ("true", r#""code":137,"signal":null,"oom":true,"error":null}"#),
            ("true", r#""code":null,"signal":9,"oom":false,"error":null}"#),
            ("true", r#""code":0,"signal":null,"oom":false,"error":"x"}"#),
            ("true", r#""code":256,"signal":null,"oom":false,"error":null}"#),
            ("true", r#""code":-1,"signal":null,"oom":false,"error":null}"#),
            ("true", r#""code":"0","signal":null,"oom":false,"error":null}"#),
            ("false", r#""code":127,"signal":null,"oom":false,"error":null}"#),
            ("false", r#""code":null,"signal":null,"oom":false,"error":"x"}"#),
            ("false", r#""code":137,"signal":9,"oom":false,"error":"x"}"#),
            ("null", r#""code":0,"signal":null,"oom":false,"error":null}"#),
        ] {
            assert_eq!(line(&format!(r#"{{"key":"{KEY}","started":{started},{rest}"#)), None, "{started} {rest}");
        }
        let long = " ".repeat(MAX_BYTES);
        assert_eq!(line(&format!(r#"{{"key":"{KEY}","started":true,{rest}{long}"#)), None);
        for text in ["", "\n", "{}", "[]", "null", "\u{0}"] {
            assert_eq!(line(text), None, "{text:?}");
        }
        assert_eq!(parse(b"\xff\xfe", KEY), None);
    }

    #[test]
    fn a_file_in_the_place_of_which_there_is_something_else_is_none() {
        let dir = std::env::temp_dir().join(format!("fosse-exit-{}", random_hex(6).unwrap()));
        std::fs::create_dir(&dir).unwrap();
        let (path, good) = (dir.join(NAME), ExitFile::ended(KEY, 3, None, false));
        assert_eq!(read(&dir, KEY), None);
        std::fs::write(&path, format(&good)).unwrap();
        assert_eq!(read(&dir, KEY), Some(good));
        std::fs::rename(&path, dir.join("else")).unwrap();
        std::os::unix::fs::symlink("else", &path).unwrap();
        assert_eq!(read(&dir, KEY), None);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(read(&dir, KEY), None);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    proptest! {
        /// Whatever a command writes without the key: never a code, and never a panic.
        #[test]
        fn no_bytes_make_a_code_without_the_key(bytes in prop::collection::vec(any::<u8>(), 0..300), code: u8) {
            prop_assert_eq!(parse(&bytes, KEY), None);
            let guess = String::from_utf8_lossy(&bytes).into_owned();
            prop_assert_eq!(parse(&format(&ExitFile::ended(&guess, code, None, false)), KEY), None);
        }

        /// Whatever was to be said fits, and comes back: a key has 64 bytes, an error 600 characters.
        #[test]
        fn everything_that_can_be_said_can_be_read(key in "\\PC{2,16}", why in "\\PC{0,600}", code: u8) {
            for file in [ExitFile::ended(&key, code, None, false), ExitFile::unstarted(&key, code, &why)] {
                let bytes = format(&file);
                prop_assert_eq!(parse(&bytes, &key), Some(file));
            }
            prop_assert!(parse(&format(&ExitFile::running(&key)), &key).is_some());
        }
    }
}
