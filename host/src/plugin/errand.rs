//! Calls of the host's own to a worker that has no seat yet: is it healthy, does it take this state.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::actor::Common;
use super::call::{Call, Outcome, outcome, serves_on};
use super::version::Version;
use crate::error::CallError;
use crate::exit::{Exit, ExitCause, Limit};
use crate::reentry::Chain;
use crate::text::escape;
use crate::worker::Worker;

/// Calls a worker that has no seat, bounded by its plan's `call` limit. It comes back unless it ended.
pub(super) async fn ask(
    common: &Common,
    mut worker: Worker,
    version: &Version,
    export: &str,
    input: Vec<u8>,
) -> Result<(Worker, Result<Vec<u8>, CallError>), Exit> {
    let limit = Duration::from_millis(version.prepared.plan.orders.limits.call_ms);
    let deadline = Instant::now() + limit;
    let call = Arc::new(Call::pinned(export, input, deadline, chain(common)));
    let Ok(replied) = timeout_at(deadline, worker.call(call, &version.broker)).await else {
        worker.kill_overdue().await;
        return Err(worker.finish().await);
    };
    match replied {
        Ok(reply) if serves_on(reply.status) => {
            let bytes = outcome(reply).map(|outcome| match outcome {
                Outcome::Reply(bytes, _) => bytes,
                Outcome::Exited(_) => Vec::new(),
            });
            Ok((worker, bytes))
        }
        Ok(reply) => {
            let text = escape(&reply.payload);
            worker.kill(ExitCause::KilledByHost(format!("it ended in {export}: {text}")));
            Err(worker.finish().await)
        }
        Err(broken) => {
            worker.condemn(broken).await;
            Err(worker.finish().await)
        }
    }
}

/// The input of `state_load`, in this memory.
pub(super) fn state_input(version: u32, state: &[u8], mut memory: Vec<u8>) -> Vec<u8> {
    memory.clear();
    memory.reserve_exact(size_of::<u32>() + state.len());
    memory.extend(version.to_le_bytes());
    memory.extend(state);
    memory
}

/// A state that is larger than its limit.
pub(super) fn too_large(size: usize, limit: u64) -> CallError {
    let detail = format!("the state has {size} bytes, the limit is {limit}");
    CallError::OverLimit { limit: Limit::State, detail }
}

/// Host calls that the plugin makes meanwhile may not call it.
pub(super) fn chain(common: &Common) -> Chain {
    Chain::default().with(common.number)
}

/// Ends workers that have no calls.
pub(super) async fn bury(workers: Vec<Option<Worker>>, why: &'static str) {
    for worker in workers.iter().flatten() {
        worker.kill(ExitCause::KilledByHost(why.to_owned()));
    }
    for worker in workers.into_iter().flatten() {
        let _: Exit = worker.finish().await;
    }
}
