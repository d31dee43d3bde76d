//! Paths in JSON: text where they are UTF-8, `{"bytes": […]}` where they are not.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Text(PathBuf),
    Bytes { bytes: Vec<u8> },
}

/// For `serialize_with`.
pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    let form = match path.to_str() {
        Some(_) => Form::Text(path.to_owned()),
        None => Form::Bytes { bytes: path.as_os_str().as_bytes().to_vec() },
    };
    form.serialize(serializer)
}

/// For `deserialize_with`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    Ok(match Form::deserialize(deserializer)? {
        Form::Text(path) => path,
        Form::Bytes { bytes } => PathBuf::from(OsString::from_vec(bytes)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct One {
        #[serde(with = "super")]
        path: PathBuf,
    }

    #[test]
    fn every_path_comes_back_as_it_was() {
        for bytes in [&b"/a b\n\"c"[..], b"/\xff\xfe/x", b"/\xc3\xa4"] {
            let one = One { path: PathBuf::from(OsString::from_vec(bytes.to_vec())) };
            let text = serde_json::to_string(&one).unwrap();
            assert_eq!(serde_json::from_str::<One>(&text).unwrap(), one, "{text}");
        }
        let text = serde_json::to_string(&One { path: "/a b".into() }).unwrap();
        assert_eq!(text, r#"{"path":"/a b"}"#);
    }
}
