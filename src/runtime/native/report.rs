//! What a place in the making and its owner say to each other before init greets: the steps, and how far they came.
//! Each is a length and a JSON value, on the socket that then is init's.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::plan::{HostPath, Step};

/// What the owner is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// The process that is PID 1 inside has this number outside.
    Begun(i32),
    /// All steps are done.
    Done {
        /// What can only be read because the kernel refused an overlay over it.
        read_only: Vec<HostPath>,
        /// What is not shown because it cannot be shown as nobody's.
        left_out: Vec<HostPath>,
    },
    /// A step could not be done.
    Failed {
        /// Which; none if it was about no step.
        step: Option<Step>,
        /// Why (errno(3)); 0 if the kernel did not say.
        errno: i32,
        /// The same in words.
        why: String,
    },
}

/// The most bytes of one value.
const MOST: usize = 16 << 20;

/// Writes a value.
pub(crate) fn write(mut to: impl Write, value: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_all(&[&length.to_le_bytes()[..], &bytes].concat())
}

/// Reads a value, and not a byte more.
pub(crate) fn read<T: DeserializeOwned>(mut from: impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length)).map_err(io::Error::other)?;
    if length > MOST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_no_text_is_reported() {
        use std::os::unix::ffi::OsStrExt;
        let path = std::path::PathBuf::from(std::ffi::OsStr::from_bytes(b"/\xff"));
        let report = Report::Done { read_only: vec![HostPath(path)], left_out: Vec::new() };
        let mut bytes = Vec::new();
        write(&mut bytes, &report).unwrap();
        assert_eq!(read::<Report>(&bytes[..]).unwrap(), report);
    }

    #[test]
    fn a_value_comes_back_and_nothing_behind_it_is_read() {
        let step = Step::Overlay { path: "/usr".into(), holds: Vec::new(), owned: Vec::new() };
        let report = Report::Failed { step: Some(step), errno: 1, why: "no".into() };
        let mut bytes = Vec::new();
        write(&mut bytes, &report).unwrap();
        bytes.extend_from_slice(b"rest");
        let mut from = &bytes[..];
        assert_eq!(read::<Report>(&mut from).unwrap(), report);
        assert_eq!(from, b"rest");
        assert!(read::<Report>(&bytes[..9]).is_err());
        assert!(read::<Report>(&[255; 8][..]).is_err());
    }
}
