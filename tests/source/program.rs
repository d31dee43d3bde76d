//! The program itself: one file that runs in any image, or one that says what it lacks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::support::{Home, fosse, in_drop, left_out, stdout};

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

/// Of a test that fails, and of one that does not.
#[test]
fn a_panic_in_a_drop_ends_neither_its_other_steps_nor_all_the_tests() {
    struct Noisy<'a>(&'a AtomicUsize);
    impl Drop for Noisy<'_> {
        fn drop(&mut self) {
            let count = |noisy: &mut Noisy| {
                noisy.0.fetch_add(1, Ordering::SeqCst);
            };
            in_drop(self, &[|_| panic!("a step of a drop"), count]);
        }
    }
    let count = AtomicUsize::new(0);
    for fails in [false, true] {
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let _noisy = Noisy(&count);
            assert!(!fails, "the test itself");
        }));
        let why = ended.unwrap_err();
        let why = why.downcast_ref::<&str>().unwrap();
        assert_eq!(*why, if fails { "the test itself" } else { "a step of a drop" });
    }
    assert_eq!(count.into_inner(), 2);
}
