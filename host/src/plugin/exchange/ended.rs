//! How many calls were replied to, for whoever waits for so many. The host's own are not counted.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::Exchange;

/// A count with one who waits.
#[derive(Debug)]
pub(super) struct Ended {
    count: AtomicU64,
    /// At which count it is told.
    mark: AtomicU64,
    told: Notify,
}

impl Default for Ended {
    fn default() -> Ended {
        Ended { count: AtomicU64::new(0), mark: AtomicU64::new(u64::MAX), told: Notify::new() }
    }
}

impl Ended {
    /// Counts more.
    pub(super) fn add(&self, count: usize) {
        let count = count as u64;
        let total = self.count.fetch_add(count, Ordering::SeqCst) + count;
        if total >= self.mark.load(Ordering::SeqCst) {
            self.mark.store(u64::MAX, Ordering::SeqCst);
            self.told.notify_one();
        }
    }
}

impl Exchange {
    /// Calls that were replied to.
    pub(in crate::plugin) fn ended(&self) -> u64 {
        self.ended.count.load(Ordering::SeqCst)
    }

    /// Calls among them to which the plugin returned an error.
    pub(in crate::plugin) fn errors(&self) -> u64 {
        self.state().seats.iter().map(|seat| seat.errors).sum()
    }

    /// Completes when so many calls were replied to. For one who waits; safe to cancel.
    pub(in crate::plugin) async fn until_ended(&self, count: u64) {
        loop {
            self.ended.mark.store(count, Ordering::SeqCst);
            if self.ended() >= count {
                return;
            }
            self.ended.told.notified().await;
        }
    }
}
