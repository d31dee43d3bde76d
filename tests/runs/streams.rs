//! What a command writes: every byte, on its stream, on the caller's and in the record, whoever reads or not.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use crate::support::disk::TinyDisk;
use crate::support::{
    Client, TERM, code, finish, on_each_engine, on_native_and_docker, repeat, repeat_on, stderr, stdout, wait_until,
};

/// X4: the output of the fastest command is complete, and written once.
#[test]
fn x4_the_fastest_command_loses_no_byte_and_doubles_none() {
    on_each_engine(|engine, home| {
        let commands: [(&[&str], &[u8]); 3] = [(&["true"], b""), (&["echo", "x"], b"x\n"), (&["printf", "x"], b"x")];
        let rounds = repeat_on(engine, 100);
        let next = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while next.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < rounds {
                        for (command, wanted) in commands {
                            let name = format!("fast-{}", fosse::base::id::random_hex(6).unwrap());
                            let output =
                                home.run(engine, &["-n", &name, "--no-workspace", "--network", "none"], command);
                            assert_eq!((code(&output), &output.stdout[..], &output.stderr[..]), (0, wanted, &b""[..]));
                            assert_eq!(home.logs(&name).stdout, wanted, "{engine:?} {command:?}");
                        }
                    }
                });
            }
        });
    });
}

#[test]
fn x11_streams_are_apart_and_exact_binary_and_long_lines_included() {
    on_each_engine(|engine, home| {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let line = [vec![b'l'; 1 << 20], b"\n".to_vec()].concat();
        home.write("ws/binary", &bytes);
        home.write("ws/line", &line);
        let script = "cat binary; cat line >&2; cat line line; printf end >&2";
        let output = home.run(engine, &[], &["sh", "-c", script]);
        let (out, err) = ([&bytes[..], &line, &line].concat(), [&line[..], b"end"].concat());
        assert!(output.stdout == out, "{engine:?}: {} bytes on stdout", output.stdout.len());
        assert!(output.stderr == err, "{engine:?}: {} bytes on stderr", output.stderr.len());
        let logs = home.logs(&home.newest_id());
        assert!(logs.stdout == out && logs.stderr == err, "{engine:?}: the record differs");
        assert_eq!(home.newest()["log_bytes"], out.len() + err.len());
    });
}

#[test]
fn a_reader_that_goes_away_ends_the_command_by_sigpipe() {
    on_each_engine(|engine, home| {
        let mut command = home.run_cmd(engine, &[], &["yes"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 2];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        // The pipe is closed now, with the command still writing.
        let output = child.wait_with_output().unwrap();
        assert_eq!((code(&output), &first, stderr(&output).as_str()), (141, b"y\n", ""), "{engine:?}");
        assert_eq!(home.newest()["exit_code"], 141);
        home.assert_nothing_left();
    });
}

#[test]
fn a_closed_stdout_does_not_disturb_the_command() {
    on_native_and_docker(|engine, home| {
        let script = format!(r#""$0" run {} -- sh -c 'echo lost; exit 3' >&-"#, engine.options().join(" "));
        let mut command = Command::new("sh");
        command.args(["-c", &script]).arg(home.program()).current_dir(home.workspace());
        home.belongs(&mut command);
        for (name, value) in home.cmd([""; 0]).get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        assert_eq!(code(&finish_raw(command)), 3);
        assert_eq!(stdout(&home.logs(&home.newest_id())), "lost\n");
    });
}

/// Without the pipes that the other tests read from.
fn finish_raw(mut command: Command) -> std::process::Output {
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn output_that_cannot_be_delivered_is_said_and_is_in_the_record() {
    on_native_and_docker(|engine, home| {
        let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
        // Its end may be known before the write has failed, or after.
        for _ in 0..repeat(10) {
            let mut command = home.run_cmd(engine, &[], &["echo", "kept"]);
            assert_eq!(command.stdout(full()).stderr(Stdio::null()).status().unwrap().code(), Some(125));
        }
        let mut command = home.run_cmd(engine, &[], &["echo", "kept"]);
        let output = command.stdout(full()).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        assert_eq!(code(&output), 125, "lost output is no success");
        assert!(stderr(&output).starts_with("fosse: writing the command's stdout failed: No space left"), "{output:?}");
        assert_eq!(home.newest()["exit_code"], 0, "the command itself did not fail");
        assert_eq!(stdout(&home.logs(&home.newest_id())), "kept\n");
    });
}

/// A pipe whose reading end is open and never read.
fn unread_pipe() -> (OwnedFd, OwnedFd) {
    fosse::sys::fd::pipe().unwrap()
}

#[test]
fn a_caller_that_does_not_read_delays_neither_timeout_nor_stop_nor_record() {
    on_each_engine(|engine, home| {
        let (_reader, writer) = unread_pipe();
        let mut command = home.run_cmd(engine, &["--timeout", "1s", "--grace", "1s"], &["yes"]);
        let status = command.stdout(writer).stderr(Stdio::null()).spawn().unwrap().wait().unwrap();
        assert_eq!(status.code(), Some(124), "{engine:?}");
        let (_reader, writer) = unread_pipe();
        let mut command = home.run_cmd(engine, &["-n", "unread"], &["yes"]);
        let mut client = command.stdout(writer).stderr(Stdio::null()).spawn().unwrap();
        wait_until("it runs", || home.list().iter().any(|run| run["name"] == "unread" && run["state"] == "running"));
        assert_eq!(code(&home.fosse(["stop", "--grace", "2s", "unread"])), 0);
        assert_eq!(home.newest()["state"], "stopped", "{engine:?}");
        client.wait().unwrap();
        home.assert_nothing_left();
    });
}

#[test]
fn a_reader_that_is_slow_gets_everything() {
    on_native_and_docker(|engine, home| {
        let mut command = home.run_cmd(engine, &[], &["seq", "40000"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut pipe = child.stdout.take().unwrap();
        // The run is over long before its output has been read: it is more than the caller's pipe holds.
        wait_until("it has ended", || home.list().first().is_some_and(|run| run["state"] == "stopped"));
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(text.lines().count(), 40_000);
        assert!(text.ends_with("40000\n"));
    });
}

#[test]
fn a_non_blocking_stdout_of_somebody_elses_making_loses_nothing() {
    on_native_and_docker(|engine, home| {
        let (reader, writer) = fosse::sys::fd::pipe().unwrap();
        assert!(make_nonblocking(&writer), "the pipe could not be made non-blocking");
        let mut command = home.run_cmd(engine, &[], &["seq", "100000"]);
        let mut child = command.stdout(writer).stderr(Stdio::null()).spawn().unwrap();
        drop(command);
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!((child.wait().unwrap().code(), text.lines().count()), (Some(0), 100_000));
    });
}

/// std has a safe way only for sockets; perl has one for the file that a pipe shares.
fn make_nonblocking(fd: &OwnedFd) -> bool {
    let copy = fd.try_clone().unwrap();
    let program = "use Fcntl; my $f = fcntl(STDOUT, F_GETFL, 0); fcntl(STDOUT, F_SETFL, $f | O_NONBLOCK) or die";
    Command::new("perl").args(["-e", program]).stdout(copy).status().is_ok_and(|status| status.success())
}

#[test]
fn the_record_of_output_is_bounded_and_says_so() {
    on_each_engine(|engine, home| {
        let output = home.run(engine, &["--log-max", "1m"], &["dd", "if=/dev/zero", "bs=64k", "count=100"]);
        assert_eq!((code(&output), output.stdout.len()), (0, 100 << 16), "the caller gets all of it");
        let record = home.newest();
        assert_eq!(record["log_truncated"], true);
        let file = home.state().join("runs").join(record["id"].as_str().unwrap()).join("output.log");
        assert!(fs::metadata(file).unwrap().len() <= 1 << 20);
        let logs = home.logs(record["id"].as_str().unwrap());
        assert!(stderr(&logs).contains("more was written than is recorded"), "{:?}", stderr(&logs));
        // The cap was reached before dd wrote its report to stderr.
        assert_eq!(record["log_bytes"], logs.stdout.len());
    });
}

/// A full disk under the record: the run is unharmed, and its end is recorded all the same.
#[test]
fn a_full_disk_under_the_log_never_ends_the_run() {
    on_native_and_docker(|engine, home| {
        let state = home.state();
        fs::create_dir(&state).unwrap();
        let Some(_mount) = TinyDisk::mount(&state, "1m") else { return };
        home.give(&state);
        let output = home.run(engine, &[], &["sh", "-c", "dd if=/dev/zero bs=64k count=64; exit 5"]);
        assert_eq!((code(&output), output.stdout.len()), (5, 64 << 16), "{}", stderr(&output));
        assert!(stderr(&output).contains("fosse: recording the output failed: No space left"), "{output:?}");
        let record = home.newest();
        assert_eq!(
            (record["exit_code"].as_i64(), record["log_truncated"].as_bool()),
            (Some(5), Some(true)),
            "{record}"
        );
        // And one that is full before the run even starts is an error in words.
        fs::write(state.join("filler"), vec![0; 1 << 20]).unwrap_or_default();
        let output = home.run(engine, &[], &["true"]);
        assert_eq!(code(&output), 125);
        assert!(stderr(&output).contains("No space left"), "{output:?}");
        fs::remove_file(state.join("filler")).unwrap();
        home.assert_nothing_left();
        assert_eq!(code(&home.fosse(["clean"])), 0);
    });
}

/// `logs -f` shows what comes, and ends with the run, never before its last byte.
#[test]
fn following_ends_with_the_run_and_never_before_its_last_byte() {
    on_each_engine(|engine, home| {
        let mut command =
            home.run_cmd(engine, &["-i", "-n", "followed"], &["sh", "-c", "echo ready; cat; printf last"]);
        command.stdin(Stdio::piped());
        let mut client = Client::spawn(command);
        client.wait_for_output("ready");
        let followers: Vec<Client> = (0..3).map(|_| Client::spawn(home.cmd(["logs", "-f", "followed"]))).collect();
        let mut stdin = client.stdin();
        for number in 0..20 {
            writeln!(stdin, "line {number}").unwrap();
            for follower in &followers {
                follower.wait_for_output(&format!("line {number}\n"));
            }
        }
        drop(stdin);
        let wanted = client.output().stdout;
        for follower in followers {
            let output = follower.output();
            assert_eq!((code(&output), &output.stdout), (0, &wanted), "{engine:?}");
        }
    });
}

/// A child that does not outlive its test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        self.0.wait().map_or_else(drop, drop);
    }
}

#[test]
fn a_stderr_that_nobody_reads_does_not_delay_a_stop() {
    on_native_and_docker(|engine, home| {
        for script in ["yes >&2", "yes"] {
            let (_reader, writer) = unread_pipe();
            let mut command = home.run_cmd(engine, &["--grace", "20s"], &["sh", "-c", script]);
            // The second has both streams in the same pipe.
            let stdout = if script == "yes" { writer.try_clone().unwrap().into() } else { Stdio::null() };
            let mut child = Killed(command.stdout(stdout).stderr(writer).spawn().unwrap());
            drop(command);
            wait_until("it runs", || home.list().first().is_some_and(|run| run["state"] == "running"));
            crate::support::kill(i32::try_from(child.0.id()).unwrap(), TERM);
            wait_until("it ends", || child.0.try_wait().unwrap().is_some());
            assert_eq!(child.0.wait().unwrap().code(), Some(143));
            assert_eq!(home.newest()["state"], "stopped");
        }
    });
}

/// The order of the record is the order of arrival: the caller can stop reading and read later.
#[test]
fn what_the_caller_has_seen_is_in_the_record() {
    on_native_and_docker(|engine, home| {
        let client = home.start(engine, &[], "sleep 1000");
        assert_eq!(stdout(&home.logs(&home.newest_id())), "ready\n");
        client.signal(TERM);
        finish(home.cmd(["wait", &home.newest_id()]));
        client.output();
    });
}
