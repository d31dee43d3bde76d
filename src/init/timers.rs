//! Points in time, one for each key, the next of which is known without looking at the others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// When something is to be done for whom.
pub(crate) struct Timers<K> {
    by_key: BTreeMap<K, Instant>,
    by_time: BTreeSet<(Instant, K)>,
}

impl<K: Ord + Copy> Timers<K> {
    pub(crate) fn new() -> Timers<K> {
        Timers { by_key: BTreeMap::new(), by_time: BTreeSet::new() }
    }

    /// Sets the time for a key, in place of the one that it has.
    pub(crate) fn set(&mut self, key: K, when: Instant) {
        self.clear(key);
        self.by_key.insert(key, when);
        self.by_time.insert((when, key));
    }

    /// Nothing is to be done for it.
    pub(crate) fn clear(&mut self, key: K) {
        if let Some(when) = self.by_key.remove(&key) {
            self.by_time.remove(&(when, key));
        }
    }

    /// The earliest time of all.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(when, _)| *when)
    }

    /// Takes out one whose time has come.
    pub(crate) fn take(&mut self, now: Instant) -> Option<K> {
        let (_, key) = *self.by_time.first().filter(|(when, _)| *when <= now)?;
        self.clear(key);
        Some(key)
    }
}

/// A point in time that far away; one beyond all times is never.
pub(crate) fn after(now: Instant, span: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 10);
    now + span.min(FAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_one_time_and_the_earliest_comes_first() {
        let start = crate::base::time::now();
        let at = |seconds| after(start, Duration::from_secs(seconds));
        let mut timers = Timers::new();
        timers.set('a', at(3));
        timers.set('b', at(2));
        timers.set('a', at(1));
        timers.set('c', at(1));
        timers.clear('c');
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.take(start), None);
        assert_eq!((timers.take(at(2)), timers.take(at(2)), timers.take(at(9))), (Some('a'), Some('b'), None));
        assert_eq!(timers.next(), None);
        assert!(after(start, Duration::MAX) > start);
    }
}
