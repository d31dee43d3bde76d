//! What becomes of a daemon's files is no proof of anything: they are healed, replaced or refused, nobody is stranded,
//! and no stranger is harmed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command};

use serde_json::{Value, json};

use crate::support::daemon::{
    Racer, Way, daemons, freeze, kill_daemon, race, raced, settled, side_by_side, the_one, timed,
};
use crate::support::native::{USER, in_mounts, is_root};
use crate::support::{Client, Home, KILL, code, finish, kill, left_out, process_state, stderr, wait_until};

/// A process that has nothing to do with any of this.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        Stranger(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    /// When it began, in clock ticks since boot.
    fn start_time(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap()
    }

    /// Fails unless nobody has touched it.
    fn assert_untouched(mut self) {
        assert_eq!(self.0.try_wait().unwrap(), None, "the stranger was harmed");
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}

/// Contents that no daemon has written into the file of its lock: nothing, nonsense, too much, and untruths.
fn contents(home: &Home, stranger: &Stranger) -> Vec<Vec<u8>> {
    let truth = home.daemon_record();
    let with = |changes: Value| {
        let mut record = truth.clone();
        let changes = changes.as_object().unwrap().clone();
        record.as_object_mut().unwrap().extend(changes);
        format!("{record}\n").into_bytes()
    };
    let boot = "00000000-0000-0000-0000-000000000000";
    vec![
        Vec::new(),
        b"\n".to_vec(),
        b"{\"pid\": 1".to_vec(),
        vec![0; 4096],
        vec![b'x'; 100_000],
        with(json!({"pid": stranger.pid()})),
        with(json!({"pid": stranger.pid(), "start_time": stranger.start_time()})),
        with(json!({"pid": stranger.pid(), "start_time": stranger.start_time(), "nonce": "0123456789abcdef"})),
        with(json!({"boot_id": boot})),
        with(json!({"nonce": "0123456789abcdef"})),
        with(json!({"socket": ""})),
        with(json!({"socket": "/nonexistent/socket"})),
        with(json!({"pid": 1, "start_time": 0, "boot_id": boot, "nonce": "", "socket": "relative"})),
        with(json!({"pid": -1})),
    ]
}

#[test]
fn whatever_the_locks_file_says_the_daemon_is_found_and_says_who_it_is_again() {
    let home = Home::without_engines();
    let (pid, stranger) = (home.start_daemon(), Stranger::new());
    let truth = home.daemon_record();
    for content in contents(&home, &stranger) {
        fs::write(home.daemon_lock(), &content).unwrap();
        let started = finish(home.cmd(["daemon", "start"]));
        assert_eq!(code(&started), 0, "{:?}: {started:?}", String::from_utf8_lossy(&content));
        wait_until("the file is as it was", || home.daemon_record() == truth);
        assert_eq!(the_one(&home), pid);
    }
    stranger.assert_untouched();
}

#[test]
fn whatever_a_dead_daemon_left_in_the_locks_file_the_next_one_begins() {
    let home = Home::without_engines();
    let stranger = Stranger::new();
    home.start_daemon();
    for content in contents(&home, &stranger) {
        kill_daemon(the_one(&home));
        fs::write(home.daemon_lock(), &content).unwrap();
        assert_eq!(code(&home.daemon(["status"])), 3, "{:?}", String::from_utf8_lossy(&content));
        assert_eq!(code(&home.daemon(["stop"])), 0);
        fs::write(home.daemon_lock(), &content).unwrap();
        home.start_daemon();
        the_one(&home);
    }
    stranger.assert_untouched();
}

#[test]
fn whatever_the_locks_file_says_of_a_frozen_daemon_that_one_alone_is_ended() {
    let stranger = Stranger::new();
    let count = {
        let home = Home::without_engines();
        home.start_daemon();
        contents(&home, &stranger).len()
    };
    side_by_side(count, |number| {
        let home = Home::without_engines();
        let old = home.start_daemon();
        let content = &contents(&home, &stranger)[number];
        freeze(old);
        fs::write(home.daemon_lock(), content).unwrap();
        let verb = if number % 2 == 0 { "start" } else { "restart" };
        let (replaced, _) = timed(home.cmd(["daemon", verb]));
        assert_eq!(code(&replaced), 0, "{:?}: {replaced:?}", String::from_utf8_lossy(content));
        assert_ne!(the_one(&home), old);
        wait_until("the old one has ended", || process_state(old).is_none_or(|state| state == 'Z'));
    });
    stranger.assert_untouched();
}

#[test]
fn a_socket_that_is_taken_away_comes_back() {
    let home = Home::without_engines();
    let pid = home.start_daemon();
    let socket = home.daemon_socket();
    let ways: [&dyn Fn(); 5] = [
        &|| fs::remove_file(&socket).unwrap(),
        // It may be back before all of it is gone.
        &|| fs::remove_dir_all(socket.parent().unwrap()).unwrap_or_default(),
        &|| fs::rename(&socket, home.dir.join("elsewhere")).unwrap(),
        &|| {
            fs::write(home.dir.join("file"), "").unwrap();
            fs::rename(home.dir.join("file"), &socket).unwrap();
        },
        &|| fs::rename(socket.parent().unwrap(), home.dir.join("moved")).unwrap(),
    ];
    for (number, damage) in ways.iter().enumerate() {
        damage();
        let started = finish(home.cmd(["daemon", "start"]));
        assert_eq!(code(&started), 0, "{number}: {started:?}");
        assert_eq!(the_one(&home), pid, "{number}");
    }
    assert_eq!(code(&home.daemon(["stop"])), 0);
    assert!(!socket.exists());
}

#[test]
fn where_the_lock_is_another_file_the_old_daemon_gives_way() {
    let home = Home::without_engines();
    let ways: [&dyn Fn(&Path); 5] = [
        &|lock| fs::remove_file(lock).unwrap(),
        &|lock| {
            fs::write(home.dir.join("file"), "").unwrap();
            fs::rename(home.dir.join("file"), lock).unwrap();
        },
        &|_| fs::remove_dir_all(home.state()).unwrap(),
        &|_| fs::rename(home.state(), home.dir.join("moved")).unwrap(),
        &|_| {
            let copied = Command::new("cp").arg("-a").arg(home.state()).arg(home.dir.join("copy")).status().unwrap();
            assert!(copied.success());
            fs::rename(home.state(), home.dir.join("moved-2")).unwrap();
            fs::rename(home.dir.join("copy"), home.state()).unwrap();
        },
    ];
    for (number, damage) in ways.iter().enumerate() {
        let old = home.start_daemon();
        damage(&home.daemon_lock());
        let started = finish(home.cmd(["daemon", "start"]));
        assert_eq!(code(&started), 0, "{number}: {started:?}");
        wait_until("the old one has gone", || !daemons(&home).contains(&old));
        assert_ne!(the_one(&home), old, "{number}");
        assert_eq!(code(&home.daemon(["stop"])), 0);
        assert_eq!(daemons(&home), [0; 0], "{number}");
    }
}

#[test]
fn five_starts_after_the_state_directory_went_leave_one() {
    let home = Home::without_engines();
    let old = home.start_daemon();
    fs::remove_dir_all(home.state()).unwrap();
    let (pid, _) = settled(&home, race(&home, [Way::Background; 5]));
    assert_ne!(pid, old);
}

/// Fails unless a command said in one line what is wrong and in another what to do, and ended with 1.
fn assert_refused(command: Command) -> String {
    let (refused, _) = timed(command);
    let said = stderr(&refused);
    assert_eq!(code(&refused), 1, "{refused:?}");
    let lines: Vec<&str> = said.lines().collect();
    let well = matches!(lines[..], [what, hint] if what.starts_with("fosse: ") && hint.starts_with("hint: "));
    assert!(well, "{said}");
    said
}

/// Both ways to start one are refused, and nothing is left of the tries.
fn assert_no_start(home: &Home, change: impl Fn(&mut Command)) {
    for args in [&["start"][..], &["start", "--foreground"], &["restart"]] {
        let mut command = home.cmd(["daemon"]);
        change(command.args(args));
        assert_refused(command);
        wait_until("none is left", || daemons(home).is_empty());
    }
}

#[test]
fn a_lock_that_is_no_regular_file_is_refused() {
    let ways: [fn(&Path, &Path); 4] = [
        |lock, victim| std::os::unix::fs::symlink(victim, lock).unwrap(),
        |lock, victim| std::os::unix::fs::symlink(victim.with_extension("none"), lock).unwrap(),
        |lock, _| fs::create_dir(lock).unwrap(),
        |lock, _| assert!(Command::new("mkfifo").arg(lock).status().unwrap().success()),
    ];
    side_by_side(ways.len(), |number| {
        let home = Home::without_engines();
        home.start_daemon();
        assert_eq!(code(&home.daemon(["stop"])), 0);
        let (lock, victim) = (home.daemon_lock(), home.write("victim", "untouched"));
        fs::remove_file(&lock).unwrap();
        ways[number](&lock, &victim);
        assert_no_start(&home, |_| ());
        let (asked, _) = timed(home.cmd(["daemon", "status"]));
        assert_eq!(code(&asked), 4, "{number}: {asked:?}");
        assert_refused(home.cmd(["daemon", "stop"]));
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        assert!(!victim.with_extension("none").exists());
    });
}

#[test]
fn a_directory_where_the_socket_belongs_is_refused() {
    let home = Home::without_engines();
    home.start_daemon();
    let socket = home.daemon_socket();
    assert_eq!(code(&home.daemon(["stop"])), 0);
    fs::create_dir(&socket).unwrap();
    assert_no_start(&home, |_| ());
    fs::remove_dir(&socket).unwrap();
    home.start_daemon();
}

#[test]
fn a_daemon_that_its_parent_does_not_reap_is_dead_all_the_same() {
    let home = Home::without_engines();
    let zombie = home.start_in_foreground();
    kill(zombie.pid(), KILL);
    wait_until("it is a zombie", || process_state(zombie.pid()) == Some('Z'));
    assert_eq!(code(&home.daemon(["status"])), 3);
    let (started, _) = timed(home.cmd(["daemon", "start"]));
    assert_eq!(code(&started), 0, "{started:?}");
    the_one(&home);
    assert_eq!(process_state(zombie.pid()), Some('Z'));
}

#[test]
fn a_stranger_who_holds_the_lock_is_named_and_not_harmed() {
    let home = Home::without_engines();
    home.start_daemon();
    assert_eq!(code(&home.daemon(["stop"])), 0);
    let program =
        "open(my $lock, \"+<\", $ARGV[0]) or die $!; flock($lock, 2) or die $!; $| = 1; print \"held\\n\"; sleep";
    let mut command = Command::new("perl");
    command.args(["-e", program]).arg(home.daemon_lock());
    let mut holder = Client::spawn(command);
    holder.wait_for_output("held\n");
    assert_eq!(code(&home.daemon(["status"])), 4);
    let verbs: [&[&str]; 3] = [&["start"], &["stop"], &["restart", "--force"]];
    side_by_side(verbs.len(), |number| {
        let mut command = home.cmd(["daemon"]);
        command.args(verbs[number]);
        let said = assert_refused(command);
        assert!(said.contains(&format!("process {} ", holder.pid())), "{said}");
    });
    assert!(!holder.has_ended());
    drop(holder);
    home.start_daemon();
}

/// A home of somebody without rights, if this test can make one.
fn home_of_user() -> Option<Home> {
    if !is_root() {
        left_out("directories of another user's need root");
        return None;
    }
    Some(Home::of_user(Some(USER)))
}

#[test]
fn a_state_directory_that_cannot_be_written_is_named() {
    let Some(home) = home_of_user() else { return };
    fs::create_dir(home.state()).unwrap();
    home.give(&home.state());
    fs::set_permissions(home.state(), fs::Permissions::from_mode(0o500)).unwrap();
    assert_no_start(&home, |_| ());
    // One that cannot even be made.
    fs::create_dir(home.dir.join("roots")).unwrap();
    let inside = home.dir.join("roots/state");
    assert_no_start(&home, |command| {
        command.env("FOSSE_STATE_DIR", &inside);
    });
}

#[test]
fn a_runtime_directory_of_somebody_elses_is_refused() {
    let Some(home) = home_of_user() else { return };
    fs::create_dir(home.dir.join("run")).unwrap();
    assert_no_start(&home, |_| ());
    std::os::unix::fs::lchown(home.dir.join("run"), Some(USER + 1), Some(USER + 1)).unwrap();
    assert_no_start(&home, |_| ());
}

#[test]
fn a_full_state_directory_is_an_error_and_one_that_fills_up_ends_nothing() {
    if !is_root() {
        return left_out("a full file system of its own needs root");
    }
    let home = Home::without_engines();
    fs::create_dir(home.state()).unwrap();
    let full = "mount -t tmpfs -o size=64k,mode=700 none \"$FOSSE_STATE_DIR\"; \
                head -c 1000000 /dev/zero >\"$FOSSE_STATE_DIR/ballast\" 2>/dev/null || true; ";
    for args in [&["start"][..], &["start", "--foreground"]] {
        let mut command = home.cmd(["daemon"]);
        command.args(args);
        assert_refused(in_mounts(&home, &format!("{full} caller \"$@\""), &command));
    }
    let fills = "mount -t tmpfs -o size=64k,mode=700 none \"$FOSSE_STATE_DIR\"; caller \"$@\" start; \
                 head -c 1000000 /dev/zero >\"$FOSSE_STATE_DIR/ballast\" 2>/dev/null || true; \
                 rm -rf \"$FOSSE_RUNTIME_DIR\" || true; caller \"$@\" start; caller \"$@\" status; caller \"$@\" stop";
    let lived = finish(in_mounts(&home, fills, &home.cmd(["daemon"])));
    assert_eq!(code(&lived), 0, "{lived:?}");
}

#[test]
fn a_socket_that_somebody_left_behind_is_replaced() {
    let home = Home::without_engines();
    home.start_daemon();
    let socket = home.daemon_socket();
    assert_eq!(code(&home.daemon(["stop"])), 0);
    drop(UnixListener::bind(&socket).unwrap());
    home.start_daemon();
    assert_eq!(code(&home.daemon(["stop"])), 0);
    fs::write(&socket, "no socket at all").unwrap();
    let (ended, _) = raced(&home, vec![Racer::start(&home, Way::Foreground)], true);
    assert!(ended.is_empty());
    the_one(&home);
}
