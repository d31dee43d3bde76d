//! Whom of a command a signal reaches, on everything that can carry a run: the command alone, as kill(1) and docker send
//! it, or its process group, as a terminal does; and with which signal a run is asked to end.

use crate::exec::commands::{exec_cmd, start_box};
use crate::support::{Carrier, IMAGE};
use crate::support::{
    Client, Engine, Home, INT, QUIT, TERM, code, on_each_engine, on_each_real_engine, on_native, on_native_and_docker,
    one_release, shell_code, stderr, stdout, wait_until,
};

const PWR: i32 = 30;

/// A shell that has a child in its own group, tells that it was asked to end, and then how that child ended: by itself,
/// when the file `go` is there, or by a signal that was not for it.
const PARENT: &str = "trap 'echo asked' TERM HUP USR1
    sh -c 'until [ -e /workspace/go ]; do sleep 0.05; done; exit 7' & child=$!
    echo ready; wait $child; wait $child; code=$?; [ $code = 7 ] && exit 0; echo child $code; exit 1";

/// The end of such a shell that has been asked.
fn let_go(home: &Home, engine: Engine, client: Client) {
    client.wait_for_output("asked\n");
    std::fs::write(home.workspace().join("go"), "").unwrap();
    let output = client.output();
    assert_eq!((code(&output), stdout(&output).as_str()), (0, "ready\nasked\n"), "{engine:?} {output:?}");
    std::fs::remove_file(home.workspace().join("go")).unwrap();
}

fn parent(home: &Home, engine: Engine, options: &[&str]) -> Client {
    let options = [&["--grace", "1h"], options].concat();
    let client = Client::spawn(home.run_cmd(engine, &options, &["sh", "-c", PARENT]));
    client.wait_for_output("ready\n");
    client
}

#[test]
fn a_shell_with_a_trap_and_a_child_ends_as_its_trap_says() {
    on_each_engine(|engine, home| {
        let client = parent(home, engine, &[]);
        client.signal(TERM);
        let_go(home, engine, client);
        assert_eq!(home.newest()["reason"], "stopped");
        let client = parent(home, engine, &["-n", "asked"]);
        let stop = Client::spawn(home.cmd(["stop", "-q", "asked"]));
        let_go(home, engine, client);
        assert_eq!(code(&stop.output()), 0, "{engine:?}");
        home.assert_nothing_left();
    });
}

#[test]
fn a_time_out_is_for_the_command_alone() {
    on_native_and_docker(|engine, home| {
        let client = Client::spawn(home.run_cmd(
            engine,
            &["--grace", "1h", "--timeout", "2s"],
            &["sh", "-c", &PARENT.replace("exit 0", "echo alone; exit 0")],
        ));
        client.wait_for_output("asked\n");
        std::fs::write(home.workspace().join("go"), "").unwrap();
        let output = client.output();
        assert_eq!((code(&output), stdout(&output).as_str()), (124, "ready\nasked\nalone\n"), "{engine:?} {output:?}");
    });
}

/// The same for one more command, by a signal and by its time.
#[test]
fn one_more_command_alone_hears_term_too() {
    on_each_engine(|engine, home| {
        let _run = start_box(engine, home, &["--grace", "1h"]);
        let client = Client::spawn(exec_cmd(home, &[], &["sh", "-c", PARENT]));
        client.wait_for_output("ready\n");
        client.signal(TERM);
        let_go(home, engine, client);
        let script = PARENT.replace("exit 0", "echo alone; exit 0");
        let client = Client::spawn(exec_cmd(home, &["--timeout", "2s"], &["sh", "-c", &script]));
        client.wait_for_output("asked\n");
        std::fs::write(home.workspace().join("go"), "").unwrap();
        let output = client.output();
        assert_eq!((code(&output), stdout(&output).as_str()), (124, "ready\nasked\nalone\n"), "{engine:?} {output:?}");
    });
}

/// A shell that waits for a child in the foreground: only if that hears the signal, too, both end.
const FOREGROUND: &str = "trap 'echo shell' INT QUIT
    sh -c 'trap \"echo child; exit 5\" INT QUIT; echo ready; while :; do sleep 0.05; done'; exit $?";

#[test]
fn int_and_quit_reach_the_whole_group() {
    on_each_engine(|engine, home| {
        for signal in [INT, QUIT] {
            let client = Client::spawn(home.run_cmd(engine, &["--grace", "1h"], &["sh", "-c", FOREGROUND]));
            client.wait_for_output("ready\n");
            client.signal(signal);
            let output = client.output();
            assert_eq!(
                (code(&output), stdout(&output).as_str()),
                (5, "ready\nchild\nshell\n"),
                "{engine:?} {output:?}"
            );
        }
        let _run = start_box(engine, home, &["--grace", "1h"]);
        let client = Client::spawn(exec_cmd(home, &[], &["sh", "-c", FOREGROUND]));
        client.wait_for_output("ready\n");
        client.signal(INT);
        let output = client.output();
        assert_eq!((code(&output), stdout(&output).as_str()), (5, "ready\nchild\nshell\n"), "{engine:?} {output:?}");
    });
}

/// What the two carriers of an engine do where the host shows nothing of the command: a shell of the image does it.
#[test]
fn the_group_is_found_from_inside() {
    on_each_real_engine(|engine, home| {
        // As for a user who may not signal what the engine has started.
        if home.carrier == Carrier::Init || engine == Engine::Podman {
            return;
        }
        let command = home.run_cmd(engine, &["--grace", "1h"], &["sh", "-c", FOREGROUND]);
        let hidden = crate::support::init::wrapped(&command, &["unshare", "--pid", "--fork", "--mount-proc"]);
        let client = Client::spawn(hidden);
        client.wait_for_output("ready\n");
        let mut fosse = None;
        wait_until("fosse is there", || {
            fosse = crate::support::processes::children(client.pid()).first().map(|(pid, _)| *pid);
            fosse.is_some()
        });
        crate::support::kill(fosse.unwrap(), INT);
        let output = client.output();
        assert_eq!((code(&output), stdout(&output).as_str()), (5, "ready\nchild\nshell\n"), "{output:?}");
    });
}

#[test]
fn pwr_is_passed_on_and_ends_nothing_by_itself() {
    let script = "trap 'echo power' PWR; trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    on_each_engine(|engine, home| {
        let client = Client::spawn(home.run_cmd(engine, &[], &["sh", "-c", script]));
        client.wait_for_output("ready\n");
        client.signal(PWR);
        client.wait_for_output("power\n");
        client.signal(TERM);
        assert_eq!(code(&client.output()), 3, "{engine:?}");
        let _run = start_box(engine, home, &[]);
        let client = Client::spawn(exec_cmd(home, &[], &["sh", "-c", script]));
        client.wait_for_output("ready\n");
        client.signal(PWR);
        client.wait_for_output("power\n");
        client.signal(TERM);
        assert_eq!(code(&client.output()), 3, "{engine:?}");
    });
}

// ---- the signal that asks for the end ---------------------------------------------------------

#[test]
fn a_stop_signal_that_was_chosen_is_the_first_word() {
    on_each_engine(|engine, home| {
        let client = parent(home, engine, &["--stop-signal", "SIGUSR1", "-n", "asked"]);
        assert_eq!(home.newest()["stop_signal"], 10);
        let stop = Client::spawn(home.cmd(["stop", "-q", "asked"]));
        let_go(home, engine, client);
        assert_eq!(code(&stop.output()), 0, "{engine:?}");
    });
    on_native(|home| {
        let script = "trap 'exit 4' QUIT; trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done";
        let mut command = home.run_cmd(Engine::Native, &["-n", "asked"], &["sh", "-c", script]);
        command.env("FOSSE_STOP_SIGNAL", "3");
        let client = Client::spawn(command);
        client.wait_for_output("ready\n");
        assert_eq!(code(&home.fosse(["stop", "-q", "asked"])), 0);
        assert_eq!(code(&client.output()), 4);
        home.write("home/.config/fosse/config.json", r#"{"stop_signal": "QUIT"}"#);
        let script = script.replace("exit 4", "echo quit; exit 4");
        let client = Client::spawn(home.run_cmd(Engine::Native, &["--timeout", "1s"], &["sh", "-c", &script]));
        let output = client.output();
        assert_eq!((code(&output), stdout(&output).as_str()), (124, "ready\nquit\n"), "{output:?}");
        for wrong in ["0", "32", "TERMINATE", ""] {
            let output = home.run(Engine::Native, &["--stop-signal", wrong], &["true"]);
            assert!(code(&output) == 125 && stderr(&output).contains("RTMIN+3"), "{wrong:?} {output:?}");
        }
    });
}

/// The first word is for the command alone, whatever signal it is; the same signal to the client is for the group.
#[test]
fn a_stop_signal_that_a_terminal_has_too_is_for_the_command_alone() {
    // In the background a shell has its children ignore it.
    let script = PARENT.replace("USR1", "INT").replace("    sh -c", "    env --default-signal=INT sh -c");
    on_native(|home| {
        let options = ["--grace", "1h", "--stop-signal", "INT", "-n", "asked"];
        let client = Client::spawn(home.run_cmd(Engine::Native, &options, &["sh", "-c", &script]));
        client.wait_for_output("ready\n");
        let stop = Client::spawn(home.cmd(["stop", "-q", "asked"]));
        let_go(home, Engine::Native, client);
        assert_eq!(code(&stop.output()), 0);
    });
}

/// KILL needs no grace, and a signal that says nothing to the command is followed by the kill.
#[test]
fn a_stop_signal_may_be_any() {
    on_native_and_docker(|engine, home| {
        for (signal, grace) in [("KILL", "1h"), ("CONT", "1s"), ("RTMIN+3", "1h")] {
            let client = home.start(engine, &["--stop-signal", signal, "--grace", grace, "-n", "x"], "exec sleep 1000");
            assert_eq!(code(&home.fosse(["stop", "-q", "x"])), 0, "{engine:?} {signal}");
            let wanted = if signal == "RTMIN+3" { 128 + 37 } else { 137 };
            assert_eq!(shell_code(&client.output()), wanted, "{engine:?} {signal}");
        }
    });
}

const OWN: &str = "trap 'exit 4' USR1; trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done";

fn ends_by_the_images_signal(home: &Home, engine: Engine, image: &str) {
    let stops = |options: &[&str], wanted: i32| {
        let args = [&["run", "--runtime", engine.name(), "--image", image, "-n", "own"], options].concat();
        let client = Client::spawn(home.cmd(args.iter().copied().chain(["--", "sh", "-c", OWN])));
        client.wait_for_output("ready\n");
        assert_eq!(code(&home.fosse(["stop", "-q", "own"])), 0);
        assert_eq!(code(&client.output()), wanted, "{engine:?} {options:?}");
    };
    stops(&["--network", "none"], 4);
    stops(&["--network", "none", "--stop-signal", "TERM"], 5);
}

#[test]
fn an_image_names_its_own_stop_signal() {
    on_each_real_engine(|engine, home| {
        let image = format!("fosse-test:stop-{}", home.dir.file_name().unwrap().to_str().unwrap());
        home.write("build/Dockerfile", format!("FROM {IMAGE}\nSTOPSIGNAL SIGUSR1\n"));
        let dir = home.dir.join("build");
        let built = engine.call(["build", "-q", "-t", &image, dir.to_str().unwrap()]);
        assert!(built.status.success(), "{built:?}");
        let tested = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            ends_by_the_images_signal(home, engine, &image);
        }));
        engine.call(["rmi", &image]);
        tested.unwrap_or_else(|why| std::panic::resume_unwind(why));
    });
    for carrier in Carrier::BOTH {
        if let Some((engine, home)) = one_release(carrier) {
            let service = home.apple.as_ref().unwrap();
            service.image("own:stop", "busybox", &serde_json::json!({"StopSignal": "SIGUSR1"}));
            ends_by_the_images_signal(&home, engine, "own:stop");
        }
    }
}
