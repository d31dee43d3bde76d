//! What strangers type: mistakes with a hint that helps, habits of other tools, aliases, help in its usual spellings.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::{Output, Stdio};

use crate::manual::pages::read;
use crate::support::{
    Carrier, Engine, Home, IMAGE, code, on_docker, on_docker_with, on_native, on_native_and_docker, stderr, stdout,
};

/// One line that says what is wrong, and one hint.
fn assert_says(output: &Output, wanted: i32, error: &str, hint: &str) {
    let text = stderr(output);
    let lines: Vec<&str> = text.lines().collect();
    let (first, second) = (lines.first().copied().unwrap_or_default(), lines.get(1).copied().unwrap_or_default());
    assert_eq!((code(output), lines.len()), (wanted, 2), "{output:?}");
    assert!(first.starts_with("fosse: ") && first.contains(error), "{error:?}: {text}");
    assert!(second.starts_with("hint: ") && second.contains(hint), "{hint:?}: {text}");
}

#[test]
fn a_mistake_names_what_is_wrong_and_the_verb_that_was_used() {
    let home = Home::without_engines();
    for (line, wanted, error, hint) in [
        ("rnu", 2, "\"rnu\"", "did you mean fosse run?"),
        ("insepct x", 2, "\"insepct\"", "fosse inspect?"),
        (
            "daemon strat",
            2,
            "fosse daemon has no verb \"strat\"",
            "fosse daemon start? fosse daemon --help lists the verbs",
        ),
        ("run --imgae x y", 125, "fosse run has no option --imgae", "did you mean --image? fosse run --help"),
        ("run --imgae=x y", 125, "fosse run has no option --imgae", "did you mean --image? fosse run --help"),
        ("ls --runing", 2, "fosse list has no option --runing", "--running? fosse list --help"),
        ("rm --froce x", 2, "fosse destroy has no option --froce", "--force? fosse destroy --help"),
        ("daemon start --foregroud", 2, "--foregroud", "--foreground? fosse daemon start --help"),
        ("--versoin", 2, "--versoin", "--version? fosse --help"),
        ("exec -- ls", 125, "RUN is missing", "fosse exec RUN -- COMMAND"),
        ("exec -e A=b -- ls", 125, "RUN is missing", "fosse exec RUN"),
        ("exec web", 125, "COMMAND is missing", "fosse exec RUN -- COMMAND"),
        ("exec", 125, "RUN and COMMAND are missing", "fosse exec RUN"),
        ("run", 125, "COMMAND is missing", "fosse run -- COMMAND"),
        ("init", 125, "COMMAND is missing", "fosse init -- COMMAND"),
        ("stop", 2, "RUN is missing", "fosse list"),
        ("status x", 2, "\"x\" is one operand too many for fosse status", "fosse status --help"),
        ("logs -n x a", 2, "--tail: \"x\" is not a whole number", "fosse logs --help"),
        ("logs --stream stdotu a", 2, "not stdout or stderr", "stdout?"),
        ("run --pids x true", 125, "--pids: \"x\" is not a whole number of at least 1", "fosse run --help"),
        ("run --image", 125, "--image needs a value", "fosse run --help"),
        ("run --quiet=3 x", 125, "--quiet takes no value", "fosse run --help"),
        ("run --json x", 125, "--json needs --dry-run", "fosse run --help"),
        ("run --no-workspace -w /tmp x", 125, "--no-workspace and --workspace cannot", "fosse run --help"),
        ("clean run", 2, "\"run\" is not runs, networks or all", "runs?"),
        ("list --filter state=done", 2, "\"done\" is not created, starting, running, ", "fosse-list(1)"),
        ("list --filter state=faild", 2, "\"faild\"", "did you mean state=failed?"),
        ("list --filter runtime=dockr", 2, "\"dockr\"", "did you mean runtime=docker?"),
        ("run -m 512m true", 125, "--mount 512m", "--memory 512m"),
        ("run -w /no/app true", 125, "/no/app", "--workdir"),
        ("run --image Reg.io:5000/Some/Box:Tag true", 125, "lower case", "did you mean Reg.io:5000/some/box:Tag?"),
    ] {
        let output = home.fosse(line.split(' '));
        assert_says(&output, wanted, error, hint);
        assert!(stderr(&output).starts_with("fosse: invalid "), "{output:?}");
    }
    let odd = home.cmd(["run", "--image"]).arg(OsStr::from_bytes(b"a\xff")).arg("true").output().unwrap();
    assert_says(&odd, 125, "is not UTF-8", "fosse run --help");
    assert_eq!(home.list().len(), 0);
}

#[test]
fn habits_of_other_tools_get_a_hint() {
    on_native(|home| {
        for (line, wanted, hint) in [
            ("run -it --rm true", 125, "-i gives a terminal"),
            ("run --rm true", 125, "leave it out"),
            ("run -d true", 125, "put & after"),
            ("run --volume /a:/b true", 125, "-m SRC:DST"),
            ("run -u 0 true", 125, "--user USER"),
            ("run --entrypoint sh true", 125, "COMMAND replaces"),
            ("exec -it web sh", 125, "-i gives a terminal"),
            ("exec -w /x web sh", 125, "--workdir"),
            ("list -a", 2, "--running lists live ones"),
            ("ls --all", 2, "--running lists live ones"),
            ("stop -t 3 web", 2, "--grace"),
            ("ps", 2, "fosse list"),
            ("kill web", 2, "fosse stop --grace 0"),
            ("attach web", 2, "fosse logs -f"),
            ("run -v /a:/b true", 127, "-m SRC:DST"),
            ("run -v a:b true", 127, "-m SRC:DST"),
        ] {
            let output = home.fosse(line.split(' '));
            let text = stderr(&output);
            assert_eq!(code(&output), wanted, "{line}: {text}");
            assert!(text.lines().any(|said| said.starts_with("hint: ") && said.contains(hint)), "{line}: {text}");
        }
        let quoted = home.run(Engine::Native, &[], &["ls -l /"]);
        assert_says(&quoted, 127, "ls -l /", "leave the quotes out");
        // What is a program all the same is executed.
        home.script("ws/two words", "echo both");
        assert_eq!(stdout(&home.run(Engine::Native, &[], &["./two words"])), "both\n");
    });
}

#[test]
fn help_and_version_are_verbs_too_and_execute_nothing() {
    let home = Home::without_engines();
    let same = |one: &str, other: &str| {
        let [one, other] = [one, other].map(|line| home.fosse(line.split(' ')));
        assert_eq!((code(&one), stdout(&one), stderr(&one).as_str()), (0, stdout(&other), ""));
    };
    same("help", "--help");
    same("help help", "--help");
    same("help run", "run --help");
    same("help ls", "list --help");
    same("help daemon start", "daemon start --help");
    same("daemon help stop", "daemon stop --help");
    same("daemon help", "daemon --help");
    same("version", "--version");
    // What follows could be a command.
    same("help run touch made", "run --help");
    assert!(!home.workspace().join("made").exists() && home.list().is_empty());
    assert_says(&home.fosse(["help", "rnu"]), 2, "\"rnu\"", "fosse run?");
}

/// What follows an option that takes a value is its value, and told to be a bad one.
#[test]
fn a_value_that_begins_with_a_dash_is_judged_as_one() {
    let home = Home::without_engines();
    for option in ["--timeout", "--grace", "--memory", "--cpus", "--pids", "--log-max"] {
        let output = home.fosse(["run", option, "-1", "--", "true"]);
        let said = stderr(&output);
        assert!(code(&output) == 125 && said.contains("-1") && !said.contains("has no option"), "{option}: {said}");
    }
    assert_says(&home.fosse(["logs", "-n", "-1", "x"]), 2, "-1", "");
    assert!(home.list().is_empty());
}

/// An alias sets what its user sets again: the last counts, but of options that add up each.
#[test]
fn of_a_repeated_option_the_last_counts() {
    on_native(|home| {
        let options = ["-n", "first", "--label", "a=1", "--timeout", "5m", "-e", "A=1", "-q"];
        let again = ["-n", "second", "--label", "b=2", "--timeout", "1h", "-e", "B=2", "-q"];
        let output = home.run(Engine::Native, &[options, again].concat(), &["sh", "-c", "echo $A $B"]);
        assert_eq!((code(&output), stdout(&output).as_str()), (0, "1 2\n"), "{output:?}");
        let record = home.newest();
        assert_eq!((record["name"].as_str(), record["timeout_ms"].as_u64()), (Some("second"), Some(3_600_000)));
        assert_eq!(record["labels"], serde_json::json!({"a": "1", "b": "2"}));
        for line in ["ls --json --json", "ls -q -q", "ls --color never --color auto", "logs -n 1 -n 2 second"] {
            assert_eq!(code(&home.fosse(line.split(' '))), 0, "{line}");
        }
        assert_eq!(
            code(&home.fosse(["stop", "--grace", "x", "--grace", "1", "second"])),
            2,
            "each must be well-formed"
        );
    });
}

#[test]
fn a_time_limit_of_0_is_none_and_fractions_need_no_zero() {
    on_native(|home| {
        home.write("home/.config/fosse/config.json", r#"{"timeout": "100ms"}"#);
        let sleep = ["sh", "-c", "sleep 0.4; exit 3"];
        assert_eq!(code(&home.run(Engine::Native, &[], &sleep)), 124);
        assert_eq!(code(&home.run(Engine::Native, &["--timeout", "0"], &sleep)), 3);
        assert!(home.newest()["timeout_ms"].is_null());
        let mut by_variable = home.run_cmd(Engine::Native, &[], &sleep);
        by_variable.env("FOSSE_TIMEOUT", "0");
        assert_eq!(code(&crate::support::finish(by_variable)), 3);
        assert_eq!(code(&home.run(Engine::Native, &["--timeout", ".1"], &["sleep", "1000"])), 124);
        assert_eq!(home.newest()["timeout_ms"], 100);
        let _run = home.start(Engine::Native, &["-n", "box", "--timeout", "0"], "exec sleep 1000");
        assert_eq!(code(&home.fosse(["exec", "--timeout", "0", "box", "true"])), 0);
        assert_eq!(code(&home.fosse(["stop", "--grace", "0", "box"])), 0);
    });
}

/// What an engine answers is about the run, and the hint is about what was asked for.
#[test]
fn the_hint_for_what_an_engine_refuses_is_about_that() {
    on_docker(|home| {
        for (options, hint) in [(["--cpus", "10000"], "--cpus"), (["--memory", "1m"], "--memory")] {
            let output = home.run(Engine::Docker, &options, &["true"]);
            assert_says(&output, 125, "failed: ", hint);
            assert!(!stderr(&output).contains("doctor"), "{output:?}");
        }
        let output = home.fosse(["run", "--image", "Busybox", "true"]);
        assert_says(&output, 125, "lower case", "did you mean busybox?");
    });
}

#[test]
fn too_long_an_environment_is_not_the_programs_fault() {
    on_native_and_docker(|engine, home| {
        let vars = home.write("vars", format!("LONG={}\n", "x".repeat(200_000)));
        let options = ["--env-file", vars.to_str().unwrap()];
        let output = home.run(engine, &options, &["true"]);
        assert_says(&output, 125, "Argument list too long", "too long");
        assert!(home.newest()["exit_code"].is_null(), "{}", home.newest());
    });
}

#[test]
fn a_value_that_an_engine_cannot_be_told_names_its_variable() {
    for carrier in [Carrier::Init, Carrier::Client] {
        on_docker_with(carrier, |home| {
            let mut command = home.cmd(["run", "--image", IMAGE, "-e", "GOOD=x", "-e", "ODD", "true"]);
            command.env("ODD", OsStr::from_bytes(b"se\xffcret"));
            let output = crate::support::finish(command);
            assert_eq!(code(&output), 125);
            assert!(stderr(&output).contains("the value of ODD is not UTF-8"), "{output:?}");
            assert!(!stderr(&output).contains("cret"), "values are secret: {output:?}");
            // What the caller did not ask for does no harm.
            for odd in [&b"\xff"[..], b"a\nb"] {
                let mut command = home.cmd(["run", "--image", IMAGE, "sh", "-c", "echo ${TZ-none}$LC_TIME"]);
                command.env("TZ", OsStr::from_bytes(odd)).env("LC_TIME", "C");
                let output = crate::support::finish(command);
                assert_eq!((code(&output), stdout(&output).as_str()), (0, "noneC\n"), "{output:?}");
            }
        });
    }
}

#[test]
fn a_file_of_variables_may_come_from_another_system() {
    on_native(|home| {
        for text in ["\u{feff}A=1\r\nB=2\r\n", "A=1\rB=2\r", "\u{feff}# first\nA=1\n\r\nB=2", "\u{feff}A=1\nB=2\n"] {
            let file = home.write("vars", text);
            let options = ["--env-file", file.to_str().unwrap()];
            let output = home.run(Engine::Native, &options, &["sh", "-c", "printf '[%s]' \"$A\" \"$B\""]);
            assert_eq!(stdout(&output), "[1][2]", "{text:?} {output:?}");
        }
        let file = home.write("vars", b"\xff\xfeA\0=\x001\0");
        let output = home.run(Engine::Native, &["--env-file", file.to_str().unwrap()], &["true"]);
        assert!(code(&output) == 125 && stderr(&output).contains("UTF-16"), "{output:?}");
    });
}

/// What ran out is named, whatever was being done.
#[test]
fn a_limit_that_was_met_is_the_one_that_is_named() {
    on_native(|home| {
        for (limit, hint) in [("-n 8", "ulimit -n"), ("-n 20", "ulimit -n"), ("-f 0", "ulimit -f")] {
            let command = home.run_cmd(Engine::Native, &["--no-workspace"], &["true"]);
            let script = format!("ulimit {limit}; trap '' XFSZ; exec \"$@\"");
            let output = crate::support::init::wrapped(&command, &["bash", "-c", &script, "sh"]).output().unwrap();
            let text = stderr(&output);
            assert!(code(&output) == 125 && text.contains("hint: raise the limit on"), "{limit}: {text}");
            assert!(text.contains(hint), "{limit}: {text}");
        }
    });
}

/// README's pattern for scripts, and the manual's: with the file of an earlier run in the way, and with a run that
/// fails before it has an id.
#[test]
fn a_script_that_waits_for_an_id_goes_on_whatever_happens() {
    let readme = read("README.md");
    let block = readme.split("```sh\n").find(|block| block.contains("--id-file run.id")).unwrap();
    let block = block.split("\n```").next().unwrap().replace("sleep 2;", "");
    for page in ["man/fosse-run.1", "man/fosse-wait.1"] {
        let text = read(page).replace("\\-", "-");
        assert!(
            text.contains("rm -f run.id\n") && text.contains("[ -s run.id ] || ! kill -0 $pid 2>/dev/null;"),
            "{page}"
        );
    }
    on_native(|home| {
        for shell in ["sh", "bash"] {
            let script = |text: &str| {
                home.write("ws/run.id", "0123456789ab\n");
                let command = home.cmd([""; 0]);
                let text = format!("fosse() {{ {} \"$@\"; }}\n{text}", home.program().display());
                let mut shell = crate::support::init::wrapped(&command, &[shell, "-c", &text]);
                crate::support::finish({
                    shell.current_dir(home.workspace());
                    shell
                })
            };
            let output = script(&block);
            assert!(stdout(&output).starts_with("4\n4\n  \"reason\": \"exited\""), "{shell}: {output:?}");
            let output = script(&block.replace("--id-file run.id", "--id-file run.id --memory 0"));
            assert!(stdout(&output) == "1\n" && !home.workspace().join("run.id").exists(), "{shell}: {output:?}");
        }
    });
}

/// Somebody else has made the pipe non-blocking for everybody who has it open.
#[test]
fn a_stdout_that_does_not_block_loses_nothing() {
    on_native(|home| {
        let script = "i=0; while [ $i -lt 20000 ]; do echo a line that is long enough to fill a pipe; i=$((i+1)); done";
        home.run(Engine::Native, &["-n", "talk"], &["sh", "-c", script]);
        let wanted = home.fosse(["logs", "talk"]).stdout;
        for args in [&["logs", "talk"][..], &["logs", "--json", "talk"], &["inspect", "talk"], &["help", "run"]] {
            let whole = home.fosse(args).stdout;
            let (reader, writer) = fosse::sys::fd::pipe().unwrap();
            fosse::sys::fd::set_nonblocking(&writer).unwrap();
            // Full before anybody reads.
            let mut filler = fs::File::from(writer.try_clone().unwrap());
            let mut filled = 0;
            while let Ok(count) = std::io::Write::write(&mut filler, &[b'.'; 4096]) {
                filled += count;
            }
            drop(filler);
            let child = home.cmd(args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
            let mut arrived = Vec::new();
            let mut reader = fs::File::from(reader);
            std::io::Read::read_to_end(&mut reader, &mut arrived).unwrap();
            let output = child.wait_with_output().unwrap();
            assert_eq!((code(&output), stderr(&output).as_str()), (0, ""), "{args:?}");
            assert!(arrived[filled..] == whole[..], "{args:?}: {} of {}", arrived.len() - filled, whole.len());
        }
        assert!(wanted.len() > 512 << 10);
    });
}
