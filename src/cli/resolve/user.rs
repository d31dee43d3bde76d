//! Who the command is inside: `caller` means that files made in the workspace belong to the caller, on every engine.

use super::{mistake, unusable};
use crate::base::error::Result;
use crate::runtime::{About, Runtime, User};
use crate::sys::process::effective_ids;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Whoever makes files belong to the caller.
    Caller,
    /// Whoever the image says.
    Image,
    /// These ids.
    Ids(u32, u32),
}

/// Reads `--user`.
pub(crate) fn parse(text: &str) -> Result<Choice> {
    let refuse = || mistake(format!("--user {text:?} is not caller, image, root or UID[:GID]"));
    let number = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // The largest id means "nobody in particular" to the kernel.
        plain.then(|| text.parse::<u32>().ok())?.filter(|id| *id != u32::MAX)
    };
    match text {
        "caller" => Ok(Choice::Caller),
        "image" => Ok(Choice::Image),
        "root" => Ok(Choice::Ids(0, 0)),
        _ => {
            let (uid, gid) = text.split_once(':').unwrap_or((text, text));
            Ok(Choice::Ids(number(uid).ok_or_else(refuse)?, number(gid).ok_or_else(refuse)?))
        }
    }
}

/// The ids inside, by how the engine maps them.
pub(crate) fn resolve(choice: Choice, runtime: &dyn Runtime) -> Result<User> {
    match choice {
        Choice::Image => Ok(User::Image),
        Choice::Ids(uid, gid) => Ok(User::Ids { uid, gid, host_ids: false }),
        Choice::Caller => {
            let about = runtime.about(runtime.limits().query()).map_err(|error| unusable(runtime.kind(), &error))?;
            Ok(caller(about, effective_ids()))
        }
    }
}

fn caller(about: About, (uid, gid): (u32, u32)) -> User {
    if about.rootless {
        // Root inside is the caller outside.
        User::Ids { uid: 0, gid: 0, host_ids: false }
    } else {
        User::Ids { uid, gid, host_ids: about.remapped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read_as_the_contract_says() {
        assert_eq!(parse("7").unwrap(), Choice::Ids(7, 7));
        assert_eq!(parse("7:8").unwrap(), Choice::Ids(7, 8));
        assert_eq!(parse("root").unwrap(), Choice::Ids(0, 0));
        for bad in ["", "bob", "7:", ":7", "-1", "7:8:9", "4294967295", "4294967296", "+1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_caller_is_who_owns_the_files_outside() {
        let engine = |rootless, remapped| About { rootless, remapped };
        assert_eq!(caller(engine(false, false), (7, 8)), User::Ids { uid: 7, gid: 8, host_ids: false });
        assert_eq!(caller(engine(true, false), (7, 8)), User::Ids { uid: 0, gid: 0, host_ids: false });
        assert_eq!(caller(engine(false, true), (7, 8)), User::Ids { uid: 7, gid: 8, host_ids: true });
    }
}
