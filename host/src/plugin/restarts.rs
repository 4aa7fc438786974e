//! When a plugin's workers are started again, and when not any more.
//!
//! A worker that crashes in a call is replaced with the next call, as often as it takes, unless the manifest bounds that. A
//! plugin that does not become ready is tried again after a pause that doubles, and is in quarantine after the fifth time:
//! calls are refused at once, without a process, and one start is tried when the pause is over (half open).

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hotcell_policy::{RestartMode, RestartPolicy};
use tokio::time::Instant;

use crate::class::Class;
use crate::error::Error;
use crate::exit::Exit;

/// The first pause where the manifest names none, and the longest.
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Starts that fail one after the other before the plugin is in quarantine.
const FAILURES: u32 = 5;

/// `max_restarts` counts crashes of so long.
const WINDOW: Duration = Duration::from_secs(60);

/// What decides about starts of one plugin.
#[derive(Debug, Default)]
pub(super) struct Restarts(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Starts that failed since one went well.
    failures: u32,
    crashes: VecDeque<Instant>,
    down: Option<Down>,
}

/// Why no worker is started now.
#[derive(Clone, Debug)]
pub(super) struct Down {
    /// When one is tried; `None` for never, until the plugin is reloaded.
    pub(super) until: Option<Instant>,
    pub(super) reason: String,
    /// Of the start or the end that was the last.
    pub(super) class: Class,
    pub(super) quarantined: bool,
}

impl Restarts {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a worker may be started. Where that ends a pause, the others wait for what becomes of this one.
    pub(super) fn permit(&self, policy: &RestartPolicy, now: Instant) -> Result<(), Down> {
        let mut state = self.state();
        let pause = pause(policy, state.failures);
        match &mut state.down {
            None => Ok(()),
            Some(Down { until: Some(until), .. }) if *until <= now => {
                *until = now + pause;
                Ok(())
            }
            Some(down) => Err(down.clone()),
        }
    }

    /// Why no worker is started, if none would be now.
    pub(super) fn down(&self, now: Instant) -> Option<Down> {
        self.state().down.clone().filter(|down| down.until.is_none_or(|until| until > now))
    }

    /// A worker became ready.
    pub(super) fn started(&self) {
        let mut state = self.state();
        state.failures = 0;
        state.down = None;
    }

    /// A worker did not become ready. Returns what is new about that.
    pub(super) fn failed(&self, policy: &RestartPolicy, now: Instant, error: &Error) -> Option<Down> {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        let quarantined = state.failures >= FAILURES;
        let until = Some(now + pause(policy, state.failures));
        let news = state.failures == FAILURES;
        let (reason, class) = (error.to_string(), error.class());
        let down = state.down.insert(Down { until, reason, class, quarantined });
        news.then(|| down.clone())
    }

    /// A worker that was ready crashed. Returns what is new about that.
    pub(super) fn crashed(&self, policy: &RestartPolicy, now: Instant, exit: &Exit) -> Option<Down> {
        let mut state = self.state();
        state.crashes.push_back(now);
        while state.crashes.front().is_some_and(|crash| now - *crash > WINDOW) {
            state.crashes.pop_front();
        }
        let most = policy.max_restarts.and_then(|most| usize::try_from(most).ok());
        let many = most.is_some_and(|most| state.crashes.len() > most);
        // As many as anything asks for.
        if most.is_none() {
            state.crashes.clear();
        }
        let (until, reason) = match (policy.mode, many) {
            (RestartMode::Never, _) => (None, format!("it is not to be restarted: {exit}")),
            (_, true) => {
                let times = state.crashes.len();
                state.crashes.clear();
                let until = Some(now + BACKOFF_MAX);
                (until, format!("it crashed {times} times within {} s: {exit}", WINDOW.as_secs()))
            }
            (_, false) => return None,
        };
        Some(state.down.insert(Down { until, reason, class: exit.class(), quarantined: true }).clone())
    }

    /// Another version has the plugin's place.
    pub(super) fn forget(&self) {
        *self.state() = State::default();
    }
}

/// How long after so many failed starts the next is tried: doubled each time, up to a bound, and up to a quarter longer, so
/// that many plugins do not start together.
fn pause(policy: &RestartPolicy, failures: u32) -> Duration {
    let first = policy.backoff_ms.map_or(BACKOFF, Duration::from_millis);
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(BACKOFF_MAX.max(first));
    let jitter = crate::random::bytes::<1>().map_or(0, |[byte]| u32::from(byte));
    doubled + doubled / 4 * jitter / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit() -> Exit {
        let cause = crate::exit::ExitCause::Code(1);
        Exit { cause, limit: None, mechanism: None, max_rss: 0, cpu: Duration::ZERO, violations: 0 }
    }

    fn policy(mode: RestartMode, max_restarts: Option<u32>) -> RestartPolicy {
        RestartPolicy { mode, max_restarts, backoff_ms: Some(1000) }
    }

    #[test]
    fn starts_that_fail_wait_longer_each_time_and_open_the_circuit() {
        let (restarts, policy, mut now) =
            (Restarts::default(), policy(RestartMode::OnDemand, None), Instant::now());
        let mut before = Duration::ZERO;
        for failure in 1..=8 {
            assert!(restarts.permit(&policy, now).is_ok(), "its pause is over");
            let news = restarts.failed(&policy, now, &Error::malformed("a.b", "no"));
            assert_eq!(news.is_some(), failure == FAILURES);
            let down = restarts.down(now).expect("it waits");
            assert_eq!(down.quarantined, failure >= FAILURES);
            let wait = down.until.expect("it is tried again") - now;
            assert!(wait >= before && wait <= BACKOFF_MAX + BACKOFF_MAX / 4, "{wait:?}");
            assert!(restarts.permit(&policy, now).is_err());
            before = wait.min(BACKOFF_MAX);
            now += wait;
        }
        assert!(restarts.permit(&policy, now).is_ok(), "half open");
        assert!(restarts.permit(&policy, now).is_err(), "for one at a time");
        restarts.started();
        assert!(restarts.permit(&policy, now).is_ok() && restarts.down(now).is_none());
    }

    #[test]
    fn crashes_in_calls_are_bounded_only_where_the_manifest_says_so() {
        let now = Instant::now();
        let unbounded = Restarts::default();
        for _ in 0..1000 {
            assert!(unbounded.crashed(&policy(RestartMode::OnDemand, None), now, &exit()).is_none());
        }
        let (bounded, three) = (Restarts::default(), policy(RestartMode::OnCrash, Some(3)));
        for _ in 0..3 {
            assert!(bounded.crashed(&three, now, &exit()).is_none());
        }
        let later = now + WINDOW + Duration::from_secs(1);
        assert!(bounded.crashed(&three, later, &exit()).is_none(), "the others are long ago");
        for _ in 0..2 {
            assert!(bounded.crashed(&three, later, &exit()).is_none());
        }
        let down = bounded.crashed(&three, later, &exit()).expect("too many");
        assert!(down.quarantined && down.reason.contains("crashed 4 times"), "{down:?}");
        assert!(bounded.permit(&three, later).is_err());
        assert!(bounded.permit(&three, later + BACKOFF_MAX).is_ok(), "half open");
        let never = Restarts::default();
        let down = never.crashed(&policy(RestartMode::Never, None), now, &exit()).expect("never");
        assert_eq!(down.until, None);
        never.forget();
        assert!(never.permit(&three, now).is_ok(), "a new version");
    }
}
