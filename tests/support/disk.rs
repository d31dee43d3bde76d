//! A disk that is soon full.

use std::process::Command;

/// A small file system of its own.
pub struct TinyDisk<'a>(&'a std::path::Path);

impl<'a> TinyDisk<'a> {
    /// Mounts it, if that is possible here.
    pub fn mount(at: &'a std::path::Path, size: &str) -> Option<Self> {
        let option = format!("size={size},mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &option, "fosse-test"]).arg(at).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(TinyDisk(at));
        }
        crate::support::left_out("mounting a small disk needs root");
        None
    }
}

impl Drop for TinyDisk<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0).status().map(drop).unwrap_or_default();
    }
}
