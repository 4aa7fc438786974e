//! The worker channel, lent to the guest's imports for the length of one call.

#![allow(unsafe_code, reason = "a store outlives every call, and cannot hold a borrow of one")]

use std::ptr::NonNull;

use hotcell_worker::Link;

/// A slot in a store's data that holds the channel while guest code runs.
#[derive(Debug, Default)]
pub(crate) struct Lent(Option<NonNull<Link>>);

// SAFETY: a worker has one thread; `Send` is asked for by wasmtime's asynchronous interface, which runs on that thread.
unsafe impl Send for Lent {}

impl Lent {
    /// Lends the channel until [`Lent::end`]; the caller keeps the borrow alive until then.
    pub(crate) fn begin(&mut self, link: &mut Link) {
        self.0 = Some(NonNull::from(link));
    }

    /// Takes the channel back.
    pub(crate) fn end(&mut self) {
        self.0 = None;
    }

    /// The channel, if a call is running.
    pub(crate) fn link(&mut self) -> Option<&mut Link> {
        // SAFETY: `begin` got a unique borrow that its caller holds until `end`, and does not use meanwhile; the slot
        // itself is borrowed for as long as the result.
        self.0.map(|mut link| unsafe { link.as_mut() })
    }
}
