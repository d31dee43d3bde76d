//! The emulator of Apple's tool against the page of facts: JSON byte by byte, logs, terminals, mounts and addresses.

use serde_json::{Value, json};

use crate::apple::facts::{IMAGE, detached, is_modern, is_running, on_each_release, one_release_plays};
use crate::support::apple::{Service, tool};
use crate::support::native::is_root;
use crate::support::{Client, Home, KILL, TERM, code, left_out, others_can_execute, stderr, stdout, wait_until};

fn json_of(service: &Service, args: &[&str]) -> Value {
    let output = service.call(args);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Runs a script to its end and gives what it wrote.
fn output_of(service: &Service, options: &[&str], script: &str) -> String {
    let args = [&["run", "--rm", "--progress", "none"], options, &[IMAGE, "sh", "-c", script]].concat();
    let output = service.call(&args);
    assert_eq!(code(&output), 0, "{output:?}");
    stdout(&output)
}

/// Section 2, Encoding: keys sorted, `"key" : value`, an empty array over three lines, `\/` through 1.2.x; ≤0.12 compact
/// with double dates.
#[test]
fn json_has_the_bytes_of_its_release() {
    if !one_release_plays() {
        return;
    }
    on_each_release(|service, release| {
        assert_eq!(
            code(&service.call(["create", "--name", "shown", "--label", "k=\"running\"", IMAGE, "sleep", "9"])),
            0
        );
        let inspect = stdout(&service.call(["inspect", "shown"]));
        let list = stdout(&service.call(["list", "--all", "--format", "json"]));
        assert_eq!(list.lines().count(), 1, "{list}");
        let slash = if release == "1.4.1" { "docker.io/library/" } else { "docker.io\\/library\\/" };
        assert!(inspect.contains(slash) && list.contains(slash), "{inspect}");
        let shown: Value = serde_json::from_str(&inspect).unwrap();
        assert_eq!(shown, serde_json::from_str::<Value>(&list).unwrap(), "both show the same object");
        let item = &shown[0];
        assert!(!inspect.contains("null"), "{inspect}");
        if is_modern(release) {
            assert!(
                inspect.starts_with("[\n  {\n    \"configuration\" : {\n      \"capAdd\" : [\n\n      ],\n"),
                "{inspect}"
            );
            assert!(inspect.ends_with("\n    }\n  }\n]\n"), "{inspect}");
            let created = item["configuration"]["creationDate"].as_str().unwrap();
            assert!(created.len() == 20 && created.ends_with('Z'), "{created}");
            assert_eq!((&item["id"], &item["configuration"]["id"]), (&json!("shown"), &json!("shown")));
            assert_eq!(item["status"], json!({"networks": [], "state": "stopped"}));
            assert_eq!(item["configuration"]["resources"]["cpuOverhead"], 1);
        } else {
            assert_eq!(inspect.lines().count(), 1, "{inspect}");
            assert_eq!((&item["status"], &item["networks"]), (&json!("stopped"), &json!([])));
            assert!(item.get("id").is_none() && item["configuration"].get("creationDate").is_none(), "{item}");
        }
        let process = &item["configuration"]["initProcess"];
        assert_eq!((&process["executable"], &process["arguments"]), (&json!("sleep"), &json!(["9"])));
        assert_eq!(process["user"], json!({"id": {"gid": 0, "uid": 0}}));
        assert_eq!(item["configuration"]["labels"], json!({"k": "\"running\""}));
    });
}

/// Section 2.1 and 2.2: addresses while it runs, `startedDate` kept after it; order and `-a` of `list`; the table.
#[test]
fn a_running_container_has_addresses_and_a_stopped_one_its_start() {
    if !one_release_plays() {
        return;
    }
    on_each_release(|service, release| {
        assert_eq!(code(&service.call(["create", "--name", "idle", IMAGE])), 0);
        detached(service, "busy", "sleep 1000");
        let all = json_of(service, &["list", "--format", "json"]);
        // ≤0.9 printed all of them.
        assert_eq!(all.as_array().unwrap().len(), if release == "0.9.0" { 2 } else { 1 });
        let shown = json_of(service, &["inspect", "busy"])[0].clone();
        let (networks, started) = match is_modern(release) {
            true => (shown["status"]["networks"].clone(), shown["status"]["startedDate"].clone()),
            false => (shown["networks"].clone(), shown["startedDate"].clone()),
        };
        assert_eq!(
            (&networks[0]["ipv4Address"], &networks[0]["hostname"]),
            (&json!("192.168.64.2/24"), &json!("busy"))
        );
        assert_eq!(networks[0]["ipv4Gateway"], "192.168.64.1");
        let has_variant = ["1.2.2", "1.4.1"].contains(&release);
        assert_eq!(networks[0].get("variant").is_some(), has_variant, "{networks}");
        assert_eq!(started.is_string(), is_modern(release), "{started}");
        assert!(started.is_string() || started.as_f64().unwrap() > 7e8, "{started}");
        assert_eq!(stdout(&service.call(["ls", "-q"])), "busy\n");
        let header =
            stdout(&service.call(["ls"])).lines().next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        let expected = "ID IMAGE OS ARCH STATE IP CPUS MEMORY STARTED";
        assert_eq!(header, if is_modern(release) { expected } else { "ID IMAGE OS ARCH STATE ADDR" });
        assert_eq!(code(&service.call(["kill", "busy"])), 0);
        wait_until("it is stopped", || !is_running(service, "busy"));
        let shown = json_of(service, &["inspect", "busy"])[0].clone();
        let after = if is_modern(release) { shown["status"].clone() } else { shown };
        assert_eq!((&after["startedDate"], &after["networks"]), (&started, &json!([])));
        assert_eq!(stdout(&service.call(["ls", "-q"])), "", "nothing at all");
        // Addresses rotate.
        detached(service, "next", "sleep 1000");
        let shown = json_of(service, &["inspect", "next"]).to_string();
        assert!(shown.contains("192.168.64.3/24"), "{shown}");
    });
}

/// Section 2.4: status and version, the shapes of images and networks.
#[test]
fn the_service_images_and_networks_have_their_shapes() {
    if !one_release_plays() {
        return;
    }
    on_each_release(|service, release| {
        if release != "0.9.0" {
            let status = json_of(service, &["system", "status", "--format", "json"]);
            assert_eq!(status["status"], "running");
            let sentence = if release == "1.4.1" { &status["server"]["version"] } else { &status["apiServerVersion"] };
            let expected = format!("container-apiserver version {release} (build: release, commit: abcdefg)");
            assert_eq!(sentence, &json!(expected), "{status}");
            service.server("not_running");
            let down = service.call(["system", "status", "--format", "json"]);
            assert_eq!(code(&down), 1);
            let down: Value = serde_json::from_slice(&down.stdout).unwrap();
            assert_eq!(down["status"], "not running");
            assert!(down["apiServerVersion"].as_str().unwrap_or_default().is_empty(), "{down}");
            service.server("running");
        }
        let versions = json_of(service, &["system", "version", "--format", "json"]);
        assert_eq!((&versions[0]["appName"], &versions[0]["version"]), (&json!("container"), &json!(release)));
        let image = json_of(service, &["image", "inspect", IMAGE])[0].clone();
        let network = json_of(service, &["network", "inspect", "default"])[0].clone();
        if is_modern(release) {
            assert_eq!(image["configuration"]["name"], "docker.io/library/fosse-test:busybox");
            assert_eq!(image["variants"][0]["config"]["config"]["Cmd"], json!(["/bin/sh"]));
            assert!(!image["id"].as_str().unwrap().contains(':'), "{image}");
            assert_eq!(network["status"]["ipv4Gateway"], "192.168.64.1");
            let role = &network["configuration"]["labels"]["com.apple.container.resource.role"];
            assert_eq!((role, &network["configuration"]["mode"]), (&json!("builtin"), &json!("nat")));
        } else {
            assert!(image.get("index").is_some() && image.get("name").is_some(), "{image}");
            assert_eq!((&network["state"], &network["config"]["id"]), (&json!("running"), &json!("default")));
        }
    });
}

/// Section 4, Logs: trimmed, merged, `-n` without blank lines, whole only if it is UTF-8, truncated at each start.
#[test]
fn logs_are_trimmed_merged_and_fail_whole() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = Service::new(&home, "1.2.2");
    let script = "printf '\\none\\n\\ntwo\\n\\nthree'; [ -e /again ] && printf '\\377'; touch /again";
    assert_eq!(code(&service.call(["create", "--name", "logged", IMAGE, "sh", "-c", script])), 0);
    assert_eq!(code(&service.call(["start", "--attach", "logged"])), 0);
    assert_eq!(stdout(&service.call(["logs", "logged"])), "one\n\ntwo\n\nthree\n");
    assert_eq!(stdout(&service.call(["logs", "-n", "2", "logged"])), "two\nthree\n");
    assert_eq!(code(&service.call(["start", "--attach", "logged"])), 0);
    let bad = service.call(["logs", "logged"]);
    assert_eq!((code(&bad), stderr(&bad).as_str()), (1, "Error: failed to convert container logs to utf8\n"));
    let missing = service.call(["logs", "no-one"]);
    assert!(stderr(&missing).starts_with("Error: failed to get logs for container no-one (cause: \""), "{missing:?}");
}

/// Section 4, Logs: `-f` prints what is there, follows without blank lines, and "never ends".
#[test]
fn logs_that_are_followed_never_end() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = Service::new(&home, "1.2.2");
    detached(&service, "followed", "echo one; echo; while [ ! -e /go ]; do sleep 0.02; done; echo; echo two");
    wait_until("it has written", || !service.call(["logs", "followed"]).stdout.is_empty());
    let mut follower = Client::spawn(service.cmd(["logs", "--follow", "followed"]));
    follower.wait_for_output("one\n");
    assert_eq!(code(&service.call(["exec", "followed", "touch", "/go"])), 0);
    follower.wait_for_output("one\ntwo\n");
    wait_until("it is stopped", || !is_running(&service, "followed"));
    assert_eq!(code(&service.call(["delete", "followed"])), 0);
    assert!(std::path::Path::new(&format!("/proc/{}", follower.pid())).exists(), "it goes on");
    follower.signal(KILL);
    follower.wait();
    assert_eq!(follower.stdout_text(), "one\ntwo\n");
}

/// Section 4, TTY: `-i -t` needs a terminal; with `-t` both streams are one, with CRLF, and are logged too.
#[test]
fn a_terminal_merges_the_streams_and_input_needs_one() {
    if !one_release_plays() {
        return;
    }
    on_each_release(|service, release| {
        let run = ["run", "-t", "--name", "tty", "--progress", "none", IMAGE, "sh", "-c", "echo a; echo b >&2; tty"];
        let output = service.call(run);
        assert_eq!((code(&output), stdout(&output).as_str()), (0, "a\r\nb\r\n/dev/pts/0\r\n"), "{output:?}");
        assert_eq!(stdout(&service.call(["logs", "tty"])), "a\r\nb\r\n/dev/pts/0\n");
        let refused = service.call(["run", "-it", "--name", "no-tty", "--progress", "none", IMAGE, "true"]);
        assert_eq!(code(&refused), 1, "{release}: {refused:?}");
        assert!(service.containers().iter().all(|(id, _)| id != "no-tty"), "run removes what it has created");
    });
}

/// Section 4, TTY: `-i` passes stdin on, and sets O_NONBLOCK on the open file that the caller may share.
#[test]
fn interactive_passes_stdin_and_makes_it_nonblocking() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = Service::new(&home, "1.2.2");
    let mut command =
        service.cmd(["run", "-i", "--rm", "--progress", "none", IMAGE, "sh", "-c", "echo ready; cat; exit 4"]);
    let (read, write) = fosse::sys::fd::pipe().unwrap();
    command.stdin(read.try_clone().unwrap());
    let client = Client::spawn(command);
    client.wait_for_output("ready");
    let flags =
        std::fs::read_to_string(format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&read))).unwrap();
    let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim().to_owned();
    assert_ne!(u32::from_str_radix(&flags, 8).unwrap() & 0o4000, 0, "{flags}");
    std::io::Write::write_all(&mut std::fs::File::from(write), b"typed\n").unwrap();
    let output = client.output();
    assert_eq!((code(&output), stdout(&output).as_str()), (4, "ready\ntyped\n"));
}

/// Section 4, Mounts: `-v` of directories and files, `:ro`, `--tmpfs`, `--read-only`; the environment is exactly the
/// configured one; a network `none` has a loopback alone.
#[test]
fn a_container_has_its_mounts_its_environment_and_its_network() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = Service::new(&home, "1.2.2");
    let file = home.write("ws/file", "content\n");
    let (dir, file) = (home.workspace().display().to_string(), file.display().to_string());
    let (fixed, single) = (format!("{dir}:/fixed:ro"), format!("{file}:/single.txt"));
    let options = ["-v", &fixed, "-v", &single, "--mount", &format!("type=bind,source={dir},target=/open")];
    let script = "cat /fixed/file /single.txt; touch /fixed/x 2>/dev/null || echo fixed; touch /open/x && ls /fixed";
    assert_eq!(output_of(&service, &options, script), "content\ncontent\nfixed\nfile\nx\n");
    let options = ["--read-only", "--tmpfs", "/mine"];
    let script = "touch /x 2>/dev/null || echo fixed; touch /mine/x && ls /mine";
    assert_eq!(output_of(&service, &options, script), "fixed\nx\n");
    let mut command = service.cmd(["run", "--rm", "--progress", "none", "-e", "A=1", "-e", "INHERITED", IMAGE, "env"]);
    command.env("INHERITED", "yes").env("OTHER", "no");
    let environment = stdout(&crate::support::finish(command));
    let mut lines: Vec<&str> = environment.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=1", "INHERITED=yes", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
    assert_eq!(output_of(&service, &["--network", "none"], "ls /sys/class/net"), "lo\n");
    let script = "hostname; ulimit -n; echo $$; id -u";
    // Others than root have no other user inside.
    let (user, id) = if is_root() { ("tester", "1234") } else { ("root", "0") };
    let options = ["--name", "named", "--ulimit", "nofile=77:99", "--user", user];
    assert_eq!(output_of(&service, &options, script), format!("named\n77\n1\n{id}\n"));
    wait_until("the records are gone", || service.containers().is_empty());
}

/// Section 4, Exit code path: "The reply comes only after VM teardown, so it lags the process".
#[test]
fn the_code_comes_only_after_the_teardown() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = Service::new(&home, "1.2.2");
    service.latency(&json!({"teardown": 600_000}));
    let client = Client::spawn(service.cmd(["run", "--name", "slow", "--progress", "none", IMAGE, "echo", "done"]));
    client.wait_for_output("done");
    let init = || i32::try_from(service.state("slow")["init"].as_i64().unwrap_or_default()).unwrap();
    wait_until("the process has ended", || {
        init() > 1 && crate::support::process_state(init()).is_none_or(|state| state == 'Z')
    });
    assert!(is_running(&service, "slow"), "it is shown as running until then");
    assert!(std::path::Path::new(&format!("/proc/{}", client.pid())).exists());
    client.signal(TERM);
    wait_until("it complains", || client.stderr_text().contains("failed to send signal"));
}

/// Section 4, TTY: raw mode only with both `-t` and `-i`; the size follows the client's window.
#[test]
fn a_terminal_that_is_used_both_ways_is_raw_and_follows_the_window() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = Service::new(&home, "1.2.2");
    let script = "stty size; trap 'stty size; exit 6' WINCH; echo ready; while :; do sleep 0.05; done";
    let run = ["run", "-it", "--name", "window", "--progress", "none", "fosse-test:glibc", "bash", "-c", script];
    let size = fosse::sys::termios::Size { rows: 33, columns: 101, width: 0, height: 0 };
    let (leader, follower) = fosse::sys::pty::open(size).unwrap();
    let mut command = service.cmd(run);
    let copy = || follower.try_clone().unwrap();
    command.stdin(copy()).stdout(copy()).stderr(copy());
    fosse::sys::pty::own_terminal(&mut command);
    let before = fosse::sys::termios::Mode::of(&follower).is_ok();
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut shown = String::new();
    let mut screen = std::fs::File::from(leader.try_clone().unwrap());
    let mut read_until = |text: &str| {
        while !shown.contains(text) {
            let mut buffer = [0; 1024];
            let count = std::io::Read::read(&mut screen, &mut buffer).unwrap();
            shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        shown.clone()
    };
    assert!(before && read_until("ready").contains("33 101\r\n"));
    let stty = std::process::Command::new("stty").arg("-a").stdin(copy()).output().unwrap();
    assert!(stdout(&stty).contains("-icanon"), "{stty:?}");
    fosse::sys::termios::Size { rows: 44, columns: 88, width: 0, height: 0 }.set(&leader).unwrap();
    read_until("44 88\r\n");
    assert_eq!(child.wait().unwrap().code(), Some(6));
}

/// Section 1, Volumes: usable by one container at a time, stopped ones included; made where `-v` names none.
#[test]
fn a_volume_belongs_to_one_container() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = Service::new(&home, "1.2.2");
    let first =
        service.call(["create", "--name", "first", "-v", "data:/data", IMAGE, "sh", "-c", "echo kept >/data/x"]);
    assert_eq!((code(&first), stdout(&first).as_str()), (0, "first\n"));
    let text = "Error: volume 'data' is currently in use and cannot be accessed by another container, or deleted\n";
    assert_eq!(stderr(&service.call(["create", "-v", "data:/data", IMAGE])), text);
    assert_eq!(stderr(&service.call(["volume", "delete", "data"])), text);
    assert_eq!(code(&service.call(["start", "--attach", "first"])), 0);
    assert_eq!(code(&service.call(["delete", "first"])), 0);
    assert_eq!(output_of(&service, &["-v", "data:/data"], "cat /data/x"), "kept\n");
    wait_until("its user is gone", || service.containers().is_empty());
    assert_eq!(json_of(&service, &["volume", "inspect", "data"])[0]["configuration"]["format"], "ext4");
    assert_eq!(stdout(&service.call(["volume", "rm", "data"])), "data\n");
    service.assert_nothing_left();
}

/// Section 3: a port that another container has, or the machine.
#[test]
fn a_published_port_is_only_one_containers() {
    if !one_release_plays() {
        return;
    }
    let home = Home::new();
    let service = Service::new(&home, "1.2.2");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("127.0.0.1:{}:80", listener.local_addr().unwrap().port());
    let run =
        |id: &str| service.call(["run", "-d", "--name", id, "-p", &port, "--progress", "none", IMAGE, "sleep", "1000"]);
    let text = "Error: bind(descriptor:ptr:bytes:): Address already in use (errno: 48)\n";
    assert_eq!(stderr(&run("first")), text);
    drop(listener);
    assert_eq!(code(&run("first")), 0);
    assert_eq!(stderr(&run("second")), text);
    assert_eq!(service.containers().len(), 1);
}

/// Without root: everything in a user namespace, which has one user.
#[test]
fn a_service_of_another_user_works_too() {
    if !one_release_plays() {
        return;
    }
    if !is_root() || !others_can_execute(tool()) {
        return left_out("the emulator as another user needs root, and a way to it that is open to others");
    }
    let home = Home::of_user(Some(12345));
    let service = Service::new(&home, "1.2.2");
    home.give(&service.root);
    let can =
        service.call(["run", "--name", "mine", "--progress", "none", IMAGE, "sh", "-c", "id -u; touch /x; exit 8"]);
    assert_eq!((code(&can), stdout(&can).as_str()), (8, "0\n"), "{can:?}");
    detached(&service, "alive", "sleep 1000");
    let inside = service.call(["exec", "alive", "sh", "-c", "id -u; exit 9"]);
    assert_eq!((code(&inside), stdout(&inside).as_str()), (9, "0\n"), "{inside:?}");
    let both = service.call(["delete", "--force", "mine", "alive"]);
    assert_eq!(code(&both), 0, "{both:?}");
    service.assert_nothing_left();
}
