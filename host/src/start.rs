//! Starts a worker within its deadline, and turns a failed start into an error that names the layer and what to do.

use std::sync::Arc;
use std::time::Duration;

use hotcell_protocol::{Evidence, Namespace, Step};
use tokio::time::{Instant, error::Elapsed, timeout_at};

use crate::broker::Broker;
use crate::class::Class;
use crate::error::Error;
use crate::exit::{Exit, ExitCause};
use crate::reentry::Chain;
use crate::stdio::{CommandIo, Streams};
use crate::text::escape;
use crate::worker::{Blueprint, Broken, Particulars, StartFault, Surroundings, Worker};

/// A start that failed.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The host could not do its part.
    Host(Error),
    /// The worker ended.
    Ended(Exit),
}

/// A worker that is confined and checked. Nothing of its plugin has run.
#[derive(Debug)]
pub(crate) struct Confined {
    pub(crate) worker: Worker,
    evidence: Evidence,
}

/// Launches a worker and brings it up. A worker that is not ready in time is killed; dropping the future kills it, too.
pub(crate) async fn start(
    surroundings: &Surroundings,
    blueprint: &Arc<Blueprint>,
    particulars: Particulars,
    io: CommandIo,
    broker: &Broker,
    chain: &Chain,
) -> Result<(Worker, Evidence), Failed> {
    let deadline = Instant::now() + start_time(blueprint);
    let confined = confine_by(deadline, surroundings, blueprint, particulars, io.into()).await?;
    load_by(deadline, confined, broker, chain).await
}

/// The first part of [`start`].
pub(crate) async fn confine(
    surroundings: &Surroundings,
    blueprint: &Arc<Blueprint>,
    particulars: Particulars,
) -> Result<Confined, Failed> {
    let deadline = Instant::now() + start_time(blueprint);
    confine_by(deadline, surroundings, blueprint, particulars, CommandIo::default().into()).await
}

/// The second part of [`start`], with a deadline of its own.
pub(crate) async fn load(
    confined: Confined,
    broker: &Broker,
    chain: &Chain,
) -> Result<(Worker, Evidence), Failed> {
    let deadline = Instant::now() + start_time(confined.worker.blueprint());
    load_by(deadline, confined, broker, chain).await
}

/// Runs a program to its end. Dropping the future ends it.
pub(crate) async fn run_program(
    surroundings: &Surroundings,
    blueprint: &Arc<Blueprint>,
    particulars: Particulars,
    streams: Streams,
) -> Result<Exit, Failed> {
    let deadline = Instant::now() + start_time(blueprint);
    let Confined { mut worker, .. } =
        confine_by(deadline, surroundings, blueprint, particulars, streams).await?;
    let outcome = worker.execute().await;
    let (mut worker, ()) = settle(worker, Ok(outcome)).await?;
    worker.drained().await;
    Ok(worker.finish().await)
}

fn start_time(blueprint: &Blueprint) -> Duration {
    Duration::from_millis(blueprint.orders.limits.start_ms)
}

async fn confine_by(
    deadline: Instant,
    surroundings: &Surroundings,
    blueprint: &Arc<Blueprint>,
    particulars: Particulars,
    streams: Streams,
) -> Result<Confined, Failed> {
    let launched = timeout_at(deadline, Worker::launch(surroundings, blueprint, particulars, streams)).await;
    let late = |_| {
        let time = start_time(blueprint);
        Failed::Host(Error::launch(format!("no worker was started within {time:?}")))
    };
    let mut worker = launched.map_err(late)?.map_err(Failed::Host)?;
    let outcome = timeout_at(deadline, worker.confine()).await;
    let (worker, evidence) = settle(worker, outcome).await?;
    Ok(Confined { worker, evidence })
}

async fn load_by(
    deadline: Instant,
    Confined { mut worker, evidence }: Confined,
    broker: &Broker,
    chain: &Chain,
) -> Result<(Worker, Evidence), Failed> {
    let outcome = timeout_at(deadline, worker.load(broker, chain)).await;
    let (worker, ()) = settle(worker, outcome).await?;
    Ok((worker, evidence))
}

/// Ends a worker whose part of the start did not go well.
async fn settle<T>(
    worker: Worker,
    outcome: Result<Result<T, StartFault>, Elapsed>,
) -> Result<(Worker, T), Failed> {
    let fault = match outcome {
        Ok(Ok(value)) => return Ok((worker, value)),
        Ok(Err(fault)) => fault,
        Err(_) => {
            worker.kill_overdue().await;
            return Err(Failed::Ended(worker.finish().await));
        }
    };
    match fault {
        StartFault::Failed(failure) => {
            let detail = escape(failure.detail.as_bytes());
            worker.kill(ExitCause::StartFailed { step: failure.step, errno: failure.errno, detail });
        }
        StartFault::Broken(Broken::Breach(what)) => worker.kill(ExitCause::ProtocolViolation(what)),
        StartFault::Broken(broken) => worker.condemn(broken).await,
        StartFault::Host(error) => {
            worker.kill(ExitCause::KilledByHost("the host failed to start it".to_owned()));
            worker.finish().await;
            return Err(Failed::Host(error));
        }
    }
    Err(Failed::Ended(worker.finish().await))
}

/// A layer of the sandbox, as an error names it.
struct Layer {
    step: Step,
    name: &'static str,
    since: &'static str,
    advice: &'static str,
}

const LAYERS: [Layer; 3] = [
    Layer {
        step: Step::Landlock,
        name: "Landlock",
        since: "Linux 5.13 or later with Landlock among its security modules, and the ABI of the plan",
        advice: "use a newer kernel, add landlock to the lsm= boot parameter, or lift what filters its system calls",
    },
    Layer {
        step: Step::Seccomp,
        name: "seccomp",
        since: "Linux 5.5 or later with CONFIG_SECCOMP_FILTER, and user notification for native plugins",
        advice: "use such a kernel, or lift what filters seccomp(2) for this process",
    },
    Layer {
        step: Step::Namespaces,
        name: "namespaces",
        since: "Linux 3.8 or later with user namespaces that this user may create",
        advice: "allow them (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns), or run as root",
    },
];

/// The launcher could not enter a namespace that a plan asks for.
pub(crate) fn no_namespace(namespace: Namespace) -> Error {
    let [.., Layer { name, since, advice, .. }] = &LAYERS;
    let detail = format!("the launcher has no {namespace:?} namespace of its own");
    Error::Unavailable { layer: name, detail, since, advice }
}

impl Failed {
    /// What the caller is told.
    pub(crate) fn into_error(self, plugin: &str, subject: &str) -> Error {
        let exit = match self {
            Failed::Host(error) => return error,
            Failed::Ended(exit) => exit,
        };
        let ExitCause::StartFailed { step, detail, .. } = &exit.cause else {
            return Error::Start { plugin: plugin.to_owned(), exit };
        };
        if let Some(layer) = LAYERS.iter().find(|layer| layer.step == *step) {
            let detail = detail.clone();
            return Error::Unavailable {
                layer: layer.name,
                detail,
                since: layer.since,
                advice: layer.advice,
            };
        }
        match step {
            Step::Load | Step::Files => Error::Package {
                subject: subject.to_owned(),
                detail: detail.clone(),
                class: exit.limit.map_or(Class::Invalid, |_| Class::Resource),
            },
            _ => Error::Start { plugin: plugin.to_owned(), exit },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hotcell_protocol::Step;

    use super::Failed;
    use crate::class::Class;
    use crate::exit::{Exit, ExitCause};

    fn class(step: Step) -> Class {
        let cause = ExitCause::StartFailed { step, errno: 38, detail: "no".to_owned() };
        let exit =
            Exit { cause, limit: None, mechanism: None, max_rss: 0, cpu: Duration::ZERO, violations: 0 };
        Failed::Ended(exit).into_error("p", "p.so").class()
    }

    #[test]
    fn a_missing_layer_is_unavailable_and_a_bad_artifact_is_invalid() {
        for step in [Step::Landlock, Step::Seccomp, Step::Namespaces] {
            assert_eq!(class(step), Class::Unavailable);
        }
        assert_eq!(class(Step::Load), Class::Invalid);
        assert_eq!(class(Step::SelfCheck), Class::Internal);
    }
}
