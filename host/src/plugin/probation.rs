//! The time after a reload in which the new version has to prove itself, and the way back.

use std::sync::Arc;
use std::time::Duration;

use hotcell_protocol::hook;
use tokio::time::{Instant, sleep};

use super::actor::Common;
use super::custody::Probation;
use super::errand::bury;
use super::steward::Steward;
use super::version::Version;
use crate::error::CallError;
use crate::event::EventKind;
use crate::text::escape;
use crate::worker::Worker;

/// Between two looks at how many calls failed.
const PAUSE: Duration = Duration::from_millis(20);

impl Steward {
    /// The new version has lasted. If it says that it cannot serve, the old one comes back; else that ends.
    pub(super) async fn end_probation(&self) {
        let deadline = Instant::now() + self.call_time();
        for seat in 0..self.seats.len() {
            if let Err(CallError::Plugin(text)) =
                self.run_pinned(seat, hook::HEALTH, Vec::new(), deadline).await
                && let Some(Probation { version, parked, .. }) = self.common.fail_probation()
            {
                let reason = format!("it is not healthy: {}", escape(text.as_bytes()));
                self.common.current.set(Arc::clone(&version));
                self.common.tell_of_fall_back(&version, &reason);
                return self.fall_back(version, parked, None).await;
            }
        }
        if let Some(Probation { parked, .. }) = self.common.custody.take() {
            bury(parked, "a new version has its place").await;
        }
    }

    /// Puts parked workers back; one seat may have its own already.
    pub(super) async fn fall_back(
        &self,
        version: Arc<Version>,
        parked: Vec<Option<Worker>>,
        settled: Option<usize>,
    ) {
        let Common { exchange, current, .. } = &self.common;
        if !Arc::ptr_eq(&version, &current.get()) {
            // A reload was asked for before that, and has replaced the version that came back.
            return bury(parked, "another version has its place").await;
        }
        exchange.hold();
        let mut left = Vec::new();
        for (seat, worker) in parked.into_iter().enumerate() {
            if settled == Some(seat) {
                continue;
            }
            // Whatever it says, it has ended its calls then.
            let _ = self.run_pinned(seat, hook::HEALTH, Vec::new(), Instant::now() + self.call_time()).await;
            let (Ok(worker) | Err(worker)) = self.succeed(seat, worker, &version).await;
            left.push(worker);
        }
        exchange.release(version.prepared.plan.orders.limits.outstanding);
        bury(left, "its version was rolled back").await;
        // The workers that came back were parked when another configuration was given.
        let Some(config) = self.common.config.get() else { return };
        for seat in 0..self.seats.len() {
            if let Err(error) = self.give(seat, &config).await {
                self.common.tell(EventKind::ConfigureFailed { reason: error.to_string() });
            }
        }
    }

    /// Completes when the new version has returned errors to more of its calls than it may. Safe to cancel.
    pub(super) async fn errs_too_often(&self) {
        while let Some(errors) = self.common.custody.errors() {
            if errors.is_passed(&self.common) {
                return;
            }
            sleep(PAUSE).await;
        }
        std::future::pending().await
    }

    /// It has.
    pub(super) async fn end_for_errors(&self) {
        let Some(Probation { version, parked, .. }) = self.common.fail_probation() else { return };
        self.common.current.set(Arc::clone(&version));
        self.common.tell_of_fall_back(&version, "it returned errors to too many of its calls");
        self.fall_back(version, parked, None).await;
    }
}
