//! Child programs: whatever one does, a call ends, says what happened, and leaves nothing of it behind.
//!
//! Nothing here waits by the clock. That a program has come somewhere, and that all of its processes are gone, is
//! seen on a FIFO they hold open ([`Witness`]); what must not hang has a limit so generous that only a hang meets it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;
use fosse::base::time::Deadline;
use fosse::base::{env, id};
use fosse::process::{Child, Cmd, Error, Exit, Io, Output, Stdio, call, no_cancel};
use fosse::sys::process::{Pid, PidHandle};
use fosse::sys::signal::{Blocked, Signal};

/// What tells *bounded* from *hangs*: far more than anything here needs, even on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(60);

/// A deadline for programs that are expected to overstay it.
const SHORT: Duration = Duration::from_secs(1);

/// The same for programs that have to come somewhere first.
const ENOUGH: Duration = Duration::from_secs(5);

/// Runs `work` in a thread of its own and fails when it hangs.
fn within<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = channel();
    let thread = thread::spawn(move || sender.send(work()).is_ok());
    match receiver.recv_timeout(LIMIT) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(RecvTimeoutError::Disconnected) => std::panic::resume_unwind(thread.join().unwrap_err()),
    }
}

/// A call that may take as long as [`LIMIT`].
fn run(cmd: Cmd) -> Result<Output, Error> {
    limited(cmd, LIMIT)
}

fn limited(cmd: Cmd, limit: Duration) -> Result<Output, Error> {
    within(move || call(&cmd, Deadline::after(limit), &no_cancel()))
}

/// A shell script and its `$1`, `$2` …
fn sh<A: Into<OsString>>(script: &str, args: impl IntoIterator<Item = A>) -> Cmd {
    Cmd::new("sh").args(["-c", script, "sh"]).args(args.into_iter().map(Into::into))
}

fn sh0(script: &str) -> Cmd {
    sh(script, [""; 0])
}

const PIPES: Io = Io { stdin: Stdio::Null, stdout: Stdio::Pipe, stderr: Stdio::Pipe };

/// A directory that is gone with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("fosse-process-{}", id::random_hex(8).unwrap()));
        fs::create_dir(&dir).unwrap();
        Scratch(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        assert!(run(Cmd::new("mkfifo").args([&path])).unwrap().exit.success());
        path
    }

    /// An executable script. Another process writes it: a descriptor open for writing that some child of another
    /// test inherits for a moment would make executing it fail (ETXTBSY).
    fn program(&self, name: &str, script: &str) -> PathBuf {
        let path = self.path(name);
        let write =
            sh("printf '#!/bin/sh\\n%s\\n' \"$2\" >\"$1\" && chmod 755 \"$1\"", [path.as_os_str(), script.as_ref()]);
        assert!(run(write).unwrap().exit.success());
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

/// A FIFO that the processes under test hold open: it tells when the first of them is there, and when all are gone.
struct Witness {
    path: PathBuf,
    opened: Receiver<()>,
    gone: Receiver<Vec<u8>>,
}

impl Witness {
    fn new(scratch: &Scratch) -> Self {
        let path = scratch.fifo("witness");
        let ((opener, opened), (ender, gone)) = (channel(), channel());
        let fifo = path.clone();
        thread::spawn(move || {
            let mut file = File::open(fifo).unwrap();
            opener.send(()).unwrap();
            let mut said = Vec::new();
            file.read_to_end(&mut said).unwrap();
            ender.send(said)
        });
        Witness { path, opened, gone }
    }

    fn arg(&self) -> [&Path; 1] {
        [&self.path]
    }

    /// Waits until a process holds it.
    fn wait_opened(&self) {
        self.opened.recv_timeout(LIMIT).expect("nothing ever opened the witness");
    }

    /// Waits until no process holds it, and gives what was written to it.
    fn wait_gone(&self) -> Vec<u8> {
        self.gone.recv_timeout(LIMIT).expect("something still lives")
    }
}

/// Processes that left their group, by the numbers in a file; ended with the test however that ends.
struct Escapees(PathBuf);

impl Escapees {
    fn count(&self) -> usize {
        fs::read_to_string(&self.0).unwrap_or_default().lines().count()
    }
}

impl Drop for Escapees {
    fn drop(&mut self) {
        for line in fs::read_to_string(&self.0).unwrap_or_default().lines() {
            let handle = line.parse().ok().and_then(Pid::new).and_then(|pid| PidHandle::open(pid).ok());
            handle.map_or(Ok(()), |handle| handle.signal(Signal::KILL)).unwrap_or_default();
        }
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

// ---- deadlines --------------------------------------------------------------------------------

#[test]
fn d5_d6_a_program_that_sleeps_past_its_deadline_is_ended_and_the_error_says_so() {
    let started = Deadline::never();
    let error = limited(Cmd::new("sleep").args(["1000"]), SHORT).unwrap_err();
    assert!(matches!(error, Error::Deadline { limit: SHORT, .. }), "{error:?}");
    assert!(started.elapsed() >= SHORT, "ended before its time");
}

#[test]
fn d6_a_deadline_that_has_passed_already_ends_a_program_at_once() {
    let error = limited(Cmd::new("sleep").args(["1000"]), Duration::ZERO).unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
}

#[test]
fn d6_a_program_that_ignores_term_is_killed_with_its_children() {
    let scratch = Scratch::new();
    let witness = Witness::new(&scratch);
    let script = "trap '' TERM; exec 9>\"$1\"; while :; do sleep 1000; done";
    let error = limited(sh(script, witness.arg()), ENOUGH).unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
    witness.wait_gone();
}

#[test]
fn d6_a_polite_program_has_time_to_end_itself_after_term() {
    let cleans = || {
        let scratch = Scratch::new();
        let witness = Witness::new(&scratch);
        let script = "exec 9>\"$1\"; trap 'echo cleaned >&9; exit 0' TERM; while :; do sleep 1000 & wait; done";
        let error = limited(sh(script, witness.arg()), ENOUGH).unwrap_err();
        assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
        witness.wait_gone() == b"cleaned\n"
    };
    // On a machine that is busy the time may be over before the shell has its turn.
    assert!((0..5).any(|_| cleans()), "it had no time");
}

#[test]
fn d6_a_stopped_program_is_ended_too() {
    let error = limited(sh0("kill -STOP $$; echo never"), SHORT).unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
}

// ---- grandchildren ----------------------------------------------------------------------------

#[test]
fn d6_what_a_program_leaves_in_its_group_neither_delays_the_call_nor_survives_it() {
    let scratch = Scratch::new();
    let witness = Witness::new(&scratch);
    let output = run(sh("exec 9>\"$1\"; sleep 1000 & echo out; echo err >&2; exit 3", witness.arg())).unwrap();
    assert_eq!((output.exit, text(&output.stdout), text(&output.stderr)), (Exit::Code(3), "out\n", "err\n"));
    witness.wait_gone();
}

/// A program that exits with 4 once each of `count` processes of its, which become `command`, has left the group.
fn escaping(scratch: &Scratch, witness: &Witness, count: usize, command: &str) -> (Cmd, Escapees) {
    let pids = scratch.path("pids");
    // A FIFO for each: one that still has another's writer would read as empty.
    let script = "exec 9>\"$1\"; for fifo in $3; do \
                      mkfifo \"$2.$fifo\"; setsid sh -c 'echo $$ >\"$0\"; exec $1' \"$2.$fifo\" \"$4\" & \
                      read pid <\"$2.$fifo\" && echo $pid >>\"$2\"; \
                  done; echo err >&2; exit 4";
    let numbers = (0..count).map(|number| number.to_string()).collect::<Vec<_>>().join(" ");
    let args = [witness.path.as_os_str(), pids.as_os_str(), numbers.as_ref(), command.as_ref()];
    (sh(script, args), Escapees(pids))
}

#[test]
fn d6_a_process_that_left_the_group_and_holds_the_pipes_does_not_hold_the_call() {
    let scratch = Scratch::new();
    let witness = Witness::new(&scratch);
    let (cmd, escapees) = escaping(&scratch, &witness, 2, "sleep 1000");
    let output = run(cmd).unwrap();
    assert_eq!((output.exit, text(&output.stderr), output.truncated), (Exit::Code(4), "err\n", false));
    assert_eq!(escapees.count(), 2);
    assert!(witness.gone.try_recv().is_err(), "nothing had escaped: this proves nothing");
    drop(escapees);
    witness.wait_gone();
}

#[test]
fn d6_processes_that_left_the_group_and_never_stop_writing_do_not_hold_the_call() {
    // Whether the pipe is ever seen empty is a matter of luck: several calls leave little to it.
    for _ in 0..5 {
        let scratch = Scratch::new();
        let witness = Witness::new(&scratch);
        let (cmd, escapees) = escaping(&scratch, &witness, 8, "cat /dev/zero");
        let output = run(cmd).unwrap();
        assert_eq!((output.exit, escapees.count()), (Exit::Code(4), 8));
        drop(escapees);
        witness.wait_gone();
    }
}

// ---- output -----------------------------------------------------------------------------------

#[test]
fn a_gigabyte_on_both_streams_is_read_to_its_end_in_bounded_memory() {
    helper("flood");
}

/// In a process of its own, whose peak of memory is nobody else's.
fn flood() {
    let before = status_field("/proc/self/status", "VmHWM:").trim_end_matches(" kB").parse::<u64>().unwrap();
    let script = "head -c 1000000000 /dev/zero & head -c 1000000000 /dev/zero >&2 && wait $! && echo last words >&2";
    let output = run(sh0(script)).unwrap();
    let after = status_field("/proc/self/status", "VmHWM:").trim_end_matches(" kB").parse::<u64>().unwrap();
    assert_eq!(output.exit, Exit::Code(0), "it was cut off");
    assert_eq!((output.stdout.len(), output.truncated), (64 << 20, true));
    assert_eq!(output.stderr.len(), 64 << 10);
    assert!(output.stderr.ends_with(b"\0last words\n"));
    assert!(after - before < 200 << 10, "{} kB", after - before);
}

#[test]
fn stdout_is_kept_from_its_start_and_is_marked_only_when_some_is_missing() {
    let whole = run(sh0("head -c 67108863 /dev/zero; echo")).unwrap();
    assert_eq!((whole.stdout.len(), whole.stdout.last(), whole.truncated), (64 << 20, Some(&b'\n'), false));
    let more = run(sh0("echo first; head -c 67108864 /dev/zero")).unwrap();
    assert_eq!((more.exit, more.stdout.len(), more.truncated), (Exit::Code(0), 64 << 20, true));
    assert!(more.stdout.starts_with(b"first\n\0"));
}

#[test]
fn x11_bytes_arrive_as_they_were_written_on_the_stream_they_were_written_to() {
    let scratch = Scratch::new();
    let bytes: Vec<u8> = (0..=255_u8).cycle().take(300_000).collect();
    fs::write(scratch.path("bytes"), &bytes).unwrap();
    let output = run(sh("cat \"$1\"; tail -c 256 \"$1\" >&2", [scratch.path("bytes")])).unwrap();
    assert_eq!(output.stdout, bytes);
    assert_eq!(output.stderr, bytes[bytes.len() - 256..]);
    let complaint = output.complaint();
    assert!(!complaint.is_empty() && !complaint.contains(char::is_control), "{complaint:?}");
}

#[test]
fn a_program_without_output_leaves_none() {
    let output = run(Cmd::new("true")).unwrap();
    assert_eq!(output, Output { exit: Exit::Code(0), stdout: vec![], stderr: vec![], truncated: false });
}

#[test]
fn x5_an_end_of_output_is_not_an_end_of_the_program() {
    let scratch = Scratch::new();
    let (closed, go) = (Witness::new(&scratch), scratch.fifo("go"));
    let script = "echo out; exec >&- 2>&-; echo closed >\"$1\"; read word <\"$2\"; exit 7";
    let cmd = sh(script, [closed.path.clone(), go.clone()]);
    let call = thread::spawn(move || run(cmd));
    assert_eq!(closed.wait_gone(), b"closed\n");
    // Opening it takes until the program reads: it got there although its output had ended.
    within(move || fs::OpenOptions::new().write(true).open(go)?.write_all(b"go\n")).unwrap();
    let output = call.join().unwrap().unwrap();
    assert_eq!((output.exit, text(&output.stdout)), (Exit::Code(7), "out\n"));
}

#[test]
fn stdin_is_empty_whatever_this_process_has_there() {
    let exit = within(|| {
        let io = Io { stdin: Stdio::Pipe, ..PIPES };
        let mut helper = Child::spawn(&helper_cmd("stdin", Path::new("")), io).unwrap();
        // Held open and not empty: a child that had it would read this, and then wait.
        let mut ours = File::from(helper.stdin.take().unwrap());
        ours.write_all(b"not for children").unwrap();
        let exit = helper.reap();
        drop(ours);
        exit
    });
    assert_eq!(exit, Exit::Code(0));
}

fn stdin() {
    let output = run(sh0("cat; echo $?")).unwrap();
    assert_eq!(text(&output.stdout), "0\n");
}

// ---- how it ended -----------------------------------------------------------------------------

#[test]
fn x5_e1_every_exit_code_is_exact_with_sixteen_calls_at_once() {
    let threads: Vec<_> = (0..16_u8)
        .map(|thread| {
            thread::spawn(move || {
                for code in (0..=255_u8).filter(|code| code % 16 == thread) {
                    let output = run(sh("echo $1; exit $1", [code.to_string()])).unwrap();
                    assert_eq!((output.exit, text(&output.stdout)), (Exit::Code(code), &*format!("{code}\n")));
                    assert_eq!((output.exit.code(), output.exit.success()), (code, code == 0));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn x5_death_by_a_signal_is_told_apart_from_an_exit_code() {
    // Those that do not end a process, and those that this one ignores: a shell cannot change that (nohup(1)).
    let ignored = u64::from_str_radix(&status_field("/proc/thread-self/status", "SigIgn:"), 16).unwrap();
    let ends = |signal: &u8| {
        !(17..=23).contains(signal) && *signal != 28 && ((ignored >> (signal - 1)) & 1 == 0 || *signal == 13)
    };
    let signals: Vec<u8> = (1..=31).filter(ends).collect();
    assert!([6, 9, 11, 13, 15].iter().all(|signal| signals.contains(signal)), "{signals:?}");
    for signal in signals {
        let output = run(sh("ulimit -c 0; kill -$1 $$; exit 99", [signal.to_string()])).unwrap();
        assert_eq!(output.exit, Exit::Signal(signal));
        assert_eq!(output.exit.code(), 128 + signal);
        let shell = run(sh(&format!("exit {}", 128 + u32::from(signal)), [""; 0])).unwrap();
        assert_eq!(shell.exit, Exit::Code(128 + signal));
    }
}

#[test]
fn a_program_that_cannot_be_started_is_an_error_that_says_why() {
    let scratch = Scratch::new();
    fs::write(scratch.path("plain"), "not a program").unwrap();
    let cases = [
        (PathBuf::from("fosse-no-such-program"), true, "fosse-no-such-program verb: cannot be started: No such file"),
        (scratch.path("none"), true, "none verb: cannot be started: No such file or directory"),
        (scratch.path("plain"), false, "plain verb: cannot be started: Permission denied"),
        (scratch.0.clone(), false, "cannot be started: Permission denied"),
        (scratch.path("plain/x"), false, "x verb: cannot be started: Not a directory"),
        (PathBuf::new(), true, "cannot be started: No such file or directory"),
        (PathBuf::from("a\0b"), false, "cannot be started"),
    ];
    for (program, missing, says) in cases {
        let error = run(Cmd::new(&program).args(["verb", "s3cret"])).unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, Error::Start { .. }), "{error:?}");
        assert_eq!(error.is_missing(), missing, "{said}");
        assert!(said.contains(says) && !said.contains("s3cret"), "{said}");
    }
}

// ---- cancelling -------------------------------------------------------------------------------

#[test]
fn d6_dropping_the_sender_ends_the_call_and_every_process_of_it() {
    let scratch = Scratch::new();
    let witness = Witness::new(&scratch);
    let cmd = sh("trap '' TERM; sleep 1000 9>\"$1\" & while :; do sleep 1000; done", witness.arg());
    let (keep, cancel) = bounded(0);
    let call = thread::spawn(move || within(move || call(&cmd, Deadline::never(), &cancel)));
    witness.wait_opened();
    drop(keep);
    let error = call.join().unwrap().unwrap_err();
    assert!(matches!(error, Error::Cancelled { .. }), "{error:?}");
    witness.wait_gone();
}

#[test]
fn d6_what_was_cancelled_before_it_began_ends_at_once() {
    let (keep, cancel) = bounded(0);
    drop(keep);
    let error = within(move || call(&Cmd::new("sleep").args(["1000"]), Deadline::never(), &cancel)).unwrap_err();
    assert_eq!(error.to_string(), "sleep 1000: cancelled");
}

// ---- what a child inherits --------------------------------------------------------------------

/// The value of a line of proc_pid_status(5).
fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
}

fn status_field(path: &str, name: &str) -> String {
    field(&fs::read_to_string(path).unwrap(), name)
}

#[test]
fn blocked_signals_and_an_ignored_broken_pipe_do_not_reach_a_child() {
    let (own, child) = within(|| {
        Blocked::new(&[Signal::INT, Signal::TERM, Signal::USR1, Signal::PIPE]).unwrap();
        let own = fs::read_to_string("/proc/thread-self/status").unwrap();
        (own, call(&Cmd::new("cat").args(["/proc/self/status"]), Deadline::after(LIMIT), &no_cancel()))
    });
    let child = child.unwrap();
    let bits = |status: &str, name: &str| u64::from_str_radix(&field(status, name), 16).unwrap();
    let pipe = 1 << (Signal::PIPE.number() - 1);
    assert_ne!(bits(&own, "SigBlk:"), 0, "nothing was blocked: this proves nothing");
    assert_ne!(bits(&own, "SigIgn:") & pipe, 0, "it was not ignored: this proves nothing");
    assert_eq!(bits(text(&child.stdout), "SigBlk:"), 0);
    // What was ignored when fosse started stays so.
    assert_eq!(bits(text(&child.stdout), "SigIgn:"), bits(&own, "SigIgn:") & !pipe);
}

#[test]
fn no_descriptor_of_ours_leaks_into_a_child() {
    helper("descriptors");
}

/// In a process of its own, so that no other test opens anything meanwhile.
fn descriptors() {
    let is_inherited = |fd: &u32| {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        // Octal; the bit is O_CLOEXEC. The descriptor that read the directory is gone by now.
        flags.is_some_and(|flags| u32::from_str_radix(flags.trim(), 8).unwrap() & 0o2_000_000 == 0)
    };
    let all = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().file_name());
    let all: Vec<u32> = all.map(|name| name.to_str().unwrap().parse().unwrap()).collect();
    let inherited: Vec<u32> = all.into_iter().filter(is_inherited).collect();
    let ours = (File::open("/dev/null").unwrap(), fosse::sys::fd::pipe().unwrap(), UnixStream::pair().unwrap());
    // A second child with a pipe for each of its streams.
    let io = Io { stdin: Stdio::Pipe, ..PIPES };
    let mut other = Child::spawn(&Cmd::new("cat"), io).unwrap();
    let output = run(Cmd::new("ls").args(["-l", "/proc/self/fd"])).unwrap();
    let listed = text(&output.stdout).lines().filter_map(|line| line.split_once(" -> "));
    // `ls` itself reads the directory through one.
    let listed: Vec<_> = listed.filter(|(_, target)| !target.starts_with("/proc/")).collect();
    assert!(listed.len() >= 3, "{listed:?}");
    for (line, target) in listed {
        let number = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(number <= 2 || inherited.contains(&number), "{number} -> {target}");
    }
    drop(ours);
    let stdin: Option<OwnedFd> = other.stdin.take();
    drop(stdin);
    assert_eq!(within(move || other.reap()), Exit::Code(0));
}

// ---- the death of the parent ------------------------------------------------------------------

#[test]
fn d3_a_child_dies_with_its_parent_however_that_dies() {
    let scratch = Scratch::new();
    let witness = Witness::new(&scratch);
    let path = witness.path.clone();
    let exit = within(move || {
        let mut parent = Child::spawn(&helper_cmd("parent", &path), PIPES).unwrap();
        witness.wait_opened();
        // Its child has a group of its own, which this signal does not reach.
        parent.signal(Signal::KILL);
        let exit = parent.reap();
        witness.wait_gone();
        exit
    });
    assert_eq!(exit, Exit::Signal(9));
}

fn parent(witness: &Path) {
    let cmd = sh("exec 9>\"$1\"; exec sleep 1000", [witness]);
    let child = Child::spawn(&cmd, PIPES).unwrap();
    child.ended().recv().map_or_else(drop, |never| match never {});
    panic!("the child ended before its parent");
}

// ---- what errors say --------------------------------------------------------------------------

#[test]
fn d6_an_error_names_program_verb_limit_and_the_last_words_and_never_an_argument_or_a_value() {
    let scratch = Scratch::new();
    let witness = Witness::new(&scratch);
    let script = "exec 9>\"$FIFO\"; echo first >&2; printf '  last \\033[2J words\\r\\n\\n' >&2; exec sleep 1000";
    let mut cmd = Cmd::new(scratch.program("engine", script)).args(["--quiet", "inspect", "--token", "s3cret"]);
    cmd.env = vec![("FIFO".into(), witness.path.clone().into()), ("SECRET".into(), "s3cret".into())];
    let late = limited(cmd.clone(), ENOUGH).unwrap_err();
    witness.wait_gone();
    let said = "engine: no answer within 5s and killed (it said: first; last ?[2J words)";
    assert_eq!(late.to_string(), said);

    let (keep, cancel) = bounded(0);
    drop(keep);
    let cancelled = within(move || call(&cmd, Deadline::never(), &cancel)).unwrap_err();
    assert_eq!(cancelled.to_string(), "engine: cancelled");
    for error in [late, cancelled] {
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
    }
}

#[test]
fn variables_reach_the_program_beside_those_of_this_process() {
    let mut cmd = sh0("echo \"$FOSSE_TEST_VALUE\"; test -n \"$PATH\"");
    cmd.env = vec![("FOSSE_TEST_VALUE".into(), "a b".into())];
    let output = run(cmd).unwrap();
    assert_eq!((output.exit, text(&output.stdout)), (Exit::Code(0), "a b\n"));
}

// ---- children that are held -------------------------------------------------------------------

/// Starts a program in the thread that goes on to hold it: it would not outlive another one.
fn hold<T: Send + 'static>(cmd: Cmd, work: impl FnOnce(Child) -> T + Send + 'static) -> T {
    within(move || work(Child::spawn(&cmd, PIPES).unwrap()))
}

#[test]
fn d7_terminate_gives_a_grace_and_then_kills_the_whole_group() {
    let scratch = Scratch::new();
    let polite = Witness::new(&scratch);
    let cmd = sh("trap 'exit 5' TERM; exec 9>\"$1\"; while :; do sleep 1000 & wait; done", polite.arg());
    let exit = hold(cmd, move |mut child| {
        polite.wait_opened();
        let exit = child.terminate(LIMIT);
        polite.wait_gone();
        exit
    });
    assert_eq!(exit, Exit::Code(5));

    let scratch = Scratch::new();
    let stubborn = Witness::new(&scratch);
    let cmd = sh("trap '' TERM; exec 9>\"$1\"; while :; do sleep 1000; done", stubborn.arg());
    let exit = hold(cmd, move |mut child| {
        stubborn.wait_opened();
        let exit = child.terminate(Duration::ZERO);
        stubborn.wait_gone();
        exit
    });
    assert_eq!(exit, Exit::Signal(9));
}

#[test]
fn d7_terminate_ends_a_stopped_program_by_term() {
    let exit = hold(Cmd::new("sleep").args(["1000"]), move |mut child| {
        child.signal(Signal::STOP);
        // Only once it is seen to have stopped does TERM have to wait for CONT.
        let stat = format!("/proc/{}/stat", child.pid());
        let patience = Deadline::after(LIMIT);
        while !fs::read_to_string(&stat).unwrap().contains(") T ") {
            assert!(!patience.expired(), "it never stopped");
            thread::yield_now();
        }
        child.terminate(LIMIT / 2)
    });
    assert_eq!(exit, Exit::Signal(15));
}

#[test]
fn d3_a_child_that_is_dropped_is_dead_and_reaped_with_its_group() {
    let scratch = Scratch::new();
    let witness = Witness::new(&scratch);
    let cmd = sh("sleep 1000 9>\"$1\" & wait", witness.arg());
    hold(cmd, move |child| {
        witness.wait_opened();
        let process = PathBuf::from(format!("/proc/{}", child.pid()));
        assert!(process.exists());
        drop(child);
        assert!(!process.exists(), "it was not reaped");
        witness.wait_gone();
    });
}

#[test]
fn e2_the_end_is_told_before_the_child_is_reaped_and_reaping_twice_gives_the_same() {
    hold(sh0("exit 6"), |mut child| {
        child.ended().recv_timeout(LIMIT).map_or_else(drop, |never| match never {});
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.pid())).expect("it was reaped");
        assert!(stat.contains(") Z "), "{stat}");
        assert_eq!((child.reap(), child.reap(), child.terminate(LIMIT)), (Exit::Code(6), Exit::Code(6), Exit::Code(6)));
        child.signal(Signal::KILL);
        assert!(!Path::new(&format!("/proc/{}", child.pid())).exists());
    });
}

// ---- parts that need a process of their own ---------------------------------------------------

const ROLE: &str = "FOSSE_TEST_ROLE";
const ARGUMENT: &str = "FOSSE_TEST_ARGUMENT";

fn helper_cmd(role: &str, argument: &Path) -> Cmd {
    let args = ["--exact", "source::process::in_a_process_of_its_own", "--ignored", "--nocapture", "--test-threads=1"];
    let mut cmd = Cmd::new(std::env::current_exe().unwrap()).args(args);
    cmd.env = vec![(ROLE.into(), role.into()), (ARGUMENT.into(), argument.into())];
    cmd
}

/// Runs a role of [`in_a_process_of_its_own`] to its end.
fn helper(role: &str) {
    let output = run(helper_cmd(role, Path::new(""))).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.exit.success() && said.contains("1 passed"), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "other tests start it"]
fn in_a_process_of_its_own() {
    let role = env::get(ROLE).unwrap_or_default();
    match role.to_str() {
        Some("flood") => flood(),
        Some("stdin") => stdin(),
        Some("descriptors") => descriptors(),
        Some("parent") => parent(Path::new(&env::get(ARGUMENT).unwrap())),
        // `cargo test -- --include-ignored`
        _ => assert!(role.is_empty(), "{role:?}"),
    }
}
