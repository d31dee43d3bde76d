//! Threads of this process: each has a name that a debugger shows, and no more stack than it needs.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts one, with so many KiB of stack. It fails where the process may have no more threads, or no more memory.
pub(crate) fn start<T: Send + 'static>(
    name: &str,
    stack_kib: usize,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.into()).stack_size(stack_kib << 10).spawn(body)
}
