//! The host-wide bound of all payload bytes in flight, over all plugins.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that one permit stands for: a semaphore counts at most 2^32 of them at once.
const UNIT: u64 = 4096;

/// Bytes of inputs and replies that the host holds.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    total: u64,
}

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Budget {
        let total = (bytes / UNIT).clamp(1, u64::from(u32::MAX));
        let permits = usize::try_from(total).unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS);
        Budget { units: Arc::new(Semaphore::new(permits)), total }
    }

    /// Whether a payload of this size can ever be held.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        bytes.div_ceil(UNIT) <= self.total
    }

    /// Waits until the budget has room. `None` where it never will. Safe to cancel.
    pub(crate) async fn take(&self, bytes: u64) -> Option<Share> {
        if bytes == 0 {
            return Some(Share { _permit: None });
        }
        let units = u32::try_from(bytes.div_ceil(UNIT)).ok().filter(|_| self.fits(bytes))?;
        let permit = Arc::clone(&self.units).acquire_many_owned(units).await.ok()?;
        Some(Share { _permit: Some(permit) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Budget;

    #[tokio::test]
    async fn the_budget_holds_back_what_is_over_it_until_room_is_made() {
        let budget = Budget::new(64 << 10);
        let held = budget.take(60 << 10).await.expect("fits");
        let blocked = tokio::time::timeout(Duration::from_millis(20), budget.take(8 << 10)).await;
        assert!(blocked.is_err(), "no room while the first is held");
        drop(held);
        budget.take(8 << 10).await.expect("room again");
        assert!(budget.take(65 << 10).await.is_none(), "never fits");
    }
}
