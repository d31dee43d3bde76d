//! The seeds of the fuzz targets, and whatever once failed there, hold in every test run (`tests/fuzz`).

use std::fs;
use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
mod checks;

fn replay(target: &str, check: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
    let seeds: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(seeds.len() >= 4, "{} has hardly any seeds", dir.display());
    for seed in seeds {
        let bytes = fs::read(&seed).unwrap();
        let held = std::panic::catch_unwind(|| {
            check(&bytes);
            // Torn at every place, and one byte of it changed.
            for at in 0..bytes.len() {
                check(&bytes[..at]);
                let mut damaged = bytes.clone();
                damaged[at] ^= 0x11;
                check(&damaged);
            }
        });
        assert!(held.is_ok(), "{}", seed.display());
    }
}

#[test]
fn a_record_that_can_be_read_can_be_written_and_read_again() {
    replay("record", checks::record);
}

#[test]
fn x8_answers_of_engines_are_understood_as_they_stand_or_refused() {
    replay("engine_json", checks::engine_json);
}

#[test]
fn x4_output_is_read_the_same_before_and_after_the_repair_of_its_file() {
    replay("output", checks::output);
}

#[test]
fn a_workspaces_configuration_widens_nothing() {
    replay("config", checks::config);
}

#[test]
fn a_client_is_understood_the_same_however_its_bytes_are_cut() {
    replay("http_head", checks::http_head);
}

#[test]
fn a_channel_is_understood_the_same_however_its_bytes_are_cut() {
    replay("channel", checks::channel);
}

#[test]
fn x2_what_was_typed_means_the_same_however_it_is_cut() {
    replay("escape", checks::escape);
}

#[test]
fn what_output_left_on_in_a_terminal_is_undone_and_nothing_more() {
    replay("modes", checks::modes);
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_client_wants_run_can_be_given_to_a_kernel_or_is_refused() {
    replay("execute_body", checks::execute_body);
}
