//! The source itself: its layers, its modules for children and for other systems, the seeds of the fuzz targets.

#[cfg(target_os = "linux")]
pub mod elsewhere;
pub mod layers;
#[cfg(target_os = "linux")]
pub mod process;
#[cfg(target_os = "linux")]
pub mod program;
pub mod seeds;
