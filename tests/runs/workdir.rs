//! `--workdir`: it is there, or is made by the command's own user in what is gone with the run. Nothing is ever made in what
//! is mounted.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::support::{
    Carrier, Engine, Home, code, on_docker_with, on_each_engine, on_each_real_engine_with, stderr, stdout,
};

/// Everything in the workspace and in a mounted directory, with its owner.
fn shared(home: &Home) -> Vec<String> {
    let all = [home.workspace(), home.dir.join("mounted")].into_iter().flat_map(|dir| crate::support::snapshot(&dir));
    let describe = |path: std::path::PathBuf| {
        let found = fs::symlink_metadata(&path).unwrap();
        format!("{} {}", path.display(), found.uid())
    };
    all.map(|(path, _)| describe(path)).collect()
}

fn prepare(home: &Home) -> String {
    for dir in ["ws/dir", "mounted/dir"] {
        home.write(&format!("{dir}/file"), "");
    }
    for (link, target) in
        [("link", "dir"), ("absolute", "/workspace/dir"), ("across", "/mnt/here"), ("dangling", "none")]
    {
        std::os::unix::fs::symlink(target, home.workspace().join(link)).unwrap();
    }
    format!("{}:/mnt/here", home.dir.join("mounted").display())
}

#[test]
fn nothing_is_made_in_what_is_mounted() {
    on_each_engine(|engine, home| {
        let mount = prepare(home);
        let before = shared(home);
        for dir in [
            "/workspace/new",
            "/workspace/new/deep",
            "/workspace/dir/new",
            "/workspace/link/new",
            "/workspace/absolute/new",
            "/workspace/across/new",
            "/workspace/dangling",
            "/workspace/dir/../new",
            "/mnt/here/new",
            "/workspace/dir/file",
            "/workspace/dir/file/new",
        ] {
            let output = home.run(engine, &["-m", &mount, "--workdir", dir], &["pwd"]);
            assert_eq!((code(&output), stdout(&output).as_str()), (125, ""), "{engine:?}, {dir}: {output:?}");
            assert_eq!(stderr(&output).lines().count(), 2, "{engine:?}, {dir}: {output:?}");
            assert_eq!(shared(home), before, "{engine:?}, {dir}");
        }
        for (dir, wanted) in [
            ("/workspace/dir", "/workspace/dir"),
            ("/workspace/link", "/workspace/dir"),
            ("/workspace/absolute", "/workspace/dir"),
            ("/workspace/across/dir", "/mnt/here/dir"),
            ("/mnt/here/dir", "/mnt/here/dir"),
            ("/etc", "/etc"),
        ] {
            let output = home.run(engine, &["-m", &mount, "--workdir", dir], &["pwd", "-P"]);
            let said = (code(&output), stdout(&output).trim_end().to_owned());
            assert_eq!(said, (0, wanted.to_owned()), "{engine:?}, {dir}: {output:?}");
        }
        assert_eq!(shared(home), before, "{engine:?}");
    });
}

/// A link of the image's into the workspace is not seen on the host.
#[test]
fn nothing_is_made_in_what_is_mounted_by_a_way_through_the_image() {
    on_each_real_engine_with(Carrier::Init, |engine, home| {
        prepare(home);
        let before = shared(home);
        for dir in ["/proc/1/cwd/workspace/new", "/proc/self/root/workspace/new", "/usr/../workspace/new"] {
            let output = home.run(engine, &["--user", "root", "--workdir", dir], &["pwd"]);
            assert_eq!(code(&output), 125, "{engine:?}, {dir}: {output:?}");
            assert_eq!(shared(home), before, "{engine:?}, {dir}");
        }
    });
}

#[test]
fn a_missing_directory_of_the_image_is_made_by_the_commands_user_where_it_may() {
    on_each_real_engine_with(Carrier::Init, |engine, home| {
        let run =
            |options: &[&str]| home.run(engine, options, &["sh", "-c", "pwd; stat -c %u .; touch file && echo made"]);
        let output = run(&["--user", "root", "--workdir", "/new/deep"]);
        assert_eq!((code(&output), stdout(&output).as_str()), (0, "/new/deep\n0\nmade\n"), "{engine:?}: {output:?}");
        let output = run(&["--user", "1234", "--workdir", "/tmp/new"]);
        assert_eq!((code(&output), stdout(&output).as_str()), (0, "/tmp/new\n1234\nmade\n"), "{engine:?}: {output:?}");
        let output = run(&["--user", "1234", "--workdir", "/new"]);
        assert_eq!((code(&output), stdout(&output).as_str()), (125, ""), "{engine:?}: {output:?}");
        assert!(stderr(&output).contains("/new") && stderr(&output).contains("hint: --workdir"), "{output:?}");
        assert_eq!(home.newest()["workdir"], "/new");
    });
}

/// Also where the engine is asked for an exec that was never told of the directory.
#[test]
fn an_exec_starts_in_the_runs_directory_whoever_starts_it() {
    for carrier in Carrier::BOTH {
        on_docker_with(carrier, |home| {
            let _run =
                home.start(Engine::Docker, &["-n", "box", "--user", "1234", "--workdir", "/tmp"], "exec sleep 1000");
            for options in [&[][..], &["--user", "7:8"], &["--user", "root"]] {
                let output = home.fosse([&["exec"], options, &["box", "--", "pwd"]].concat());
                assert_eq!(
                    (code(&output), stdout(&output).as_str()),
                    (0, "/tmp\n"),
                    "{carrier:?}, {options:?}: {output:?}"
                );
            }
        });
    }
}
