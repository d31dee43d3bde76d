//! Mounts by descriptor: trees that are made or copied out of sight, given their attributes there, and then attached
//! to a place that was looked up before (open_tree(2), mount_setattr(2), fsopen(2), move_mount(2); Linux 5.12). A name
//! that somebody exchanges in between leads nowhere else.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::sys::cerr;
use crate::sys::file::FileId;

/// How a path is looked up below a directory, which it never leaves (openat2(2), Linux 5.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Followed as if that directory were the root.
    Inside,
    /// An error: ELOOP.
    Refused,
}

/// Opens a path below a directory, for nothing but to name it (O_PATH).
pub fn look_up(root: BorrowedFd<'_>, path: &Path, links: Links) -> io::Result<OwnedFd> {
    open_below(root, path, links, libc::O_PATH)
}

/// Opens a file below a directory for reading. No link is followed, and what is no file does not hold this up.
pub(crate) fn open_file(root: BorrowedFd<'_>, path: &Path) -> io::Result<File> {
    open_below(root, path, Links::Refused, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY).map(File::from)
}

fn open_below(root: BorrowedFd<'_>, path: &Path, links: Links, flags: libc::c_int) -> io::Result<OwnedFd> {
    let path = c_string(path)?;
    // SAFETY: all-zero bytes are a valid open_how, a structure of integers.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    if links == Links::Refused {
        how.resolve |= libc::RESOLVE_NO_SYMLINKS;
    }
    let size = std::mem::size_of::<libc::open_how>();
    // SAFETY: `path` ends in NUL, `how` is a valid structure of the size that is given.
    descriptor(unsafe { libc::syscall(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), &raw const how, size) })
}

/// What a mount does not allow (mount_setattr(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes {
    /// To be written.
    pub read_only: bool,
    /// To be executed from.
    pub no_execution: bool,
    /// Device nodes to work.
    pub no_devices: bool,
}

impl Attributes {
    /// Programs never get another user's rights from a mount that is made here.
    fn bits(self) -> u64 {
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        libc::MOUNT_ATTR_NOSUID
            | bit(self.read_only, libc::MOUNT_ATTR_RDONLY)
            | bit(self.no_execution, libc::MOUNT_ATTR_NOEXEC)
            | bit(self.no_devices, libc::MOUNT_ATTR_NODEV)
    }
}

/// Mounts that are attached nowhere yet.
pub struct Tree(OwnedFd);

impl Tree {
    /// Copies what is mounted at a place, with everything mounted below it: in a user namespace one cannot be had
    /// without the other.
    pub fn copy_of(place: BorrowedFd<'_>) -> io::Result<Tree> {
        let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | RECURSIVE | EMPTY;
        // SAFETY: an open descriptor, an empty path, and integers.
        descriptor(unsafe { libc::syscall(libc::SYS_open_tree, place.as_raw_fd(), c"".as_ptr(), flags) }).map(Tree)
    }

    /// Makes a file system.
    pub fn new(kind: &CStr, options: &[(&CStr, &CStr)], attributes: Attributes) -> io::Result<Tree> {
        // SAFETY: a string that ends in NUL, and an integer.
        let context = descriptor(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
        let configure = |command: libc::c_uint, key: *const libc::c_char, value: *const libc::c_char| {
            let fd = context.as_raw_fd();
            // SAFETY: an open descriptor, and strings that end in NUL, or null where the command takes none.
            unsafe { done(libc::syscall(libc::SYS_fsconfig, fd, command, key, value, 0)) }
        };
        configure(SET_STRING, c"source".as_ptr(), kind.as_ptr())?;
        for (key, value) in options {
            if value.is_empty() {
                configure(SET_FLAG, key.as_ptr(), std::ptr::null())?;
            } else {
                configure(SET_STRING, key.as_ptr(), value.as_ptr())?;
            }
        }
        configure(CREATE, std::ptr::null(), std::ptr::null())?;
        let bits = attributes.bits();
        // SAFETY: an open descriptor and integers.
        descriptor(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, bits) }).map(Tree)
    }

    /// Takes rights from it and from everything below. What it does not allow already it never will.
    pub fn restrict(&self, attributes: Attributes) -> io::Result<()> {
        // SAFETY: all-zero bytes are a valid mount_attr, a structure of integers.
        let mut attr: libc::mount_attr = unsafe { std::mem::zeroed() };
        attr.attr_set = attributes.bits();
        self.change(&attr)
    }

    fn change(&self, attr: &libc::mount_attr) -> io::Result<()> {
        let (fd, size) = (self.0.as_raw_fd(), std::mem::size_of::<libc::mount_attr>());
        let flags = RECURSIVE | EMPTY;
        // SAFETY: an open descriptor, an empty path, a valid structure of the size that is given.
        unsafe { done(libc::syscall(libc::SYS_mount_setattr, fd, c"".as_ptr(), flags, std::ptr::from_ref(attr), size)) }
    }

    /// Shows the files in it, and in everything below, as those of the users and groups that a user namespace maps
    /// theirs to (mount_setattr(2), MOUNT_ATTR_IDMAP; not every file system can). Only for who has the rights of root
    /// on the machine.
    pub(crate) fn map_owners(&self, namespace: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: all-zero bytes are a valid mount_attr, a structure of integers.
        let mut attr: libc::mount_attr = unsafe { std::mem::zeroed() };
        attr.attr_set = libc::MOUNT_ATTR_IDMAP;
        attr.userns_fd = u64::try_from(namespace.as_raw_fd()).unwrap_or_default();
        self.change(&attr)
    }

    /// Puts it over a place.
    pub fn attach(&self, place: BorrowedFd<'_>) -> io::Result<()> {
        let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
        let (from, to) = (self.0.as_raw_fd(), place.as_raw_fd());
        // SAFETY: two open descriptors, empty paths, and an integer.
        unsafe { done(libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, c"".as_ptr(), flags)) }
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// AT_RECURSIVE and AT_EMPTY_PATH (linux/fcntl.h).
const RECURSIVE: libc::c_uint = 0x8000;
const EMPTY: libc::c_uint = 0x1000;

/// Of fsopen(2), fsconfig(2) and fsmount(2) (linux/mount.h).
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const SET_FLAG: libc::c_uint = 0;
const SET_STRING: libc::c_uint = 1;
const CREATE: libc::c_uint = 6;

/// Lets no mount of this namespace be seen in another one, nor the other way round (mount_namespaces(7)).
pub fn make_all_private() -> io::Result<()> {
    propagate_all(libc::MS_PRIVATE)
}

/// Lets nothing that changes in this namespace be seen in another one; what comes from others still comes.
pub(crate) fn let_nothing_out() -> io::Result<()> {
    propagate_all(libc::MS_SLAVE)
}

fn propagate_all(how: libc::c_ulong) -> io::Result<()> {
    let none = std::ptr::null();
    // SAFETY: a path that ends in NUL, and nothing for what such a change does not take.
    cerr(unsafe { libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | how, none.cast()) }).map(drop)
}

/// Makes a mount this process's root directory, and puts the former root below it, at `old` (pivot_root(2)).
pub(crate) fn pivot(root: BorrowedFd<'_>, old: &CStr) -> io::Result<()> {
    // SAFETY: an open descriptor; paths that end in NUL.
    unsafe {
        cerr(libc::fchdir(root.as_raw_fd()))?;
        done(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), old.as_ptr()))?;
        cerr(libc::chdir(c"/".as_ptr())).map(drop)
    }
}

/// Makes a mount this process's root directory, and takes away the former one with everything mounted below it.
pub fn pivot_away(root: BorrowedFd<'_>) -> io::Result<()> {
    // The former root lies over the new one for a moment (pivot_root(2), Notes).
    // SAFETY: an open descriptor; paths that end in NUL.
    unsafe {
        cerr(libc::fchdir(root.as_raw_fd()))?;
        done(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()))?;
        cerr(libc::umount2(c".".as_ptr(), libc::MNT_DETACH))?;
        cerr(libc::chdir(c"/".as_ptr())).map(drop)
    }
}

/// What a process's mask of new files' modes was before it was lifted (umask(2)).
pub struct Mask(libc::mode_t);

impl Mask {
    /// New files have exactly the modes that are asked for.
    pub fn lift() -> Mask {
        // SAFETY: umask has no memory arguments and cannot fail.
        Mask(unsafe { libc::umask(0) })
    }

    /// As it was.
    pub fn restore(self) {
        // SAFETY: as above.
        unsafe { libc::umask(self.0) };
    }
}

/// Makes a directory below one that is open.
pub fn make_directory(parent: BorrowedFd<'_>, name: &Path, mode: u32) -> io::Result<()> {
    let name = c_string(name)?;
    // SAFETY: an open descriptor, a path that ends in NUL, an integer.
    cerr(unsafe { libc::mkdirat(parent.as_raw_fd(), name.as_ptr(), mode) }).map(drop)
}

/// Makes an empty file in a directory that is open.
pub fn make_file(parent: BorrowedFd<'_>, name: &Path, mode: u32) -> io::Result<()> {
    let name = c_string(name)?;
    // SAFETY: an open descriptor, a path that ends in NUL, integers.
    cerr(unsafe { libc::mknodat(parent.as_raw_fd(), name.as_ptr(), libc::S_IFREG | mode, 0) }).map(drop)
}

/// Makes a symbolic link in a directory that is open.
pub fn make_link(parent: BorrowedFd<'_>, name: &Path, target: &Path) -> io::Result<()> {
    let (name, target) = (c_string(name)?, c_string(target)?);
    // SAFETY: an open descriptor, paths that end in NUL.
    cerr(unsafe { libc::symlinkat(target.as_ptr(), parent.as_raw_fd(), name.as_ptr()) }).map(drop)
}

/// What a descriptor names: its type and mode (fstat(2), st_mode).
pub fn mode_of(place: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: all-zero bytes are a valid stat, a structure of integers.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` has room for the answer.
    cerr(unsafe { libc::fstat(place.as_raw_fd(), &raw mut stat) })?;
    Ok(stat.st_mode)
}

/// Whether a place is the root of a mount (statx(2), STATX_ATTR_MOUNT_ROOT, Linux 5.8).
pub(crate) fn is_root_of_mount(place: BorrowedFd<'_>) -> io::Result<bool> {
    let flag = u64::try_from(libc::STATX_ATTR_MOUNT_ROOT).map_err(io::Error::other)?;
    // SAFETY: all-zero bytes are a valid statx, a structure of integers.
    let mut about: libc::statx = unsafe { std::mem::zeroed() };
    let (place, empty) = (place.as_raw_fd(), c"".as_ptr());
    // SAFETY: an open descriptor, an empty string, and room for the answer.
    cerr(unsafe { libc::statx(place, empty, libc::AT_EMPTY_PATH, 0, &raw mut about) })?;
    Ok(about.stx_attributes & flag != 0)
}

/// Whether one place is another.
pub(crate) fn is_same(one: Option<BorrowedFd<'_>>, other: BorrowedFd<'_>) -> io::Result<bool> {
    let Some(one) = one else { return Ok(false) };
    let id = |place: BorrowedFd<'_>| io::Result::Ok(FileId::from(&File::from(place.try_clone_to_owned()?).metadata()?));
    Ok(id(one)? == id(other)?)
}

/// Whether nothing can be executed from the mount that a place is in (statfs(2), ST_NOEXEC).
pub(crate) fn is_without_execution(place: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: all-zero bytes are a valid statvfs, a structure of integers.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` has room for the answer.
    cerr(unsafe { libc::fstatvfs(place.as_raw_fd(), &raw mut stat) })?;
    Ok(stat.f_flag & libc::ST_NOEXEC != 0)
}

/// Whether a mode is a device node's.
pub(crate) fn is_device(mode: u32) -> bool {
    matches!(mode & libc::S_IFMT, libc::S_IFCHR | libc::S_IFBLK)
}

/// Takes away what is mounted on top at a path, in this mount namespace, with all that is mounted below it.
pub(crate) fn take_away(path: &Path) -> io::Result<()> {
    let path = c_string(path)?;
    // SAFETY: a string that ends in NUL, and an integer.
    cerr(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) }).map(drop)
}

/// Nothing for what does not exist.
pub(crate) fn existing<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Whether a mode is a directory's.
pub fn is_directory(mode: u32) -> bool {
    mode & libc::S_IFMT == libc::S_IFDIR
}

fn c_string(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    done(result)?;
    let fd = libc::c_int::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A path as the overlay file system reads it, which takes several, separated by colons (the kernel's
/// `Documentation/filesystems/overlayfs.rst`).
pub fn overlay_path(path: &Path) -> io::Result<CString> {
    let mut bytes = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b'\\') {
            bytes.push(b'\\');
        }
        bytes.push(*byte);
    }
    Ok(CString::new(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_separators_is_one_path() {
        assert_eq!(overlay_path(Path::new("/a:b\\c,d")).unwrap().as_c_str(), c"/a\\:b\\\\c,d");
        assert!(overlay_path(Path::new("/a\0")).is_err());
    }
}
