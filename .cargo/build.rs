//! Links everything statically where the C library allows it, so that one program runs in any image and on any
//! distribution: fosse is its own first process in other people's containers.
//!
//! `-C target-feature=+crt-static` would be the compiler's way. But `rustflags` reach the macros among the
//! dependencies, which cannot be linked so; a wrapper of the compiler is not asked by `cargo install --git`, and its
//! path makes two builds of the same source differ. A build script is run by whoever builds.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "this runs where fosse is built")]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The libraries that the compiler asks the linker for, and what each is when it is linked statically.
const LIBRARIES: [(&str, &str); 7] = [
    ("libc.a", "libc.a"),
    ("libdl.a", "libdl.a"),
    ("libgcc_s.a", "libgcc_eh.a"),
    ("libm.a", "libm.a"),
    ("libpthread.a", "libpthread.a"),
    ("librt.a", "librt.a"),
    ("libutil.a", "libutil.a"),
];

/// What a program needs besides that is linked statically and can be put anywhere in memory.
const NEEDED: [&str; 2] = ["rcrt1.o", "libgcc.a"];

fn main() {
    println!("cargo:rerun-if-changed=.cargo/build.rs");
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    // With musl, or if the caller's own flags say so, the compiler does it.
    let by_itself = target("FEATURE").split(',').any(|feature| feature == "crt-static");
    if target("OS") != "linux" || target("ENV") != "gnu" || by_itself {
        return;
    }
    if let Err(missing) = link_statically() {
        println!("cargo:warning=fosse is linked dynamically, because the linker has no {missing}.");
        println!(
            "cargo:warning=In containers it can then not be its own first process: fosse doctor says what that costs."
        );
    }
}

/// Asks for it, unless something is missing.
fn link_statically() -> Result<(), String> {
    for name in NEEDED {
        find(name)?;
    }
    let libraries = LIBRARIES.iter().map(|(name, what)| Ok((name, find(what)?))).collect::<Result<Vec<_>, String>>()?;
    // The compiler asks for shared libraries, and the linker takes the first directory that has the name: one that has
    // it for a static library only.
    let dir = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR")?);
    for (name, path) in libraries {
        let link = dir.join(name);
        std::fs::remove_file(&link).unwrap_or_default();
        symlink(path, &link).map_err(|error| format!("{}: {error}", link.display()))?;
    }
    println!("cargo:rustc-link-search=native={}", dir.display());
    // They need each other.
    for word in ["-static-pie", "-Wl,--start-group", "-lgcc", "-lgcc_eh", "-lc", "-Wl,--end-group"] {
        println!("cargo:rustc-link-arg={word}");
    }
    Ok(())
}

/// Where the linker has a file.
fn find(name: &str) -> Result<PathBuf, String> {
    let linker = std::env::var_os("RUSTC_LINKER").unwrap_or("cc".into());
    let output = Command::new(linker).arg(format!("-print-file-name={name}")).output();
    let path = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    // A name that it does not know is said as it was asked.
    let found = Path::new(&path).is_absolute() && Path::new(&path).exists();
    if found { Ok(path.into()) } else { Err(name.to_owned()) }
}
