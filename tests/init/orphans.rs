//! What has lost its parent: `fosse init` reaps all of it while its command runs, and takes it along at the end.

use std::fs;
use std::process::Stdio;

use crate::support::init::{BOTH, Init, Place, wrapped};
use crate::support::{Home, KILL, TERM, code, processes, repeat, stdout, wait_until};

/// Runs the body with a shell script under init in both places; the script says `ready`.
fn with_script(options: &[&str], script: &str, body: impl Fn(Init)) {
    for place in BOTH {
        if let Some(init) = Init::script(place, options, script) {
            body(init);
        }
    }
}

/// E2: a thousand of them, and as many again in strict runs.
#[test]
fn e2_every_orphan_is_reaped_while_the_command_runs() {
    let count = repeat(10_000);
    let script = format!(
        "i=0; while [ $i -lt {count} ]; do (sleep 0.01 >/dev/null 2>&1 &); i=$((i+1)); done; echo ready; exec sleep 1000"
    );
    with_script(&[], &script, |init| {
        wait_until("only the command is left", || processes::children(init.pid).len() == 1);
        assert_eq!(init.zombies(), 0);
        assert_eq!(code(&init.end()), 143);
    });
}

/// E2: many that end in the same moment, so that one signal stands for all.
#[test]
fn e2_orphans_that_end_at_once_are_all_reaped() {
    let script = "mkfifo gate; i=0
        while [ $i -lt 200 ]; do (sh -c 'read x <gate; exit 9' >/dev/null 2>&1 &); i=$((i+1)); done
        echo ready; exec sleep 1000";
    with_script(&[], script, |init| {
        wait_until("all are its children", || processes::children(init.pid).len() == 201);
        let gate = init.home.workspace().join("gate");
        // They all wait in open(2), and have their end of file once the only writer has gone. This way to open it
        // never waits itself.
        wait_until("the gate has let all through", || {
            fs::OpenOptions::new().read(true).write(true).open(&gate).unwrap();
            processes::children(init.pid).len() == 1
        });
        assert_eq!((init.zombies(), code(&init.end())), (0, 143));
    });
}

/// A process that has left the group and the session, and is not asked by any signal to the group.
const ESCAPED: &str =
    "(setsid sh -c 'trap \"echo polite >polite; exit\" TERM; touch up1; while :; do sleep 0.05; done' \
     >/dev/null 2>&1 &)
    (setsid sh -c 'trap \"\" TERM HUP INT; touch up2; while :; do sleep 1000; done' >/dev/null 2>&1 &)
    while ! [ -e up1 ] || ! [ -e up2 ]; do sleep 0.01; done";

/// E3: what left the group is asked politely first, and does not survive.
#[test]
fn e3_what_is_left_when_the_command_has_ended_gets_term_and_then_kill() {
    for place in BOTH.into_iter().filter(|place| place.available()) {
        let is_asked = || {
            let home = Home::new();
            let command = place.cmd(&home, &["--", "sh", "-c", &format!("{ESCAPED}\necho ready; exit 6")]);
            let mut init = Init::started(command, home);
            init.client_mut().wait();
            let polite = fs::read_to_string(init.home.workspace().join("polite")).unwrap_or_default();
            let output = init.ended();
            assert_eq!((code(&output), stdout(&output).as_str()), (6, "ready\n"), "{place:?} {output:?}");
            polite == "polite\n"
        };
        // On a machine that is busy the second that it has may be over before it has its turn.
        assert!((0..5).any(|_| is_asked()), "{place:?}: it had no chance");
    }
}

/// E3: the same where a signal to init ended the command, and where the command itself was killed.
#[test]
fn e3_nothing_is_left_however_the_command_ended() {
    let script = format!("{ESCAPED}\nsleep 1000 & echo ready; exec sleep 1000");
    for (signal, wanted) in [(TERM, 143), (KILL, 137)] {
        with_script(&[], &script, |init| {
            // It may still be the shell.
            let mut leader = None;
            wait_until("the command is there", || {
                let children = processes::children(init.pid);
                leader = children.iter().find(|(pid, _)| processes::name(*pid) == "sleep").map(|(pid, _)| *pid);
                leader.is_some()
            });
            crate::support::kill(leader.unwrap(), signal);
            let output = init.ended();
            assert_eq!(code(&output), wanted, "{output:?}");
        });
    }
}

/// E3: processes that stand still cannot take a TERM.
#[test]
fn e3_what_stands_still_at_the_end_goes_too() {
    let script = "(setsid sh -c 'kill -STOP $$' >/dev/null 2>&1 &); trap 'exit 2' USR1; echo ready; \
        while :; do sleep 0.05; done";
    with_script(&[], script, |init| {
        wait_until("it stands still", || processes::children(init.pid).iter().any(|(_, state)| *state == 'T'));
        init.signal(crate::support::USR1);
        assert_eq!(code(&init.ended()), 2);
    });
}

/// E3: where init is neither PID 1 nor a subreaper, what is left of the command's group; who has left it belongs to
/// somebody else.
#[test]
fn e3_where_orphans_do_not_come_to_init_the_rest_of_the_group_is_killed() {
    let home = Home::new();
    let script = "(trap '' TERM; exec sleep 77) & setsid sh -c 'echo $$ >elsewhere; exec sleep 1000' &
        until [ -s elsewhere ]; do sleep 0.01; done; exit 3";
    let command = home.cmd(["init", "--", "sh", "-c", script]);
    let mut client = crate::support::Client::spawn(command);
    assert_eq!(client.wait().code(), Some(3));
    let elsewhere = fs::read_to_string(home.workspace().join("elsewhere")).unwrap().trim().parse().unwrap();
    assert_eq!(home.processes().len(), 1, "{:?}", home.processes());
    assert!(matches!(crate::support::process_state(elsewhere), Some('S' | 'R')));
    crate::support::kill(elsewhere, KILL);
    client.output();
    // Asked before it is killed.
    let script =
        "sh -c 'trap \"echo asked; exit\" TERM; echo up; while :; do sleep 0.05; done' & read line <up; exit 4";
    home.write("ws/make", "mkfifo up");
    let script = format!("sh make; {}", script.replace("echo up;", "echo >up;"));
    let output = crate::support::finish(home.cmd(["init", "--", "sh", "-c", &script]));
    assert_eq!((code(&output), stdout(&output).as_str()), (4, "asked\n"), "{output:?}");
    assert_eq!(home.processes(), Vec::<String>::new());
}

/// E3: those that make more of themselves faster than one look can see.
#[test]
fn e3_what_keeps_forking_at_the_end_goes_too() {
    let fork = "trap '' TERM; touch up$1; while :; do sleep 0.01 & wait; done";
    let script = "for i in 1 2 3 4; do (setsid sh forker $i >/dev/null 2>&1 &); done
        while ! [ -e up1 ] || ! [ -e up2 ] || ! [ -e up3 ] || ! [ -e up4 ]; do sleep 0.01; done; exit 3";
    for place in BOTH.into_iter().filter(|place| place.available()) {
        let home = Home::new();
        home.write("ws/forker", fork);
        let command = place.cmd(&home, &["--", "sh", "-c", script]);
        let output = Init::started(command, home).ended();
        assert_eq!(code(&output), 3, "{place:?} {output:?}");
    }
}

/// E2: the children that a program has when it becomes init: some ended, one running.
#[test]
fn e2_children_from_before_the_start_are_reaped_and_never_taken_for_the_command() {
    let perl = "my @p;
        for (1..20) { my $p = fork; exit 9 unless $p; push @p, $p }
        for my $p (@p) { my $s = ''; until ($s =~ /\\) Z /) { open F, '<', qq{/proc/$p/stat}; $s = <F> } }
        my $r = fork; if (!$r) { open STDOUT, '>', '/dev/null'; exec 'sleep', '1000' }
        exec @ARGV";
    for place in BOTH.into_iter().filter(|place| place.available()) {
        let home = Home::new();
        let mut args = vec!["init"];
        if place == Place::Subreaper {
            args.push("--subreaper");
        }
        args.extend(["--", "sh", "-c", "trap 'exit 4' USR1; echo ready; while :; do sleep 0.05; done"]);
        let inner = wrapped(&home.cmd(args), &["perl", "-e", perl]);
        let unshare: &[&str] = if place == Place::Pid1 {
            &["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
        } else {
            &["env"]
        };
        let init = Init::new(place, home, wrapped(&inner, unshare), None);
        init.client().wait_for_output("ready\n");
        wait_until("the dead are reaped", || init.zombies() == 0);
        let left = processes::children(init.pid);
        assert_eq!(left.len(), 2, "{place:?}: the command and the one that runs: {left:?}");
        init.signal(crate::support::USR1);
        assert_eq!(code(&init.ended()), 4, "{place:?}");
    }
}

/// Orphans hold init's streams, and are nobody's reason to wait.
#[test]
fn init_does_not_wait_for_those_who_hold_its_output() {
    for place in BOTH.into_iter().filter(|place| place.available()) {
        let home = Home::new();
        let mut command = place.cmd(&home, &["--", "sh", "-c", "(setsid sleep 1000 &); sleep 1000 & echo out; exit 1"]);
        command.stdin(Stdio::null());
        let output = Init::started(command, home).ended();
        assert_eq!((code(&output), stdout(&output).as_str()), (1, "out\n"), "{place:?} {output:?}");
    }
}
