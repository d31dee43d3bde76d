//! Limits by control groups, version 2 or 1, wherever the caller may make one.
//!
//! # What the kernel asks for
//!
//! *Version 2* (cgroups(7); the kernel's `admin-guide/cgroup-v2.rst`) has one tree. A group offers the controllers of
//! its `cgroup.controllers`, and its children have those that its `cgroup.subtree_control` names. Only the root may do
//! that while processes sit in it ("no internal process constraint"). So a run's group cannot lie below the group that
//! fosse itself is in; it lies beside it or further up: below the nearest ancestor that hands on what is wanted, or
//! that holds no process and can be told to. Who moves a process needs to write `cgroup.procs` of the target and of the
//! closest ancestor that source and target share ("delegation containment"): here that is the group's parent.
//! Systemd hands on a controller only as far as some unit asks for it, which is what `Delegate=yes` does
//! (systemd.resource-control(5)); while that unit lives, its manager does not take the controller away again. What it
//! does not know of it takes away: where root enables a controller above a session or a service, the next unit that
//! starts there ends that, and the limits of that controller with it, without a word. The kernel refuses only while a
//! child hands the controller on itself. So a run's group lies in another that does nothing else, of the same name.
//!
//! *Version 1* (`admin-guide/cgroup-v1/`) has a tree for each controller, or for some together; processes may sit
//! anywhere, so a run's group lies below fosse's own. A controller that has a tree of version 1 is not in version 2's.
//!
//! Where a process is, `/proc/self/cgroup` says, from the root of its cgroup namespace on; which part of a tree a
//! mount shows, the root field of `/proc/self/mountinfo` says, from the same root on (cgroup_namespaces(7)). So a
//! mount that came from outside a namespace has a root like `/../..` and shows where this process is only if the one
//! path is the beginning of the other.
//!
//! # What is shown inside
//!
//! Programs that size themselves by their limits (Java's heap and threads, Node's heap, Go's and Rust's threads) read
//! them below /sys/fs/cgroup, where /proc/self/cgroup and /proc/self/mountinfo say. A run's groups are bound there, each
//! as if it were its hierarchy's root, which it is in the run's cgroup namespace; nothing else of a hierarchy is. Of
//! version 1 Java believes nothing if it does not find the hierarchies of memory, cpu, cpuacct and cpuset all together
//! (`cgroupSubsystem_linux.cpp`), so a run with any limit has a group in each, some without values. A run without
//! limits has no group, and sees none: the caller's own holds others.
//!
//! # What is left alone
//!
//! A controller that was enabled for a run stays enabled: others may rely on it by then. No process is moved but the
//! one that joins. A group that lies beside fosse's own is not under the limits of fosse's own group, only under those
//! of their common ancestors.

mod apply;
mod choose;
mod machine;

pub(crate) use apply::{door, enter, make, oom_counter, remove};

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// How the name of every group begins; what is named otherwise is none of fosse's, and is never removed.
pub(crate) const PREFIX: &str = "fosse-";

/// One control group to make for a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    /// Its directory.
    pub(crate) dir: PathBuf,
    /// Controllers that its parent has to hand on, and does not yet; version 2 only.
    pub(crate) enable: Vec<String>,
    /// Settings, written in order after it is made. One without any is there to be seen, and the run does without it
    /// if it cannot be made.
    pub(crate) values: Vec<Setting>,
    /// Its hierarchy, as its directory below /sys/fs/cgroup is usually called; empty where there is only one.
    #[serde(default)]
    pub(crate) hierarchy: String,
}

impl Group {
    /// The group around it that keeps its controllers; version 2 only.
    fn keeper(&self) -> Option<&Path> {
        self.dir.parent().filter(|parent| parent.file_name() == self.dir.file_name())
    }

    /// The highest group that is the run's own: what is removed with the run.
    pub(crate) fn top(&self) -> &Path {
        self.keeper().unwrap_or(&self.dir)
    }
}

/// One file of a control group, and what is written to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setting {
    /// Its name, in the group's directory.
    pub(crate) file: String,
    /// What is written.
    pub(crate) value: String,
    /// Whether it is fine that there is no such file (limits of swap where the kernel does not account for it).
    pub(crate) optional: bool,
}

/// What a run may use at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Memory and swap together, in bytes.
    pub(crate) memory: Option<u64>,
    /// Processors, in thousandths of one.
    pub(crate) cpus_milli: Option<u64>,
    /// Processes and threads.
    pub(crate) pids: Option<u64>,
}

/// Limits that cannot be had here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Which: `memory`, `cpus`, `pids`. The others alone could be had.
    pub(crate) what: Vec<&'static str>,
    /// Why not, in words.
    pub(crate) why: String,
    /// What to do about it.
    pub(crate) hint: String,
}

/// Whether all groups of this process are the topmost that it can see, so that it sees no name of another one.
pub(crate) fn is_at_the_top() -> bool {
    std::fs::read_to_string("/proc/self/cgroup").is_ok_and(|own| own.lines().all(|line| line.ends_with(":/")))
}

/// Which groups a run needs; `name` is `fosse-ID`. Looks at this process's own place in the hierarchies, changes
/// nothing. In version 2 it is one group for all limits, in version 1 one for each hierarchy; the one that limits
/// processors comes first.
pub(crate) fn plan(limits: &Limits, name: &str) -> Result<Vec<Group>, Missing> {
    choose::choose(limits, name, &machine::Machine::read(), &machine::look)
}
