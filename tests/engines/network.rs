//! `--network`: the default needs none of its own, `none` has loopback alone, `private` has one that always goes.

use crate::support::own_engine::OwnEngine;
use crate::support::{Engine, code, on_docker, on_each_engine, on_each_real_engine, stderr, stdout};

#[test]
fn none_has_loopback_only_and_open_needs_no_network_of_its_own() {
    on_each_engine(|engine, home| {
        let none = home.run(engine, &["--network", "none"], &["cat", "/proc/net/dev"]);
        assert_eq!(interfaces(&stdout(&none)), ["lo"], "{engine:?} {none:?}");
        let default = [&["run"], engine.options(), &["--", "cat", "/proc/net/dev"]].concat();
        let hosts = || interfaces(&std::fs::read_to_string("/proc/self/net/dev").unwrap());
        let before = hosts();
        let open = home.fosse(default);
        if engine.is_native() {
            // Others come and go meanwhile.
            let after = hosts();
            let stayed: Vec<&String> = before.iter().filter(|name| after.contains(name)).collect();
            assert!(stayed.len() > 1, "there is nothing that could be missing: {stayed:?}");
            let seen = interfaces(&stdout(&open));
            assert!(stayed.iter().all(|name| seen.contains(name)), "{stayed:?} {open:?}");
        } else {
            assert!(interfaces(&stdout(&open)).contains(&"eth0".into()), "{engine:?} {open:?}");
        }
        assert!(home.list().iter().all(|run| run["network_id"].is_null()));
        let client = home.start(engine, &["--network", "open"], "exec sleep 1000");
        assert_eq!(home.objects(engine).len(), usize::from(!engine.is_native()), "the container and no network");
        assert_eq!(code(&home.fosse(["stop", &home.newest_id()])), 0);
        client.output();
    });
}

/// The names in what /proc/net/dev says (proc_pid_net(5)).
fn interfaces(table: &str) -> Vec<String> {
    table.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

/// The loopback interface is up, and what listens on it inside is nowhere else.
#[test]
fn loopback_works_and_is_the_runs_own() {
    on_each_engine(|engine, home| {
        let _run = home.start(engine, &["-n", "alone", "--network", "none"], "exec sleep 1000");
        // Nobody listens, which the kernel says at once; without an interface that is up there would be no way there.
        let output = home.fosse(["exec", "alone", "sh", "-c", "cat /proc/net/route /proc/net/fib_trie"]);
        assert!(stdout(&output).contains("127.0.0.1"), "{engine:?} {output:?}");
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = format!("{:04X} ", listener.local_addr().unwrap().port());
        let output = home.fosse(["exec", "alone", "cat", "/proc/net/tcp"]);
        assert!(code(&output) == 0 && !stdout(&output).contains(&port), "{engine:?} {output:?}");
    });
}

#[test]
fn a_private_network_lives_as_long_as_its_run() {
    on_each_real_engine(|engine, home| {
        let client = home.start(engine, &["--network", "private"], "exec sleep 1000");
        assert_eq!(home.objects(engine).len(), 2, "{engine:?}");
        assert!(!home.newest()["network_id"].is_null());
        assert_eq!(code(&home.fosse(["stop", &home.newest_id()])), 0);
        client.output();
        home.assert_nothing_left();
    });
}

/// An engine that looks for free addresses while another network goes away says that an interface is missing: that is no
/// reason to fail, for nothing was made and the next look finds what there is.
#[test]
fn a_private_network_is_made_although_others_come_and_go() {
    on_each_real_engine(|engine, home| {
        let real = engine.name();
        let count = home.dir.join("count");
        let disturbed = format!(
            "if [ \"$1 $2\" = 'network create' ] && [ \"$(echo x >>{0}; wc -l <{0})\" -lt 3 ]; then
                 echo 'Error: route ip+net: no such network interface' >&2; exit 125
             fi
             exec {real} \"$@\"",
            count.display()
        );
        let tool = home.script(&format!("tool/{real}"), &disturbed);
        let mut command = home.run_cmd(engine, &["--network", "private"], &["true"]);
        command.env(format!("FOSSE_{}", real.to_uppercase()), &tool);
        let output = crate::support::finish(command);
        assert_eq!(code(&output), 0, "{engine:?} {output:?}");
        assert_eq!(std::fs::read_to_string(&count).unwrap().lines().count(), 3, "two tries in vain");
        home.script(&format!("tool/{real}"), &format!("exec {real} \"$@\""));
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
