//! What can be shown on Linux of a system that is not: no target of another system is at hand, so the sources are
//! checked with the conditions turned round. What is for Linux alone is left out, and what is for macOS is compiled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Functions of macOS's C library that this one does not have, as the sources name them, and what stands for them.
const STUBS: [(&str, &str); 1] =
    [("libc::getpeereid(", "(|_: i32, uid: *mut u32, gid: *mut u32| { let _ = (uid, gid); 0 })(")];

fn copy_turned_round(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_turned_round(&path, &target);
            continue;
        }
        let mut text = fs::read_to_string(&path).unwrap();
        for (ours, other) in [("\"linux\"", "\"nowhere\""), ("\"macos\"", "\"linux\"")] {
            text = text.replace(&format!("target_os = {ours}"), &format!("target_os = {other}"));
        }
        for (name, stub) in STUBS {
            text = text.replace(name, stub);
        }
        fs::write(target, text).unwrap();
    }
}

/// The sources with what is not theirs to check taken out of the manifest.
fn prepare(dir: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    copy_turned_round(&root.join("src"), &dir.join("src"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let is_foreign = |part: &&str| part.starts_with("[[test]]") || part.starts_with("[[example]]");
    let kept: Vec<&str> =
        manifest.split("\n\n").filter(|part| !part.split('\n').any(|line| is_foreign(&line))).collect();
    fs::write(dir.join("Cargo.toml"), kept.join("\n\n") + "\n").unwrap();
    fs::create_dir_all(dir.join(".cargo")).unwrap();
    for name in ["Cargo.lock", "README.md", ".cargo/build.rs"] {
        fs::copy(root.join(name), dir.join(name)).unwrap();
    }
}

#[test]
fn nothing_outside_its_module_needs_linux() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    if !Command::new(&cargo).arg("--version").output().is_ok_and(|output| output.status.success()) {
        return crate::support::left_out("cargo is not there, or not for this user");
    }
    let dir: PathBuf = std::env::temp_dir().join(format!("fosse-test-{}", fosse::base::id::random_hex(6).unwrap()));
    prepare(&dir);
    let mut command = Command::new(cargo);
    command.args(["check", "--locked", "--quiet", "--color", "never", "--target-dir"]);
    command.arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("elsewhere")).current_dir(&dir).stdin(Stdio::null());
    // A condition that no system meets is what this is about.
    command.env("RUSTFLAGS", "-A unexpected_cfgs -A unused_unsafe -D warnings");
    let output = command.output().unwrap();
    fs::remove_dir_all(&dir).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
