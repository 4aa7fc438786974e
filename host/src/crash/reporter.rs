//! Writes reports in the background: a storm of crashes costs a few reports and a count, and holds nobody up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hotcell_package::hex;
use hotcell_protocol::Evidence;
use hotcell_protocol::launch::build_id;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::report::{CrashReport, FORMAT};
use super::store::{Beside, Crashes};
use super::{Remains, backtrace};
use crate::compile::blocking;
use crate::event::EventKind;
use crate::host::Shared;
use crate::receipt::{self, Receipt};

/// Ends that wait for their report.
const WAITING: usize = 64;

/// Reports that one plugin may have at once, and how long it takes to earn another one.
const BURST: u32 = 8;
const PAUSE: Duration = Duration::from_secs(10);

/// A crash to report, and how many of its plugin were not reported before it.
pub(crate) type Wreck = (Remains, u64);

/// Takes what is left of workers. A plugin that has crashed too often lately is refused here, so that it takes no place that
/// others need.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    sender: mpsc::Sender<Wreck>,
    allowances: Arc<Mutex<HashMap<String, Allowance>>>,
}

impl Reporter {
    pub(crate) fn new() -> (Reporter, mpsc::Receiver<Wreck>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Reporter { sender, allowances: Arc::default() }, receiver)
    }

    /// Has a crash reported; others are let go.
    pub(crate) fn take(&self, remains: Remains) {
        if !remains.are_a_crash() {
            return;
        }
        let plugin = remains.blueprint.plugin.clone();
        let Some(unreported) = self.allow(&plugin, Instant::now()) else { return };
        if self.sender.try_send((remains, unreported)).is_err() {
            tracing::warn!(target: "hotcell::crash", %plugin, "a crash is not reported: too many wait");
        }
    }

    fn allow(&self, plugin: &str, now: Instant) -> Option<u64> {
        let mut allowances = self.allowances.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Allowance { left: BURST, earned: now, refused: 0 };
        allowances.entry(plugin.to_owned()).or_insert_with(fresh).take(now)
    }
}

/// How many reports one plugin may still have.
#[derive(Debug)]
struct Allowance {
    left: u32,
    earned: Instant,
    refused: u64,
}

impl Allowance {
    /// Whether one more may be written, and how many were not before it.
    fn take(&mut self, now: Instant) -> Option<u64> {
        while self.left < BURST && now.duration_since(self.earned) >= PAUSE {
            self.left += 1;
            self.earned += PAUSE;
        }
        if self.left == BURST {
            self.earned = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Some(std::mem::take(&mut self.refused))
            }
            None => {
                self.refused += 1;
                None
            }
        }
    }
}

/// Writes the reports of a host until it is shut down.
pub(crate) async fn serve(mut wrecks: mpsc::Receiver<Wreck>, shared: Weak<Shared>) {
    let Some(mut closing) = shared.upgrade().map(|shared| shared.closing()) else { return };
    loop {
        let next = tokio::select! {
            biased;
            next = wrecks.recv() => next,
            // What has ended by now is still reported; the sender is gone with the host.
            _ = closing.wait_for(|closing| *closing) => wrecks.try_recv().ok(),
        };
        let (Some((remains, unreported)), Some(shared)) = (next, shared.upgrade()) else { return };
        report(&shared, remains, unreported).await;
    }
}

async fn report(shared: &Arc<Shared>, remains: Remains, unreported: u64) {
    let (backtrace, no_backtrace, minidump) = match backtrace::read(shared, &remains).await {
        Ok(Some((backtrace, minidump))) => (Some(backtrace), None, Some(minidump)),
        Ok(None) => (None, None, None),
        Err(error) => (None, Some(error.to_string()), None),
    };
    let Remains { blueprint, generation, exit, calls, lines, violations, evidence, notes: _ } = remains;
    let plugin = blueprint.plugin.clone();
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut report = CrashReport {
        format: FORMAT,
        id: String::new(),
        signature: String::new(),
        title: String::new(),
        time_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        plugin: plugin.clone(),
        version: blueprint.version.clone(),
        generation,
        build: build_id(),
        artifact: hex(&blueprint.artifact.digest),
        exit,
        limits: blueprint.orders.limits.clone(),
        calls: calls.list(),
        log: lines.into(),
        violations,
        confinement: evidence.as_deref().cloned(),
        backtrace,
        no_backtrace,
        unreported,
    };
    report.identify();
    let title = report.title.clone();
    let places = Arc::clone(&shared.surroundings.places);
    let write = move || {
        let sign = |evidence: Arc<Evidence>| {
            let key = receipt::key(places.state())?;
            Receipt::of_ended(&blueprint, (generation, &evidence), &key)
        };
        let receipt = evidence.map(sign).transpose()?;
        Crashes::new(places.state()).write(report, &Beside { minidump, receipt })
    };
    match blocking(write).await {
        Ok(id) => {
            tracing::info!(target: "hotcell::crash", %plugin, generation, %id, "{title}");
            shared.surroundings.events.send(&plugin, generation, EventKind::CrashReported { id, title });
        }
        Err(error) => {
            tracing::warn!(target: "hotcell::crash", %plugin, generation, "a crash is not reported: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{Allowance, BURST, PAUSE};

    #[test]
    fn a_storm_has_few_reports_and_is_counted() {
        let start = Instant::now();
        let mut allowance = Allowance { left: BURST, earned: start, refused: 0 };
        let written = (0..1000).filter(|_| allowance.take(start).is_some()).count();
        assert_eq!(written, BURST as usize);
        assert_eq!(allowance.take(start + PAUSE), Some(1000 - u64::from(BURST)));
        assert_eq!(allowance.take(start + PAUSE), None);
        assert_eq!(allowance.take(start + PAUSE * 100), Some(1));
        assert_eq!(allowance.left, BURST - 1, "no more than a burst is saved up");
    }
}
