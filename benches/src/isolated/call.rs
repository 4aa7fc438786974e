//! Calls of an export that replies with its input.
//!
//! A call takes its input by value and gives its reply by value, so the caller's copy of the input is not measured and
//! the reply's allocation is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hotcell::Plugin;

use super::caller::Caller;
use crate::failure::Failure;
use crate::floor::{check_echo, message};
use crate::measure::{Case, Opened, Samples};

const EXPORT: &str = "ok";

struct Calls {
    caller: Caller,
    input: Arc<[u8]>,
}

pub(super) fn open(caller: Caller, size: usize) -> Opened {
    let mut calls = Calls { caller, input: message(size).into() };
    calls.sample(1, &mut Samples::default())?;
    Ok(Box::new(calls))
}

impl Case for Calls {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        match &self.caller {
            Caller::Async(caller) => {
                let calls = one_after_the_other(caller.plugin.clone(), Arc::clone(&self.input), count);
                samples.append(caller.run(calls)?);
            }
            Caller::Blocking(plugin) => {
                for _ in 0..count {
                    let sent = self.input.to_vec();
                    let reply = samples.time(|| Ok(plugin.call_raw(EXPORT, sent)?))?;
                    check_echo(&self.input, &reply)?;
                }
            }
        }
        Ok(())
    }

    fn pause(&mut self, time: Duration) {
        self.caller.pause(time);
    }
}

/// Owns everything, so that any thread may run it.
async fn one_after_the_other(plugin: Plugin, input: Arc<[u8]>, count: usize) -> Result<Samples, Failure> {
    let mut samples = Samples::default();
    for _ in 0..count {
        let sent = input.to_vec();
        let start = Instant::now();
        let reply = plugin.call_raw(EXPORT, sent).await?;
        samples.add(start.elapsed());
        check_echo(&input, &reply)?;
    }
    Ok(samples)
}

/// Many calls outstanding at once.
struct Pipelined(Calls);

/// Calls of one sample, and how many of them are outstanding at any time.
const PIPELINED: usize = crate::peers::PIPELINED;
const OUTSTANDING: usize = crate::group::OUTSTANDING;

pub(super) fn open_pipelined(caller: Caller, size: usize) -> Opened {
    let mut pipelined = Pipelined(Calls { caller, input: message(size).into() });
    pipelined.sample(1, &mut Samples::default())?;
    Ok(Box::new(pipelined))
}

impl Case for Pipelined {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        let Calls { caller: Caller::Async(caller), input } = &self.0 else {
            return Err(Failure::other("a blocking caller has one call outstanding"));
        };
        for _ in 0..count {
            let calls = all_at_once(caller.plugin.clone(), Arc::clone(input));
            samples.time_each(PIPELINED, || caller.run(calls))?;
        }
        Ok(())
    }
}

/// As many tasks as calls may be outstanding, each of which calls one after the other.
async fn all_at_once(plugin: Plugin, input: Arc<[u8]>) -> Result<(), Failure> {
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..OUTSTANDING {
        let (plugin, input) = (plugin.clone(), Arc::clone(&input));
        let calls = (task..PIPELINED).step_by(OUTSTANDING).len();
        tasks.spawn(async move {
            for _ in 0..calls {
                check_echo(&input, &plugin.call_raw(EXPORT, input.to_vec()).await?)?;
            }
            Ok::<(), Failure>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|_| Failure::other("a calling task ended early"))??;
    }
    Ok(())
}
