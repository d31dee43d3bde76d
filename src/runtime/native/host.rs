//! What must be known of the host before a plan can be made: what its root holds, what of that must not be seen
//! inside, where names are resolved. Everything is looked up here and nothing is changed.
//!
//! *Shown* is what the sandbox lays below its overlays: every directory at the root except those that it has of its
//! own (`OWN`). A path in an answer is a real one: no part of it is a link.
//!
//! Known limits. A network file system is not searched for what only root may read, since every look would be a
//! question to a server. A socket that was bound with a relative name is not found by that name. A directory of
//! fosse's own that does not exist yet is not hidden: make them first.

mod hidden;
pub(super) mod mounts;
mod needed;
pub(crate) mod owned;
mod real;
mod secrets;
pub(crate) mod silent;
mod sockets;
#[cfg(test)]
mod tests;
mod tops;
mod unreadable;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use mounts::Mounts;
use real::Root;

/// What the sandbox has of its own at its root, so that the host's is not shown.
const OWN: [&str; 7] = ["dev", "home", "proc", "root", "run", "sys", "tmp"];

/// The devices that a sandbox may have: none of them reaches any hardware, or another user.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Of whom the host is asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Question {
    /// Whether also everything is to be hidden that only root may read. User 0 owns it, and without a veil could.
    pub(crate) search: bool,
    /// The caller's home directories.
    pub(crate) homes: Vec<PathBuf>,
    /// fosse's own directories: state, sockets, configuration. Those that exist are hidden.
    pub(crate) own: Vec<PathBuf>,
    /// Sockets that variables name (`SSH_AUTH_SOCK`, `DOCKER_HOST`), and `XDG_RUNTIME_DIR`.
    pub(crate) sockets: Vec<PathBuf>,
}

/// The host as a plan needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// What `/` holds, sorted by name; without what the sandbox has of its own.
    pub(crate) tops: Vec<Entry>,
    /// What `tops` shows and must not be visible: real paths, sorted, none below another.
    pub(crate) hidden: Vec<Hidden>,
    /// The file that /etc/resolv.conf leads to, if the sandbox does not show that place.
    pub(crate) resolver: Option<PathBuf>,
    /// Which of null, zero, full, random, urandom and tty exist in /dev.
    pub(crate) devices: Vec<&'static str>,
    /// What /proc holds beside processes that user 0 might write to, as far as modes tell.
    pub(crate) writable: Vec<OsString>,
    /// Files of the host's root of which the sandbox's user is to have copies: real paths that are shown.
    pub(crate) owned: Vec<PathBuf>,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The name alone.
    pub(crate) name: OsString,
    /// What it is.
    pub(crate) kind: Kind,
}

/// How an entry can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory without other mounts below: shown whole.
    Directory,
    /// A directory for which an empty one stands: with nothing in it, or not to be read by this user, or a pseudo
    /// file system, or one that is hidden anyway.
    Empty,
    /// A directory with other mounts below, which the kernel refuses as a layer of an overlay in a user namespace
    /// (also if they are below something hidden): entry by entry.
    Split(Vec<Entry>),
    /// As Split, but with too many entries or too deep to take apart: shown read-only as it is.
    ReadOnly,
    /// A symbolic link, with its text.
    Link(PathBuf),
    /// A regular file.
    File,
}

/// What must not be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hidden {
    /// Its real path.
    pub(crate) path: PathBuf,
    /// Whether it is a directory; otherwise it is a file or a socket.
    pub(crate) directory: bool,
}

/// Looks at this host. An error means that too little can be known for a sandbox: `/` or the table of mounts cannot
/// be read.
pub(crate) fn look(asked: &Question) -> io::Result<Host> {
    look_below(&Root::new(Path::new("/"))?, asked)
}

/// Other paths of directories: where their file system, or a directory of it that holds them, is mounted too. Paths
/// that do not exist have none; without a table of mounts nothing is known. That table may be long: it is read once for
/// all lists.
pub(crate) fn aliases<const N: usize>(lists: [&[PathBuf]; N]) -> [Vec<PathBuf>; N] {
    let mounts = Mounts::parse(&fs::read("/proc/self/mountinfo").unwrap_or_default());
    lists.map(|directories| {
        let real: Vec<PathBuf> = directories.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
        let mut found = mounts.aliases(real.iter().map(PathBuf::as_path));
        found.retain(|path| path.exists());
        found
    })
}

/// What a directory holds, by which it can be shown, if it has mounts below it by now; `root` is where the host's root
/// is. Nothing if there are none, or too much is in it.
pub(crate) fn apart(root: &Path, directory: &Path) -> Option<Vec<Entry>> {
    let host = Root::new(root).ok()?;
    let mounts = Mounts::parse(&read(&host, "/proc/self/mountinfo").ok()?).below(root);
    tops::apart(&host, &mounts, directory)
}

/// The name of the file system that a real path is in, if it is far away or a user's own program.
pub(crate) fn foreign_file_system(path: &Path) -> Option<String> {
    Mounts::parse(&fs::read("/proc/self/mountinfo").ok()?).foreign(path)
}

/// Where a path inside leads by the links of what is shown: one in `/bin` may be in `/usr/bin`.
pub(crate) fn leads_to(path: &Path) -> PathBuf {
    let root = Root::new(Path::new("/")).ok();
    let real = path.ancestors().take_while(|above| is_shown(above)).find_map(|above| {
        // What is not shown is the sandbox's own, where a link may lead elsewhere.
        let real = root.as_ref()?.real(above).filter(|real| is_shown(real))?;
        Some(real.iter().chain(path.strip_prefix(above).ok()?.iter()).collect())
    });
    real.unwrap_or_else(|| path.to_owned())
}

fn look_below(root: &Root, asked: &Question) -> io::Result<Host> {
    let table = read(root, "/proc/self/mountinfo")?;
    let mounts = Mounts::parse(&table);
    let names = root.list(Path::new("/")).map_err(|error| explain("/", &error))?;
    let hidden = hidden::find(root, asked, &names, &mounts)?;
    let tops = tops::find(root, names, &mounts, &hidden);
    let resolver = resolver(root, &hidden, &tops);
    let is_root = crate::sys::process::effective_ids().0 == 0;
    let is_seen = |path: &PathBuf| {
        is_shown(path) && !tops::is_emptied(&tops, path) && !hidden.iter().any(|hidden| path.starts_with(&hidden.path))
    };
    let owned = owned::find(root, 0, is_root).into_iter().filter(is_seen).collect();
    // Where an empty directory stands there is nothing left to hide.
    let hidden = hidden.into_iter().filter(|hidden| !tops::is_emptied(&tops, &hidden.path)).collect();
    let devices = DEVICES.into_iter().filter(|name| is_device(&root.at(&Path::new("/dev").join(name)))).collect();
    let views = root.list(Path::new("/proc")).unwrap_or_default().into_iter().map(|(name, _)| name);
    let writable = views.filter(|name| is_writable_view(&root.at(&Path::new("/proc").join(name)))).collect();
    Ok(Host { tops, hidden, resolver, devices, writable, owned })
}

/// Whether something directly in /proc is a directory, or a file that has a mode to write it; processes apart. Which
/// there are differs from kernel to kernel. What is in /proc/pressure is everybody's to write: it is a question.
fn is_writable_view(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    let known = name == "pressure" || name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let about = if known { None } else { fs::symlink_metadata(path).ok() };
    about.is_some_and(|about| about.is_dir() || about.is_file() && about.permissions().mode() & 0o222 != 0)
}

/// Whether a path, a real one, is below a directory that the sandbox shows.
fn is_shown(path: &Path) -> bool {
    let top = path.iter().nth(1);
    top.is_some_and(|top| !OWN.iter().any(|own| top == *own))
}

/// Where names are resolved, if that file would be missing inside.
fn resolver(root: &Root, hidden: &[Hidden], tops: &[Entry]) -> Option<PathBuf> {
    let real = root.real(Path::new("/etc/resolv.conf"))?;
    let is_hidden = hidden.iter().any(|hidden| real.starts_with(&hidden.path));
    let missing = !is_shown(&real) || is_hidden || tops::is_emptied(tops, &real);
    (missing && root.at(&real).is_file()).then_some(real)
}

/// Whether it is one: a forgotten regular file `/dev/null` is not to be handed on as one.
fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_char_device())
}

fn read(root: &Root, path: &str) -> io::Result<Vec<u8>> {
    fs::read(root.at(Path::new(path))).map_err(|error| explain(path, &error))
}

fn explain(path: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("reading {path}: {error}"))
}
