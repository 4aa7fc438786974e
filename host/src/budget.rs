//! The host-wide bound of the payload bytes that workers make the host hold, over all plugins.
//!
//! Room is taken in pieces, as bytes arrive: an announcement alone holds nothing. Inputs are not counted: the
//! application has them in memory already, and each queue is bounded.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that one permit stands for: a semaphore counts at most 2^32 of them at once.
const UNIT: u64 = 4096;

/// Bytes that a worker may have the host hold without a part of the budget.
pub(crate) const FREE: usize = 64 << 10;

/// Bytes of replies and host calls' inputs that the host holds.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    /// One payload may grow over the budget, so that payloads that all wait for room cannot wait for each other.
    overdraft: Arc<Semaphore>,
    total: u64,
}

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    permit: Option<OwnedSemaphorePermit>,
    overdraft: Option<OwnedSemaphorePermit>,
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Budget {
        let total = (bytes / UNIT).clamp(1, u64::from(u32::MAX));
        let permits = usize::try_from(total).unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS);
        let (units, overdraft) = (Arc::new(Semaphore::new(permits)), Arc::new(Semaphore::new(1)));
        Budget { units, overdraft, total }
    }

    /// Whether a payload of this size can ever be held.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        bytes <= FREE as u64 || bytes.div_ceil(UNIT) <= self.total
    }

    /// A part of nothing, to be grown.
    pub(crate) fn share(&self) -> Share {
        Share { budget: self.clone(), permit: None, overdraft: None }
    }
}

impl Share {
    /// Takes room for this many more bytes, if there is some now.
    pub(crate) fn try_grow(&mut self, bytes: u64) -> bool {
        if self.overdraft.is_some() {
            return true;
        }
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        if let Ok(more) = Arc::clone(&self.budget.units).try_acquire_many_owned(units) {
            self.add(more);
            return true;
        }
        self.overdraft = Arc::clone(&self.budget.overdraft).try_acquire_owned().ok();
        self.overdraft.is_some()
    }

    /// Takes over the room of another.
    pub(crate) fn merge(&mut self, other: Share) {
        let Share { permit, overdraft, .. } = other;
        permit.into_iter().for_each(|permit| self.add(permit));
        self.overdraft = self.overdraft.take().or(overdraft);
    }

    fn add(&mut self, more: OwnedSemaphorePermit) {
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            empty => *empty = Some(more),
        }
    }

    /// Waits until the budget has room for this many more bytes. Safe to cancel.
    pub(crate) async fn grow(&mut self, bytes: u64) {
        if self.overdraft.is_some() {
            return;
        }
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        // Neither semaphore is ever closed.
        tokio::select! {
            biased;
            more = Arc::clone(&self.budget.units).acquire_many_owned(units) => {
                more.into_iter().for_each(|more| self.add(more));
            }
            only = Arc::clone(&self.budget.overdraft).acquire_owned() => self.overdraft = only.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Budget, FREE, Share};

    const SOON: Duration = Duration::from_millis(20);

    async fn grown(budget: &Budget, bytes: u64) -> Share {
        let mut share = budget.share();
        tokio::time::timeout(SOON, share.grow(bytes)).await.expect("there is room");
        share
    }

    #[tokio::test]
    async fn the_budget_holds_back_what_is_over_it_until_room_is_made() {
        let budget = Budget::new(256 << 10);
        let held = grown(&budget, 250 << 10).await;
        let _over = grown(&budget, 8 << 10).await;
        let mut waits = budget.share();
        assert!(
            tokio::time::timeout(SOON, waits.grow(8 << 10)).await.is_err(),
            "one payload is over already"
        );
        drop(held);
        tokio::time::timeout(SOON, waits.grow(8 << 10)).await.expect("room again");
        assert!(budget.fits(256 << 10) && !budget.fits((256 << 10) + 1));
        assert!(Budget::new(0).fits(FREE as u64), "a small payload always fits");
    }

    #[tokio::test]
    async fn payloads_that_share_the_whole_budget_and_need_more_all_end() {
        let budget = Budget::new(64 << 10);
        let mut shares = [grown(&budget, 32 << 10).await, grown(&budget, 32 << 10).await];
        let [first, second] = &mut shares;
        tokio::time::timeout(SOON, first.grow(32 << 10)).await.expect("one of them may go on");
        assert!(tokio::time::timeout(SOON, second.grow(32 << 10)).await.is_err(), "control: the other waits");
        let [first, mut second] = shares;
        drop(first);
        tokio::time::timeout(SOON, second.grow(32 << 10)).await.expect("and then the other");
    }
}
