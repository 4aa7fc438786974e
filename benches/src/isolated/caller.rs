//! An application's side of a plugin: how it calls.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hotcell::{LoadOptions, Plugin, blocking};
use tokio::runtime::Runtime;

use super::hosts::{Driven, Hosts};
use crate::failure::Failure;

/// How an application calls its plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interface {
    /// From the thread that drives the host as well.
    OneThread,
    /// From a task of a runtime with a thread for each processor.
    ManyThreads,
    /// From a thread without a runtime.
    Blocking,
}

impl Interface {
    pub(super) const ALL: [Interface; 3] =
        [Interface::OneThread, Interface::ManyThreads, Interface::Blocking];

    /// What the names of rows say.
    pub(super) fn name(self) -> &'static str {
        match self {
            Interface::OneThread => "async",
            Interface::ManyThreads => "async, many threads",
            Interface::Blocking => "blocking",
        }
    }
}

/// A loaded plugin and a way to call it.
pub(super) enum Caller {
    Async(AsyncCaller),
    Blocking(blocking::Plugin),
}

impl Caller {
    pub(super) fn load(
        hosts: &Hosts,
        interface: Interface,
        package: &Path,
        options: LoadOptions,
    ) -> Result<Caller, Failure> {
        let driven = match interface {
            Interface::OneThread => hosts.one_thread()?,
            Interface::ManyThreads => hosts.many_threads()?,
            Interface::Blocking => {
                return Ok(Caller::Blocking(hosts.blocking()?.load_with(package, options)?));
            }
        };
        let plugin = driven.runtime.block_on(driven.host.load_with(package, options))?;
        let Driven { runtime, .. } = driven;
        Ok(Caller::Async(AsyncCaller { runtime, plugin, spawns: interface == Interface::ManyThreads }))
    }

    pub(super) fn plugin(&self) -> &Plugin {
        match self {
            Caller::Async(caller) => &caller.plugin,
            Caller::Blocking(plugin) => plugin.as_async(),
        }
    }

    /// One call.
    pub(super) fn call(&self, export: &'static str, input: Vec<u8>) -> Result<Vec<u8>, Failure> {
        match self {
            Caller::Async(caller) => {
                let plugin = caller.plugin.clone();
                caller.run(async move { Ok(plugin.call_raw(export, input).await?) })
            }
            Caller::Blocking(plugin) => Ok(plugin.call_raw(export, input)?),
        }
    }

    /// Lets time pass; a runtime that is driven by this thread goes on meanwhile.
    pub(super) fn pause(&self, time: Duration) {
        match self {
            // A timer of the runtime would sleep for a millisecond at least.
            Caller::Async(AsyncCaller { runtime, spawns: false, .. }) => {
                // The task only sleeps: it cannot fail.
                let _ = runtime
                    .block_on(async { tokio::task::spawn_blocking(move || std::thread::sleep(time)).await });
            }
            Caller::Async(_) | Caller::Blocking(_) => std::thread::sleep(time),
        }
    }
}

/// A caller with a runtime.
pub(super) struct AsyncCaller {
    runtime: Arc<Runtime>,
    pub(super) plugin: Plugin,
    /// Whether calls come from a task of the runtime's own threads.
    spawns: bool,
}

impl AsyncCaller {
    /// Runs calls where this caller makes them.
    pub(super) fn run<T: Send + 'static>(
        &self,
        calls: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        if !self.spawns {
            return self.runtime.block_on(calls);
        }
        let task = self.runtime.spawn(calls);
        self.runtime.block_on(task).map_err(|_| Failure::other("the calling task ended early"))?
    }
}
