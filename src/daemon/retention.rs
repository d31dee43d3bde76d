//! Which ended runs nobody needs any more: a pure function.

use std::time::Duration;

use crate::base::id::RunId;
use crate::base::time::Timestamp;

/// How many ended runs stay, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keep {
    /// The newest so many.
    pub(crate) runs: u64,
    /// Those that ended within this time; `None` where the clock cannot be trusted.
    pub(crate) time: Option<Duration>,
}

/// An ended run.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    /// Its id.
    pub(crate) id: RunId,
    /// When it ended.
    pub(crate) at: Timestamp,
    /// Whether it is to stay until somebody destroys it (`--keep`).
    pub(crate) kept: bool,
}

/// Those to destroy.
pub(crate) fn expired(mut runs: Vec<Ended>, keep: Keep, now: Timestamp) -> Vec<RunId> {
    runs.retain(|run| !run.kept);
    // Newest first; the id decides between those of one moment.
    runs.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.id.cmp(&b.id)));
    let most = usize::try_from(keep.runs).unwrap_or(usize::MAX);
    let is_old = |run: &Ended| keep.time.is_some_and(|time| run.at.age(now) > time);
    runs.into_iter().enumerate().filter(|(at, run)| *at >= most || is_old(run)).map(|(_, run)| run.id).collect()
}

/// Whether the wall clock went as the steady one did between two looks: where it jumped, what ended long ago cannot be
/// told from what ended just now.
pub(crate) fn is_steady(wall: Duration, steady: Duration) -> bool {
    wall.abs_diff(steady) < Duration::from_secs(3600)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(at: u64, kept: bool) -> Ended {
        let id = RunId::parse(&format!("{at:012x}")).unwrap();
        Ended { id, at: Timestamp::from_micros(at * 1_000_000), kept }
    }

    fn ids(expired: Vec<RunId>) -> Vec<u64> {
        expired.iter().map(|id| u64::from_str_radix(id.as_str(), 16).unwrap()).collect()
    }

    const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);

    #[test]
    fn the_newest_stay() {
        let runs = vec![run(3, false), run(1, false), run(2, false)];
        assert_eq!(ids(expired(runs.clone(), Keep { runs: 2, time: None }, NOW)), [1]);
        assert_eq!(ids(expired(runs.clone(), Keep { runs: 0, time: None }, NOW)), [3, 2, 1]);
        assert_eq!(ids(expired(runs, Keep { runs: 3, time: None }, NOW)), [0; 0]);
    }

    #[test]
    fn the_old_go_unless_the_clock_cannot_be_trusted() {
        let runs = vec![run(900, false), run(990, false)];
        let day = Some(Duration::from_secs(50));
        assert_eq!(ids(expired(runs.clone(), Keep { runs: 9, time: day }, NOW)), [900]);
        assert_eq!(ids(expired(runs, Keep { runs: 9, time: None }, NOW)), [0; 0]);
    }

    #[test]
    fn a_clock_that_went_back_ages_nobody() {
        let runs = vec![run(900, false)];
        let keep = Keep { runs: 9, time: Some(Duration::from_secs(50)) };
        assert_eq!(ids(expired(runs, keep, Timestamp::from_micros(0))), [0; 0]);
    }

    #[test]
    fn kept_ones_stay_and_take_nobodys_place() {
        let runs = vec![run(3, true), run(2, false), run(1, false)];
        let keep = Keep { runs: 1, time: Some(Duration::from_secs(1)) };
        assert_eq!(ids(expired(runs.clone(), Keep { time: None, ..keep }, NOW)), [1]);
        assert_eq!(ids(expired(runs, keep, NOW)), [2, 1]);
    }

    #[test]
    fn a_jump_is_seen_in_both_directions() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        assert!(is_steady(hours(3), hours(3)) && is_steady(Duration::from_secs(600), Duration::from_secs(590)));
        assert!(!is_steady(hours(30), hours(1)) && !is_steady(hours(0), hours(2)));
    }
}
