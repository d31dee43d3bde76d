//! The root directory of a place: made in memory, filled from the host, and then entered.
//!
//! While it is made, the process's root is a small file system in memory: `old` is the host, `new` becomes the
//! place's root, `upper` keeps what is written over the host's directories, and `void` and `nothing` are put over
//! what is to be hidden. Everything is looked up below descriptors of `old` and `new`, never above them.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

mod copies;

use super::host;
use super::open::Opened;
use super::plan::{self, Bind, HostPath, Special, Step};
use crate::sys::linux::mount::{self, Attributes, Links, Mask, Tree, existing, look_up};

/// Where the file system in memory is put before it takes the place of the host's root: on a directory that each
/// host has.
const SCAFFOLD: [&str; 3] = ["/proc", "/tmp", "/usr"];

const FIXED: Attributes = Attributes { read_only: true, no_execution: true, no_devices: true };
const OPEN: Attributes = Attributes { read_only: false, no_execution: false, no_devices: true };

/// How often something is tried that the host takes away meanwhile and makes anew.
const TRIES: u32 = 16;

/// A root in the making.
pub(crate) struct Root {
    /// Closed once nothing of the host is to be seen any more.
    work: Option<Work>,
    /// What can only be read because the kernel refused an overlay over it.
    pub(crate) read_only: Vec<PathBuf>,
}

struct Work {
    host: OwnedFd,
    new: OwnedFd,
    scratch: OwnedFd,
    /// What is put over a hidden directory, and over anything else that is hidden: it can only be read.
    void: OwnedFd,
    nothing: OwnedFd,
    /// The mask of new files' modes that the command is to have.
    mask: Mask,
    /// How many directories of `upper` are in use.
    uppers: usize,
    /// What is bound.
    opened: Opened,
}

impl Root {
    /// Makes it, empty, in a mount namespace in which nothing changes any more.
    pub(crate) fn make(opened: Opened) -> io::Result<Root> {
        let mask = Mask::lift();
        let scratch = Tree::new(c"tmpfs", &[(c"mode", c"0755")], OPEN)?;
        for (name, mode) in [("old", 0o700), ("new", 0o755), ("upper", 0o700), ("void", 0o555)] {
            mount::make_directory(scratch.as_fd(), Path::new(name), mode)?;
        }
        mount::make_file(scratch.as_fd(), Path::new("nothing"), 0)?;
        let place = {
            let root = File::open("/")?;
            let mut places = SCAFFOLD.iter().map(|path| look_up(root.as_fd(), Path::new(path), Links::Inside));
            places.find_map(io::Result::ok).ok_or(io::ErrorKind::NotFound)?
        };
        scratch.attach(place.as_fd())?;
        mount::pivot(scratch.as_fd(), c"old")?;
        let scratch = OwnedFd::from(File::open("/")?);
        let host = look_up(scratch.as_fd(), Path::new("old"), Links::Refused)?;
        let new = look_up(scratch.as_fd(), Path::new("new"), Links::Refused)?;
        Tree::copy_of(new.as_fd())?.attach(new.as_fd())?;
        let new = look_up(scratch.as_fd(), Path::new("new"), Links::Refused)?;
        let [void, nothing] = [fixed(&scratch, "void")?, fixed(&scratch, "nothing")?];
        let work = Work { host, new, scratch, void, nothing, mask, uppers: 0, opened };
        Ok(Root { work: Some(work), read_only: Vec::new() })
    }

    /// Does a step.
    pub(crate) fn apply(&mut self, step: &Step) -> io::Result<()> {
        if let Step::Workdir { path, make } = step {
            return workdir(path, *make);
        }
        let work = self.work.as_mut().ok_or(io::ErrorKind::InvalidInput)?;
        match step {
            Step::Directory { path, mode } => work.directory(path, *mode),
            Step::Link { path, target } => work.link(path, target),
            Step::Overlay { path, holds, owned } => match again(|| work.overlay(path, holds, owned)) {
                Err(error) => work.unless_gone(path, error),
                Ok(Shown::Whole) => Ok(()),
                // Something was mounted below since the host was looked at.
                Ok(Shown::Apart(steps)) => steps.iter().try_for_each(|step| self.apply(step)),
                Ok(Shown::ReadOnly) => {
                    self.read_only.push(path.clone());
                    Ok(())
                }
            },
            Step::File { path } => again(|| work.file(path)).or_else(|error| work.unless_gone(path, error)),
            Step::Copy { path } => work.copy(path).or_else(|error| work.unless_gone(path, error)),
            Step::Bind(bind) => work.bind(bind),
            Step::Private { path } => work.private(path),
            Step::Hide { path } => work.hide(path),
            Step::Freeze { path } => work.freeze(path),
            Step::Mount { kind, path } => work.special(*kind, path),
            Step::NoNamespaces { kind } => {
                std::fs::write(format!("/new/proc/sys/user/max_{}_namespaces", kind.as_str()), "0")
            }
            Step::Enter => {
                let Some(Work { new, mask, .. }) = self.work.take() else { return Ok(()) };
                mask.restore();
                mount::pivot_away(new.as_fd())
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

/// Every path is inside by now.
fn workdir(path: &Path, make: bool) -> io::Result<()> {
    // What is there decides, and not whether it could be made.
    if make && std::fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        std::fs::create_dir_all(path)?;
    }
    std::env::set_current_dir(path)
}

/// How a directory of the host came to be shown.
enum Shown {
    /// Below an overlay, or not at all, since it is gone.
    Whole,
    /// Not yet: by these steps.
    Apart(Vec<Step>),
    /// As it is.
    ReadOnly,
}

impl Work {
    fn directory(&self, path: &Path, mode: Option<u32>) -> io::Result<()> {
        let mode = match mode {
            Some(mode) => mode,
            None => permissions(look_up(self.host.as_fd(), path, Links::Refused)?.as_fd())?,
        };
        // A directory of the host's may be shown by itself.
        is_there(mount::make_directory(self.new.as_fd(), relative(path), mode))
    }

    fn link(&self, path: &Path, target: &Path) -> io::Result<()> {
        mount::make_link(self.new.as_fd(), relative(path), target)
    }

    fn overlay(&mut self, path: &Path, holds: &[HostPath], owned: &[HostPath]) -> io::Result<Shown> {
        let Some(place) = self.seen(path)? else { return Ok(Shown::Whole) };
        self.uppers += 1;
        let [upper, work] = ["", "w"].map(|kind| format!("upper/{}{kind}", self.uppers));
        // The root of an overlay has the mode of its upper directory.
        let mode = permissions(place.as_fd())?;
        mount::make_directory(self.scratch.as_fd(), Path::new(&upper), mode)?;
        mount::make_directory(self.scratch.as_fd(), Path::new(&work), 0o700)?;
        let kept = look_up(self.scratch.as_fd(), Path::new(&upper), Links::Refused)?;
        holds.iter().try_for_each(|HostPath(point)| self.prepare(point, path, place.as_fd(), kept.as_fd()))?;
        self.keep_copies(owned, path, (&Path::new("/").join(&upper), kept.as_fd()))?;
        let lower = mount::overlay_path(&Path::new("/old").join(relative(path)))?;
        let [upper, work] = [CString::new(format!("/{upper}"))?, CString::new(format!("/{work}"))?];
        let options: [(&CStr, &CStr); 4] =
            [(c"lowerdir", &lower), (c"upperdir", &upper), (c"workdir", &work), (c"userxattr", c"")];
        // What it is put into is the place's own by now.
        let name = relative(path);
        is_there(mount::make_directory(self.new.as_fd(), name, mode))?;
        // What the machine does not execute, nobody inside does.
        let attributes = Attributes { no_execution: mount::is_without_execution(place.as_fd())?, ..OPEN };
        if let Ok(tree) = Tree::new(c"overlay", &options, attributes) {
            // The kernel has looked its path up once more.
            if !mount::is_same(self.seen(path)?.as_ref().map(AsFd::as_fd), place.as_fd())? {
                return Ok(Shown::Whole);
            }
            return tree.attach(look_up(self.new.as_fd(), name, Links::Refused)?.as_fd()).map(|()| Shown::Whole);
        }
        if let Some(entries) = host::apart(Path::new("/old"), path) {
            return Ok(Shown::Apart(plan::apart(path, entries, holds, owned)));
        }
        self.as_it_is(place.as_fd(), path, attributes)?;
        self.mount_copies(owned).map(|()| Shown::ReadOnly)
    }

    /// Something of the host that is to be seen at its own path; none if it is gone by now. Where the veil is over it, what
    /// has its name by now may be something else, which has none: it is then no root of a mount.
    fn seen(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        let Some(place) = existing(look_up(self.host.as_fd(), path, Links::Refused))? else { return Ok(None) };
        let bare = self.opened.is_veiled(path) && !mount::is_root_of_mount(place.as_fd())?;
        Ok((!bare).then_some(place))
    }

    /// What is gone by now need not be shown: whatever failed for it.
    fn unless_gone(&self, path: &Path, error: io::Error) -> io::Result<()> {
        if matches!(self.seen(path), Ok(None)) { Ok(()) } else { Err(error) }
    }

    fn file(&self, path: &Path) -> io::Result<()> {
        let Some(place) = self.seen(path)? else { return Ok(()) };
        // One that has become a directory meanwhile is not what was looked at.
        if mount::is_directory(mount::mode_of(place.as_fd())?) {
            return Ok(());
        }
        is_there(mount::make_file(self.new.as_fd(), relative(path), 0o644))?;
        self.as_it_is(place.as_fd(), path, OPEN)
    }

    /// Shows something of the host where its own path leads inside, read-only.
    fn as_it_is(&self, place: BorrowedFd<'_>, path: &Path, attributes: Attributes) -> io::Result<()> {
        let tree = Tree::copy_of(place)?;
        tree.restrict(Attributes { read_only: true, ..attributes })?;
        tree.attach(look_up(self.new.as_fd(), relative(path), Links::Refused)?.as_fd())
    }

    /// Makes, in what keeps the changes of an overlay, what is needed there later and the host does not have.
    fn prepare(&self, point: &Path, top: &Path, lower: BorrowedFd<'_>, upper: BorrowedFd<'_>) -> io::Result<()> {
        let below = point.strip_prefix(top).unwrap_or(Path::new(""));
        // What is there is taken as it is, and what is no directory, or a link, leads where it leads.
        let is_missing = |path: &Path| match look_up(lower, path, Links::Refused) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(_) => false,
        };
        if below.as_os_str().is_empty() || !is_missing(below) {
            return Ok(());
        }
        let mut way: Vec<&Path> = below.ancestors().filter(|way| !way.as_os_str().is_empty()).collect();
        way.reverse();
        for part in way {
            let mode = look_up(lower, part, Links::Refused).and_then(|part| permissions(part.as_fd())).unwrap_or(0o755);
            let made = if part == below && self.opened.is_file(point)? {
                mount::make_file(upper, part, 0o644)
            } else {
                mount::make_directory(upper, part, mode)
            };
            // Another mount may have needed it.
            is_there(made)?;
        }
        Ok(())
    }

    fn bind(&mut self, bind: &Bind) -> io::Result<()> {
        // What the host does not have was left out.
        let Some(tree) = self.opened.take(bind) else { return Ok(()) };
        let directory = mount::is_directory(mount::mode_of(tree.as_fd())?);
        tree.attach(self.target(&bind.path, directory, bind.make)?.as_fd())
    }

    fn private(&mut self, path: &Path) -> io::Result<()> {
        self.uppers += 1;
        let name = PathBuf::from(format!("upper/{}", self.uppers));
        mount::make_directory(self.scratch.as_fd(), &name, 0o1777)?;
        // What is shown read-only takes no new directory, and then has none to be hidden.
        let Ok(target) = self.target(path, true, true) else { return Ok(()) };
        Tree::copy_of(look_up(self.scratch.as_fd(), &name, Links::Refused)?.as_fd())?.attach(target.as_fd())
    }

    fn hide(&self, path: &Path) -> io::Result<()> {
        again(|| self.cover(path))
    }

    fn cover(&self, path: &Path) -> io::Result<()> {
        let target = match look_up(self.new.as_fd(), path, Links::Refused) {
            // The command is nobody else, and has fewer rights: what cannot be reached here it cannot reach either.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            other => match existing(other)? {
                Some(target) => target,
                None => return Ok(()),
            },
        };
        let directory = mount::is_directory(mount::mode_of(target.as_fd())?);
        let cover = if directory { &self.void } else { &self.nothing };
        // The copy can only be read, as the original.
        Tree::copy_of(cover.as_fd())?.attach(target.as_fd())
    }

    fn freeze(&self, path: &Path) -> io::Result<()> {
        let Some(place) = existing(look_up(self.new.as_fd(), path, Links::Refused))? else { return Ok(()) };
        let tree = Tree::copy_of(place.as_fd())?;
        tree.restrict(FIXED)?;
        tree.attach(place.as_fd())
    }

    fn special(&self, kind: Special, path: &Path) -> io::Result<()> {
        let target = look_up(self.new.as_fd(), path, Links::Refused)?;
        let data = Attributes { read_only: false, no_execution: true, no_devices: true };
        let tree = match kind {
            Special::Proc => Tree::new(c"proc", &[], data)?,
            Special::Queues => Tree::new(c"mqueue", &[], data)?,
            Special::Terminals => {
                let options: [(&CStr, &CStr); 3] = [(c"newinstance", c""), (c"ptmxmode", c"0666"), (c"mode", c"0620")];
                Tree::new(c"devpts", &options, Attributes { no_devices: false, ..data })?
            }
        };
        tree.attach(target.as_fd())
    }

    /// Where something is mounted: what is there, or a directory or file that is made for it. In what is shared with
    /// the host nothing is made, and no link is followed.
    fn target(&self, path: &Path, directory: bool, make: bool) -> io::Result<OwnedFd> {
        let links = if make { Links::Inside } else { Links::Refused };
        let found = match look_up(self.new.as_fd(), path, links) {
            Err(error) if make && error.kind() == io::ErrorKind::NotFound => {
                let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(error) };
                let parent = self.target(parent, true, true)?;
                if directory {
                    mount::make_directory(parent.as_fd(), Path::new(name), 0o755)?;
                } else {
                    mount::make_file(parent.as_fd(), Path::new(name), 0o644)?;
                }
                look_up(parent.as_fd(), Path::new(name), Links::Refused)?
            }
            other => other?,
        };
        match (mount::is_directory(mount::mode_of(found.as_fd())?), directory) {
            (true, false) => Err(io::Error::from_raw_os_error(libc::EISDIR)),
            (false, true) => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
            _ => Ok(found),
        }
    }
}

/// Mounts something of the scratch on itself, so that it can only be read.
fn fixed(scratch: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let find = || look_up(scratch.as_fd(), Path::new(name), Links::Refused);
    let place = find()?;
    let tree = Tree::copy_of(place.as_fd())?;
    tree.restrict(FIXED)?;
    tree.attach(place.as_fd())?;
    find()
}

/// An absolute path as seen from the root that it begins at.
fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn permissions(place: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(mount::mode_of(place)? & 0o7777)
}

/// Does something to what has a name on the host. The host may take it away meanwhile, and something else may have the
/// name then.
fn again<T>(mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut tries = 1;
    loop {
        match act() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < TRIES => tries += 1,
            other => return other,
        }
    }
}

/// What is there already need not be made.
fn is_there(made: io::Result<()>) -> io::Result<()> {
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}
