//! Every promise of fosse, one file a verb or promise. `support` has the tools; names say what is promised.
#![allow(clippy::disallowed_methods, reason = "tests start programs, read the environment and the clock")]

mod support;

#[cfg(target_os = "linux")]
mod apple;
#[cfg(target_os = "linux")]
mod apple_facts;
#[cfg(target_os = "linux")]
mod apple_facts_json;
#[cfg(target_os = "linux")]
mod apple_facts_texts;
#[cfg(target_os = "linux")]
mod apple_faults;
mod apple_mac;
#[cfg(target_os = "linux")]
mod apple_storms;
#[cfg(target_os = "linux")]
mod background;
mod behind;
#[cfg(target_os = "linux")]
mod carried;
mod clean;
mod completions;
mod config;
mod daemon;
#[cfg(target_os = "linux")]
mod daemon_api;
#[cfg(target_os = "linux")]
mod daemon_company;
#[cfg(target_os = "linux")]
mod daemon_files;
#[cfg(target_os = "linux")]
mod daemon_frozen;
#[cfg(target_os = "linux")]
mod daemon_helps;
#[cfg(target_os = "linux")]
mod daemon_manager;
#[cfg(target_os = "linux")]
mod daemon_notices;
#[cfg(target_os = "linux")]
mod daemon_orphans;
#[cfg(target_os = "linux")]
mod daemon_races;
#[cfg(target_os = "linux")]
mod daemon_sweeps;
mod docs;
mod docs_daemon;
#[cfg(target_os = "linux")]
mod elsewhere;
mod engines;
#[cfg(target_os = "linux")]
mod exec;
#[cfg(target_os = "linux")]
mod exec_signals;
#[cfg(target_os = "linux")]
mod execute;
#[cfg(target_os = "linux")]
mod execute_ends;
#[cfg(target_os = "linux")]
mod execute_load;
#[cfg(target_os = "linux")]
mod inherited;
#[cfg(target_os = "linux")]
mod init;
#[cfg(target_os = "linux")]
mod init_clients;
#[cfg(target_os = "linux")]
mod init_exit_file;
#[cfg(target_os = "linux")]
mod init_http;
#[cfg(target_os = "linux")]
mod init_orphans;
#[cfg(target_os = "linux")]
mod init_signals;
mod input;
#[cfg(target_os = "linux")]
mod interrupts;
mod layers;
#[cfg(target_os = "linux")]
mod leftovers;
#[cfg(target_os = "linux")]
mod lookup;
#[cfg(target_os = "linux")]
mod native;
#[cfg(target_os = "linux")]
mod native_calls;
#[cfg(target_os = "linux")]
mod native_changes;
#[cfg(target_os = "linux")]
mod native_escapes;
#[cfg(target_os = "linux")]
mod native_groups;
#[cfg(target_os = "linux")]
mod native_guards;
#[cfg(target_os = "linux")]
mod native_limits;
#[cfg(target_os = "linux")]
mod native_nested;
#[cfg(target_os = "linux")]
mod native_owners;
#[cfg(target_os = "linux")]
mod native_places;
#[cfg(target_os = "linux")]
mod native_processes;
#[cfg(target_os = "linux")]
mod native_promises;
#[cfg(target_os = "linux")]
mod native_survives;
#[cfg(target_os = "linux")]
mod native_works;
mod network;
#[cfg(target_os = "linux")]
mod objects;
mod orphans;
#[cfg(target_os = "linux")]
mod places;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod program;
mod records;
#[cfg(target_os = "linux")]
mod rootless;
mod run;
mod seeds;
mod signals;
mod stop;
mod streams;
#[cfg(target_os = "linux")]
mod terminal;
#[cfg(target_os = "linux")]
mod terminal_ends;
#[cfg(target_os = "linux")]
mod terminal_programs;
#[cfg(target_os = "linux")]
mod terminal_streams;
#[cfg(target_os = "linux")]
mod traps;
mod trust;
mod usage;
mod verbs;
#[cfg(target_os = "linux")]
mod waits;
mod workdir;
