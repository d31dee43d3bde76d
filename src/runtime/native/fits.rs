//! What of a run this runtime can do at all: judged before anything is made.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::squash;
use crate::runtime::Unfit;
use crate::runtime::spec::{Mount, Network, Spec, WORKSPACE};

/// Where the kernel itself says what is there: what is mounted over it, nobody would find, or it cannot be mounted.
const KERNELS: [&str; 2] = ["/proc", "/dev/pts"];

/// Refuses what cannot be done; `caller` is the user and group.
pub(crate) fn check(spec: &Spec, caller: (u32, u32)) -> Result<(), Unfit> {
    let unfit = |why: &str, hint: &str| Err(Unfit { why: why.into(), hint: hint.into() });
    if !spec.image.is_empty() {
        return unfit("the native runtime runs the host's programs and takes no image", "--runtime docker or podman");
    }
    if spec.network == Network::Private {
        let why = "the native runtime has no private network: this would need rights on the host's";
        return unfit(why, "--network none, or --network open, or docker or podman with an image");
    }
    if spec.keep {
        let why = "the native runtime has nothing that could be kept: a sandbox ends with its command";
        return unfit(why, "what is to stay belongs in the workspace");
    }
    spec.mounts.iter().try_for_each(mount)?;
    let workspace = spec.mounts.iter().find(|mount| mount.target == Path::new(WORKSPACE));
    let is_root = caller.0 == 0 && spec.user.ids_or(caller).0 == 0;
    if let Some(unfit) = workspace.filter(|_| is_root).and_then(|w| squash::refusal(&w.source, !w.read_only)) {
        return Err(unfit);
    }
    if spec.pids.is_some_and(|pids| pids < 2) {
        return unfit("--pids 1 leaves no room for a command beside its init", "--pids 2 or more");
    }
    Ok(())
}

fn mount(mount: &Mount) -> Result<(), Unfit> {
    let kind = fs::metadata(&mount.source).map(|about| about.file_type());
    let device = kind.is_ok_and(|kind| kind.is_char_device() || kind.is_block_device());
    if device && mount.read_only {
        let why = format!("{} is a device, which takes what is written to it", mount.source.display());
        return Err(Unfit { why, hint: "a device cannot be mounted read-only: leave :ro out".into() });
    }
    // Also by a link of the host's, which is one inside: /etc/mtab.
    let real = fs::canonicalize(&mount.target).unwrap_or_else(|_| mount.target.clone());
    let is_in = |path: &Path| KERNELS.iter().find(|kernels| path.starts_with(kernels));
    match is_in(&mount.target).or_else(|| is_in(&real)) {
        Some(kernels) => {
            let why = format!("{} is in {kernels}, where only the kernel puts something", mount.target.display());
            Err(Unfit { why, hint: "mount it at another path".into() })
        }
        None => Ok(()),
    }
}
