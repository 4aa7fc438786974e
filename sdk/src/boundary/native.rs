//! The boundary of a native library: the host table.

use crate::abi::{ABI_VERSION, ENTRY_ACCEPTED, HOST_TABLE_SIZE, HostCallStatus, HostTable};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

/// The host table, null until the worker called the entry symbol. The table itself is never written.
static HOST: AtomicPtr<HostTable> = AtomicPtr::new(null_mut());

/// Why the entry symbol refused: the worker passed no table.
const NO_TABLE: u32 = 1;
/// Why the entry symbol refused: the worker speaks another version.
const OTHER_VERSION: u32 = 2;
/// Why the entry symbol refused: the table lacks functions of this version.
const SHORT_TABLE: u32 = 3;

/// Keeps the host table. Returns what the entry symbol returns: zero, or the reason to refuse.
///
/// # Safety
/// `host` is null or points to a host table that stays valid and unchanged for the life of the process.
#[must_use]
pub unsafe fn accept(host: *const HostTable) -> u32 {
    // SAFETY: the caller promises that a non-null pointer leads to a table.
    let Some(table) = (unsafe { host.as_ref() }) else { return NO_TABLE };
    if table.abi_version != ABI_VERSION {
        return OTHER_VERSION;
    }
    if table.size < HOST_TABLE_SIZE {
        return SHORT_TABLE;
    }
    HOST.store(host.cast_mut(), Ordering::Release);
    ENTRY_ACCEPTED
}

fn table() -> Option<&'static HostTable> {
    let host = HOST.load(Ordering::Acquire);
    // SAFETY: `accept` stored null or a pointer that its caller promised to be valid for ever.
    unsafe { host.as_ref() }
}

/// Hands the reply of the running call to the worker, which copies it.
pub(crate) fn reply(bytes: &[u8]) {
    if let Some(host) = table() {
        // SAFETY: the pointer and length are those of a live slice, and the worker only reads it.
        unsafe { (host.reply)(bytes.as_ptr(), bytes.len()) }
    }
}

/// Calls the host and returns its status number. A plugin that was never accepted is refused.
pub(crate) fn host_call(name: &str, input: &[u8]) -> i64 {
    let Some(host) = table() else { return HostCallStatus::Refused.encode() };
    // SAFETY: both pointers and lengths are those of live slices, and the worker only reads them.
    unsafe { (host.host_call)(name.as_ptr(), name.len(), input.as_ptr(), input.len()) }
}

/// Copies the answer of the last host call into `out` and returns how many bytes that were.
pub(crate) fn host_take(out: &mut [u8]) -> usize {
    let Some(host) = table() else { return 0 };
    // SAFETY: the pointer and capacity are those of a live, exclusive slice.
    unsafe { (host.host_take)(out.as_mut_ptr(), out.len()) }
}
#[cfg(all(feature = "std", target_os = "linux"))]
unsafe extern "C" {
    safe fn socket(domain: i32, kind: i32, protocol: i32) -> i32;
}

/// The socket that the host has made for this process; `None` if there is none, or no descriptor is free.
#[cfg(all(feature = "std", target_os = "linux"))]
pub(crate) fn take_socket() -> Option<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    /// `AF_UNSPEC`, of which there are no sockets.
    const TAKE: i32 = 0;
    let descriptor = socket(TAKE, 0, 0);
    // SAFETY: the kernel has just given this descriptor to this process, and nobody else knows it.
    (descriptor >= 0).then(|| unsafe { std::os::fd::OwnedFd::from_raw_fd(descriptor) })
}
