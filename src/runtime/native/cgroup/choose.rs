//! Which groups, and where: a pure function of the limits and of what the machine shows.

use std::path::{Path, PathBuf};

use super::machine::{Machine, Nowhere, Place, Seen};
use super::{Group, Limits, Missing, Setting};

#[cfg(test)]
mod tests;

type Look<'a> = &'a dyn Fn(&Path) -> Option<Seen>;

/// The period over which processor time is counted, in microseconds.
const PERIOD: u64 = 100_000;
/// The longest that the kernel takes, for so little that its share of the usual one would be less than it takes.
const LONG_PERIOD: u64 = 1_000_000;
/// The least share of a period that the kernel takes, in microseconds.
const QUOTA_MIN: u64 = 1_000;

/// One limit: who keeps it, and how it is written.
struct Need {
    limit: &'static str,
    controller: &'static str,
    old: Vec<Setting>,
    new: Vec<Setting>,
}

/// Why a limit cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    /// No hierarchy is mounted at all.
    NoGroups,
    /// Not the one that would be needed: of this controller, or of version 2.
    Unmounted(Option<&'static str>),
    /// It is mounted there, but this process's group is not seen.
    Elsewhere(PathBuf),
    /// The kernel has it switched off, or was built without.
    NoController(&'static str),
    /// Nothing can be made there, in version 1.
    Closed(PathBuf),
    /// Nothing can be made there, or moved there, in version 2.
    Undelegated(PathBuf),
    /// The same, of the own group where none above it can be seen: it is a container's.
    Confined(PathBuf),
    /// There are processes in it, so that it cannot be divided.
    Crowded(PathBuf),
    /// No group that can be divided has it.
    NotOffered(Vec<&'static str>),
}

pub(crate) fn choose(limits: &Limits, name: &str, machine: &Machine, look: Look) -> Result<Vec<Group>, Missing> {
    let needs = needs(limits);
    let (mut groups, mut missing): (Vec<Group>, Vec<(&Need, Reason)>) = (Vec::new(), Vec::new());
    let (old, new): (Vec<&Need>, Vec<&Need>) = needs.iter().partition(|need| machine.is_old(need.controller));
    if !new.is_empty() {
        match below_an_ancestor(&new, name, machine, look) {
            Ok(group) => groups.push(group),
            Err(reasons) => missing.extend(reasons),
        }
    }
    for need in old {
        match below_own(need, name, machine, look) {
            // Controllers may share a hierarchy.
            Ok(group) => match groups.iter_mut().find(|other| other.dir == group.dir) {
                Some(other) => other.values.extend(group.values),
                None => groups.push(group),
            },
            Err(reason) => missing.push((need, reason)),
        }
    }
    if missing.is_empty() && !groups.is_empty() {
        to_be_seen(name, machine, look, &mut groups);
    }
    // Where processor time is short the end of processes takes long, so that limit has to go first.
    groups.sort_by_key(|group| !group.values.iter().any(|setting| setting.file.starts_with("cpu.")));
    if missing.is_empty() { Ok(groups) } else { Err(complain(&needs, &missing)) }
}

fn needs(limits: &Limits) -> Vec<Need> {
    let must = |file: &str, value: String| Setting { file: file.into(), value, optional: false };
    let may = |file: &str, value: String| Setting { optional: true, ..must(file, value) };
    let memory = limits.memory.map(|bytes| Need {
        limit: "memory",
        controller: "memory",
        // In this order: the sum of memory and swap can never be set below memory alone.
        old: vec![
            must("memory.limit_in_bytes", bytes.to_string()),
            may("memory.memsw.limit_in_bytes", bytes.to_string()),
        ],
        new: vec![must("memory.max", bytes.to_string()), may("memory.swap.max", "0".into())],
    });
    let cpus = limits.cpus_milli.map(|milli| {
        let share = |period: u64| milli.saturating_mul(period / 1_000);
        let period = if share(PERIOD) < QUOTA_MIN { LONG_PERIOD } else { PERIOD };
        let quota = share(period);
        Need {
            limit: "cpus",
            controller: "cpu",
            old: vec![must("cpu.cfs_period_us", period.to_string()), must("cpu.cfs_quota_us", quota.to_string())],
            new: vec![must("cpu.max", format!("{quota} {period}"))],
        }
    });
    let pids = limits.pids.map(|count| Need {
        limit: "pids",
        controller: "pids",
        old: vec![must("pids.max", count.to_string())],
        new: vec![must("pids.max", count.to_string())],
    });
    [memory, cpus, pids].into_iter().flatten().collect()
}

// ---- version 1 --------------------------------------------------------------------------------

fn below_own(need: &Need, name: &str, machine: &Machine, look: Look) -> Result<Group, Reason> {
    let own = find(Some(need.controller), machine, look)?.own;
    // The new one belongs to who makes it, and everybody may move the own processes to where they may write.
    if look(&own).is_some_and(|seen| seen.can_make) {
        let hierarchy = machine.hierarchy(need.controller);
        Ok(Group { dir: own.join(name), enable: Vec::new(), values: need.old.clone(), hierarchy })
    } else {
        Err(Reason::Closed(own))
    }
}

/// Adds the groups without which programs do not believe the others.
fn to_be_seen(name: &str, machine: &Machine, look: Look, groups: &mut Vec<Group>) {
    for controller in ["memory", "cpu", "cpuacct", "cpuset", "pids"].into_iter().filter(|name| machine.is_old(name)) {
        let need = Need { limit: "", controller, old: Vec::new(), new: Vec::new() };
        if let Ok(group) = below_own(&need, name, machine, look) {
            if groups.iter().all(|other| other.dir != group.dir) {
                groups.push(group);
            }
        }
    }
}

fn find(old: Option<&'static str>, machine: &Machine, look: Look) -> Result<Place, Reason> {
    machine.find(old, look).map_err(|nowhere| match nowhere {
        Nowhere::Elsewhere(point) => Reason::Elsewhere(point),
        Nowhere::Unmounted if machine.has_groups() => Reason::Unmounted(old),
        Nowhere::Unmounted => Reason::NoGroups,
    })
}

// ---- version 2 --------------------------------------------------------------------------------

/// One group for all of them, since a process is in one only.
fn below_an_ancestor<'a>(
    needs: &[&'a Need],
    name: &str,
    machine: &Machine,
    look: Look,
) -> Result<Group, Vec<(&'a Need, Reason)>> {
    let each = |reason: &Reason| needs.iter().map(|need| (*need, reason.clone())).collect::<Vec<_>>();
    let place = find(None, machine, look).map_err(|reason| each(&reason))?;
    let wanted: Vec<&'static str> = needs.iter().map(|need| need.controller).collect();
    match ancestor(&place, &wanted, look) {
        Ok((parent, enable)) => {
            let values = needs.iter().flat_map(|need| need.new.clone()).collect();
            // In a keeper.
            let hierarchy = if machine.has_old() { "unified" } else { "" }.to_owned();
            Ok(Group { dir: parent.join(name).join(name), enable, values, hierarchy })
        }
        Err(reason) => {
            let alone = |need: &&'a Need| Some((*need, ancestor(&place, &[need.controller], look).err()?));
            let alone: Vec<_> = needs.iter().filter_map(alone).collect();
            Err(if alone.is_empty() { each(&reason) } else { alone })
        }
    }
}

/// The nearest group in which one with the wanted controllers can be made, and those that it has to be told to
/// hand on. Where nothing may be changed the way up ends: what is above belongs to somebody else.
fn ancestor(place: &Place, wanted: &[&'static str], look: Look) -> Result<(PathBuf, Vec<String>), Reason> {
    let lacks = |names: &[String]| -> Vec<&'static str> {
        wanted.iter().filter(|name| !names.iter().any(|other| other == *name)).copied().collect()
    };
    if let Some(top) = look(&place.top).filter(|top| top.is_root) {
        if let Some(controller) = lacks(&top.offered).first() {
            return Err(Reason::NoController(controller));
        }
    }
    let mut nearest = None;
    for dir in place.own.ancestors().take_while(|dir| dir.starts_with(&place.top)) {
        let Some(seen) = look(dir) else { break };
        // This process is in it. Only the root may have both processes and groups with controllers.
        let is_own = dir == place.own && !seen.is_root;
        if is_own && dir != place.top {
            continue;
        }
        if !(seen.can_make && seen.can_move) {
            nearest.get_or_insert(if is_own { Reason::Confined(dir.into()) } else { Reason::Undelegated(dir.into()) });
            break;
        }
        if is_own || !(seen.is_root || seen.is_empty && seen.is_domain) {
            nearest.get_or_insert(Reason::Crowded(dir.into()));
            continue;
        }
        let enable = lacks(&seen.enabled);
        let missing = lacks(&seen.offered);
        if enable.is_empty() || missing.is_empty() && seen.can_enable {
            return Ok((dir.into(), enable.into_iter().map(str::to_owned).collect()));
        }
        let reason = if missing.is_empty() { Reason::Undelegated(dir.into()) } else { Reason::NotOffered(missing) };
        nearest.get_or_insert(reason);
    }
    Err(nearest.unwrap_or_else(|| Reason::Elsewhere(place.top.clone())))
}

// ---- what is said about it --------------------------------------------------------------------

fn complain(needs: &[Need], missing: &[(&Need, Reason)]) -> Missing {
    let is_missing = |limit: &str| missing.iter().any(|(need, _)| need.limit == limit);
    let (mut whys, mut hints) = (Vec::new(), Vec::new());
    for (_, reason) in missing {
        let (why, hint) = words(reason);
        // Limits often have one reason in common, and reasons one remedy.
        whys.extend((!whys.contains(&why)).then_some(why));
        hints.extend((!hints.contains(&hint)).then_some(hint));
    }
    Missing {
        what: needs.iter().map(|need| need.limit).filter(|limit| is_missing(limit)).collect(),
        why: whys.join("; "),
        hint: hints.join("; "),
    }
}

fn words(reason: &Reason) -> (String, String) {
    const OLD: &str = "as root, or on a machine with cgroup v2";
    const DELEGATE: &str = "systemd-run --user --scope -p Delegate=yes fosse run …";
    const CONTAINER: &str = "in a container, mount a cgroup file system of its own";
    let (why, hint) = match reason {
        Reason::NoGroups => (
            "no control groups are mounted".into(),
            "as root: mount -t cgroup2 none /sys/fs/cgroup; in a container its engine does that".into(),
        ),
        Reason::Unmounted(None) => ("cgroup v2 is not mounted".into(), CONTAINER.into()),
        Reason::Unmounted(Some(controller)) => {
            (format!("the cgroup v1 controller {controller} is not mounted"), CONTAINER.into())
        }
        Reason::Elsewhere(point) => {
            (format!("the control groups at {} do not show the own one", point.display()), CONTAINER.into())
        }
        Reason::NoController(controller) => (
            format!("the kernel has no cgroup controller {controller}"),
            format!("some kernels need the boot option cgroup_enable={controller}"),
        ),
        Reason::Closed(dir) => (format!("no control group can be made in {}", dir.display()), OLD.into()),
        Reason::Undelegated(dir) => (format!("the control group {} is not delegated", dir.display()), DELEGATE.into()),
        Reason::Confined(dir) => (
            format!("the control group {} may not be changed", dir.display()),
            "give the container a cgroup file system that it may write".into(),
        ),
        Reason::Crowded(dir) => (
            format!("the control group {} has processes in it, so it cannot be divided", dir.display()),
            "move them into a group below it first, fosse with them".into(),
        ),
        Reason::NotOffered(controllers) => (
            format!("no delegated control group offers {}", controllers.join(" ")),
            format!("{DELEGATE}; if that does not help, root delegates it with Delegate= of user@.service"),
        ),
    };
    (why, hint)
}
