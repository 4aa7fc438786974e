//! Ends the workers of a plugin that nobody calls; the next call starts one.

use std::time::Duration;

use tokio::time::sleep_until;

use super::steward::{Moment, Steward};
use crate::event::EventKind;

impl Steward {
    /// Completes when nobody has called for as long as the application said. `called` is when somebody had, as far as anybody
    /// has looked. Safe to cancel.
    pub(super) async fn idleness(&self, called: &mut Moment) {
        let Some(time) =
            self.common.current.get().prepared.options.idle_stop.filter(|_| !self.common.command)
        else {
            return std::future::pending().await;
        };
        let exchange = &self.common.exchange;
        // Shorter than any worker's start: nobody means that.
        let time = time.max(Duration::from_millis(10));
        loop {
            sleep_until(called.at + time).await;
            let now = Moment::now(&self.common);
            let served = (0..self.seats.len()).any(|seat| exchange.is_served(seat));
            // On probation the old workers wait, too, and are of use only beside the new ones.
            let settled = self.common.custody.until().is_none();
            if served && settled && now.calls == called.calls && exchange.is_idle() {
                return;
            }
            *called = now;
        }
    }

    /// Keeps the state, where states are kept, and ends the workers. Calls that come meanwhile wait.
    pub(super) async fn rest(&self) {
        let Self { common, seats, .. } = self;
        common.exchange.hold();
        let version = common.current.get();
        let kept = match &common.checkpoints {
            Some(_) => self.checkpoint().await.map(drop),
            None => Ok(()),
        };
        let mut left = Vec::new();
        match kept {
            Ok(()) => {
                for seat in 0..seats.len() {
                    let (Ok(worker) | Err(worker)) = self.succeed(seat, None, &version).await;
                    left.push(worker);
                }
                common.tell(EventKind::Idle);
            }
            // It would lose what it has.
            Err(error) => common.tell(EventKind::CheckpointFailed { reason: error.to_string() }),
        }
        common.exchange.release(version.prepared.plan.orders.limits.outstanding);
        self.bury_later(left, "nobody calls it");
    }
}
