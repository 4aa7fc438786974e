//! Callers that never stop, and what they saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hotcell::{CallError, Plugin};
use tokio::task::JoinHandle;

use crate::failure::Failure;

/// Callers at work.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<Seen>>,
}

/// What callers saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The count of each reply; no two are equal unless a call was doubled.
    pub(super) counts: Vec<u32>,
    /// How long each call took that was replied to, in nanoseconds: there are millions.
    pub(super) times: Vec<u32>,
    /// From the begin of a call that crashed to the end of the same caller's next reply.
    pub(super) gaps: Vec<Duration>,
    /// Calls that ended as crashed.
    pub(super) crashed: u64,
    /// How other calls ended without a reply.
    pub(super) failed: Vec<String>,
}

/// Says what one call came to.
pub(super) async fn add(plugin: &Plugin) -> Result<u32, CallError> {
    let reply = plugin.call_raw("add", Vec::new()).await?;
    let text = String::from_utf8_lossy(&reply);
    text.parse().map_err(|_| CallError::Plugin(format!("{text} is no number")))
}

impl Load {
    pub(super) fn start(plugin: &Plugin, callers: u32) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let caller = |_| tokio::spawn(call(plugin.clone(), Arc::clone(&stop)));
        Load { callers: (0..callers).map(caller).collect(), stop }
    }

    /// Lets every caller end its last call.
    pub(super) async fn end(self) -> Result<Seen, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for caller in self.callers {
            let seen = caller.await.map_err(|error| Failure::other(format!("a caller ended: {error}")))?;
            all.counts.extend(seen.counts);
            all.times.extend(seen.times);
            all.gaps.extend(seen.gaps);
            all.crashed += seen.crashed;
            all.failed.extend(seen.failed);
        }
        Ok(all)
    }
}

async fn call(plugin: Plugin, stop: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    let mut crashed_since: Option<Instant> = None;
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        match add(&plugin).await {
            Ok(count) => {
                seen.counts.push(count);
                seen.times.push(u32::try_from(begin.elapsed().as_nanos()).unwrap_or(u32::MAX));
                seen.gaps.extend(crashed_since.take().map(|since| since.elapsed()));
            }
            Err(CallError::Crashed(_)) => {
                seen.crashed += 1;
                crashed_since = Some(begin);
            }
            Err(error) => seen.failed.push(error.to_string()),
        }
    }
    seen
}
