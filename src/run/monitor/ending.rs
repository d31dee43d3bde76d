//! The end of a run in its one order: output on disk, final record on disk, container, network, files, locks,
//! and only then whatever the caller has not read yet.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::never;

use super::{Monitor, Outcome, Over, unwritten};
use crate::base::error::{Failure, Ignore};
use crate::base::log;
use crate::base::threads;
use crate::base::time::Deadline;
use crate::process::code_of_signal;
use crate::run::control::Answer;
use crate::run::failpoint;
use crate::run::finish;
use crate::run::objects::Objects;
use crate::run::output::Stream;
use crate::run::prepare::Stopped;
use crate::run::state::{Cause, Event};
use crate::runtime::{Channel, End, Fact, Input, Kind, pid1, refusal};
use crate::sys::signal::Signal;
use crate::wire::control::{Reply, Request};
use crate::wire::record::Reason;

/// How long a caller who does not read is waited for, when the run was made to end.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether a whole command line was given as the name of a program, as for a shell.
fn one_quoted_line(command: &[OsString]) -> bool {
    matches!(command, [line] if line.to_string_lossy().trim().contains(char::is_whitespace))
}

/// Whether docker's `-v SRC:DST` was taken for an option without a value, and its value for a command.
fn is_a_mount(command: &[OsString]) -> bool {
    let name = command.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    command.len() > 1 && name.split_once(':').is_some_and(|(source, target)| !source.is_empty() && !target.is_empty())
}

/// The exit code for everything that is fosse's or an engine's fault.
const FAULT: u8 = 125;

impl Monitor {
    pub(super) fn finish(mut self, over: Over) -> Outcome {
        self.answer_beside();
        let event = match over {
            Over::GivenUp(failure) => return self.leave_to_others(failure),
            Over::Unstarted(Stopped::NoImage(failure)) => return self.discard(failure),
            Over::Unstarted(Stopped::Aborted) => Event::Stop(Cause::Asked),
            Over::Unstarted(Stopped::Failed(failure)) => {
                let error = failure.to_string();
                self.failures.push(failure);
                Event::StartFailed { code: None, error }
            }
            Over::Ended(Fact::Ended(end)) => self.event_of(end),
            Over::Ended(Fact::StartFailed { code: Some(code), why }) => self.not_executed(code, &why),
            Over::Ended(Fact::StartFailed { code: None, why }) => self.start_failed(&why),
            Over::Ended(Fact::Started | Fact::Ending) => Event::Lost("the end was not told".into()),
        };
        self.commit(event);
        failpoint::pass("final");
        self.clean_up();
        failpoint::pass("cleaned");
        self.part()
    }

    /// An engine may take its time over the last steps, and an owner that does not answer counts as frozen: from here on
    /// a thread does. Whoever wants the run to end has what he wants, and waits for the lock.
    fn answer_beside(&mut self) {
        let requests = std::mem::replace(&mut self.requests, never());
        let state = self.slot.state().name();
        let answer = move || {
            for asked in requests {
                let reply = Reply { accepted: matches!(asked.request, Request::Stop { .. }), state };
                asked.answer.send(Answer { reply, connection: None }).ignore();
            }
        };
        // Without a thread it is as if it were frozen.
        threads::start("late", 64, answer).ignore();
    }

    /// What an end means. Output that the streams lost is saved from the engine's log first.
    fn event_of(&mut self, end: End) -> Event {
        if end.output_cut {
            let name = self.container();
            let pump = self.pump.as_ref();
            let deliver = |stream, bytes: &[u8]| pump.into_iter().for_each(|pump| pump.deliver(stream, bytes));
            match finish::save_output(&*self.launch.runtime, &name, &self.log, &deliver) {
                Ok(true) => {}
                Ok(false) => {
                    self.log.mark_left_out();
                    log::warn("the connection to the command broke: what it wrote after that is lost");
                }
                Err(failure) => {
                    self.log.mark_left_out();
                    self.failures.push(failure);
                }
            }
        }
        let Some(code) = end.code else {
            let why = end.lost.unwrap_or_else(|| "the engine does not say how it ended".into());
            self.failures
                .push(Failure::new("following the run", &why).hint("fosse doctor tells whether the engine works"));
            return Event::Lost(why);
        };
        let code = match self.exec_failure(code) {
            Some((code, why)) => {
                self.say_not_executed(&why);
                code
            }
            None => code,
        };
        Event::Exited { code, signal: end.signal, oom: end.oom }
    }

    /// Whether all that was ever said is the engine's init saying that it could not execute the command. The
    /// command could say the same, so this decides no more than a hint and between codes that both mean a
    /// failure: the record claims no more than an exit.
    fn exec_failure(&self, code: u8) -> Option<(u8, String)> {
        let [Some(stdout), Some(stderr)] = &self.endings else {
            return None;
        };
        // At a terminal there is one stream for both.
        let (silent, said) =
            if self.launch.spec.input == Input::Terminal { (stderr, stdout) } else { (stdout, stderr) };
        if self.cause.is_some() || silent.bytes > 0 || said.bytes > said.start.len() as u64 {
            return None;
        }
        self.channel.as_ref()?.exec_failure(code, &said.start)
    }

    fn say_not_executed(&mut self, why: &str) {
        let what = format!("{}: {why}", self.launch.spec.command[0].to_string_lossy());
        let hint = match self.launch.spec.image.as_str() {
            _ if one_quoted_line(&self.launch.spec.command) => {
                "the command line is one word, the name of a program: leave the quotes out, or say sh -c in front of it"
            }
            _ if is_a_mount(&self.launch.spec.command) => "-v is --verbose: -m SRC:DST[:ro] mounts a file or directory",
            "" => "is it on PATH, not in a home directory, and executable? fosse-run(1) says what a sandbox shows",
            _ => "is it in the image, and executable?",
        };
        self.failures.push(Failure::new("starting the command", what).hint(hint));
    }

    fn not_executed(&mut self, code: u8, why: &str) -> Event {
        self.say_not_executed(why);
        Event::StartFailed { code: Some(code), error: crate::base::error::one_line(why) }
    }

    fn start_failed(&mut self, why: &str) -> Event {
        let said = self.endings[Stream::Stderr.index()].take().unwrap_or_default().start;
        let said = String::from_utf8_lossy(&said);
        let why = if why.is_empty() { said.trim() } else { why };
        let why = if why.is_empty() { "the engine does not say why" } else { why };
        let hint = match (&self.launch.spec.workdir, self.launch.runtime.kind()) {
            (Some(dir), _) if why.contains(&format!("its directory {dir} ")) => {
                "--workdir must be a directory that the command's user can enter, or can make in what is not mounted"
            }
            (_, Kind::Native) => "fosse doctor tells what works here",
            (_, Kind::Docker | Kind::Podman | Kind::Apple) => refusal::advice(why),
        };
        self.failures.push(Failure::new("starting the command", why).hint(hint));
        Event::StartFailed { code: None, error: crate::base::error::one_line(why) }
    }

    /// Output, then the final record, both synced; a disk that is full by now gets what was set aside.
    fn commit(&mut self, event: Event) {
        if let Err(error) = self.log.sync() {
            self.failures.push(Failure::new("writing the output to disk", error));
        }
        if let Some(error) = self.log.take_failure() {
            let id = self.names().1;
            let hint = format!("what was recorded by then is there: fosse logs {id}; fosse clean makes room");
            self.failures.push(Failure::new("recording the output", error).hint(hint));
        }
        failpoint::pass("output-synced");
        self.owned.spend_reserve();
        self.slot.remember_totals(&self.log.totals());
        self.advance(event);
    }

    fn clean_up(&mut self) {
        if self.launch.keep && self.slot.record().reason != Some(Reason::StartFailed) {
            self.undo.keep();
        }
        let by_itself = |channel: &Arc<dyn Channel>| channel.is_removed_by_itself(Deadline::after(pid1::PLACE_LIMIT));
        if self.channel.as_ref().is_some_and(by_itself) {
            self.undo.leave_container();
        }
        let objects = Objects::of(self.slot.record(), Some(self.launch.spec.instance.clone()));
        let failures = self.undo.run(&*self.launch.runtime, &objects, &self.owned.paths);
        self.failures.extend(failures);
    }

    /// Gives the run up, and delivers what the caller has not read yet.
    fn part(mut self) -> Outcome {
        let record = self.slot.record();
        let (id, reason) = (record.id.clone(), record.reason);
        let interrupted = self.interrupted && record.signal.map(i32::from) == Some(Signal::INT.number());
        let code = match (reason, record.exit_code) {
            (Some(Reason::Timeout), _) => 124,
            (_, Some(code)) => code,
            (Some(Reason::Stopped), None) => code_of_signal(self.asked_by.unwrap_or(Signal::TERM)),
            (_, None) => FAULT,
        };
        self.owned.release(self.slot.record());
        // The caller of a command that ended by itself gets all of it, however slowly it reads.
        let patience = self.cause.map(|_| PATIENCE);
        let mut flushed = self.pump.take().map(|pump| pump.flush(patience, &self.signals)).unwrap_or_default();
        for (stream, error) in std::mem::take(&mut flushed.failed) {
            self.undelivered = true;
            self.failures.push(unwritten(stream, error, &id));
        }
        // Whatever is said from here on is said at the caller's own terminal.
        self.terminal = None;
        if flushed.is_stderr_unread() {
            log::nobody_reads();
        }
        if !flushed.undelivered.is_empty() {
            log::warn("the rest of the output was not read; all of it is recorded");
        }
        log::progress(&format!("view output: fosse logs {id}"));
        let code = if self.undelivered && code == 0 { FAULT } else { code };
        Outcome { code, interrupted, failures: self.failures }
    }

    /// The engine does not do what it must. Nothing is claimed: the record stays as it is, the lock falls, and
    /// whoever finishes the run asks the engine again.
    fn leave_to_others(mut self, failure: Failure) -> Outcome {
        self.terminal = None;
        self.failures.push(failure);
        self.log.sync().ignore();
        Outcome { code: FAULT, interrupted: false, failures: self.failures }
    }

    /// The run never came to be: bad input leaves nothing behind.
    fn discard(mut self, failure: Failure) -> Outcome {
        self.failures.push(failure);
        self.clean_up();
        if let Err(error) = self.owned.discard(self.slot.record()) {
            self.failures.push(Failure::new("removing the run", error));
        }
        Outcome { code: FAULT, interrupted: false, failures: self.failures }
    }
}
