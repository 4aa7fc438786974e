//! Calls of an export that replies with its input.
//!
//! A call takes its input by value and gives its reply by value, so the caller's copy of the input is not measured and
//! the reply's allocation is.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use hotcell::{Plugin, blocking};
use tokio::runtime::Runtime;

use super::hosts::{Driven, Hosts, Interface};
use crate::failure::Failure;
use crate::floor::{check_echo, message};
use crate::measure::{Case, Opened, Samples};

const EXPORT: &str = "ok";

pub(super) fn open(hosts: &Hosts, interface: Interface, package: &Path, size: usize) -> Opened {
    let input: Arc<[u8]> = message(size).into();
    let mut case: Box<dyn Case> = match interface {
        Interface::OneThread => Box::new(Here(AsyncCalls::load(hosts, hosts.one_thread()?, package, input)?)),
        Interface::ManyThreads => {
            Box::new(Spawned(AsyncCalls::load(hosts, hosts.many_threads()?, package, input)?))
        }
        Interface::Blocking => {
            let plugin = hosts.blocking()?.load(package)?;
            hosts.note_layers(plugin.as_async());
            Box::new(BlockingCalls { plugin, input })
        }
    };
    case.sample(1, &mut Samples::default())?;
    Ok(case)
}

struct AsyncCalls {
    runtime: Arc<Runtime>,
    plugin: Plugin,
    input: Arc<[u8]>,
}

impl AsyncCalls {
    fn load(hosts: &Hosts, driven: Driven, package: &Path, input: Arc<[u8]>) -> Result<AsyncCalls, Failure> {
        let plugin = driven.runtime.block_on(driven.host.load(package))?;
        hosts.note_layers(&plugin);
        Ok(AsyncCalls { runtime: driven.runtime, plugin, input })
    }

    /// Calls one after the other; owns everything, so that any thread may run it.
    fn batch(&self, count: usize) -> impl Future<Output = Result<Samples, Failure>> + Send + 'static {
        let (plugin, input) = (self.plugin.clone(), Arc::clone(&self.input));
        async move {
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
    }
}

/// On the thread that also drives the host.
struct Here(AsyncCalls);

impl Case for Here {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        samples.append(self.0.runtime.block_on(self.0.batch(count))?);
        Ok(())
    }
}

/// On whichever thread of the runtime takes the task.
struct Spawned(AsyncCalls);

impl Case for Spawned {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        let task = self.0.runtime.spawn(self.0.batch(count));
        let taken =
            self.0.runtime.block_on(task).map_err(|_| Failure::other("the calling task ended early"))?;
        samples.append(taken?);
        Ok(())
    }
}

struct BlockingCalls {
    plugin: blocking::Plugin,
    input: Arc<[u8]>,
}

impl Case for BlockingCalls {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        for _ in 0..count {
            let sent = self.input.to_vec();
            let reply = samples.time(|| Ok(self.plugin.call_raw(EXPORT, sent)?))?;
            check_echo(&self.input, &reply)?;
        }
        Ok(())
    }
}
