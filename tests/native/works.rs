//! Real work in the native runtime, and odd machines to do it on; and what happens where it cannot be had.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::init::wrapped;
use crate::support::native::{
    for_each_caller, in_mounts, is_root, names, outside, own_program, run, run_cmd, said, says, traces,
};
use crate::support::{Engine, Home, IMAGE, code, finish, fosse, left_out, repeat, stderr, stdout};

/// Whether the caller has a program outside; what needs it is left out otherwise.
fn has(home: &Home, program: &str) -> bool {
    let found = code(&outside(home, &format!("command -v {program} >/dev/null"))) == 0;
    if !found {
        left_out(&format!("work with {program}, which is not installed"));
    }
    found
}

#[test]
fn a_small_stack_and_few_descriptors_are_enough() {
    for_each_caller(|_, home| {
        let inner = run_cmd(home, &[], &["sh", "-c", "ulimit -s; ulimit -n; ls / >/dev/null; echo x | cat"]);
        // Without optimisation reading the arguments alone needs more.
        let stack = if cfg!(debug_assertions) { 512 } else { 256 };
        let limit = format!("ulimit -s {stack}; ulimit -n 64; exec \"$@\"");
        let mut command = wrapped(&inner, &["sh", "-c", &limit, "sh"]);
        home.belongs(&mut command);
        assert_eq!(said(&finish(command)), format!("{stack}\n64\nx"));
        let inner = run_cmd(home, &[], &["sh", "-c", "umask; touch made"]);
        let mut command = wrapped(&inner, &["sh", "-c", "umask 027; exec \"$@\"", "sh"]);
        home.belongs(&mut command);
        assert_eq!(said(&finish(command)), "0027");
    });
}

#[test]
fn two_thousand_mounts_on_the_machine_are_no_hindrance() {
    for_each_caller(|_, home| {
        if !is_root() {
            return;
        }
        let mounts = format!(
            "my ($none, $kind) = (\"none\", \"tmpfs\"); for my $top (@ARGV) {{ for (1 .. 1000) {{ my $at = \"$top/$_\"; \
             mkdir $at; syscall({}, $none, $at, $kind, 0, 0) == 0 or die $! }} }}",
            libc::SYS_mount
        );
        let script = format!(
            "mount -t tmpfs none /opt; mkdir $PWD/m; perl -e '{mounts}' /opt $PWD/m; wc -l </proc/self/mountinfo; \
             caller \"$@\""
        );
        let inner = run_cmd(home, &[], &["sh", "-c", "echo x >made; ls /usr/bin/env"]);
        let text = said(&finish(in_mounts(home, &script, &inner)));
        let (count, rest) = text.split_once('\n').unwrap();
        assert!(count.parse::<usize>().unwrap() > 2000, "{text}");
        assert_eq!(rest, "/usr/bin/env");
        assert!(home.workspace().join("made").exists());
    });
}

#[test]
fn workspaces_and_mounts_of_any_name_work() {
    let odd: [&[u8]; 12] = [
        b"a blank",
        b"new\nline",
        b"co:lon",
        b"com,ma",
        b"back\\slash",
        b"not\xffutf8",
        b"quote\"'",
        b"-dash",
        b"tab\tand\x01",
        b"\\040",
        b" ends ",
        "\u{e9}\u{1f980}=$HOME`id`".as_bytes(),
    ];
    for_each_caller(|_, home| {
        home.write("data/x", "mounted");
        for name in odd {
            let dir = home.dir.join(OsStr::from_bytes(name));
            fs::create_dir(&dir).unwrap();
            std::os::unix::fs::chown(&dir, home.user, home.user).unwrap();
            fs::write(dir.join("file"), "content").unwrap();
            // As the default, and asked for by name.
            for asked in [false, true] {
                let mut command = run_cmd(home, &[], &["sh", "-c", "pwd; cat file; echo x >made"]);
                if asked {
                    command = home.cmd(["run", "--runtime", "native", "-w"]);
                    command.arg(if name[0] == b'-' { dir.as_os_str() } else { OsStr::from_bytes(name) });
                    command.args(["--", "sh", "-c", "pwd; cat file; echo x >made"]).current_dir(&home.dir);
                } else {
                    command.current_dir(&dir);
                }
                assert_eq!(said(&finish(command)), "/workspace\ncontent", "{dir:?} {asked}");
                assert_eq!(names(&dir), ["file", "made"], "{dir:?}");
                fs::remove_file(dir.join("made")).unwrap();
            }
            // Colons divide the parts of a mount.
            if !name.contains(&b':') {
                let mut command = home.cmd(["run", "--runtime", "native", "-m"]);
                let mount = [dir.as_os_str().as_bytes(), b":/to ", name.strip_prefix(b"-").unwrap_or(name)].concat();
                command.arg(OsStr::from_bytes(&mount)).args(["--", "sh", "-c", "cat /to*/file"]);
                assert_eq!(said(&finish(command)), "content", "{dir:?}");
            }
        }
    });
}

#[test]
fn a_workspace_on_a_tmpfs_on_an_overlay_or_through_a_link_works() {
    for_each_caller(|_, home| {
        home.write("real/file", "content");
        std::os::unix::fs::symlink("real", home.dir.join("link")).unwrap();
        let mut command = run_cmd(home, &["-w", "link"], &["sh", "-c", "cat file; echo x >made"]);
        command.current_dir(&home.dir);
        assert_eq!(said(&finish(command)), "content");
        assert_eq!(names(&home.dir.join("real")), ["file", "made"]);
        if !is_root() {
            return;
        }
        let own = home.user.unwrap_or(0);
        let dir = home.dir.display();
        let tmpfs = format!("mount -t tmpfs -o uid={own},mode=755 none {dir}/ws");
        let overlay = format!(
            "mount -t tmpfs -o mode=755 none /mnt; cd /mnt; mkdir l u w; chown {own} u; mount -t overlay -o \
             lowerdir=l,upperdir=u,workdir=w none {dir}/ws"
        );
        let below = format!("{tmpfs}; mkdir {dir}/ws/sub; mount -t tmpfs -o uid={own} none {dir}/ws/sub");
        for mounts in [tmpfs, overlay, below] {
            let inner = run_cmd(home, &[], &["sh", "-c", "echo x >made; mkdir -p sub; echo y >sub/made"]);
            let script = format!("{mounts}; cd {dir}/ws; caller \"$@\"; cat made sub/made; stat -c %u made");
            let output = finish(in_mounts(home, &script, &inner));
            assert_eq!(said(&output), format!("x\ny\n{own}"), "{mounts} {output:?}");
        }
    });
}

#[test]
fn the_root_directory_is_refused_as_a_workspace() {
    for_each_caller(|_, home| {
        std::os::unix::fs::symlink("/", home.dir.join("to-root")).unwrap();
        let link = home.dir.join("to-root").display().to_string();
        for workspace in ["/", "/usr/..", "//", &link] {
            let output = run(home, &["-w", workspace], "echo ran");
            assert_eq!((code(&output), stdout(&output).as_str()), (125, ""), "{workspace} {output:?}");
            assert!(stderr(&output).starts_with("fosse: ") && stderr(&output).contains("workspace"), "{output:?}");
        }
        let mut command = run_cmd(home, &[], &["true"]);
        command.current_dir("/");
        assert_eq!(code(&finish(command)), 125);
    });
}

#[test]
fn git_makes_clones_and_commits() {
    for_each_caller(|_, home| {
        if !has(home, "git") {
            return;
        }
        let script = "set -e; git config --global user.name n; git config --global user.email e@x; \
                      git init -q -b main one; cd one; echo x >file; git add file; git commit -qm first; cd ..; \
                      git clone -q one two; cd two; echo y >>file; git commit -qam second; git push -q origin HEAD:other; \
                      git -C ../one log --oneline other | wc -l";
        assert_eq!(says(home, &[], script), "2");
        // The repository is the caller's outside too.
        assert_eq!(said(&outside(home, "git -C two log --format=%s")), "second\nfirst");
        assert!(!home.dir.join("home/.gitconfig").exists());
    });
}

#[test]
fn python_makes_a_virtual_environment_and_runs_in_it() {
    for_each_caller(|_, home| {
        if !has(home, "python3") {
            return;
        }
        // The machine's own, which is shown: not one below a home directory.
        let python = "PATH=/usr/bin:/bin; python3 -m venv";
        let with_pip = code(&outside(home, "/usr/bin/python3 -c 'import ensurepip'")) == 0;
        let options = if with_pip && is_root() && home.user.is_none() { "" } else { "--without-pip" };
        home.write("ws/script.py", "import sys, multiprocessing, sqlite3, ssl; print(sys.prefix)");
        let script = format!("{python} {options} env && env/bin/python script.py");
        assert_eq!(says(home, &["-e", "PYTHONDONTWRITEBYTECODE=1"], &script), "/workspace/env");
        let pool = "import multiprocessing as m\nif __name__ == '__main__':\n with m.Pool(2) as p: print(sum(p.map(abs, range(-9, 1))))";
        home.write("ws/pool.py", pool);
        assert_eq!(says(home, &[], "/usr/bin/python3 pool.py"), "45", "semaphores need /dev/shm");
    });
}

#[test]
fn a_compiler_builds_a_program_that_runs() {
    for_each_caller(|_, home| {
        if !has(home, "cc") {
            return;
        }
        let source = "#include <stdio.h>\n#include <pthread.h>\nstatic void *f(void *x) { puts(\"built\"); return x; }\n\
                      int main(void) { pthread_t t; pthread_create(&t, 0, f, 0); return pthread_join(t, 0); }\n";
        home.write("ws/main.c", source);
        assert_eq!(says(home, &[], "cc -O1 -pthread main.c -o main && ./main"), "built");
    });
}

/// The toolchain is where the sandbox shows nothing, below a home directory: it is mounted, as a user would.
#[test]
fn cargo_builds_without_the_network() {
    for_each_caller(|_, home| {
        let Some(cargo) = std::env::var_os("CARGO") else { return left_out("no CARGO in the environment") };
        let real = fs::canonicalize(cargo).unwrap();
        let toolchain = real.parent().and_then(Path::parent).unwrap().display().to_string();
        if code(&outside(home, &format!("test -x {toolchain}/bin/rustc"))) != 0 {
            // It is root's own, below /root; the other caller builds.
            assert!(home.user.is_some(), "{toolchain} has no rustc");
            return;
        }
        home.write("ws/Cargo.toml", "[package]\nname = \"tiny\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
        home.write("ws/src/main.rs", "fn main() { println!(\"built\"); }\n");
        let mount = format!("{toolchain}:/toolchain:ro");
        let options = [
            "-m",
            &mount,
            "-e",
            "PATH=/toolchain/bin:/usr/bin:/bin",
            "-e",
            "CARGO_HOME=/tmp/cargo",
            "--network",
            "none",
        ];
        let output = run(home, &options, "cargo build -q --offline && target/debug/tiny");
        assert_eq!(said(&output), "built");
        assert!(home.workspace().join("target/debug/tiny").exists());
    });
}

#[test]
fn pipelines_and_job_control_work() {
    for_each_caller(|_, home| {
        let script = "set -m; (exit 3) & wait $!; echo $?; sleep 1000 & kill -STOP %1; kill -CONT %1; kill %1; wait %1; \
                      echo $?; yes | head -n 2; seq 100000 | sort -rn | tail -n 1; trap 'echo trapped' USR1; kill -USR1 $$; \
                      echo <(echo substituted) | grep -c /dev/fd; cat <(echo substituted) <<<here - | sort";
        let command = run_cmd(home, &[], &["bash", "-c", script]);
        let output = finish(command);
        assert_eq!(stdout(&output), "3\n143\ny\ny\n1\ntrapped\n1\nhere\nsubstituted\n", "{output:?}");
    });
}

#[test]
fn a_thousand_runs_twenty_at_a_time_all_end_as_they_should() {
    for_each_caller(|_, home| {
        let count = repeat(1000);
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::SeqCst);
                        if at >= count {
                            return;
                        }
                        let wanted = i32::try_from(at % 256).unwrap();
                        let script = format!("echo {at}; echo {at} >made-{at}; exit {wanted}");
                        let output = run(home, &[], &script);
                        assert_eq!((code(&output), stdout(&output)), (wanted, format!("{at}\n")), "{output:?}");
                    }
                });
            }
        });
        assert_eq!(names(&home.workspace()).len(), count);
        assert_eq!(home.list().len(), count);
        assert_eq!(traces(home), Vec::<String>::new());
    });
}

#[test]
fn it_runs_inside_a_privileged_container() {
    if !Engine::Docker.available() {
        return;
    }
    let mount = format!("type=bind,source={},target=/bin/fosse,readonly", fosse());
    let script = "mkdir /data && cd /data && echo x >file && fosse run --runtime native -- sh -c 'cat file; echo y >made; id -u' \
                  && cat made && fosse run --runtime native --no-workspace --network none -- echo alone; echo $?";
    // An engine that lacks capabilities itself has no privileged containers; then only what hinders is taken away.
    let confined = ["--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined"];
    let privileged = Engine::Docker.call(["run", "--rm", "--privileged", IMAGE, "true"]).status.success();
    let rights: &[&str] = if privileged { &["--privileged"] } else { &confined };
    let args =
        ["--network", "none", "--mount", &mount, "-e", "FOSSE_STATE_DIR=/var/state", "--entrypoint", "sh", IMAGE];
    let output = Engine::Docker.call([&["run", "--rm"], rights, &args, &["-c", script]].concat());
    assert_eq!(stdout(&output), "x\n0\ny\nalone\n0\n", "{output:?}");
}

/// Without the namespaces nothing runs; the switch is named.
#[test]
fn where_namespaces_are_forbidden_it_fails_closed_and_says_which_switch() {
    for_each_caller(|_, home| {
        let inner = run_cmd(home, &[], &["sh", "-c", "echo ran; touch made"]);
        for limit in ["max_user_namespaces", "max_mnt_namespaces", "max_pid_namespaces"] {
            let forbid = format!("echo 0 >/proc/sys/user/{limit} || exit 99; exec \"$@\"");
            let wrapper = ["unshare", "--user", "--map-root-user", "sh", "-c", &forbid, "sh"];
            let mut command = wrapped(&inner, &wrapper);
            home.belongs(&mut command);
            let output = finish(command);
            assert_eq!((code(&output), stdout(&output).as_str()), (125, ""), "{limit} {output:?}");
            let text = stderr(&output);
            let lines: Vec<&str> = text.lines().collect();
            assert!(lines.len() == 2 && lines[0].starts_with("fosse: ") && lines[0].contains(" failed: "), "{text}");
            assert!(lines[1].starts_with("hint: ") && lines[1].contains(limit), "{limit}: {text}");
            assert!(!home.workspace().join("made").exists());
        }
        // The same wrapper without the limit works: nesting is not what is refused.
        let mut command = wrapped(&inner, &["unshare", "--user", "--map-root-user", "sh", "-c", "exec \"$@\"", "sh"]);
        home.belongs(&mut command);
        assert_eq!(said(&finish(command)), "ran");
    });
}

/// The program needs nothing but itself: no directory beside it, no program of the machine's on PATH.
#[test]
fn it_needs_no_other_program() {
    for_each_caller(|_, home| {
        let program = own_program(home);
        let mut command = run_cmd(home, &[], &["/usr/bin/env"]);
        assert_eq!(command.get_program(), program.as_os_str());
        command.env("PATH", "/nowhere");
        let text = said(&finish(command));
        assert!(text.lines().any(|line| line == "PATH=/nowhere"), "{text}");
    });
}
