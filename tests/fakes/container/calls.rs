//! The log of calls.

/// Notes that the process runs which this call stays with.
pub fn running() {}
