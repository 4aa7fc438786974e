//! The same for applications without an async runtime: every call waits on the calling thread.
//!
//! Not for use inside an async runtime.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::Runtime;

use crate::builder::HostBuilder;
use crate::error::{CallError, Error};
use crate::event::Event;
use crate::prepare::LoadOptions;
use crate::stdio::CommandIo;

/// Threads that drive all plugins of one blocking host.
const THREADS: usize = 2;

/// A host with a runtime of its own.
#[derive(Clone, Debug)]
pub struct Host {
    host: crate::Host,
    runtime: Arc<Runtime>,
}

/// A plugin of a blocking host.
#[derive(Clone, Debug)]
pub struct Plugin {
    plugin: crate::Plugin,
    runtime: Arc<Runtime>,
}

/// The events of a blocking host.
#[derive(Debug)]
pub struct Events {
    events: crate::Events,
    runtime: Arc<Runtime>,
}

impl HostBuilder {
    /// Builds a host with a runtime of its own.
    ///
    /// # Errors
    /// As [`HostBuilder::build`].
    pub fn build_blocking(self) -> Result<Host, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("hotcell")
            .enable_all()
            .build()
            .map_err(|source| Error::io("start a runtime", source))?;
        let host = runtime.block_on(self.build())?;
        Ok(Host { host, runtime: Arc::new(runtime) })
    }
}

impl Host {
    /// As [`crate::Host::load`].
    ///
    /// # Errors
    /// As [`crate::Host::load`].
    pub fn load(&self, path: impl AsRef<Path>) -> Result<Plugin, Error> {
        self.load_with(path, LoadOptions::default())
    }

    /// As [`crate::Host::load_with`].
    ///
    /// # Errors
    /// As [`crate::Host::load`].
    pub fn load_with(&self, path: impl AsRef<Path>, options: LoadOptions) -> Result<Plugin, Error> {
        let plugin = self.runtime.block_on(self.host.load_with(path, options))?;
        Ok(Plugin { plugin, runtime: Arc::clone(&self.runtime) })
    }

    /// As [`crate::Host::events`].
    pub fn events(&self) -> Events {
        Events { events: self.host.events(), runtime: Arc::clone(&self.runtime) }
    }

    /// As [`crate::Host::shutdown`].
    pub fn shutdown(self) {
        self.runtime.block_on(self.host.shutdown());
    }
}

impl Plugin {
    /// As [`crate::Plugin::call`].
    ///
    /// # Errors
    /// As [`crate::Plugin::call`].
    pub fn call<I: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        export: &str,
        input: &I,
    ) -> Result<T, CallError> {
        let input = serde_json::to_vec(input).map_err(|error| CallError::BadInput(error.to_string()))?;
        let reply = self.call_raw(export, input)?;
        serde_json::from_slice(&reply).map_err(CallError::Decode)
    }

    /// As [`crate::Plugin::call_raw`].
    ///
    /// # Errors
    /// As [`crate::Plugin::call_raw`].
    pub fn call_raw(&self, export: &str, input: Vec<u8>) -> Result<Vec<u8>, CallError> {
        self.plugin.send_blocking(self.runtime.handle(), export, input, None)
    }

    /// As [`Plugin::call_raw`], with a deadline that is shorter than the plan's.
    ///
    /// # Errors
    /// As [`crate::Plugin::call_raw`].
    pub fn call_within(
        &self,
        deadline: Duration,
        export: &str,
        input: Vec<u8>,
    ) -> Result<Vec<u8>, CallError> {
        self.plugin.send_blocking(self.runtime.handle(), export, input, Some(deadline))
    }

    /// As [`crate::CommandRequest::run`].
    ///
    /// # Errors
    /// As [`crate::CommandRequest::run`].
    pub fn run(&self, arguments: &[&str], io: CommandIo) -> Result<i32, CallError> {
        self.runtime.block_on(self.plugin.command().arguments(arguments.iter().copied()).io(io).run())
    }

    /// As [`crate::Plugin::unload`].
    pub fn unload(self) {
        self.runtime.block_on(self.plugin.unload());
    }

    /// The same plugin, for what is only there in the async interface and needs no waiting.
    pub fn as_async(&self) -> &crate::Plugin {
        &self.plugin
    }
}

impl Events {
    /// The next event; waits for it. `None` when the host is gone.
    pub fn next_event(&mut self) -> Option<Event> {
        self.runtime.block_on(self.events.next())
    }
}
