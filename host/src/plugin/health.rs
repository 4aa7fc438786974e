//! Asks a plugin for its health from time to time, and ends a worker that says that it cannot serve.

use std::time::Duration;

use hotcell_protocol::hook;
use tokio::time::{Instant, sleep_until};

use super::steward::Steward;
use crate::error::CallError;
use crate::event::EventKind;
use crate::exit::ExitCause;
use crate::text::escape;

impl Steward {
    /// Completes when the plugin is to be asked again. Safe to cancel.
    pub(super) async fn health_is_due(&self, asked: Instant) {
        match self.common.current.get().prepared.options.health_every {
            Some(time) if !self.common.command => {
                sleep_until(asked + time.max(Duration::from_millis(10))).await;
            }
            _ => std::future::pending().await,
        }
    }

    /// Asks each worker, behind the calls that it has. One that does not answer within the plan's `call` limit is ended by
    /// that, and so is one that says no, unless it is on probation, whose end asks again.
    pub(super) async fn check_health(&self) {
        let version = self.common.current.get();
        for seat in 0..self.seats.len() {
            let deadline = Instant::now() + self.call_time();
            let asked = self.run_pinned(seat, hook::HEALTH, Vec::new(), deadline).await;
            let Err(CallError::Plugin(text)) = asked else { continue };
            if self.common.custody.until().is_some() {
                continue;
            }
            let reason = escape(text.as_bytes());
            if let Ok(Some(worker)) = self.succeed(seat, None, &version).await {
                self.common.tell(EventKind::Unhealthy { reason: reason.clone() });
                worker.kill(ExitCause::KilledByHost(format!("it is not healthy: {reason}")));
                let exit = worker.finish().await;
                self.common.count_crash(&exit);
            }
        }
    }
}
