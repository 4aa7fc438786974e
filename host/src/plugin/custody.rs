//! The old version's workers, while the new one is on probation.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::actor::Common;
use super::version::Version;
use crate::package::Fingerprint;
use crate::worker::Worker;

/// The old version, while the new one is on probation.
#[derive(Debug)]
pub(super) struct Probation {
    pub(super) version: Arc<Version>,
    /// One for each seat that had a worker.
    pub(super) parked: Vec<Option<Worker>>,
    pub(super) failing: Fingerprint,
    pub(super) until: Instant,
    pub(super) errors: ErrorBound,
}

/// How many of its calls the new version may answer with an error.
#[derive(Clone, Copy, Debug)]
pub(super) struct ErrorBound {
    /// Of all; 1 for no bound.
    rate: f64,
    /// Replies, and errors among them, when the probation began.
    replies: u64,
    errors: u64,
}

impl ErrorBound {
    /// Fewer replies say nothing.
    const FEWEST: u64 = 20;

    /// From now on.
    pub(super) fn new(common: &Common, rate: f64) -> ErrorBound {
        ErrorBound { rate, replies: common.exchange.ended(), errors: common.exchange.errors() }
    }

    pub(super) fn is_passed(&self, common: &Common) -> bool {
        let since = |now: u64, before: u64| now.saturating_sub(before);
        let (replies, errors) =
            (since(common.exchange.ended(), self.replies), since(common.exchange.errors(), self.errors));
        replies >= ErrorBound::FEWEST && errors as f64 > self.rate * replies as f64
    }
}

/// What a crash on probation needs at once.
#[derive(Debug, Default)]
pub(super) struct Custody {
    probation: Mutex<Option<Probation>>,
}

impl Custody {
    pub(super) fn take(&self) -> Option<Probation> {
        self.probation.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn put(&self, probation: Probation) {
        *self.probation.lock().unwrap_or_else(PoisonError::into_inner) = Some(probation);
    }

    pub(super) fn errors(&self) -> Option<ErrorBound> {
        let probation = self.probation.lock().unwrap_or_else(PoisonError::into_inner);
        probation.as_ref().map(|probation| probation.errors)
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.probation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|probation| probation.until)
    }
}
