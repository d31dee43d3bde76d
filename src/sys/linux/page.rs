//! A number in a file that several processes have in memory (mmap(2), MAP_SHARED): what one has stored the file has,
//! also when that process is killed a moment later.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// The first eight bytes of a file.
pub(crate) struct SharedNumber(NonNull<AtomicU64>);

// SAFETY: the memory is mapped for the life of the process, and only touched by atomic operations.
unsafe impl Send for SharedNumber {}

impl SharedNumber {
    /// Maps the file, which must be open for reading and writing and have eight bytes at least: one that is shorter
    /// is an error, since its memory would be none.
    pub(crate) fn map(file: impl AsFd) -> io::Result<SharedNumber> {
        let size = std::mem::size_of::<AtomicU64>();
        // SAFETY: all-zero bytes are a valid stat, a structure of integers.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: `stat` has room for the answer.
        super::super::cerr(unsafe { libc::fstat(file.as_fd().as_raw_fd(), &raw mut stat) })?;
        if stat.st_size < size as libc::off_t {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), size, protection, libc::MAP_SHARED, file.as_fd().as_raw_fd(), 0)
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(at.cast()).map(SharedNumber).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// Stores it, in one step.
    pub(crate) fn store(&self, number: u64) {
        // SAFETY: the mapping is never taken away, is aligned to a page, and large enough.
        unsafe { self.0.as_ref() }.store(number.to_le(), Ordering::SeqCst);
    }
}
