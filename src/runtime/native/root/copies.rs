//! Copies of the host's files that belong to the sandbox's user (`host::owned` says of which, and why).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::super::host::owned::SIZE_MAX;
use super::super::plan::HostPath;
use super::{Attributes, Links, Tree, Work, is_there, look_up, mount, permissions, relative};

impl Work {
    /// Puts copies into what keeps the changes of an overlay over `top`, before that is mounted.
    pub(super) fn keep_copies(&self, files: &[HostPath], top: &Path, upper: (&Path, BorrowedFd<'_>)) -> io::Result<()> {
        for HostPath(path) in files {
            let below = path.strip_prefix(top).map_err(io::Error::other)?;
            let Some(file) = self.original(path)? else { continue };
            let mut way: Vec<&Path> = below.ancestors().skip(1).filter(|way| !way.as_os_str().is_empty()).collect();
            way.reverse();
            for part in way {
                let original = look_up(self.host.as_fd(), &top.join(part), Links::Refused)?;
                is_there(mount::make_directory(upper.1, part, permissions(original.as_fd())?))?;
            }
            copy(file, &upper.0.join(below))?;
        }
        Ok(())
    }

    /// Puts copies over what is shown without an overlay.
    pub(super) fn mount_copies(&mut self, files: &[HostPath]) -> io::Result<()> {
        for HostPath(path) in files {
            let Some(file) = self.original(path)? else { continue };
            self.uppers += 1;
            let name = PathBuf::from(format!("/upper/{}", self.uppers));
            copy(file, &name)?;
            let tree = Tree::copy_of(look_up(self.scratch.as_fd(), &name, Links::Refused)?.as_fd())?;
            tree.restrict(Attributes { read_only: true, no_execution: false, no_devices: true })?;
            tree.attach(look_up(self.new.as_fd(), path, Links::Refused)?.as_fd())?;
        }
        Ok(())
    }

    /// Makes a copy where there is nothing yet.
    pub(super) fn copy(&self, path: &Path) -> io::Result<()> {
        match self.original(path)? {
            Some(file) => copy(file, &Path::new("/new").join(relative(path))),
            None => Ok(()),
        }
    }

    /// The host's file; none if it is gone or is no longer what it was found to be.
    fn original(&self, path: &Path) -> io::Result<Option<File>> {
        let file = match mount::open_file(self.host.as_fd(), path) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ELOOP | libc::EACCES)) => {
                return Ok(None);
            }
            file => file?,
        };
        let found = file.metadata()?;
        Ok((found.is_file() && found.len() <= SIZE_MAX).then_some(file))
    }
}

/// With the content, mode and time of the original.
fn copy(from: File, to: &Path) -> io::Result<()> {
    let found = from.metadata()?;
    let mode = found.permissions().mode() & 0o777;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(to)?;
    let mut content = Vec::new();
    from.take(SIZE_MAX).read_to_end(&mut content)?;
    file.write_all(&content)?;
    file.set_modified(found.modified()?)
}
