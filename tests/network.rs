//! `--network`: the default needs none of its own, `none` has loopback alone, `private` has one that always goes.

use crate::support::own_engine::OwnEngine;
use crate::support::{Engine, code, on_docker, on_each_engine, stderr, stdout};

#[test]
fn none_has_loopback_only_and_open_needs_no_network_of_its_own() {
    on_each_engine(|engine, home| {
        let script = "ls /sys/class/net | tr '\\n' ' '";
        let none = home.run(engine, &["--network", "none"], &["sh", "-c", script]);
        assert_eq!(stdout(&none).trim(), "lo", "{engine:?} {none:?}");
        let open = home.run(engine, &[], &["sh", "-c", script]);
        assert!(stdout(&open).contains("eth0"), "{engine:?} {open:?}");
        assert!(home.list().iter().all(|run| run["network_id"].is_null()));
        let client = home.start(engine, &[], "exec sleep 1000");
        assert_eq!(home.objects(engine).len(), 1, "the container and no network");
        assert_eq!(code(&home.fosse(["stop", &home.newest_id()])), 0);
        client.output();
    });
}

#[test]
fn a_private_network_lives_as_long_as_its_run() {
    on_each_engine(|engine, home| {
        let client = home.start(engine, &["--network", "private"], "exec sleep 1000");
        assert_eq!(home.objects(engine).len(), 2, "{engine:?}");
        assert!(!home.newest()["network_id"].is_null());
        assert_eq!(code(&home.fosse(["stop", &home.newest_id()])), 0);
        client.output();
        home.assert_nothing_left();
    });
}

/// R5: an exhausted address pool is a clear error that names the cure, and a default run does not care.
#[test]
fn r5_an_exhausted_address_pool_names_the_cure() {
    on_docker(|home| {
        // An engine of its own, with four ranges: docker's default of 31 is everybody's.
        let Some(engine) = OwnEngine::start(home) else { return };
        let full = (0..8).any(|number| {
            let output = engine.docker().args(["network", "create", &format!("fill-{number}")]).output().unwrap();
            !output.status.success()
        });
        assert!(full, "the pool has no end");
        let run = |network: &str| {
            let mut command = home.run_cmd(Engine::Docker, &["--network", network], &["true"]);
            command.env("DOCKER_HOST", engine.host());
            crate::support::finish(command)
        };
        let private = run("private");
        assert_eq!(code(&private), 125, "{private:?}");
        let text = stderr(&private);
        assert!(text.contains("creating the network failed") && text.contains("fosse clean networks"), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert_eq!(code(&run("none")), 0, "a run without a network of its own does not care");
        home.assert_nothing_left();
    });
}
