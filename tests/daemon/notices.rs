//! The daemon notices at once that an owner has died, and not only when it looks at all runs.

use std::fs::{self, File};

use fosse::sys::lock::try_exclusive;

use crate::support::http::{Address, raw};
use crate::support::{Client, KILL, code, finish, on_native_and_docker, wait_until};

#[test]
fn a_dead_owner_whose_lock_outlives_its_connection_is_noticed_at_once() {
    // The end of a lease means a look at once. The kernel closes what a killed process had open in
    // an order of its own, so here the lock is certain to be the last.
    on_native_and_docker(|engine, place| {
        let home = place.another();
        // A daemon lets in its own user alone, and here the lease is this process's.
        if home.user.is_some() {
            return;
        }
        let client = Client::spawn(home.run_cmd(engine, &[], &["sh", "-c", "echo ready; sleep 1000"]));
        client.wait_for_output("ready\n");
        client.signal(KILL);
        drop(client);
        let id = home.newest_id();
        let dir = home.state().join("runs").join(&id);
        let lock = File::options().read(true).write(true).open(dir.join("owner.lock")).unwrap();
        wait_until("the lock is free", || try_exclusive(&lock).unwrap());
        // Its owner, as far as anybody can see, lives again.
        let mut command = home.cmd(["daemon", "start"]);
        // Without the look at all runs that would find it later.
        command.env("FOSSE_DAEMON_IDLE", "1h").env("FOSSE_TEST_SCAN", "1h");
        assert_eq!(code(&finish(command)), 0);
        let socket = Address::Unix(home.daemon_status()["socket"].as_str().unwrap().into());
        let body = format!("{{\"run\": \"{id}\"}}");
        let length = format!("Content-Length: {}", body.len());
        let headers = ["Host: fosse", "Content-Type: application/json", &length];
        let mut lease = socket.connect().unwrap();
        lease.send(&raw("POST /v1/lease HTTP/1.1", &headers, body.as_bytes())).unwrap();
        assert_eq!(lease.head().unwrap().status, 200);
        assert_eq!(home.daemon_status()["leases"], 1);
        drop(lease);
        wait_until("the daemon has seen it", || home.daemon_status()["leases"] == 0);
        assert!(fs::read_to_string(dir.join("record.json")).unwrap().contains("running"), "it was not waited for");
        drop(lock);
        wait_until("it is finished", || fs::read_to_string(dir.join("record.json")).unwrap().contains("orphaned"));
    });
}
