//! The boundary of a core wasm module: imports, and an allocator for the worker's inputs.

use crate::abi::ENTRY_ACCEPTED;
use alloc::alloc::{alloc, dealloc};
use core::alloc::Layout;
use core::ptr::null_mut;

mod imports {
    #[link(wasm_import_module = "hotcell")]
    unsafe extern "C" {
        pub(super) fn reply(data: *const u8, length: usize);
        pub(super) fn host_call(
            name: *const u8,
            name_length: usize,
            input: *const u8,
            input_length: usize,
        ) -> i64;
        pub(super) fn host_take(out: *mut u8, capacity: usize) -> usize;
    }
}

/// Prepares the module. Returns what the entry symbol returns: always zero.
#[must_use]
pub fn accept() -> u32 {
    #[cfg(feature = "std")]
    log_panics();
    ENTRY_ACCEPTED
}

/// A panic ends in a trap that carries no text, so the text goes to the log, if the plugin may log.
#[cfg(feature = "std")]
fn log_panics() {
    use alloc::string::ToString;
    std::panic::set_hook(Box::new(|panic| drop(crate::log(crate::Level::Error, &panic.to_string()))));
}

/// Hands the reply of the running call to the worker, which copies it.
pub(crate) fn reply(bytes: &[u8]) {
    // SAFETY: the pointer and length are those of a live slice, and the worker only reads it.
    unsafe { imports::reply(bytes.as_ptr(), bytes.len()) }
}

/// Calls the host and returns its status number.
pub(crate) fn host_call(name: &str, input: &[u8]) -> i64 {
    // SAFETY: both pointers and lengths are those of live slices, and the worker only reads them.
    unsafe { imports::host_call(name.as_ptr(), name.len(), input.as_ptr(), input.len()) }
}

/// Copies the answer of the last host call into `out` and returns how many bytes that were.
pub(crate) fn host_take(out: &mut [u8]) -> usize {
    // SAFETY: the pointer and capacity are those of a live, exclusive slice.
    unsafe { imports::host_take(out.as_mut_ptr(), out.len()) }
}

/// Layout of an input buffer. At least one byte, so that it has an address of its own.
fn buffer_layout(length: usize) -> Option<Layout> {
    Layout::array::<u8>(length.max(1)).ok()
}

/// `hotcell_alloc`: a buffer of `length` bytes that the next export frees; null if there is no memory for it.
#[must_use]
pub fn allocate(length: usize) -> *mut u8 {
    match buffer_layout(length) {
        // SAFETY: the layout has at least one byte.
        Some(layout) => unsafe { alloc(layout) },
        None => null_mut(),
    }
}

/// Frees what [`allocate`] returned.
///
/// # Safety
/// `data` is null or came from [`allocate`] with the same length, and nobody uses it any more.
pub(crate) unsafe fn free(data: *mut u8, length: usize) {
    if let (false, Some(layout)) = (data.is_null(), buffer_layout(length)) {
        // SAFETY: as promised by the caller, this is a live allocation of this layout.
        unsafe { dealloc(data, layout) }
    }
}
