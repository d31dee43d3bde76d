//! A sandbox within the native runtime's sandbox, which `--allow-userns` is for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use crate::support::init::wrapped;
use crate::support::native::{
    Caller, for_each_caller, for_root, guarded, outside, own_program, run, run_cmd, said, says,
};
use crate::support::{Home, code, finish, left_out, stderr, stdout};

/// fosse run in there, with its own directories.
fn inner(options: &str, script: &str) -> String {
    format!("export FOSSE_STATE_DIR=/tmp/state; /usr/bin/nested run {options} --no-workspace -- sh -c '{script}'")
}

/// Runs a script that can call fosse.
fn nested(home: &Home, options: &[&str], script: &str) -> Output {
    let mount = format!("{}:/usr/bin/nested:ro", own_program(home).display());
    // For whom root runs it as, too.
    for path in [home.dir.clone(), home.dir.join("bin"), home.workspace()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    run(home, &[&["-m", mount.as_str()], options].concat(), script)
}

/// Who the host's root is may be nobody's user within, so root runs the first one as somebody else.
fn options(caller: Caller) -> &'static [&'static str] {
    if caller == Caller::Root { &["--allow-userns", "--user", "4321"] } else { &["--allow-userns"] }
}

#[test]
fn fosse_runs_within_fosse() {
    for_each_caller(|caller, home| {
        let look = "id -u; ls -d /proc/[0-9]* | wc -l; cat /proc/1/comm; touch /usr/x && echo written; grep -c . \
                    /proc/sys/kernel/core_pattern; exit 7";
        let output = nested(home, options(caller), &inner("", look));
        let text = stdout(&output);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(code(&output), 7, "{output:?}");
        let uid = if caller == Caller::Root { 4321 } else { caller.uid() };
        assert_eq!(lines[0], uid.to_string(), "{output:?}");
        assert!(lines[1].parse::<u32>().unwrap() <= 5, "its own processes: {output:?}");
        assert_eq!(lines[2..], ["fosse-init", "written", "1"], "{output:?}");
        let output = nested(home, options(caller), &inner("--network none", "cat /proc/net/route | wc -l"));
        assert_eq!(said(&output), "1");
        // And once more, which takes no other right.
        let twice = inner(
            "--allow-userns",
            "export FOSSE_STATE_DIR=/tmp/state; /usr/bin/nested run --no-workspace -- echo deep",
        );
        assert_eq!(said(&nested(home, options(caller), &twice)), "deep");
    });
}

#[test]
fn bubblewrap_runs_within_fosse() {
    for_each_caller(|caller, home| {
        if code(&outside(home, "command -v bwrap >/dev/null")) != 0 {
            return left_out("bwrap, which is not installed");
        }
        // All but --unshare-cgroup-try, which takes a namespace that exists for one that may be made.
        let kinds = "--unshare-user --unshare-ipc --unshare-pid --unshare-net --unshare-uts";
        let bwrap = |kinds: &str, command: &str| {
            format!(
                "bwrap {kinds} --die-with-parent --new-session --ro-bind / / --proc /proc --dev /dev --tmpfs /tmp {command}"
            )
        };
        let script = bwrap(kinds, "sh -c 'ls -d /proc/[0-9]* | wc -l; touch /usr/x 2>/dev/null || echo closed'");
        let text = says(home, options(caller), &script);
        let (count, closed) = text.split_once('\n').unwrap();
        assert!(count.parse::<u32>().unwrap() <= 4 && closed == "closed", "{text}");
        let output = run(home, options(caller), &bwrap("--unshare-all", "true"));
        assert!(code(&output) != 0 && stderr(&output).contains("max_*_namespaces"), "{output:?}");
    });
}

/// A /proc that is mounted within has no covers: what they cover is closed to this user anyway.
#[test]
fn a_proc_of_ones_own_opens_nothing_and_the_hidden_one_cannot_be_reached() {
    for_each_caller(|caller, home| {
        let script = guarded(
            "for at in sys/kernel/core_pattern sys/kernel/modprobe sysrq-trigger sys/vm/drop_caches; do \
             (: >>/mnt/$at) 2>/dev/null && echo opened $at; done; for at in kcore kmsg slabinfo timer_list vmallocinfo \
             kpagecount; do head -c 1 /mnt/$at 2>/dev/null | grep -c . ; done | sort -u; ls /mnt/1/root/home; \
             umount -l /sys/kernel 2>/dev/null && echo off; umount /sys/kernel 2>/dev/null && echo off; ls -A /sys/kernel; \
             mkdir /tmp/all; mount --rbind / /tmp/all && umount -l /tmp/all/sys/kernel 2>/dev/null && echo off; \
             ls -A /tmp/all/sys/kernel",
        );
        home.write("ws/look", script);
        let own = "unshare --user --map-root-user --mount --pid --fork sh -c 'mount -t proc none /mnt && echo mounted && sh look'";
        let text = says(home, options(caller), own);
        assert_eq!(text.lines().filter(|line| *line != "fosse").collect::<Vec<_>>(), ["mounted", "0"], "{text}");
        // Before any of that it is not there either.
        assert_eq!(says(home, options(caller), "ls -A /sys/kernel"), "");
    });
    // The host's root would own what is in it.
    for_root(|home| {
        let own = "unshare --user --mount --pid --fork sh -c 'mount -t proc none /mnt && echo mounted'";
        for options in [&["--allow-userns"][..], &["--allow-userns", "--user", "4321:0"]] {
            let output = run(home, options, own);
            assert!(code(&output) != 0 && stdout(&output).is_empty(), "{options:?} {output:?}");
        }
    });
}

/// What cannot be had names itself, and what helps.
#[test]
fn a_sandbox_that_cannot_be_had_within_names_the_step_and_the_remedy() {
    let complains = |output: &Output, step: &str, hint: &str| {
        let text = stderr(output);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(code(output), 125, "{output:?}");
        assert!(lines.len() == 2 && lines[0].starts_with("fosse: ") && lines[0].contains(step), "{step}: {text}");
        assert!(lines[1].starts_with("hint: ") && lines[1].contains(hint), "{hint}: {text}");
    };
    for_each_caller(|caller, home| {
        complains(&nested(home, &[], &inner("", "true")), "unshare user ", "--allow-userns");
        if caller == Caller::Root {
            complains(&nested(home, &["--allow-userns"], &inner("", "true")), "unshare user 0:0: ", "--user UID");
        }
    });
    // On the machine: each kind of namespace by its name.
    for_each_caller(|_, home| {
        for (kind, limit) in [("mount", "mnt"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid"), ("net", "net")] {
            let forbid = format!("echo 0 >/proc/sys/user/max_{limit}_namespaces || exit 99; exec \"$@\"");
            let inner = run_cmd(home, &["--network", "none"], &["true"]);
            let mut command = wrapped(&inner, &["unshare", "--user", "--map-root-user", "sh", "-c", &forbid, "sh"]);
            home.belongs(&mut command);
            let output = finish(command);
            complains(
                &output,
                &format!("unshare mount,pid,ipc,uts,net: {kind}: "),
                &format!("max_{limit}_namespaces="),
            );
        }
    });
}
