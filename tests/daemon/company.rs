//! A daemon among others: foreign listeners, callers of every kind, other state directories, newer and older programs,
//! and what ends it or changes it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::daemon::{daemons, freeze, kill_daemon, side_by_side, the_one, timed};
use crate::support::init::wrapped;
use crate::support::native::{USER, is_root};
use crate::support::{
    Client, HUP, Home, INT, KILL, QUIT, TERM, code, finish, kill, left_out, process_state, stderr, wait_until,
};

/// What a foreign listener does with whoever comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Silent,
    Slow,
    Nonsense,
    HangsUp,
    /// Says, word for word, what the daemon said.
    Daemon,
}

const MANNERS: [Manner; 5] = [Manner::Silent, Manner::Slow, Manner::Nonsense, Manner::HangsUp, Manner::Daemon];

/// A listener at a path, in the place of whatever is there, until it is dropped.
struct Foreigner {
    /// A name of its socket that nobody else knows.
    path: PathBuf,
    over: Arc<AtomicBool>,
    /// Who listens; its connections end by themselves.
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Foreigner {
    fn at(path: &Path, manner: Manner, words: &str) -> Self {
        let temporary = path.with_extension("foreign");
        let listener = UnixListener::bind(&temporary).unwrap();
        // Whoever may connect is told by credentials alone.
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o777)).unwrap();
        // To wake it at the end, wherever the path leads by then.
        let own = path.with_extension("end");
        fs::hard_link(&temporary, &own).unwrap();
        fs::rename(&temporary, path).unwrap();
        let (over, words) = (Arc::new(AtomicBool::new(false)), words.to_owned());
        let ends = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                let (ends, words) = (Arc::clone(&ends), words.clone());
                std::thread::spawn(move || behave(&stream, manner, &words, &ends));
            }
        });
        Foreigner { path: own, over, thread: Some(thread) }
    }
}

impl Drop for Foreigner {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        UnixStream::connect(&self.path).map(drop).unwrap_or_default();
        fs::remove_file(&self.path).unwrap_or_default();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_default();
        }
    }
}

fn behave(mut stream: &UnixStream, manner: Manner, words: &str, over: &AtomicBool) {
    let answer =
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{words}", words.len());
    match manner {
        Manner::Silent => {
            let mut piece = [0; 512];
            // Until the client has enough.
            while stream.read(&mut piece).is_ok_and(|count| count > 0) {}
        }
        Manner::Slow => {
            for byte in answer.bytes() {
                if over.load(Ordering::SeqCst) || stream.write_all(&[byte]).is_err() {
                    return;
                }
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
        }
        Manner::Nonsense => stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\0\xff\n").unwrap_or_default(),
        Manner::HangsUp => {}
        Manner::Daemon => {
            stream.read(&mut [0; 4096]).map(drop).unwrap_or_default();
            stream.write_all(answer.as_bytes()).unwrap_or_default();
        }
    }
}

#[test]
fn a_foreign_listener_without_a_daemon_is_no_daemon() {
    side_by_side(MANNERS.len(), |number| {
        let home = Home::without_engines();
        let old = home.start_daemon();
        let (socket, words) = (home.daemon_socket(), home.daemon_status().to_string());
        kill_daemon(old);
        let _foreigner = Foreigner::at(&socket, MANNERS[number], &words);
        let (asked, _) = timed(home.cmd(["daemon", "status"]));
        assert_eq!(code(&asked), 3, "{:?}: {asked:?}", MANNERS[number]);
        let (started, _) = timed(home.cmd(["daemon", "start"]));
        assert_eq!(code(&started), 0, "{:?}: {started:?}", MANNERS[number]);
        the_one(&home);
        assert_eq!(code(&home.daemon(["stop"])), 0);
    });
}

#[test]
fn a_foreign_listener_in_a_daemons_place_is_put_aside() {
    side_by_side(MANNERS.len(), |number| {
        let home = Home::without_engines();
        let pid = home.start_daemon();
        let (socket, words) = (home.daemon_socket(), home.daemon_status().to_string());
        let _foreigner = Foreigner::at(&socket, MANNERS[number], &words);
        let (started, _) = timed(home.cmd(["daemon", "start"]));
        assert_eq!(code(&started), 0, "{:?}: {started:?}", MANNERS[number]);
        wait_until("the daemon is back in its place", || home.health() == Some(i64::from(pid)));
        assert_eq!(the_one(&home), pid);
        assert_eq!(code(&home.daemon(["stop"])), 0);
    });
}

#[test]
fn a_foreign_listener_in_a_frozen_daemons_place_changes_nothing() {
    side_by_side(MANNERS.len() - 1, |number| {
        let home = Home::without_engines();
        let old = home.start_daemon();
        let (socket, words) = (home.daemon_socket(), home.daemon_status().to_string());
        freeze(old);
        let _foreigner = Foreigner::at(&socket, MANNERS[number], &words);
        let (asked, _) = timed(home.cmd(["daemon", "status"]));
        assert_eq!(code(&asked), 4, "{:?}: {asked:?}", MANNERS[number]);
        let (started, _) = timed(home.cmd(["daemon", "start"]));
        assert_eq!(code(&started), 0, "{:?}: {started:?}", MANNERS[number]);
        assert_ne!(the_one(&home), old);
        assert_eq!(code(&home.daemon(["stop"])), 0);
    });
}

#[test]
fn a_listener_of_another_user_is_believed_nothing() {
    if !is_root() {
        return left_out("a listener of another user's needs root");
    }
    let home = Home::of_user(Some(USER));
    let old = home.start_daemon();
    let (socket, words) = (home.daemon_socket(), home.daemon_status().to_string());
    freeze(old);
    let _foreigner = Foreigner::at(&socket, Manner::Daemon, &words);
    let (asked, _) = timed(home.cmd(["daemon", "status"]));
    assert_eq!(code(&asked), 4, "{asked:?}");
    assert!(stderr(&asked).contains("it belongs to user 0"), "{asked:?}");
    let (started, _) = timed(home.cmd(["daemon", "start"]));
    assert_eq!(code(&started), 0, "{started:?}");
    wait_until("the old one has gone", || daemons(&home) != [old]);
    // The path is no proof for anybody: the words that came over it were the old one's.
    let status = home.daemon_status();
    assert_ne!(status["pid"], old);
    assert_eq!(code(&home.daemon(["stop"])), 0);
}

#[test]
fn clients_with_other_surroundings_share_it() {
    let home = Home::without_engines();
    let pid = home.start_daemon();
    home.write("config/fosse/config.json", "{\"keep_runs\": 7}");
    home.write("ws/fosse.json", "{\"memory\": \"1g\"}");
    for (name, value) in [
        ("FOSSE_RUNTIME_DIR", home.dir.join("other-run")),
        ("XDG_RUNTIME_DIR", home.dir.join("other-run")),
        ("XDG_CONFIG_HOME", home.dir.join("config")),
        ("HOME", home.dir.clone()),
        ("FOSSE_KEEP_RUNS", "9".into()),
        ("FOSSE_DAEMON_IDLE", "7s".into()),
        ("TMPDIR", home.dir.clone()),
        ("LANG", "de_DE.UTF-8".into()),
    ] {
        for verb in ["start", "status"] {
            let mut command = home.cmd(["daemon", verb]);
            if name == "XDG_RUNTIME_DIR" {
                command.env_remove("FOSSE_RUNTIME_DIR");
            }
            let shared = {
                command.env(name, &value).current_dir(&home.dir);
                finish(command)
            };
            assert_eq!(code(&shared), 0, "{name}: {shared:?}");
            assert_eq!(the_one(&home), pid, "{name}");
        }
    }
    // A start whose daemon took long to answer may have made the directory for itself, in vain.
    let made = std::fs::read_dir(home.dir.join("other-run")).into_iter().flatten().count();
    assert_eq!(made, 0, "somebody made sockets elsewhere");
}

#[test]
fn two_state_directories_with_one_runtime_directory_have_two() {
    let (home, other) = (Home::without_engines(), Home::without_engines());
    let beside = |verb: &str| {
        let mut command = other.cmd(["daemon", verb]);
        command.env("FOSSE_RUNTIME_DIR", home.dir.join("run"));
        finish(command)
    };
    let first = home.start_daemon();
    assert_eq!(code(&beside("start")), 0);
    let second = the_one(&other);
    assert_ne!(home.daemon_socket(), other.daemon_socket());
    assert_eq!(home.daemon_socket().parent(), other.daemon_socket().parent());
    assert_eq!(code(&beside("restart")), 0);
    let third = other.daemon_pid();
    assert_ne!(third, second);
    assert_eq!(home.health(), Some(i64::from(first)));
    assert_eq!(code(&home.daemon(["stop"])), 0);
    assert_eq!(other.health(), Some(i64::from(third)));
}

#[test]
fn paths_that_are_too_long_for_a_socket_are_no_hindrance() {
    let home = Home::without_engines();
    let long = home.dir.join("l".repeat(120)).join("o".repeat(120));
    for (state, runtime) in [(true, false), (false, true), (true, true)] {
        let daemon = |verb: &str| {
            let mut command = home.cmd(["daemon", verb, "--quiet"]);
            for (name, dir) in [("FOSSE_STATE_DIR", state), ("FOSSE_RUNTIME_DIR", runtime)] {
                if dir {
                    command.env(name, long.join(name));
                }
            }
            code(&finish(command))
        };
        assert_eq!([daemon("start"), daemon("status"), daemon("restart"), daemon("status")], [0; 4]);
        assert_eq!([daemon("stop"), daemon("status")], [0, 3]);
    }
}

#[test]
fn without_a_runtime_directory_there_is_one_below_tmp() {
    let home = Home::without_engines();
    let mut command = home.cmd(["daemon", "start"]);
    command.env_remove("FOSSE_RUNTIME_DIR");
    assert_eq!(code(&finish(command)), 0);
    the_one(&home);
    let socket = home.daemon_socket();
    assert!(socket.starts_with(format!("/tmp/fosse-{}", home.ids().0)), "{}", socket.display());
    assert_eq!(fs::metadata(socket.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(code(&home.daemon(["stop"])), 0);
    assert!(!socket.exists());
    // The directory is the user's, and stays; nobody else uses one that is empty.
    fs::remove_dir(socket.parent().unwrap()).unwrap_or_default();
}

#[test]
fn it_holds_nothing_of_its_callers() {
    let home = Home::without_engines();
    let file = home.write("mine", "");
    let script = "exec 9>../mine && exec \"$@\"";
    let command = wrapped(&home.cmd(["daemon", "start"]), &["sh", "-c", script, "sh"]);
    let started = finish(command);
    assert_eq!(code(&started), 0, "{started:?}");
    let pid = the_one(&home);
    let own = fs::metadata(&file).unwrap();
    let held = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten().map(|entry| fs::metadata(entry.path()));
    let same = |found: &fs::Metadata| {
        use std::os::unix::fs::MetadataExt;
        (found.dev(), found.ino()) == (own.dev(), own.ino())
    };
    assert!(!held.flatten().any(|found| same(&found)));
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
}

#[test]
fn what_a_killed_daemons_tools_still_do_keeps_nobody_waiting() {
    let home = Home::without_engines();
    let tool = home.script("tool", "setsid sh -c 'echo $$ >\"$0.pid\"; exec sleep 1000' \"$0\" & wait");
    let mut command = home.cmd(["daemon", "start", "--foreground"]);
    command.env("FOSSE_DOCKER", &tool);
    let daemon = Client::spawn(command);
    let tools = home.dir.join("tool.pid");
    let reap = Client::spawn(home.cmd(["daemon", "reap"]));
    wait_until("a tool is at work", || fs::read_to_string(&tools).is_ok_and(|text| text.ends_with('\n')));
    let child: i32 = fs::read_to_string(&tools).unwrap().trim().parse().unwrap();
    kill(daemon.pid(), KILL);
    let (started, _) = timed(home.cmd(["daemon", "start"]));
    assert_eq!(code(&started), 0, "{started:?}");
    the_one(&home);
    assert_eq!(process_state(child), Some('S'), "nothing was left to wait for");
    kill(child, KILL);
    drop(reap);
}

#[test]
fn hup_reads_the_configuration_again() {
    let home = Home::without_engines();
    let pid = home.start_daemon();
    let kept = || home.daemon_status()["fingerprint"]["settings"]["keep_runs"].clone();
    assert!(kept().is_null());
    home.write("home/.config/fosse/config.json", "{\"keep_runs\": 5}");
    kill(pid, HUP);
    wait_until("it has read it", || kept() == 5);
    // What cannot be read changes nothing, and is said.
    home.write("home/.config/fosse/config.json", "{\"keep_runs\": }");
    kill(pid, HUP);
    wait_until("it has tried", || home.daemon_log().contains("the configuration stays as it was"));
    assert_eq!((the_one(&home), kept()), (pid, 5.into()));
    home.write("home/.config/fosse/config.json", "{\"keep_runs\": 5}");
    assert_eq!(code(&home.daemon(["start"])), 0);
    assert_eq!(the_one(&home), pid);
}

#[test]
fn a_signal_ends_it_and_leaves_no_file() {
    for signal in [TERM, INT, QUIT] {
        for foreground in [false, true] {
            let home = Home::without_engines();
            let client = foreground.then(|| home.start_in_foreground());
            let pid = if foreground { home.daemon_pid() } else { home.start_daemon() };
            kill(pid, signal);
            if let Some(client) = client {
                let ended = client.output();
                assert_eq!(code(&ended), 0, "{signal}: {ended:?}");
            }
            wait_until("it has ended", || daemons(&home).is_empty());
            assert_eq!(home.temporary_files(), Vec::<PathBuf>::new(), "{signal}");
            assert_eq!(fs::read(home.daemon_lock()).unwrap(), b"");
        }
    }
}

#[test]
fn changed_content_replaces_it_and_nothing_else_does() {
    let home = Home::without_engines();
    let path = home.write("home/.config/fosse/config.json", "{\"keep_runs\": 5}");
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    let first = home.start_daemon();
    assert!(Command::new("touch").arg(&path).status().unwrap().success());
    assert_eq!(home.start_daemon(), first, "touched");
    home.write("home/.config/fosse/config.json", "{\"keep_runs\":  5, \"memory\": \"1g\"}\n");
    assert_eq!(home.start_daemon(), first, "not the daemon's key");
    home.write("home/.config/fosse/config.json", "{\"keep_runs\": 6}");
    fs::File::open(&path).unwrap().set_modified(before).unwrap();
    let second = home.start_daemon();
    assert_ne!(second, first, "the content is another");
    home.write("home/.config/fosse/config.json", "{");
    assert_eq!(the_one(&home), second);
    fs::remove_file(&path).unwrap();
    assert_ne!(home.start_daemon(), second, "the file is gone");
    the_one(&home);
}

#[test]
fn a_newer_program_replaces_an_older_one_and_never_the_other_way() {
    let home = Home::without_engines();
    let start = |version: &str| {
        let mut command = home.cmd(["daemon", "start"]);
        command.env("FOSSE_TEST_VERSION", version);
        let started = finish(command);
        assert_eq!(code(&started), 0, "{version}: {started:?}");
        the_one(&home)
    };
    let first = start("1.2.3");
    assert_eq!(start("1.2.3"), first);
    assert_eq!(start("1.1.9"), first, "an older client");
    let second = start("1.10.0");
    assert_ne!(second, first, "a newer client");
    assert_eq!(start("1.2.3"), second, "what was replaced does not come back");
    assert_eq!(home.daemon_status()["fingerprint"]["version"], "1.10.0");
}

#[test]
fn it_ends_by_itself_but_never_in_the_foreground() {
    let (home, other) = (Home::without_engines(), Home::without_engines());
    let mut command = other.cmd(["daemon", "start", "--foreground"]);
    command.env("FOSSE_DAEMON_IDLE", "500ms");
    let _foreground = Client::spawn(command);
    let pid = the_one(&other);
    let mut command = home.cmd(["daemon", "start"]);
    command.env("FOSSE_DAEMON_IDLE", "1s");
    assert_eq!(code(&finish(command)), 0);
    wait_until("it has ended", || daemons(&home).is_empty());
    assert!(home.daemon_log().contains("nothing lives: the daemon ends"), "{}", home.daemon_log());
    assert_eq!(home.temporary_files(), Vec::<PathBuf>::new());
    assert_eq!(the_one(&other), pid);
}
