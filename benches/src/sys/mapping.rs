//! A shared mapping of a memfd, without any reference into its bytes.

use std::ffi::c_void;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::failure::Failure;

/// Mapped memory that another process writes as well.
pub(crate) struct Mapping {
    base: NonNull<c_void>,
    length: usize,
}

impl Mapping {
    /// Maps the first `length` bytes of a file.
    pub(crate) fn of(file: impl AsFd, length: usize) -> Result<Mapping, Failure> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel picks a free range, so no existing mapping is replaced.
        let base = unsafe { mmap(std::ptr::null_mut(), length, protection, MapFlags::SHARED, file, 0) };
        let base = base.map_err(|errno| Failure::io("map shared memory", errno.into()))?;
        let base = NonNull::new(base).ok_or_else(|| Failure::other("shared memory was mapped at zero"))?;
        Ok(Mapping { base, length })
    }

    /// The 32-bit word at an offset, which is a multiple of four.
    pub(crate) fn word(&self, offset: usize) -> Result<&AtomicU32, Failure> {
        let at = self.range(offset, size_of::<AtomicU32>())?.cast::<AtomicU32>();
        if !at.is_aligned() {
            return Err(Failure::other("a word of shared memory is not aligned"));
        }
        // SAFETY: in bounds and aligned, checked above; alive as long as `self`; every access to it is atomic.
        Ok(unsafe { at.as_ref() })
    }

    /// Copies bytes into the mapping.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Failure> {
        let to = self.range(offset, bytes.len())?;
        // SAFETY: in bounds, checked by `range`; the protocol of the two ends lets one of them write at a time.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        Ok(())
    }

    /// Copies bytes out of the mapping.
    pub(crate) fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), Failure> {
        let from = self.range(offset, bytes.len())?;
        // SAFETY: in bounds, checked by `range`; the writer has handed the bytes over with a release store.
        unsafe { from.copy_to_nonoverlapping(NonNull::from(&mut *bytes).cast(), bytes.len()) };
        Ok(())
    }

    /// Copies bytes inside the mapping; the two ranges may overlap.
    pub(crate) fn copy(&self, from: usize, to: usize, length: usize) -> Result<(), Failure> {
        let from = self.range(from, length)?;
        let to = self.range(to, length)?;
        // SAFETY: both in bounds, checked by `range`, and the copy tolerates overlap.
        unsafe { from.copy_to(to, length) };
        Ok(())
    }

    fn range(&self, offset: usize, length: usize) -> Result<NonNull<u8>, Failure> {
        if offset.checked_add(length).is_none_or(|end| end > self.length) {
            return Err(Failure::other("a range is outside the shared memory"));
        }
        // SAFETY: the offset is within the mapping, checked above.
        Ok(unsafe { self.base.cast::<u8>().add(offset) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped in `of`, and no reference into it outlives `self`.
        let result = unsafe { munmap(self.base.as_ptr(), self.length) };
        debug_assert!(result.is_ok(), "munmap of an own mapping");
    }
}
