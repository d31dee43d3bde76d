//! A run on every runtime: its codes, streams, signals, records, and what is left of it.

#[cfg(target_os = "linux")]
pub mod carried;
pub mod codes;
#[cfg(target_os = "linux")]
pub mod inherited;
pub mod input;
#[cfg(target_os = "linux")]
pub mod interrupts;
#[cfg(target_os = "linux")]
pub mod leftovers;
pub mod orphans;
#[cfg(target_os = "linux")]
pub mod places;
pub mod records;
pub mod signals;
pub mod stop;
pub mod streams;
#[cfg(target_os = "linux")]
pub mod traps;
pub mod trust;
#[cfg(target_os = "linux")]
pub mod waits;
pub mod workdir;
