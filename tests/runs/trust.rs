//! What a command, an image, a workspace and a bystander cannot see or reach.

use std::collections::BTreeSet;
use std::fs;

use crate::support::{
    Carrier, Client, Engine, Home, KILL, code, on_docker_with, on_each_engine, on_native_and_docker, stderr, stdout,
    wait_until,
};

const SECRET: &str = "hunter2-hunter2-hunter2";

/// Every argument vector on this machine that holds the secret, looked at while `during` is true.
fn argument_vectors_with_secret(mut during: impl FnMut() -> bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    while during() {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let cmdline = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let text = String::from_utf8_lossy(&cmdline).replace('\0', " ");
            if text.contains(SECRET) && !text.starts_with(crate::support::fosse()) {
                found.insert(text);
            }
        }
    }
    found
}

/// A value comes in by the caller's environment, by a file, by the configuration, and in two lines.
fn run_with_secrets(home: &Home, engine: Engine, script: &str) -> std::process::Command {
    let file = home.write("vars", format!("IN_FILE={SECRET}\n"));
    home.write("home/.config/fosse/config.json", format!("{{\"env\": {{\"IN_CONFIG\": \"{SECRET}\"}}}}"));
    let options = ["-e", "COPIED", "-e", "LINES", "--env-file", file.to_str().unwrap()];
    let mut command = home.run_cmd(engine, &options, &["sh", "-c", script]);
    command.env("COPIED", SECRET).env("LINES", format!("two\n{SECRET}"));
    command
}

#[test]
fn secrets_are_in_no_argument_vector_record_or_log() {
    on_each_engine(|engine, home| {
        let client = Client::spawn(run_with_secrets(
            home,
            engine,
            "echo ready; test \"$COPIED$IN_FILE$IN_CONFIG\" || exit 9; exec sleep 1000",
        ));
        let mut rounds = 0;
        let found = argument_vectors_with_secret(|| {
            rounds += 1;
            assert!(rounds < 100_000, "it does not start: {:?}", client.stderr_text());
            !client.stdout_text().contains("ready")
        });
        assert_eq!(found, BTreeSet::new(), "{engine:?}");
        wait_until("the file of values is gone", || home.temporary_files().iter().all(|path| !path.ends_with("env")));
        for (path, content) in crate::support::snapshot(&home.state()) {
            assert!(!String::from_utf8_lossy(&content).contains(SECRET), "{}", path.display());
        }
        assert_eq!(home.newest()["env"], serde_json::json!(["COPIED", "IN_CONFIG", "IN_FILE", "LINES"]));
        assert_eq!(code(&home.fosse(["stop", "--grace", "0", &home.newest_id()])), 0);
        client.output();
    });
}

/// Killed with the values on their way, the file that holds them is private, and goes with the finishing.
#[test]
fn a_killed_client_leaves_its_values_to_nobody() {
    // With its own init no value is ever in a file.
    on_docker_with(Carrier::Client, |home| {
        let slow = home
            .script("docker", "case $1 in create) touch \"$0.creating\"; exec sleep 1000;; esac; exec docker \"$@\"");
        let mut command = run_with_secrets(home, Engine::Docker, "true");
        command.env("FOSSE_DOCKER", &slow);
        let client = Client::spawn(command);
        wait_until("it creates", || home.dir.join("docker.creating").exists());
        client.signal(KILL);
        client.output();
        let id = home.newest_id();
        let file = home.state().join("runs").join(&id).join("env");
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(code(&home.fosse(["stop", "--grace", "0", &id])), 0);
        assert!(!file.exists());
        home.assert_nothing_left();
    });
}

/// An error that repeats what the engine said never repeats a value.
#[test]
fn a_failed_start_does_not_tell_the_values() {
    on_each_engine(|engine, home| {
        let options = ["-e", &format!("S={SECRET}"), "--workdir", "/etc/passwd"];
        let output = home.run(engine, &options, &["true"]);
        assert_eq!(code(&output), 125);
        assert!(!stderr(&output).contains(SECRET) && !home.newest().to_string().contains(SECRET));
    });
}

/// fosse's own directories are covered wherever a mount would show them.
#[test]
fn fosses_own_directories_are_not_visible_inside() {
    on_each_engine(|engine, home| {
        home.run(engine, &["--no-workspace"], &["true"]);
        let shown = home.dir.to_str().unwrap().to_owned();
        let mount = format!("{shown}:/all");
        let script = "cd /workspace; ls -A state run home/.config/fosse /all/state /all/run; \
            for d in state run home/.config/fosse /all/state; do echo x >$d/planted && echo PLANTED; done; \
            mv home/.config home/.moved && echo PLANTED; mv home moved && echo PLANTED; exit 0";
        let output = home.run(engine, &["-w", &shown, "-m", &mount], &["sh", "-c", script]);
        assert_eq!(code(&output), 0, "{engine:?} {output:?}");
        let text = stdout(&output);
        assert!(!text.contains("PLANTED"), "{engine:?} {text} {}", stderr(&output));
        let names: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.ends_with(':')).collect();
        assert_eq!(names, Vec::<&str>::new(), "{engine:?}: visible inside");
        assert!(!home.user_config().with_file_name("planted").exists());
        assert!(home.list().len() == 2, "the records are untouched");
    });
}

#[test]
fn a_mount_of_fosses_own_directories_is_refused() {
    on_native_and_docker(|engine, home| {
        home.run(engine, &["--no-workspace"], &["true"]);
        let runs = home.state().join("runs");
        let link = home.dir.join("link");
        std::os::unix::fs::symlink(home.state(), &link).unwrap();
        for source in [home.state(), runs, link] {
            let mount = format!("{}:/x", source.display());
            let output = home.run(engine, &["-m", &mount], &["ls", "/x"]);
            assert_eq!((code(&output), stdout(&output).as_str()), (125, ""), "{output:?}");
            assert!(stderr(&output).contains("fosse's own"), "{output:?}");
        }
    });
}

/// A runtime directory in a shared place must be the user's own.
#[test]
fn a_runtime_directory_of_somebody_elses_making_is_refused() {
    on_native_and_docker(|engine, home| {
        let elsewhere = home.dir.join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let shared = home.dir.join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
        std::os::unix::fs::symlink(&elsewhere, shared.join("run")).unwrap();
        let mut command = home.run_cmd(engine, &[], &["true"]);
        command.env("FOSSE_RUNTIME_DIR", shared.join("run"));
        let output = crate::support::finish(command);
        assert_eq!(code(&output), 125, "{output:?}");
        assert!(stderr(&output).contains("it is not a directory"), "{output:?}");
    });
}
