//! Ctrl-C: what an interrupt has ended ends as by an interrupt, so that a shell that waits for it stops as well.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::exec::commands::{exec_cmd, start_box};
use crate::support::init::wrapped;
use crate::support::terminal::Terminal;
use crate::support::{Carrier, on_each_channel};
use crate::support::{
    Client, Engine, Home, INT, TERM, code, kill, on_native, on_native_and_docker, on_native_and_docker_with, processes,
    stdout, wait_until,
};

/// A loop of an interactive bash around a command, and Ctrl-C once the command has written that it is there.
fn loop_ends(home: &Home, command: &Command, out: &str) {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''"))).collect();
    home.write("loop", format!("while :; do {} >>{out}; done\n", words.join(" ")));
    let mut bash = Command::new("bash");
    bash.args(["--norc", "--noprofile", "-i"]).current_dir(home.workspace()).env("PS1", "$ ").env("HISTFILE", "");
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bash.env(name, value),
            None => bash.env_remove(name),
        };
    }
    let mut terminal = Terminal::open(home, &bash);
    terminal.wait_for("$ ");
    terminal.type_in(format!("eval \"$(cat {})\"\r", home.dir.join("loop").display()));
    let said = || std::fs::read_to_string(home.workspace().join(out)).unwrap_or_default();
    wait_until("the command is there", || said() == "up\n");
    terminal.type_in("\x03");
    terminal.wait_for("$ ");
    terminal.type_in("echo \"after-$?\"; exit 0\r");
    terminal.wait_for("after-130");
    assert_eq!(terminal.end().code, 0);
    assert_eq!(said(), "up\n", "it was started once more");
}

#[test]
fn ctrl_c_ends_a_loop_of_bash_around_a_run() {
    on_native_and_docker_with(Carrier::Init, |engine, home| {
        let command = ["sh", "-c", "echo up; exec sleep 1000"];
        loop_ends(home, &home.run_cmd(engine, &[], &command), "out");
        // With the caller's stdin, which is the terminal, and pipes.
        loop_ends(home, &home.run_cmd(engine, &["-i"], &command), "piped");
        let record = home.newest();
        assert_eq!((record["state"].as_str(), record["signal"].as_i64()), (Some("stopped"), Some(2)), "{record}");
    });
}

#[test]
fn ctrl_c_ends_a_loop_of_bash_around_one_more_command() {
    on_native_and_docker_with(Carrier::Init, |engine, home| {
        let _run = start_box(engine, home, &[]);
        loop_ends(home, &exec_cmd(home, &[], &["sh", "-c", "echo up; exec sleep 1000"]), "out");
    });
}

/// After the final record, and when all output is delivered.
#[test]
fn an_interrupt_that_ended_the_command_ends_fosse_last() {
    on_each_channel(|engine, home| {
        let client = Client::spawn(home.run_cmd(engine, &[], &["sh", "-c", "echo ready; exec sleep 1000"]));
        client.wait_for_output("ready\n");
        client.signal(INT);
        let output = client.output();
        assert_eq!(output.status.signal(), Some(INT), "{engine:?} {output:?}");
        let record = home.newest();
        assert_eq!((record["exit_code"].as_i64(), record["signal"].as_i64()), (Some(130), Some(2)), "{record}");
        assert!(!record["stopped_at"].is_null());
        home.assert_nothing_left();
    });
}

/// Whoever says 130 himself has not been interrupted, and neither has one that another signal ended.
#[test]
fn an_exit_with_130_is_an_exit() {
    on_native_and_docker(|engine, home| {
        let script = "trap 'exit 130' INT; echo ready; while :; do sleep 0.05; done";
        let client = Client::spawn(home.run_cmd(engine, &[], &["sh", "-c", script]));
        client.wait_for_output("ready\n");
        client.signal(INT);
        assert_eq!(code(&client.output()), 130, "{engine:?}");
        // Nobody has interrupted this one.
        assert_eq!(code(&home.run(engine, &[], &["sh", "-c", "kill -INT $$"])), 130, "{engine:?}");
        let client = home.start(engine, &[], "trap 'kill -TERM $$' INT; while :; do sleep 0.05; done");
        client.signal(INT);
        assert_eq!(code(&client.output()), 143, "{engine:?}");
        let _run = start_box(engine, home, &[]);
        let client = Client::spawn(exec_cmd(home, &[], &["sh", "-c", script]));
        client.wait_for_output("ready\n");
        client.signal(INT);
        assert_eq!(code(&client.output()), 130, "{engine:?}");
        let client = Client::spawn(exec_cmd(home, &[], &["sh", "-c", "echo up; exec sleep 500"]));
        client.wait_for_output("up\n");
        client.signal(TERM);
        assert_eq!(code(&client.output()), 143, "{engine:?}");
    });
}

/// PID 1 survives a signal that it does nothing about: the code says it all the same.
#[test]
fn as_pid_1_it_is_130() {
    on_native(|home| {
        if home.user.is_some() || !crate::support::init::Place::Pid1.available() {
            return;
        }
        let command = home.run_cmd(Engine::Native, &[], &["sh", "-c", "echo ready; exec sleep 1000"]);
        let client = Client::spawn(wrapped(&command, &["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]));
        client.wait_for_output("ready\n");
        let mut first = None;
        wait_until("fosse is there", || {
            first = processes::children(client.pid()).first().map(|(pid, _)| *pid);
            first.is_some()
        });
        kill(first.unwrap(), INT);
        let output = client.output();
        assert_eq!((code(&output), stdout(&output).as_str()), (130, "ready\n"), "{output:?}");
    });
}
