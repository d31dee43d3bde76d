//! `POST /process/execute` of `fosse init`: what a command is given, what it wrote, and how it ended.

use serde_json::{Value, json};

use crate::support::http::bytes_of;
use crate::support::init::{BOTH, Init, Place, code_of, serving};
use crate::support::{code, repeat};

fn sh(script: &str) -> Value {
    json!({"command": ["sh", "-c", script]})
}

/// The output of a command as text.
fn text(result: &Value, field: &str) -> String {
    String::from_utf8(bytes_of(result, field)).unwrap_or_else(|error| panic!("{error}: {result}"))
}

// ---- exit codes -------------------------------------------------------------------------------

/// E1: the very commands of the report.
#[test]
fn e1_success_is_0_a_missing_path_2_and_a_missing_command_127() {
    serving(&BOTH, |init| {
        for (command, wanted) in [("ls -al", 0), ("ls /no/such/path", 2), ("no-such-command-anywhere", 127)] {
            let result = init.done(&json!({"command": command}));
            assert_eq!((code_of(&result), &result["signal"]), (wanted, &Value::Null), "{command}: {result}");
        }
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..10).map(|n| scope.spawn(move || init.sh(&format!("echo {n}")))).collect();
            for (number, one) in all.into_iter().enumerate() {
                assert_eq!(one.join().unwrap(), (0, format!("{number}\n")));
            }
        });
    });
}

/// E1: each of them.
#[test]
fn e1_each_exit_code_of_an_executed_command_is_exact() {
    serving(&BOTH, |init| {
        for wanted in 0..=255 {
            let result = init.done(&sh(&format!("exit {wanted}")));
            assert_eq!((code_of(&result), &result["signal"]), (wanted, &Value::Null), "{result}");
        }
    });
}

#[test]
fn e1_not_found_is_127_and_not_executable_126_and_neither_is_an_error_of_inits() {
    serving(&BOTH, |init| {
        init.home.write("ws/plain", "#!/bin/sh\nexit 0\n");
        for (command, wanted) in
            [("no-such-command-anywhere", 127), ("/no/such/command", 127), ("./plain", 126), ("/tmp", 126)]
        {
            for command in [json!(command), json!([command]), json!([command, "an argument"])] {
                let result = init.done(&json!({"command": command, "cwd": init.home.workspace()}));
                assert_eq!((code_of(&result), &result["signal"]), (wanted, &Value::Null), "{command}: {result}");
            }
        }
        init.wait_childless();
    });
}

#[test]
fn e1_death_by_a_signal_is_128_and_its_number_and_told_apart_from_that_exit_code() {
    serving(&BOTH, |init| {
        for signal in [1, 2, 3, 6, 9, 11, 13, 14, 15] {
            let result = init.done(&sh(&format!("ulimit -c 0; echo before; kill -{signal} $$; exit 99")));
            assert_eq!((code_of(&result), result["signal"].as_i64()), (128 + signal, Some(signal)), "{result}");
            assert_eq!(text(&result, "result"), "before\n");
            let result = init.done(&sh(&format!("exit {}", 128 + signal)));
            assert_eq!((code_of(&result), &result["signal"]), (128 + signal, &Value::Null), "{result}");
        }
    });
}

/// Standing still and going on is no end.
#[test]
fn a_command_that_was_stopped_and_continued_has_not_ended() {
    serving(&BOTH, |init| {
        let stopped = "grep -q '^State:.T' /proc/$$/status";
        let script = format!("(until {stopped}; do sleep 0.01; done; kill -CONT $$) & kill -STOP $$; echo on; exit 5");
        let result = init.done(&sh(&script));
        assert_eq!((code_of(&result), text(&result, "result").as_str()), (5, "on\n"), "{result}");
    });
}

/// E2: init's main command and those of the API do not take each other's ends.
#[test]
fn e2_executed_commands_never_end_init_and_its_own_command_does() {
    for place in BOTH {
        let script = "echo ready; while ! [ -e end ]; do sleep 0.05; done; exit 44";
        let Some(init) = Init::serve_with(place, &["--", "sh", "-c", script], |command| command) else { continue };
        init.client().wait_for_output("ready\n");
        for wanted in 0..50 {
            assert_eq!(init.sh(&format!("exit {wanted}")).0, wanted);
        }
        init.home.write("ws/end", "");
        let output = init.ended();
        assert_eq!(code(&output), 44, "{place:?} {output:?}");
    }
}

// ---- output -----------------------------------------------------------------------------------

/// X11 the other way round: one pipe, so the order is exact.
#[test]
fn both_streams_in_one_keep_their_order() {
    serving(&[Place::Subreaper], |init| {
        for _ in 0..repeat(3000) {
            let result = init.done(&sh("echo a; echo b >&2; echo c"));
            assert_eq!(text(&result, "result"), "a\nb\nc\n", "{result}");
            let (stdout, stderr) = (&result["stdout"], &result["stderr"]);
            assert_eq!((stdout, stderr, &result["truncated"]), (&Value::Null, &Value::Null, &json!(false)), "{result}");
        }
    });
}

/// X11: asked for apart, they are told apart.
#[test]
fn x11_split_streams_are_told_apart() {
    serving(&BOTH, |init| {
        let mut request = sh("echo a; echo b >&2; echo c; exit 3");
        request["split"] = true.into();
        let result = init.done(&request);
        assert_eq!((text(&result, "stdout").as_str(), text(&result, "stderr").as_str()), ("a\nc\n", "b\n"), "{result}");
        assert_eq!((&result["result"], code_of(&result)), (&Value::Null, 3), "{result}");
        request["split"] = false.into();
        assert_eq!(text(&init.done(&request), "result"), "a\nb\nc\n");
        // Nothing written is an empty text and not null.
        let mut silent = sh("exit 0");
        assert_eq!(init.done(&silent)["result"], "");
        silent["split"] = true.into();
        let result = init.done(&silent);
        assert_eq!((&result["stdout"], &result["stderr"]), (&json!(""), &json!("")), "{result}");
    });
}

/// X4: the last byte of the fastest command.
#[test]
fn x4_the_output_of_the_fastest_command_is_complete() {
    serving(&[Place::Subreaper], |init| {
        for round in 0..repeat(1000) {
            assert_eq!(text(&init.done(&json!({"command": ["printf", "x"]})), "result"), "x");
            let result = init.done(&json!({"command": ["seq", "1", "20000"]}));
            let lines = text(&result, "result");
            assert_eq!((lines.lines().count(), lines.ends_with("\n20000\n")), (20_000, true), "round {round}");
        }
    });
}

#[test]
fn x11_bytes_that_are_no_text_arrive_as_they_are() {
    serving(&BOTH, |init| {
        let bytes: Vec<u8> = (0..=255_u8).cycle().take(300_000).collect();
        init.home.write("bytes", &bytes);
        let file = init.home.dir.join("bytes");
        let result = init.done(&json!({"command": ["cat", file]}));
        assert_eq!(result["encoding"], "base64");
        assert!(bytes_of(&result, "result") == bytes, "the bytes differ");
        // A character whose bytes come in two parts is a character.
        let result = init.done(&sh("printf '\\303'; sleep 0.1; printf '\\251\\0\\033\\n'"));
        assert_ne!(result["encoding"], "base64", "{result}");
        assert_eq!(text(&result, "result"), "é\0\x1b\n");
        // One that never becomes whole is none.
        let result = init.done(&sh("printf 'x\\303'"));
        assert_eq!((&result["encoding"], bytes_of(&result, "result")), (&json!("base64"), b"x\xc3".to_vec()));
    });
}

// ---- what a command is given ------------------------------------------------------------------

#[test]
fn arguments_arrive_as_they_were_given_the_empty_ones_too() {
    serving(&BOTH, |init| {
        let odd = ["", "a b", "", "\"'\\$`*;\n\t", "é", "--", "-n", ""];
        let command = [&["printf", "%s|"], &odd[..]].concat();
        let result = init.done(&json!({"command": command}));
        let wanted = odd.iter().map(|arg| format!("{arg}|")).collect::<Vec<_>>().concat();
        assert_eq!(text(&result, "result"), wanted);
        let long = "x".repeat(100_000);
        assert_eq!(text(&init.done(&json!({"command": ["printf", "%s", &long]})), "result"), long);
    });
}

#[test]
fn a_string_is_split_by_quotes_and_blanks_and_nothing_else_is_done_to_it() {
    serving(&[Place::Subreaper], |init| {
        for (command, wanted) in [
            ("printf %s| a b", "a|b|"),
            ("  printf \t %s|   a\t\tb\n c  ", "a|b|c|"),
            ("printf %s| 'a  b' \"c  d\"", "a  b|c  d|"),
            ("printf %s| '' \"\" x", "||x|"),
            ("printf %s| x'y z'\"w\"v", "xy zwv|"),
            ("printf %s| \"it's\" 'say \"no\"'", "it's|say \"no\"|"),
            ("printf %s| $HOME * ~ `x` $(y) {a,b}", "$HOME|*|~|`x`|$(y)|{a,b}|"),
            ("printf %s| a>b ; c && d | e #f", "a>b|;|c|&&|d|||e|#f|"),
            ("'printf' %s| A=b", "A=b|"),
        ] {
            assert_eq!(text(&init.done(&json!({"command": command})), "result"), wanted, "{command}");
        }
        for command in ["echo 'a", "echo \"a", "echo a'b"] {
            let answer = init.execute(&json!({"command": command}));
            assert_eq!(answer.status, 400, "{command}: {answer:?}");
            assert!(answer.message().contains("command"), "{answer:?}");
        }
    });
}

#[test]
fn the_directory_asked_for_is_the_commands() {
    serving(&BOTH, |init| {
        let workspace = init.home.workspace();
        let here = format!("{}\n", workspace.to_str().unwrap());
        assert_eq!(text(&init.done(&json!({"command": "pwd"})), "result"), here, "init's own by default");
        assert_eq!(text(&init.done(&json!({"command": "pwd", "cwd": "/usr"})), "result"), "/usr\n");
        assert_eq!(text(&init.done(&json!({"command": "pwd"})), "result"), here, "and it is for one command only");
        let file = init.home.write("a-file", "");
        for cwd in [json!("/no/such/directory"), json!(file), json!("")] {
            let answer = init.execute(&json!({"command": "pwd", "cwd": cwd}));
            assert_eq!(answer.status, 400, "{cwd}: {answer:?}");
            assert!(answer.message().contains("cwd"), "{cwd}: {answer:?}");
        }
        // It is the directory that is at fault and not the command.
        let answer = init.execute(&json!({"command": "no-such-command-anywhere", "cwd": "/no/such/directory"}));
        assert_eq!(answer.status, 400, "{answer:?}");
        init.wait_childless();
    });
}

#[test]
fn the_environment_is_inits_and_what_the_request_adds() {
    for place in BOTH {
        let set = |mut command: std::process::Command| {
            command.env("GIVEN", "to init").env("CHANGED", "before");
            command
        };
        let Some(init) = Init::serve_with(place, &[], set) else { continue };
        let script = "printf '%s|' \"$GIVEN\" \"$CHANGED\" \"$ADDED\" \"${PATH:+path}\"";
        assert_eq!(init.sh(script).1, "to init|before||path|");
        let mut request = sh(script);
        request["env"] = json!({"CHANGED": "a=b c\n\"é", "ADDED": ""});
        assert_eq!(text(&init.done(&request), "result"), "to init|a=b c\n\"é||path|");
        assert_eq!(init.sh(script).1, "to init|before||path|", "it is for one command only");
        request["env"] = json!({});
        assert_eq!(text(&init.done(&request), "result"), "to init|before||path|");
        // A command is looked for where its own environment says.
        init.home.script("bin/only-here", "echo found");
        let request =
            json!({"command": "only-here", "env": {"PATH": format!("{}/bin:/usr/bin:/bin", init.home.dir.display())}});
        assert_eq!(text(&init.done(&request), "result"), "found\n");
        init.end();
    }
}

#[test]
fn a_command_finds_no_input_no_blocked_signal_and_no_descriptor_of_inits() {
    serving(&BOTH, |init| {
        assert_eq!(init.sh("cat; read x || echo none"), (0, "none\n".into()));
        let (_, status) = init.sh("grep -E '^Sig(Blk|Ign)' /proc/self/status");
        let blocked = status.lines().find(|line| line.starts_with("SigBlk")).unwrap_or_default();
        assert_eq!(blocked.split_whitespace().nth(1), Some("0000000000000000"), "{status}");
        // Other requests are under way, and their pipes and sockets are there to be passed on by mistake.
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..5)
                .map(|_| scope.spawn(|| init.sh("touch up.$$; while ! [ -e go ]; do sleep 0.01; done")))
                .collect();
            let under_way = || {
                crate::support::native::names(&init.home.workspace())
                    .iter()
                    .filter(|name| name.starts_with("up."))
                    .count()
            };
            crate::support::wait_until("all of them run", || under_way() == 5);
            let (_, open) = init.sh("ls /proc/self/fd; ls -l /proc/self/fd");
            init.home.write("ws/go", "");
            waiting.into_iter().for_each(|one| assert_eq!(one.join().unwrap().0, 0));
            assert!(open.starts_with("0\n1\n2\n3\ntotal"), "{open}");
            assert!(!open.contains("socket:") && !open.contains("anon_inode:"), "{open}");
        });
    });
}

/// As the C library's execvp and every shell do it.
#[test]
fn a_script_that_does_not_say_what_executes_it_is_a_shells() {
    serving(&[Place::Subreaper], |init| {
        let script = init.home.script("bin/plain", "");
        init.home.write("plain.text", "echo \"$0 $1\"; exit 4\n");
        crate::support::copy_program(&init.home.dir.join("plain.text"), &script);
        let result = init.done(&json!({"command": [script, "a b"]}));
        assert_eq!((code_of(&result), text(&result, "result")), (4, format!("{} a b\n", script.display())));
    });
}

/// Init itself takes more descriptors than programs are used to.
#[test]
fn the_limit_on_descriptors_is_the_one_that_init_found() {
    for place in BOTH {
        let few = |command: std::process::Command| {
            crate::support::init::wrapped(&command, &["sh", "-c", "ulimit -S -n 1000; exec \"$@\"", "sh"])
        };
        let main = "ulimit -n >limit; while ! [ -e end ]; do sleep 0.05; done";
        let Some(init) = Init::serve_with(place, &["--", "sh", "-c", main], few) else { continue };
        assert_eq!(init.sh("ulimit -S -n"), (0, "1000\n".into()), "{place:?}");
        init.home.write("ws/end", "");
        let limit = init.home.workspace().join("limit");
        crate::support::wait_until("it has said so", || {
            std::fs::read_to_string(&limit).is_ok_and(|text| text.ends_with('\n'))
        });
        assert_eq!(std::fs::read_to_string(&limit).unwrap(), "1000\n");
        init.ended();
    }
}

/// A command cannot reach the terminal or the group of init's own.
#[test]
fn a_command_leads_a_group_of_its_own() {
    serving(&BOTH, |init| {
        let (_, numbers) = init.sh("set -- $(cat /proc/$$/stat); echo $1 $5");
        let numbers: Vec<&str> = numbers.split_whitespace().collect();
        assert_eq!(numbers.len(), 2);
        assert_eq!(numbers[0], numbers[1]);
        assert_eq!(init.sh("trap '' TERM; kill -TERM 0; echo alive; exit 2"), (2, "alive\n".into()));
        init.assert_well();
    });
}
