//! A client that dies uncleanly, at any moment: what is shown at once, and what the next verb makes of it.

use std::process::Stdio;

use fosse::sys::lock::try_shared;

use crate::support::{
    Carrier, Client, Engine, Home, KILL, code, on_docker, on_each_engine, on_each_engine_with, on_native_and_docker,
    repeat, some_at_once, stderr, stdout, wait_until,
};

/// Every moment between two steps of a run, as `run::failpoint` names them.
pub const MOMENTS: [&str; 12] = [
    "named",
    "filled",
    "created",
    "network-armed",
    "network-made",
    "container-armed",
    "container-made",
    "id-told",
    "start-asked",
    "output-synced",
    "final",
    "cleaned",
];

/// Ends whatever a dead client left, by one of the verbs that do.
fn finish_by(home: &Home, verb: &str) {
    let ids: Vec<String> = home.list().iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect();
    let output = match verb {
        "stop" | "destroy" if !ids.is_empty() => {
            let mut args = vec![verb];
            args.extend(ids.iter().map(String::as_str));
            home.fosse(args)
        }
        _ => home.fosse(["clean"]),
    };
    assert_eq!(code(&output), 0, "{verb}: {output:?}");
}

#[test]
fn killed_between_any_two_steps_the_next_verb_finishes_the_run_and_leaves_nothing() {
    on_each_engine(|engine, place| {
        let verbs = ["stop", "clean", "destroy"];
        let network = if engine.is_native() { "none" } else { "private" };
        let passed = |moment: &&&str| !engine.is_native() || !moment.starts_with("network");
        let moments: Vec<(usize, &str)> = MOMENTS.iter().filter(passed).copied().enumerate().collect();
        // Most of it is waiting: whoever finishes a run looks once more for what its client had asked for.
        // (Podman's calls wait for each other's locks, and have their deadlines.)
        let at_once = if engine == Engine::Podman { 2 } else { 4 };
        some_at_once(&moments, at_once, |(at, moment)| {
            // Every moment meets every verb, somewhere.
            let turn = at + usize::from(engine == Engine::Podman) + 2 * usize::from(place.user.is_some());
            let verb = verbs[turn % 3];
            let home = place.another();
            let file = home.dir.join("id");
            let options =
                ["--name", "dies", "--network", network, "-e", "SECRET=hunter2", "--id-file", file.to_str().unwrap()];
            let mut command = home.run_cmd(engine, &options, &["sh", "-c", "echo said; exit 3"]);
            command.env("FOSSE_FAILPOINT", moment);
            let output = crate::support::finish(command);
            assert_eq!(output.status.code(), None, "{moment}: it was not killed: {output:?}");
            for record in home.list() {
                let late = matches!(*moment, "final" | "cleaned");
                assert_eq!(record["reason"], if late { "exited" } else { "orphaned" }, "{moment} {record}");
                assert_eq!(record["state"], "failed");
                let waited = home.fosse(["wait", "dies"]);
                assert_eq!(code(&waited), if late { 3 } else { 125 }, "{moment} {waited:?}");
            }
            finish_by(&home, verb);
            if matches!(*moment, "output-synced" | "final" | "cleaned") && verb == "stop" {
                assert_eq!(stdout(&home.logs("dies")), "said\n", "{moment}");
            }
            if matches!(*moment, "named" | "filled") {
                // Before there was a run: only a file of the name and a directory in the making can be left.
                assert_eq!(code(&home.fosse(["clean"])), 0);
                assert_eq!(home.temporary_files(), Vec::<std::path::PathBuf>::new(), "{moment}");
            }
            // Its name is free again.
            assert_eq!(code(&home.run(engine, &["--name", "dies"], &["true"])), 0, "{moment} {verb}");
            if matches!(*moment, "final" | "cleaned") {
                assert_eq!(code(&home.fosse(["clean"])), 0);
            }
            home.assert_nothing_left();
        });
    });
}

/// The finisher may die as well; the next one goes on.
#[test]
fn a_finisher_that_dies_is_followed_by_another() {
    on_native_and_docker(|engine, home| {
        let network = if engine.is_native() { "none" } else { "private" };
        let client = home.start(engine, &["-n", "twice", "--network", network], "exec sleep 1000");
        client.signal(KILL);
        client.output();
        let mut stop = home.cmd(["stop", "--grace", "0", "twice"]);
        stop.env("FOSSE_FAILPOINT", "finish-recorded");
        assert_eq!(crate::support::finish(stop).status.code(), None);
        assert_eq!(home.newest()["reason"], "orphaned");
        let objects = if engine.is_native() { 0 } else { 2 };
        assert_eq!(home.objects(engine).len(), objects, "it died before it removed anything");
        assert_eq!(code(&home.fosse(["clean"])), 0);
        home.assert_nothing_left();
    });
}

#[test]
fn killed_at_random_the_output_so_far_is_kept_and_nothing_stays() {
    on_each_engine(|engine, place| {
        for round in 0..repeat(20) {
            let home = &place.another();
            let mut command = home.run_cmd(
                engine,
                &["--network", "none"],
                &["sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); done"],
            );
            let mut client = Client::spawn({
                command.stdin(Stdio::null());
                command
            });
            // Anywhere between the first instruction and a flood of output.
            let lines = 40 * round;
            wait_until("it got that far", || lines == 0 || client.stdout_text().lines().count() > lines);
            client.signal(KILL);
            client.wait();
            let seen = client.output().stdout;
            let Some(record) = home.list().into_iter().next() else {
                // It had no run yet; at the most its name is left.
                assert_eq!(code(&home.fosse(["clean"])), 0);
                home.assert_nothing_left();
                continue;
            };
            assert_eq!(record["reason"], "orphaned", "{record}");
            let id = record["id"].as_str().unwrap();
            let recorded = home.logs(id).stdout;
            assert!(
                recorded.starts_with(&seen),
                "what the caller saw is in the record: {} of {}",
                recorded.len(),
                seen.len()
            );
            finish_by(home, ["stop", "clean", "destroy"][round % 3]);
            home.assert_nothing_left();
        }
    });
}

/// An orphan is shown as one before anyone finishes it, by verbs that write nothing.
#[test]
fn an_orphan_is_shown_at_once_and_its_followers_are_let_go() {
    on_each_engine(|engine, home| {
        let client = home.start(engine, &["-n", "lost"], "exec sleep 1000");
        let follower = Client::spawn(home.cmd(["logs", "-f", "lost"]));
        follower.wait_for_output("ready\n");
        let waiter = Client::spawn(home.cmd(["wait", "lost"]));
        client.signal(KILL);
        client.output();
        assert_eq!(stdout(&follower.output()), "ready\n");
        let waited = waiter.output();
        assert_eq!((code(&waited), stdout(&waited).as_str()), (125, "null\n"));
        let before = crate::support::snapshot(&home.state());
        let record = home.newest();
        assert_eq!((record["state"].as_str(), record["reason"].as_str()), (Some("failed"), Some("orphaned")));
        assert!(record["exit_code"].is_null() && record["stopped_at"].is_null(), "{record}");
        assert!(
            home.fosse(["list", "--running"]).stdout.split(|b| *b == b'\n').count() <= 2,
            "no row below the heading"
        );
        assert_eq!(crate::support::snapshot(&home.state()), before, "readers changed something");
        assert_eq!(code(&home.fosse(["stop", "--grace", "0", "lost"])), 0, "{engine:?}");
        let record = home.newest();
        assert_eq!(record["reason"], "orphaned");
        assert!(!record["stopped_at"].is_null());
        home.assert_nothing_left();
    });
}

/// Nothing of that depends on who is at it: one that is finished politely, which takes as long as its command likes, is an
/// orphan all the while, and whoever else would finish it waits for its turn.
#[test]
fn an_orphan_is_shown_as_one_also_while_somebody_finishes_it() {
    // Where fosse's own PID 1 serves, everything ends with the owner.
    on_each_engine_with(Carrier::Client, |engine, home| {
        if engine.is_native() {
            // Its processes die with their owner: there is nobody to be polite to.
            return;
        }
        let client =
            home.start(engine, &["-n", "lost", "--no-workspace"], "trap 'echo no' TERM; while :; do sleep 0.1; done");
        client.signal(KILL);
        client.output();
        let finisher = Client::spawn(home.cmd(["stop", "--grace", "1000", "lost"]));
        let lock = home.state().join("runs").join(home.newest_id()).join("output.log");
        let is_held = || std::fs::File::open(&lock).is_ok_and(|file| !try_shared(&file).unwrap());
        wait_until("somebody finishes it", is_held);
        let record = home.newest();
        assert_eq!((record["state"].as_str(), record["reason"].as_str()), (Some("failed"), Some("orphaned")));
        assert_eq!(code(&home.fosse(["wait", "lost"])), 125);
        assert_eq!(stdout(&home.fosse(["logs", "-f", "lost"])).lines().next(), Some("ready"));
        let refused = home.fosse(["exec", "lost", "--", "true"]);
        assert!(stderr(&refused).contains("has lost its owner"), "{refused:?}");
        assert!(is_held(), "nobody finishes it any more");
        let another = Client::spawn(home.cmd(["destroy", "lost"]));
        finisher.signal(KILL);
        finisher.output();
        assert_eq!(code(&another.output()), 0, "it has its turn");
        assert_eq!(home.list().len(), 0);
        home.assert_nothing_left();
    });
}

/// A killed client's last request may come true after a first look: it is found and removed too.
#[test]
fn what_a_killed_clients_last_request_makes_late_is_found_and_removed() {
    on_docker(|home| {
        // This tool makes the container a second after it was asked to, in a session of its own, as an engine
        // under load does for a client that has gone.
        let slow = home.script(
            "docker",
            "case $1 in create|run) touch \"$0.asked\"; setsid sh -c 'sleep 1; exec docker \"$@\"' sh \"$@\" >/dev/null 2>&1 & wait;; *) exec docker \"$@\";; esac",
        );
        let mut command = home.run_cmd(Engine::Docker, &["-n", "late"], &["true"]);
        command.env("FOSSE_DOCKER", &slow);
        let client = Client::spawn(command);
        let asked = home.dir.join("docker.asked");
        wait_until("the container is asked for", || asked.exists());
        client.signal(KILL);
        client.output();
        let stopped = home.fosse(["stop", "late"]);
        assert_eq!(code(&stopped), 0, "{stopped:?}");
        wait_until("the late request is over", || home.processes().is_empty());
        assert_eq!(home.objects(Engine::Docker), Vec::<String>::new());
        home.assert_nothing_left();
    });
}

/// And what comes later still is found by its label.
#[test]
fn what_comes_later_still_is_found_by_the_next_clean() {
    on_docker(|home| {
        assert_eq!(code(&home.run(Engine::Docker, &["-n", "over"], &["true"])), 0);
        let (id, instance) = (home.newest_id(), home.instance().unwrap());
        let labels = [format!("fosse.run={id}"), format!("fosse.instance={instance}")];
        let name = format!("fosse-{id}");
        wait_until("the engine has removed its own", || home.objects(Engine::Docker).is_empty());
        Engine::Docker.call(["network", "create", "--label", &labels[0], "--label", &labels[1], &name]);
        Engine::Docker.call([
            "create",
            "--name",
            &name,
            "--network",
            &name,
            "--label",
            &labels[0],
            "--label",
            &labels[1],
            crate::support::IMAGE,
            "true",
        ]);
        assert_eq!(home.objects(Engine::Docker).len(), 2);
        let dry = home.fosse(["clean", "networks", "--dry-run"]);
        assert_eq!(
            (code(&dry), stdout(&dry).lines().count(), home.objects(Engine::Docker).len()),
            (0, 2, 2),
            "{dry:?}"
        );
        // Right after the run's end the engine might still be at it by itself.
        wait_until("doctor finds them", || {
            let doctor = home.fosse(["doctor"]);
            code(&doctor) == 1 && stdout(&doctor).contains("2 orphaned objects")
        });
        let cleaned = home.fosse(["clean", "networks"]);
        assert_eq!(code(&cleaned), 0, "{}", stderr(&cleaned));
        assert_eq!(home.list().len(), 1, "the record stays");
        home.assert_nothing_left();
    });
}
