//! The native runtime when somebody dies: its owner at any moment, its PID 1, a command that will not go. Nothing of a
//! run stays on the machine, and the workspace holds what the command wrote.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crate::support::init::wrapped;
use crate::support::native::{
    Forbidden, alive, assert_gone, descendants, first_of_namespace, for_each_caller, in_mounts, is_root, name_of,
    names, perl, run, run_cmd, says, start, traces,
};
use crate::support::{
    Client, Engine, Home, KILL, LIMIT, STOP, code, finish, left_out, process_state, processes, repeat, stderr, stdout,
    wait_until,
};

/// Longer than the two seconds that the contract grants a run whose owner was killed: other tests take some of them.
const SOON: Duration = Duration::from_secs(10);

/// How far a run has come, as somebody outside can see it.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Begun,
    State,
    Child,
    Grandchild,
    Namespace,
    IdFile,
    Workspace,
    Output,
}

impl Stage {
    const ALL: [Stage; 8] = [
        Stage::Begun,
        Stage::State,
        Stage::Child,
        Stage::Grandchild,
        Stage::Namespace,
        Stage::IdFile,
        Stage::Workspace,
        Stage::Output,
    ];

    fn reached(self, home: &Home, client: &Client, runs_before: usize) -> bool {
        let children = || processes::children(client.pid());
        match self {
            Stage::Begun => true,
            Stage::State => runs(home) > runs_before,
            Stage::Child => !children().is_empty(),
            Stage::Grandchild => descendants(client.pid()).len() > 1,
            Stage::Namespace => first_of_namespace(client.pid()).is_some(),
            Stage::IdFile => home.dir.join("id").exists(),
            Stage::Workspace => home.workspace().join("made").exists(),
            Stage::Output => client.stdout_text().contains("ready"),
        }
    }
}

/// Waits for a moment that soon passes: without the pauses of [`wait_until`], which would be longer than a start is.
fn spin_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

/// Waits for the sandbox to be gone from the machine, within the time the contract gives.
fn gone_soon(home: &Home, since: Instant, known: &[i32], what: &str) {
    let ended = |pid: &i32| process_state(*pid).is_none_or(|state| state == 'Z');
    while !(known.iter().all(ended) && alive(home).is_empty()) {
        assert!(since.elapsed() < SOON, "{what}: {:?} {known:?}", alive(home));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(traces(home), Vec::<String>::new(), "{what}");
}

#[test]
fn an_owner_killed_at_any_moment_leaves_nothing_and_the_next_verb_finishes_the_record() {
    for_each_caller(|_, home| {
        home.write("source/file", "x");
        home.write("tmp/.keep", "");
        let (id, made) = (home.dir.join("id"), home.workspace().join("made"));
        let mount = format!("{}:/workspace/deep/er", home.dir.join("source").display());
        for round in 0..repeat(400) {
            let stage = Stage::ALL[round % Stage::ALL.len()];
            let what = format!("round {round} {stage:?}");
            let mut options = vec!["--id-file", id.to_str().unwrap()];
            if round % 3 == 0 {
                options.extend(["-m", &mount]);
            }
            let script = "echo x >made; echo x >~/made; echo ready; (setsid sleep 1000 &); exec sleep 1000";
            let mut command = run_cmd(home, &options, &["sh", "-c", script]);
            command.env("TMPDIR", home.dir.join("tmp"));
            let runs = runs(home);
            let mut client = Client::spawn(command);
            // A run that cannot be with such a mount ends by itself; that leaves nothing either.
            spin_until(&what, || stage.reached(home, &client, runs) || process_state(client.pid()) == Some('Z'));
            // And a little further, by work of another length each round.
            let known: Vec<i32> = (0..=round % 7).flat_map(|_| descendants(client.pid())).collect();
            let since = Instant::now();
            client.signal(KILL);
            client.wait();
            gone_soon(home, since, &known, &what);
            drop(client);
            let written = names(&home.workspace());
            assert!(written.is_empty() || written == ["made"], "{what}: {written:?}");
            assert_eq!(names(&home.dir.join("home")), Vec::<String>::new(), "{what}");
            assert_eq!(names(&home.dir.join("tmp")), [".keep"], "{what}");
            for file in [&made, &id] {
                fs::remove_file(file).unwrap_or_default();
            }
        }
        let records = home.list();
        assert!(!records.is_empty());
        for record in &records {
            assert_eq!(record["state"], "failed", "{record}");
        }
        let ids: Vec<&str> = records.iter().map(|record| record["id"].as_str().unwrap()).collect();
        let stopped = home.fosse(["stop"].into_iter().chain(ids[..ids.len() / 2].iter().copied()));
        assert_eq!(code(&stopped), 0, "{stopped:?}");
        // A directory without its lock may be one in the making: it is nobody's once it is old.
        for name in names(&home.state().join("runs")).iter().filter(|name| name.starts_with(".new-")) {
            let dir = fs::File::open(home.state().join("runs").join(name)).unwrap();
            dir.set_modified(SystemTime::now() - Duration::from_secs(120)).unwrap();
        }
        let cleaned = home.fosse(["clean"]);
        assert_eq!((code(&cleaned), home.list().len()), (0, 0), "{cleaned:?}");
    });
}

/// How many runs a home has, those in the making included.
fn runs(home: &Home) -> usize {
    fs::read_dir(home.state().join("runs")).into_iter().flatten().count()
}

#[test]
fn an_owner_killed_while_many_run_takes_its_own_run_only() {
    for_each_caller(|_, home| {
        let clients: Vec<Client> = (0..4).map(|_| start(home, &[], "sleep 1000 & sleep 1000")).collect();
        let inits: Vec<i32> = clients.iter().map(|client| first_of_namespace(client.pid()).expect("PID 1")).collect();
        clients[1].signal(KILL);
        let since = Instant::now();
        while process_state(inits[1]).is_some_and(|state| state != 'Z') {
            assert!(since.elapsed() < SOON);
            std::thread::sleep(Duration::from_millis(5));
        }
        for at in [0, 2, 3] {
            assert!(process_state(inits[at]).is_some_and(|state| state != 'Z'), "{at} lives");
        }
        drop(clients);
        wait_until("all are gone", || alive(home).is_empty());
        let states: Vec<String> = home.list().iter().map(|run| run["reason"].as_str().unwrap().to_owned()).collect();
        assert_eq!(states, ["orphaned"; 4]);
        assert_eq!(code(&home.fosse(["clean"])), 0);
    });
}

/// Shown before anybody has finished it, and finished by whoever looks next; the output so far is kept.
#[test]
fn the_record_of_an_orphan_is_shown_and_finished() {
    for_each_caller(|_, home| {
        for verb in ["stop", "clean", "destroy"] {
            let client = start(home, &["-n", "lost"], "exec sleep 1000");
            let waiter = Client::spawn(home.cmd(["wait", "lost"]));
            client.signal(KILL);
            client.output();
            let waited = waiter.output();
            assert_eq!((code(&waited), stdout(&waited).as_str()), (125, "null\n"), "{waited:?}");
            let record = home.newest();
            assert_eq!((record["state"].as_str(), record["reason"].as_str()), (Some("failed"), Some("orphaned")));
            assert_eq!(stdout(&home.logs("lost")), "ready\n");
            let args = if verb == "clean" { vec![verb] } else { vec![verb, "lost"] };
            let finished = home.fosse(args);
            assert_eq!(code(&finished), 0, "{verb} {finished:?}");
            if verb == "stop" {
                assert!(!home.newest()["stopped_at"].is_null());
            }
            assert_gone(home);
        }
    });
}

#[test]
fn pid_1_killed_from_outside_ends_the_run_with_137() {
    for_each_caller(|_, home| {
        let client = start(home, &[], "(setsid sleep 1000 &); exec sleep 1000");
        let init = first_of_namespace(client.pid()).expect("PID 1");
        let since = Instant::now();
        crate::support::kill(init, KILL);
        let output = client.output();
        assert_eq!(code(&output), 137, "{output:?}");
        gone_soon(home, since, &[init], "PID 1 killed");
        let record = home.newest();
        assert_eq!((record["state"].as_str(), record["exit_code"].as_i64()), (Some("failed"), Some(137)), "{record}");
    });
}

/// Each process of the sandbox that the machine shows, killed in its turn: fosse says how it ended, and ends.
#[test]
fn any_of_its_processes_killed_from_outside_ends_the_run() {
    for_each_caller(|_, home| {
        let count = {
            let client = start(home, &[], "read x; exec sleep 1000");
            let count = descendants(client.pid()).len();
            client.signal(KILL);
            count
        };
        wait_until("it is gone", || alive(home).is_empty());
        for at in 0..count {
            let client = start(home, &[], "exec sleep 1000");
            let all = descendants(client.pid());
            crate::support::kill(all[at.min(all.len() - 1)], KILL);
            let output = client.output();
            assert!(matches!(code(&output), 125 | 137), "{at} of {count}: {output:?}");
            wait_until("nothing is left", || alive(home).is_empty());
        }
        assert_eq!(code(&home.fosse(["clean"])), 0);
    });
}

#[test]
fn an_owner_that_was_stopped_by_a_signal_cannot_hold_its_run_hostage() {
    for_each_caller(|_, home| {
        let client = start(home, &["-n", "held"], "trap '' TERM; sleep 1000 & sleep 1000");
        client.signal(STOP);
        wait_until("it is stopped", || process_state(client.pid()) == Some('T'));
        let stopped = home.fosse(["stop", "--grace", "0", "held"]);
        assert_eq!(code(&stopped), 0, "{stopped:?}");
        wait_until("nothing is left", || alive(home).is_empty());
        assert_eq!(home.newest()["reason"], "stopped");
        assert_eq!(client.output().status.code(), None, "the owner was killed");
    });
}

#[test]
fn a_time_out_ends_everything_and_gives_124() {
    for_each_caller(|_, home| {
        let script = "trap '' TERM HUP INT; echo begun; (setsid sh -c 'trap \"\" TERM; sleep 1000; sleep 1000' &); sleep 1000; sleep 1000";
        let output = run(home, &["--timeout", "2s", "--grace", "200ms"], script);
        assert_eq!((code(&output), stdout(&output).as_str()), (124, "begun\n"), "{output:?}");
        assert_eq!(alive(home), Vec::<String>::new(), "when it returns, all is gone");
        assert_eq!(home.newest()["reason"], "timeout");
    });
}

#[test]
fn daemons_that_ignore_term_are_dead_when_stop_returns() {
    for_each_caller(|_, home| {
        let daemon = "use POSIX; $SIG{TERM} = $SIG{HUP} = \"IGNORE\"; for (1 .. 2) { exit if fork; setsid() } \
                      open(F, \">/workspace/there\"); sleep 1000";
        let script = format!("trap '' TERM; perl -e '{daemon}'; sleep 1000 & sleep 1000; sleep 1000");
        let client = start(home, &["-n", "stubborn"], &script);
        wait_until("the daemon is there", || home.workspace().join("there").exists());
        let stopped = home.fosse(["stop", "--grace", "200ms", "stubborn"]);
        assert_eq!(code(&stopped), 0, "{stopped:?}");
        // The owner itself may be on its last steps: the record is final, and whoever waited is told.
        let is_owner = |process: &String| processes::number(process) == client.pid();
        let left: Vec<String> = alive(home).into_iter().filter(|process| !is_owner(process)).collect();
        assert_eq!(left, Vec::<String>::new());
        let output = client.output();
        assert_eq!(code(&output), 137, "{output:?}");
        assert_eq!(
            (home.newest()["state"].as_str(), home.newest()["reason"].as_str()),
            (Some("stopped"), Some("stopped"))
        );
    });
}

/// A natural end leaves no more than a bad one: no mount point, no cover, nothing in the caller's home.
#[test]
fn the_workspace_and_the_home_hold_what_the_command_wrote_and_no_more() {
    for_each_caller(|caller, home| {
        let source = home.write("source/file", "x");
        home.write("ws/there", "before");
        let (file, dir) = (source.display().to_string(), source.parent().unwrap().display().to_string());
        let new = format!("/{}", name_of(home));
        let mounts = [
            format!("{dir}:/workspace/new/deep"),
            format!("{file}:/workspace/other"),
            format!("{dir}:/home/fosse/in-home"),
            format!("{dir}:{new}/there"),
            format!("{file}:/etc{new}:ro"),
        ];
        let forbidden = Forbidden::new([format!("{new}/there"), new.clone(), format!("/etc{new}")]);
        for mount in &mounts {
            let output = run(home, &["-m", mount], "true");
            assert!(matches!(code(&output), 0 | 125), "{mount} {output:?}");
            assert_eq!(code(&output) == 0, stderr(&output).is_empty(), "{output:?}");
            assert_eq!(names(&home.workspace()), ["there"], "{mount}");
        }
        assert_eq!(says(home, &["-m", &mounts[3]], &format!("cat {new}/there/file")), "x");
        assert_eq!(says(home, &["-m", &mounts[4]], &format!("cat /etc{new}")), "x");
        assert_eq!(forbidden.made(), Vec::<&PathBuf>::new());
        says(home, &[], "mkdir a; echo x >a/b; ln -s a c; echo y >>there; echo z >~/z; mkfifo p");
        assert_eq!(names(&home.workspace()), ["a", "c", "p", "there"]);
        assert_eq!(names(&home.dir.join("home")), Vec::<String>::new());
        for path in ["a", "a/b", "p"] {
            let about = fs::symlink_metadata(home.workspace().join(path)).unwrap();
            assert_eq!(std::os::unix::fs::MetadataExt::uid(&about), caller.uid(), "{path}");
        }
        assert_eq!(home.temporary_files(), Vec::<PathBuf>::new());
    });
}

/// An owner whose caller has closed what it would write to, and one whose caller is gone.
#[test]
fn a_caller_that_goes_away_leaves_nothing() {
    for_each_caller(|_, home| {
        // The shell that started it is killed; fosse is not, and its command meets a closed pipe.
        let inner = run_cmd(home, &["--id-file", "id"], &["sh", "-c", "while echo y; do :; done"]);
        let mut command = crate::support::init::wrapped(&inner, &["sh", "-c", "\"$@\" | head -n 1", "sh"]);
        home.belongs(&mut command);
        let output = finish(command);
        assert_eq!(stdout(&output), "y\n", "{output:?}");
        wait_until("nothing is left", || alive(home).is_empty());
        assert_eq!(home.newest()["exit_code"], 141);
    });
}

/// A run in the making is its owner's from its first moment on, for whoever sweeps what nobody owns.
#[test]
fn a_sweep_takes_no_run_that_is_just_being_made() {
    if Command::new("strace").arg("-V").output().is_err() {
        return left_out("strace is not there");
    }
    if !Engine::Native.available() {
        return;
    }
    let home = Home::without_engines();
    let log = home.dir.join("log");
    // The second lock that it takes is its run's: it takes two seconds for that.
    let slow = ["strace", "-qq", "-y", "-e", "trace=flock", "-e", "inject=flock:delay_enter=2000000:when=2", "-o"];
    let strace = [&slow[..], &[log.to_str().unwrap()]].concat();
    let client = Client::spawn(wrapped(&run_cmd(&home, &[], &["echo", "x"]), &strace));
    let is_made = |run: fs::DirEntry| run.file_name().to_string_lossy().starts_with(".new-");
    let runs = || fs::read_dir(home.state().join("runs")).into_iter().flatten().flatten();
    wait_until("it makes its run", || runs().any(is_made));
    assert_eq!(code(&home.fosse(["clean"])), 0);
    let output = client.output();
    let locks = fs::read_to_string(log).unwrap();
    assert_eq!((code(&output), stdout(&output).as_str()), (0, "x\n"), "{output:?} {locks}");
    assert!(locks.lines().any(|line| line.contains("/runs/.new-") && line.contains("DELAYED")), "{locks}");
}

/// A file system of a program's own that never answers anybody, as a network's whose server is gone.
#[test]
fn a_mount_that_never_answers_is_named_within_the_limit_for_changes() {
    if !is_root() || fs::File::options().read(true).write(true).open("/dev/fuse").is_err() {
        return left_out("a file system that never answers, which needs root and FUSE");
    }
    for_each_caller(|_, home| {
        let mount = format!(
            "open($f, \"+<\", \"/dev/fuse\") or die $!; ($s, $t, $k) = (\"dead\\0\", \"/srv/dead\\0\", \"fuse\\0\"); \
             $o = \"fd=\" . fileno($f) . \",rootmode=40000,user_id=0,group_id=0,allow_other\\0\"; \
             syscall({}, $s, $t, $k, 0, $o) == 0 or die $!; exit(system(@ARGV) >> 8)",
            libc::SYS_mount
        );
        // Who has the device open is the server: once it ends, everybody who waits has an error.
        let script = format!("mount -t tmpfs none /srv; mkdir /srv/dead; serve() {{ {} \"$@\"; }}", perl(&mount));
        let caller = match home.user {
            Some(user) => format!("serve setpriv --reuid {user} --regid {user} --clear-groups \"$@\""),
            None => "serve \"$@\"".to_owned(),
        };
        let mut inner = run_cmd(home, &[], &["true"]);
        inner.env("FOSSE_CHANGE_TIMEOUT", "1s");
        let output = finish(in_mounts(home, &format!("{script}; {caller}; exit"), &inner));
        let said = stderr(&output);
        assert_eq!((code(&output), said.lines().count()), (125, 2), "{said}");
        assert!(said.contains("no answer comes from /srv/dead") && said.contains("umount -l"), "{said}");
    });
}
