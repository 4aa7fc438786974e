//! How a plugin is, as its host sees it.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::Plugin;
use super::restarts::Down;

/// The states of a plugin that is loaded.
///
/// | from | to | when |
/// |---|---|---|
/// | `Ready` | `Idle` | its workers ended |
/// | `Idle` | `Ready` | the next call, or at once where the manifest says `on-crash` |
/// | `Ready`, `Idle` | `Reloading`, and back | a reload moves its state; calls wait |
/// | `Idle` | `Pausing` | a start failed; calls are refused until it is over |
/// | `Pausing` | `Quarantined` | five starts failed, or crashes passed the manifest's bound |
/// | `Pausing`, `Quarantined` | `Ready` | a start went well after the pause; a reload |
/// | every state | `Stopped` | unload, or the end of the host |
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// A worker serves, or for a command: the next run starts one.
    Ready,
    /// No worker is there; the next call starts one.
    Idle,
    /// Calls wait for a reload.
    Reloading,
    /// The last start failed. Calls are refused for so long.
    Pausing {
        /// Why it failed.
        reason: String,
        /// Until the next start is tried.
        retry_after: Duration,
    },
    /// It failed or crashed too often. Calls are refused.
    Quarantined {
        /// What happened.
        reason: String,
        /// Until one start is tried; `None` for not before a reload.
        retry_after: Option<Duration>,
    },
    /// It was unloaded.
    Stopped,
}

impl Plugin {
    /// How the plugin is now.
    pub fn status(&self) -> Status {
        let exchange = &self.inner.exchange;
        let now = Instant::now();
        if exchange.is_closed() {
            return Status::Stopped;
        }
        if exchange.is_held() {
            return Status::Reloading;
        }
        if let Some(Down { until, reason, quarantined, .. }) = self.inner.restarts.down(now) {
            let retry_after = until.map(|until| until - now);
            return match retry_after {
                Some(retry_after) if !quarantined => Status::Pausing { reason, retry_after },
                retry_after => Status::Quarantined { reason, retry_after },
            };
        }
        let seats = 0..self.inner.current.get().prepared.plan.orders.limits.instances as usize;
        let served = self.is_command() || seats.into_iter().any(|seat| exchange.is_served(seat));
        if served { Status::Ready } else { Status::Idle }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Ready => f.write_str("ready"),
            Status::Idle => f.write_str("idle"),
            Status::Reloading => f.write_str("reloading"),
            Status::Pausing { reason, retry_after } => write!(f, "pausing for {retry_after:.1?}: {reason}"),
            Status::Quarantined { reason, retry_after: Some(after) } => {
                write!(f, "in quarantine for {after:.1?}: {reason}")
            }
            Status::Quarantined { reason, retry_after: None } => write!(f, "in quarantine: {reason}"),
            Status::Stopped => f.write_str("stopped"),
        }
    }
}
