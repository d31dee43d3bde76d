//! The daemon below a service manager: it says when it serves and when it ends, and serves on a socket that it is given.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::http::Address;
use crate::support::{Client, Home, LIMIT, TERM, code, finish, stderr, wait_until};

const FOREGROUND: [&str; 3] = ["daemon", "start", "--foreground"];

/// The daemon in the foreground, as a service manager starts it: with one descriptor from 3 on for each listener, and
/// its own number in `LISTEN_PID`, which only a shell in between can know.
fn given(home: &Home, listener: &UnixListener, count: i32, pid: &str) -> Command {
    let script = format!("exec 3<&0 </dev/null; export LISTEN_FDS={count} LISTEN_PID={pid}; exec \"$@\"");
    let direct = home.cmd(FOREGROUND);
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh"]).arg(direct.get_program()).args(direct.get_args());
    for (name, value) in direct.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(home.workspace()).stdin(Stdio::from(OwnedFd::from(listener.try_clone().unwrap())));
    command
}

/// The next thing that a service manager is told.
fn told(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 256];
    let count = socket.recv(&mut bytes).expect("nothing is told");
    String::from_utf8(bytes[..count].to_vec()).unwrap()
}

/// The process that answers at a path.
fn pid_at(path: &Path) -> i32 {
    let address = Address::Unix(path.to_owned());
    let answer = address.ask(&address.get("/v1/health"));
    assert_eq!(answer.status, 200, "{answer:?}");
    i32::try_from(answer.json()["pid"].as_i64().unwrap()).unwrap()
}

#[test]
fn a_service_manager_is_told_when_it_serves_and_when_it_ends() {
    for is_abstract in [false, true] {
        let home = Home::without_engines();
        let path = home.dir.join("notify");
        let (socket, name) = if is_abstract {
            let name = path.to_str().unwrap();
            let address = SocketAddr::from_abstract_name(name).unwrap();
            (UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}"))
        } else {
            (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned())
        };
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let mut command = home.cmd(FOREGROUND);
        command.env("NOTIFY_SOCKET", &name);
        let mut client = Client::spawn(command);
        assert_eq!(told(&socket), "READY=1", "{name}");
        // Not a moment earlier: whoever is started after it finds it.
        assert_eq!(home.daemon_pid(), client.pid());
        client.signal(TERM);
        assert_eq!(told(&socket), "STOPPING=1", "{name}");
        assert_eq!(client.wait().code(), Some(0));
    }
}

#[test]
fn a_start_that_finds_one_serving_tells_a_service_manager_nothing() {
    let home = Home::without_engines();
    assert_eq!(code(&home.daemon(["start"])), 0);
    let socket = UnixDatagram::bind(home.dir.join("notify")).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut command = home.cmd(FOREGROUND);
    command.env("NOTIFY_SOCKET", home.dir.join("notify"));
    let second = finish(command);
    assert_eq!(code(&second), 0, "{second:?}");
    // It has ended, so what it would have said is there.
    assert!(socket.recv(&mut [0; 16]).is_err(), "readiness of another daemon was told");
}

#[test]
fn it_serves_on_a_socket_that_it_is_given_and_leaves_it_to_the_next() {
    let home = Home::without_engines();
    let path = home.dir.join("given.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    // A service manager listens on for as long as it likes, and starts one daemon after the other.
    for turn in 0..2 {
        let mut client = Client::spawn(given(&home, &listener, 1, "$$"));
        // The manager listens already, so nobody is turned away, however early.
        assert_eq!(pid_at(&path), client.pid(), "turn {turn}");
        wait_until("clients find it", || home.daemon_status()["state"] == "serving");
        let shown = home.daemon_status();
        assert_eq!(shown["socket"].as_str(), path.to_str(), "{shown}");
        assert_eq!(home.daemon_pid(), client.pid());
        client.signal(TERM);
        assert_eq!(client.wait().code(), Some(0));
        assert_eq!(fs::metadata(&path).map(|file| file.ino()).ok(), Some(inode), "the socket was removed or replaced");
        assert_eq!(home.temporary_files(), Vec::<std::path::PathBuf>::new(), "it opened another one as well");
    }
}

#[test]
fn what_is_meant_for_another_process_is_not_taken() {
    let home = Home::without_engines();
    let path = home.dir.join("given.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut client = Client::spawn(given(&home, &listener, 1, "1"));
    wait_until("it serves", || home.daemon_status()["state"] == "serving");
    let socket = home.daemon_status()["socket"].as_str().unwrap().to_owned();
    assert!(socket.starts_with(home.dir.join("run").to_str().unwrap()), "{socket}");
    client.signal(TERM);
    assert_eq!(client.wait().code(), Some(0));
}

#[test]
fn several_sockets_and_one_without_a_path_are_refused() {
    let home = Home::without_engines();
    let listener = UnixListener::bind(home.dir.join("given.sock")).unwrap();
    let name = home.dir.join("abstract");
    let nameless = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name.to_str().unwrap()).unwrap()).unwrap();
    for (listener, count, why) in [(&listener, 2, "one socket is needed"), (&nameless, 1, "no path in the file system")]
    {
        let refused = finish(given(&home, listener, count, "$$"));
        assert_eq!(code(&refused), 1, "{refused:?}");
        assert!(stderr(&refused).contains(why), "{refused:?}");
    }
}

#[test]
fn no_program_that_it_starts_believes_that_the_manager_means_it() {
    let home = Home::without_engines();
    // An engine's tool that notes what it was started with, and works otherwise as one whose engine is not there.
    let seen = home.dir.join("seen");
    let tool = format!("{{ env; ls -l /proc/$$/fd; }} > {0}.$$; mv {0}.$$ {0}; exit 1", seen.display());
    let tool = home.script("tool", &tool);
    let notify = UnixDatagram::bind(home.dir.join("notify")).unwrap();
    notify.set_read_timeout(Some(LIMIT)).unwrap();
    let listener = UnixListener::bind(home.dir.join("given.sock")).unwrap();
    let mut command = given(&home, &listener, 1, "$$");
    command.env("FOSSE_DOCKER", &tool).env("FOSSE_PODMAN", &tool);
    command.env("NOTIFY_SOCKET", home.dir.join("notify")).env("LISTEN_FDNAMES", "fosse.socket");
    let mut client = Client::spawn(command);
    assert_eq!(told(&notify), "READY=1");
    // Its first sweep asks every engine.
    wait_until("a tool was started", || seen.exists());
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.contains("FOSSE_DOCKER="), "{seen}");
    for meant in ["NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "socket:"] {
        assert!(!seen.contains(meant), "{meant} in {seen}");
    }
    client.signal(TERM);
    assert_eq!(client.wait().code(), Some(0));
}
