//! What is bound into a place, opened: a copy of each, attached nowhere yet, with the rights that it is to have.
//!
//! That is done by the builder before anything is laid over the host: for root in the mount namespace that is between
//! the host's and the place's, with root's rights over mounts; for everybody else in the place's own. A copy of the
//! first kind can be attached in the place although it comes from another namespace, as what is attached nowhere can
//! (move_mount(2)). Who may reach a source is asked of the kernel as the user that the command runs as.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::plan::Bind;
use crate::sys::linux::mount::{self, Attributes, Links, Tree};

/// What the builder hands to PID 1.
#[derive(Default)]
pub(crate) struct Opened {
    /// Everything that was opened and is not attached yet.
    trees: Vec<(Bind, Tree)>,
    /// What of the host the veil is over.
    veiled: Vec<PathBuf>,
    /// What is mounted below that and cannot be seen through a veil, so that it is not shown.
    pub(crate) left_out: Vec<PathBuf>,
}

impl Opened {
    /// Opens a source. What the host does not have and need not have is left out.
    pub(crate) fn open(&mut self, bind: &Bind) -> io::Result<()> {
        let source = match mount::look_up(File::open("/")?.as_fd(), &bind.source, Links::Refused) {
            Err(error) if bind.optional && error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        // A device is asked for as what it is; a mount that can only be read keeps its mode, owner and times.
        let device = mount::is_device(mount::mode_of(source.as_fd())?);
        let tree = Tree::copy_of(source.as_fd())?;
        let read_only = bind.read_only || device;
        tree.restrict(Attributes { read_only, no_execution: false, no_devices: !(bind.device || device) })?;
        self.trees.push((bind.clone(), tree));
        Ok(())
    }

    /// Whether what is to be put at a path is no directory.
    pub(crate) fn is_file(&self, path: &Path) -> io::Result<bool> {
        match self.trees.iter().find(|(bind, _)| bind.path == path) {
            Some((_, tree)) => mount::mode_of(tree.as_fd()).map(|mode| !mount::is_directory(mode)),
            None => Ok(false),
        }
    }

    /// What was opened for a step.
    pub(crate) fn take(&mut self, bind: &Bind) -> Option<Tree> {
        let at = self.trees.iter().position(|(other, _)| other == bind)?;
        Some(self.trees.swap_remove(at).1)
    }

    /// Remembers what the veil is over, and what was left out for it.
    pub(crate) fn veil(&mut self, paths: Vec<PathBuf>, left_out: Vec<PathBuf>) {
        (self.veiled, self.left_out) = (paths, left_out);
    }

    /// Whether the veil is over a path.
    pub(crate) fn is_veiled(&self, path: &Path) -> bool {
        self.veiled.iter().any(|veiled| veiled == path)
    }
}
