//! Calls from a plugin to its host.
//!
//! The plugin asks again and again during one call. A sample is the time from one question's arrival at the handler to
//! the next one's: the answer's way into the plugin and the next question's way out of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hotcell::HostBuilder;

use super::caller::Caller;
use crate::failure::Failure;
use crate::measure::{Case, Opened, Samples};

/// The plugins' export that asks the host.
const EXPORT: &str = "ask";

/// The host call, as manifests and profiles name it.
const NAME: &str = "echo";

/// When questions arrived at the handler.
#[derive(Clone, Default)]
pub(super) struct Arrivals(Arc<Mutex<Vec<Instant>>>);

impl Arrivals {
    /// Has a host answer questions and note their arrival.
    pub(super) fn register(&self, builder: HostBuilder) -> HostBuilder {
        let arrivals = self.clone();
        builder.host_call(NAME, move |_, input| {
            arrivals.with(|all| all.push(Instant::now()));
            async move { Ok(input) }
        })
    }

    fn with<T>(&self, use_them: impl FnOnce(&mut Vec<Instant>) -> T) -> T {
        use_them(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct HostCalls {
    caller: Caller,
    arrivals: Arrivals,
}

pub(super) fn open(caller: Caller, arrivals: &Arrivals) -> Opened {
    let mut calls = HostCalls { caller, arrivals: arrivals.clone() };
    calls.sample(1, &mut Samples::default())?;
    Ok(Box::new(calls))
}

impl Case for HostCalls {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        // One more than intervals between them.
        let questions = u32::try_from(count + 1).map_err(|_| Failure::other("too many host calls"))?;
        self.arrivals.with(Vec::clear);
        self.caller.call(EXPORT, questions.to_le_bytes().to_vec())?;
        let arrived = self.arrivals.with(std::mem::take);
        if arrived.len() != count + 1 {
            return Err(Failure::other(format!("{} of {questions} host calls arrived", arrived.len())));
        }
        arrived.iter().zip(arrived.iter().skip(1)).for_each(|(one, next)| samples.add(*next - *one));
        Ok(())
    }
}
