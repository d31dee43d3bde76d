//! File systems on which root is somebody else: network file systems whose server takes root for nobody (exports(5),
//! root_squash), and those of a user's own program, which the kernel shows to nobody else (fuse(4), allow_other).
//!
//! On any other one root without its rights over files is in a container or a user namespace, and what it may do
//! there is the modes' matter.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::host;
use crate::runtime::Unfit;
use crate::sys::fd::is_denied;

/// What is known of a directory that root wants to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen<'p> {
    path: &'p Path,
    /// The name of its file system.
    kind: &'p str,
    /// Whether it can be read and entered.
    reads: bool,
    /// Whether it can be written, if that is wanted.
    writes: bool,
    /// Whose it is, where that is to be had.
    owner: Option<u32>,
}

/// Why root cannot use a directory, if its file system is the reason. Others are never refused.
pub(crate) fn refusal(path: &Path, write: bool) -> Option<Unfit> {
    let (reads, writes) = (!is_denied(path, false), !write || !is_denied(path, true));
    // The usual case asks for nothing more.
    if (reads && writes) || crate::sys::process::effective_ids().0 != 0 {
        return None;
    }
    let kind = host::foreign_file_system(path)?;
    let owner = std::fs::metadata(path).ok().map(|about| about.uid()).filter(|owner| *owner != 0);
    judge(Seen { path, kind: &kind, reads, writes, owner })
}

fn judge(seen: Seen<'_>) -> Option<Unfit> {
    let Seen { path, kind, reads, writes, owner } = seen;
    let what = match (reads, writes) {
        (true, true) => return None,
        (false, _) => "read",
        (true, false) => "write in",
    };
    let why = format!("{} is on {kind}, which does not let root {what} it", path.display());
    let hint = match owner {
        // Root still finds out what the workspace wants.
        Some(owner) if reads => format!("--user {owner}, its owner, or -m {}:DST:ro", path.display()),
        Some(owner) => format!("run fosse as its owner, user {owner}; --user {owner} is enough where root may read it"),
        None => "run fosse as its owner; --user OWNER is enough where root may read it".into(),
    };
    Some(Unfit { why, hint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_that_is_nobody_there_is_told_who_it_could_be() {
        let seen = Seen { path: Path::new("/net/w"), kind: "nfs4", reads: true, writes: true, owner: Some(1000) };
        assert!(judge(seen).is_none());
        for (reads, owner, what, hint) in [
            (true, Some(1000), "write in it", "--user 1000, its owner"),
            (false, Some(1000), "read it", "as its owner, user 1000"),
            (false, None, "read it", "--user OWNER"),
            (true, None, "write in it", "--user OWNER"),
        ] {
            let unfit = judge(Seen { reads, writes: false, owner, ..seen }).unwrap();
            assert_eq!(unfit.why, format!("/net/w is on nfs4, which does not let root {what}"));
            assert!(unfit.hint.contains(hint), "{}", unfit.hint);
        }
    }

    #[test]
    fn what_can_be_used_is_not_refused() {
        assert!(refusal(&std::env::temp_dir(), true).is_none());
        // Nor what is not there, which is somebody else's to say.
        assert!(refusal(Path::new("/no/such/directory"), true).is_none());
    }
}
