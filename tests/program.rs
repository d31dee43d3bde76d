//! The program itself: one file that runs in any image, or one that says what it lacks.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Home, fosse, left_out, stdout};

/// Whether a program asks the kernel for a loader of shared libraries (PT_INTERP, elf(5)).
fn asks_for_a_loader(program: &[u8]) -> bool {
    assert_eq!(&program[..5], b"\x7fELF\x02", "an ELF file of 64 bits");
    let number =
        |at: usize, size: usize| program[at..][..size].iter().rev().fold(0, |sum, b| (sum << 8) | usize::from(*b));
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).any(|index| number(table + index * size, 4) == 3)
}

/// Whether the compiler's linker has what a static program is made of.
fn can_be_static() -> bool {
    ["libc.a", "rcrt1.o", "libgcc_eh.a"].iter().all(|name| {
        let output = Command::new("cc").arg(format!("-print-file-name={name}")).output();
        output.is_ok_and(|output| Path::new(stdout(&output).trim()).exists())
    })
}

/// The check of a name, as `fosse doctor` has it.
fn check(home: &Home, name: &str) -> Value {
    let said = stdout(&home.fosse(["doctor", "--json"]));
    let mut checks = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    checks.find(|check| check["check"] == name).unwrap_or_else(|| panic!("no {name}: {said}"))
}

#[test]
fn it_is_static_where_the_c_library_allows_it_and_doctor_says_which_it_is() {
    let home = Home::without_engines();
    let check = check(&home, "program");
    let detail = check["detail"].as_str().unwrap();
    if asks_for_a_loader(&std::fs::read(fosse()).unwrap()) {
        assert!(
            detail.contains("linked dynamically") && detail.contains("PID 1") && check["result"] == "note",
            "{check}"
        );
        assert!(!can_be_static(), "it could be static");
        left_out("the C library here cannot be linked statically");
    } else {
        assert!(detail.ends_with("linked statically") && check["result"] == "ok", "{check}");
    }
}
