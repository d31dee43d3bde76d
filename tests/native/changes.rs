//! A host whose mounts and files change between the look at it and the making of a sandbox, or all the time.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use fosse::sys::linux::init::reap;
use fosse::sys::process::{Pid, wait_unreaped};
use serde_json::{Value, json};

use crate::support::init::wrapped;
use crate::support::native::{for_each_caller, in_mounts, is_root, name_of, names, run, run_cmd, said};
use crate::support::{Home, finish, repeat};

/// A place whose steps were planned before a script changed its host, in mounts of its own.
struct Late {
    builder: Child,
    /// PID 1, if it came to that.
    first: Option<i32>,
    report: Value,
    owner: Option<UnixStream>,
}

impl Late {
    fn make(home: &Home, steps: &Value, change: &str) -> Late {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new(home.program());
        command.args(["init", "--place"]).current_dir("/").env("MARK", &home.dir);
        let become_user = home.user.map(|user| format!("exec setpriv --reuid {user} --regid {user} --clear-groups"));
        let script = format!("set -e; {change}\n{} \"$@\"", become_user.unwrap_or_else(|| "exec".into()));
        let wrapper = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
        let mut command = wrapped(&command, &wrapper);
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
        let builder = command.spawn().unwrap();
        // It is not inherited, and must not keep the other end open.
        drop(command);
        let bytes = serde_json::to_vec(steps).unwrap();
        ours.write_all(&[&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], &bytes].concat()).unwrap();
        let mut hear = || {
            let mut length = [0; 4];
            ours.read_exact(&mut length).unwrap();
            let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
            ours.read_exact(&mut bytes).unwrap();
            serde_json::from_slice::<Value>(&bytes).unwrap()
        };
        let mut report = hear();
        let first = report["begun"].as_i64().map(|first| i32::try_from(first).unwrap());
        if first.is_some() {
            report = hear();
        }
        Late { builder, first, report, owner: Some(ours) }
    }

    /// A path inside, as the machine reaches it.
    fn at(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.first.unwrap()))
    }

    /// The kinds of file systems that are mounted at a path inside.
    fn kinds(&self, path: &str) -> Vec<String> {
        let table = fs::read_to_string(format!("/proc/{}/mountinfo", self.first.unwrap())).unwrap();
        let fields = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let at = table.lines().map(fields).filter(|fields| fields[4] == path);
        at.map(|fields| fields[fields.iter().position(|field| field == "-").unwrap() + 1].clone()).collect()
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        // PID 1 finds that nobody wants the place.
        self.owner.take();
        self.builder.wait().unwrap();
        if let Some(first) = self.first {
            let first = Pid::new(first).unwrap();
            wait_unreaped(first).unwrap();
            reap(first).unwrap();
        }
    }
}

/// A directory below one of the root, with things in it; the machine's own, made for this test.
struct Shown(PathBuf);

impl Shown {
    fn new(home: &Home) -> Shown {
        let dir = PathBuf::from("/srv").join(name_of(home));
        for name in ["d", "e/deep"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        fs::write(dir.join("d/file"), "file").unwrap();
        fs::write(dir.join("plain"), "plain").unwrap();
        Shown(dir)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn steps(home: &Home) -> Value {
    let plan = said(&home.fosse(["run", "--runtime", "native", "--dry-run", "--json", "--", "true"]));
    serde_json::from_str::<Value>(&plan).unwrap()["steps"].clone()
}

#[test]
fn a_mount_that_came_since_the_look_has_its_directory_taken_apart() {
    for_each_caller(|_, home| {
        if !is_root() {
            return;
        }
        let shown = Shown::new(home);
        let dir = shown.0.to_str().unwrap();
        let steps = steps(home);
        let mount = format!("mount -t tmpfs -o mode=755 none {dir}/d; echo tmpfs >{dir}/d/file");
        let place = Late::make(home, &steps, &mount);
        assert_eq!(place.report["done"]["read_only"], json!([]), "{:?}", place.report);
        assert_eq!(fs::read_to_string(place.at(&format!("{dir}/d/file"))).unwrap(), "tmpfs\n");
        assert_eq!(fs::read_to_string(place.at(&format!("{dir}/plain"))).unwrap(), "plain");
        assert_eq!(place.kinds("/srv"), [""; 0]);
        for name in ["d", "e"] {
            assert_eq!(place.kinds(&format!("{dir}/{name}")), ["overlay"], "{name}");
        }
        drop(place);
        // What was planned whole is still so without it.
        let place = Late::make(home, &steps, ":");
        assert_eq!(
            (place.report["done"]["read_only"].clone(), place.kinds("/srv")),
            (json!([]), vec!["overlay".into()])
        );
    });
}

#[test]
fn what_went_since_the_look_is_not_shown_and_in_nobodys_way() {
    for_each_caller(|_, home| {
        if !is_root() {
            return;
        }
        let shown = Shown::new(home);
        let dir = shown.0.to_str().unwrap();
        // Planned entry by entry, because of a mount that then goes; and so do others, a file and a directory.
        let (before, after) = (
            format!("mount -t tmpfs none {dir}/e; echo x >{dir}/e/x"),
            format!("rm {dir}/plain; rm -r {dir}/d {dir}/e"),
        );
        let plan = run_cmd(home, &["--dry-run", "--json"], &["true"]);
        let script = format!("{before}; caller \"$@\"");
        let plan = said(&finish(in_mounts(home, &script, &plan)));
        let steps = serde_json::from_str::<Value>(&plan).unwrap()["steps"].clone();
        assert!(steps.as_array().unwrap().iter().any(|step| step["path"] == format!("{dir}/plain")), "{steps:#}");
        for (change, left) in [(":", vec!["d", "e", "plain"]), (&after, vec![])] {
            let place = Late::make(home, &steps, change);
            assert_eq!(place.report["done"]["read_only"], json!([]), "{:?}", place.report);
            assert_eq!(names(&place.at(dir)), left, "{change}");
        }
        for name in ["d", "e"] {
            fs::create_dir(shown.0.join(name)).unwrap();
        }
    });
}

/// Somebody mounts and unmounts below a directory of the root all the time.
#[test]
fn mounts_that_come_and_go_leave_everything_writable_and_nothing_to_say() {
    for_each_caller(|_, home| {
        if !is_root() {
            return;
        }
        let shown = Shown::new(home);
        let dir = shown.0.display();
        let rounds = repeat(100);
        let storm = format!(
            "mount -t tmpfs -o mode=777 none /srv; mkdir -p -m 777 {dir}/d; \
             (while [ ! -e {dir}/over ]; do mount -t tmpfs none {dir}/d; umount {dir}/d; done) & \
             for i in $(seq {rounds}); do caller \"$@\" || break; done; touch {dir}/over; wait"
        );
        let inner = run_cmd(home, &[], &["sh", "-c", "mkdir /srv/made && rmdir /srv/made && echo done"]);
        let output = finish(in_mounts(home, &storm, &inner));
        assert_eq!(said(&output), "done\n".repeat(rounds).trim_end(), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        assert!(home.list().iter().all(|record| record["read_only"] == json!([])), "{:#?}", home.list());
    });
}

/// A file of the machine's root, in the place of which there is always another one.
struct Exchanged(PathBuf);

impl Exchanged {
    fn exchange(&self, done: &AtomicBool) {
        let new = self.0.with_extension("new");
        while !done.load(Ordering::Relaxed) {
            fs::write(&new, "secret\n").unwrap();
            fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
            fs::rename(&new, &self.0).unwrap();
        }
    }
}

impl Drop for Exchanged {
    fn drop(&mut self) {
        for file in [&self.0, &self.0.with_extension("new")] {
            fs::remove_file(file).unwrap_or_default();
        }
    }
}

/// Ends the exchange, also if what it is beside fails.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_is_exchanged_while_a_run_starts_is_never_shown_as_roots_own() {
    for_each_caller(|_, home| {
        if !is_root() {
            return;
        }
        let file = Exchanged(PathBuf::from(format!("/{}", name_of(home))));
        let (done, script) = (AtomicBool::new(false), format!("cat {}; echo over", file.0.display()));
        std::thread::scope(|scope| {
            scope.spawn(|| file.exchange(&done));
            let _until = Until(&done);
            let all: Vec<String> = (0..repeat(200).max(20)).map(|_| said(&run(home, &[], &script))).collect();
            assert!(all.iter().all(|output| output == "over"), "{all:?}");
        });
    });
}
