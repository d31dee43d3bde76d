//! The deadlines of one run: several at the same time, each ringing once.

use crate::base::time::Deadline;

/// Deadlines that run at the same time.
#[derive(Default)]
pub(crate) struct Alarms {
    /// `--timeout`.
    pub(crate) timeout: Option<Deadline>,
    /// Then a terminal session is asked once more to end.
    pub(crate) second_word: Option<Deadline>,
    /// Then the kill.
    pub(crate) grace: Option<Deadline>,
    /// Then a kill has not worked.
    pub(crate) kill: Option<Deadline>,
    /// Then the streams are cut.
    pub(crate) drain: Option<Deadline>,
}

impl Alarms {
    /// The first of them; for ever if none is set.
    pub(crate) fn next(&self) -> Deadline {
        let armed = [self.timeout, self.second_word, self.grace, self.kill, self.drain];
        armed.into_iter().flatten().fold(Deadline::never(), Deadline::min)
    }

    /// Whether the alarm rings; it rings once.
    pub(crate) fn rings(alarm: &mut Option<Deadline>) -> bool {
        let rings = alarm.is_some_and(|deadline| deadline.expired());
        if rings {
            *alarm = None;
        }
        rings
    }
}
