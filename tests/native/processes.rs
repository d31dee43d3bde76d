//! Ways out of the native runtime's sandbox through processes: the machine's, fosse's own PID 1 inside, and its program.

use std::fs;
use std::process::Stdio;

use crate::support::native::{
    calls, descendants, first_of_namespace, for_each_caller, guarded, name_of, outside, own_program, perl, results,
    run, run_cmd, said, says, start,
};
use crate::support::{Client, Home, TERM, code, finish, process_state, processes, stdout};

/// A process of the caller's on the machine, with a word in its arguments; it ends with its input.
fn stranger(home: &Home) -> Client {
    let mut command = std::process::Command::new("sh");
    let word = format!("stranger-{}", name_of(home));
    command.args(["-c", "echo ready; read line", &word]).env("WORD", "hunter2").stdin(Stdio::piped());
    command.env("MARK", &home.dir).current_dir("/");
    home.belongs(&mut command);
    let client = Client::spawn(command);
    client.wait_for_output("ready\n");
    client
}

#[test]
fn processes_of_the_machine_cannot_be_seen() {
    for_each_caller(|_, home| {
        let stranger = stranger(home);
        // Brackets keep the search from finding itself.
        let look = format!("grep -al '[s]tranger-{}' /proc/[0-9]*/cmdline | wc -l", name_of(home));
        assert_eq!(said(&outside(home, &look)), "1");
        assert_eq!(says(home, &[], &look), "0");
        assert_eq!(code(&run(home, &[], &format!("ls /proc/{}", stranger.pid()))), 2);
        let count: usize = says(home, &[], "ls -d /proc/[0-9]* | wc -l").parse().unwrap();
        assert!(count <= 5, "init, a shell and its pipeline: {count}");
        // Nor counted: the number of the last one and the load are of one's own namespace, or of no process.
        assert_eq!(says(home, &[], "readlink /proc/self/ns/pid /proc/self/ns/ipc | sort -u | wc -l"), "2");
        for kind in ["pid", "mnt", "ipc", "uts", "user", "cgroup"] {
            let look = format!("readlink /proc/self/ns/{kind}");
            assert_ne!(says(home, &[], &look), said(&outside(home, &look)), "{kind}");
        }
        let net = "readlink /proc/self/ns/net";
        assert_ne!(says(home, &["--network", "none"], net), said(&outside(home, net)));
        drop(stranger);
    });
}

#[test]
fn processes_of_the_machine_cannot_be_signalled() {
    for_each_caller(|_, home| {
        let stranger = stranger(home);
        let pid = stranger.pid();
        assert_eq!(said(&outside(home, &format!("kill -0 {pid} && echo yes"))), "yes");
        let script =
            guarded(&format!("kill -KILL {pid} && echo sent; kill -KILL -{pid} && echo sent; kill -KILL -1; true"));
        assert_eq!(stdout(&run(home, &[], &script)), "");
        let script = guarded("setsid sh -c 'kill -KILL 0'; kill -KILL -1; true");
        run(home, &[], &script);
        assert!(process_state(pid).is_some_and(|state| state != 'Z'), "it lives");
        drop(stranger);
    });
}

/// System V and POSIX queues and memory of the machine.
#[test]
fn shared_memory_of_the_machine_cannot_be_seen() {
    for_each_caller(|_, home| {
        let made = said(&outside(home, "ipcmk --shmem 4096 --mode 0666")).rsplit(' ').next().unwrap().to_owned();
        let seen = format!("ipcs --shmems | grep -cw {made} || true");
        let (inside, beside) = (says(home, &[], &seen), said(&outside(home, &seen)));
        let list = says(home, &[], "ipcs --shmems | grep -c 0x; ls -A /dev/shm");
        assert_eq!(code(&outside(home, &format!("ipcrm --shmem-id {made}"))), 0);
        assert_eq!((inside.as_str(), beside.as_str(), list.as_str()), ("0", "1", "0"));
        // Its queues have names, whether or not anything shows them.
        let queue = name_of(home);
        let queue = |call: &str, flags: u32| match call {
            "open" => calls([("open", libc::SYS_mq_open, &*format!("\"{queue}\", {flags}, 0666, 0"))]),
            _ => calls([("unlink", libc::SYS_mq_unlink, &*format!("\"{queue}\""))]),
        };
        assert_eq!(said(&outside(home, &queue("open", 0o102))), "open=0");
        let (inside, beside) = (says(home, &[], &queue("open", 0)), said(&outside(home, &queue("open", 0))));
        let list = says(home, &[], "stat -f -c %T /dev/mqueue; ls -A /dev/mqueue");
        assert_eq!(said(&outside(home, &queue("unlink", 0))), "unlink=0");
        assert_eq!((inside, beside.as_str()), (format!("open={}", libc::ENOENT), "open=0"));
        assert_eq!(list, "mqueue");
    });
}

#[test]
fn init_cannot_be_looked_into_or_traced() {
    for_each_caller(|_, home| {
        let files = "environ exe root cwd fd/0 fd/1 fd/3 maps mem stack auxv map_files ns/mnt io";
        let look = |pid: &str| {
            format!(
                "for at in {files}; do [ -d /proc/{pid}/$at ] && ls /proc/{pid}/$at/ || readlink /proc/{pid}/$at || \
                 head -c 1 /proc/{pid}/$at; done 2>/dev/null | wc -c"
            )
        };
        assert_ne!(says(home, &[], &look("self")), "0");
        assert_eq!(says(home, &[], &look("1")), "0");
        let script = calls([
            ("PTRACE_ATTACH", libc::SYS_ptrace, "16, 1, 0, 0"),
            ("PTRACE_SEIZE", libc::SYS_ptrace, "0x4206, 1, 0, 0"),
            ("process_vm_readv", libc::SYS_process_vm_readv, "1, pack(\"QQ\", 0, 1), 1, pack(\"QQ\", 4096, 1), 1, 0"),
            ("process_vm_writev", libc::SYS_process_vm_writev, "1, pack(\"QQ\", 0, 1), 1, pack(\"QQ\", 4096, 1), 1, 0"),
            ("kcmp", libc::SYS_kcmp, "1, $$, 0, 0, 0"),
            ("kill", libc::SYS_kill, "1, 9"),
        ]);
        let refused = results(&says(home, &[], &guarded(&script)));
        for (name, error) in &refused[..5] {
            assert_eq!(*error, libc::EPERM, "{name}");
        }
        // A signal to PID 1 is let through and has no effect from inside.
        assert_eq!(says(home, &[], &guarded("kill -KILL 1; kill -SEGV 1; kill -STOP 1; echo goes on")), "goes on");
        // A handle on it takes none of its descriptors away.
        let steal = perl(&format!(
            "my $p = syscall({}, 1, 0); for (0 .. 20) {{ print \"got $_\" if syscall({}, $p, $_, 0) != -1 }} print \"-\"",
            libc::SYS_pidfd_open,
            libc::SYS_pidfd_getfd
        ));
        assert_eq!(says(home, &[], &steal), "-");
    });
}

/// As CVE-2019-5736 did: a command that is fosse's own program inside, and a look for one to write to.
#[test]
fn the_program_of_fosse_cannot_be_overwritten_from_inside() {
    for_each_caller(|_, home| {
        let program = own_program(home);
        let before = fs::read(&program).unwrap();
        let open = "(: >>\"$at\") 2>/dev/null && echo opened $at";
        let program_text = program.display();
        assert!(said(&outside(home, &format!("at={program_text}; {open}"))).starts_with("opened"));
        let script = format!(
            "for at in /proc/[0-9]*/exe /proc/[0-9]*/root{program_text} /init /fosse {program_text}; do \
             case $at in /proc/$$/*) continue;; esac; [ -e $at ] && {open}; done; true"
        );
        assert_eq!(says(home, &[], &script), "");
        // Links to it as the command, and as the interpreter of a script.
        home.script("ws/plain", &script);
        let text = format!("#!/proc/self/exe run\n{script}");
        fs::set_permissions(home.write("ws/interpreted", text), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        for command in
            [&["/proc/self/exe", "--version"][..], &["/proc/1/exe", "--version"], &["./interpreted"], &["./plain"]]
        {
            let output = finish(run_cmd(home, &[], command));
            assert!(!stdout(&output).contains("opened"), "{command:?} {output:?}");
        }
        // Somebody who holds on to it and writes once it runs no more.
        let hold = perl(
            "for (1 .. 2000) { for my $p (1 .. 30) { next if $p == $$; if (open(my $f, \"<\", \"/proc/$p/exe\")) { \
             push @held, $f if (readlink(\"/proc/$p/exe\") // \"\") =~ /fosse|memfd/ } } } \
             for (@held) { print \"opened\" if open(my $f, \">>\", \"/proc/self/fd/\" . fileno($_)) } print \"-\"",
        );
        let output = run(
            home,
            &[],
            &format!("{hold} & for i in 1 2 3 4 5; do /proc/self/exe -c true; ./interpreted; done; wait"),
        );
        assert!(stdout(&output).contains('-') && !stdout(&output).contains("opened"), "{output:?}");
        assert!(fs::read(&program).unwrap() == before, "it was changed");
    });
}

/// Memory and descriptors of the owner, which runs as the same user as the command does.
#[test]
fn the_owner_cannot_be_reached() {
    for_each_caller(|_, home| {
        let mut command =
            run_cmd(home, &["-i"], &["sh", "-c", "echo ready; read pid; ls /proc/$pid; kill -KILL $pid; echo over"]);
        command.stdin(Stdio::piped());
        let mut client = Client::spawn(command);
        client.wait_for_output("ready\n");
        let pid = client.pid();
        std::io::Write::write_all(&mut client.stdin(), format!("{pid}\n").as_bytes()).unwrap();
        let output = client.output();
        assert_eq!((code(&output), stdout(&output).as_str()), (0, "ready\nover\n"), "{output:?}");
        // It takes descriptors of the channel over neither.
        assert_eq!(says(home, &[], "ls -l /proc/self/fd | grep -c socket: || true"), "0");
        let names = "grep -c fosse /proc/net/unix || true";
        assert_eq!(says(home, &["--network", "none"], names), "0");
    });
}

/// Nothing that a command leaves behind lives longer than it, and none of it becomes a child of the machine's.
#[test]
fn nobody_leaves_the_tree_of_the_run() {
    for_each_caller(|_, home| {
        let client =
            start(home, &[], "(setsid sh -c 'trap \"\" TERM HUP; sleep 1000 & sleep 1000' &) ; echo gone; sleep 1000");
        client.wait_for_output("gone\n");
        let init = first_of_namespace(client.pid()).expect("PID 1");
        crate::support::wait_until("they sleep", || {
            let names: Vec<String> = descendants(init).into_iter().map(processes::name).collect();
            names.iter().filter(|name| *name == "sleep").count() == 3
        });
        assert_eq!(processes::status_field(init, "NoNewPrivs"), "1");
        client.signal(TERM);
        client.output();
        assert!(process_state(init).is_none_or(|state| state == 'Z'));
    });
}
