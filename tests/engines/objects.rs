//! What an engine has is known by its id and its labels. A name proves nothing: a stranger may have given it to something
//! of his own.

use crate::support::daemon::daemons;
use crate::support::{Carrier, Client, Engine, Home, KILL, code, on_docker_with, on_each_engine, wait_until};

/// The names of two things of a stranger's.
struct Stranger {
    engine: Engine,
    name: String,
}

impl Stranger {
    /// Takes the names of a run's objects, which are away.
    fn takes_names(engine: Engine, id: &str) -> Stranger {
        let name = format!("fosse-{id}");
        let labels = ["--label", &format!("fosse.run={id}"), "--label", "fosse.instance=deadbeefdeadbeef"];
        engine.says([&["network", "create"], &labels[..], &[&name]].concat());
        let image = ["--entrypoint", "sleep", crate::support::IMAGE, "1000"];
        engine.says([&["run", "--detach", "--name", &name], &labels[..], &image[..]].concat());
        Stranger { engine, name }
    }

    fn is_unharmed(&self) -> bool {
        let running = self.engine.says(["ps", "--quiet", "--filter", &format!("name={}", self.name)]);
        let networks = self.engine.says(["network", "ls", "--quiet", "--filter", &format!("name={}", self.name)]);
        !running.is_empty() && !networks.is_empty()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.engine.call(["rm", "--force", "--volumes", &self.name]);
        self.engine.call(["network", "rm", &self.name]);
    }
}

/// A run in a network of its own whose owner was killed, and whose objects somebody has removed.
fn orphan(home: &Home, engine: Engine) -> String {
    let mut command = home.run_cmd(engine, &["--network", "private"], &["sh", "-c", "echo ready; sleep 1000"]);
    command.env("FOSSE_DAEMON", "off");
    let client = Client::spawn(command);
    client.wait_for_output("ready\n");
    client.signal(KILL);
    drop(client);
    let id = home.newest_id();
    engine.call(["rm", "--force", "--volumes", &format!("fosse-{id}")]);
    wait_until("its container is gone", || {
        engine.says(["ps", "--all", "--quiet", "--filter", &format!("name=fosse-{id}")]).is_empty()
    });
    engine.says(["network", "rm", &format!("fosse-{id}")]);
    id
}

#[test]
fn a_stranger_with_a_runs_name_is_left_alone_by_whoever_finishes_the_run() {
    on_docker_with(Carrier::Client, |place| {
        let engine = Engine::Docker;
        for verb in ["stop", "clean", "destroy", "daemon"] {
            let home = place.another();
            let id = orphan(&home, engine);
            let stranger = Stranger::takes_names(engine, &id);
            let args = match verb {
                "daemon" => vec!["daemon", "start"],
                "clean" => vec!["clean"],
                verb => vec![verb, &id],
            };
            assert_eq!(code(&home.fosse(args)), 0, "{verb}");
            if verb == "daemon" {
                wait_until("the daemon has finished it", || home.daemon_status()["finished"] == 1);
                wait_until("it has looked", || home.daemon_status()["last_sweep"].is_object());
                assert_eq!(daemons(&home).len(), 1);
            }
            assert!(stranger.is_unharmed(), "{verb}");
        }
    });
}

#[test]
fn a_stranger_with_a_kept_runs_name_is_left_alone_when_it_is_destroyed() {
    on_docker_with(Carrier::Init, |home| {
        let engine = Engine::Docker;
        let output = home.run(engine, &["--keep", "--network", "private"], &["true"]);
        assert_eq!(code(&output), 0, "{output:?}");
        let id = home.newest_id();
        engine.says(["rm", "--force", "--volumes", &format!("fosse-{id}")]);
        engine.says(["network", "rm", &format!("fosse-{id}")]);
        let stranger = Stranger::takes_names(engine, &id);
        assert_eq!(code(&home.fosse(["destroy", &id])), 0);
        assert!(stranger.is_unharmed());
    });
}

#[test]
fn an_owner_ends_its_own_container_whatever_it_is_called_by_now() {
    on_each_engine(|engine, place| {
        // Apple's tool cannot rename.
        if engine.is_native() || engine.is_apple() {
            return;
        }
        let home = place.another();
        let client = home.start(engine, &["--grace", "1s"], "sleep 1000");
        let id = home.newest_id();
        engine.says(["rename", &format!("fosse-{id}"), &format!("other-{id}")]);
        assert_eq!(code(&home.fosse(["stop", &id])), 0);
        client.output();
        assert_eq!(home.newest()["reason"], "stopped");
        wait_until("its own container is gone", || home.objects(engine).is_empty());
    });
}
