//! Ways out of the native runtime's sandbox through files: secrets of the machine and of the caller, writing outside,
//! covers, devices, links. Each is first shown to be open outside, for the same caller.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::native::{
    Caller, Forbidden, for_each_caller, for_root, guarded, in_mounts, is_root, name_of, names, outside, own_program,
    perl, run, run_cmd, said, says,
};
use crate::support::{Home, code, finish, repeat, rest_left_out, snapshot, stderr, stdout};

/// A file that its owner alone may read, outside the workspace.
fn secret(home: &Home) -> String {
    let path = home.write("home/.ssh/id", "SECRET");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

#[test]
fn the_callers_home_is_not_visible_wherever_it_is() {
    for_each_caller(|_, home| {
        let path = secret(home);
        assert_eq!(said(&outside(home, &format!("cat {path}"))), "SECRET");
        assert_ne!(code(&run(home, &[], &format!("cat {path}"))), 0);
        assert_eq!(
            says(home, &[], "echo $HOME; ls -A $HOME; cat ~/.ssh/id 2>/dev/null || echo none"),
            "/home/fosse\nnone"
        );
        if !is_root() {
            return rest_left_out("what only root could do outside needs root");
        }
        // In a place that is shown, /opt, which is a directory of this test's own here.
        let script = "mount -t tmpfs none /opt; mkdir /opt/me; echo SECRET >/opt/me/id; echo plain >/opt/plain; \
                      chmod -R a+rX /opt; export HOME=/opt/me; caller cat /opt/me/id; caller \"$@\"";
        let inner = run_cmd(home, &[], &["sh", "-c", "cat /opt/plain; cat /opt/me/id || echo refused"]);
        let output = finish(in_mounts(home, script, &inner));
        assert_eq!(said(&output), "SECRET\nplain\nrefused", "{output:?}");
    });
}

#[test]
fn homes_run_and_temporary_files_of_the_machine_are_not_visible() {
    for_each_caller(|_, home| {
        if !is_root() {
            return rest_left_out("what only root could do outside needs root");
        }
        let places = "/root /home /run /tmp /var/tmp";
        own_program(home);
        // The test's own directory is below /tmp or its like: it stays reachable through a bind mount.
        let script = format!(
            "mkdir /mnt/kept; mount --rbind {dir} /mnt/kept; for at in {places}; do mount -t tmpfs none $at; \
             mkdir $at/deep; echo SECRET >$at/secret; echo SECRET >$at/deep/secret; chmod -R a+rwX $at; done; \
             mkdir -p {dir}; mount --rbind /mnt/kept {dir}; cd {ws}; \
             caller sh -c 'cat /root/secret /home/secret /run/secret /tmp/secret /var/tmp/deep/secret'; caller \"$@\"",
            dir = home.dir.display(),
            ws = home.workspace().display(),
        );
        let script = format!("mount -t tmpfs none /mnt; {script}");
        let look = format!("for at in {places}; do cat $at/secret $at/deep/secret; done 2>/dev/null; ls -A {places}");
        let output = finish(in_mounts(home, &script, &run_cmd(home, &[], &["sh", "-c", &look])));
        let text = said(&output);
        assert_eq!(text.matches("SECRET").count(), 5, "shown outside only: {text}");
        assert!(!text.contains("secret") && !text.contains("deep"), "{text}");
    });
}

#[test]
fn what_is_private_in_etc_stays_private_for_root_too() {
    for_root(|home| {
        assert!(said(&outside(home, "cat /etc/shadow")).contains("root:"));
        assert_eq!(stdout(&run(home, &[], "cat /etc/shadow /etc/gshadow /etc/shadow- 2>/dev/null")), "");
        // A file that nobody has heard of, in a copy of /etc.
        let script = "cp -a /etc copy; echo SECRET >copy/unheard; chmod 600 copy/unheard; echo plain >copy/plain; \
                      mount --bind copy /etc; cat /etc/unheard; \"$@\"";
        let script = format!("cd {}; {script}", home.dir.display());
        let inner = run_cmd(home, &["-w", "ws"], &["sh", "-c", "cat /etc/plain; cat /etc/unheard || echo refused"]);
        let output = finish(in_mounts(home, &script, &inner));
        assert_eq!(stdout(&output).trim(), "SECRET\nplain\nrefused", "{output:?}");
    });
    for_each_caller(|_, home| {
        // Who is who is no secret.
        assert!(says(home, &[], "cat /etc/passwd").contains("root:"));
        assert_eq!(stdout(&run(home, &[], "cat /etc/shadow 2>/dev/null")), "");
    });
}

/// A program of perl that serves on a socket file and runs the rest of its arguments meanwhile.
const SERVE: &str = "use Socket; my $path = shift; socket(S, PF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un($path)) or \
                     die $!; chmod 0777, $path; listen(S, 5); my $pid = fork; if (!$pid) { exec @ARGV } \
                     waitpid($pid, 0); exit($? >> 8)";

/// A program of perl that connects to a socket file.
fn connect(path: &str) -> String {
    let program = "use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0); print connect(S, sockaddr_un(\"PATH\")) ? \
                   \"connected\\n\" : \"refused\\n\"";
    perl(&program.replace("PATH", path))
}

#[test]
fn sockets_of_engines_and_agents_cannot_be_reached() {
    for_each_caller(|_, home| {
        if !is_root() {
            return rest_left_out("what only root could do outside needs root");
        }
        for (path, variable) in [("/opt/d/engine.sock", "DOCKER_HOST=unix://"), ("/opt/agent", "SSH_AUTH_SOCK=")] {
            let client = connect(path);
            let inside = format!("test -S {path} && echo there; {client}");
            let script = format!(
                "mount -t tmpfs none /opt; mkdir -p /opt/d; chmod 755 /opt /opt/d; export {variable}{path}; \
                 perl -e \"$SERVE\" {path} sh -c '$BECOME sh -c \"$CONNECT\"; $BECOME \"$@\"' sh \"$@\""
            );
            let mut command = in_mounts(home, &script, &run_cmd(home, &[], &["sh", "-c", &inside]));
            let user = home.user.map(|user| format!("setpriv --reuid {user} --regid {user} --clear-groups"));
            command.env("SERVE", SERVE).env("CONNECT", &client).env("BECOME", user.unwrap_or_default());
            let output = finish(command);
            assert_eq!(stdout(&output), "connected\nrefused\n", "{path} {output:?}");
        }
    });
}

#[test]
fn fosses_own_directories_are_covered_wherever_they_are_shown() {
    for_each_caller(|_, home| {
        // The state directory in the workspace, and everything by a mount.
        for (state, options, at) in [
            (home.workspace().join("state"), vec![], "/workspace/state"),
            (home.state(), vec!["-m".to_owned(), format!("{}:/mnt/all", home.dir.display())], "/mnt/all/state"),
        ] {
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            let look = format!("ls -A {at}; touch {at}/written; rm -rf {at}/*; true");
            let mut command = run_cmd(home, &options, &["sh", "-c", &look]);
            command.env("FOSSE_STATE_DIR", &state);
            let output = finish(command);
            assert_eq!((code(&output), stdout(&output).trim()), (0, ""), "{output:?}");
            assert!(!names(&state.join("runs")).is_empty() && !state.join("written").exists());
        }
        let all = format!("{}:/all", home.dir.display());
        let text =
            says(home, &["-m", &all], "find /all/run /all/state -mindepth 1; find / -name '*.sock' 2>/dev/null; true");
        assert_eq!(text, "", "sockets and records of the run");
    });
}

#[test]
fn what_is_written_outside_the_workspace_is_gone_with_the_run() {
    for_each_caller(|_, home| {
        let mark = name_of(home);
        let places =
            format!("/ /usr /usr/bin /etc /opt /var /srv /var/lib /usr/local /tmp /run {}", home.dir.display());
        let forbidden = Forbidden::new(places.split(' ').map(|at| format!("{at}/{mark}-escape")));
        let script = format!(
            "for at in {places}; do mkdir -p $at; echo x >$at/{mark}-escape; done 2>/dev/null; \
             echo x >/workspace/made; echo x >$HOME/made; cat /workspace/made $HOME/made"
        );
        assert_eq!(says(home, &[], &script), "x\nx");
        assert_eq!(forbidden.made(), Vec::<&PathBuf>::new());
        assert_eq!(names(&home.workspace()), ["made"]);
        // Not even the next run sees it.
        let look =
            format!("for at in {places} $HOME; do ls -A $at; done 2>/dev/null | grep -e {mark} -e made; ls -A $HOME");
        assert_eq!(says(home, &[], &look), "");
        if !is_root() {
            return rest_left_out("what only root could do outside needs root");
        }
        // What everybody could write, in a place that is shown.
        let script = "mount -t tmpfs none /opt; mkdir /opt/d; echo kept >/opt/file; echo kept >/opt/d/file; \
                      chmod -R a+rwX /opt; caller \"$@\"; cat /opt/file /opt/d/file; ls -A /opt /opt/d";
        let change = "cat /opt/file; echo x >/opt/file; chmod 0 /opt/file; rm -rf /opt/d; mkdir /opt/new; true";
        let output = finish(in_mounts(home, script, &run_cmd(home, &[], &["sh", "-c", change])));
        assert_eq!(said(&output), "kept\nkept\nkept\n/opt:\nd\nfile\n\n/opt/d:\nfile", "{output:?}");
    });
}

#[test]
fn covers_and_read_only_mounts_cannot_be_taken_off() {
    for_each_caller(|_, home| {
        let path = secret(home);
        home.write("data/file", "kept");
        let mount = format!("{}:/data:ro", home.dir.join("data").display());
        let script = guarded(&format!(
            "for at in /data / /usr /etc /proc/sys /sys; do mount -o remount,bind,rw $at; mount -o remount,rw $at; done; \
             for at in /data /home /tmp /root /run /etc/shadow /proc/sys /proc/kcore /dev /workspace; do umount -l $at; \
             umount $at; done; mount -t proc none /mnt; mount --bind / /mnt; echo x >/data/file; cat {path} /etc/shadow; \
             pivot_root / /mnt; chroot / true && echo chroot; true"
        ));
        let output = run(home, &["-m", &mount], &script);
        assert_eq!((code(&output), stdout(&output).as_str()), (0, ""), "{output:?}");
        assert_eq!(fs::read(home.dir.join("data/file")).unwrap(), b"kept");
    });
}

/// With user namespaces allowed a command is root in one of its own, with every capability there: covers are locked.
#[test]
fn covers_hold_against_root_of_a_namespace_within() {
    for_each_caller(|caller, home| {
        let path = secret(home);
        home.write("data/file", "kept");
        let mount = format!("{}:/data:ro", home.dir.join("data").display());
        let attempts = guarded(&format!(
            "mount -t tmpfs none /mnt && echo mounted; mount -o remount,bind,rw /data; echo x >/data/file; \
             for at in /data /home /tmp /root /run /etc/shadow /proc/sys /dev /workspace; do umount -l $at && echo off \
             $at; done; cat {path} /etc/shadow; (: >>/proc/sys/kernel/core_pattern) && echo opened; ls /proc/1/root/; \
             mknod /tmp/null c 1 3; mount -t proc none /mnt && ls /mnt/1/cwd/; true"
        ));
        home.write("ws/attempts", attempts);
        let unshare = "unshare --user --map-root-user --mount";
        assert_eq!(said(&outside(home, &format!("{unshare} mount -t tmpfs none /mnt && echo yes"))), "yes");
        // Number 0 cannot be mapped once more without CAP_SETFCAP (user_namespaces(7)), which nobody has in there: it is
        // nobody then, with all capabilities nevertheless.
        let root = caller == Caller::Root;
        let script = format!("{} sh attempts", if root { "unshare --user --mount" } else { unshare });
        let allowed = run(home, &["--allow-userns", "-m", &mount], &script);
        assert_eq!(stdout(&allowed), if root { "" } else { "mounted\n" }, "{allowed:?}");
        let refused = run(home, &["-m", &mount], &script);
        assert_eq!(stdout(&refused), "", "{refused:?}");
        assert_eq!(fs::read(home.dir.join("data/file")).unwrap(), b"kept");
    });
}

#[test]
fn device_nodes_cannot_be_made_and_those_in_the_workspace_do_not_work() {
    for_each_caller(|_, home| {
        let text = says(
            home,
            &[],
            "mknod /tmp/node c 1 3 2>/dev/null && echo made; mknod node b 8 0 2>/dev/null; ls -A; ls /dev",
        );
        let allowed =
            ["core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout"];
        let strange = text
            .lines()
            .filter(|name| !allowed.contains(name) && !["tty", "urandom", "zero", "console"].contains(name));
        assert_eq!(strange.collect::<Vec<_>>(), Vec::<&str>::new());
        assert_eq!(
            says(home, &[], "echo x >/dev/null; head -c 3 /dev/zero | wc -c; test -c /dev/urandom && echo yes"),
            "3\nyes"
        );
        if is_root() {
            let node = home.workspace().join("node");
            let made = Command::new("mknod").arg("-m").arg("666").arg(&node).args(["c", "1", "5"]).status().unwrap();
            assert!(made.success());
            assert_eq!(said(&outside(home, "head -c 3 node | wc -c")), "3");
            assert_eq!(says(home, &[], "head -c 3 node 2>/dev/null | wc -c"), "0");
        }
    });
}

#[test]
fn setuid_programs_give_no_rights() {
    for_each_caller(|caller, home| {
        let status = says(home, &[], "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status");
        for (name, wanted) in [
            ("CapInh", 0),
            ("CapPrm", 0),
            ("CapEff", 0),
            ("CapBnd", 0),
            ("CapAmb", 0),
            ("NoNewPrivs", 1),
            ("Seccomp", 2),
        ] {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
            assert_eq!(u64::from_str_radix(line.trim(), 16).unwrap(), wanted, "{name} in {status}");
        }
        if !is_root() {
            return rest_left_out("what only root could do outside needs root");
        }
        // Root's for the user, the user's for root.
        let copy = home.workspace().join("id");
        crate::support::copy_program(Path::new("/usr/bin/id"), &copy);
        let owner = if caller == Caller::Root { crate::support::native::USER } else { 0 };
        std::os::unix::fs::chown(&copy, Some(owner), Some(owner)).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o6755)).unwrap();
        assert_eq!(said(&outside(home, "./id -u")), owner.to_string(), "it works outside");
        assert_eq!(says(home, &[], "./id -u"), caller.uid().to_string());
    });
}

/// A link in the workspace that leads out leads nowhere, or to what the sandbox shows; a mount through one stays in.
#[test]
fn hostile_links_in_the_workspace_lead_nowhere() {
    for_each_caller(|_, home| {
        let path = secret(home);
        let target = home.write("target/file", "kept").parent().unwrap().to_owned();
        let source = home.write("source/planted", "x").parent().unwrap().to_owned();
        let (before, mark) = (snapshot(&target), name_of(home));
        let beside =
            [format!("{mark}-deeper/{mark}"), format!("{mark}-deeper"), format!("{mark}-planted"), mark.clone()];
        let forbidden = Forbidden::new(beside.iter().flat_map(|name| [format!("/etc/{name}"), format!("/{name}")]));
        let up = "../../../../../../../../etc";
        for to in [target.clone(), "../target".into(), up.into(), "/etc".into(), "/proc/self/root".into()] {
            let link = home.workspace().join("sub");
            symlink(&to, &link).unwrap();
            symlink(&path, home.workspace().join("id")).unwrap();
            let text = stdout(&run(home, &[], &format!("cat id; echo x >sub/{mark}-planted; cat sub/file; true")));
            assert_eq!(text, "", "{}", to.display());
            for at in ["sub".to_owned(), format!("sub/{mark}-deeper"), format!("sub/../{mark}-planted")] {
                let mount = format!("{}:/workspace/{at}", source.display());
                let output = run(home, &["-m", &mount], &format!("echo x >/workspace/{at}/{mark}; true"));
                assert!(matches!(code(&output), 0 | 125), "{output:?}");
                assert!(code(&output) == 0 || stderr(&output).starts_with("fosse: "), "{output:?}");
            }
            assert_eq!(snapshot(&target), before, "{}", to.display());
            assert_eq!(forbidden.made(), Vec::<&PathBuf>::new(), "{}", to.display());
            fs::remove_file(&link).unwrap();
            fs::remove_file(home.workspace().join("id")).unwrap();
            assert_eq!(names(&home.workspace()), Vec::<String>::new(), "no mount point stays");
        }
    });
}

/// Somebody swaps a directory of the workspace and a link all the time while runs mount something there.
#[test]
fn a_race_of_links_against_mounts_never_writes_outside() {
    for_each_caller(|_, home| {
        let target = home.write("target/file", "kept").parent().unwrap().to_owned();
        let source = home.write("source/here", "x").parent().unwrap().to_owned();
        let (sub, link, aside) = (home.workspace().join("sub"), home.dir.join("link"), home.dir.join("aside"));
        fs::create_dir(&sub).unwrap();
        std::os::unix::fs::chown(&sub, home.user, home.user).unwrap();
        symlink(&target, &link).unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    for (from, to) in [(&sub, &aside), (&link, &sub), (&sub, &link), (&aside, &sub)] {
                        // Busy while something is mounted on it, in some namespace: then the next.
                        fs::rename(from, to).unwrap_or_default();
                    }
                }
            });
            let mount = format!("{}:/workspace/sub/deep", source.display());
            let plain = format!("{}:/workspace/sub", source.display());
            let outputs: Vec<_> = (0..repeat(100))
                .map(|round| {
                    run_cmd(home, &["-m", [&plain, &mount][round % 2]], &["sh", "-c", "echo x >sub/written; true"])
                })
                .map(|mut command| command.output().unwrap())
                .collect();
            over.store(true, Ordering::SeqCst);
            assert!(outputs.iter().all(|output| matches!(code(output), 0 | 125)), "{outputs:?}");
        });
        assert_eq!(names(&target), ["file"]);
        assert_eq!(fs::read(target.join("file")).unwrap(), b"kept");
    });
}

/// What is mounted read-only cannot be had writable under a second name.
#[test]
fn hard_links_do_not_reach_across_mounts() {
    for_each_caller(|_, home| {
        let file = home.write("data/file", "kept");
        assert_eq!(said(&outside(home, &format!("ln {} linked && rm linked && echo yes", file.display()))), "yes");
        let mount = format!("{}:/data:ro", home.dir.join("data").display());
        let script = "ln /data/file linked || echo refused; ln /etc/passwd linked || echo refused; \
                      ln /workspace/own /workspace/second && echo own";
        home.write("ws/own", "x");
        assert_eq!(says(home, &["-m", &mount], script), "refused\nrefused\nown");
        assert_eq!(names(&home.workspace()), ["own", "second"]);
        assert_eq!(fs::read(file).unwrap(), b"kept");
    });
}

/// 2001-01-01T00:00:00Z, in seconds since 1970.
const TOUCHED: i64 = 978_307_200;

#[test]
fn devices_of_the_machine_keep_their_modes_owners_and_times() {
    for_each_caller(|_, home| {
        let about = || {
            ["null", "zero", "full", "random", "urandom", "tty"].map(|name| {
                let about = fs::metadata(Path::new("/dev").join(name)).unwrap();
                // Not the time itself: a shell that uses the same device changes that.
                (about.mode(), about.uid(), about.gid(), about.mtime() == TOUCHED)
            })
        };
        let before = about();
        // To what they are already, so that a sandbox that does not hold does no harm; a change of the time shows.
        let script = "cd /dev; for d in null zero full random urandom tty; do \
             chmod 0666 $d && echo chmod $d; TZ=UTC touch -d 2001-01-01 $d && echo touch $d; done; echo x >null; head -c1 zero | wc -c";
        assert_eq!(stdout(&run(home, &[], script)), "1\n");
        assert_eq!(about(), before);
    });
}
