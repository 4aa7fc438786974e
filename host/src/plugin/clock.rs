//! The one timer of a plugin: ends calls that are due, and sleeps without a tick while there are none.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use super::actor::Closing;
use super::exchange::Exchange;

/// Runs until the plugin is unloaded or the host shut down.
pub(super) async fn run(exchange: Arc<Exchange>, mut closing: Closing) {
    let mut armed = None;
    let said = closing.said();
    tokio::pin!(said);
    loop {
        tokio::select! {
            biased;
            () = &mut said => return,
            () = due(armed) => armed = exchange.tick(Instant::now()),
            () = exchange.clock.notified() => armed = exchange.armed(),
        }
    }
}

/// Completes at a time; never if there is none.
pub(super) async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
