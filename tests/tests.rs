//! Every promise of fosse, one file a verb or promise.

mod layers;
#[cfg(target_os = "linux")]
mod process;
mod records;
mod seeds;
