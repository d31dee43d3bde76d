//! `fosse clean` and `destroy`: what is over goes, what is alive stays, and strangers are never touched.

use crate::support::{
    Client, Engine, Home, IMAGE, code, on_docker, on_each_engine, on_native_and_docker, stderr, stdout, wait_until,
};

#[test]
fn ended_runs_go_and_live_ones_stay() {
    on_native_and_docker(|engine, home| {
        for name in ["one", "two"] {
            home.run(engine, &["-n", name], &["true"]);
        }
        let client = home.start(engine, &["-n", "alive"], "exec sleep 1000");
        // An engine may still be removing what the others had.
        wait_until("what lives has the only object", || home.objects(engine).len() <= 1);
        let dry = home.fosse(["clean", "--dry-run"]);
        assert_eq!((code(&dry), stdout(&dry).lines().count(), home.list().len()), (0, 2, 3), "{dry:?}");
        let none = home.fosse(["clean", "--older-than", "1h"]);
        assert_eq!((stdout(&none).as_str(), home.list().len()), ("", 3));
        let cleaned = home.fosse(["clean", "--json"]);
        for line in stdout(&cleaned).lines() {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(
                (object["kind"].as_str(), object["action"].as_str()),
                (Some("run"), Some("destroy")),
                "{object}"
            );
        }
        assert_eq!(home.list().len(), 1);
        assert_eq!(code(&home.fosse(["stop", "alive"])), 0);
        client.output();
        assert_eq!(code(&home.fosse(["clean", "all"])), 0);
        assert!(home.list().is_empty());
    });
}

/// Two state directories, or two users, on one engine never touch each other's objects.
#[test]
fn two_state_directories_on_one_engine_do_not_know_each_other() {
    on_each_engine(|engine, home| {
        let other = home.another();
        // The built-in sandbox keeps no objects, and has no network that it could keep.
        let network = if engine.is_native() { "none" } else { "private" };
        let client = other.start(engine, &["--network", network], "exec sleep 1000");
        other.run(engine, if engine.is_native() { &[] } else { &["--keep"] }, &["true"]);
        let before = other.objects(engine);
        assert_eq!(before.len(), if engine.is_native() { 0 } else { 3 }, "{engine:?}");
        home.run(engine, &[], &["true"]);
        for what in ["runs", "networks", "all"] {
            assert_eq!(code(&home.fosse(["clean", what])), 0);
        }
        assert_eq!(other.objects(engine), before, "{engine:?}");
        assert_eq!(code(&other.fosse(["stop", &other.newest_id()])), 0);
        let running = other.list().into_iter().find(|run| run["state"] == "running").expect("it runs on");
        assert_eq!(code(&other.fosse(["stop", running["id"].as_str().unwrap()])), 0);
        assert_eq!(code(&client.output()), 143, "{engine:?}");
    });
}

/// A network whose run is just being made is never taken by a sweep.
#[test]
fn a_sweep_never_takes_what_a_run_is_just_making() {
    on_docker(|home| {
        home.run(Engine::Docker, &[], &["true"]);
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sweeper = scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::SeqCst) {
                    let swept = home.fosse(["clean", "networks"]);
                    assert_eq!(code(&swept), 0, "{swept:?}");
                }
            });
            for _ in 0..crate::support::repeat(20) {
                let output = home.run(Engine::Docker, &["--network", "private"], &["true"]);
                assert_eq!(code(&output), 0, "{output:?}");
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
            sweeper.join().unwrap();
        });
        home.assert_nothing_left();
    });
}

#[test]
fn objects_of_unknown_runs_are_left_alone_until_they_are_old() {
    on_docker(|home| {
        home.run(Engine::Docker, &[], &["true"]);
        wait_until("the engine has removed what it had", || home.objects(Engine::Docker).is_empty());
        let instance = format!("fosse.instance={}", home.instance().unwrap());
        let args = ["create", "--label", "fosse.run=ffffffffffff", "--label", &instance, IMAGE, "true"];
        let id = Engine::Docker.says(args);
        assert_eq!(code(&home.fosse(["clean"])), 0);
        assert_eq!(home.objects(Engine::Docker).len(), 1, "a new one may belong to a run in the making");
        Engine::Docker.call(["rm", &id]);
    });
}

#[test]
fn a_run_that_does_not_exist_is_an_error_unless_forced() {
    let home = Home::new();
    let missing = home.fosse(["destroy", "nosuchrun"]);
    assert_eq!(code(&missing), 1);
    assert!(stderr(&missing).contains("no run is called"), "{missing:?}");
    assert_eq!(code(&home.fosse(["destroy", "-f", "nosuchrun"])), 0);
}

#[test]
fn several_cleans_at_once_agree() {
    on_native_and_docker(|engine, home| {
        for _ in 0..4 {
            home.run(engine, &[], &["true"]);
        }
        let client = home.start(engine, &[], "exec sleep 1000");
        client.signal(crate::support::KILL);
        client.output();
        let cleans: Vec<Client> = (0..4).map(|_| Client::spawn(home.cmd(["clean"]))).collect();
        let codes: Vec<i32> = cleans.into_iter().map(|clean| code(&clean.output())).collect();
        // One that came too late to hold a run says so; none harms another's work.
        assert!(codes.contains(&0), "{codes:?}");
        assert_eq!(code(&home.fosse(["clean"])), 0);
        assert!(home.list().is_empty());
        home.assert_nothing_left();
    });
}
