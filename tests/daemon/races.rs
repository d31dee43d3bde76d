//! Many that want to be the daemon, or want one, at once: one of them is, and nobody is turned away for it.

use std::fs;
use std::time::Duration;

use crate::support::daemon::Way::{Background, Foreground, Restart};
use crate::support::daemon::{
    Way, at_any_moment, daemons, kill_daemon, kill_if_there, race, raced, settled, the_one, timed,
};
use crate::support::{Carrier, Client, Engine, Home, IMAGE, KILL, code, repeat, stderr, wait_until};

/// Starts so many at once, of these ways in turn, again and again.
#[allow(clippy::disallowed_macros, reason = "the test runner shows it on demand: the time that it really took")]
fn races(count: usize, ways: &[Way], rounds: usize) {
    let home = Home::without_engines();
    let mut worst = Duration::ZERO;
    for _ in 0..repeat(rounds) {
        let (pid, took) = settled(&home, race(&home, ways.iter().copied().cycle().take(count)));
        worst = worst.max(took);
        kill_daemon(pid);
    }
    eprintln!("{count} of {ways:?} at once: {worst:?} at most");
}

#[test]
fn of_two_starts_at_once_one_is_the_daemon() {
    races(2, &[Foreground], 20);
    races(2, &[Background], 20);
    races(2, &[Background, Foreground], 20);
}

#[test]
fn of_five_starts_at_once_one_is_the_daemon() {
    races(5, &[Foreground], 20);
    races(5, &[Background], 20);
    races(5, &[Foreground, Background], 20);
}

#[test]
fn of_sixty_four_starts_at_once_one_is_the_daemon() {
    races(64, &[Foreground, Background], 20);
}

#[test]
fn of_sixty_four_starts_of_one_kind_one_is_the_daemon() {
    races(64, &[Foreground], 5);
    races(64, &[Background], 5);
}

#[test]
#[allow(clippy::disallowed_macros, reason = "the test runner shows it on demand: the time that it really took")]
fn restarts_at_once_leave_one() {
    let home = Home::without_engines();
    let mut worst = Duration::ZERO;
    for _ in 0..repeat(20) {
        let before = home.start_daemon();
        let (after, took) = settled(&home, race(&home, [Restart; 5]));
        assert_ne!(before, after);
        worst = worst.max(took);
    }
    eprintln!("5 restarts at once: {worst:?} at most");
}

#[test]
fn restarts_starts_and_ends_at_once_leave_at_most_one() {
    let home = Home::without_engines();
    for _ in 0..repeat(20) {
        home.start_daemon();
        let racers = race(&home, [Restart, Background, Foreground, Restart, Background]);
        let ends: Vec<Client> = (0..2).map(|_| Client::spawn(home.cmd(["daemon", "stop"]))).collect();
        for end in ends {
            let ended = end.output();
            assert_eq!(code(&ended), 0, "{ended:?}");
        }
        let (ended, _) = raced(&home, racers, false);
        for (way, output) in &ended {
            assert_eq!(code(output), 0, "{way:?}: {output:?}");
        }
        wait_until("at most one is left", || daemons(&home).len() <= 1);
        home.start_daemon();
        the_one(&home);
    }
}

#[test]
fn an_owner_that_is_killed_in_the_middle_of_a_race_leaves_no_second_and_no_mess() {
    let home = Home::without_engines();
    for _ in 0..repeat(20) {
        let racers = race(&home, [Foreground, Background].into_iter().cycle().take(20));
        for _ in 0..3 {
            at_any_moment(40);
            let holder = home.daemon_record()["pid"].as_i64();
            // One of this home's for certain: a number in a file is no proof.
            let daemon = daemons(&home).into_iter().find(|pid| Some(i64::from(*pid)) == holder);
            daemon.into_iter().for_each(|pid| kill_if_there(pid, KILL));
        }
        let (ended, _) = raced(&home, racers, false);
        for (way, output) in ended {
            // Who was killed, or waited for one that was, cannot say that all is well.
            let said = stderr(&output);
            let well = output.status.code() == Some(0);
            let killed = output.status.code().is_none() || said.contains("it ended without a word");
            assert!(well || killed, "{way:?}: {output:?}");
        }
        wait_until("at most one is left", || daemons(&home).len() <= 1);
        let (started, _) = timed(home.cmd(["daemon", "start"]));
        assert_eq!(code(&started), 0, "{started:?}");
        kill_daemon(the_one(&home));
    }
}

#[test]
fn runs_and_starts_at_once_share_one_daemon() {
    if !Engine::Docker.available() {
        return;
    }
    for _ in 0..repeat(10) {
        let home = Home::on(Engine::Docker, Carrier::Init);
        // They end when the test says so, for who has ended wants no daemon any more.
        let script = "while [ ! -e go ]; do sleep 0.05; done";
        let run = ["run", "--runtime", "docker", "--image", IMAGE, "--", "sh", "-c", script];
        let runs: Vec<Client> = (0..4).map(|_| Client::spawn(home.with_daemon(run))).collect();
        let racers = race(&home, [Foreground, Background, Background]);
        settled(&home, racers);
        let pid = the_one(&home);
        wait_until("all runs keep a connection", || home.daemon_status()["leases"] == 4);
        fs::write(home.workspace().join("go"), "").unwrap();
        for run in runs {
            let ended = run.output();
            assert_eq!((code(&ended), stderr(&ended)), (0, String::new()), "{ended:?}");
        }
        assert_eq!(the_one(&home), pid);
        kill_daemon(pid);
    }
}

#[test]
fn the_first_runs_start_one_daemon_however_many_they_are() {
    if !Engine::Docker.available() {
        return;
    }
    for _ in 0..repeat(10) {
        let home = Home::on(Engine::Docker, Carrier::Init);
        let script = "while [ ! -e go ]; do sleep 0.05; done";
        let run = ["run", "--runtime", "docker", "--image", IMAGE, "--", "sh", "-c", script];
        let runs: Vec<Client> = (0..5).map(|_| Client::spawn(home.with_daemon(run))).collect();
        wait_until("all runs keep a connection", || {
            home.daemon(["status", "-q"]).status.success() && home.daemon_status()["leases"] == 5
        });
        let pid = the_one(&home);
        fs::write(home.workspace().join("go"), "").unwrap();
        for run in runs {
            let ended = run.output();
            assert_eq!((code(&ended), stderr(&ended)), (0, String::new()), "{ended:?}");
        }
        assert_eq!(the_one(&home), pid);
    }
}
