//! `--network`: the default needs none of its own, `none` has loopback alone, `private` has one that always goes.

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
        // As many as it takes; docker's default pools hold 31.
        let mut made = Vec::new();
        for number in 0..64 {
            let name = format!("fosse-test-fill-{}-{number}", std::process::id());
            let output = Engine::Docker.call(["network", "create", &name]);
            if !output.status.success() {
                break;
            }
            made.push(name);
        }
        let private = home.run(Engine::Docker, &["--network", "private"], &["true"]);
        let open = home.run(Engine::Docker, &[], &["true"]);
        let mut args = vec!["network", "rm"];
        args.extend(made.iter().map(String::as_str));
        assert!(Engine::Docker.call(args).status.success());
        assert!(made.len() < 64, "the pool has no end");
        assert_eq!(code(&private), 125, "{private:?}");
        let text = stderr(&private);
        assert!(
            text.contains("creating the network failed")
                && text.contains("hint: ")
                && text.contains("fosse clean networks"),
            "{text}"
        );
        assert_eq!(code(&open), 0, "{open:?}");
        home.assert_nothing_left();
    });
}
