//! The raw boundary: every pointer between plugin and worker is handled here, and nowhere else in the crate.
//!
//! It trusts the worker, which is the process that the plugin lives in. It protects nobody from the plugin.

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(target_family = "wasm")]
mod wasm;

#[cfg(not(target_family = "wasm"))]
pub use native::accept;
#[cfg(all(feature = "std", target_os = "linux"))]
pub(crate) use native::take_socket;
#[cfg(not(target_family = "wasm"))]
pub(crate) use native::{host_call, host_take, reply};
#[cfg(target_family = "wasm")]
pub use wasm::{accept, allocate};
#[cfg(target_family = "wasm")]
pub(crate) use wasm::{host_call, host_take, reply};

/// The input of one call. Borrowed from the worker on native targets, owned by the plugin in wasm.
pub(crate) struct Input {
    data: *const u8,
    length: usize,
}

impl Input {
    /// # Safety
    /// `data` points to `length` readable bytes that nobody writes while this value lives, or `length` is zero. In
    /// wasm, `data` came from `allocate` with the same length and is passed once, or is null.
    pub(crate) unsafe fn new(data: *const u8, length: usize) -> Self {
        Self { data, length }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        if self.length == 0 || self.data.is_null() {
            return &[];
        }
        // SAFETY: whoever made this value promised that the bytes are readable and unchanged while it lives.
        unsafe { core::slice::from_raw_parts(self.data, self.length) }
    }
}

#[cfg(target_family = "wasm")]
impl Drop for Input {
    fn drop(&mut self) {
        // SAFETY: whoever made this value promised that it alone owns what `allocate` returned.
        unsafe { wasm::free(self.data.cast_mut(), self.length) }
    }
}
