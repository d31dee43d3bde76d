//! Plans of a made-up host, as values.

use super::*;
use crate::base::id::RunId;
use crate::runtime::native::host::Hidden;
use crate::runtime::spec::Cover;

fn spec() -> Spec {
    Spec {
        id: RunId::parse("0123456789ab").unwrap(),
        instance: String::new(),
        image: String::new(),
        command: vec!["true".into()],
        input: crate::runtime::Input::Empty,
        workdir: Some("/workspace".into()),
        user: User::Ids { uid: 7, gid: 8, host_ids: false },
        env: Vec::new(),
        env_file: PathBuf::new(),
        mounts: vec![mount("/src/ws", "/workspace")],
        covers: Vec::new(),
        memory: None,
        cpus_milli: None,
        pids: None,
        network: Network::Open,
        log_max: 0,
        allow_userns: false,
        keep: false,
        own_init: None,
        mounted_init: None,
    }
}

fn mount(source: &str, target: &str) -> Mount {
    Mount { source: source.into(), target: target.into(), read_only: false }
}

fn host() -> Host {
    let entry = |name: &str, kind| Entry { name: name.into(), kind };
    let lib = Kind::Split(vec![entry("lib", Kind::Directory), entry("big", Kind::ReadOnly), entry("f", Kind::File)]);
    let tops = vec![
        entry("bin", Kind::Link("usr/bin".into())),
        entry("media", Kind::Empty),
        entry("usr", Kind::Directory),
        entry("var", lib),
    ];
    let hidden = vec![Hidden { path: "/usr/secret".into(), directory: false }];
    Host {
        tops,
        hidden,
        resolver: None,
        devices: vec!["null"],
        writable: vec!["tty".into(), "xen".into()],
        owned: Vec::new(),
    }
}

fn wanted() -> Wanted {
    Wanted { groups: Vec::new(), processes: None, caller: (7, 8), allow_namespaces: false, veil: false }
}

fn lines(steps: &[Step]) -> Vec<String> {
    steps.iter().map(ToString::to_string).collect()
}

fn at(lines: &[String], line: &str) -> usize {
    lines.iter().position(|known| known == line).unwrap_or_else(|| panic!("no {line:?} in {lines:#?}"))
}

#[test]
fn a_plan_is_in_the_order_that_keeps_what_it_promises() {
    let spec = Spec { covers: vec![Cover { target: "/workspace/state".into() }], ..spec() };
    let steps = plan(&spec, &host(), &wanted());
    let lines = lines(&steps);
    let order = [
        "unshare user 7:8",
        "unshare mount,pid,ipc,uts",
        "open /dev/null",
        "open /src/ws",
        "tmpfs /",
        "overlay /usr",
        "mount proc /proc",
        "no-namespaces user",
        "read-only /proc/sys",
        "hide /usr/secret",
        "private /var/tmp",
        "bind /src/ws /workspace",
        "hide /workspace/state",
        "enter",
        "workdir /workspace",
        "no-privileges",
        "seccomp",
    ];
    let places: Vec<usize> = order.iter().map(|line| at(&lines, line)).collect();
    assert!(places.is_sorted(), "{lines:#?}");
    assert_eq!(lines.last().unwrap(), "seccomp");
    // The builder's steps come first, and it has all of its own.
    let outside = steps.iter().take_while(|step| step.is_outside()).count();
    assert_eq!(steps.iter().filter(|step| step.is_outside()).count(), outside);
    // What is bound was opened, each by a step of its own.
    let opened = steps.iter().filter_map(|step| if let Step::Open { bind, .. } = step { Some(bind) } else { None });
    let bound = steps.iter().filter_map(|step| if let Step::Bind(bind) = step { Some(bind) } else { None });
    assert_eq!(opened.collect::<Vec<_>>(), bound.collect::<Vec<_>>());
}

#[test]
fn what_the_root_holds_is_shown_each_in_its_way() {
    let lines = lines(&plan(&spec(), &host(), &wanted()));
    let wanted = [
        "link usr/bin /bin",
        "directory 0755 /media",
        "overlay /usr",
        "directory as-is /var",
        "overlay /var/lib",
        "overlay /var/big",
        "file /var/f",
    ];
    let from = at(&lines, wanted[0]);
    assert_eq!(lines[from..from + wanted.len()], wanted);
}

#[test]
fn who_the_command_is() {
    let ids = |uid, gid| User::Ids { uid, gid, host_ids: false };
    for (user, caller, expected) in [
        (ids(7, 8), (7, 8), vec!["unshare user 7:8"]),
        (User::Image, (7, 8), vec!["unshare user 7:8"]),
        // Another number inside is the caller outside.
        (ids(0, 0), (7, 8), vec!["unshare user 0:0"]),
        (ids(0, 0), (0, 0), vec!["unshare user 0:0"]),
        // Only root can be somebody else.
        (ids(7, 8), (0, 0), vec!["become 7:8", "unshare user 7:8"]),
    ] {
        assert_eq!(lines(&identity(user, caller)), expected, "{user:?} {caller:?}");
    }
}

#[test]
fn for_root_nobodys_files_are_its_own() {
    let wanted = Wanted { caller: (0, 0), veil: true, ..wanted() };
    let spec = Spec { user: User::Ids { uid: 0, gid: 0, host_ids: false }, ..spec() };
    let lines = lines(&plan(&spec, &host(), &wanted));
    // All that is shown of the host, files too; what is bound was opened before.
    let veil = at(&lines, "veil /usr /var/lib /var/big /var/f");
    assert_eq!((&*lines[0], &*lines[veil + 1]), ("unshare mount", "unshare user 0:0"));
    assert!(lines[1..veil].iter().all(|line| line.starts_with("open ")), "{lines:#?}");
    assert!(at(&lines, "open /src/ws") < veil && !lines[veil..].iter().any(|line| line.starts_with("open ")));
}

#[test]
fn sources_are_opened_as_the_user_of_the_command() {
    let wanted = Wanted { caller: (0, 0), veil: true, ..wanted() };
    let users = |uid, gid| {
        let user = User::Ids { uid, gid, host_ids: false };
        let steps = plan(&Spec { user, ..spec() }, &host(), &wanted);
        let users = steps.iter().filter_map(|step| if let Step::Open { user, .. } = step { Some(*user) } else { None });
        users.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    assert_eq!((users(0, 0), users(7, 0), users(0, 7)), (vec![None], vec![Some((7, 0))], vec![Some((0, 7))]));
}

#[test]
fn what_is_taken_apart_later_is_shown_as_if_that_had_been_known() {
    let Kind::Split(entries) = host().tops.remove(3).kind else { panic!("no directory in parts") };
    let holds = ["/var/lib/x", "/var/lib2"].map(|path| HostPath(path.into()));
    let steps = apart(Path::new("/var"), entries, &holds, &[]);
    assert_eq!(lines(&steps), ["directory as-is /var", "overlay /var/lib", "overlay /var/big", "file /var/f"]);
    assert!(matches!(&steps[1], Step::Overlay { holds, .. } if holds == &[HostPath("/var/lib/x".into())]));
}

#[test]
fn a_network_of_its_own_has_a_loopback_interface() {
    let none = lines(&plan(&Spec { network: Network::None, ..spec() }, &host(), &wanted()));
    assert!(at(&none, "unshare mount,pid,ipc,uts,net") < at(&none, "loopback"));
    assert!(!lines(&plan(&spec(), &host(), &wanted())).contains(&"loopback".to_owned()));
}

#[test]
fn mounts_are_put_into_those_that_hold_them_and_nothing_is_made_there() {
    let mounts = [mount("/a", "/workspace/x/y"), mount("/b", "/other"), mount("/c", "/workspace")];
    let binds = self::mounts(&mounts);
    let places: Vec<_> = binds.iter().map(|bind| (bind.path.to_str().unwrap(), bind.make)).collect();
    assert_eq!(places, [("/other", true), ("/workspace", true), ("/workspace/x/y", false)]);
}

#[test]
fn a_directory_is_made_for_the_command_except_in_what_is_shared() {
    let make = |workdir: &str| {
        let steps = plan(&Spec { workdir: Some(workdir.into()), ..spec() }, &host(), &wanted());
        steps.iter().find_map(|step| if let Step::Workdir { make, .. } = step { Some(*make) } else { None })
    };
    assert_eq!((make("/new"), make("/workspace/new")), (Some(true), Some(false)));
}

#[test]
fn user_namespaces_can_be_allowed() {
    let lines = lines(&plan(&spec(), &host(), &Wanted { allow_namespaces: true, ..wanted() }));
    // But none with which the machine's control groups could be mounted.
    assert!(!lines.contains(&"no-namespaces user".to_owned()) && lines.contains(&"no-namespaces cgroup".to_owned()));
    assert_eq!(lines.last().unwrap(), "seccomp allow-namespaces");
}

#[test]
fn a_whole_proc_is_hidden_where_one_may_be_mounted_within() {
    let of = |allow_namespaces, uid, gid, caller| {
        let user = User::Ids { uid, gid, host_ids: false };
        lines(&plan(&Spec { user, ..spec() }, &host(), &Wanted { allow_namespaces, caller, ..wanted() }))
    };
    let allowed = of(true, 7, 8, (7, 8));
    assert_eq!(at(&allowed, "mount proc /sys/kernel/proc") + 1, at(&allowed, "hide /sys/kernel"));
    for lines in [of(false, 7, 8, (7, 8)), of(true, 0, 0, (0, 0)), of(true, 7, 0, (0, 0)), of(true, 7, 8, (7, 0))] {
        assert!(lines.iter().all(|line| !line.contains("/sys/kernel")), "{lines:#?}");
    }
    // Whoever says to be user 0 inside is still the caller.
    assert!(of(true, 0, 0, (7, 8)).iter().any(|line| line == "hide /sys/kernel"));
}

#[test]
fn the_runs_own_groups_are_where_programs_look() {
    let group = |dir: &str, hierarchy: &str| Group {
        dir: dir.into(),
        enable: Vec::new(),
        values: Vec::new(),
        hierarchy: hierarchy.into(),
    };
    let views = |groups: &[Group]| {
        let mut steps = Vec::new();
        views::limits(groups, &mut steps);
        lines(&steps)
    };
    assert_eq!(views(&[]), [""; 0]);
    let new = ["directory 0755 /sys/fs", "directory 0555 /sys/fs/cgroup", "bind-read-only /c/fosse-1 /sys/fs/cgroup"];
    assert_eq!(views(&[group("/c/fosse-1", "")]), new);
    let old = views(&[group("/m/fosse-1", "memory"), group("/a/fosse-1", "cpu,cpuacct")]);
    for line in ["link cpu,cpuacct /sys/fs/cgroup/cpu", "bind-read-only /a/fosse-1 /sys/fs/cgroup/cpu,cpuacct"] {
        at(&old, line);
    }
    // Before anything is put there that could be written.
    assert!(at(&old, "read-only /sys/fs/cgroup") < at(&old, "bind-read-only /m/fosse-1 /sys/fs/cgroup/memory"));
}

#[test]
fn owner_checked_files_are_copied_where_they_are_shown() {
    let host = Host { owned: vec!["/usr/lib/a".into(), "/var/f".into(), "/var/lib/b".into()], ..host() };
    let steps = plan(&spec(), &host, &wanted());
    let owned = |top: &str| {
        steps.iter().find_map(|step| match step {
            Step::Overlay { path, owned, .. } if path == Path::new(top) => Some(owned.clone()),
            _ => None,
        })
    };
    assert_eq!(owned("/usr"), Some(vec![HostPath("/usr/lib/a".into())]));
    assert_eq!(owned("/var/lib"), Some(vec![HostPath("/var/lib/b".into())]));
    at(&lines(&steps), "copy /var/f");
}

#[test]
fn a_plan_can_be_sent() {
    let spec = Spec { mounts: vec![mount("/a\n b", "/c")], ..spec() };
    let steps = plan(&spec, &host(), &wanted());
    let text = serde_json::to_string(&steps).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Step>>(&text).unwrap(), steps);
    // On one line, whatever the names.
    assert!(lines(&steps).iter().all(|line| !line.contains('\n')));
}
