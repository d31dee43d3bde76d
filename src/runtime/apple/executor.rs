//! One more command in a container: how it is called, and what its client's words and exit codes mean.

use std::time::Duration;

use super::{Apple, argv, ending, words};
use crate::process::{Cmd, Output, no_cancel};
use crate::runtime::carry::{Environment, environment_beside};
use crate::runtime::exec::Executor;
use crate::runtime::inside::Reach;
use crate::runtime::{Error, Exec, Refusal, Runtime, Status, options};
use crate::sys::signal::Signal;

impl Executor for Apple {
    fn start(&self, exec: &Exec) -> (Cmd, Environment) {
        (self.cmd(argv::exec(exec)), environment_beside(&exec.env))
    }

    fn signal_inside(&self, exec: &Exec, signal: &str, reach: Reach) -> Cmd {
        self.cmd(options::signal_inside(exec, signal, reach))
    }

    fn may_be_seen(&self) -> bool {
        false
    }

    fn patience(&self) -> Duration {
        self.limits.change
    }

    fn failure(&self, cmd: &Cmd, output: &Output) -> Error {
        Apple::refusal(cmd, output)
    }

    fn speaks_last(&self) -> bool {
        true
    }

    fn went_away(&self, exec: &Exec, code: u8, last: &[u8]) -> bool {
        // 255: the service did not say how it ended. 1 and 64: the client's own, if it says so.
        let lives = || {
            let facts = self.inspect(std::slice::from_ref(&exec.container), self.limits.query(), &no_cancel());
            facts.is_ok_and(|facts| facts.first().is_some_and(|facts| facts.status == Status::Live))
        };
        match code {
            255 => !lives(),
            1 | 64 => ending::ends_with_an_error(last) && words::refusal(&exec.container, code, [b"", last]).is_none(),
            _ => false,
        }
    }

    fn stop_signal(&self, exec: &Exec) -> Signal {
        // Its init passes this one on, and cannot be asked to stop with the other.
        if exec.has_init { Signal::TSTP } else { Signal::STOP }
    }

    fn may_be_foreign(&self, start: &[u8]) -> bool {
        words::begins_like_a_refusal(start)
    }

    fn refusal(&self, exec: &Exec, code: u8, said: [&[u8]; 2]) -> Option<Refusal> {
        words::refusal(&exec.container, code, said)
    }
}
