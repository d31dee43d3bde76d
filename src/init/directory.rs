//! The directory that a run's command starts in.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Enters it. One that is missing is made, by the command's own user, but in nothing that is `shared` with the host: there
/// it would stay.
pub(crate) fn enter(dir: &Path, shared: &[Vec<u8>]) -> io::Result<()> {
    let missing = match std::env::set_current_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => error,
        other => return other,
    };
    let Some(there) = dir.ancestors().find_map(|dir| fs::canonicalize(dir).ok()) else { return Err(missing) };
    let holds = |top: &Vec<u8>| fs::canonicalize(OsStr::from_bytes(top)).is_ok_and(|top| there.starts_with(top));
    if shared.iter().any(holds) {
        return Err(missing);
    }
    fs::create_dir_all(dir)?;
    std::env::set_current_dir(dir)
}
