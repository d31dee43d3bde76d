//! Limits of the native runtime by control groups of version 2, wherever this test, being root, can lay out a tree as
//! a service manager would: at the top, in a session, below what was delegated, and below what was not.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::native::{Caller, USER, assert_gone, first_of_namespace, for_root, is_root, run_cmd};
use crate::support::{Client, Home, KILL, code, finish, stderr, stdout, wait_until};

/// The root of the whole tree; none if it is not to be had, or has not what the limits need. That is no fault of a
/// machine that has version 1, also where nothing else may be left out: `tests/kernels` has the other one.
#[allow(clippy::disallowed_macros, reason = "the test runner shows it")]
fn top() -> Option<PathBuf> {
    let top = PathBuf::from("/sys/fs/cgroup");
    let offered = fs::read_to_string(top.join("cgroup.controllers")).unwrap_or_default();
    let has_all = ["cpu", "memory", "pids"].iter().all(|name| offered.split_whitespace().any(|other| other == *name));
    let found = is_root() && has_all && !top.join("cgroup.events").exists();
    if !found {
        eprintln!("left out: control groups of version 2, with root in the whole of their tree, are not to be had");
    }
    found.then_some(top)
}

/// A tree `TOP/fosse-test-X/parent/own` of a test's own, gone with it.
struct Tree {
    base: PathBuf,
}

impl Tree {
    /// `handed_on` is what children of `parent` have.
    fn new(top: &Path, handed_on: &str) -> Tree {
        let base = top.join(format!("fosse-test-{}", fosse::base::id::random_hex(6).unwrap()));
        let tree = Tree { base };
        fs::write(top.join("cgroup.subtree_control"), "+cpu +memory +pids").unwrap();
        fs::create_dir_all(tree.own()).unwrap();
        fs::write(tree.base.join("cgroup.subtree_control"), "+cpu +memory +pids").unwrap();
        fs::write(tree.parent().join("cgroup.subtree_control"), handed_on).unwrap();
        tree
    }

    fn parent(&self) -> PathBuf {
        self.base.join("parent")
    }

    fn own(&self) -> PathBuf {
        self.parent().join("own")
    }

    /// Makes a group somebody's, as far as delegation goes (cgroups(7)).
    fn delegate(group: &Path, user: u32) {
        for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            chown(group.join(file), Some(user), Some(user)).unwrap();
        }
    }

    /// A command that is its caller's, in the group `own`.
    fn inside(&self, home: &Home, command: &Command) -> Command {
        let become_user =
            home.user.map_or(String::new(), |user| format!("setpriv --reuid {user} --regid {user} --clear-groups "));
        let script = format!("echo 0 >{}/cgroup.procs && exec {become_user}\"$@\"", self.own().display());
        crate::support::init::wrapped(command, &["sh", "-c", &script, "sh"])
    }

    fn run(&self, home: &Home, options: &[&str], script: &str) -> Output {
        finish(self.inside(home, &run_cmd(home, options, &["sh", "-c", script])))
    }

    /// Groups of runs that are there.
    fn groups(&self) -> Vec<PathBuf> {
        [self.base.clone(), self.parent()].iter().flat_map(|dir| below(dir)).filter(|path| is_of_a_run(path)).collect()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        for group in [self.own(), self.parent(), self.base.clone()] {
            fs::write(group.join("cgroup.kill"), "1").unwrap_or_default();
        }
        wait_until("the groups of the test are gone", || {
            let groups = below(&self.parent()).into_iter().chain([self.parent(), self.base.clone()]);
            groups.for_each(|group| fs::remove_dir(group).unwrap_or_default());
            !self.base.exists()
        });
    }
}

fn below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn is_of_a_run(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("fosse-"))
}

/// The group of version 2 that a process is in.
fn group_of(top: &Path, pid: i32) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let own = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    top.join(own)
}

/// Starts a script with a limit of each kind, and gives the group it is in: one in another that keeps its controllers.
fn limited(tree: &Tree, top: &Path, home: &Home) -> (Client, PathBuf) {
    let options = ["--memory", "64m", "--cpus", "0.5", "--pids", "33"];
    let command = run_cmd(home, &options, &["sh", "-c", "echo ready; exec sleep 1000"]);
    let client = Client::spawn(tree.inside(home, &command));
    client.wait_for_output("ready\n");
    let group = group_of(top, first_of_namespace(client.pid()).unwrap());
    (client, group)
}

fn has_values(group: &Path) {
    let read = |file: &str| fs::read_to_string(group.join(file)).map(|text| text.trim().to_owned());
    for (file, value) in [
        ("memory.max", "67108864"),
        ("cpu.max", "50000 100000"),
        ("pids.max", "33"),
        // One that is killed for memory does not take its init along.
        ("memory.oom.group", "0"),
        ("cgroup.type", "domain"),
    ] {
        assert_eq!(read(file).unwrap(), value, "{file}");
    }
    // The kernel may have no account of swap.
    assert!(read("memory.swap.max").is_ok_and(|value| value == "0") || !group.join("memory.swap.max").exists());
}

/// Both callers where they may: root without anything delegated, a user below what a manager gives.
fn where_it_can_be_had(body: impl Fn(&Path, &Tree, &Home)) {
    let Some(top) = top() else { return };
    for (caller, handed_on) in
        [(Caller::Root, ""), (Caller::Root, "+memory +pids"), (Caller::User, "+cpu +memory +pids")]
    {
        if caller.available() {
            let tree = Tree::new(&top, handed_on);
            if caller == Caller::User {
                [tree.parent(), tree.own()].iter().for_each(|group| Tree::delegate(group, USER));
            }
            let home = caller.home();
            body(&top, &tree, &home);
            assert_gone(&home);
            assert_eq!(tree.groups(), Vec::<PathBuf>::new(), "{caller:?} {handed_on}");
        }
    }
}

#[test]
fn a_group_beside_the_callers_own_has_the_limits_and_goes_with_the_run() {
    where_it_can_be_had(|top, tree, home| {
        for ending in [crate::support::TERM, KILL] {
            let (mut client, group) = limited(tree, top, home);
            let keeper = group.parent().unwrap().to_owned();
            assert_eq!(keeper.parent(), Some(&*tree.parent()), "a parent without processes");
            assert_eq!(tree.groups(), std::slice::from_ref(&keeper));
            has_values(&group);
            client.signal(ending);
            client.wait();
            // With nobody else there to do it, if the owner was killed.
            wait_until("no control group is left", || !keeper.exists());
        }
        home.fosse(["stop", &home.newest_id()]);
    });
}

/// A service manager takes away the controllers that nothing it knows of asks for, whenever it starts something there.
#[test]
fn a_manager_that_takes_controllers_away_takes_no_limit_from_a_live_run() {
    where_it_can_be_had(|top, tree, home| {
        let (mut client, group) = limited(tree, top, home);
        for dir in [tree.parent(), tree.base.clone()] {
            for controller in ["cpu", "memory", "pids"] {
                let refused = fs::write(dir.join("cgroup.subtree_control"), format!("-{controller}")).unwrap_err();
                assert_eq!(refused.raw_os_error(), Some(libc::EBUSY), "{controller} of {}", dir.display());
            }
        }
        has_values(&group);
        client.signal(crate::support::TERM);
        client.wait();
        // What nobody needs any longer is the manager's again.
        fs::write(tree.parent().join("cgroup.subtree_control"), "-cpu -memory -pids").unwrap();
        // The next run is told nothing by what is gone.
        if home.user.is_none() {
            let (mut client, group) = limited(tree, top, home);
            has_values(&group);
            client.signal(crate::support::TERM);
            client.wait();
        }
    });
}

#[test]
fn root_at_the_top_of_the_tree_has_its_groups_there() {
    let Some(top) = top() else { return };
    for_root(|home| {
        let tree = Tree::new(&top, "");
        // The root alone may have processes and groups with controllers.
        let command = run_cmd(
            home,
            &["--memory", "64m", "--cpus", "0.5", "--pids", "33"],
            &["sh", "-c", "echo ready; exec sleep 1000"],
        );
        let script = format!("echo 0 >{}/cgroup.procs && exec \"$@\"", top.display());
        let mut client = Client::spawn(crate::support::init::wrapped(&command, &["sh", "-c", &script, "sh"]));
        client.wait_for_output("ready\n");
        let group = group_of(&top, first_of_namespace(client.pid()).unwrap());
        let keeper = group.parent().unwrap();
        assert_eq!(keeper.parent(), Some(&*top));
        has_values(&group);
        client.signal(crate::support::TERM);
        client.wait();
        assert!(!keeper.exists());
        drop(tree);
    });
}

#[test]
fn what_is_killed_for_memory_is_the_one_and_not_all() {
    let hungry = "perl -e '$x = \"x\" x (200 << 20); print length $x'";
    where_it_can_be_had(|_, tree, home| {
        let output = tree.run(home, &["--memory", "64m"], &format!("exec {hungry}"));
        assert_eq!(code(&output), 137, "{output:?}");
        let record = home.newest();
        let (reason, signal) = (&record["reason"], &record["signal"]);
        assert_eq!((reason, signal), (&"oom".into(), &9.into()), "{record}");
        // The command lives on without its child, and says how it ended.
        let output = tree.run(home, &["--memory", "64m"], &format!("{hungry}; echo $?"));
        assert_eq!((code(&output), stdout(&output)), (0, "137\n".into()), "{output:?}");
        assert_eq!(home.newest()["reason"], "exited");
        // A KILL of its own is none for memory.
        let output = tree.run(home, &["--memory", "64m"], &format!("{hungry}; kill -9 $$"));
        let record = home.newest();
        assert_eq!((code(&output), &record["signal"]), (137, &9.into()), "{record}");
    });
}

#[test]
fn processes_beyond_the_limit_are_not_started() {
    where_it_can_be_had(|_, tree, home| {
        let output = tree.run(home, &["--pids", "8"], "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo started");
        assert!(stderr(&output).contains("ork"), "{output:?}");
        assert_eq!(code(&tree.run(home, &["--pids", "64"], "true | true | true")), 0);
    });
}

#[test]
fn a_user_with_nothing_delegated_is_told_the_way_to_it() {
    let Some(top) = top() else { return };
    if !Caller::User.available() {
        return;
    }
    let tree = Tree::new(&top, "+memory +pids");
    // A service of its own, below what is not its own (systemd-run --uid -p Delegate=yes, without --user).
    for delegated in [false, true] {
        if delegated {
            Tree::delegate(&tree.own(), USER);
        }
        let home = Caller::User.home();
        for limit in [["--memory", "64m"], ["--cpus", "0.5"]] {
            let output = tree.run(&home, &limit, "touch /workspace/ran");
            let said = stderr(&output);
            assert_eq!(code(&output), 125, "{output:?}");
            assert!(said.contains("cannot be limited: ") && said.contains("is not delegated"), "{said}");
            assert!(said.contains("\nhint: ") && said.contains("systemd-run --user --scope -p Delegate=yes"), "{said}");
            assert_eq!(said.lines().count(), 2, "{said}");
        }
        assert!(!home.workspace().join("ran").exists());
        assert_eq!(home.list(), Vec::<Value>::new());
        // What the kernel counts without a group can be had.
        assert_eq!(code(&tree.run(&home, &["--pids", "64"], "true")), 0);
        assert_gone(&home);
    }
    assert_eq!(tree.groups(), Vec::<PathBuf>::new());
}

#[test]
fn a_group_with_processes_in_it_is_never_divided() {
    let Some(top) = top() else { return };
    for_root(|home| {
        // Somebody sits in the parent, which is nobody's to tell then; the next one up will do.
        let tree = Tree::new(&top, "");
        let script = format!("echo 0 >{}/cgroup.procs && echo in && exec sleep 1000", tree.parent().display());
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        let mut sitter = Client::spawn(command);
        sitter.wait_for_output("in\n");
        let (mut client, group) = limited(&tree, &top, home);
        let keeper = group.parent().unwrap();
        assert_eq!(keeper.parent(), Some(&*tree.base));
        has_values(&group);
        client.signal(crate::support::TERM);
        client.wait();
        assert!(!keeper.exists());
        sitter.signal(KILL);
        sitter.wait();
        drop(tree);
    });
}
