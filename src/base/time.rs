//! The clock, points in time, and deadlines: the only module that asks what time it is.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, at, never};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::error::Ignore;

/// A point in wall-clock time, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Now. A clock before 1970 reads as 1970.
    #[allow(clippy::disallowed_methods)]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    /// From microseconds since the epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Timestamp(micros)
    }

    /// Microseconds since the epoch.
    pub fn micros(self) -> u64 {
        self.0
    }

    /// How long ago `self` was, seen from `now`; zero when the clock went back.
    pub(crate) fn age(self, now: Timestamp) -> Duration {
        Duration::from_micros(now.0.saturating_sub(self.0))
    }
}

/// Days since 1970-01-01 to (year, month, day) in the proleptic Gregorian calendar.
///
/// The algorithm counts eras of 400 years from 1 March 0000, so that the leap day is the last of its year.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// The inverse of [`civil_from_days`]; `None` before 1970.
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let era = year / 400;
    let year_of_era = year % 400;
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with microseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, micros) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let (year, month, day) = civil_from_days(secs / 86_400);
        let (hour, minute, second) = (secs % 86_400 / 3_600, secs % 3_600 / 60, secs % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

impl FromStr for Timestamp {
    type Err = String;

    /// RFC 3339 in UTC (`Z`), any number of fraction digits; what is finer than a microsecond is cut off.
    fn from_str(text: &str) -> Result<Self, String> {
        parse_rfc3339(text).ok_or_else(|| format!("not an RFC 3339 time in UTC: {text:?}"))
    }
}

fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let number = |s: &str, digits: usize| -> Option<u64> {
        (s.len() == digits && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse().ok())?
    };
    let mut parts = date.split('-');
    let (year, month, day) = (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut units = clock.split(':');
    let (hour, minute, second) = (number(units.next()?, 2)?, number(units.next()?, 2)?, number(units.next()?, 2)?);
    let in_range = parts.next().is_none()
        && units.next().is_none()
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60
        && !fraction.is_empty()
        && fraction.bytes().all(|b| b.is_ascii_digit());
    if !in_range {
        return None;
    }
    let micros = fraction.bytes().chain(std::iter::repeat(b'0')).take(6).fold(0, |n, b| n * 10 + u64::from(b - b'0'));
    let days = days_from_civil(year, month, day)?;
    if civil_from_days(days) != (year, month, day) {
        return None;
    }
    let secs = days * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(Timestamp(secs * 1_000_000 + micros))
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Now, on the monotonic clock: for who compares many points in time with one look at it.
#[allow(clippy::disallowed_methods)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A point on the monotonic clock since when something is so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Since(Instant);

impl Since {
    /// From now on.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn now() -> Self {
        Since(Instant::now())
    }

    /// For how long by now.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A point on the monotonic clock after which waiting ends. Passed down from the verb: no layer starts its own.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    start: Instant,
    limit: Option<Duration>,
}

impl Deadline {
    /// `limit` from now.
    #[allow(clippy::disallowed_methods)]
    pub fn after(limit: Duration) -> Self {
        Deadline { start: Instant::now(), limit: Some(limit) }
    }

    /// No deadline: pulls, and the command itself.
    #[allow(clippy::disallowed_methods)]
    pub fn never() -> Self {
        Deadline { start: Instant::now(), limit: None }
    }

    /// The time since the deadline was set.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// What is left; `None` without a limit.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        Some(self.limit?.saturating_sub(self.elapsed()))
    }

    /// Whether it has passed.
    pub fn expired(&self) -> bool {
        self.remaining().is_some_and(|left| left.is_zero())
    }

    /// The whole span it was set for.
    pub(crate) fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// A channel that delivers once, when the deadline passes.
    pub(crate) fn channel(&self) -> Receiver<Instant> {
        match self.limit.and_then(|limit| self.start.checked_add(limit)) {
            Some(when) => at(when),
            None => never(),
        }
    }

    /// Waits until it passes, where nothing can be waited for but time; for ever without a limit.
    pub(crate) fn wait(self) {
        self.channel().recv().ignore();
    }

    /// The later of two deadlines.
    #[must_use]
    pub(crate) fn max(self, other: Deadline) -> Deadline {
        match (self.remaining(), other.remaining()) {
            (Some(a), Some(b)) if a < b => other,
            (Some(_), None) => other,
            (Some(_) | None, Some(_)) | (None, None) => self,
        }
    }

    /// The earlier of two deadlines.
    #[must_use]
    pub(crate) fn min(self, other: Deadline) -> Deadline {
        match (self.remaining(), other.remaining()) {
            (Some(a), Some(b)) if b < a => other,
            (None, Some(_)) => other,
            (Some(_), Some(_) | None) | (None, None) => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000000Z");
        assert_eq!("2024-02-29T12:00:00Z".parse(), Ok(Timestamp(1_709_208_000_000_000)));
        for bad in ["", "2024-02-30T00:00:00Z", "2024-02-29T12:00:00", "2024-2-29T12:00:00Z", "2024-02-29 12:00:00Z"] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_earlier_deadline_wins() {
        let (soon, late) = (Deadline::after(Duration::from_secs(1)), Deadline::after(Duration::from_secs(9)));
        assert_eq!(soon.min(late).limit(), soon.limit());
        assert_eq!(late.min(soon).limit(), soon.limit());
        assert_eq!(Deadline::never().min(soon).limit(), soon.limit());
        assert!(Deadline::never().min(Deadline::never()).remaining().is_none());
    }

    proptest! {
        #[test]
        fn times_agree_with_an_independent_library(micros in 0..253_402_300_800_000_000_u64) {
            let ours = Timestamp(micros);
            let theirs = jiff::Timestamp::from_microsecond(i64::try_from(micros).unwrap()).unwrap();
            prop_assert_eq!(ours.to_string().parse::<jiff::Timestamp>().unwrap(), theirs);
            prop_assert_eq!(ours.to_string().parse::<Timestamp>().unwrap(), ours);
        }

        #[test]
        fn no_text_makes_the_parser_fail_otherwise(text in ".{0,40}") {
            let _parsed = text.parse::<Timestamp>();
        }
    }
}
