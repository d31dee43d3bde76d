//! Many that want to be the daemon, or want one, at once: one of them is, and nobody is turned away for it.

use std::time::Duration;

use crate::support::daemon::Way::{Background, Foreground, Restart};
use crate::support::daemon::{Way, kill_daemon, race, settled};
use crate::support::{Home, repeat};

/// Starts so many at once, of these ways in turn, again and again.
#[allow(clippy::disallowed_macros, reason = "the test runner shows it on demand: the time that it really took")]
fn races(count: usize, ways: &[Way], rounds: usize) {
    let home = Home::new();
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
fn restarts_at_once_leave_one() {
    let home = Home::new();
    for _ in 0..repeat(20) {
        let before = home.start_daemon();
        let (after, _) = settled(&home, race(&home, [Restart; 5]));
        assert_ne!(before, after);
    }
}
