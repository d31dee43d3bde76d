//! The veil: copies of the host's directories that show what is in them as nobody's, over these directories themselves,
//! in a mount namespace between the host's and the place's. A place cannot take away what it gets from there.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use super::host::mounts::Mounts;
use super::plan::HostPath;
use crate::sys::linux::mount::{self, Attributes, Links, Tree};
use crate::sys::linux::namespace;

/// Lays it over the paths; what is mounted there, below the top, and cannot be shown that way is taken away, covered, and told.
pub(crate) fn lay(paths: &[HostPath]) -> io::Result<Vec<PathBuf>> {
    let nobody = namespace::of_nobody()?;
    let root = File::open("/")?;
    let mut left_out = Vec::new();
    for HostPath(path) in paths {
        let over = || over(root.as_fd(), path, nobody.as_fd());
        let laid = over().or_else(|error| {
            // In one tree all can be shown so, or nothing.
            let taken = take_away_at(root.as_fd(), path, nobody.as_fd())?;
            if taken.is_empty() {
                return Err(error);
            }
            if !taken.contains(path) {
                over()?;
            }
            for point in &taken {
                mount::existing(cover(root.as_fd(), point))?;
            }
            left_out.extend(taken);
            Ok(())
        });
        // What the host has taken away meanwhile has no veil, and is not shown: whatever has its name later.
        mount::existing(laid)?;
    }
    Ok(left_out)
}

fn over(root: BorrowedFd<'_>, path: &Path, nobody: BorrowedFd<'_>) -> io::Result<()> {
    let place = mount::look_up(root, path, Links::Refused)?;
    let tree = Tree::copy_of(place.as_fd())?;
    tree.map_owners(nobody)?;
    tree.attach(place.as_fd())
}

/// Puts an empty directory where something was taken away: what it covered stays covered.
fn cover(root: BorrowedFd<'_>, point: &Path) -> io::Result<()> {
    let place = mount::look_up(root, point, Links::Refused)?;
    if !mount::is_directory(mount::mode_of(place.as_fd())?) {
        return Ok(());
    }
    let attributes = Attributes { read_only: true, no_execution: true, no_devices: true };
    Tree::new(c"tmpfs", &[(c"mode", c"755")], attributes)?.attach(place.as_fd())
}

/// Takes away, here alone, what is mounted at a path or below and cannot be shown as nobody's: overlays (of containers),
/// ramfs, most network file systems.
fn take_away_at(root: BorrowedFd<'_>, path: &Path, nobody: BorrowedFd<'_>) -> io::Result<Vec<PathBuf>> {
    let table = Mounts::parse(&fs::read("/proc/self/mountinfo")?);
    // What lies directly below / is more than others can do without.
    let is_top = |point: &Path| point.components().count() <= 2;
    let mut points: Vec<&Path> = table.points().filter(|point| point.starts_with(path) && !is_top(point)).collect();
    // What is further down first: then a tree that cannot be shown is so for its top.
    points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    let mut taken: Vec<PathBuf> = Vec::new();
    for point in points {
        let Some(place) = mount::existing(mount::look_up(root, point, Links::Refused))? else { continue };
        // What another mount covers is none here.
        if !mount::is_root_of_mount(place.as_fd())? || Tree::copy_of(place.as_fd())?.map_owners(nobody).is_ok() {
            continue;
        }
        mount::take_away(point)?;
        taken.push(point.to_owned());
    }
    taken.sort();
    taken.dedup();
    Ok(taken)
}
