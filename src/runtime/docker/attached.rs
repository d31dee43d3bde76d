//! The second path of a run's bytes, signals and exit code: the engine's attached client.
//!
//! The client is started before the container (`start --attach`), so no byte is missed. What it cannot tell is
//! asked of the engine, and only then: whether a silent command runs already, and what an exit code means that
//! the client also uses for its own failures. An engine that does not answer is asked again until the limit for
//! a change has passed; then the end is unknown, and said to be.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};

use super::{Engine, argv, parse};
use crate::base::error::Ignore;
use crate::base::threads;
use crate::base::time::Deadline;
use crate::process::{self, Child, Exit, no_cancel};
use crate::runtime::inside::{self, Attempt, Target};
use crate::runtime::{Channel, End, Error, Fact, Facts, Outlet, Result, Runtime, Spec, Status, Whom, client, options};
use crate::sys::signal::Signal;
use crate::wire::record;

/// When a silent command is asked after, and how much later each time again.
const FIRST_LOOK: Duration = Duration::from_millis(400);
const NEXT_LOOK: Duration = Duration::from_secs(1);

/// After which time a signal is sent again that came too early.
const SIGNAL_AGAIN: Duration = Duration::from_millis(50);

/// How long a shell of the image may take to signal the command's group.
const INSIDE_LIMIT: Duration = Duration::from_secs(5);

/// How often a client is checked against its engine.
const AGREEMENT: Duration = Duration::from_secs(20);

/// How long a client may go on once its command has ended: the last bytes are on their way.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// A container's command behind the engine's attached client.
pub(crate) struct Attached {
    engine: Arc<Engine>,
    name: String,
    outlet: Outlet,
    ask: Sender<()>,
}

impl Attached {
    /// Starts the container and its client.
    pub(crate) fn start(engine: Arc<Engine>, spec: &Spec, container: String) -> Result<Box<dyn Channel>> {
        let (started, streams) = bounded(1);
        let (tell, facts) = unbounded();
        // One question pending is enough.
        let (ask, asked) = bounded(1);
        let watch =
            Watch { engine: Arc::clone(&engine), name: container.clone(), tell, asked, started: false, doubted: false };
        let cmd = engine.cmd(argv::start(engine.kind, spec, &container));
        let input = spec.input;
        let call = cmd.title();
        // The client lives and dies with the thread that starts it.
        let thread = threads::start("attached", 256, move || match client::spawn(&cmd, input) {
            Err(error) => started.send(Err(error)).ignore(),
            Ok((child, streams)) => {
                started.send(Ok(streams)).ignore();
                watch.run(child);
            }
        });
        thread.map_err(|source| Error::Call(process::Error::Start { call: call.clone(), source }))?;
        let lost = || Error::Garbled { call, why: "its thread ended".into() };
        let streams = streams.recv().map_err(|_| lost())??;
        Ok(Box::new(Attached { engine, name: container, outlet: Outlet::new(streams, facts), ask }))
    }
}

impl Attached {
    /// Signals the command's group: from the host where that can be, else by a shell of the image. Whether it was done.
    fn signal_group(&self, signal: Signal, deadline: Deadline) -> bool {
        let target = Target { container_id: Some(&self.name), mark: None };
        if inside::signal(target, signal, Whom::Group) == Attempt::Sent {
            return true;
        }
        let cmd = self.engine.cmd(options::signal_command_inside(&self.name, signal, Whom::Group));
        let output = process::call(&cmd, Deadline::after(INSIDE_LIMIT).min(deadline), &no_cancel());
        output.is_ok_and(|output| output.exit.success())
    }
}

impl Channel for Attached {
    fn io(&self) -> record::Io {
        record::Io::Engine
    }

    fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    fn look(&self) {
        // Full: a question is pending. Disconnected: the end is known.
        self.ask.try_send(()).ignore();
    }

    fn signal(&self, signal: Signal, whom: Whom, deadline: Deadline) -> Result<()> {
        // The engine's init passes a signal on to the command alone.
        if whom == Whom::Group && signal != Signal::KILL && self.signal_group(signal, deadline) {
            return Ok(());
        }
        loop {
            let refused = match self.engine.signal(&self.name, signal, deadline) {
                Err(Error::Refused { call, complaint }) if parse::not_running(&complaint) => {
                    Error::Refused { call, complaint }
                }
                other => return other,
            };
            // Ended: it takes no signal, and needs none. But podman says the same for a moment after the start.
            let facts = self.engine.inspect(std::slice::from_ref(&self.name), deadline, &no_cancel())?;
            if facts.first().is_none_or(|facts| matches!(facts.status, Status::Ended { .. })) {
                return Ok(());
            }
            if deadline.expired() {
                return Err(refused);
            }
            Deadline::after(SIGNAL_AGAIN).min(deadline).wait();
        }
    }

    fn freeze(&self, frozen: bool, deadline: Deadline) -> Result<()> {
        let verb = if frozen { "pause" } else { "unpause" };
        match self.engine.ask(&self.engine.cmd([verb, &self.name]), deadline, &no_cancel()) {
            // No freezer (rootless on cgroup v1): the command's own process at least.
            Err(Error::Refused { .. }) => {
                self.signal(if frozen { Signal::TSTP } else { Signal::CONT }, Whom::Command, deadline)
            }
            other => other.map(drop),
        }
    }

    fn exec_failure(&self, code: u8, stderr: &[u8]) -> Option<(u8, String)> {
        parse::exec_failure(code, stderr)
    }
}

/// How the client's end came about.
enum Followed {
    /// It ended.
    ToTheEnd,
    /// It did not although its command had, and was ended.
    Abandoned,
    /// Its command did not start in time.
    NeverStarted(String),
}

/// The thread that waits for the client.
struct Watch {
    engine: Arc<Engine>,
    name: String,
    tell: Sender<Fact>,
    asked: Receiver<()>,
    started: bool,
    /// Something was said that may be the engine's own words, and no fact has shown yet that the command ran.
    doubted: bool,
}

impl Watch {
    fn run(mut self, mut client: Child) {
        let output_cut = match self.follow(&mut client) {
            Followed::ToTheEnd => false,
            Followed::Abandoned => true,
            Followed::NeverStarted(why) => return self.say(Fact::StartFailed { code: None, why }),
        };
        let exit = client.reap();
        match judge(exit) {
            Verdict::Certain(code) if !self.doubted && !output_cut => {
                self.tell_started();
                self.end(End { code: Some(code), signal: None, oom: false, lost: None, output_cut });
            }
            Verdict::Certain(_) | Verdict::Ask => self.ask_for_the_end(exit, output_cut),
        }
    }

    /// Waits for the client's end. Until the command is known to run, and now and then afterwards, the engine is
    /// asked whether the two still agree: a client may hang although its command has ended.
    fn follow(&mut self, client: &mut Child) -> Followed {
        let ended = client.ended();
        let start_limit = self.engine.limits.change();
        let mut look = Deadline::after(FIRST_LOOK);
        let mut over = false;
        loop {
            select! {
                recv(ended) -> _ => return Followed::ToTheEnd,
                recv(self.asked) -> _ => self.doubted = !self.started,
                recv(look.channel()) -> _ => {}
            }
            // The client's end calls the question off: then its exit code is the better answer.
            let facts = self.engine.inspect(std::slice::from_ref(&self.name), self.engine.limits.query(), &ended);
            let status = facts.ok().and_then(|facts| facts.first().map(|facts| facts.status));
            if status.is_some_and(ran) {
                self.tell_started();
            }
            if matches!(status, Some(Status::Ended { .. })) {
                if over {
                    client.terminate(Duration::ZERO);
                    return Followed::Abandoned;
                }
                over = true;
                self.say(Fact::Ending);
                look = Deadline::after(LAST_WORDS);
                continue;
            }
            if !self.started && start_limit.expired() {
                client.terminate(Duration::from_millis(500));
                let limit = crate::base::duration::format(self.engine.limits.change);
                return Followed::NeverStarted(format!("the engine did not start it within {limit}"));
            }
            look = Deadline::after(if self.started { AGREEMENT } else { NEXT_LOOK });
        }
    }

    fn say(&self, fact: Fact) {
        // The owner no longer listens: it is ending, and needs no fact.
        self.tell.send(fact).ignore();
    }

    fn tell_started(&mut self) {
        self.doubted = false;
        if !self.started {
            self.started = true;
            self.say(Fact::Started);
        }
    }

    /// What the engine knows about the end, after a client's exit that does not tell.
    fn ask_for_the_end(&mut self, exit: Exit, mut output_cut: bool) {
        loop {
            let limit = self.engine.limits.change();
            match self.settled_facts(limit) {
                Ok(Some(Facts { status: Status::Ended { code, oom }, .. })) => {
                    self.tell_started();
                    // 137 with something killed for memory: the command, or a child whose end it passed on.
                    let oom = oom && code == 137;
                    // A client that was killed, or lost its connection, need not have passed on all there was.
                    let output_cut = output_cut || exit != Exit::Code(code) || code == 125;
                    return self.end(End { code: Some(code), signal: None, oom, lost: None, output_cut });
                }
                Ok(Some(Facts { status: Status::Live, .. })) => {
                    // The connection broke, not the command: wait for it by another call.
                    self.tell_started();
                    output_cut = true;
                    let wait = self.engine.cmd(["wait", &self.name]);
                    if let Err(error) = process::call(&wait, Deadline::never(), &no_cancel()) {
                        return self.lost(error.to_string());
                    }
                }
                Ok(Some(facts)) => return self.say(Fact::StartFailed { code: None, why: facts.error }),
                Ok(None) if self.started && !output_cut && matches!(exit, Exit::Code(2..=124 | 128..)) => {
                    // Removed behind our back: its client was still told how it ended.
                    return self.end(End {
                        code: Some(exit.code()),
                        signal: None,
                        oom: false,
                        lost: None,
                        output_cut: false,
                    });
                }
                Ok(None) => return self.lost("the engine no longer knows the container".into()),
                Err(error) => return self.lost(error.to_string()),
            }
        }
    }

    /// The container's facts, asked again while the engine does not answer or the state is between two others.
    fn settled_facts(&self, limit: Deadline) -> Result<Option<Facts>> {
        loop {
            let asked = Deadline::after(Duration::from_millis(250));
            let answer = self.engine.inspect(
                std::slice::from_ref(&self.name),
                self.engine.limits.query().min(limit),
                &no_cancel(),
            );
            match answer.map(|facts| facts.into_iter().next()) {
                Ok(Some(Facts { status: Status::Other, .. })) | Err(_) if !limit.expired() => {
                    // One question each quarter of a second at most: an engine that is starting refuses at once.
                    asked.wait();
                }
                other => return other,
            }
        }
    }

    fn end(&self, end: End) {
        self.say(Fact::Ended(end));
    }

    fn lost(&self, why: String) {
        self.say(Fact::Ended(End { code: None, signal: None, oom: false, lost: Some(why), output_cut: true }));
    }
}

/// Whether a container has run at all.
fn ran(status: Status) -> bool {
    match status {
        Status::Live | Status::Ended { .. } => true,
        Status::Created | Status::Stopped | Status::Other => false,
    }
}

/// What a client's exit says about the command's.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is the command's own.
    Certain(u8),
    /// It may be the client's.
    Ask,
}

/// `docker start` fails with 1 and loses its connection with 125; `podman start` uses 125 to 127. 137 may mean
/// out of memory. Every other code is the command's: no client invents it.
fn judge(exit: Exit) -> Verdict {
    match exit {
        Exit::Code(1 | 125 | 126 | 127 | 137) => Verdict::Ask,
        Exit::Code(code) => Verdict::Certain(code),
        Exit::Signal(_) => Verdict::Ask,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_that_a_client_may_mean_itself_are_asked_for() {
        for code in 0..=255 {
            let asked = matches!(code, 1 | 125 | 126 | 127 | 137);
            assert_eq!(judge(Exit::Code(code)) == Verdict::Ask, asked, "{code}");
        }
        assert_eq!(judge(Exit::Signal(9)), Verdict::Ask);
    }
}
