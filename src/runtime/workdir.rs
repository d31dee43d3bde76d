//! Whether the directory that a command is to start in is there, as far as the host shows it. An engine makes one that is
//! missing, as root, also in what is mounted: there it would stay.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use super::{Mount, Spec, Unfit};

/// The most links on a way (path_resolution(7)).
const LINKS: usize = 40;

/// What is at a path inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// A directory of the host's.
    There,
    /// Nothing, where only the host could have something.
    Missing,
    /// Something of the host's that is no directory.
    Other,
    /// Whatever the image has, or what cannot be looked at.
    Unknown,
}

/// Refuses a directory that is missing in what is mounted.
pub(crate) fn check(spec: &Spec) -> Result<(), Unfit> {
    let Some(dir) = &spec.workdir else { return Ok(()) };
    let why = match look(&spec.mounts, Path::new(dir)) {
        View::There | View::Unknown => return Ok(()),
        View::Missing => format!("--workdir {dir} is not there, and nothing is made in what is mounted"),
        View::Other => format!("--workdir {dir} is not a directory"),
    };
    Err(Unfit { why, hint: "name a directory that is there, or make it first".into() })
}

/// Whether a directory is meant to be in what is mounted.
pub(crate) fn is_mounted(spec: &Spec, dir: &str) -> bool {
    spec.mounts.iter().any(|mount| Path::new(dir).starts_with(&mount.target))
}

/// Looks a path up as the kernel will do it inside.
fn look(mounts: &[Mount], dir: &Path) -> View {
    let (mut done, mut todo, mut links) = (PathBuf::from("/"), names(dir), 0);
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            done.pop();
            continue;
        }
        done.push(&name);
        let Some((host, is_top)) = on_host(mounts, &done) else { continue };
        let found = if is_top { fs::metadata(&host) } else { fs::symlink_metadata(&host) };
        match found {
            Ok(found) if found.is_dir() => {}
            Ok(found) if found.is_symlink() => {
                links += 1;
                let Ok(target) = fs::read_link(&host) else { return View::Unknown };
                if links > LINKS {
                    return View::Other;
                }
                done.pop();
                if target.is_absolute() {
                    done = PathBuf::from("/");
                }
                for name in names(&target).into_iter().rev() {
                    todo.push_front(name);
                }
            }
            Ok(_) => return View::Other,
            Err(error) if error.kind() == ErrorKind::NotFound => return View::Missing,
            Err(_) => return View::Unknown,
        }
    }
    if on_host(mounts, &done).is_some() { View::There } else { View::Unknown }
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

/// Where on the host a path inside is, if it is mounted, and whether it is the mount itself.
fn on_host(mounts: &[Mount], path: &Path) -> Option<(PathBuf, bool)> {
    let mount = mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.target))
        .max_by_key(|mount| mount.target.as_os_str().len())?;
    let below = path.strip_prefix(&mount.target).ok()?;
    let is_top = below.as_os_str().is_empty();
    Some((if is_top { mount.source.clone() } else { mount.source.join(below) }, is_top))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_looked_up_as_it_will_be_inside() {
        let top = std::env::temp_dir().join(format!("fosse-workdir-{}", crate::base::id::random_hex(6).unwrap()));
        for dir in ["ws/dir", "other/deep"] {
            fs::create_dir_all(top.join(dir)).unwrap();
        }
        fs::write(top.join("ws/file"), "").unwrap();
        for (link, target) in [
            ("inner", "dir"),
            ("absolute", "/workspace/dir"),
            ("dangling", "nowhere"),
            ("image", "/usr"),
            ("loop", "loop"),
            ("across", "/mnt/other"),
            ("up", "../workspace/dir/.."),
        ] {
            std::os::unix::fs::symlink(target, top.join("ws").join(link)).unwrap();
        }
        let mount =
            |source: &str, target: &str| Mount { source: top.join(source), target: target.into(), read_only: false };
        let mounts = [mount("ws", "/workspace"), mount("other", "/mnt/other"), mount("ws/dir", "/workspace/file")];
        for (dir, wanted) in [
            ("/workspace", View::There),
            ("/workspace/dir/../dir/.", View::There),
            ("/workspace/new", View::Missing),
            ("/workspace/dir/new/deep", View::Missing),
            ("/workspace/file", View::There),
            ("/workspace/inner", View::There),
            ("/workspace/inner/new", View::Missing),
            ("/workspace/absolute", View::There),
            ("/workspace/absolute/new", View::Missing),
            ("/workspace/dangling", View::Missing),
            ("/workspace/image/src", View::Unknown),
            ("/workspace/loop", View::Other),
            ("/workspace/across/deep", View::There),
            ("/workspace/across/new", View::Missing),
            ("/workspace/up/inner", View::There),
            ("/usr/../workspace/new", View::Missing),
            ("/new", View::Unknown),
            ("/", View::Unknown),
        ] {
            assert_eq!(look(&mounts, Path::new(dir)), wanted, "{dir}");
        }
        assert_eq!(look(&mounts[..1], Path::new("/workspace/file")), View::Other);
        fs::remove_dir_all(&top).unwrap();
    }
}
