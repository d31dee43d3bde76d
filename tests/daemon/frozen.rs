//! A daemon that does not answer: whoever asks gets an answer in time, and whoever needs one gets another, whose
//! predecessor cannot come back.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use fosse::sys::process::{Pid, PidHandle};
use fosse::sys::signal::Signal;

use crate::support::daemon::Way::{Background, Foreground};
use crate::support::daemon::{
    Racer, Way, at_any_moment, daemons, freeze, kill_daemon, kill_if_there, race, raced, settled, side_by_side,
    the_one, timed,
};
use crate::support::{
    CONT, Carrier, Client, Engine, Home, IMAGE, STOP, code, process_state, repeat, stderr, wait_until,
};

/// `fosse daemon` with arguments.
fn daemon_cmd(home: &Home, args: &[&str]) -> Command {
    let mut command = home.cmd(["daemon"]);
    command.args(args);
    command
}

/// Runs it to its end, in time; its exit code.
#[allow(clippy::disallowed_macros, reason = "the test runner shows it on demand: the time that it really took")]
fn asked(home: &Home, args: &[&str]) -> i32 {
    let (output, took) = timed(daemon_cmd(home, args));
    eprintln!("daemon {args:?} in {took:?}");
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

/// Fails unless a process has ended for good, thawed or not.
fn assert_ended(pid: i32) {
    kill_if_there(pid, CONT);
    wait_until("the old one has ended", || process_state(pid).is_none_or(|state| state == 'Z'));
}

/// Makes daemons that are frozen somehow, and sees what each verb makes of one; whoever helps to make it so stays until then.
fn each_verb_ends_well(frozen: impl Fn(&Home) -> (i32, Option<Client>) + Sync) {
    let verbs: [&[&str]; 5] = [&["status"], &["start"], &["start", "--foreground"], &["restart"], &["stop"]];
    side_by_side(verbs.len(), |number| {
        let home = Home::without_engines();
        let (old, _helper) = frozen(&home);
        match verbs[number] {
            ["status"] => {
                assert_eq!(asked(&home, &["status"]), 4);
                assert_eq!((process_state(old), daemons(&home)), (Some('T'), vec![old]), "asking changed it");
                return;
            }
            ["stop"] => {
                assert_eq!((asked(&home, &["stop"]), asked(&home, &["status"])), (0, 3));
                assert_ended(old);
                assert!(daemons(&home).is_empty());
                return;
            }
            ["start", "--foreground"] => {
                let (ended, _) = raced(&home, vec![Racer::start(&home, Foreground)], true);
                assert!(ended.is_empty(), "{ended:?}");
            }
            verb => assert_eq!(asked(&home, verb), 0),
        }
        let new = the_one(&home);
        assert_ne!(new, old);
        assert_ended(old);
        assert_eq!(the_one(&home), new);
        assert_eq!(asked(&home, &["stop"]), 0);
    });
}

#[test]
fn an_idle_one_that_is_stopped_is_told_ended_and_replaced() {
    each_verb_ends_well(|home| {
        let pid = home.start_daemon();
        freeze(pid);
        (pid, None)
    });
}

#[test]
fn one_whose_queue_is_full_is_told_ended_and_replaced() {
    each_verb_ends_well(|home| {
        let pid = home.start_daemon();
        let socket = home.daemon_socket();
        freeze(pid);
        (pid, Some(fill(&socket)))
    });
}

/// A program that connects until nobody else can, and hangs on to all of it: there are more connections than a process
/// usually may have.
fn fill(socket: &Path) -> Client {
    let program = "use Socket; use IO::Handle; use Errno; my @queue; $| = 1; while (1) { \
                   socket(my $one, AF_UNIX, SOCK_STREAM, 0) or die $!; $one->blocking(0); \
                   if (connect($one, pack_sockaddr_un($ARGV[0]))) { push @queue, $one; next } \
                   $!{EAGAIN} or die $!; print \"full\\n\"; <STDIN>; last }";
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -S -n $(ulimit -H -n); exec perl -e \"$@\"", "sh", program]).arg(socket);
    command.stdin(Stdio::piped());
    let client = Client::spawn(command);
    client.wait_for_output("full\n");
    client
}

/// Stops a daemon between its taking the lock and its opening the socket; who was started to become it or to start it.
fn frozen_before_its_socket(home: &Home, way: Way) -> (i32, Racer) {
    kill_daemon(home.start_daemon());
    let lock = home.daemon_lock();
    let holder = || {
        let said: Value = serde_json::from_slice(&std::fs::read(&lock).ok()?).ok()?;
        Pid::new(i32::try_from(said["pid"].as_i64()?).ok()?)
    };
    // The moment is short, and not always met.
    loop {
        std::fs::write(&lock, "").unwrap();
        let (mut racer, begun) = (Racer::start(home, way), std::time::Instant::now());
        let pid = loop {
            assert!(begun.elapsed() < crate::support::LIMIT, "nobody takes the lock");
            if let Some(pid) = holder() {
                PidHandle::open(pid).unwrap().signal(Signal::STOP).unwrap();
                break pid.number();
            }
        };
        wait_until("it is stopped", || process_state(pid) == Some('T'));
        if home.daemon_record()["socket"] == "" {
            return (pid, racer);
        }
        kill_daemon(pid);
        racer.client.wait();
    }
}

#[test]
fn one_that_is_stopped_before_it_has_a_socket_is_told_ended_and_replaced() {
    each_verb_ends_well(|home| {
        let (pid, racer) = frozen_before_its_socket(home, Foreground);
        (pid, Some(racer.client))
    });
}

#[test]
fn whoever_waited_for_one_that_was_replaced_hears_of_its_successor() {
    side_by_side(repeat(30), |_| {
        let home = Home::without_engines();
        let (old, first) = frozen_before_its_socket(&home, Background);
        let (started, _) = timed(daemon_cmd(&home, &["start"]));
        assert_eq!(code(&started), 0, "{started:?}");
        let told = first.client.output();
        assert_eq!(code(&told), 0, "{told:?}");
        assert_ne!(the_one(&home), old);
    });
}

#[test]
fn one_that_is_stopped_at_any_moment_of_its_beginning_keeps_nobody_out() {
    side_by_side(repeat(60), |round| {
        let home = Home::without_engines();
        let mut first = Racer::start(&home, if round % 2 == 0 { Foreground } else { Background });
        at_any_moment(12);
        let stopped = daemons(&home);
        stopped.iter().for_each(|pid| kill_if_there(*pid, STOP));
        assert_eq!(asked(&home, &["start"]), 0);
        let pid = home.daemon_pid();
        stopped.iter().for_each(|pid| kill_if_there(*pid, CONT));
        // Whoever was too early finds the new one; whoever waited for a daemon that was ended hears of the new one.
        wait_until("the first has ended, or is the daemon", || !first.lives() || first.client.pid() == pid);
        assert_eq!(the_one(&home), pid);
        if first.way == Background {
            let output = first.client.output();
            assert_eq!(code(&output), 0, "{output:?}");
        } else if first.took.is_none() {
            first.client.leave();
        }
        assert_eq!(asked(&home, &["stop"]), 0);
    });
}

#[test]
fn one_that_is_stopped_at_any_moment_of_its_end_keeps_nobody_out() {
    side_by_side(repeat(30), |_| {
        let home = Home::without_engines();
        let old = home.start_daemon();
        let end = Client::spawn(daemon_cmd(&home, &["stop"]));
        at_any_moment(12);
        kill_if_there(old, STOP);
        assert_eq!(asked(&home, &["start"]), 0);
        kill_if_there(old, CONT);
        let ended = end.output();
        assert_eq!(code(&ended), 0, "{ended:?}");
        // The start may have found the old one before anybody asked it to end.
        wait_until("all is quiet", || matches!(asked(&home, &["status", "-q"]), 0 | 3));
        wait_until("at most one is left", || daemons(&home).len() <= 1);
        assert_eq!(asked(&home, &["start"]), 0);
        the_one(&home);
    });
}

/// One that is stopped between its last word in the lock's file and its end is found by the kernel's word alone: those
/// who meet it at once end it, and not each other.
#[test]
fn whoever_ends_one_that_says_nothing_of_itself_ends_nobody_else() {
    side_by_side(repeat(40), |_| {
        let home = Home::without_engines();
        let old = home.start_daemon();
        freeze(old);
        std::fs::write(home.daemon_lock(), "").unwrap();
        let verbs = ["stop", "start", "stop", "restart", "stop", "start"];
        let clients: Vec<_> = verbs.iter().map(|verb| Client::spawn(daemon_cmd(&home, &[verb]))).collect();
        for (verb, client) in verbs.iter().zip(clients) {
            let ended = client.output();
            assert_eq!(code(&ended), 0, "{verb}: {ended:?}");
        }
        assert_ended(old);
        assert_eq!(asked(&home, &["start"]), 0);
        the_one(&home);
    });
}

#[test]
fn one_that_goes_on_while_it_is_being_replaced_leaves_one() {
    side_by_side(repeat(30), |_| {
        let home = Home::without_engines();
        let old = home.start_daemon();
        freeze(old);
        let racers = race(&home, [Background]);
        at_any_moment(2500);
        kill_if_there(old, CONT);
        settled(&home, racers);
    });
}

#[test]
#[allow(clippy::disallowed_macros, reason = "the test runner shows it on demand: the time that it really took")]
fn ten_starts_replace_it_by_one() {
    let home = Home::without_engines();
    for _ in 0..repeat(20) {
        let old = home.start_daemon();
        freeze(old);
        let (pid, took) = settled(&home, race(&home, [Foreground, Background].into_iter().cycle().take(10)));
        eprintln!("ten starts in {took:?}");
        assert_ne!(pid, old);
        assert_ended(old);
        assert_eq!(the_one(&home), pid);
        assert_eq!(asked(&home, &["stop"]), 0);
    }
}

#[test]
fn a_run_is_not_held_up_by_it_and_replaces_it() {
    if !Engine::Docker.available() {
        return;
    }
    side_by_side(2, |number| {
        let home = Home::on(Engine::Docker, Carrier::Init);
        let old = home.start_daemon();
        let socket = home.daemon_socket();
        freeze(old);
        let queue = (number == 1).then(|| fill(&socket));
        let script = "echo ready; while [ ! -e go ]; do sleep 0.05; done; echo done";
        let run = ["run", "--runtime", "docker", "--image", IMAGE, "--", "sh", "-c", script];
        let run = Client::spawn(home.with_daemon(run));
        run.wait_for_output("ready\n");
        wait_until("the run keeps a connection", || {
            let shown = home.daemon_status();
            shown["state"] == "serving" && shown["leases"] == 1
        });
        let second = the_one(&home);
        assert_ended(old);
        // One that freezes during the run is the next start's business, and the run goes on.
        freeze(second);
        assert_eq!(asked(&home, &["start"]), 0);
        wait_until("the run has found its successor", || home.daemon_status()["leases"] == 1);
        assert_ne!(the_one(&home), second);
        std::fs::write(home.workspace().join("go"), "").unwrap();
        let ended = run.output();
        assert_eq!((code(&ended), stderr(&ended)), (0, String::new()), "{ended:?}");
        drop(queue);
        assert_eq!(asked(&home, &["stop"]), 0);
        home.assert_nothing_left();
    });
}

/// Holds all threads of a process as a debugger does, until its standard input ends.
fn hold_by_debugger(pid: i32) -> Client {
    // Threads come and go until all of them are held. A number is all that the calls need: SEIZE, INTERRUPT.
    let program = format!(
        "my %held; for (my $new = 1; $new;) {{ $new = 0; opendir(my $tasks, \"/proc/{pid}/task\") or die $!; \
         for my $task (map {{ $_ + 0 }} grep {{ /^[0-9]+$/ }} readdir $tasks) {{ \
           next if $held{{$task}} or syscall({call}, 0x4206, $task, 0, 0) != 0; \
           syscall({call}, 0x4207, $task, 0, 0); $held{{$task}} = $new = 1; \
         }} }} $| = 1; print \"held\\n\"; <STDIN>;",
        call = libc::SYS_ptrace
    );
    let mut command = Command::new("perl");
    command.args(["-e", &program]).stdin(Stdio::piped());
    let client = Client::spawn(command);
    client.wait_for_output("held\n");
    wait_until("it is held", || process_state(pid) == Some('t'));
    client
}

#[test]
fn one_that_a_debugger_holds_is_left_alone() {
    let home = Home::without_engines();
    let old = home.start_daemon();
    let mut debugger = hold_by_debugger(old);
    assert_eq!(asked(&home, &["status"]), 4);
    let verbs: [&[&str]; 4] = [&["start"], &["start", "--foreground"], &["stop"], &["restart"]];
    side_by_side(verbs.len(), |verb| {
        let (refused, _) = timed(daemon_cmd(&home, verbs[verb]));
        assert_eq!(code(&refused), 1, "{refused:?}");
        let said = stderr(&refused);
        let held = format!("process {old} is held by a debugger");
        assert!(said.contains(&held) && said.contains("hint: let it go on, or use --force"), "{said}");
        assert_eq!(said.lines().count(), 2, "{said}");
    });
    assert_eq!(process_state(old), Some('t'));
    drop(debugger.stdin());
    debugger.wait();
    wait_until("it answers again", || asked(&home, &["status", "-q"]) == 0);
    assert_eq!(the_one(&home), old);
}

#[test]
fn one_that_a_debugger_holds_is_replaced_by_force() {
    let verbs: [&[&str]; 3] = [&["start", "--force"], &["restart", "--force"], &["stop", "--force"]];
    side_by_side(verbs.len(), |number| {
        let home = Home::without_engines();
        let old = home.start_daemon();
        let _debugger = hold_by_debugger(old);
        assert_eq!(asked(&home, verbs[number]), 0);
        if verbs[number][0] == "stop" {
            assert!(daemons(&home).is_empty());
        } else {
            assert_ne!(the_one(&home), old);
        }
    });
}

#[test]
fn other_verbs_answer_beside_it() {
    let home = Home::without_engines();
    let pid = home.start_daemon();
    freeze(pid);
    for verb in [&["list"][..], &["status"], &["clean", "runs"], &["daemon", "reap"]] {
        let (output, took) = timed(home.cmd(verb));
        assert_eq!(code(&output), 0, "{verb:?} in {took:?}: {output:?}");
    }
    assert_eq!(process_state(pid), Some('T'));
}
