//! What programs see of the kernel in /proc and /sys.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::{Bind, Forbidden, Special, Step, bind, directory};
use crate::runtime::native::cgroup::Group;
use crate::runtime::native::host::Host;

/// What of /proc is never written, whether this kernel has it or not.
const FROZEN: [&str; 12] =
    ["acpi", "bus", "dynamic_debug", "fs", "irq", "sys", "sysrq-trigger", "mtrr", "scsi", "asound", "driver", "tty"];

/// What of /proc tells of memory, keys and addresses.
const SECRET: [&str; 12] = [
    "kcore",
    "keys",
    "key-users",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "sched_debug",
    "slabinfo",
    "timer_list",
    "vmallocinfo",
];

/// What programs read about the machine. User 0 may write to much of /proc whatever its capabilities, if it is the
/// host's root: so nothing there can be written, and what shows memory or keys is not there at all.
pub(crate) fn of_kernel(host: &Host, allow_namespaces: bool, steps: &mut Vec<Step>) {
    steps.push(Step::Mount { kind: Special::Proc, path: "/proc".into() });
    // A limit of this user namespace, set in the file that is then frozen.
    let kind = if allow_namespaces { Forbidden::Cgroup } else { Forbidden::User };
    steps.push(Step::NoNamespaces { kind });
    // The known ones wherever they are, and what this kernel has besides.
    let known = FROZEN.iter().chain(&SECRET).copied();
    let others = host.writable.iter().filter(|name| !known.clone().any(|known| known == **name));
    for name in FROZEN.iter().map(OsStr::new).chain(others.map(OsString::as_os_str)) {
        steps.push(Step::Freeze { path: Path::new("/proc").join(name) });
    }
    for name in SECRET {
        steps.push(Step::Hide { path: Path::new("/proc").join(name) });
    }
    for name in ["cpu", "node"] {
        let path = Path::new("/sys/devices/system").join(name);
        steps.push(Step::Bind(Bind { optional: true, make: true, ..bind(&path, &path, true) }));
    }
}

/// A whole /proc that nobody can reach, since what is above it is hidden. The kernel lets only those mount one of their
/// own, in a pid namespace within, who have one without covers (`mount_too_revealing` in fs/namespace.c). Nobody has it
/// who is root outside: to him much in a /proc of his own would be writable, whatever his capabilities.
pub(crate) fn whole_proc(steps: &mut Vec<Step>) {
    const ABOVE: &str = "/sys/kernel";
    let path = Path::new(ABOVE).join("proc");
    steps.extend([directory(ABOVE, 0o755), directory(path.clone(), 0o555)]);
    steps.push(Step::Mount { kind: Special::Proc, path });
    steps.push(Step::Hide { path: ABOVE.into() });
}

/// Where programs look for the limits of their control groups: the run's own, and no other.
pub(crate) fn limits(groups: &[Group], steps: &mut Vec<Step>) {
    const TOP: &str = "/sys/fs/cgroup";
    if groups.is_empty() {
        return;
    }
    let places: Vec<PathBuf> =
        groups.iter().map(|group| Path::new(TOP).join(&group.hierarchy).components().collect()).collect();
    let mut made: Vec<Step> = places.iter().map(|place| directory(place, 0o555)).collect();
    for hierarchy in groups.iter().map(|group| &group.hierarchy).filter(|hierarchy| hierarchy.contains(',')) {
        let names = hierarchy.split(',');
        made.extend(names.map(|name| Step::Link { path: Path::new(TOP).join(name), target: hierarchy.into() }));
    }
    if groups.iter().any(|group| !group.hierarchy.is_empty()) {
        made.insert(0, directory(TOP, 0o755));
        made.push(Step::Freeze { path: TOP.into() });
    }
    steps.push(directory("/sys/fs", 0o755));
    steps.extend(made);
    for (group, place) in groups.iter().zip(places) {
        // One that could not be made is not there.
        let optional = group.values.is_empty();
        steps.push(Step::Bind(Bind { optional, make: true, ..bind(&group.dir, &place, true) }));
    }
}
