//! Machines as values: what is mounted, where this process is, what each group shows.

use std::collections::BTreeMap;

use super::*;

const ALL: Limits = Limits { memory: Some(1 << 20), cpus_milli: Some(1_500), pids: Some(9) };
const MEMORY: Limits = Limits { memory: Some(1 << 20), cpus_milli: None, pids: None };
const CPUS: Limits = Limits { memory: None, cpus_milli: Some(1_500), pids: None };
const PIDS: Limits = Limits { memory: None, cpus_milli: None, pids: Some(9) };

/// A mount of version 2, with its root and its point.
fn new_mount(root: &str, point: &str) -> String {
    format!("30 23 0:26 {root} {point} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n")
}

/// Mounts of version 1 under their usual names.
fn old_mounts(hierarchies: &[&str]) -> String {
    let mount = |names: &&str| format!("31 23 0:27 / /c/{names} rw - cgroup cgroup rw,{names}\n");
    hierarchies.iter().map(mount).collect()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// A group that the caller may do everything with.
fn seen(offered: &str, enabled: &str) -> Seen {
    Seen {
        is_root: false,
        is_domain: true,
        is_empty: true,
        offered: words(offered),
        enabled: words(enabled),
        can_make: true,
        can_move: true,
        can_enable: true,
    }
}

fn root(offered: &str, enabled: &str) -> Seen {
    Seen { is_root: true, is_empty: false, ..seen(offered, enabled) }
}

/// One with processes in it.
fn crowded(offered: &str) -> Seen {
    Seen { is_empty: false, ..seen(offered, "") }
}

/// One in which the caller may change nothing.
fn foreign(seen: Seen) -> Seen {
    Seen { can_make: false, can_move: false, can_enable: false, ..seen }
}

fn chosen(limits: Limits, mounts: &str, own: &str, groups: &[(&str, Seen)]) -> Result<Vec<Group>, Missing> {
    let groups: BTreeMap<&Path, &Seen> = groups.iter().map(|(dir, seen)| (Path::new(dir), seen)).collect();
    let look = |dir: &Path| groups.get(dir).map(|seen| (*seen).clone());
    choose(&limits, "fosse-1", &Machine::parse(mounts, own), &look)
}

/// In words: `DIR +CONTROLLER… FILE=VALUE…`, with a `?` where the file may be missing.
fn text(groups: &[Group]) -> Vec<String> {
    let line = |group: &Group| {
        let enable = group.enable.iter().map(|controller| format!(" +{controller}"));
        let setting = |one: &Setting| format!(" {}{}={}", one.file, if one.optional { "?" } else { "" }, one.value);
        group.dir.display().to_string() + &enable.chain(group.values.iter().map(setting)).collect::<String>()
    };
    groups.iter().map(line).collect()
}

/// What is had of version 2 mounted at /c.
fn new(limits: Limits, own: &str, groups: &[(&str, Seen)]) -> Result<String, Missing> {
    chosen(limits, &new_mount("/", "/c"), &format!("0::{own}\n"), groups).map(|groups| text(&groups).join("\n"))
}

fn missing(what: &[&'static str], why: &str, hint: &str) -> Missing {
    Missing { what: what.to_vec(), why: why.into(), hint: hint.into() }
}

const DELEGATE: &str = "systemd-run --user --scope -p Delegate=yes fosse run …";

// ---- version 2 --------------------------------------------------------------------------------

#[test]
fn no_limit_needs_no_group() {
    assert_eq!(chosen(Limits::default(), "", "", &[]), Ok(vec![]));
}

#[test]
fn the_parent_is_taken_where_it_hands_on_what_is_wanted() {
    let own = |parent: Seen| [("/c/a", parent), ("/c/a/own", crowded("cpu memory pids"))];
    assert_eq!(
        new(ALL, "/a/own", &own(seen("cpu memory pids", "pids memory cpu"))).unwrap(),
        "/c/a/fosse-1/fosse-1 memory.max=1048576 memory.swap.max?=0 cpu.max=150000 100000 pids.max=9"
    );
    // It need not be changed for that.
    let parent = Seen { can_enable: false, ..seen("memory", "memory") };
    assert_eq!(
        new(MEMORY, "/a/own", &own(parent)).unwrap(),
        "/c/a/fosse-1/fosse-1 memory.max=1048576 memory.swap.max?=0"
    );
}

#[test]
fn a_parent_without_processes_is_told_to_hand_on_what_it_does_not_yet() {
    let own = |parent: Seen| [("/c/a", parent), ("/c/a/own", crowded(""))];
    let parent = seen("cpu io memory pids", "memory");
    let expected =
        "/c/a/fosse-1/fosse-1 +cpu +pids memory.max=1048576 memory.swap.max?=0 cpu.max=150000 100000 pids.max=9";
    assert_eq!(new(ALL, "/a/own", &own(parent.clone())).unwrap(), expected);
    // Where that is allowed.
    let expected = missing(&["cpus", "pids"], "the control group /c/a is not delegated", DELEGATE);
    assert_eq!(new(ALL, "/a/own", &own(Seen { can_enable: false, ..parent })), Err(expected));
}

#[test]
fn the_own_group_is_taken_only_if_it_is_the_root() {
    assert_eq!(new(PIDS, "/", &[("/c", root("cpu memory pids", ""))]).unwrap(), "/c/fosse-1/fosse-1 +pids pids.max=9");
    assert_eq!(new(PIDS, "/", &[("/c", root("pids", "pids"))]).unwrap(), "/c/fosse-1/fosse-1 pids.max=9");
    // The root of a namespace is a group like any other. This process is in it, whatever its list shows.
    let expected = missing(
        &["pids"],
        "the control group /c has processes in it, so it cannot be divided",
        "move them into a group below it first, fosse with them",
    );
    assert_eq!(new(PIDS, "/", &[("/c", crowded("pids"))]), Err(expected.clone()));
    assert_eq!(new(PIDS, "/", &[("/c", seen("pids", "pids"))]), Err(expected));
}

#[test]
fn the_way_up_goes_past_what_lacks_a_controller_or_has_processes() {
    let way = |parent: Seen| {
        [
            ("/c", foreign(root("cpu memory pids", "cpu memory pids"))),
            ("/c/u", seen("cpu memory pids", "memory pids")),
            ("/c/u/p", parent),
            ("/c/u/p/own", crowded("memory")),
        ]
    };
    let above = "/c/u/fosse-1/fosse-1 +cpu cpu.max=150000 100000";
    assert_eq!(new(CPUS, "/u/p/own", &way(seen("memory pids", "memory"))).unwrap(), above);
    assert_eq!(new(CPUS, "/u/p/own", &way(crowded("cpu"))).unwrap(), above);
    // No process in it, but threads of a tree that its children would be no part of.
    let threaded = Seen { is_domain: false, ..seen("cpu", "cpu") };
    assert_eq!(new(CPUS, "/u/p/own", &way(threaded)).unwrap(), above);
    let nearest = "/c/u/p/fosse-1/fosse-1 memory.max=1048576 memory.swap.max?=0";
    assert_eq!(new(MEMORY, "/u/p/own", &way(seen("memory pids", "memory"))).unwrap(), nearest);
}

#[test]
fn the_way_up_ends_where_nothing_may_be_changed() {
    // The top would do, but what is between belongs to somebody else.
    let groups = [
        ("/c", root("cpu memory pids", "cpu memory pids")),
        ("/c/a", foreign(seen("cpu memory pids", "cpu memory pids"))),
        ("/c/a/own", crowded("cpu memory pids")),
    ];
    let expected = missing(&["memory", "cpus", "pids"], "the control group /c/a is not delegated", DELEGATE);
    assert_eq!(new(ALL, "/a/own", &groups), Err(expected.clone()));
    // Either right alone is not enough.
    for half in [(true, false), (false, true)] {
        let mut groups = groups.clone();
        (groups[1].1.can_make, groups[1].1.can_move) = half;
        assert_eq!(new(ALL, "/a/own", &groups), Err(expected.clone()));
    }
    // Nor is what is above any better for processes that are in between.
    let mut groups = groups;
    groups[1].1.is_empty = false;
    assert_eq!(new(ALL, "/a/own", &groups), Err(expected));
    // Nor is anything taken that lies above the mount's top.
    let mount = new_mount("/a", "/c/a");
    let own = chosen(PIDS, &mount, "0::/a\n", &[("/c", root("pids", "pids")), ("/c/a", crowded("pids"))]);
    assert_eq!(own.unwrap_err().what, ["pids"]);
}

#[test]
fn the_limits_that_cannot_be_had_are_named_alone() {
    let groups = [
        ("/c", foreign(root("cpu memory pids", "cpu memory pids"))),
        ("/c/u", foreign(seen("cpu memory pids", "memory pids"))),
        ("/c/u/p", seen("memory pids", "pids")),
        ("/c/u/p/own", crowded("pids")),
    ];
    let expected = missing(
        &["cpus"],
        "no delegated control group offers cpu",
        "systemd-run --user --scope -p Delegate=yes fosse run …; if that does not help, root delegates it with \
         Delegate= of user@.service",
    );
    assert_eq!(new(ALL, "/u/p/own", &groups), Err(expected));
    assert!(new(Limits { cpus_milli: None, ..ALL }, "/u/p/own", &groups).is_ok());

    // Each could be had, but not in one group.
    let groups = [
        ("/c/u", Seen { can_enable: false, ..seen("cpu memory", "cpu") }),
        ("/c/u/p", Seen { can_enable: false, ..seen("memory", "memory") }),
        ("/c/u/p/own", crowded("")),
    ];
    assert_eq!(new(Limits { pids: None, ..ALL }, "/u/p/own", &groups).unwrap_err().what, ["memory", "cpus"]);
}

#[test]
fn a_kernel_without_a_controller_is_told_from_a_group_without_it() {
    let groups = [
        ("/c", foreign(root("cpu pids", "cpu pids"))),
        ("/c/a", seen("cpu pids", "cpu pids")),
        ("/c/a/own", crowded("")),
    ];
    let expected = missing(
        &["memory"],
        "the kernel has no cgroup controller memory",
        "some kernels need the boot option cgroup_enable=memory",
    );
    assert_eq!(new(ALL, "/a/own", &groups), Err(expected));
}

#[test]
fn a_container_sees_its_part_of_the_tree() {
    // The engine mounted the container's own group, and there is no namespace: the path says where it lies.
    let groups = [("/c", seen("pids", "pids")), ("/c/in", crowded(""))];
    let had = |mount: &str, own: &str| chosen(PIDS, mount, own, &groups).map(|groups| text(&groups).join("\n"));
    assert_eq!(had(&new_mount("/docker/1", "/c"), "0::/docker/1/in\n").unwrap(), "/c/fosse-1/fosse-1 pids.max=9");
    // A namespace of which this process is outside.
    assert_eq!(had(&new_mount("/../..", "/c"), "0::/../../in\n").unwrap(), "/c/fosse-1/fosse-1 pids.max=9");
    // A namespace of its own, and a file system that is read-only there, as engines have it.
    let read_only = [("/c", foreign(crowded("cpu memory pids")))];
    let expected = missing(
        &["memory"],
        "the control group /c may not be changed",
        "give the container a cgroup file system that it may write",
    );
    assert_eq!(new(MEMORY, "/", &read_only), Err(expected));
    // A namespace without a mount of its own.
    let expected = missing(
        &["pids"],
        "the control groups at /c do not show the own one",
        "in a container, mount a cgroup file system of its own",
    );
    assert_eq!(had(&new_mount("/../..", "/c"), "0::/\n"), Err(expected));
}

// ---- version 1, and both ----------------------------------------------------------------------

const OLD_OWN: &str = "5:memory:/m\n4:pids:/\n3:cpu,cpuacct:/a/b\n1:name=systemd:/\n0::/\n";

/// The own groups of [`OLD_OWN`].
fn old_groups(edit: impl Fn(&str, Seen) -> Seen) -> Vec<(&'static str, Seen)> {
    let group = |dir| (dir, edit(dir, Seen { can_make: true, ..Seen::default() }));
    ["/c/memory/m", "/c/pids", "/c/cpu,cpuacct/a/b"].map(group).to_vec()
}

#[test]
fn version_1_has_a_group_in_each_hierarchy_below_the_own() {
    let mounts = old_mounts(&["memory", "pids", "cpu,cpuacct"]);
    let groups = chosen(ALL, &mounts, OLD_OWN, &old_groups(|_, seen| seen)).unwrap();
    let expected = [
        "/c/cpu,cpuacct/a/b/fosse-1 cpu.cfs_period_us=100000 cpu.cfs_quota_us=150000",
        "/c/memory/m/fosse-1 memory.limit_in_bytes=1048576 memory.memsw.limit_in_bytes?=1048576",
        "/c/pids/fosse-1 pids.max=9",
    ];
    assert_eq!(text(&groups), expected);
    // The same whether version 2 is mounted beside it or not.
    let hybrid = mounts + &new_mount("/", "/c/unified");
    let mut seen = old_groups(|_, seen| seen);
    seen.push(("/c/unified", root("hugetlb", "")));
    assert_eq!(chosen(ALL, &hybrid, OLD_OWN, &seen), Ok(groups));
}

#[test]
fn controllers_in_one_hierarchy_share_a_group() {
    let groups = [("/c/cpu,memory,pids", Seen { can_make: true, ..Seen::default() })];
    let chosen = chosen(ALL, &old_mounts(&["cpu,memory,pids"]), "2:cpu,memory,pids:/\n", &groups).unwrap();
    let expected = "/c/cpu,memory,pids/fosse-1 memory.limit_in_bytes=1048576 memory.memsw.limit_in_bytes?=1048576 \
                    cpu.cfs_period_us=100000 cpu.cfs_quota_us=150000 pids.max=9";
    assert_eq!(text(&chosen), [expected]);
}

#[test]
fn each_controller_is_where_its_hierarchy_is() {
    let mounts = old_mounts(&["memory"]) + &new_mount("/", "/c/unified");
    let groups =
        [("/c/memory", Seen { can_make: true, ..Seen::default() }), ("/c/unified", root("cpu pids", "cpu pids"))];
    let chosen = chosen(ALL, &mounts, "4:memory:/\n0::/\n", &groups).unwrap();
    let expected = [
        "/c/unified/fosse-1/fosse-1 cpu.max=150000 100000 pids.max=9",
        "/c/memory/fosse-1 memory.limit_in_bytes=1048576 memory.memsw.limit_in_bytes?=1048576",
    ];
    assert_eq!(text(&chosen), expected);
}

#[test]
fn version_1_is_refused_where_it_is_closed_hidden_or_not_mounted() {
    let had = |mounts: &[&str], edit: &dyn Fn(&str, Seen) -> Seen| {
        chosen(ALL, &old_mounts(mounts), OLD_OWN, &old_groups(edit)).unwrap_err()
    };
    let all = ["memory", "pids", "cpu,cpuacct"];
    let closed = |dir: &str, seen| if dir == "/c/pids" { seen } else { foreign(seen) };
    let why = "no control group can be made in /c/memory/m; no control group can be made in /c/cpu,cpuacct/a/b";
    let hint = "as root, or on a machine with cgroup v2";
    assert_eq!(had(&all, &closed), missing(&["memory", "cpus"], why, hint));

    let own_mount = "in a container, mount a cgroup file system of its own";
    let why = "the cgroup v1 controller pids is not mounted";
    assert_eq!(had(&["memory", "cpu,cpuacct"], &|_, seen| seen), missing(&["pids"], why, own_mount));

    let why = "the control groups at /c/pids do not show the own one";
    let groups = &old_groups(|_, seen| seen)[1..2];
    let hidden = chosen(PIDS, &old_mounts(&all), &OLD_OWN.replace("pids:/", "pids:/elsewhere"), groups);
    assert_eq!(hidden, Err(missing(&["pids"], why, own_mount)));
}

#[test]
fn reasons_of_both_versions_are_said_together() {
    let mounts = old_mounts(&["memory"]) + &new_mount("/", "/c/unified");
    let groups = [
        ("/c/memory", Seen::default()),
        ("/c/unified", foreign(root("cpu pids", "cpu pids"))),
        ("/c/unified/own", crowded("")),
    ];
    let expected = missing(
        &["memory", "cpus"],
        "the control group /c/unified is not delegated; no control group can be made in /c/memory",
        "systemd-run --user --scope -p Delegate=yes fosse run …; as root, or on a machine with cgroup v2",
    );
    let limits = Limits { pids: None, ..ALL };
    assert_eq!(chosen(limits, &mounts, "4:memory:/\n0::/own\n", &groups), Err(expected));
}

#[test]
fn a_machine_without_control_groups_says_so() {
    let hint = "as root: mount -t cgroup2 none /sys/fs/cgroup; in a container its engine does that";
    for own in ["", "0::/\n", "4:pids:/\n0::/\n"] {
        let expected = missing(&["pids"], "no control groups are mounted", hint);
        assert_eq!(chosen(PIDS, "22 27 0:21 / /proc rw - proc proc rw\n", own, &[]), Err(expected), "{own}");
    }
    let own_mount = "in a container, mount a cgroup file system of its own";
    let only_old = chosen(PIDS, &old_mounts(&["memory"]), "4:memory:/\n0::/\n", &[]);
    assert_eq!(only_old, Err(missing(&["pids"], "cgroup v2 is not mounted", own_mount)));
}

// ---- values -----------------------------------------------------------------------------------

#[test]
fn little_processor_time_is_counted_over_a_longer_period() {
    for (milli, expected) in [
        (1, "1000 1000000"),
        (9, "9000 1000000"),
        (10, "1000 100000"),
        (1_000, "100000 100000"),
        (u64::MAX, "18446744073709551615 100000"),
    ] {
        let need = needs(&Limits { cpus_milli: Some(milli), ..Limits::default() }).remove(0);
        assert_eq!(need.new[0].value, expected);
        assert_eq!(format!("{} {}", need.old[1].value, need.old[0].value), expected);
    }
}

#[test]
fn of_version_1_there_is_a_group_wherever_programs_look_and_one_can_be_made() {
    let mounts = old_mounts(&["memory", "pids", "cpu,cpuacct", "cpuset"]);
    let own = "4:memory:/\n3:pids:/\n2:cpu,cpuacct:/\n1:cpuset:/\n";
    let groups: Vec<_> = ["memory", "pids", "cpu,cpuacct", "cpuset"].map(|name| format!("/c/{name}")).into();
    let groups = |foreign_one: &str| -> Vec<(String, Seen)> {
        let each = |dir: &String| if dir == foreign_one { foreign(seen("", "")) } else { seen("", "") };
        groups.iter().map(|dir| (dir.clone(), each(dir))).collect()
    };
    let had = |limits, foreign_one: &str| {
        let groups = groups(foreign_one);
        let groups: Vec<(&str, Seen)> = groups.iter().map(|(dir, seen)| (dir.as_str(), seen.clone())).collect();
        let chosen = chosen(limits, &mounts, own, &groups).unwrap();
        chosen.into_iter().map(|group| (group.hierarchy, group.values.len())).collect::<Vec<_>>()
    };
    let named =
        |names: &[(&str, usize)]| names.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect::<Vec<_>>();
    assert_eq!(had(MEMORY, ""), named(&[("memory", 2), ("cpu,cpuacct", 0), ("cpuset", 0), ("pids", 0)]));
    assert_eq!(had(PIDS, "/c/cpuset"), named(&[("pids", 1), ("memory", 0), ("cpu,cpuacct", 0)]));
    assert_eq!(had(Limits::default(), ""), []);
}
