//! The native runtime where the workspace, mounts and fosse's own directories are in what the sandbox shows of the
//! host. /tmp, where all other tests are, is hidden inside.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Output;

use crate::support::native::{
    Caller, USER, for_each_caller, for_each_caller_and_place, for_root, guarded, in_mounts, is_root, name_of, names,
    run, run_cmd, said, says,
};
use crate::support::{Home, code, finish, snapshot, stderr, stdout};

fn close(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
}

/// A file that its owner alone may read.
fn own_file(home: &Home, name: &str) {
    let path = home.write(name, "SECRET");
    home.give(&path);
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn the_workspace_and_mounts_are_the_hosts_own_files_wherever_they_are() {
    for_each_caller_and_place(|caller, home| {
        for name in ["ws/k", "data/k", "one"] {
            own_file(home, name);
        }
        // Nobody else passes there, and root inside has no rights over others' files.
        close(&home.dir);
        let at = |name: &str, to: &str| format!("{}:{to}", home.dir.join(name).display());
        let mounts = [at("data", "/data"), at("data", "/usr/local/made/data:ro"), at("one", "/srv/made/one")];
        let options: Vec<&str> = mounts.iter().flat_map(|mount| ["-m", mount]).collect();
        let each = "for at in . /data /usr/local/made/data; do stat -c %u:%a $at/k; cat $at/k; echo; done; \
                    cat /srv/made/one; echo; echo x >made; mkdir dir; echo x >>/data/k; echo x >>/srv/made/one; \
                    echo x >>/usr/local/made/data/k || echo refused; stat -c %u made dir";
        let uid = caller.uid();
        let own = format!("{uid}:600\nSECRET\n").repeat(3);
        assert_eq!(
            said(&without_errors(run(home, &options, each))),
            format!("{own}SECRET\nrefused\n{uid}\n{uid}"),
            "{}",
            home.dir.display()
        );
        for name in ["ws/made", "ws/dir"] {
            assert_eq!(fs::metadata(home.dir.join(name)).unwrap().uid(), uid, "{name}");
        }
        for name in ["data/k", "one"] {
            assert_eq!(fs::read_to_string(home.dir.join(name)).unwrap(), "SECRETx\n", "{name}");
        }
    });
}

/// What a shell says of what it may not do is no part of this.
fn without_errors(output: Output) -> Output {
    Output { stderr: Vec::new(), ..output }
}

/// The same directory at its own path is a picture of it: what is written there goes nowhere.
#[test]
fn what_is_not_bound_stays_as_it_is_wherever_it_is() {
    for_each_caller_and_place(|_, home| {
        own_file(home, "beside/k");
        home.write("beside/open", "open");
        let before = snapshot(&home.dir.join("beside"));
        let dir = home.dir.display();
        let script = format!(
            "for at in {dir}/beside {dir}/ws; do echo x >$at/made; rm -f $at/open; chmod 0777 $at; done 2>/dev/null; \
             rm -rf {dir}/ws /data 2>/dev/null; echo x >/data/made 2>/dev/null; true"
        );
        let mount = format!("{dir}/beside:/data:ro");
        assert_eq!(code(&run(home, &["-m", &mount], &script)), 0);
        assert_eq!(snapshot(&home.dir.join("beside")), before);
        assert_eq!(names(&home.workspace()), [""; 0]);
    });
}

#[test]
fn fosses_own_directories_are_covered_wherever_they_are() {
    for_each_caller_and_place(|_, home| {
        own_file(home, "home/.ssh/id");
        let dir = home.dir.display();
        for (state, mounts, at) in [
            (home.state(), vec![], format!("{dir}/state")),
            (home.workspace().join("state"), vec![], "/workspace/state".to_owned()),
            (home.state(), vec!["-m".to_owned(), format!("{dir}:/mnt/all")], "/mnt/all/state".to_owned()),
        ] {
            let options: Vec<&str> = mounts.iter().map(String::as_str).collect();
            let look = format!("ls -A {at}; touch {at}/evil; mv {at} {at}2; cat {dir}/home/.ssh/id; true");
            let mut command = run_cmd(home, &options, &["sh", "-c", &look]);
            command.env("FOSSE_STATE_DIR", &state);
            let output = finish(command);
            assert_eq!((code(&output), stdout(&output).as_str()), (0, ""), "{at} {output:?}");
            assert!(state.join("runs").is_dir() && !state.join("evil").exists(), "{at}");
            fs::remove_dir_all(home.workspace().join("state")).unwrap_or_default();
        }
    });
}

/// Links in a workspace or below a mount are the command's, and lead nowhere outside.
#[test]
fn links_in_a_workspace_lead_to_nothing_of_the_hosts_own_wherever_it_is() {
    for_each_caller_and_place(|_, home| {
        own_file(home, "aside/k");
        let aside = home.dir.join("aside");
        for (name, to) in [("whole", aside.clone()), ("up", "../aside".into()), ("file", aside.join("k"))] {
            symlink(to, home.workspace().join(name)).unwrap();
        }
        let before = snapshot(&aside);
        let script = "cat up/k; for at in whole up; do echo x >$at/made; rm -f $at/k; done; echo x >file; true";
        let output = run(home, &[], script);
        assert_eq!(code(&output), 0);
        assert_eq!(snapshot(&aside), before);
        let mount = format!("{}:/workspace/whole", aside.display());
        assert_eq!(code(&run(home, &["-m", &mount], "true")), 125, "no link is followed in what is shared");
    });
}

/// A mount below the workspace covers something: it cannot be taken off, not even by root of a namespace within.
#[test]
fn what_is_mounted_below_a_workspace_is_there_and_stays() {
    for_each_caller(|caller, home| {
        if !is_root() {
            return;
        }
        let own = home.user.unwrap_or(0);
        own_file(home, "ws/sub/hidden");
        let attempts = guarded("umount -l sub; umount sub; mount --move sub /mnt; cat sub/hidden; ls -A sub");
        home.write("ws/attempts", attempts);
        let root = caller == Caller::Root;
        let unshare = if root { "unshare --user --mount" } else { "unshare --user --map-root-user --mount" };
        let inside = format!("echo x >sub/made; cat sub/made; {unshare} sh attempts 2>/dev/null; ls -A sub");
        for options in [&[][..], &["--allow-userns"]] {
            let script = format!(
                "mount -t tmpfs -o uid={own},mode=755 none {0}/sub; cd {0}; caller \"$@\"; ls -A {0}/sub",
                home.workspace().display()
            );
            let inner = run_cmd(home, options, &["sh", "-c", &inside]);
            let lines = said(&finish(in_mounts(home, &script, &inner)));
            let allowed = if options.is_empty() { "" } else { "made\n" };
            assert_eq!(lines, format!("x\n{allowed}made\nmade"), "{options:?}");
        }
        assert_eq!(names(&home.workspace().join("sub")), ["hidden"]);
    });
}

/// A machine whose root is an overlay, as in a container: nothing in it can be shown as nobody's.
#[test]
fn on_an_overlay_as_root_the_workspace_is_the_machines_own_too() {
    for_each_caller_and_place(|caller, home| {
        for name in ["ws/k", "data/k"] {
            own_file(home, name);
        }
        close(&home.dir);
        let dir = home.dir.display();
        let script = format!(
            "mount -t tmpfs -o mode=755 none /mnt; mkdir /mnt/u /mnt/w /mnt/r; chmod 755 /mnt/u; mount -t overlay -o \
             lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w none /mnt/r; for at in dev proc sys tmp {tools}; do mkdir -p \
             /mnt/r/$at; mount --rbind /$at /mnt/r/$at; done; cd /mnt/r; mkdir .old; pivot_root . .old; umount -l .old; \
             cd {dir}/ws; caller \"$@\"; cat {dir}/ws/made {dir}/data/made; stat -c %u {dir}/ws/made; \
             stat -f -c %T {dir}/ws",
            tools = Path::new(crate::support::fosse()).parent().unwrap().display(),
        );
        let mount = format!("{dir}/data:/data");
        let inside = format!(
            "stat -c %u:%a . k; cat k /data/k; echo; echo x >made; echo y >/data/made; ls -A {dir}/state; \
             cat /etc/shadow || echo refused"
        );
        let inner = run_cmd(home, &["-m", &mount], &["sh", "-c", &inside]);
        let output = without_errors(finish(in_mounts(home, &script, &inner)));
        let uid = caller.uid();
        let wanted = format!("{uid}:755\n{uid}:600\nSECRETSECRET\nrefused\nx\ny\n{uid}\noverlayfs");
        assert_eq!(said(&output).replace("{dir}", ""), wanted, "{dir}");
    });
}

/// What the command could not reach needs no hiding: a home or state directory in a closed directory, or a home that
/// is not there, is no hindrance.
#[test]
fn closed_and_missing_homes_and_state_directories_are_no_hindrance() {
    for_each_caller_and_place(|_, home| {
        let closed = home.dir.join("closed");
        own_file(home, "closed/h/.ssh/id");
        own_file(home, "closed/s/.keep");
        close(&closed);
        let missing = home.dir.join("closed/no/such");
        for (own_home, state) in [
            (closed.join("h"), closed.join("s")),
            (missing.clone(), closed.join("s")),
            (missing.clone(), missing.join("state")),
            (closed.join("h"), home.state()),
        ] {
            let look = format!("cat {}/.ssh/id; find {} -mindepth 1; echo done", own_home.display(), state.display());
            let mut command = run_cmd(home, &[], &["sh", "-c", &look]);
            command.env("HOME", &own_home).env("FOSSE_STATE_DIR", &state);
            let output = finish(command);
            assert_eq!((code(&output), stdout(&output).as_str()), (0, "done\n"), "{own_home:?} {state:?} {output:?}");
        }
        // Of others, and root's own, in a user database of this test's.
        if home.user.is_none() {
            let database = format!(
                "sed 's|^root:\\(.*\\):/root:|root:\\1:{0}/closed/h:|' /etc/passwd >{0}/passwd; \
                 echo other:x:1234:1234::{0}/closed/other:/bin/sh >>{0}/passwd; mount --bind {0}/passwd /etc/passwd; \
                 unset HOME; \"$@\"",
                home.dir.display()
            );
            let output = finish(in_mounts(home, &database, &run_cmd(home, &[], &["echo", "done"])));
            assert_eq!(said(&output), "done");
        }
    });
}

#[test]
fn a_mount_point_is_made_where_the_links_of_the_system_lead() {
    for_each_caller(|_, home| {
        let file = home.write("f", "mounted").display().to_string();
        let links = ["bin", "sbin", "lib", "lib64"].into_iter().filter(|top| Path::new("/").join(top).is_symlink());
        let targets: Vec<String> = links.map(|top| format!("/{top}/{}", name_of(home))).collect();
        let mounts: Vec<String> = targets.iter().map(|target| format!("{file}:{target}")).collect();
        let options: Vec<&str> = mounts.iter().flat_map(|mount| ["-m", mount]).collect();
        let script = format!("cat {0}; for at in {0}; do cat /usr$at; done", targets.join(" "));
        assert_eq!(says(home, &options, &script), "mounted".repeat(2 * targets.len()));
        assert!(!targets.is_empty() || !Path::new("/bin").is_symlink());
        // With something of its own that is covered, and something mounted in it.
        let dir = home.dir.display();
        for path in ["all/in/.keep", "sub/file"] {
            home.write(path, "");
        }
        let mounts = [format!("{dir}/all:/lib/{0}", name_of(home)), format!("{dir}/sub:/lib/{0}/in", name_of(home))];
        let look = format!("ls -A /lib/{0}/state /lib/{0}/in", name_of(home));
        let mut command = run_cmd(home, &["-m", &mounts[0], "-m", &mounts[1]], &["sh", "-c", &look]);
        command.env("FOSSE_STATE_DIR", home.dir.join("all/state"));
        assert_eq!(said(&finish(command)), format!("/lib/{0}/in:\nfile\n\n/lib/{0}/state:", name_of(home)));
        // A link of somebody's, further down.
        if is_root() {
            let script = "mount -t tmpfs none /opt; mkdir -p /opt/v1/d; chmod 755 /opt /opt/v1 /opt/v1/d; \
                          ln -s v1 /opt/current; caller \"$@\"";
            let mount = format!("{file}:/opt/current/d/new");
            let inner =
                run_cmd(home, &["-m", &mount, "--workdir", "/opt/current/made"], &["sh", "-c", "pwd -P; cat ../d/new"]);
            assert_eq!(said(&finish(in_mounts(home, script, &inner))), "/opt/v1/made\nmounted");
        }
    });
}

/// Also by a link of the system's: `/etc/mtab` is one.
#[test]
fn nothing_is_mounted_where_the_kernel_says_what_is_there() {
    for_each_caller(|_, home| {
        home.write("one", "");
        let one = home.dir.join("one").display().to_string();
        for target in ["/proc", "/proc/x", "/proc/self/mounts", "/etc/mtab", "/dev/pts/x", "/dev/fd"] {
            let output = run(home, &["-m", &format!("{one}:{target}")], "true");
            let said = stderr(&output);
            assert_eq!((code(&output), said.lines().count()), (125, 2), "{target}: {said}");
            assert!(said.contains(&format!("{target} is in /")) && said.contains("another path"), "{target}: {said}");
        }
    });
}

#[test]
fn a_directory_to_work_in_is_made_in_what_is_gone_with_the_run_or_said_to_be_none() {
    for_each_caller(|caller, home| {
        let mark = format!("{}-work", name_of(home));
        home.write("data/file", "");
        for parent in
            ["/usr", "/usr/local", "/usr/share", "/bin", "/etc", "/opt/a/b", "/var/lib", "/new", "/tmp", "/run"]
        {
            let dir = format!("{parent}/{mark}/deep");
            let said = says(home, &["--workdir", &dir], "pwd -P; echo x >made; cat made; stat -c %u .");
            let real = fs::canonicalize(parent).map_or(dir.clone(), |real| format!("{}/{mark}/deep", real.display()));
            assert_eq!(said, format!("{real}\nx\n{}", caller.uid()), "{dir}");
            assert!(!Path::new(parent).join(&mark).exists(), "{dir}");
        }
        let data = format!("{}:/srv/{mark}", home.dir.join("data").display());
        let (below, link) = (format!("/srv/{mark}/new"), format!("/srv/{mark}/file"));
        for (dir, word) in [
            ("/etc/passwd", "Not a directory"),
            ("/etc/passwd/x", "Not a directory"),
            (&*link, "Not a directory"),
            ("/dev/null", "Not a directory"),
            ("/workspace/new", "No such file or directory"),
            (&below, "No such file or directory"),
        ] {
            let output = run(home, &["-m", &data, "--workdir", dir], "true");
            let text = stderr(&output);
            assert_eq!(code(&output), 125, "{dir} {text}");
            assert!(text.contains(&format!("workdir {dir}: {word}")), "{dir}: {text}");
            assert!(text.ends_with("\nhint: --workdir must be a directory that the command can enter\n"), "{text}");
        }
        assert_eq!((names(&home.workspace()), names(&home.dir.join("data"))), (vec![], vec!["file".to_owned()]));
    });
}

#[test]
fn a_device_that_is_mounted_is_a_device() {
    for_each_caller(|_, home| {
        let options = ["-m", "/dev/zero:/dev/z", "-m", "/dev/null:/srv/null"];
        let script = "head -c 3 /dev/z | wc -c; echo x >/srv/null; cat /srv/null; chmod 0600 /dev/z || echo refused";
        assert_eq!(stdout(&run(home, &options, script)), "3\nrefused\n");
        let output = run(home, &["-m", "/dev/zero:/dev/z:ro"], "true");
        assert_eq!(code(&output), 125);
        let text = stderr(&output);
        assert!(text.contains("/dev/zero is a device") && text.contains("\nhint: "), "{text}");
    });
}

/// A file system that is shown to its owner and to nobody else, root included.
#[test]
fn root_is_told_why_it_cannot_use_a_workspace_and_who_could() {
    for_root(|home| {
        // The device may be there although the kernel has nothing behind it.
        if fs::File::options().read(true).write(true).open("/dev/fuse").is_err() {
            return crate::support::left_out("a file system that keeps root out: there is no FUSE");
        }
        let dir = home.workspace().display().to_string();
        let script = format!(
            "exec 9<>/dev/fuse; mount -i -t fuse -o fd=9,rootmode=40000,user_id={USER},group_id={USER} none {dir}; \"$@\""
        );
        let mut inner = run_cmd(home, &["-w", &dir], &["true"]);
        inner.current_dir("/");
        let output = finish(in_mounts(home, &script, &inner));
        assert_eq!(code(&output), 125, "{output:?}");
        let text = stderr(&output);
        assert!(text.contains(&format!("{dir} is on fuse, which does not let root read it")), "{text}");
        assert!(text.contains("\nhint: ") && text.contains("--user OWNER") && text.lines().count() == 2, "{text}");
    });
}
