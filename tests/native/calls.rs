//! Ways out of the native runtime's sandbox through the kernel: system calls, sockets, terminals, `/proc` and `/sys`.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::support::init::wrapped;
use crate::support::native::{
    Caller, calls, for_each_caller, for_root, guarded, name_of, outside, perl, results, run, run_cmd, said, says,
};
use crate::support::{code, finish, stdout};

/// Each call with arguments that make it fail for another reason where it is allowed, so that it can be tried
/// outside without harm; `true` for those that only the superuser may make there.
const REFUSED: [(&str, libc::c_long, &str, bool); 27] = [
    ("keyctl", libc::SYS_keyctl, "0, -3, 0", false),
    ("add_key", libc::SYS_add_key, "0, 0, 0, 0, 0", false),
    ("request_key", libc::SYS_request_key, "0, 0, 0, 0", false),
    ("setns", libc::SYS_setns, "-1, 0", false),
    ("open_tree", libc::SYS_open_tree, "-100, \"/none\", 0", false),
    ("fsconfig", libc::SYS_fsconfig, "-1, 0, 0, 0, 0", false),
    ("mount_setattr", libc::SYS_mount_setattr, "-1, \"x\", 0, 0, 0", true),
    ("mount", libc::SYS_mount, "0, 0, 0, 0, 0", true),
    ("umount2", libc::SYS_umount2, "\"/none\", 0", true),
    ("pivot_root", libc::SYS_pivot_root, "\"/none\", \"/none\"", true),
    ("move_mount", libc::SYS_move_mount, "-1, \"x\", -1, \"y\", 0", true),
    ("fsopen", libc::SYS_fsopen, "\"none\", 0", true),
    ("fspick", libc::SYS_fspick, "-100, \"/none\", 0", true),
    ("chroot", libc::SYS_chroot, "\"/\"", true),
    ("bpf", libc::SYS_bpf, "9999, 0, 0", false),
    ("perf_event_open", libc::SYS_perf_event_open, "0, 0, -1, -1, 0", false),
    ("userfaultfd", libc::SYS_userfaultfd, "65535", false),
    ("io_uring_setup", libc::SYS_io_uring_setup, "1, 0", false),
    ("io_uring_enter", libc::SYS_io_uring_enter, "-1, 0, 0, 0, 0, 0", false),
    ("open_by_handle_at", libc::SYS_open_by_handle_at, "-1, 0, 0", true),
    ("acct", libc::SYS_acct, "\"/none\"", true),
    ("swapon", libc::SYS_swapon, "\"/none\", 0", true),
    ("syslog", libc::SYS_syslog, "10, 0, 0", true),
    ("sethostname", libc::SYS_sethostname, "\"x\", -1", true),
    // Of a terminal a command could type into the caller's shell; this is none, and the filter is asked first.
    ("TIOCSTI", libc::SYS_ioctl, "fileno(NULL), 0x5412, 0", false),
    ("TIOCSTI with more bits", libc::SYS_ioctl, "fileno(NULL), 0x100005412, 0", false),
    ("TIOCLINUX", libc::SYS_ioctl, "fileno(NULL), 0x541c, 0", false),
];

#[test]
fn calls_that_no_command_needs_are_refused() {
    for_each_caller(|caller, home| {
        let script = calls(REFUSED.map(|(name, number, args, _)| (name, number, args)));
        let inside = results(&says(home, &[], &script));
        let beside = results(&said(&outside(home, &script)));
        assert_eq!(inside.len(), REFUSED.len());
        for ((name, number), (outer, (_, _, _, root))) in inside.iter().zip(beside.iter().zip(REFUSED)) {
            assert_eq!(*number, libc::EPERM, "{name}");
            if caller == Caller::Root || !root {
                assert_ne!(outer.1, libc::EPERM, "{name} is refused outside too: this shows nothing");
            }
        }
    });
}

/// Modules and kernels, which a kernel may be built without.
#[test]
fn modules_and_kernels_cannot_be_loaded() {
    for_each_caller(|_, home| {
        let script = calls([
            ("init_module", libc::SYS_init_module, "0, 0, \"\""),
            ("finit_module", libc::SYS_finit_module, "-1, \"\", 0"),
            ("delete_module", libc::SYS_delete_module, "\"fosse_none\", 0"),
            ("kexec_load", libc::SYS_kexec_load, "0, 9999, 0, 0"),
        ]);
        for (name, number) in results(&says(home, &[], &script)) {
            assert_eq!(number, libc::EPERM, "{name}");
        }
    });
}

#[test]
fn namespaces_cannot_be_nested_unless_allowed() {
    let kinds = [
        ("time", 0x80),
        ("mount", libc::CLONE_NEWNS),
        ("cgroup", libc::CLONE_NEWCGROUP),
        ("uts", libc::CLONE_NEWUTS),
        ("ipc", libc::CLONE_NEWIPC),
        ("user", libc::CLONE_NEWUSER),
        ("pid", libc::CLONE_NEWPID),
        ("net", libc::CLONE_NEWNET),
    ];
    for_each_caller(|caller, home| {
        for (name, flag) in kinds {
            // Alone, with a user namespace, and by clone, whose child ends at once.
            let user = libc::CLONE_NEWUSER;
            let (alone, both) = (format!("{flag}"), format!("{}", flag | user));
            let script = calls([("alone", libc::SYS_unshare, alone.as_str()), ("both", libc::SYS_unshare, &both)]);
            assert!(results(&says(home, &[], &script)).iter().all(|(_, error)| *error == libc::EPERM), "{name}");
            let clone = perl(&format!(
                "my $r = syscall({}, {}, 0, 0, 0, 0); exit(0) if $r == 0; print $r == -1 ? $! + 0 : \"made\"",
                libc::SYS_clone,
                flag | user | libc::SIGCHLD
            ));
            if flag != 0x80 {
                assert_eq!(said(&outside(home, &clone)), "made", "{name}");
                assert_eq!(says(home, &[], &clone), libc::EPERM.to_string(), "{name}");
            }
        }
        // Its flags are in memory, where a filter cannot look; libraries fall back to clone.
        let clone3 = calls([("clone3", libc::SYS_clone3, "0, 0")]);
        assert_eq!(says(home, &[], &clone3), format!("clone3={}", libc::ENOSYS));
        assert_ne!(said(&outside(home, &clone3)), format!("clone3={}", libc::ENOSYS));
        let unshare = "unshare --user --map-root-user id -u";
        assert_eq!(said(&outside(home, unshare)), "0");
        assert_ne!(code(&run(home, &[], unshare)), 0);
        // Number 0 cannot be mapped once more without CAP_SETFCAP (user_namespaces(7)): nobody, then.
        let (allowed, seen) = if caller == Caller::Root { ("unshare --user id -u", "65534") } else { (unshare, "0") };
        assert_eq!(says(home, &["--allow-userns"], allowed), seen);
        assert_ne!(code(&run(home, &["--allow-userns"], "nsenter --target 1 --mount --user true")), 0);
        assert_ne!(code(&run(home, &[], "nsenter --target 1 --all true")), 0);
    });
}

#[test]
fn kinds_of_sockets_that_no_network_namespace_divides_are_refused() {
    for_each_caller(|_, home| {
        // AX25 IPX KEY PACKET RDS TIPC BLUETOOTH ALG VSOCK XDP
        let families = [3, 4, 15, 17, 21, 30, 31, 38, 40, 44];
        let script: Vec<String> = families.iter().map(|family| format!("{family}, {}, 0", libc::SOCK_DGRAM)).collect();
        let script = calls(script.iter().map(|args| ("socket", libc::SYS_socket, args.as_str())));
        let refused = |text: &str| results(text).iter().filter(|(_, error)| *error == libc::EAFNOSUPPORT).count();
        assert_eq!(refused(&says(home, &[], &script)), families.len());
        assert!(refused(&said(&outside(home, &script))) < families.len(), "the kernel has none of them");
        let usual: Vec<String> =
            [1, 2, 10, 16].iter().map(|family| format!("{family}, {}, 0", libc::SOCK_DGRAM)).collect();
        let script = calls(usual.iter().map(|args| ("socket", libc::SYS_socket, args.as_str())));
        let text = says(home, &["--network", "none"], &script);
        assert!(results(&text).iter().take(2).all(|(_, error)| *error == 0), "{text}");
    });
}

#[test]
fn abstract_sockets_and_loopback_services_are_the_machines_with_open_and_refused_with_none() {
    for_each_caller(|_, home| {
        let name = format!("fosse-{}", name_of(home));
        let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let script = perl(&format!(
            "use Socket; socket(U, PF_UNIX, SOCK_STREAM, 0); print connect(U, pack(\"S a*\", AF_UNIX, \"\\0{name}\")) ? \
             \"unix \" : \"no \"; socket(T, PF_INET, SOCK_STREAM, 0); print connect(T, pack_sockaddr_in({port}, \
             inet_aton(\"127.0.0.1\"))) ? \"tcp\" : \"no\""
        ));
        assert_eq!(said(&outside(home, &script)), "unix tcp");
        assert_eq!(says(home, &["--network", "open"], &script), "unix tcp");
        assert_eq!(says(home, &["--network", "none"], &script), "no no");
        // Loopback is up, and the command's own.
        let own = perl(
            "use Socket; socket(L, PF_INET, SOCK_STREAM, 0); bind(L, pack_sockaddr_in(0, inet_aton(\"127.0.0.1\"))) and \
             listen(L, 1) or die $!; socket(T, PF_INET, SOCK_STREAM, 0); print connect(T, getsockname(L)) ? \"own\" : $!",
        );
        assert_eq!(says(home, &["--network", "none"], &own), "own");
        let devices = "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d \" \"";
        assert_eq!(says(home, &["--network", "none"], devices), "lo");
    });
}

/// As root outside, the kernel lets the number 0 alone decide about most of these.
#[test]
fn nothing_in_proc_and_sys_can_be_written() {
    // What belongs to the processes of the sandbox is theirs.
    let find = "find /proc /sys -path '/proc/[0-9]*' -prune -o -path /proc/self -prune -o -path /proc/thread-self -prune \
                -o -type f -writable -print 2>/dev/null; true";
    for_root(|home| {
        assert!(said(&outside(home, find)).lines().count() > 100);
    });
    for_each_caller(|caller, home| {
        // Triggers of pressure are everybody's, and end with the descriptor that sets them.
        let found = says(home, &[], find);
        assert_eq!(
            found.lines().filter(|path| !path.starts_with("/proc/pressure/")).collect::<Vec<_>>(),
            Vec::<&str>::new()
        );
        // Opened only, never written: if the sandbox let it through, the machine would take it seriously.
        for path in [
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/modprobe",
            "/proc/sysrq-trigger",
            "/proc/sys/vm/drop_caches",
        ] {
            let open = perl(&format!("use Fcntl; print sysopen(F, \"{path}\", O_WRONLY) ? \"opened\" : \"refused\""));
            if caller == Caller::Root && fs::exists(path).unwrap() {
                assert_eq!(said(&outside(home, &open)), "opened", "{path}");
            }
            assert_eq!(says(home, &[], &open), "refused", "{path}");
        }
    });
}

#[test]
fn the_kernels_memory_and_messages_cannot_be_read() {
    for_each_caller(|_, home| {
        let paths = "/proc/kcore /proc/kmsg /proc/keys /proc/key-users /proc/sched_debug /proc/timer_list \
                     /proc/latency_stats /sys/firmware/* /sys/kernel/debug/* /sys/kernel/security/* /dev/mem /dev/kmsg";
        let script = format!("for at in {paths}; do head -c 1 $at; ls -A $at/ ; done 2>/dev/null | wc -c");
        assert_eq!(says(home, &[], &script), "0");
        assert_ne!(said(&outside(home, "cat /proc/keys /proc/key-users /proc/timer_list 2>/dev/null | wc -c")), "0");
    });
}

#[test]
fn the_callers_terminal_cannot_be_reached() {
    for_each_caller(|_, home| {
        let look = "(: </dev/tty) 2>&1; ls /dev/pts; tty";
        let inner = run_cmd(home, &[], &["sh", "-c", look]);
        let words = std::iter::once(inner.get_program()).chain(inner.get_args());
        let words: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let script = home.script("in-terminal", &format!(": </dev/tty && echo outside; exec {}", words.join(" ")));
        let terminal =
            ["sh", "-c", "exec script --quiet --return --command \"$0\" /dev/null", script.to_str().unwrap()];
        let mut command = wrapped(&inner, &terminal);
        home.belongs(&mut command);
        let output = finish(command);
        let text = stdout(&output).replace('\r', "");
        assert!(text.starts_with("outside\n"), "{output:?}");
        assert!(text.contains("No such device or address"), "{output:?}");
        assert!(text.contains("not a tty") && !text.contains("\n0\n"), "{output:?}");
    });
}

/// A descriptor that the caller has open is not the command's.
#[test]
fn inherited_descriptors_do_not_reach_the_command() {
    for_each_caller(|_, home| {
        let secret = home.write("secret", "SECRET").display().to_string();
        let open = format!("exec 3</ 5>>{secret} 7<{secret} 9</proc/1; ");
        assert_eq!(said(&outside(home, &format!("{open} cat <&7"))), "SECRET");
        let inner = run_cmd(home, &[], &["ls", "/proc/self/fd"]);
        let mut command = wrapped(&inner, &["sh", "-c", &format!("{open} exec \"$@\""), "sh"]);
        home.belongs(&mut command);
        let text = said(&finish(command));
        // The fourth is the directory that is listed.
        assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
        let look = perl(
            "for (3 .. 1023) { print \"$_ \" if defined readlink(\"/proc/self/fd/$_\") && open(my $f, \"<&=\", $_) }",
        );
        let text = says(home, &[], &look);
        assert!(text.split_whitespace().all(|fd| fd == "3" || fd == "4"), "perl's own at the most: {text}");
    });
}

/// The environment is what the contract says, in every process of the sandbox.
#[test]
fn the_callers_environment_is_not_visible() {
    for_each_caller(|_, home| {
        let mut command = run_cmd(home, &[], &["/usr/bin/env"]);
        command.env("TOKEN", "hunter2").env("LANG", "C").env("TZ", "UTC").env("SSH_AUTH_SOCK", "/hunter2");
        let text = said(&finish(command));
        let mut names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        names.retain(|name| !name.starts_with("LC_"));
        names.sort_unstable();
        assert_eq!(names, ["FOSSE_RUN_ID", "FOSSE_RUN_NAME", "HOME", "LANG", "MARK", "PATH", "TZ"], "{text}");
        let mut command =
            run_cmd(home, &[], &["sh", "-c", "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'"]);
        command.env("TOKEN", "hunter2").env("PATH", "/usr/bin:/bin:/nowhere");
        let output = finish(command);
        assert!(stdout(&output).contains("PATH=/usr/bin:/bin:/nowhere\n"), "the caller's: {output:?}");
        assert!(!stdout(&output).contains("hunter2"), "{output:?}");
    });
}

#[test]
fn with_user_namespaces_allowed_the_machines_control_groups_cannot_be_mounted() {
    for_each_caller(|_, home| {
        // Without a mapping that needs no right.
        let program = calls([
            ("users and mounts", libc::SYS_unshare, "0x10000000 | 0x20000"),
            ("groups", libc::SYS_unshare, "0x02000000"),
            ("cgroup2", libc::SYS_mount, "\"x\", \"/tmp\", \"cgroup2\", 0, 0"),
            ("named", libc::SYS_mount, "\"x\", \"/tmp\", \"cgroup\", 0, \"none,name=x\""),
            ("cgroup", libc::SYS_mount, "\"x\", \"/tmp\", \"cgroup\", 0, \"memory\""),
        ]);
        let said = says(home, &["--allow-userns"], &guarded(&program));
        let errors: Vec<i32> = results(&said).into_iter().map(|(_, error)| error).collect();
        assert_eq!(errors[..4], [0, libc::ENOSPC, libc::EPERM, libc::EPERM], "{said}");
        // A kernel may have no version 1 of this controller; then it says so before it asks for rights.
        assert!(errors.len() == 5 && [libc::EPERM, libc::EINVAL].contains(&errors[4]), "{said}");
    });
}
