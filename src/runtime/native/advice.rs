//! From a step that the kernel refused to what a user can do about it.

use std::path::Path;

use super::place;
use super::plan::{Special, Step};
use crate::runtime::Error;

/// What of the machine decides whether namespaces can be had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    /// A kind of namespace of which there may be none (namespaces(7), Linux 4.9): the switch.
    pub(crate) none_allowed: Option<&'static str>,
    /// kernel.unprivileged_userns_clone is 0 (Debian's and Arch's kernels).
    pub(crate) clone_forbidden: bool,
    /// kernel.apparmor_restrict_unprivileged_userns is 1 (Ubuntu 23.10 and later).
    pub(crate) apparmor: bool,
    /// This is a container of an engine.
    pub(crate) container: bool,
    /// This is a sandbox of fosse.
    pub(crate) sandbox: bool,
}

/// The limits on namespaces that a sandbox needs, in user.* of sysctl(8).
const LIMITS: [&str; 6] = [
    "max_user_namespaces",
    "max_mnt_namespaces",
    "max_pid_namespaces",
    "max_ipc_namespaces",
    "max_uts_namespaces",
    "max_net_namespaces",
];

impl Machine {
    /// Reads the switches.
    pub(crate) fn look() -> Machine {
        let is = |path: &str, value: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
        Machine {
            none_allowed: LIMITS.into_iter().find(|name| is(&format!("/proc/sys/user/{name}"), "0")),
            clone_forbidden: is("/proc/sys/kernel/unprivileged_userns_clone", "0"),
            apparmor: is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
            sandbox: is("/proc/1/comm", "fosse-init"),
            container: ["/.dockerenv", "/run/.containerenv"].iter().any(|path| Path::new(path).exists()),
        }
    }
}

/// In words: which step, why, and what to do.
pub(crate) fn explain(error: place::Error, machine: Machine) -> Error {
    let (why, hint) = match error {
        place::Error::Step(Some(step), errno, why) => (format!("{step}: {why}"), hint(&step, errno, machine)),
        place::Error::Step(None, errno, why) => {
            let hint = match errno {
                libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE => {
                    "is there memory, and room for more processes and descriptors? ulimit -a"
                }
                libc::ENOSPC | libc::EUSERS => {
                    "so many namespaces are in use already: the limits are user.max_*_namespaces, in /proc/sys/user"
                }
                _ => "fosse doctor tries each part of a sandbox",
            };
            (why, hint.to_owned())
        }
        place::Error::Lost(error) => (
            format!("the process that makes the sandbox was lost: {error}"),
            "is there memory, and room for more processes and open files? fosse doctor tries each part of a sandbox"
                .to_owned(),
        ),
        place::Error::Late => ("it took too long".to_owned(), "does a file system hang? mount lists them".to_owned()),
        place::Error::Cancelled => ("it was cancelled".to_owned(), String::new()),
    };
    Error::Forbidden { why, hint }
}

/// What helps when a step fails with an errno.
pub(crate) fn hint(step: &Step, errno: i32, machine: Machine) -> String {
    let is_namespace = matches!(step, Step::UserNamespace { .. } | Step::Namespaces { .. });
    if let (true, Some(limit), libc::ENOSPC | libc::EUSERS | libc::EPERM) = (is_namespace, machine.none_allowed, errno)
    {
        if machine.sandbox {
            return "this is a sandbox of fosse: the run outside needs --allow-userns".to_owned();
        }
        return format!("namespaces are switched off: as root, sysctl -w user.{limit}=10000");
    }
    fixed_hint(step, errno, machine).to_owned()
}

fn fixed_hint(step: &Step, errno: i32, machine: Machine) -> &'static str {
    let refused = matches!(errno, libc::EPERM | libc::EACCES | libc::ENOSPC | libc::EUSERS | libc::EINVAL);
    if errno == libc::ENOSYS {
        return "the native runtime needs Linux 5.12 or later; --runtime docker and --image work with an older one";
    }
    match step {
        Step::Group(_) => "may this user make control groups? fosse-run(1), Limits, says how",
        Step::Become { .. } => "only root can be another user: --user caller",
        Step::Open { .. } if matches!(errno, libc::EACCES) => {
            "the user that the command runs as cannot reach it: it needs the right to enter every directory above"
        }
        Step::Open { .. } | Step::Bind(_) | Step::Hide { .. } if errno == libc::ELOOP => {
            "a symbolic link has come into the way: name the real directory"
        }
        Step::Bind(_) if errno == libc::ENOENT => "nothing is made in what is shared: make the mount point first",
        Step::Workdir { .. } => "--workdir must be a directory that the command can enter",
        Step::UserNamespace { uid: 0, .. } if refused && machine.sandbox => {
            "user 0 of a sandbox cannot be user 0 of one within: the run outside needs --user UID, and not of root"
        }
        Step::Mount { kind: Special::Proc, .. } if refused && machine.sandbox => {
            "root's sandbox has no /proc to be mounted again: the run outside needs --user UID, and not of root"
        }
        Step::Mount { kind: Special::Proc, .. } if refused => {
            "parts of /proc are covered here, as in a container: docker run --security-opt systempaths=unconfined, or --privileged"
        }
        Step::CgroupNamespace if refused => {
            "cgroup namespaces are switched off: as root, sysctl -w user.max_cgroup_namespaces=10000"
        }
        _ if !refused => "fosse doctor tries each part of a sandbox",
        _ if errno == libc::ENOSPC => {
            "so many namespaces are in use already: the limits are user.max_*_namespaces, in /proc/sys/user"
        }
        _ if machine.clone_forbidden => {
            "user namespaces are switched off: as root, sysctl -w kernel.unprivileged_userns_clone=1"
        }
        _ if machine.apparmor => {
            "AppArmor restricts user namespaces: as root, sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give fosse a profile with userns"
        }
        _ if machine.container => {
            "this container may make no namespaces: docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined, or --privileged"
        }
        _ => "something forbids user namespaces: in a chroot(2), or by a security module? fosse doctor tries each part",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_forbids_user_namespaces_is_named() {
        let step = Step::UserNamespace { uid: 1, gid: 1 };
        let nothing = Machine::default();
        for (machine, errno, word) in [
            (Machine { none_allowed: Some("max_mnt_namespaces"), ..nothing }, libc::ENOSPC, "user.max_mnt_namespaces="),
            (nothing, libc::ENOSPC, "in use already"),
            (Machine { clone_forbidden: true, ..nothing }, libc::EPERM, "kernel.unprivileged_userns_clone=1"),
            (Machine { apparmor: true, ..nothing }, libc::EPERM, "apparmor_restrict_unprivileged_userns"),
            (Machine { container: true, ..nothing }, libc::EPERM, "seccomp=unconfined"),
            (nothing, libc::EPERM, "chroot"),
            (nothing, libc::ENOSYS, "Linux 5.12"),
            (Machine { apparmor: true, ..nothing }, libc::ENOMEM, "doctor"),
        ] {
            let hint = hint(&step, errno, machine);
            assert!(hint.contains(word), "{machine:?} {errno}: {hint}");
        }
        let sandbox = Machine { sandbox: true, ..nothing };
        let within = Machine { none_allowed: Some("max_user_namespaces"), ..sandbox };
        assert!(hint(&step, libc::EPERM, within).contains("--allow-userns"));
        assert!(hint(&Step::UserNamespace { uid: 0, gid: 0 }, libc::EPERM, sandbox).contains("--user UID"));
        assert!(hint(&Step::CgroupNamespace, libc::ENOSPC, nothing).contains("max_cgroup_namespaces"));
        // A limit that has nothing to do with the step.
        let limited = Machine { none_allowed: Some("max_mnt_namespaces"), ..nothing };
        assert!(!hint(&Step::Root, libc::EPERM, limited).contains("max_"));
        // AppArmor lets the namespace be made, and nothing be mounted in it.
        assert!(hint(&Step::Root, libc::EACCES, Machine { apparmor: true, ..nothing }).contains("AppArmor"));
        let proc = Step::Mount { kind: Special::Proc, path: "/proc".into() };
        assert!(hint(&proc, libc::EPERM, nothing).contains("systempaths"));
    }
}
