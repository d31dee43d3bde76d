//! What of the host a command sees: the workspace, other mounts, and the covers over fosse's own directories.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use super::{absolute, mistake};
use crate::base::error::{Failure, Result};
use crate::runtime::{Cover, Mount, WORKSPACE};

/// The workspace: the one that was asked for, else the current directory, unless that shows too much.
pub(crate) fn workspace(wanted: Option<&Path>, homes: &[PathBuf]) -> Result<PathBuf> {
    let asked = wanted.is_some();
    let dir = match wanted {
        Some(dir) => absolute(dir)?,
        None => std::env::current_dir()
            .map_err(|error| mistake(format!("the current directory: {error}")).hint("-w DIR names a workspace"))?,
    };
    let unusable = |error| {
        mistake(format!("the workspace {}: {error}", dir.display()))
            .hint("it must be a directory that exists here; --workdir DIR is the one inside")
    };
    // What root may not read where it is nobody has no configuration either.
    #[cfg(target_os = "linux")]
    if let Some(unfit) = crate::runtime::native::squash::refusal(&dir, false) {
        return Err(mistake(unfit.why).hint(unfit.hint));
    }
    let real = std::fs::canonicalize(&dir).map_err(unusable)?;
    if !std::fs::metadata(&real).map_err(unusable)?.is_dir() {
        return Err(mistake(format!("the workspace {} is not a directory", dir.display())));
    }
    if real == Path::new("/") {
        return Err(
            mistake("/ cannot be a workspace").hint("-w DIR mounts another directory, and --no-workspace none at all")
        );
    }
    let homes =
        homes.iter().flat_map(|home| [home.clone(), std::fs::canonicalize(home).unwrap_or_else(|_| home.clone())]);
    if !asked && homes.into_iter().any(|home| home.starts_with(&real)) {
        return Err(mistake(format!("the current directory {} holds your home directory", real.display()))
            .hint("-w DIR names a workspace, also this one; --no-workspace mounts none"));
    }
    Ok(real)
}

/// The workspace and what `--mount` asks for.
pub(crate) fn resolve(wanted: &[OsString], workspace: Option<&Path>) -> Result<Vec<Mount>> {
    let mut mounts: Vec<Mount> = workspace
        .map(|dir| Mount { source: dir.to_owned(), target: WORKSPACE.into(), read_only: false })
        .into_iter()
        .collect();
    for text in wanted {
        let mount = parse(text)?;
        if mounts.iter().any(|other| other.target == mount.target) {
            return Err(mistake(format!("two mounts on {}", mount.target.display())));
        }
        mounts.push(mount);
    }
    Ok(mounts)
}

fn parse(text: &OsStr) -> Result<Mount> {
    let shown = text.to_string_lossy().into_owned();
    let refuse = |why: &str| mistake(format!("--mount {shown}: {why}"));
    let parts: Vec<&OsStr> = text.as_bytes().split(|byte| *byte == b':').map(OsStr::from_bytes).collect();
    let (source, target, read_only) = match parts.as_slice() {
        [source, target] => (source, target, false),
        [source, target, mode] if *mode == "ro" => (source, target, true),
        [source, target, mode] if *mode == "rw" => (source, target, false),
        [one] if crate::base::size::parse(&one.to_string_lossy()).is_ok() => {
            return Err(refuse("it must be SRC:DST or SRC:DST:ro").hint(format!("--memory {shown} limits memory")));
        }
        _ => return Err(refuse("it must be SRC:DST or SRC:DST:ro")),
    };
    if source.is_empty() {
        return Err(refuse("it has no source"));
    }
    let source =
        std::fs::canonicalize(absolute(Path::new(source))?).map_err(|error| refuse(&format!("the source: {error}")))?;
    if let Some(below) = Some(&source).filter(|_| read_only).and_then(|source| mounted_below(source)) {
        let why = format!("{} is another file system below it, which engines leave writable", below.display());
        return Err(refuse(&why).hint("mount each of them by itself, read-only"));
    }
    let target = inside(Path::new(target))
        .ok_or_else(|| refuse("the destination must be an absolute path other than /, without .."))?;
    Ok(Mount { source, target, read_only })
}

/// A mount point below a directory (proc_pid_mounts(5)): a read-only bind mount does not reach it before docker 25.
fn mounted_below(source: &Path) -> Option<PathBuf> {
    let mounts = std::fs::read("/proc/self/mounts").ok()?;
    let points = mounts.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(1));
    // Blanks in a path are written as octal escapes, which never begin a name below another.
    let mut below = points.map(|point| Path::new(OsStr::from_bytes(point))).filter(|point| *point != source);
    below.find(|point| point.starts_with(source)).map(Path::to_path_buf)
}

/// A path inside, in its plainest spelling.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (path.is_absolute() && plain != Path::new("/")).then_some(plain)
}

/// Empty places over fosse's own directories, wherever a mount would show them. One that does not exist yet is
/// made if the command could make it: else it could write tomorrow's configuration. The directories on the way to
/// one are mounted on themselves, because a mount point cannot be renamed (rename(2), EBUSY): else the command could
/// move the covered place aside and make another.
pub(crate) fn covers(mounts: &[Mount], own: &[PathBuf], make: bool) -> Result<(Vec<Mount>, Vec<Cover>)> {
    let (mut pins, mut covers): (Vec<Mount>, Vec<Cover>) = (Vec::new(), Vec::new());
    for mount in mounts {
        for dir in own {
            if let Some(link) = links_to(dir).into_iter().find(|link| link.starts_with(&mount.source)) {
                let why = format!(
                    "{} would show {}, a link that leads to fosse's own",
                    mount.source.display(),
                    link.display()
                );
                return Err(mistake(why).hint("name the real directory: a command could make the link lead elsewhere"));
            }
            let real = real(dir);
            if mount.source.starts_with(&real) {
                let why = format!("{} would show {}, which is fosse's own", mount.source.display(), real.display());
                return Err(mistake(why).hint("its records and logs must not be visible to a command"));
            }
            let Ok(rest) = real.strip_prefix(&mount.source) else {
                continue;
            };
            if !real.exists() {
                if mount.read_only {
                    continue;
                }
                if make {
                    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&real);
                    made.map_err(|error| Failure::new(format!("covering {}", real.display()), error))?;
                }
            }
            for way in rest.ancestors().skip(1).filter(|way| !mount.read_only && !way.as_os_str().is_empty()) {
                let pin = Mount { source: mount.source.join(way), target: mount.target.join(way), read_only: false };
                if !pins.contains(&pin) && !mounts.iter().any(|mount| mount.target == pin.target) {
                    pins.push(pin);
                }
            }
            let target = mount.target.join(rest);
            if !covers.iter().any(|cover| target.starts_with(&cover.target)) {
                covers.retain(|cover| !cover.target.starts_with(&target));
                covers.push(Cover { target });
            }
        }
    }
    // Nothing is pinned in a place that is covered whole.
    pins.retain(|pin| !covers.iter().any(|cover| pin.target.starts_with(&cover.target)));
    Ok((pins, covers))
}

/// The most links that are followed on the way to one place (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Where the links are that a path leads through.
fn links_to(path: &Path) -> Vec<PathBuf> {
    let mut links = Vec::new();
    let mut at = PathBuf::from("/");
    let parts = |path: &Path| {
        let names = path.components().rev().filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        });
        names.collect::<Vec<OsString>>()
    };
    let mut rest = parts(path);
    while let Some(name) = rest.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        match std::fs::read_link(&next) {
            Ok(target) if links.len() < LINKS_MAX => {
                links.push(next);
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                rest.extend(parts(&target));
            }
            _ => at = next,
        }
    }
    links
}

/// A path with its links resolved, as far as it exists.
fn real(path: &Path) -> PathBuf {
    if let Ok(real) = std::fs::canonicalize(path) {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(source: &str, target: &str) -> Mount {
        Mount { source: source.into(), target: target.into(), read_only: false }
    }

    #[test]
    fn own_directories_are_covered_where_a_mount_shows_them() {
        let mounts = [mount("/nonexistent/home", "/workspace"), mount("/elsewhere", "/e")];
        let own = ["/nonexistent/home/state/fosse", "/nonexistent/home/state", "/run/fosse"].map(PathBuf::from);
        let (pins, covers) = covers(&mounts, &own, false).unwrap();
        assert_eq!((pins, covers), (vec![], vec![Cover { target: "/workspace/state".into() }]));
    }

    #[test]
    fn the_way_to_an_own_directory_cannot_be_moved_aside() {
        let mounts = [mount("/nonexistent/home", "/workspace")];
        let own = [PathBuf::from("/nonexistent/home/.local/state/fosse")];
        let (pins, _) = covers(&mounts, &own, false).unwrap();
        let wanted = [".local/state", ".local"]
            .map(|way| mount(&format!("/nonexistent/home/{way}"), &format!("/workspace/{way}")));
        assert_eq!(pins, wanted);
    }

    #[test]
    fn a_link_on_the_way_to_an_own_directory_is_not_shown() {
        let dir = std::env::temp_dir().join(format!("fosse-links-{}", std::process::id()));
        let (shared, kept) = (dir.join("shared"), dir.join("kept"));
        std::fs::create_dir_all(&shared).unwrap();
        std::fs::create_dir_all(&kept).unwrap();
        std::os::unix::fs::symlink("../kept", shared.join("state")).unwrap();
        std::os::unix::fs::symlink(shared.join("state"), dir.join("far")).unwrap();
        let mounts = [mount(shared.to_str().unwrap(), "/workspace")];
        let results = [shared.join("state"), dir.join("far/below")].map(|own| covers(&mounts, &[own], false).is_err());
        let straight = covers(&mounts, &[kept], false).is_ok();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!((results, straight), ([true, true], true));
    }

    #[test]
    fn a_mount_of_an_own_directory_or_of_what_is_in_it_is_refused() {
        let own = [PathBuf::from("/nonexistent/state")];
        for source in ["/nonexistent/state", "/nonexistent/state/runs"] {
            assert!(covers(&[mount(source, "/x")], &own, false).is_err(), "{source}");
        }
    }

    #[test]
    fn destinations_are_plain_absolute_paths() {
        assert_eq!(inside(Path::new("/a/./b//c/")), Some("/a/b/c".into()));
        for bad in ["a", "/", "/a/../b", "", "//"] {
            assert_eq!(inside(Path::new(bad)), None, "{bad}");
        }
    }

    #[test]
    fn the_home_directory_and_its_ancestors_are_refused_as_the_default_only() {
        let here = std::fs::canonicalize(std::env::current_dir().unwrap()).unwrap();
        let below = here.join("below");
        assert!(workspace(None, std::slice::from_ref(&below)).is_err());
        assert!(workspace(None, std::slice::from_ref(&here)).is_err());
        assert_eq!(workspace(None, &["/somewhere/else".into()]).unwrap(), here);
        assert_eq!(workspace(Some(&here), &[below]).unwrap(), here);
        assert!(workspace(Some(Path::new("/")), &[]).is_err());
    }
}
