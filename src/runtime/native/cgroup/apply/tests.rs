//! Against directories of an ordinary file system, and against the kernel wherever a group can be made.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};

use super::super::machine::{Machine, look};
use super::super::{Limits, Setting, plan};
use super::*;
use crate::base::error::Ignore;
use crate::base::id::{RunId, random_hex};

/// A directory that is no control group, gone with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        let dir = std::env::temp_dir().join(format!("fosse-cgroup-{}", random_hex(8).unwrap()));
        fs::create_dir(&dir).unwrap();
        Scratch(dir)
    }

    fn group(&self, values: &[(&str, bool)]) -> Group {
        let setting =
            |(file, optional): &(&str, bool)| Setting { file: (*file).into(), value: "7".into(), optional: *optional };
        Group {
            dir: self.0.join("fosse-1"),
            enable: Vec::new(),
            values: values.iter().map(setting).collect(),
            hierarchy: String::new(),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ignore();
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

// ---- an ordinary file system ------------------------------------------------------------------

#[test]
fn a_missing_file_is_fine_only_where_that_is_said() {
    let scratch = Scratch::new();
    make(&scratch.group(&[("memory.swap.max", true)])).unwrap();
    assert_eq!(fs::read_dir(scratch.0.join("fosse-1")).unwrap().count(), 0);
    let error = make(&scratch.group(&[])).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    // That one is somebody's.
    assert!(scratch.0.join("fosse-1").exists());

    remove(&scratch.0.join("fosse-1"), soon()).unwrap();
    let error = make(&scratch.group(&[("memory.swap.max", true), ("memory.max", false)])).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().contains("memory.max"), "{error}");
    assert!(!scratch.0.join("fosse-1").exists());
}

#[test]
fn controllers_are_enabled_in_the_parent_before_the_group_is_made() {
    let scratch = Scratch::new();
    let group = Group { enable: vec!["cpu".into(), "pids".into()], ..scratch.group(&[]) };
    // Without the file nothing is made.
    assert_eq!(make(&group).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(!group.dir.exists());
    fs::write(scratch.0.join("cgroup.subtree_control"), "").unwrap();
    make(&group).unwrap();
    assert_eq!(fs::read_to_string(scratch.0.join("cgroup.subtree_control")).unwrap(), "+cpu +pids");
}

#[test]
fn a_keeper_is_not_left_behind_alone() {
    let scratch = Scratch::new();
    let group = Group { dir: scratch.0.join("fosse-1/fosse-1"), ..scratch.group(&[("memory.swap.max", true)]) };
    assert_eq!(group.top(), scratch.0.join("fosse-1"));
    // The parent is told once more what to hand on, and here is none that could be.
    assert_eq!(make(&group).unwrap_err().kind(), io::ErrorKind::NotFound);
    fs::write(scratch.0.join("cgroup.subtree_control"), "").unwrap();
    assert_eq!(make(&group).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(!group.top().exists());
    assert_eq!(fs::read_to_string(scratch.0.join("cgroup.subtree_control")).unwrap(), "+memory");
    // That one is somebody's.
    fs::create_dir(group.top()).unwrap();
    assert_eq!(make(&group).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert!(group.top().exists());
}

#[test]
fn who_joins_writes_itself() {
    let scratch = Scratch::new();
    let group = scratch.group(&[]);
    make(&group).unwrap();
    assert_eq!(door(&group).unwrap_err().kind(), io::ErrorKind::NotFound);
    fs::write(group.dir.join("cgroup.procs"), "").unwrap();
    enter(&door(&group).unwrap()).unwrap();
    assert_eq!(fs::read_to_string(group.dir.join("cgroup.procs")).unwrap(), "0");
}

#[test]
fn the_counter_of_kills_is_found_in_either_version() {
    let scratch = Scratch::new();
    let group = scratch.group(&[]);
    make(&group).unwrap();
    assert_eq!(oom_counter(&group), None);
    for file in ["memory.oom_control", "memory.events"] {
        fs::write(group.dir.join(file), "").unwrap();
        assert_eq!(oom_counter(&group), Some(group.dir.join(file)));
    }
}

#[test]
fn only_groups_of_runs_are_removed() {
    let scratch = Scratch::new();
    let dir = scratch.0.join("system.slice");
    fs::create_dir(&dir).unwrap();
    for path in [&*dir, Path::new("/"), Path::new("fosse-1/..")] {
        assert_eq!(remove(path, soon()).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{path:?}");
    }
    assert!(dir.exists());
    remove(&scratch.0.join("fosse-2"), soon()).unwrap();
    remove(&scratch.0.join("nothing/fosse-2"), soon()).unwrap();
}

#[test]
fn a_group_that_does_not_become_empty_is_an_error_at_the_deadline() {
    let scratch = Scratch::new();
    let group = scratch.group(&[]);
    make(&group).unwrap();
    // A process of another pid namespace has no number here.
    fs::write(group.dir.join("cgroup.procs"), "0\n").unwrap();
    let error = remove(&group.dir, Deadline::after(Duration::from_millis(20))).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[test]
fn processes_get_time_to_end_and_none_to_start_others() {
    let scratch = Scratch::new();
    let group = scratch.group(&[]);
    make(&group).unwrap();
    for (file, _) in AT_THE_END {
        fs::write(group.dir.join(file), "").unwrap();
    }
    remove(&group.dir, Deadline::after(Duration::from_millis(20))).unwrap_err();
    for (file, value) in AT_THE_END {
        assert_eq!(fs::read_to_string(group.dir.join(file)).unwrap(), value);
    }
}

#[test]
fn nobody_removes_the_group_it_is_in() {
    let scratch = Scratch::new();
    let group = scratch.group(&[]);
    make(&group).unwrap();
    fs::write(group.dir.join("cgroup.procs"), format!("{}\n", Pid::own().number())).unwrap();
    fs::write(group.dir.join("cgroup.kill"), "").unwrap();
    assert_eq!(remove(&group.dir, soon()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(fs::read_to_string(group.dir.join("cgroup.kill")).unwrap(), "");
}

#[test]
fn a_group_is_stored_and_read_back() {
    let group = Group { enable: vec!["cpu".into()], ..Scratch::new().group(&[("cpu.max", false)]) };
    let text = serde_json::to_string(&group).unwrap();
    assert_eq!(serde_json::from_str::<Group>(&text).unwrap(), group);
}

// ---- the kernel -------------------------------------------------------------------------------

/// A group of the kernel's, emptied and removed with the test.
struct Real(Group);

impl Drop for Real {
    fn drop(&mut self) {
        remove(self.0.top(), soon()).ignore();
    }
}

/// Groups that can be had here: one that limits processes, and one of version 2 without limits.
fn real_groups() -> Vec<Real> {
    let name = RunId::random().unwrap().object_name();
    let mut groups = match plan(&Limits { pids: Some(20), ..Limits::default() }, &name) {
        // The others are there to be seen, and those below one of cpuset are entered by nobody.
        Ok(groups) => groups.into_iter().filter(|group| !group.values.is_empty()).collect(),
        Err(missing) => {
            assert_eq!(missing.what, ["pids"]);
            assert!(!missing.why.is_empty() && !missing.hint.is_empty());
            Vec::new()
        }
    };
    let place = Machine::read().find(None, &look).ok();
    let parent = place.filter(|place| look(&place.own).is_some_and(|seen| seen.is_root && seen.can_make));
    let plain = parent.map(|place| Group {
        dir: place.own.join(name),
        enable: Vec::new(),
        values: Vec::new(),
        hierarchy: String::new(),
    });
    groups.extend(plain.filter(|plain| groups.iter().all(|group| group.top() != plain.dir)));
    // A test changes nothing that stays.
    groups.into_iter().filter(|group| group.enable.is_empty()).map(Real).collect()
}

/// A shell that joins the group, then runs a script. The write is the shell's own: a test has threads.
#[allow(clippy::disallowed_methods)]
fn inside(group: &Group, script: &str) -> (Child, String) {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &format!("echo 0 >\"$0/cgroup.procs\" && {script}")]).arg(&group.dir);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, line)
}

#[test]
fn a_group_of_the_kernel_has_its_values_and_takes_its_processes_along() {
    for Real(group) in &real_groups() {
        make(group).unwrap();
        assert_eq!(make(group).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        for setting in &group.values {
            assert_eq!(fs::read_to_string(group.dir.join(&setting.file)).unwrap().trim(), setting.value);
        }
        // A shell, what it started, and what is in a group below.
        let script = "mkdir \"$0/below\" && { sleep 600 & \
                      (echo 0 >\"$0/below/cgroup.procs\" && echo ready && exec sleep 600) & wait; }";
        let (mut child, line) = inside(group, script);
        assert_eq!(line, "ready\n");
        let pid = i32::try_from(child.id()).unwrap();
        assert!(processes(&group.dir).unwrap().contains(&pid));
        assert_eq!(processes(&group.dir.join("below")).unwrap().len(), 1);
        remove(group.top(), soon()).unwrap();
        assert!(!group.top().exists());
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        remove(group.top(), soon()).unwrap();
    }
}

#[test]
fn more_processes_than_are_killed_at_a_time_are_killed() {
    for Real(group) in &real_groups() {
        make(&Group { values: Vec::new(), ..group.clone() }).unwrap();
        let count = 2 * AT_A_TIME + 3;
        let script = format!("{{ n=0; while [ $n -lt {count} ]; do sleep 600 & n=$((n+1)); done; echo ready; wait; }}");
        let (mut child, line) = inside(group, &script);
        assert_eq!(line, "ready\n");
        assert_eq!(processes(&group.dir).unwrap().len(), count + 1);
        // Without the kernel's help too: one by one.
        let handles = hold(&group.dir, AT_A_TIME).unwrap();
        assert_eq!(handles.len(), AT_A_TIME);
        remove(group.top(), soon()).unwrap();
        assert!(!group.top().exists());
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
}

#[test]
fn a_value_that_the_kernel_refuses_leaves_nothing_behind() {
    for Real(group) in &real_groups() {
        let Some(last) = group.values.last() else { continue };
        let bad = Setting { value: "many".into(), ..last.clone() };
        let error = make(&Group { values: vec![bad], ..group.clone() }).unwrap_err();
        assert!(error.to_string().contains("\"many\""), "{error}");
        assert!(!group.top().exists());
    }
}

/// In version 1 nobody enters a group that names no processor.
#[test]
fn every_group_of_a_plan_can_be_entered() {
    let name = RunId::random().unwrap().object_name();
    let groups = plan(&Limits { pids: Some(20), ..Limits::default() }, &name).unwrap_or_default();
    for group in groups.into_iter().filter(|group| group.enable.is_empty()).map(Real) {
        make(&group.0).unwrap();
        let (mut child, line) = inside(&group.0, "echo ready; sleep 600");
        assert_eq!(line, "ready\n", "{:?}", group.0);
        remove(group.0.top(), soon()).unwrap();
        child.wait().unwrap();
    }
}
