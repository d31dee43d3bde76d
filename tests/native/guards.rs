//! Guards of the native runtime's sandbox that another one backs up, or that only act on what changes while a sandbox
//! is made: each is asked for by itself, since no command would notice that it is missing.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fosse::sys::linux::init::reap;
use fosse::sys::process::{Pid, wait_unreaped};
use serde_json::{Value, json};

use crate::support::init::wrapped;
use crate::support::native::{
    alive, first_of_namespace, for_each_caller, for_root, in_mounts, is_root, names, perl, run, run_cmd, said, says,
    start, traces,
};
use crate::support::{
    Client, Home, KILL, STOP, TERM, code, finish, kill, process_state, processes, stdout, try_kill, wait_until,
};

/// The steps of a run with these options.
fn steps(home: &Home, options: &[&str]) -> Vec<Value> {
    let args = ["run", "--runtime", "native", "--dry-run", "--json"].iter().chain(options).chain(&["--", "true"]);
    let plan: Value = serde_json::from_str(&said(&home.fosse(args))).unwrap();
    plan["steps"].as_array().unwrap().clone()
}

/// The paths of the steps of a kind.
fn paths<'a>(steps: &'a [Value], kind: &str) -> Vec<&'a str> {
    let steps = steps.iter().filter(|step| step["step"] == kind);
    steps.map(|step| step["path"].as_str().unwrap()).collect()
}

/// Nothing of the host is mounted that the plan does not say, the former root least of all, and no mount gives rights.
#[test]
fn the_mounts_are_those_of_the_plan_and_none_gives_rights() {
    for_each_caller(|_, home| {
        let steps = steps(home, &[]);
        let kinds = ["overlay", "file", "bind", "private", "hide", "freeze", "mount"];
        let planned: BTreeSet<&str> = kinds.iter().flat_map(|kind| paths(&steps, kind)).chain(["/"]).collect();
        let devices: BTreeSet<&str> = steps
            .iter()
            .filter(|step| step["device"] == true)
            .map(|step| step["path"].as_str().unwrap())
            .chain(["/dev/pts"])
            .collect();
        let table = says(home, &[], "cat /proc/self/mountinfo");
        let mounts: Vec<(&str, Vec<&str>)> = table
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .map(|fields| (fields[4], fields[5].split(',').collect()))
            .collect();
        assert_eq!(mounts.iter().filter(|(path, _)| *path == "/").count(), 1, "one root: {table}");
        for (path, options) in &mounts {
            assert!(planned.contains(path), "{path} is not in the plan: {table}");
            assert!(options.contains(&"nosuid"), "{path}: {table}");
            assert!(options.contains(&"nodev") || devices.contains(path), "{path}: {table}");
        }
        // As the machine sees it: a directory further down, of which there is a way up, would be named.
        if is_root() {
            let client = start(home, &[], "exec sleep 1000");
            let init = first_of_namespace(client.pid()).expect("PID 1");
            let root = fs::read_link(format!("/proc/{init}/root")).unwrap();
            client.signal(TERM);
            client.output();
            assert_eq!(root, Path::new("/"));
        }
        let kernel = paths(&steps, "mount").into_iter().chain(paths(&steps, "freeze"));
        for path in kernel {
            for (_, options) in mounts.iter().filter(|(at, _)| *at == path) {
                assert!(options.contains(&"noexec"), "{path}: {table}");
            }
        }
    });
}

/// Written out once more: a kernel has only some of them, and the next one may have others.
#[test]
fn what_proc_and_sys_tell_and_take_is_in_the_plan() {
    for_each_caller(|_, home| {
        let steps = steps(home, &[]);
        let below = |paths: Vec<&str>, top: &str| {
            let names = paths.into_iter().filter_map(|path| path.strip_prefix(top).map(str::to_owned));
            names.collect::<BTreeSet<String>>()
        };
        let list = |names: &str| names.split(' ').map(str::to_owned).collect::<BTreeSet<String>>();
        let known = list("acpi asound bus driver dynamic_debug fs irq mtrr scsi sys sysrq-trigger tty");
        let frozen = below(paths(&steps, "freeze"), "/proc/");
        assert_eq!(frozen.intersection(&known).collect::<Vec<_>>(), known.iter().collect::<Vec<_>>());
        for other in frozen.difference(&known) {
            let about = fs::symlink_metadata(Path::new("/proc").join(other)).unwrap();
            assert!(about.is_dir() || about.permissions().mode() & 0o222 != 0, "{other}");
        }
        let hidden = "kcore key-users keys kmsg kpagecgroup kpagecount kpageflags latency_stats sched_debug slabinfo \
                      timer_list vmallocinfo";
        assert_eq!(below(paths(&steps, "hide"), "/proc/"), list(hidden));
        let binds: Vec<_> = steps.iter().filter(|step| step["step"] == "bind").collect();
        let shown = binds.iter().filter(|step| step["path"].as_str().unwrap().starts_with("/sys"));
        let shown: Vec<_> = shown.map(|step| (step["path"].as_str().unwrap(), step["read_only"] == true)).collect();
        assert_eq!(shown, [("/sys/devices/system/cpu", true), ("/sys/devices/system/node", true)]);
    });
}

/// The kernel's own limit backs the filter up; and PID 1 is no better than the command.
#[test]
fn what_the_filter_forbids_the_kernel_forbids_too_and_pid_1_has_no_rights_either() {
    for_each_caller(|_, home| {
        assert_eq!(says(home, &[], "cat /proc/sys/user/max_user_namespaces"), "0");
        assert_ne!(says(home, &["--allow-userns"], "cat /proc/sys/user/max_user_namespaces"), "0");
        let none = "0000000000000000";
        let wanted = format!(
            "CapInh:\t{none}\nCapPrm:\t{none}\nCapEff:\t{none}\nCapBnd:\t{none}\nCapAmb:\t{none}\nNoNewPrivs:\t1\nSeccomp:\t2"
        );
        for pid in ["1", "self"] {
            let look = format!("grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/{pid}/status");
            assert_eq!(says(home, &[], &look), wanted, "{pid}");
        }
        // PR_GET_SECUREBITS: every bit of NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE, and their locks.
        let bits = perl(&format!("print syscall({}, 27, 0, 0, 0, 0)", libc::SYS_prctl));
        assert_eq!(says(home, &[], &bits), 0b1100_1111.to_string());
        // Of several groups it could only drop some: the kernel lets nobody in there.
        assert_eq!(says(home, &[], "cat /proc/self/setgroups"), "deny");
    });
}

/// Another command of the run: as little is its own, and what keeps it is as closed as PID 1.
#[test]
fn a_command_of_exec_is_guarded_as_the_first_one_is() {
    for_each_caller(|_, home| {
        let client = start(home, &["-n", "alive"], "exec sleep 1000");
        let exec = |script: &str| said(&home.fosse(["exec", "alive", "--", "sh", "-c", script]));
        let status = exec("grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | cut -f 2 | tr '\\n' ' '");
        assert_eq!(status, "0000000000000000 0000000000000000 1 2");
        assert_eq!(exec("ls /proc/self/fd | tr '\\n' ' '"), "0 1 2 3", "the last is the directory that is listed");
        // It leads a session; the number of that is the sixth field.
        assert_eq!(exec("set -- $(cat /proc/$$/stat); [ $1 = $6 ] && echo leads"), "leads");
        let files = "environ exe root cwd fd/0 maps mem auxv io";
        let look = |pid: &str| {
            let each = format!("readlink /proc/{pid}/$at || head -c 1 /proc/{pid}/$at | tr '\\0' x");
            exec(&format!("cat /proc/{pid}/comm; for at in {files}; do {each}; done 2>/dev/null | wc -c"))
        };
        assert_eq!(look("$PPID"), "fosse-keeper\n0");
        assert_ne!(look("$$"), "sh\n0");
        assert_eq!(code(&home.fosse(["stop", "alive"])), 0);
        client.output();
    });
}

/// A group of the caller's would open files to the command that its own numbers do not.
#[test]
fn other_groups_of_root_stay_outside() {
    for_root(|home| {
        for (options, inside) in [(vec![], "0"), (vec!["--user", "4321"], "4321")] {
            let inner = run_cmd(home, &options, &["id", "-G"]);
            let command = wrapped(&inner, &["setpriv", "--groups", "0,4242", "sh", "-c", "id -G; exec \"$@\"", "sh"]);
            assert_eq!(said(&finish(command)), format!("0 4242\n{inside}"), "{options:?}");
        }
    });
}

/// Known by their places: their modes and their owner would let the command in, or are somebody else's mistake.
#[test]
fn places_of_secrets_are_hidden_whatever_their_modes() {
    for_each_caller(|caller, home| {
        if !is_root() {
            return;
        }
        let id = home.write("home/.ssh/id", "SECRET\n");
        fs::set_permissions(&id, fs::Permissions::from_mode(0o600)).unwrap();
        let (dir, uid) = (home.dir.display(), caller.uid());
        let script = format!(
            "cp -a /etc {dir}/copy; mkdir {dir}/copy/wireguard; echo SECRET >{dir}/copy/wireguard/wg0.conf; \
             echo person:x:2222:2222::/opt/person:/bin/sh >>{dir}/copy/passwd; mount --bind {dir}/copy /etc; \
             mount -t tmpfs none /opt; mkdir /opt/person /opt/mirror /opt/state; echo SECRET >/opt/person/file; \
             echo SECRET >/opt/state/file; chmod -R a+rX /etc/wireguard /opt; chown -R {uid} /opt/state; \
             mount --bind {dir}/home /opt/mirror; export FOSSE_STATE_DIR=/opt/state; caller sh -c \"$LOOK\"; \
             caller \"$@\""
        );
        let look = "cat /etc/wireguard/wg0.conf /opt/person/file /opt/mirror/.ssh/id /opt/state/file; echo looked";
        let mut command = in_mounts(home, &script, &run_cmd(home, &[], &["sh", "-c", look]));
        command.env("LOOK", look);
        let output = finish(command);
        assert_eq!(stdout(&output), format!("{}looked\nlooked\n", "SECRET\n".repeat(4)), "{output:?}");
    });
}

/// What covers something is the same for all that is covered, and can only be read: also by who owns it.
#[test]
fn nobody_can_write_to_what_covers_something() {
    for_each_caller(|_, home| {
        if !is_root() {
            return;
        }
        let script = "mount -t tmpfs none /opt; mkdir /opt/me; echo SECRET >/opt/me/id; chmod -R a+rX /opt; \
                      export HOME=/opt/me; caller \"$@\"";
        let write = "for at in /opt/me /etc/shadow; do chmod 777 $at; done; touch /opt/me/x && echo written; \
                     echo x >/etc/shadow && echo written; ls -A /opt/me; cat /etc/shadow; true";
        let output = finish(in_mounts(home, script, &run_cmd(home, &[], &["sh", "-c", write])));
        assert_eq!((code(&output), stdout(&output).as_str()), (0, ""), "{output:?}");
    });
}

/// A file system below what is mounted, which comes with it. (One below what is mounted read-only is refused before.)
#[test]
fn devices_do_not_work_on_what_is_mounted_below_a_mount_either() {
    for_each_caller(|_, home| {
        if !is_root() {
            return;
        }
        home.write("data/file", "kept");
        let data = home.dir.join("data").display().to_string();
        let script = format!(
            "mkdir {data}/sub; mount -t tmpfs -o mode=777 none {data}/sub; mknod -m 666 {data}/sub/node c 1 5; \
             caller sh -c 'head -c 3 {data}/sub/node | wc -c'; caller \"$@\""
        );
        let read = "head -c 3 /data/sub/node | wc -c; echo x >/data/sub/file; cat /data/sub/file";
        let inner = run_cmd(home, &["-m", &format!("{data}:/data")], &["sh", "-c", read]);
        let output = finish(in_mounts(home, &script, &inner));
        assert_eq!(said(&output), "3\n0\nx", "{output:?}");
    });
}

/// Something that is mounted on the machine while a command runs, in what it has been given.
#[test]
fn what_is_mounted_later_does_not_appear() {
    for_each_caller(|_, home| {
        if !is_root() {
            return;
        }
        let ws = home.workspace().display().to_string();
        // As on a machine whose mounts are shared, which is the default of most.
        let script = format!(
            "mount -t tmpfs -o mode=777 none {ws}; mount --make-shared {ws}; cd {ws}; mkdir sub; mkfifo -m 666 there go; \
             (caller \"$@\" || echo failed >there) & read line <there; mount -t tmpfs none sub; echo SECRET >sub/file; \
             echo >go; wait; cat sub/file"
        );
        let look = "echo >there; read line <go; ls sub; echo looked";
        let output = finish(in_mounts(home, &script, &run_cmd(home, &[], &["sh", "-c", look])));
        assert_eq!(said(&output), "looked\nSECRET", "{output:?}");
    });
}

/// Links of the machine's on the way to a mount point: they lead where they lead inside.
#[test]
fn links_on_the_way_to_a_mount_point_stay_inside() {
    for_each_caller(|_, home| {
        if !is_root() {
            return;
        }
        home.write("data/file", "mounted");
        let aside = home.write("aside/file", "kept").parent().unwrap().to_owned();
        let up = "../".repeat(12);
        let script = format!(
            "mount -t tmpfs -o mode=777 none /opt; mkdir -p /opt/real/made; ln -s /opt/real /opt/whole; \
             ln -s /old{aside} /opt/out; ln -s {up}old{aside} /opt/up; caller \"$@\"",
            aside = aside.display()
        );
        for (at, wanted) in [("out", 125), ("up", 125), ("whole", 0)] {
            let mount = format!("{}:/opt/{at}/made", home.dir.join("data").display());
            let inner = run_cmd(home, &["-m", &mount], &["sh", "-c", "cat /opt/real/made/file"]);
            let output = finish(in_mounts(home, &script, &inner));
            let text = if wanted == 0 { "mounted" } else { "" };
            assert_eq!((code(&output), stdout(&output).as_str()), (wanted, text), "{at} {output:?}");
            assert_eq!(names(&aside), ["file"], "{at}");
        }
    });
}

/// Neither a directory to work in nor a place for passing files.
#[test]
fn what_is_asked_for_is_made_in_what_is_the_commands_own_only() {
    for_each_caller(|_, home| {
        assert_eq!(says(home, &["--workdir", "/srv/new/dir"], "pwd"), "/srv/new/dir");
        assert_eq!(code(&run(home, &["--workdir", "/workspace/new"], "pwd")), 125);
        assert_eq!(names(&home.workspace()), Vec::<String>::new());
        assert_eq!(says(home, &[], "ls -A /var/tmp; echo x >/var/tmp/x; cat /var/tmp/x"), "x");
    });
}

/// Starts a builder as an owner does, and tells it what to do.
fn start_builder(home: &Home, steps: &[Value]) -> (Child, UnixStream) {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut command = Command::new(home.program());
    command.args(["init", "--place"]).current_dir("/").env("MARK", &home.dir);
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
    let builder = home.belongs(&mut command).spawn().unwrap();
    let bytes = serde_json::to_vec(steps).unwrap();
    ours.write_all(&[&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], &bytes].concat()).unwrap();
    (builder, ours)
}

/// Makes a place from steps that were planned before. Which error the kernel gave; none if it is made.
fn make_place(home: &Home, steps: &[Value]) -> Option<i64> {
    let (mut builder, mut ours) = start_builder(home, steps);
    let mut hear = || {
        let mut length = [0; 4];
        ours.read_exact(&mut length).unwrap();
        let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
        ours.read_exact(&mut bytes).unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap()
    };
    let begun = hear();
    let Some(first) = begun["begun"].as_i64() else {
        // The builder could not go on, and there is no PID 1.
        drop(ours);
        builder.wait().unwrap();
        return Some(begun["failed"]["errno"].as_i64().unwrap_or_else(|| panic!("{begun}")));
    };
    let first = i32::try_from(first).unwrap();
    let report = hear();
    // PID 1 finds that nobody wants the place.
    drop(ours);
    builder.wait().unwrap();
    let first = Pid::new(first).unwrap();
    wait_unreaped(first).unwrap();
    reap(first).unwrap();
    match &report["failed"]["errno"] {
        Value::Null if report["done"].is_object() => None,
        errno => Some(errno.as_i64().unwrap_or_else(|| panic!("{report}"))),
    }
}

/// Somebody who exchanges a name after it was looked at and before it is mounted, or covered.
#[test]
fn a_name_that_becomes_a_link_after_the_plan_was_made_is_refused() {
    for_each_caller(|_, home| {
        home.write("data/deep/file", "x");
        home.write("ws/sub/file", "x");
        home.write("aside/deep/file", "SECRET");
        home.write("ws/state/.keep", "");
        let options = [
            format!("{}:/data", home.dir.join("data").display()),
            format!("{}:/deep", home.dir.join("data/deep").display()),
            format!("{}:/workspace/sub", home.dir.join("aside").display()),
        ];
        let with = |mounts: &[&str]| {
            let args = mounts.iter().flat_map(|mount| ["-m", mount]).collect::<Vec<_>>();
            let mut command = home.cmd(["run", "--runtime", "native", "--dry-run", "--json"]);
            command.args(args).args(["--", "true"]).env("FOSSE_STATE_DIR", home.workspace().join("state"));
            let plan: Value = serde_json::from_str(&said(&finish(command))).unwrap();
            plan["steps"].as_array().unwrap().clone()
        };
        for (mounts, name) in [
            (&[&*options[0]][..], home.dir.join("data")),
            (&[&*options[1]], home.dir.join("data")),
            (&[&*options[2]], home.workspace().join("sub")),
            (&[], home.workspace().join("state")),
        ] {
            let steps = with(mounts);
            assert_eq!(make_place(home, &steps), None, "{name:?}");
            let moved = home.dir.join("moved");
            fs::rename(&name, &moved).unwrap();
            symlink(home.dir.join("aside"), &name).unwrap();
            assert_eq!(make_place(home, &steps), Some(libc::ELOOP.into()), "{name:?}");
            // Relative, and so within what is shared.
            fs::remove_file(&name).unwrap();
            symlink("deep", &name).unwrap();
            assert_eq!(make_place(home, &steps), Some(libc::ELOOP.into()), "{name:?}");
            fs::remove_file(&name).unwrap();
            fs::rename(&moved, &name).unwrap();
        }
    });
}

/// One that stands still hears nothing on its connection: the kernel ends it.
#[test]
fn who_stands_still_ends_with_the_owner() {
    let is_gone = |pid: i32| process_state(pid).is_none_or(|state| state == 'Z');
    let stop_pid_1 = |home: &Home, options: &[&str]| {
        let mut client = start(home, options, "exec sleep 1000");
        let init = first_of_namespace(client.pid()).expect("PID 1");
        kill(init, STOP);
        wait_until("it stands still", || process_state(init) == Some('T'));
        client.signal(KILL);
        client.wait();
        wait_until("PID 1 is gone", || is_gone(init));
    };
    // By the guard of its control groups, if it has some.
    for_root(|home| {
        if code(&run(home, &["--memory", "64m"], "true")) == 0 {
            stop_pid_1(home, &["--memory", "64m"]);
            wait_until("no control group is left", || traces(home).is_empty());
        }
        assert_eq!(code(&home.fosse(["clean"])), 0);
    });
    for_each_caller(|_, home| {
        stop_pid_1(home, &[]);
        // The builder, which has that name once it has made its request; often it is faster.
        for _ in 0..crate::support::repeat(100) {
            let mut client = Client::spawn(run_cmd(home, &[], &["sleep", "1000"]));
            let is_builder = |pid: i32| processes::name(pid) == "fosse-init";
            let found =
                || processes::children(client.pid()).into_iter().map(|(pid, _)| pid).find(|pid| is_builder(*pid));
            while found().is_none() {
                assert_ne!(process_state(client.pid()), Some('Z'), "it has ended");
                std::thread::yield_now();
            }
            let builder = found().filter(|pid| {
                let numbers = processes::status_field_if_any(*pid, "NSpid");
                numbers.is_some_and(|numbers| numbers.split_whitespace().count() == 1)
            });
            if let Some(builder) = builder {
                try_kill(builder, STOP); // it may have ended by now
            }
            client.signal(KILL);
            client.wait();
            wait_until("the builder is gone", || builder.is_none_or(is_gone));
        }
        assert_eq!(code(&home.fosse(["clean"])), 0);
    });
}

/// An owner that ends before PID 1 has asked for its death signal. What PID 1 would do next here never ends.
#[test]
fn pid_1_finds_that_its_owner_has_ended_before() {
    for_each_caller(|_, home| {
        let file = home.write("proc/sys/user/max_user_namespaces", "");
        fs::remove_file(&file).unwrap();
        assert_eq!(
            code(&finish({
                let mut command = Command::new("mkfifo");
                command.arg(&file);
                command
            })),
            0
        );
        let mut steps = steps(home, &[]);
        steps.retain(|step| ["user_namespace", "namespaces", "root"].iter().any(|kind| step["step"] == *kind));
        let shown = json!({ "step": "bind", "source": home.dir.join("proc"), "path": "/proc", "read_only": true,
            "device": false, "optional": false, "make": true });
        steps.extend([shown, json!({ "step": "no_namespaces" })]);
        let (mut builder, ours) = start_builder(home, &steps);
        drop(ours);
        builder.wait().unwrap();
        wait_until("PID 1 is gone", || alive(home).is_empty());
    });
}
