//! `fosse init --exit-file`: where nobody can be told how the command ended, a file says it, and the command cannot make
//! it say anything else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use fosse::wire::exit::{ExitFile, NAME, read};

use crate::support::init::{BOTH, Init, Place, new_tag, wrapped};
use crate::support::native::is_root;
use crate::support::{Engine, Home, IMAGE, KILL, code, finish, fosse, left_out, processes, stderr, stdout};
use crate::support::{kill, repeat, wait_until};

const KEY: &str = "f0e1d2c3b4a59687-8796a5b4c3d2e1f0";

/// A directory that an owner outside shares with an init.
struct Share {
    home: Home,
    dir: PathBuf,
}

impl Share {
    fn new() -> Share {
        let home = Home::new();
        let dir = home.dir.join("share");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("exit.key"), KEY).unwrap();
        Share { home, dir }
    }

    /// The file.
    fn file(&self) -> String {
        self.dir.join(NAME).to_str().unwrap().to_owned()
    }

    /// An init with a command, in a place.
    fn cmd(&self, place: Place, options: &[&str], command: &[&str]) -> Command {
        place.cmd(&self.home, &[&["--exit-file", &self.file()], options, &["--"], command].concat())
    }

    /// The same with a shell script, for which `$S` is the directory.
    fn script(&self, place: Place, script: &str) -> Command {
        let mut command = self.cmd(place, &[], &["sh", "-c", script]);
        command.env("S", &self.dir);
        command
    }

    /// What the owner reads.
    fn read(&self) -> Option<ExitFile> {
        read(&self.dir, KEY)
    }
}

/// Runs the body in both places, each with a share of its own.
fn in_both(body: impl Fn(Place, &Share)) {
    for place in BOTH.into_iter().filter(|place| place.available()) {
        let share = Share::new();
        body(place, &share);
        // The command may have taken the modes away, without which only root could remove it.
        fs::set_permissions(&share.dir, fs::Permissions::from_mode(0o700)).unwrap_or_default();
    }
}

fn ended(code: u8, signal: Option<u8>) -> Option<ExitFile> {
    Some(ExitFile::ended(KEY, code, signal, false))
}

/// The command runs: all that may be read before it has ended.
fn running() -> Option<ExitFile> {
    Some(ExitFile::running(KEY))
}

// ---- what it says -----------------------------------------------------------------------------

/// E1, and apple-container.md, section 4: the code that the engine loses.
#[test]
fn the_file_has_the_commands_code() {
    for wanted in [0, 1, 42, 128, 255] {
        in_both(|place, share| {
            let output = finish(share.script(place, &format!("echo out; echo err >&2; exit {wanted}")));
            assert_eq!(
                (code(&output), stdout(&output), stderr(&output)),
                (wanted.into(), "out\n".into(), "err\n".into())
            );
            assert_eq!(share.read(), ended(wanted, None), "{place:?}");
            let names: Vec<_> = fs::read_dir(&share.dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names, [NAME], "something else is left");
            let mode = fs::metadata(share.file()).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o644, "its owner outside cannot read it");
        });
    }
}

#[test]
fn the_file_has_the_signal_that_ended_the_command() {
    for signal in [1, 6, 9, 11, 15] {
        in_both(|place, share| {
            let output = finish(share.script(place, &format!("ulimit -c 0; kill -{signal} $$; exit 99")));
            assert_eq!(code(&output), 128 + i32::from(signal), "{output:?}");
            assert_eq!(share.read(), ended(128 + signal, Some(signal)), "{place:?}");
        });
    }
}

/// TERM goes to the command as ever, and a command that init kills after a grace did not die of memory.
#[test]
fn the_file_has_how_a_command_ended_that_was_asked_to() {
    for (options, trap, wanted) in
        [(&[][..], "-", (143, Some(15))), (&[], "'exit 5'", (5, None)), (&["--grace", "1s"], "''", (137, Some(9)))]
    {
        in_both(|place, share| {
            let script = format!("trap {trap} TERM; echo ready; while :; do sleep 0.05; done");
            let init = Init::new(place, Home::new(), share.cmd(place, options, &["sh", "-c", &script]), None);
            init.client().wait_for_output("ready\n");
            wait_until("it is said that the command runs", || share.read() == running());
            assert_eq!(code(&init.end()), i32::from(wanted.0));
            assert_eq!(share.read(), ended(wanted.0, wanted.1), "{place:?} {trap}");
        });
    }
}

/// Who reads the file says it; on stderr it would be said twice, or to nobody.
#[test]
fn the_file_says_why_a_command_could_not_be_started_and_stderr_does_not() {
    in_both(|place, share| {
        let plain = share.home.write("plain", "#!/bin/sh\nexit 0\n");
        for (command, wanted, why) in
            [("/no/such/command", 127, "No such file"), (plain.to_str().unwrap(), 126, "Permission denied")]
        {
            fs::write(share.dir.join("exit.key"), KEY).unwrap();
            let output = finish(share.cmd(place, &[], &[command]));
            assert_eq!((code(&output), stdout(&output), stderr(&output)), (wanted.into(), "".into(), "".into()));
            let file = share.read().unwrap_or_else(|| panic!("{place:?} {command}: nothing"));
            assert_eq!((file.started, file.code, file.signal, file.oom), (false, Some(wanted), None, false));
            assert!(file.error.as_deref().is_some_and(|error| error.contains(why)), "{file:?}");
        }
    });
}

/// E3: whoever could write is gone before the end is written, also who left the group and does not listen.
#[test]
fn the_end_is_written_when_nobody_is_left() {
    for place in BOTH.into_iter().filter(|place| place.available()) {
        let (share, tag) = (Share::new(), new_tag());
        // Init's own arguments do not have it.
        share.home.write("ws/tag", &tag);
        let script = "export FOSSE_TEST_TAG=$(cat tag)
            (setsid sh -c 'trap \"cat $S/exit >late; exit\" TERM; touch up1; while :; do sleep 0.05; done' >/dev/null 2>&1 &)
            (setsid sh -c 'trap \"\" TERM; touch up2; while :; do sleep 0.05; done' >/dev/null 2>&1 &)
            while ! [ -e up1 ] || ! [ -e up2 ]; do sleep 0.01; done; exit 6";
        let init = Init::started(share.script(place, script), Home::new());
        wait_until("the end is there", || {
            // In this order: whoever is there now was there when it was read.
            let is_there = share.read().is_some_and(|file| file.code.is_some());
            assert!(!is_there || processes::naming(&tag).is_empty(), "{place:?}: {:?}", processes::naming(&tag));
            is_there
        });
        assert_eq!((code(&init.ended()), share.read()), (6, ended(6, None)), "{place:?}");
        // What got TERM after the command had ended saw a command that runs.
        let late = fs::read(share.home.workspace().join("late")).unwrap();
        assert_eq!(fosse::wire::exit::parse(&late, KEY), running(), "{place:?}");
    }
}

/// An engine executes in the place what is no child of its PID 1.
#[test]
fn the_end_is_written_when_also_those_are_gone_who_came_from_elsewhere() {
    if !Place::Pid1.available() {
        return;
    }
    for _ in 0..repeat(50) {
        let (share, tag) = (Share::new(), new_tag());
        let script = "echo ready; while ! [ -e up ]; do sleep 0.01; done; exit 3";
        let init = Init::new(Place::Pid1, Home::new(), share.script(Place::Pid1, script), None);
        init.client().wait_for_output("ready\n");
        let mut stranger = Command::new("nsenter");
        stranger.args(["--target", &init.pid.to_string(), "--pid", "perl", "-e"]);
        // It says what it has seen where that is not lost.
        stranger.arg(
            "$SIG{TERM} = 'IGNORE'; open U, '>', 'up'; close U;
            while (1) { if (open F, '<', \"$ENV{S}/exit\") { $_ = <F>; if (/code\":\\d/) { open U, '>', 'saw'; exit } } }",
        );
        stranger.env("S", &share.dir).env("FOSSE_TEST_TAG", &tag).current_dir(share.home.workspace());
        let stranger = crate::support::Client::spawn(stranger);
        assert_eq!(code(&init.ended()), 3);
        stranger.output();
        assert_eq!(share.read(), ended(3, None));
        assert!(!share.home.workspace().join("saw").exists(), "somebody was left who saw the end, and the key");
    }
}

/// On KILL of init itself nothing is said that is not known.
#[test]
fn when_init_is_killed_the_file_says_that_the_command_ran_and_no_code() {
    in_both(|place, share| {
        let script = share.script(place, "echo ready; exec sleep 1000");
        let mut init = Init::new(place, Home::new(), script, None);
        init.client().wait_for_output("ready\n");
        wait_until("it is said that the command runs", || share.read() == running());
        init.signal(KILL);
        init.client_mut().wait();
        assert_eq!(share.read(), running(), "{place:?}");
        for left in share.home.processes() {
            kill(processes::number(&left), KILL);
        }
        wait_until("nothing is left", || share.home.processes().is_empty());
    });
}

// ---- the key ----------------------------------------------------------------------------------

#[test]
fn the_key_is_gone_before_the_command_runs_and_shown_nowhere() {
    in_both(|place, share| {
        let script = "ls -A $S; cat $S/*; tr '\\0' '\\n' </proc/$PPID/environ; tr '\\0' '\\n' </proc/$PPID/cmdline
            env; ls -l /proc/self/fd /proc/$PPID/fd; echo end";
        let output = finish(share.script(place, script));
        let text = stdout(&output);
        assert!(text.contains("--exit-file") && text.contains("end\n"), "{output:?}");
        assert!(!text.contains(KEY) && !text.contains("exit.key"), "{place:?}: {text}");
        // What it may read of it is not enough.
        assert!(!text.contains(&KEY[KEY.len() / 2..]), "{place:?}: {text}");
        assert_eq!(share.read(), ended(0, None));
    });
}

/// Not by who has the same rights, as in a container, whose root may not trace.
#[test]
fn the_key_cannot_be_read_from_inits_memory() {
    let is_root = is_root();
    if is_root && Command::new("setpriv").arg("--version").output().is_err() {
        return left_out("an init of root's without its rights needs setpriv");
    }
    let without = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"];
    let share = Share::new();
    let script = "cd /proc/$PPID; for f in mem environ; do (exec <$f) 2>/dev/null && echo open $f; done
        for f in cwd root exe fd/3; do readlink $f; done; exit 2";
    let command = share.script(Place::Subreaper, script);
    let output = finish(wrapped(&command, if is_root { &without } else { &["env"] }));
    assert_eq!((stdout(&output), share.read()), ("".into(), ended(2, None)), "{output:?}");
}

#[test]
fn an_end_without_a_key_is_for_people_and_no_reader_believes_it() {
    in_both(|place, share| {
        fs::remove_file(share.dir.join("exit.key")).unwrap();
        // An older one, with the key, is no end of this command's.
        fs::write(share.file(), fosse::wire::exit::format(&ExitFile::ended(KEY, 9, None, false))).unwrap();
        let output = finish(share.script(place, "cat $S/exit; exit 4"));
        assert_eq!(code(&output), 4);
        assert!(!stdout(&output).contains(KEY), "{output:?}");
        assert_eq!((share.read(), read(&share.dir, "")), (None, None));
        let text = fs::read_to_string(share.file()).unwrap();
        assert!(text.contains("\"code\":4"), "{text}");
    });
}

// ---- forging ----------------------------------------------------------------------------------

/// What a command may try that knows all of this.
const FORGERIES: [&str; 13] = [
    // With the key that it can read.
    "sed 's/\"code\":null/\"code\":0/' exit >new; mv -f new exit",
    "sed 's/\"code\":null/\"code\":0/' exit >new; cat new >exit",
    "sed 's/true/false/; s/\"code\":null/\"code\":126/; s/\"error\":null/\"error\":\"x\"/' exit >new; mv -f new exit",
    "echo '{\"key\":\"\",\"started\":true,\"code\":0,\"signal\":null,\"oom\":false,\"error\":null}' >exit",
    "printf %s '' >exit.key; echo >exit",
    "rm exit",
    "rm exit; mkdir exit; touch exit/full",
    "rm exit; mkfifo exit",
    "rm exit; ln -s ../huge exit",
    "rm exit; ln -s /dev/zero exit",
    "head -c 10000000 /dev/zero >exit",
    "rm exit; rmdir $S; mkdir $S; echo 0 >$S/exit",
    "chmod 0 exit .",
];

/// Never a wrong code, at most none.
#[test]
fn whatever_the_command_does_to_the_file_the_owner_never_reads_another_code() {
    for forgery in FORGERIES {
        in_both(|place, share| {
            fs::write(share.home.dir.join("huge"), vec![b' '; 1 << 20]).unwrap();
            let script = format!("cd $S; while ! [ -e exit ]; do sleep 0.01; done\n{forgery}\nexit 7");
            let output = finish(share.script(place, &script));
            assert_eq!((code(&output), stderr(&output).as_str()), (7, ""), "{place:?} {forgery}: {output:?}");
            let read = share.read();
            // Whoever is not root cannot even read what has no modes.
            let spoilt = forgery.contains("mkdir") || (!is_root() && forgery.contains("chmod"));
            assert!(read == ended(7, None) || (spoilt && read.is_none()), "{place:?} {forgery}: {read:?}");
        });
    }
}

/// The same when init dies and what the command wrote stays.
#[test]
fn what_a_command_wrote_is_no_code_when_init_is_killed() {
    for forgery in FORGERIES {
        in_both(|place, share| {
            fs::write(share.home.dir.join("huge"), vec![b' '; 1 << 20]).unwrap();
            let script =
                format!("cd $S; while ! [ -e exit ]; do sleep 0.01; done\n{forgery}\necho ready; exec sleep 1000");
            let mut init = Init::new(place, Home::new(), share.script(place, &script), None);
            init.client().wait_for_output("ready\n");
            init.signal(KILL);
            init.client_mut().wait();
            let read = share.read();
            assert!(read.is_none() || read == running(), "{place:?} {forgery}: {read:?}");
            for left in share.home.processes() {
                kill(processes::number(&left), KILL);
            }
            wait_until("nothing is left", || share.home.processes().is_empty());
        });
    }
}

// ---- out of sight -----------------------------------------------------------------------------

/// A place where the share is mounted at `shown`, with mounts of its own.
fn mounted(share: &Share, inner: &Command, before: &str) -> Command {
    let script = format!("mkdir -p $M && mount --bind $S $M && {before} \"$@\"");
    let mut command = wrapped(inner, &["unshare", "--mount", "sh", "-c", &script, "sh"]);
    command.env("S", &share.dir).env("M", share.home.dir.join("shown"));
    command
}

impl Share {
    /// An init with a script, whose exit file is in the mount of [`mounted`].
    fn shown(&self, place: Place, script: &str) -> Command {
        let file = self.home.dir.join("shown/exit");
        place.cmd(&self.home, &["--exit-file", file.to_str().unwrap(), "--", "sh", "-c", script])
    }
}

#[test]
fn a_mount_for_this_alone_is_out_of_the_commands_sight() {
    if !Place::Pid1.available() {
        return;
    }
    let share = Share::new();
    let script = "ls -A $M; grep -c shown /proc/self/mountinfo; echo 1 >$M/exit; exit 8";
    let output = finish(mounted(&share, &share.shown(Place::Pid1, script), "exec"));
    assert_eq!((code(&output), stdout(&output), stderr(&output)), (8, "0\n".into(), "".into()));
    assert_eq!(share.read(), ended(8, None));
    assert_eq!(fs::read_to_string(share.home.dir.join("shown/exit")).unwrap(), "1\n", "it wrote elsewhere");
}

/// What lies there beside the file is the command's, perhaps: /tmp, or its working directory.
#[test]
fn a_mount_that_has_something_else_in_it_stays_in_sight() {
    if !Place::Pid1.available() {
        return;
    }
    let share = Share::new();
    fs::write(share.dir.join("else"), "else\n").unwrap();
    let output = finish(mounted(&share, &share.shown(Place::Pid1, "cat $M/else; exit 9"), "exec"));
    assert_eq!((code(&output), stdout(&output), share.read()), (9, "else\n".into(), ended(9, None)));
}

/// The mounts of whoever started it are as they were: its own ones may be a machine's.
#[test]
fn nothing_is_taken_out_of_anybody_elses_sight() {
    if !Place::Pid1.available() {
        return;
    }
    // PID 1 of a namespace, and the mounts are those of the shell around it; what changes there goes out to others.
    let share = Share::new();
    let script = "mount --make-rshared / && mkdir -p $M && mount --bind $S $M
        unshare --pid --fork --kill-child \"$@\"; echo $?; grep -c /shown /proc/self/mountinfo";
    for (place, hidden) in [(Place::Pid1, "0"), (Place::Subreaper, "1")] {
        fs::write(share.dir.join("exit.key"), KEY).unwrap();
        let file = share.home.dir.join("shown/exit");
        let mut args = vec!["init", "--exit-file", file.to_str().unwrap()];
        let unshared = if place == Place::Pid1 {
            script.to_owned()
        } else {
            script.replace("unshare --pid --fork --kill-child ", "")
        };
        args.extend(["--", "sh", "-c", "grep -c /shown /proc/self/mountinfo; exit 8"]);
        let mut command = wrapped(&share.home.cmd(args), &["unshare", "--mount", "sh", "-c", &unshared, "sh"]);
        command.env("S", &share.dir).env("M", share.home.dir.join("shown"));
        let output = finish(command);
        assert_eq!(stdout(&output), format!("{hidden}\n8\n1\n"), "{place:?} {output:?}");
        assert_eq!(share.read(), ended(8, None), "{place:?}");
    }
}

// ---- where it cannot be written ---------------------------------------------------------------

#[test]
fn an_exit_file_that_cannot_be_written_is_an_error_before_anything_runs() {
    in_both(|place, share| {
        let ran = share.home.dir.join("ran");
        let key = |key: &[u8]| {
            let dir = share.home.dir.join(format!("key-{}", key.len()));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("exit.key"), key).unwrap();
            dir.join("exit").to_str().unwrap().to_owned()
        };
        fs::create_dir_all(share.home.dir.join("there/exit")).unwrap();
        let there = share.home.dir.join("there/exit").to_str().unwrap().to_owned();
        for file in [
            "/no/such/directory/exit",
            "/proc/exit",
            "/",
            "..",
            "",
            "/dev/null/exit",
            &there,
            &key(&[b'k'; 65]),
            &key(b"\xff"),
        ] {
            let output = finish(place.cmd(&share.home, &["--exit-file", file, "--", "touch", ran.to_str().unwrap()]));
            assert_eq!(code(&output), 125, "{place:?} {file:?}: {output:?}");
            assert!(stderr(&output).starts_with("fosse: "), "{output:?}");
            assert!(!ran.exists(), "{file:?}: the command ran");
        }
    });
    let home = Home::new();
    let socket = home.dir.join("api.sock");
    let without = ["init", "--socket", socket.to_str().unwrap(), "--exit-file", "exit"];
    assert_eq!(code(&home.fosse(without)), 125, "there is no command whose end could be left");
}

/// The command never hears of a full disk that is not its own.
#[test]
fn on_a_full_disk_the_command_is_none_the_worse() {
    if !Place::Pid1.available() {
        return;
    }
    for (early, fill) in
        [("head -c 100000 /dev/zero >$M/fill 2>/dev/null;", ""), ("", "head -c 100000 /dev/zero >$M/fill 2>/dev/null;")]
    {
        let share = Share::new();
        let script = format!(
            "mkdir -p $M && mount -t tmpfs -o size=8k none $M && cp $S/exit.key $M; {early} \"$@\"; code=$?; cat $M/exit; exit $code"
        );
        let inner = share.shown(Place::Subreaper, &format!("{fill} echo out >&2; exit 5"));
        let mut command = wrapped(&inner, &["unshare", "--mount", "sh", "-c", &script, "sh"]);
        command.env("S", &share.dir).env("M", share.home.dir.join("shown"));
        let output = finish(command);
        let said = stderr(&output).replace("cat: ", "");
        assert!(code(&output) == 5 && said.starts_with("out\n") && !said.contains("fosse: "), "{output:?}");
        let read = fosse::wire::exit::parse(&output.stdout, KEY);
        assert!(read.is_none() || read == running() || read == ended(5, None), "{read:?}");
    }
}

// ---- an engine --------------------------------------------------------------------------------

/// An init as PID 1 of a real container, with no right to mount or to trace.
fn in_docker(share: &Share, options: &[&str], script: &str) -> Output {
    let (program, shared) = (format!("{}:/fosse:ro", fosse()), format!("{}:/.exit", share.dir.display()));
    let args = [
        &["run", "--rm", "--network", "none", "--volume", &program, "--volume", &shared, "--entrypoint", "/fosse"][..],
        options,
        &[IMAGE, "init", "--exit-file", "/.exit/exit", "--", "sh", "-c", script],
    ];
    Engine::Docker.call(args.concat())
}

#[test]
fn in_a_container_the_file_is_as_good_as_the_engines_word() {
    if !Engine::Docker.available() {
        return;
    }
    let share = Share::new();
    let forge = "while ! [ -e /.exit/exit ]; do sleep 0.01; done; cat /proc/1/environ /proc/1/mem && echo traced
        sed 's/\"code\":null/\"code\":0/' /.exit/exit >/new; cp /new /.exit/exit; (setsid sleep 1000 &); kill -9 $$";
    for (script, wanted) in [("exit 42", (42, None)), (forge, (137, Some(9))), ("kill -TERM $$", (143, Some(15)))] {
        fs::write(share.dir.join("exit.key"), KEY).unwrap();
        let output = in_docker(&share, &[], script);
        assert_eq!((code(&output), stdout(&output)), (i32::from(wanted.0), "".into()), "{output:?}");
        assert_eq!(share.read(), ended(wanted.0, wanted.1), "{script}");
    }
}

/// X: the kernel counts whom it kills for memory; a KILL by somebody else is not that.
#[test]
fn the_file_tells_who_was_killed_for_memory() {
    if !Engine::Docker.available() {
        return;
    }
    let share = Share::new();
    let output = in_docker(&share, &["--memory", "16m", "--memory-swap", "16m"], "exec tail /dev/zero");
    assert_eq!(code(&output), 137, "{output:?}");
    assert_eq!(share.read(), Some(ExitFile::ended(KEY, 137, Some(9), true)));
}
