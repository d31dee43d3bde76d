//! The built-in sandbox: what works inside, what it keeps from the command, and what it survives.

pub mod calls;
pub mod changes;
pub mod escapes;
pub mod groups;
pub mod guards;
pub mod limits;
pub mod nested;
pub mod owners;
pub mod places;
pub mod processes;
pub mod promises;
pub mod runs;
pub mod survives;
pub mod works;
