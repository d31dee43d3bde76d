//! Ending a run from another process, by its time limit, with a frozen owner, and at the same time as its own end.

use crate::support::disk::TinyDisk;
use crate::support::{
    CONT, Carrier, Client, Engine, KILL, STOP, code, on_docker, on_docker_with, on_each_engine, on_native_and_docker,
    process_state, repeat, stderr, stdout, wait_until,
};

/// X7: the client is unblocked at once, and both agree on what happened.
#[test]
fn x7_stop_from_another_process_ends_the_run_and_its_client() {
    on_each_engine(|engine, home| {
        let client = home.start(engine, &["-n", "web"], "exec sleep 1000");
        let stopped = home.fosse(["stop", "web"]);
        assert_eq!(code(&stopped), 0, "{engine:?} {stopped:?}");
        // The promise of `stop`: the record is final and the objects are gone when it returns.
        let record = home.newest();
        assert_eq!(
            (record["state"].as_str(), record["reason"].as_str(), record["exit_code"].as_i64()),
            (Some("stopped"), Some("stopped"), Some(143)),
            "{record}"
        );
        if home.carrier == Carrier::Client {
            assert_eq!(home.objects(engine), Vec::<String>::new());
        }
        assert_eq!(code(&client.output()), 143);
        assert_eq!(code(&home.fosse(["stop", "web"])), 0, "a second stop finds it done");
        home.assert_nothing_left();
    });
}

#[test]
fn several_are_stopped_in_parallel_and_by_several_at_once() {
    on_native_and_docker(|engine, home| {
        let names: Vec<String> = (0..6).map(|n| format!("r{n}")).collect();
        let clients: Vec<Client> = names
            .iter()
            .map(|name| home.start(engine, &["-n", name], "trap '' TERM; while :; do sleep 0.1; done"))
            .collect();
        let mut args = vec!["stop", "--grace", "500ms"];
        args.extend(names.iter().map(String::as_str));
        let stops: Vec<Client> = (0..3).map(|_| Client::spawn(home.cmd(&args))).collect();
        for stop in stops {
            let output = stop.output();
            assert_eq!(code(&output), 0, "{output:?}");
        }
        for client in clients {
            assert_eq!(code(&client.output()), 137);
        }
        assert!(home.list().iter().all(|run| run["state"] == "stopped"));
        home.assert_nothing_left();
    });
}

#[test]
fn a_later_stop_can_shorten_the_grace() {
    on_native_and_docker(|engine, home| {
        let client = home.start(engine, &["-n", "slow"], "trap 'echo asked' TERM; while :; do sleep 0.1; done");
        let patient = Client::spawn(home.cmd(["stop", "--grace", "1h", "slow"]));
        client.wait_for_output("asked");
        assert_eq!(code(&home.fosse(["stop", "--grace", "0", "slow"])), 0);
        assert_eq!(code(&patient.output()), 0);
        assert_eq!(code(&client.output()), 137);
    });
}

/// X5: a stop that races the command's own end never makes a failed run look well, and both sides agree.
#[test]
fn x5_a_stop_that_races_the_natural_end_has_one_truth() {
    on_native_and_docker(|engine, home| {
        for round in 0..repeat(40) {
            let name = format!("race-{round}");
            let delay = format!("{:.3}", 0.01 * f64::from(u32::try_from(round % 20).unwrap()));
            let client = home.start(engine, &["-n", &name, "--no-workspace"], &format!("sleep {delay}; exit 3"));
            assert_eq!(code(&home.fosse(["stop", &name])), 0);
            let own = code(&client.output());
            let record = home.newest();
            assert_eq!(record["exit_code"], own, "{record}");
            match record["reason"].as_str().unwrap() {
                "exited" => assert_eq!((own, record["state"].as_str()), (3, Some("failed")), "{record}"),
                "stopped" => assert_eq!(record["state"], "stopped", "{record}"),
                other => panic!("{other}: {record}"),
            }
        }
        home.assert_nothing_left();
    });
}

/// An owner that only waits for its engine to remove what the run had is no frozen one: whoever asks it to stop is
/// answered, and the command's own end is what counts.
#[test]
fn an_owner_on_its_last_steps_is_not_taken_for_a_frozen_one() {
    on_docker(|home| {
        // Longer than an owner may take to answer.
        let tool = home.script("tool/docker", "case $1 in rm) sleep 4;; esac; exec docker \"$@\"");
        let mut command =
            home.run_cmd(Engine::Docker, &["-n", "slow", "--network", "private"], &["sh", "-c", "exit 3"]);
        command.env("FOSSE_DOCKER", &tool);
        let client = Client::spawn(command);
        wait_until("it is over", || home.list().first().is_some_and(|run| run["exit_code"] == 3));
        let stopped = home.fosse(["stop", "slow"]);
        assert_eq!(code(&stopped), 0, "{stopped:?}");
        assert_eq!(home.objects(Engine::Docker), Vec::<String>::new(), "it is done before everything is gone");
        assert_eq!(code(&client.output()), 3);
        let record = home.newest();
        assert_eq!((record["state"].as_str(), record["reason"].as_str()), (Some("failed"), Some("exited")), "{record}");
        home.script("tool/docker", "exec docker \"$@\"");
        home.assert_nothing_left();
    });
}

/// The same of a finisher: a second stop is not done before the first is, and no sweep takes its objects from it.
#[test]
fn who_finishes_a_run_is_waited_for_and_not_helped() {
    on_docker_with(Carrier::Client, |home| {
        let tool = home.script("tool/docker", "exec docker \"$@\"");
        let mut command = home.run_cmd(
            Engine::Docker,
            &["-n", "slow", "--network", "private"],
            &["sh", "-c", "echo ready; exec sleep 1000"],
        );
        command.env("FOSSE_DOCKER", &tool);
        let client = Client::spawn(command);
        client.wait_for_output("ready\n");
        client.signal(KILL);
        client.output();
        let (removing, go) = (home.dir.join("removing"), home.dir.join("go"));
        let waits = format!(
            "case $1 in rm) echo x >>{}; while ! test -e {}; do sleep 0.05; done;; esac; exec docker \"$@\"",
            removing.display(),
            go.display()
        );
        // The record names the stand-in.
        home.script("tool/docker", &waits);
        let first = Client::spawn(home.cmd(["stop", "--grace", "0", "slow"]));
        wait_until("it removes the container", || removing.exists());
        assert_eq!(home.newest()["reason"], "orphaned");
        let second = Client::spawn(home.cmd(["stop", "--grace", "0", "slow"]));
        let swept = home.fosse(["clean", "networks"]);
        assert_eq!(code(&swept), 0, "{swept:?}");
        assert_eq!(home.objects(Engine::Docker).len(), 2, "somebody else has removed something");
        std::fs::write(&go, "").unwrap();
        assert_eq!(code(&second.output()), 0);
        assert_eq!(home.objects(Engine::Docker), Vec::<String>::new(), "it is done before everything is gone");
        assert_eq!(code(&first.output()), 0);
        assert_eq!(std::fs::read_to_string(&removing).unwrap(), "x\n", "it was removed twice");
        home.assert_nothing_left();
    });
}

#[test]
fn a_time_limit_gives_124_whatever_the_command_says() {
    on_each_engine(|engine, home| {
        let scripts = [
            "exec sleep 1000",
            "trap 'exit 0' TERM; while :; do sleep 0.1; done",
            "trap '' TERM; while :; do sleep 0.1; done",
        ];
        for script in scripts {
            let output = home.run(engine, &["--timeout", "700ms", "--grace", "700ms"], &["sh", "-c", script]);
            assert_eq!(code(&output), 124, "{engine:?} {script} {output:?}");
            let record = home.newest();
            assert_eq!(
                (record["state"].as_str(), record["reason"].as_str()),
                (Some("failed"), Some("timeout")),
                "{record}"
            );
            assert_eq!(stdout(&home.fosse(["wait", record["id"].as_str().unwrap()])), "124\n");
        }
        assert_eq!(code(&home.run(engine, &["--timeout", "1h"], &["sh", "-c", "exit 6"])), 6);
        home.assert_nothing_left();
    });
}

/// A client stopped by SIGSTOP cannot hold its run hostage.
#[test]
fn a_frozen_client_is_ended_and_its_run_finished_as_stopped() {
    on_each_engine(|engine, home| {
        let client =
            home.start(engine, &["-n", "frozen"], "trap 'echo polite; exit 7' TERM; while :; do sleep 0.1; done");
        client.signal(STOP);
        wait_until("it is frozen", || process_state(client.pid()) == Some('T'));
        let stopped = home.fosse(["stop", "frozen"]);
        assert_eq!(code(&stopped), 0, "{engine:?} {stopped:?}");
        let record = home.newest();
        // With its client a command that init carries is gone at once; the engine still has the other, and its output.
        let (ended, said) = match home.carrier {
            // Apple's engine keeps no output, and no code but what init has left.
            _ if engine.is_apple() => (if home.carrier == Carrier::Init { Some(7) } else { None }, "ready\n"),
            Carrier::Init => (None, "ready\n"),
            Carrier::Client => (Some(7), "ready\npolite\n"),
        };
        assert_eq!(
            (record["state"].as_str(), record["reason"].as_str(), record["exit_code"].as_i64()),
            (Some("stopped"), Some("stopped"), ended),
            "{record}"
        );
        assert_eq!(stdout(&home.logs("frozen")), said, "{engine:?}");
        drop(client);
        home.assert_nothing_left();
    });
}

/// Whoever looks or waits while a frozen owner's run is being ended sees one end of it, with its code.
#[test]
fn a_frozen_owners_run_has_one_end_for_all_who_look() {
    on_docker_with(Carrier::Client, |home| {
        // An engine that takes its time leaves some for looking.
        let tool = home.script("tool/docker", "case $1 in kill) sleep 1;; esac; exec docker \"$@\"");
        let script = "echo ready; exec sleep 1000";
        let mut command = home.run_cmd(Engine::Docker, &["-n", "frozen", "--no-workspace"], &["sh", "-c", script]);
        command.env("FOSSE_DOCKER", &tool);
        let client = Client::spawn(command);
        client.wait_for_output("ready\n");
        let waiter = Client::spawn(home.cmd(["wait", "frozen"]));
        client.signal(STOP);
        wait_until("it is frozen", || process_state(client.pid()) == Some('T'));
        let stop = Client::spawn(home.cmd(["stop", "--grace", "5", "frozen"]));
        let mut seen = Vec::new();
        wait_until("it is stopped", || {
            let record = home.newest();
            let look = (record["state"].as_str().unwrap().to_owned(), record["exit_code"].as_i64());
            if seen.last() != Some(&look) {
                seen.push(look);
            }
            process_state(stop.pid()).is_none_or(|state| state == 'Z')
        });
        assert_eq!(code(&stop.output()), 0);
        let wanted = [("running", None), ("stopping", None), ("stopped", Some(143))];
        assert_eq!(seen, wanted.map(|(state, code)| (state.to_owned(), code)));
        let waited = waiter.output();
        assert_eq!((code(&waited), stdout(&waited).as_str()), (143, "143\n"));
        client.output();
        home.assert_nothing_left();
    });
}

/// Several who end the same frozen owner, and remove what it leaves, are all done when it is.
#[test]
fn several_who_end_a_frozen_client_are_all_done() {
    on_native_and_docker(|engine, home| {
        for round in 0..repeat(40) {
            let client = home.start(engine, &["-n", "frozen", "--no-workspace"], "exec sleep 1000");
            client.signal(STOP);
            wait_until("it is frozen", || process_state(client.pid()) == Some('T'));
            let id = home.newest_id();
            let ways = [&["destroy", "-f", &id][..], &["destroy", "-f", &id], &["stop", "--grace", "0", &id]];
            let all = ways.map(|args| Client::spawn(home.cmd(args)));
            for (args, one) in ways.iter().zip(all) {
                let output = one.output();
                // A stop may come when nobody knows the run any more.
                let is_unknown = args[0] == "stop" && stderr(&output).contains("no run");
                assert!(code(&output) == 0 || is_unknown, "{engine:?} {round} {args:?}: {output:?}");
            }
            client.output();
            assert_eq!(home.list().len(), 0);
        }
        home.assert_nothing_left();
    });
}

/// On the worst day the disk is full as well: what an owner has set aside is there for whoever ends it.
#[test]
fn a_frozen_client_is_ended_on_a_full_disk_too() {
    on_native_and_docker(|engine, home| {
        let state = home.state();
        std::fs::create_dir(&state).unwrap();
        let Some(_mount) = TinyDisk::mount(&state, "256k") else { return };
        home.give(&state);
        let client = home.start(engine, &["-n", "frozen", "--no-workspace"], "exec sleep 1000");
        client.signal(STOP);
        wait_until("it is frozen", || process_state(client.pid()) == Some('T'));
        std::fs::write(state.join("filler"), vec![0; 1 << 20]).unwrap_err();
        let stopped = home.fosse(["stop", "--grace", "1", "frozen"]);
        assert_eq!(code(&stopped), 0, "{engine:?} {stopped:?}");
        let record = home.newest();
        assert_eq!(
            (record["state"].as_str(), record["reason"].as_str(), record["stopped_at"].is_null()),
            (Some("stopped"), Some("stopped"), false),
            "{record}"
        );
        client.output();
        std::fs::remove_file(state.join("filler")).unwrap();
        home.assert_nothing_left();
    });
}

/// The identity is proved first: a reused process id is a stranger, who lives.
#[test]
fn a_stranger_with_the_owners_process_id_is_not_harmed() {
    on_native_and_docker(|engine, home| {
        let client = home.start(engine, &["-n", "reused"], "exec sleep 1000");
        let id = home.newest_id();
        client.signal(STOP);
        wait_until("it is frozen", || process_state(client.pid()) == Some('T'));
        // The lock's file now names a stranger: the same form, another process.
        let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let lock = home.state().join("runs").join(&id).join("owner.lock");
        let text = std::fs::read_to_string(&lock).unwrap();
        std::fs::write(
            &lock,
            text.replace(&format!("\"pid\":{}", client.pid()), &format!("\"pid\":{}", stranger.id())),
        )
        .unwrap();
        let refused = home.fosse(["stop", "reused"]);
        assert_eq!(code(&refused), 1, "{refused:?}");
        assert!(stderr(&refused).contains("another process"), "{refused:?}");
        assert!(stranger.try_wait().unwrap().is_none(), "the stranger was killed");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        std::fs::write(&lock, text).unwrap();
        client.signal(CONT);
        assert_eq!(code(&home.fosse(["stop", "reused"])), 0);
        client.output();
    });
}

#[test]
fn a_run_that_is_live_is_not_destroyed_without_force() {
    on_native_and_docker(|engine, home| {
        let client = home.start(engine, &["-n", "live"], "exec sleep 1000");
        let refused = home.fosse(["destroy", "live"]);
        assert_eq!(code(&refused), 1);
        assert!(stderr(&refused).contains("hint: "), "{refused:?}");
        assert_eq!(code(&home.fosse(["rm", "-f", "live"])), 0);
        assert_eq!(code(&client.output()), 143);
        assert!(home.list().is_empty());
        home.assert_nothing_left();
    });
}

/// X13: `wait` of one run is not held up by another, and several waiters all learn the same.
#[test]
fn x13_waiters_wait_for_their_own_run_only() {
    on_native_and_docker(|engine, home| {
        let long = home.start(engine, &["-n", "long"], "exec sleep 1000");
        let short = home.start(engine, &["-n", "short"], "exit 5");
        let waiters: Vec<Client> = (0..4).map(|_| Client::spawn(home.cmd(["wait", "short"]))).collect();
        for waiter in waiters {
            let output = waiter.output();
            assert_eq!((code(&output), stdout(&output).as_str()), (5, "5\n"));
        }
        assert_eq!(code(&short.output()), 5);
        long.signal(KILL);
        let lost = home.fosse(["wait", "short", "long"]);
        assert_eq!((code(&lost), stdout(&lost).as_str()), (125, "5\nnull\n"));
        assert_eq!(code(&home.fosse(["stop", "long"])), 0);
        long.output();
        home.assert_nothing_left();
    });
}
