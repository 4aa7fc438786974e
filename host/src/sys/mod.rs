//! The only unsafe code of the host: raw clone(2), ptrace(2), the ioctls of seccomp listeners and pidfds, and kernel probes.
//!
//! Each function is one system call with checked types around it; what to do with the result is decided elsewhere.

#![allow(
    unsafe_code,
    reason = "raw system calls without a safe wrapper; each block says who upholds its invariant"
)]

pub(crate) mod clock;
pub(crate) mod clone;
pub(crate) mod notify;
pub(crate) mod pidfd;
pub(crate) mod probe;
pub(crate) mod trace;
pub(crate) mod watch;

use rustix::io::Errno;

/// The errno of the system call that has just failed on this thread.
fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
