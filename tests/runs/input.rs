//! Bad input: a clear error on one line, the right code, and nothing created.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::support::{Engine, Home, IMAGE, code, on_docker, on_native, on_native_and_docker, stderr};

/// One error line, at most one hint, and no run.
fn assert_refused(home: &Home, output: &std::process::Output, wanted: i32, what: &str) {
    assert_eq!(code(output), wanted, "{what}: {output:?}");
    let text = stderr(output);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines.first().is_some_and(|line| {
            line.starts_with("fosse: invalid ") || line.starts_with("fosse: ") && line.contains(" failed: ")
        }),
        "{what}: {text}"
    );
    assert!(lines.len() <= 2 && lines.get(1).is_none_or(|line| line.starts_with("hint: ")), "{what}: {text}");
    assert_eq!(output.stdout, b"", "{what}");
    let runs = std::fs::read_dir(home.state().join("runs")).map(|runs| runs.flatten().count()).unwrap_or(0);
    assert_eq!(runs, 0, "{what}: something was created");
}

#[test]
fn every_wrong_option_of_run_is_125_and_creates_nothing() {
    on_native_and_docker(|engine, home| {
        let file = home.write("a-file", "");
        let existing = file.to_str().unwrap();
        let cases: &[&[&str]] = &[
            &["--runtime", "lxc"],
            &["--nonsense"],
            &["--timeout", "soon"],
            &["--timeout", "-1"],
            &["--grace", "1x"],
            &["--memory", "lots"],
            &["--memory", "0"],
            &["--cpus", "0"],
            &["--cpus", "many"],
            &["--pids", "0"],
            &["--pids", "1"],
            &["--log-max", "1.5m"],
            &["--network", "host"],
            &["--user", "nobody"],
            &["--name", "UPPER"],
            &["--name", ""],
            &["-w", "/not/there"],
            &["-w", existing],
            &["-w", "/"],
            &["-m", "/not/there:/x"],
            &["-m", "/tmp"],
            &["-m", "/tmp:relative"],
            &["-m", "/tmp:/"],
            &["-m", "/tmp:/a/../b"],
            &["-m", "/tmp:/x:rx"],
            &["-m", ":/x"],
            &["-m", "/tmp:/x", "-m", "/var:/x"],
            &["-m", "/tmp:/workspace"],
            &["-e", "=x"],
            &["-e", ""],
            &["-e", "*=x"],
            &["-e", " A=x"],
            &["--env-file", "/not/there"],
            &["--id-file", existing],
            &["--label", "nokey"],
            &["--label", "=x"],
            &["--workdir", "relative"],
            &["--image", "-v=/:/host"],
            &["--image", "has blank"],
            &["--image", ""],
            &["--no-workspace", "-w", "/tmp"],
            &["--json"],
            &["-q", "-v"],
        ];
        for case in cases {
            let mut args = vec!["run"];
            // What is given twice would be the mistake.
            let given = |option: &&[&str]| !case.contains(&option[0]);
            args.extend(engine.options().chunks(2).filter(given).flatten());
            args.extend(*case);
            args.extend(["--", "true"]);
            assert_refused(home, &home.fosse(&args), 125, &case.join(" "));
        }
        let with_command = |command: &[&str]| home.fosse([&["run"], engine.options(), command].concat());
        assert_refused(home, &with_command(&[]), 125, "no command");
        assert_refused(home, &with_command(&[""]), 125, "an empty command");
        for (runtime, why) in [("docker", "no image"), ("podman", "no image"), ("apple", "not part of this version")] {
            assert_refused(home, &home.fosse(["run", "--runtime", runtime, "true"]), 125, why);
        }
        assert_eq!(home.objects(engine), Vec::<String>::new());
    });
}

/// What the built-in sandbox cannot give is an error with a way out, and never something less.
#[test]
fn what_a_sandbox_cannot_give_is_refused() {
    on_native(|home| {
        for (options, why) in [
            (&["--image", IMAGE][..], "no image"),
            (&["--keep"], "kept"),
            (&["--network", "private"], "private network"),
        ] {
            let output = home.run(Engine::Native, options, &["true"]);
            assert_refused(home, &output, 125, why);
            assert!(stderr(&output).contains(why) && stderr(&output).contains("\nhint: "), "{output:?}");
        }
        home.assert_nothing_left();
    });
}

#[test]
fn what_an_engine_cannot_carry_is_refused_and_not_changed() {
    on_docker(|home| {
        let odd = OsStr::from_bytes(b"\xff\xfe");
        let args = [OsStr::new("run"), OsStr::new("--image"), OsStr::new(IMAGE), OsStr::new("echo"), odd];
        assert_refused(home, &home.fosse(args), 125, "an argument that is not UTF-8");
    });
    on_native(|home| {
        let output =
            home.cmd(["run", "--runtime", "native", "printf", "%s"]).arg(OsStr::from_bytes(b"\xff\xfe")).output();
        assert_eq!(output.unwrap().stdout, b"\xff\xfe", "where no engine is in between, nothing is lost");
    });
}

#[test]
fn an_image_that_is_neither_here_nor_to_be_had_leaves_nothing() {
    on_docker(|home| {
        let output = home.fosse(["run", "--image", "fosse-test-no-such-image:none", "--", "true"]);
        assert_refused(home, &output, 125, "a missing image");
        assert!(stderr(&output).contains("fosse-test-no-such-image:none"));
        home.assert_nothing_left();
    });
}

#[test]
fn wrong_usage_of_other_verbs_is_2_and_a_wrong_operand_is_1() {
    let home = Home::new();
    for args in [
        &["list", "--nonsense"][..],
        &["nonsense"],
        &[],
        &["wait"],
        &["stop", "--grace", "x", "a"],
        &["logs"],
        &["logs", "-n", "x", "a"],
        &["list", "--filter", "nonsense"],
        &["list", "--filter", "state=odd"],
        &["clean", "everything"],
        &["clean", "--older-than", "x"],
    ] {
        assert_refused(&home, &home.fosse(args), 2, &args.join(" "));
    }
    let bare = home.fosse(["daemon"]);
    assert!(code(&bare) == 2 && stderr(&bare).contains("hint: fosse daemon --help lists the verbs"), "{bare:?}");
    for args in [
        &["inspect", "none"][..],
        &["logs", "none"],
        &["wait", "none"],
        &["stop", "none"],
        &["destroy", "none"],
        &["stop", ""],
        &["logs", "abc"],
    ] {
        assert_refused(&home, &home.fosse(args), 1, &args.join(" "));
    }
}

#[test]
fn a_prefix_of_several_ids_names_the_candidates() {
    let home = Home::new();
    for id in ["aaaa00000001", "aaaa00000002", "bbbb00000001"] {
        std::fs::create_dir_all(home.state().join("runs").join(id)).unwrap();
        std::fs::write(home.state().join("runs").join(id).join("owner.lock"), "").unwrap();
    }
    let several = home.fosse(["inspect", "aaaa"]);
    assert_eq!(code(&several), 1);
    assert!(stderr(&several).contains("aaaa00000001, aaaa00000002"), "{several:?}");
    let one = home.fosse(["inspect", "bbbb"]);
    assert!(crate::support::stdout(&one).contains("bbbb00000001"), "{one:?}");
    assert_eq!(code(&home.fosse(["inspect", "aaa"])), 1, "too short");
}

#[test]
fn the_default_workspace_is_refused_for_home_and_above() {
    on_native_and_docker(|engine, home| {
        for dir in [home.dir.join("home"), home.dir.clone(), "/".into()] {
            let mut command = home.run_cmd(engine, &[], &["true"]);
            command.current_dir(&dir);
            let output = crate::support::finish(command);
            assert_refused(home, &output, 125, &dir.display().to_string());
        }
        // Asked for by name, home is a workspace like any other; its own directories are covered.
        let mut command = home.run_cmd(engine, &["-w", "."], &["true"]);
        command.current_dir(home.dir.join("home"));
        assert_eq!(code(&crate::support::finish(command)), 0);
    });
}

#[test]
fn without_a_home_the_error_says_what_to_set() {
    let home = Home::new();
    let mut command = home.cmd(["list"]);
    command.env_remove("HOME").env_remove("FOSSE_STATE_DIR");
    // The user database usually knows a home; then there is nothing to complain about.
    let output = crate::support::finish(command);
    assert!(code(&output) == 0 || stderr(&output).contains("set HOME"), "{output:?}");
    let mut command = home.cmd(["list"]);
    command.env("FOSSE_STATE_DIR", "relative");
    let output = crate::support::finish(command);
    assert!(code(&output) == 1 && stderr(&output).contains("not an absolute path"), "{output:?}");
}

#[test]
fn a_state_directory_that_cannot_be_written_is_said() {
    on_native_and_docker(|engine, home| {
        let file = home.write("in-the-way", "");
        let mut command = home.run_cmd(engine, &[], &["true"]);
        command.env("FOSSE_STATE_DIR", file.join("state"));
        let output = crate::support::finish(command);
        assert_refused(home, &output, 125, "a file in the way");
        let mut command = home.run_cmd(engine, &[], &["true"]);
        command.env("FOSSE_STATE_DIR", "/proc/fosse");
        assert_refused(home, &crate::support::finish(command), 125, "a directory that takes no files");
    });
}
