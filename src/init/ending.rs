//! The end of everybody else after the command's.

use std::io;
use std::time::Duration;

use super::rest::DEATH_LIMIT;
use super::{Init, REST_GRACE};
use crate::base::time::{Deadline, now};
use crate::sys::process::Pid;
use crate::sys::signal::Signal;

impl Init {
    /// Waits until nobody is left of what was told to end; kills what does not within the grace. Whoever waits for the
    /// end of one more command hears of it as before.
    pub(super) fn end_the_rest(&mut self) -> io::Result<()> {
        let late = Deadline::after(REST_GRACE);
        let limit = Deadline::after(REST_GRACE + DEATH_LIMIT);
        loop {
            while let Some(signal) = self.signals.next()? {
                if signal == Signal::CHLD {
                    self.see_stopped(false)?;
                }
            }
            self.table.catch_up(&self.epoll);
            if late.expired() {
                self.rest.signal(self.reach(), Signal::KILL);
            }
            let Init { epoll, table, .. } = self;
            let over = self.rest.is_over(self.main.unwrap_or(Pid::own()), |pid, ended| {
                table.dead(epoll, pid, ended);
            })?;
            self.go_on();
            if over || limit.expired() {
                return Ok(());
            }
            // Processes that are not children end without a word: they are looked for. Some fork faster than they are
            // killed.
            let again = if late.expired() { Duration::from_millis(10) } else { self.rest.look_again() };
            let due = self.table.due().map(|when| when.saturating_duration_since(now()));
            let left = late.remaining().filter(|left| !left.is_zero());
            self.quiet.wait([Some(again), due, left].into_iter().flatten().min())?.for_each(drop);
        }
    }
}
