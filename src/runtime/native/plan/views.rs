//! What programs see of the kernel in /proc and /sys.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::super::host::Host;
use super::{Bind, Forbidden, Special, Step, bind};

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
pub fn of_kernel(host: &Host, allow_namespaces: bool, steps: &mut Vec<Step>) {
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
