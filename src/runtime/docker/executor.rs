//! How the engine's own `exec` is called, and what its client's words and exit codes mean.

use std::time::Duration;

use super::{Engine, Tool, argv, parse};
use crate::process::{Cmd, Output, no_cancel};
use crate::runtime::carry::Environment;
use crate::runtime::exec::Executor;
use crate::runtime::inside::Reach;
use crate::runtime::{Error, Exec, Refusal, Runtime, Status, options};

impl Engine {
    fn container_lives(&self, exec: &Exec) -> bool {
        let facts = self.inspect(std::slice::from_ref(&exec.container), self.limits.query(), &no_cancel());
        facts.is_ok_and(|facts| facts.first().is_some_and(|facts| facts.status == Status::Live))
    }
}

impl Executor for Engine {
    fn start(&self, exec: &Exec) -> (Cmd, Environment) {
        let (args, carried) = argv::exec(self.kind, exec);
        (self.cmd(args), carried)
    }

    fn signal_inside(&self, exec: &Exec, signal: &str, reach: Reach) -> Cmd {
        self.cmd(options::signal_inside(exec, signal, reach))
    }

    fn may_be_seen(&self) -> bool {
        true
    }

    fn patience(&self) -> Duration {
        self.limits.change
    }

    fn failure(&self, cmd: &Cmd, output: &Output) -> Error {
        Engine::refusal(self, cmd, output)
    }

    fn went_away(&self, exec: &Exec, code: u8, _last: &[u8]) -> bool {
        // `docker exec` says 255 for an engine that went away.
        code == 255 && self.kind == Tool::Docker && !self.container_lives(exec)
    }

    fn may_be_foreign(&self, start: &[u8]) -> bool {
        parse::begins_like_a_refusal(start)
    }

    fn refusal(&self, exec: &Exec, code: u8, said: [&[u8]; 2]) -> Option<Refusal> {
        let names = [&exec.container, &self.endpoint];
        let names = names.into_iter().chain(&exec.container_id).map(String::as_str);
        parse::refusal(self.kind, &names.collect::<Vec<_>>(), code, said)
    }
}
