//! What is never hidden, whoever's home it is said to be and whatever its mode: without it nothing runs.

use std::path::{Path, PathBuf};

/// Directories of the system itself. `lib*` at the root belongs to them.
const DIRECTORIES: [&str; 33] = [
    "/",
    "/bin",
    "/etc",
    "/gnu",
    "/gnu/store",
    "/nix",
    "/nix/store",
    "/nix/var",
    "/opt",
    "/sbin",
    "/snap",
    "/usr",
    "/usr/bin",
    "/usr/games",
    "/usr/include",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/local",
    "/usr/local/bin",
    "/usr/local/lib",
    "/usr/local/sbin",
    "/usr/local/share",
    "/usr/sbin",
    "/usr/share",
    "/usr/src",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/lib/dpkg",
    "/var/lib/rpm",
    "/var/log",
];

/// What programs look up in /etc, to find names, libraries and the authorities of certificates.
const LOOKED_UP: [&str; 10] = [
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/group",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/resolv.conf",
    "/etc/ssl/certs",
];

/// Whether hiding this path, a real one, would take more than a secret: it is needed, or something needed is below.
pub(crate) fn is_needed(path: &Path) -> bool {
    DIRECTORIES.iter().any(|needed| path == Path::new(needed))
        || LOOKED_UP.iter().any(|needed| Path::new(needed).starts_with(path))
        || is_library(path)
}

/// `/lib`, `/lib64` and so on, and the loader's configuration and cache.
fn is_library(path: &Path) -> bool {
    let Some(text) = path.to_str() else { return false };
    let top = text.strip_prefix("/lib").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    top || text.starts_with("/etc/ld.so.")
}

/// A path, unless it is needed.
pub(crate) fn not_needed(path: PathBuf) -> Option<PathBuf> {
    (!is_needed(&path)).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_needed_and_what_is_beside_it_is_not() {
        for needed in [
            "/",
            "/usr",
            "/etc",
            "/lib",
            "/lib64",
            "/libx32",
            "/etc/ssl",
            "/etc/ssl/certs",
            "/etc/ld.so.conf.d",
            "/var/lib",
        ] {
            assert!(is_needed(Path::new(needed)), "{needed}");
            assert_eq!(not_needed(needed.into()), None);
        }
        for other in
            ["/srv", "/data", "/library.d", "/lib/x", "/etc/shadow", "/etc/ssl/private", "/var/lib/x", "/usr/home"]
        {
            assert!(!is_needed(Path::new(other)), "{other}");
            assert_eq!(not_needed(other.into()), Some(other.into()));
        }
    }
}
