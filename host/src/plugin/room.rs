//! Room for a state that is about to be moved, found before calls wait for it.
//!
//! While a state moves, every caller waits. Most of that time would go into memory that is touched for the first time: rings that
//! were never full, and the host's own two copies. How large the state is, the last one tells; nothing depends on it.

use std::sync::atomic::{AtomicUsize, Ordering};

use hotcell_protocol::ring::Ahead;

use crate::compile::blocking;

/// A smaller state is moved before anybody could have made room for it.
const FEWEST: usize = 64 << 10;

/// How large a plugin's state was last, in bytes.
#[derive(Debug, Default)]
pub(super) struct Size(AtomicUsize);

/// The host's memory for one state.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// For the state as it is saved.
    pub(super) saved: Vec<u8>,
    /// For the input that it becomes.
    pub(super) input: Vec<u8>,
}

impl Size {
    pub(super) fn note(&self, bytes: usize) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    /// Room in these rings, and in the host for one state: a plugin with several workers must not cost it as many at once.
    pub(super) async fn make_room(&self, rings: Vec<Ahead>) -> Room {
        let size = self.0.load(Ordering::Relaxed);
        if size < FEWEST {
            return Room::default();
        }
        let made = blocking(move || {
            rings.iter().for_each(|ring| ring.populate(size));
            Ok(Room { saved: touched(size), input: touched(size + size_of::<u32>()) })
        });
        made.await.unwrap_or_default()
    }
}

/// Memory that the kernel has found already.
fn touched(bytes: usize) -> Vec<u8> {
    // Not zeros: for those an allocator need not touch anything.
    let mut memory = vec![1; bytes];
    memory.clear();
    memory
}
