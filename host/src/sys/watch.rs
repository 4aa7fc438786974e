//! Descriptors in the runtime's epoll set.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use hotcell_protocol::Channel;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A type that owns one descriptor and never exchanges it.
///
/// Only for types of which that is known: the registration relies on it.
pub(crate) trait Owner: AsFd + Sized {}

impl Owner for OwnedFd {}
impl Owner for Channel {}

/// An owner as the runtime sees it.
#[derive(Debug)]
pub(crate) struct Polled<T>(pub(crate) T);

impl<T: Owner> AsRawFd for Polled<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A descriptor whose readiness can be awaited.
pub(crate) type Watch<T> = AsyncFd<Polled<T>>;

/// Registers a descriptor with the current runtime.
pub(crate) fn watch<T: Owner>(owner: T, interest: Interest) -> std::io::Result<Watch<T>> {
    // SAFETY: an `Owner` keeps the same descriptor open until it is dropped, and `AsyncFd` hands it out for exchange to
    // nobody here: `Polled` is only ever borrowed.
    unsafe { AsyncFd::register_with_interest(Polled(owner), interest) }.map_err(Into::into)
}
