//! A container's root directory: its image below what it writes, with /proc, a small /dev, and its mounts.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use fosse::sys::linux::mount::{self, Attributes, Links, Mask, Tree, look_up};

use crate::boot::TINY;
use crate::model::{Config, Mount, MountKind};
use crate::store::Store;

const OPEN: Attributes = Attributes { read_only: false, no_execution: false, no_devices: false };
const READ_ONLY: Attributes = Attributes { read_only: true, no_execution: false, no_devices: false };

/// Devices that every container has.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// A mount, and what is shown there if that is the host's.
type Shown<'a> = (&'a Mount, Option<OwnedFd>);

/// Makes it in this process's mount namespace, which nobody else is in, and enters it.
pub fn enter(store: &Store, config: &Config) -> io::Result<()> {
    let mask = Mask::lift();
    mount::make_all_private()?;
    let host = File::open("/")?;
    let dir = store.dir(&config.id);
    let tree = root(&host, &dir, &config.rootfs)?;
    let root = tree.as_fd().try_clone_to_owned()?;
    write_files(&dir.join("root"), config)?;
    let mounts = mounts(store, &host, config)?;
    for name in ["proc", "dev", "sys"] {
        target(&root, Path::new(name), true)?;
    }
    if config.init {
        target(&root, Path::new(TINY), false)?;
    }
    if config.read_only {
        // Every place first, while there can be new ones.
        for (mount, source) in &mounts {
            target(&root, Path::new(&mount.destination), is_directory(source.as_ref())?)?;
        }
        tree.restrict(READ_ONLY)?;
    }
    special(&root, c"proc", &[], "proc")?;
    // Without a network namespace of its own a user namespace may not have it.
    special(&root, c"sysfs", &[], "sys").unwrap_or_default();
    devices(&root, &host, config)?;
    if config.init {
        // By its name: what /proc leads to is a mount of another namespace.
        let name = std::env::current_exe()?.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
        let program = look_up(host.as_fd(), Path::new(&name), Links::Inside)?;
        Tree::copy_of(program.as_fd())?.attach(target(&root, Path::new(TINY), false)?.as_fd())?;
    }
    for (mount, source) in &mounts {
        let place = target(&root, Path::new(&mount.destination), is_directory(source.as_ref())?)?;
        let tree = match source {
            None => temporary(&mount.options)?,
            Some(source) => Tree::copy_of(source.as_fd())?,
        };
        tree.restrict(if mount.is_read_only() { READ_ONLY } else { OPEN })?;
        tree.attach(place.as_fd())?;
    }
    mask.restore();
    // The name belongs to the namespace of who writes it. Only the machine's root may write the file.
    if fs::write("/proc/sys/kernel/hostname", &config.id).is_err() {
        Command::new("hostname").arg(&config.id).status()?;
    }
    mount::pivot_away(root.as_fd())
}

/// The image's tree with an overlay over it, or a copy of it where the kernel gives none.
fn root(host: &File, dir: &Path, rootfs: &str) -> io::Result<Tree> {
    for name in ["root", "upper", "work"] {
        // Never the container's own: it may have been deleted meanwhile.
        match fs::create_dir(dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    let place = look_up(host.as_fd(), &dir.join("root"), Links::Inside)?;
    let [lower, upper, work] =
        [Path::new(rootfs).to_owned(), dir.join("upper"), dir.join("work")].map(|path| mount::overlay_path(&path));
    let (lower, upper, work) = (lower?, upper?, work?);
    let options: [(&CStr, &CStr); 4] =
        [(c"lowerdir", &lower), (c"upperdir", &upper), (c"workdir", &work), (c"userxattr", c"")];
    // In a user namespace the root user's files are nobody's, and could not be changed.
    let is_ours = fs::metadata(rootfs)?.uid() == 0;
    let overlay = if is_ours { Tree::new(c"overlay", &options, OPEN).ok() } else { None };
    let tree = match overlay {
        Some(tree) => tree,
        None => {
            let copied = dir.join("copied");
            if !copied.exists() {
                let (from, to) = (Path::new(rootfs).join("."), dir.join("root"));
                let mut copy = Command::new("cp");
                let status = copy.args(["-dR", "--preserve=mode,timestamps,links"]).args([&from, &to]).status()?;
                if !status.success() {
                    return Err(io::Error::other("the image could not be copied"));
                }
                File::create(copied)?;
            }
            Tree::copy_of(place.as_fd())?
        }
    };
    tree.attach(place.as_fd())?;
    Ok(tree)
}

/// What is written for each container by whoever starts it.
fn write_files(root: &Path, config: &Config) -> io::Result<()> {
    let etc = root.join("etc");
    fs::create_dir_all(&etc)?;
    let state_hosts = format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {}\n", config.id);
    let write = |name: &str, text: &str| {
        // Never through a link, which would lead outside.
        fs::remove_file(etc.join(name)).unwrap_or_default();
        fs::write(etc.join(name), text)
    };
    write("hosts", &state_hosts)?;
    write("hostname", &format!("{}\n", config.id))?;
    if config.dns.none || config.networks.is_empty() {
        return Ok(());
    }
    let mut text = String::new();
    for server in &config.dns.nameservers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    text.push_str(&config.dns.domain.as_ref().map(|domain| format!("domain {domain}\n")).unwrap_or_default());
    for (word, list) in [("search", &config.dns.search), ("options", &config.dns.options)] {
        if !list.is_empty() {
            text.push_str(&format!("{word} {}\n", list.join(" ")));
        }
    }
    write("resolv.conf", &text)
}

/// The mounts with their sources, which are looked up while the host can be seen.
fn mounts<'a>(store: &Store, host: &File, config: &'a Config) -> io::Result<Vec<Shown<'a>>> {
    let open = |path: &Path| look_up(host.as_fd(), path, Links::Inside).map(Some);
    let source = |mount: &Mount| match &mount.kind {
        MountKind::Tmpfs => Ok(None),
        MountKind::Virtiofs => open(Path::new(&mount.source)),
        MountKind::Volume(name) => open(&store.volume_dir(name)),
    };
    config.mounts.iter().map(|mount| Ok((mount, source(mount)?))).collect()
}

fn is_directory(source: Option<&OwnedFd>) -> io::Result<bool> {
    source.map_or(Ok(true), |source| Ok(mount::is_directory(mount::mode_of(source.as_fd())?)))
}

fn special(root: &OwnedFd, kind: &CStr, options: &[(&CStr, &CStr)], name: &str) -> io::Result<()> {
    Tree::new(kind, options, OPEN)?.attach(target(root, Path::new(name), true)?.as_fd())
}

/// A file system in memory, of the size and mode that are asked for.
fn temporary(options: &[String]) -> io::Result<Tree> {
    let pairs = options.iter().filter_map(|option| option.split_once('='));
    let wanted = pairs.filter(|(name, _)| ["size", "mode"].contains(name));
    let strings: Vec<(CString, CString)> =
        wanted.map(|(name, value)| Ok((CString::new(name)?, CString::new(value)?))).collect::<io::Result<_>>()?;
    let mut options: Vec<(&CStr, &CStr)> = vec![(c"mode", c"1777")];
    options.extend(strings.iter().map(|(name, value)| (name.as_c_str(), value.as_c_str())));
    Tree::new(c"tmpfs", &options, OPEN)
}

/// A small /dev.
fn devices(root: &OwnedFd, host: &File, config: &Config) -> io::Result<()> {
    special(root, c"tmpfs", &[(c"mode", c"0755")], "dev")?;
    let dev = look_up(root.as_fd(), Path::new("dev"), Links::Inside)?;
    for name in DEVICES {
        let device = look_up(host.as_fd(), &Path::new("dev").join(name), Links::Inside)?;
        mount::make_file(dev.as_fd(), Path::new(name), 0o666)?;
        let place = look_up(dev.as_fd(), Path::new(name), Links::Inside)?;
        Tree::copy_of(device.as_fd())?.attach(place.as_fd())?;
    }
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    for (name, to) in links {
        mount::make_link(dev.as_fd(), Path::new(name), Path::new(to))?;
    }
    let size = CString::new(config.shm_size.unwrap_or(64 << 20).to_string())?;
    special(root, c"tmpfs", &[(c"mode", c"1777"), (c"size", &size)], "dev/shm")?;
    let options: [(&CStr, &CStr); 3] = [(c"newinstance", c""), (c"ptmxmode", c"0666"), (c"mode", c"0620")];
    special(root, c"devpts", &options, "dev/pts")
}

/// Where something is mounted: what is there, or a directory or file that is made for it.
fn target(root: &OwnedFd, path: &Path, directory: bool) -> io::Result<OwnedFd> {
    match look_up(root.as_fd(), path, Links::Inside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(error) };
            let parent = if parent.as_os_str().is_empty() { Path::new("/") } else { parent };
            let parent = target(root, parent, true)?;
            make(parent.as_fd(), Path::new(name), directory)?;
            look_up(parent.as_fd(), Path::new(name), Links::Refused)
        }
        other => other,
    }
}

fn make(parent: BorrowedFd<'_>, name: &Path, directory: bool) -> io::Result<()> {
    if directory { mount::make_directory(parent, name, 0o755) } else { mount::make_file(parent, name, 0o644) }
}
