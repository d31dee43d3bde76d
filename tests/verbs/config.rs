//! Configuration: user < workspace < environment < options; mistakes name file and key.

use crate::support::{Home, code, finish, on_docker, on_native_and_docker, stderr, stdout};

fn user(home: &Home, text: &str) {
    home.write("home/.config/fosse/config.json", text);
}

fn workspace(home: &Home, text: &str) {
    home.write("ws/fosse.json", text);
}

/// What a dry run plans, without asking more of an engine than it must.
fn plan(home: &Home, options: &[&str], environment: &[(&str, &str)]) -> String {
    let mut args = vec!["run", "--dry-run"];
    args.extend(options);
    args.extend(["--", "true"]);
    let mut command = home.cmd(args);
    command.envs(environment.iter().copied());
    let output = finish(command);
    assert_eq!(code(&output), 0, "{output:?}");
    stdout(&output)
}

#[test]
fn a_higher_layer_wins() {
    on_docker(|home| {
        user(home, r#"{"image": "from-user", "memory": "10m", "network": "none"}"#);
        let planned = plan(home, &[], &[]);
        assert!(
            planned.contains("from-user")
                && planned.contains("--memory 10485760")
                && planned.contains("--network none"),
            "{planned}"
        );
        workspace(home, r#"{"image": "from-workspace", "memory": 20971520}"#);
        let planned = plan(home, &[], &[]);
        assert!(
            planned.contains("from-workspace")
                && planned.contains("--memory 20971520")
                && planned.contains("--network none"),
            "{planned}"
        );
        let environment = [("FOSSE_IMAGE", "from-environment"), ("FOSSE_MEMORY", "30m"), ("FOSSE_PIDS", "77")];
        let planned = plan(home, &[], &environment);
        assert!(
            planned.contains("from-environment")
                && planned.contains("--memory 31457280")
                && planned.contains("--pids-limit 77"),
            "{planned}"
        );
        let planned = plan(home, &["--image", "from-option", "--memory", "40m"], &environment);
        assert!(planned.contains("from-option") && planned.contains("--memory 41943040"), "{planned}");
    });
}

#[test]
fn variables_and_labels_of_all_layers_are_merged() {
    on_native_and_docker(|engine, home| {
        user(home, r#"{"env": {"A": "user", "B": "user"}, "label": {"l": "user", "m": "user"}}"#);
        workspace(home, r#"{"env": {"B": "workspace", "C": "workspace"}, "label": {"m": "workspace"}}"#);
        let output = home.run(engine, &["-e", "C=option", "--label", "n=option"], &["sh", "-c", "echo $A $B $C"]);
        assert_eq!(stdout(&output), "user workspace option\n", "{output:?}");
        assert_eq!(home.newest()["labels"], serde_json::json!({"l": "user", "m": "workspace", "n": "option"}));
    });
}

#[test]
fn mistakes_name_file_key_and_what_is_allowed_and_never_a_value() {
    on_native_and_docker(|engine, home| {
        let cases = [
            (r#"{"imagge": "x"}"#, "key \"imagge\" is unknown; allowed are runtime, image"),
            (r#"{"memory": "hunter2"}"#, "key \"memory\" must be a size"),
            (r#"{"env": {"A": 1}}"#, "key \"env\" must be an object"),
            (r#"{"env": "hunter2"}"#, "key \"env\" must be an object"),
            ("{", "not a JSON object"),
            ("[]", "not a JSON object"),
            ("", "not a JSON object"),
        ];
        for (text, words) in cases {
            user(home, text);
            for (args, wanted) in [([&["run"], engine.options(), &["true"]].concat(), 125), (vec!["clean"], 1)] {
                let output = home.fosse(args);
                assert_eq!(code(&output), wanted, "{text} {output:?}");
                let said = stderr(&output);
                assert!(
                    said.contains(words) && said.contains("config.json") && !said.contains("hunter2"),
                    "{text}: {said}"
                );
            }
            // What reads records only does not care.
            assert_eq!(code(&home.fosse(["list"])), 0);
            std::fs::remove_file(home.user_config()).unwrap();
            if text.contains("hunter2") || text.contains("imagge") {
                workspace(home, text);
                let output = home.run(engine, &[], &["true"]);
                assert!(
                    code(&output) == 125
                        && stderr(&output).contains("fosse.json")
                        && !stderr(&output).contains("hunter2"),
                    "{output:?}"
                );
                std::fs::remove_file(home.workspace().join("fosse.json")).unwrap();
            }
        }
        let mut command = home.run_cmd(engine, &[], &["true"]);
        command.env("FOSSE_CPUS", "plenty");
        let output = finish(command);
        assert!(
            code(&output) == 125 && stderr(&output).contains("FOSSE_CPUS must be a number of processors"),
            "{output:?}"
        );
    });
}

/// The workspace is untrusted: its file can neither reach further nor be something else than a file.
#[test]
fn a_workspaces_file_cannot_widen_what_a_command_reaches() {
    on_native_and_docker(|engine, home| {
        for key in [
            "runtime",
            "workspace",
            "workdir",
            "user",
            "network",
            "log_max",
            "docker",
            "podman",
            "init",
            "query_timeout",
            "change_timeout",
        ] {
            workspace(home, &format!("{{\"{key}\": \"1\"}}"));
            let output = home.run(engine, &[], &["true"]);
            assert_eq!(code(&output), 125, "{key}");
            assert!(stderr(&output).contains("may not be set by a workspace"), "{key} {output:?}");
        }
        for hostile in [r#"{"image": "-v=/:/host"}"#, r#"{"env": {"*": "x"}}"#, r#"{"env": {"A=B": "x"}}"#] {
            workspace(home, hostile);
            assert_eq!(code(&home.fosse(["run", "--", "ls", "/host"])), 125, "{hostile}");
        }
        let file = home.workspace().join("fosse.json");
        std::fs::remove_file(&file).unwrap();
        home.write("elsewhere.json", r#"{"image": "x"}"#);
        std::os::unix::fs::symlink(home.dir.join("elsewhere.json"), &file).unwrap();
        let output = home.run(engine, &[], &["true"]);
        assert!(code(&output) == 125 && stderr(&output).contains("it is a link"), "{output:?}");
        std::fs::remove_file(&file).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
        let output = home.run(engine, &[], &["true"]);
        assert!(code(&output) == 125 && stderr(&output).contains("not a regular file"), "{output:?}");
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, vec![b' '; 300_000]).unwrap();
        assert_eq!(code(&home.run(engine, &[], &["true"])), 125);
    });
}
