//! The old version's workers, while the new one is on probation.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

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

    pub(super) fn until(&self) -> Option<Instant> {
        self.probation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|probation| probation.until)
    }
}
