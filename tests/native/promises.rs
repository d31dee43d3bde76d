//! What other sandboxes promise of themselves, and programs rely on, asked of the native runtime.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::support::init::wrapped;
use crate::support::native::{Caller, for_each_caller, outside, perl, run, run_cmd, said, says, start};
use crate::support::{Home, KILL, code, finish, left_out, process_state, processes, stdout, wait_until};

/// Programs that give up rights which they might have do it with these calls, and end if one fails: ping does, and
/// whatever asks libcap to change the user.
#[test]
fn a_program_can_give_up_rights_that_it_does_not_have() {
    for_each_caller(|_, home| {
        let program = format!(
            "sub p {{ print syscall({prctl}, @_, 0, 0, 0), \" \" }} p(8, 1); p(7, 0); syscall({setuid}, $< + 0) == 0 or die; \
             p(8, 0); p(7, 0); p(47, 4)",
            prctl = libc::SYS_prctl,
            setuid = libc::SYS_setuid
        );
        // PR_SET_KEEPCAPS and PR_GET_KEEPCAPS before and after setuid(2), PR_CAP_AMBIENT_CLEAR_ALL.
        assert_eq!(says(home, &[], &perl(&program)), "0 1 0 0 0");
        // What is kept is nothing.
        let keep = perl(&format!(
            "syscall({}, 8, 1, 0, 0, 0); syscall({}, $< + 0) == 0 or die; exec(\"grep\", \"-E\", \"^Cap(Prm|Eff|Bnd|Amb)\", \"/proc/self/status\")",
            libc::SYS_prctl,
            libc::SYS_setuid
        ));
        let lines = says(home, &[], &keep);
        assert!(
            lines.lines().count() == 4 && lines.lines().all(|line| line.ends_with("\t0000000000000000")),
            "{lines}"
        );
    });
}

#[test]
fn ping_works_where_there_is_something_to_be_reached() {
    for_each_caller(|_, home| {
        if code(&outside(home, "command -v ping >/dev/null")) != 0 {
            return left_out("ping, which is not installed");
        }
        let output = run(home, &["--network", "none"], "ping -c 1 127.0.0.1");
        assert!(stdout(&output).contains("1 received"), "{output:?}");
        // On the machine's network whoever may outside may inside: by his group, not by rights of the program.
        let group = "cat /proc/sys/net/ipv4/ping_group_range";
        let range = said(&outside(home, group));
        let range: Vec<u32> = range.split_whitespace().map(|number| number.parse().unwrap()).collect();
        if (range[0]..=range[1]).contains(&home.ids().1) {
            let output = run(home, &[], "ping -c 1 127.0.0.1");
            assert!(stdout(&output).contains("1 received"), "{output:?}");
        }
    });
}

#[test]
fn how_a_command_ends_is_how_the_run_ends() {
    for_each_caller(|_, home| {
        fs::write(home.workspace().join("plain"), "").unwrap();
        home.script("ws/script", "exit 9");
        for (command, wanted) in [
            (&["sh", "-c", "exit 0"][..], 0),
            (&["sh", "-c", "exit 255"], 255),
            (&["sh", "-c", "kill -SEGV $$"], 139),
            (&["sh", "-c", "kill -KILL $$"], 137),
            (&["./script"], 9),
            (&["./plain"], 126),
            (&["/usr"], 126),
            (&["/not/there"], 127),
            (&["not-there"], 127),
        ] {
            let output = finish(run_cmd(home, &[], command));
            assert_eq!(code(&output), wanted, "{command:?} {output:?}");
        }
    });
}

/// Whatever bytes they are, and none at all.
#[test]
fn arguments_arrive_as_they_are() {
    for_each_caller(|_, home| {
        let odd: [&[u8]; 6] = [b"", b" a  b ", b"new\nline", b"not\xffutf8", b"--", b"$HOME `id` \\ \"'*"];
        let mut command = run_cmd(home, &[], &["sh", "-c", "printf '<%s>' \"$@\"", "name"]);
        command.args(odd.iter().map(|bytes| OsStr::from_bytes(bytes)));
        let output = finish(command);
        let wanted: Vec<u8> = odd.iter().flat_map(|bytes| [b"<", *bytes, b">"].concat()).collect();
        assert_eq!((code(&output), &output.stdout), (0, &wanted), "{output:?}");
    });
}

/// It can signal its group without reaching anybody else; its session is the sandbox's, which has no terminal.
#[test]
fn the_command_leads_a_group_in_a_session_without_a_terminal() {
    for_each_caller(|_, home| {
        // Group, session and terminal come third and later after the name (proc_pid_stat(5)); a session of somebody
        // outside would be 0.
        let script = "set -- $(sed 's/.*) //' /proc/$$/stat); [ $$ = $3 ] && [ $4 != 0 ] && echo $5";
        assert_eq!(says(home, &[], script), "0");
        assert_eq!(code(&run(home, &[], ": </dev/tty")), 2, "no terminal");
    });
}

/// A mask of whoever starts fosse is not the command's; what that one ignores stays ignored, and its limits hold.
#[test]
fn masks_limits_and_what_is_ignored_are_as_for_any_program() {
    for_each_caller(|_, home| {
        let look = "my ($text) = join(q(), <>); my ($blocked, $ignored) = map { hex } $text =~ /^Sig(?:Blk|Ign):\\t(.*)/mg; \
                    print $blocked, q( ), $ignored & 0x204a00";
        let script =
            format!("perl -e '{look}' /proc/self/status; echo; ulimit -f; ulimit -c; cat /proc/self/oom_score_adj");
        let inner = run_cmd(home, &[], &["bash", "-c", &script]);
        // SIGUSR1 and SIGTTOU are ignored, SIGUSR2 is blocked; of SIGTERM nothing is said.
        let outer = "ulimit -f 1000000; ulimit -c 0; echo 500 >/proc/self/oom_score_adj; exec perl -e '\
                     use POSIX; $SIG{USR1} = $SIG{TTOU} = \"IGNORE\"; \
                     sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGUSR2)) or die; exec @ARGV' \"$@\"";
        let mut command = wrapped(&inner, &["bash", "-c", outer, "bash"]);
        home.belongs(&mut command);
        assert_eq!(said(&finish(command)), format!("0 {}\n1000000\n0\n500", 1 << 9 | 1 << 21));
    });
}

/// In every process that the command ever starts, whatever it executes.
#[test]
fn the_filter_and_the_loss_of_rights_are_inherited() {
    for_each_caller(|_, home| {
        let script = "(setsid sh -c 'sh -c \"grep -E \\\"^(NoNewPrivs|Seccomp):\\\" /proc/self/status; unshare -U true || echo no\"')";
        let output = run(home, &[], script);
        assert_eq!(stdout(&output), "NoNewPrivs:\t1\nSeccomp:\t2\nno\n", "{output:?}");
        // A program of 32 bits, or one that asks as such, has other numbers for its calls.
        #[cfg(target_arch = "x86_64")]
        {
            let x32 = perl(&format!("print syscall({}), \" \", $! + 0", 0x4000_0000 + libc::SYS_getpid));
            assert_eq!(says(home, &[], &x32), format!("-1 {}", libc::ENOSYS));
        }
    });
}

/// `/bin` and its like lead where they lead on the machine.
#[test]
fn links_at_the_root_are_links() {
    for_each_caller(|_, home| {
        let outside: Vec<String> = fs::read_dir("/")
            .unwrap()
            .flatten()
            .filter(|entry| entry.file_type().unwrap().is_symlink() && entry.path().exists())
            .map(|entry| format!("{} {}", entry.path().display(), fs::read_link(entry.path()).unwrap().display()))
            .collect();
        for link in outside {
            let (path, target) = link.split_once(' ').unwrap();
            if !Path::new(path).starts_with("/workspace") {
                assert_eq!(says(home, &[], &format!("readlink {path}")), target);
            }
        }
    });
}

#[test]
fn the_sandboxes_own_directories_have_the_modes_that_programs_expect() {
    for_each_caller(|caller, home| {
        let script = "stat -c '%a %u %n' /tmp /var/tmp /dev/shm /run/lock /home /run / ~";
        let text = says(home, &[], script);
        let modes: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
        let uid = caller.uid().to_string();
        for (fields, mode) in modes.iter().zip(["1777", "1777", "1777", "1777", "755", "755", "755", "700"]) {
            assert_eq!((fields[0], fields[1]), (mode, uid.as_str()), "{text}");
        }
        assert_eq!(
            says(home, &[], "find ~ /tmp /var/tmp /run /root -mindepth 1 | grep -v /run/lock; ls -A /dev/shm"),
            ""
        );
    });
}

/// Not the environment of the caller, of the first command, or of the owner.
#[test]
fn a_command_of_exec_has_a_clean_environment_too() {
    for_each_caller(|_, home| {
        let client = start(home, &["-n", "alive", "-e", "OF_RUN=1"], "export SET=hunter2; exec sleep 1000");
        let mut command = home.cmd(["exec", "-e", "OF_EXEC=1", "alive", "--", "/usr/bin/env"]);
        command.env("TOKEN", "hunter2");
        let text = said(&finish(command));
        assert!(text.contains("OF_EXEC=1") && text.contains("FOSSE_RUN_NAME=alive"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        let mut command = home.cmd(["exec", "alive", "--", "ls", "/proc/self/fd"]);
        command.env("TOKEN", "hunter2");
        let output = finish(command);
        assert_eq!(stdout(&output).split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"], "{output:?}");
        home.fosse(["stop", "alive"]);
        client.output();
    });
}

/// Not only the owner: whoever has started it may be what is killed. A run belongs to its client alone.
#[test]
fn a_command_dies_with_its_client_and_with_nobody_else() {
    for_each_caller(|_, home| {
        let script = "\"$@\" & echo $!; wait $!; echo code $?";
        let inner = run_cmd(home, &[], &["sh", "-c", "echo ready; while [ ! -e go ]; do sleep 0.01; done; exit 7"]);
        let mut command = wrapped(&inner, &["sh", "-c", script, "sh"]);
        home.belongs(&mut command);
        let mut shell = crate::support::Client::spawn(command);
        shell.wait_for_output("ready\n");
        let text = shell.stdout_text();
        let client: i32 = text.lines().find_map(|line| line.parse().ok()).unwrap_or_else(|| panic!("{text}"));
        // The shell that has started the client ends; the client and its command do not.
        shell.signal(KILL);
        shell.wait();
        assert!(process_state(client).is_some_and(|state| state != 'Z'));
        home.write("ws/go", "");
        wait_until("the client has ended", || process_state(client).is_none_or(|state| state == 'Z'));
        assert_eq!(home.newest()["exit_code"], 7);
        assert_eq!(processes::naming(&home.dir.to_string_lossy()), Vec::<String>::new());
    });
}

/// Directories of the machine are as they were, whatever root inside believes to be able to do.
#[test]
fn the_machine_is_the_same_afterwards() {
    for_each_caller(|caller, home| {
        // Other tests make directories of their own in some: those have another time then.
        let look = "stat -c '%n %a %u %g' / /etc /var /var/lib; stat -c '%n %a %u %g %Y' /usr /usr/bin /etc/passwd; \
                    ls -d /x /etc/x 2>&1; md5sum /etc/passwd /usr/bin/env";
        let before = said(&outside(home, look));
        let script = "echo x >>/etc/passwd; chmod 777 / /etc /usr /usr/bin; touch /etc/x /usr/bin/x /x; rm -f /usr/bin/env; \
                      chown 1 /etc; mv /usr/bin /usr/nib; echo over";
        assert_eq!(stdout(&run(home, &[], script)), "over\n", "{caller:?}");
        assert_eq!(said(&outside(home, look)), before);
    });
}

/// The home's name leads to no mount of the machine's while a run lives: nothing propagates.
#[test]
fn no_mount_of_a_run_is_seen_on_the_machine() {
    for_each_caller(|_, home: &Home| {
        let count = || {
            fs::read_to_string("/proc/self/mountinfo").unwrap().lines().filter(|line| line.contains("fosse-")).count()
        };
        let before = count();
        let client = start(home, &[], "exec sleep 1000");
        let during = count();
        client.signal(KILL);
        client.output();
        assert_eq!(before, during);
        home.fosse(["clean"]);
    });
    assert!(Caller::User.uid() != 0);
}
