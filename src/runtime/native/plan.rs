//! What is done to make a place, as a value: a pure function of the run and of what is known about the host.
//!
//! The steps are applied in this order, in a process of their own (`apply`). The first ones are done by a builder
//! outside; everything from [`Step::Root`] on by the process that then is PID 1 inside.
//!
//! There are two ways in which something of the host comes in. What the host's root holds is shown at its own path,
//! seen through the veil where there is one ([`Step::Overlay`], [`Step::File`]). Everything else is bound
//! ([`Step::Bind`]) from what [`Step::Open`] opened before anything was laid over the host.

mod views;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cgroup::Group;
use super::host::{Entry, Host, Kind};
use crate::runtime::spec::{HOME, Mount, Network, Spec, User};
use crate::wire::path;

/// One step. Paths are the place's own where nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub(crate) enum Step {
    /// Makes a control group and moves into it.
    Group(Group),
    /// Becomes another user for good, which only root can.
    Become {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
    /// Enters a mount namespace between the host's and the place's, which takes the rights of root.
    MountNamespace,
    /// Opens what is bound into the place later, wherever it is put there. What is laid over the host after that is not
    /// in its way, and nobody can exchange it any more.
    Open {
        /// Who must be able to reach it, if that is somebody else than this process; its rights over mounts stay its
        /// own.
        user: Option<(u32, u32)>,
        /// What it is opened for.
        bind: Bind,
    },
    /// Puts copies over directories and files of the host in which nobody's files are the caller's, who is root: what
    /// other users cannot read it then cannot read either.
    Veil {
        /// The host's paths.
        paths: Vec<HostPath>,
    },
    /// Enters a user namespace in which the caller, and nobody else, is known.
    UserNamespace {
        /// Who the caller is inside.
        uid: u32,
        /// The same for the group.
        gid: u32,
    },
    /// Enters mount, pid, ipc and uts namespaces.
    Namespaces {
        /// And a network namespace.
        network: bool,
    },
    /// Enters a cgroup namespace, once it is in its control groups.
    CgroupNamespace,
    /// Limits processes and threads without a control group.
    Processes {
        /// How many there may be.
        most: u64,
    },
    /// Brings the loopback interface up.
    Loopback,
    /// Makes the root directory, in memory, that everything else is put in.
    Root,
    /// Makes a directory.
    Directory {
        /// Where.
        #[serde(with = "path")]
        path: PathBuf,
        /// Its mode; the host's if none.
        mode: Option<u32>,
    },
    /// Makes a symbolic link.
    Link {
        /// Where.
        #[serde(with = "path")]
        path: PathBuf,
        /// What it says.
        #[serde(with = "path")]
        target: PathBuf,
    },
    /// Shows a directory of the host at its own path, below an overlay that keeps what is written in memory; without
    /// one, and read-only, where the kernel refuses that.
    Overlay {
        /// The path, outside and inside.
        #[serde(with = "path")]
        path: PathBuf,
        /// What is needed in it later and may be made there: mount points, the command's directory. In what the
        /// overlay shows, only the host's owner of a directory could make something; what keeps the changes is the
        /// caller's.
        holds: Vec<HostPath>,
        /// Files in it of which there are to be copies that belong to the sandbox's user.
        #[serde(default)]
        owned: Vec<HostPath>,
    },
    /// Makes a copy, that belongs to the sandbox's user, of a file of the host at its own path.
    Copy {
        /// The path, outside and inside.
        #[serde(with = "path")]
        path: PathBuf,
    },
    /// Shows a file of the host at its own path, read-only.
    File {
        /// The path, outside and inside.
        #[serde(with = "path")]
        path: PathBuf,
    },
    /// Shows something that was opened.
    Bind(Bind),
    /// Puts an empty directory of the place's own over what is there, for anybody to write in.
    Private {
        /// Where.
        #[serde(with = "path")]
        path: PathBuf,
    },
    /// Puts an empty, read-only file or directory over what is there.
    Hide {
        /// Where; one that does not exist hides itself.
        #[serde(with = "path")]
        path: PathBuf,
    },
    /// Lets something be read only.
    Freeze {
        /// Where; what does not exist is left out.
        #[serde(with = "path")]
        path: PathBuf,
    },
    /// Mounts a file system of the kernel's own.
    Mount {
        /// Which.
        kind: Special,
        /// Where.
        #[serde(with = "path")]
        path: PathBuf,
    },
    /// Makes it this process's root, and takes everything else away.
    Enter,
    /// Lets nobody inside make namespaces of a kind.
    NoNamespaces {
        /// Which.
        kind: Forbidden,
    },
    /// Goes to the command's directory.
    Workdir {
        /// Where.
        #[serde(with = "path")]
        path: PathBuf,
        /// Whether it may be made.
        make: bool,
    },
    /// Gives up every capability, and every way to get one.
    NoPrivileges,
    /// Forbids system calls that no sandboxed command needs.
    Filter {
        /// Those about namespaces and mounts stay allowed.
        allow_namespaces: bool,
    },
}

/// A path of the host, whatever bytes it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostPath(#[serde(with = "path")] pub PathBuf);

/// Namespaces that nobody inside makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Forbidden {
    /// User namespaces, and so all others: nobody inside has the right to those.
    User,
    /// Control group namespaces: who has one of his own may mount the machine's control groups.
    Cgroup,
}

impl Forbidden {
    /// As in the names of the kernel's limits (namespaces(7)).
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Forbidden::User => "user",
            Forbidden::Cgroup => "cgroup",
        }
    }
}

/// What of the host is shown where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bind {
    /// The host's path.
    #[serde(with = "path")]
    pub(crate) source: PathBuf,
    /// The path inside.
    #[serde(with = "path")]
    pub(crate) path: PathBuf,
    /// Whether it can only be read.
    pub(crate) read_only: bool,
    /// Whether device nodes work in it. One that is bound itself always does.
    pub(crate) device: bool,
    /// Whether it is left out if the host has no such thing.
    pub(crate) optional: bool,
    /// Whether what it is put over may be made: never in what the host shares with the command.
    pub(crate) make: bool,
}

/// A file system of the kernel's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Special {
    /// proc(5), of the place's processes.
    Proc,
    /// Terminals (pts(4)).
    Terminals,
    /// Message queues (mq_overview(7)).
    Queues,
}

/// What is asked for beside the run's own values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Control groups; none if there are no limits.
    pub(crate) groups: Vec<Group>,
    /// Whether the number of processes is limited without a control group.
    pub(crate) processes: Option<u64>,
    /// The caller.
    pub(crate) caller: (u32, u32),
    /// Whether user namespaces can be made inside.
    pub(crate) allow_namespaces: bool,
    /// Whether the host's files are to be nobody's.
    pub(crate) veil: bool,
}

/// All steps, in order.
pub(crate) fn plan(spec: &Spec, host: &Host, wanted: &Wanted) -> Vec<Step> {
    let binds = mounts(&spec.mounts);
    let workdir = PathBuf::from(spec.workdir.as_deref().unwrap_or("/"));
    let shared = spec.mounts.iter().any(|mount| workdir.starts_with(&mount.target));
    let points = binds.iter().filter(|bind| bind.make).map(|bind| &bind.path);
    let points = points.chain((!shared).then_some(&workdir)).cloned().map(HostPath).collect::<Vec<_>>();
    let owned = host.owned.iter().cloned().map(HostPath).collect::<Vec<_>>();
    let mut inside = vec![Step::Root];
    for entry in &host.tops {
        show(Path::new("/"), entry, &points, &owned, &mut inside);
    }
    let veil: Vec<HostPath> = inside.iter().filter_map(shown).map(|path| HostPath(path.to_owned())).collect();
    own_directories(&mut inside);
    devices(host, &mut inside);
    views::of_kernel(host, wanted.allow_namespaces, &mut inside);
    views::limits(&wanted.groups, &mut inside);
    if wanted.allow_namespaces && !is_hosts_root(spec.user, wanted.caller) {
        views::whole_proc(&mut inside);
    }
    inside.extend(host.resolver.iter().map(|file| Step::Bind(Bind { make: true, ..bind(file, file, true) })));
    inside.extend(host.hidden.iter().map(|hidden| Step::Hide { path: hidden.path.clone() }));
    // Its parent is the host's, so it is put over what is there, or over what hides that.
    inside.push(Step::Private { path: "/var/tmp".into() });
    inside.extend(binds.into_iter().map(Step::Bind));
    inside.extend(spec.covers.iter().map(|cover| Step::Hide { path: cover.target.clone() }));
    inside.push(Step::Enter);
    inside.push(Step::Workdir { path: workdir, make: !shared });
    inside.push(Step::NoPrivileges);
    inside.push(Step::Filter { allow_namespaces: wanted.allow_namespaces });

    let binds = inside.iter().filter_map(|step| if let Step::Bind(bind) = step { Some(bind.clone()) } else { None });
    let open = |user| binds.map(|bind| Step::Open { user, bind }).collect::<Vec<_>>();
    let network = spec.network != Network::Open;
    let namespaces = Step::Namespaces { network };
    let mut steps: Vec<Step> = wanted.groups.iter().cloned().map(Step::Group).collect();
    if wanted.veil {
        // Before it is laid over the host, and with the rights that only root has out there.
        let user = spec.user.ids_or(wanted.caller);
        let user = (user != wanted.caller).then_some(user);
        steps.push(Step::MountNamespace);
        steps.append(&mut open(user));
        steps.push(Step::Veil { paths: veil });
        steps.extend(identity(spec.user, wanted.caller));
        steps.push(namespaces);
    } else {
        steps.extend(identity(spec.user, wanted.caller));
        steps.push(namespaces);
        steps.append(&mut open(None));
    }
    steps.push(Step::CgroupNamespace);
    steps.extend(wanted.processes.map(|most| Step::Processes { most }));
    steps.extend(network.then_some(Step::Loopback));
    steps.append(&mut inside);
    steps
}

/// What of the host a step shows at its own path.
fn shown(step: &Step) -> Option<&Path> {
    match step {
        Step::Overlay { path, .. } | Step::File { path } | Step::Copy { path } => Some(path),
        _ => None,
    }
}

/// The steps that show a directory of the host entry by entry, because something is mounted below it.
pub(crate) fn apart(path: &Path, entries: Vec<Entry>, holds: &[HostPath], owned: &[HostPath]) -> Vec<Step> {
    let mut steps = Vec::new();
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return steps };
    show(parent, &Entry { name: name.to_owned(), kind: Kind::Split(entries) }, holds, owned, &mut steps);
    steps
}

/// Who the command is. Files it makes belong to the caller, unless root asked for somebody else.
fn identity(user: User, caller: (u32, u32)) -> Vec<Step> {
    let (uid, gid) = user.ids_or(caller);
    let other = caller.0 == 0 && (uid, gid) != caller;
    let become_other = other.then_some(Step::Become { uid, gid });
    become_other.into_iter().chain([Step::UserNamespace { uid, gid }]).collect()
}

/// What the host's root holds.
fn show(parent: &Path, entry: &Entry, points: &[HostPath], owned: &[HostPath], steps: &mut Vec<Step>) {
    let path = parent.join(&entry.name);
    match &entry.kind {
        // The kernel says whether what is too large to be taken apart can be written.
        Kind::Directory | Kind::ReadOnly => {
            let below =
                |paths: &[HostPath]| paths.iter().filter(|HostPath(it)| it.starts_with(&path)).cloned().collect();
            let (holds, owned) = (below(points), below(owned));
            steps.push(Step::Overlay { path, holds, owned });
        }
        Kind::Empty => steps.push(directory(path, 0o755)),
        Kind::Split(entries) => {
            steps.push(Step::Directory { path: path.clone(), mode: None });
            for entry in entries {
                show(&path, entry, points, owned, steps);
            }
        }
        Kind::File if owned.iter().any(|HostPath(file)| *file == path) => steps.push(Step::Copy { path }),
        Kind::File => steps.push(Step::File { path }),
        Kind::Link(target) => steps.push(Step::Link { path, target: target.clone() }),
    }
}

/// Empty directories of the place's own.
fn own_directories(steps: &mut Vec<Step>) {
    for (path, mode) in [
        ("/home", 0o755),
        (HOME, 0o700),
        ("/root", 0o700),
        ("/run", 0o755),
        ("/run/lock", 0o1777),
        ("/tmp", 0o1777),
        ("/dev", 0o755),
        ("/dev/pts", 0o755),
        ("/dev/shm", 0o1777),
        ("/dev/mqueue", 0o1777),
        ("/proc", 0o555),
        ("/sys", 0o755),
    ] {
        steps.push(directory(path, mode));
    }
}

fn devices(host: &Host, steps: &mut Vec<Step>) {
    steps.push(Step::Mount { kind: Special::Terminals, path: "/dev/pts".into() });
    steps.push(Step::Mount { kind: Special::Queues, path: "/dev/mqueue".into() });
    for name in &host.devices {
        let path = Path::new("/dev").join(name);
        // A device that can only be read takes what is written to it, and no other mode, owner or time: user 0 inside
        // may be the one who owns it.
        steps.push(Step::Bind(Bind { device: true, make: true, ..bind(&path, &path, true) }));
    }
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        steps.push(Step::Link { path: Path::new("/dev").join(name), target: target.into() });
    }
}

/// Whether the command is the host's root outside, or in its group, whatever its numbers are inside.
fn is_hosts_root(user: User, caller: (u32, u32)) -> bool {
    let (uid, gid) = if caller.0 == 0 { user.ids_or(caller) } else { caller };
    uid == 0 || gid == 0
}

/// The caller's mounts, those that hold others first.
fn mounts(wanted: &[Mount]) -> Vec<Bind> {
    let mut sorted: Vec<&Mount> = wanted.iter().collect();
    sorted.sort_by_key(|mount| mount.target.components().count());
    let shared = |mount: &Mount| {
        let mut others = wanted.iter().filter(|other| other.target != mount.target);
        others.any(|other| mount.target.starts_with(&other.target))
    };
    let one = |mount: &&Mount| Bind { make: !shared(mount), ..bind(&mount.source, &mount.target, mount.read_only) };
    sorted.iter().map(one).collect()
}

fn bind(source: &Path, path: &Path, read_only: bool) -> Bind {
    Bind { source: source.into(), path: path.into(), read_only, device: false, optional: false, make: false }
}

fn directory(path: impl Into<PathBuf>, mode: u32) -> Step {
    Step::Directory { path: path.into(), mode: Some(mode) }
}

impl Step {
    /// Whether it is the builder's, who stands outside.
    pub(crate) fn is_outside(&self) -> bool {
        matches!(
            self,
            Step::Group(_)
                | Step::MountNamespace
                | Step::Open { .. }
                | Step::Become { .. }
                | Step::Veil { .. }
                | Step::UserNamespace { .. }
                | Step::Namespaces { .. }
        )
    }

    /// As words, for people and for shells.
    pub(crate) fn words(&self) -> Vec<OsString> {
        match self {
            Step::Group(group) => list(&[&"cgroup", &group.dir]),
            Step::MountNamespace => list(&[&"unshare", &"mount"]),
            Step::Open { bind, .. } => list(&[&"open", &bind.source]),
            Step::Become { uid, gid } => list(&[&"become", &format!("{uid}:{gid}")]),
            Step::Veil { paths } => {
                let paths: Vec<&dyn AsRef<OsStr>> = paths.iter().map(|path| &path.0 as &dyn AsRef<OsStr>).collect();
                list(&[&[&"veil" as &dyn AsRef<OsStr>], &paths[..]].concat())
            }
            Step::UserNamespace { uid, gid } => list(&[&"unshare", &"user", &format!("{uid}:{gid}")]),
            Step::Namespaces { network: true } => list(&[&"unshare", &"mount,pid,ipc,uts,net"]),
            Step::Namespaces { network: false } => list(&[&"unshare", &"mount,pid,ipc,uts"]),
            Step::CgroupNamespace => list(&[&"unshare", &"cgroup"]),
            Step::Processes { most } => list(&[&"processes", &most.to_string()]),
            Step::Loopback => list(&[&"loopback"]),
            Step::Root => list(&[&"tmpfs", &"/"]),
            Step::Directory { path, mode: Some(mode) } => list(&[&"directory", &format!("{mode:04o}"), path]),
            Step::Directory { path, mode: None } => list(&[&"directory", &"as-is", path]),
            Step::Link { path, target } => list(&[&"link", target, path]),
            Step::Overlay { path, .. } => list(&[&"overlay", path]),
            Step::File { path } => list(&[&"file", path]),
            Step::Copy { path } => list(&[&"copy", path]),
            Step::Bind(bind) if bind.read_only => list(&[&"bind-read-only", &bind.source, &bind.path]),
            Step::Bind(bind) => list(&[&"bind", &bind.source, &bind.path]),
            Step::Private { path } => list(&[&"private", path]),
            Step::Hide { path } => list(&[&"hide", path]),
            Step::Freeze { path } => list(&[&"read-only", path]),
            Step::Mount { kind, path } => list(&[&"mount", &kind.as_str(), path]),
            Step::Enter => list(&[&"enter"]),
            Step::NoNamespaces { kind } => list(&[&"no-namespaces", &kind.as_str()]),
            Step::Workdir { path, .. } => list(&[&"workdir", path]),
            Step::NoPrivileges => list(&[&"no-privileges"]),
            Step::Filter { allow_namespaces: true } => list(&[&"seccomp", &"allow-namespaces"]),
            Step::Filter { allow_namespaces: false } => list(&[&"seccomp"]),
        }
    }
}

fn list(words: &[&dyn AsRef<OsStr>]) -> Vec<OsString> {
    words.iter().map(|word| word.as_ref().to_owned()).collect()
}

impl Special {
    /// The kernel's name of it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Special::Proc => "proc",
            Special::Terminals => "devpts",
            Special::Queues => "mqueue",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.words();
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        f.write_str(&crate::base::error::one_line(&words.join(" ")))
    }
}

#[cfg(test)]
mod tests;
