//! The handle to a loaded plugin.

mod actor;
mod call;
mod hooks;

use std::sync::Arc;

use hotcell_policy::Plan;
use hotcell_protocol::{Evidence, Runtime};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use crate::error::{CallError, Error};
use crate::host::Shared;
use crate::prepare::Prepared;
use crate::queue::Queue;
pub use call::{CommandRequest, Request};

/// A loaded plugin. Clones are the same plugin; when the last is dropped, it is unloaded.
///
/// Calls run one at a time, in the order in which they came. A plugin that crashed gets a fresh worker with the next
/// call.
#[derive(Clone, Debug)]
pub struct Plugin {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    number: u64,
    prepared: Arc<Prepared>,
    queue: Arc<Queue<call::Call>>,
    closing: watch::Sender<bool>,
    evidence: watch::Receiver<Option<Evidence>>,
}

impl Plugin {
    /// Starts the plugin's task; waits until its first worker is ready, unless it is a command.
    pub(crate) async fn start(shared: Arc<Shared>, prepared: Prepared) -> Result<Plugin, Error> {
        let prepared = Arc::new(prepared);
        let queue = Arc::new(Queue::new(prepared.plan.orders.limits.outstanding));
        let (closing, closed) = watch::channel(false);
        let number = shared.next_plugin();
        let (mut actor, evidence) =
            actor::Actor::new(number, shared, Arc::clone(&prepared), Arc::clone(&queue), closed)?;
        if prepared.plan.orders.runtime != Runtime::Command {
            actor.ensure_worker().await?;
        }
        tokio::spawn(actor.run());
        Ok(Plugin { inner: Arc::new(Inner { number, prepared, queue, closing, evidence }) })
    }

    /// The id of its manifest.
    pub fn id(&self) -> &str {
        self.inner.prepared.manifest.id().as_str()
    }

    /// The name of its manifest.
    pub fn name(&self) -> &str {
        self.inner.prepared.manifest.name()
    }

    /// What kind of plugin it is.
    pub fn runtime(&self) -> Runtime {
        self.inner.prepared.plan.orders.runtime
    }

    /// Whether it is run rather than called.
    pub fn is_command(&self) -> bool {
        self.runtime() == Runtime::Command
    }

    /// The plan that its workers execute; [`hotcell_policy::render`] makes it readable.
    pub fn plan(&self) -> &Plan {
        &self.inner.prepared.plan
    }

    /// Exports that the compiler saw in a wasm plugin: a claim. Empty for a native one, which nobody looks into.
    pub fn exports(&self) -> &[String] {
        self.inner.prepared.description.as_ref().map_or(&[], |description| &description.exports)
    }

    /// What the latest worker's confinement looked like, as the kernel told it and the host verified it. `None` before the
    /// first run of a command.
    pub fn evidence(&self) -> Option<Evidence> {
        self.inner.evidence.borrow().clone()
    }

    /// Calls an export with a value as JSON. See [`Request::json`].
    ///
    /// # Errors
    /// Every way in which a call can end without a reply that is a `T`.
    pub async fn call<I: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        export: &str,
        input: &I,
    ) -> Result<T, CallError> {
        self.request(export).json(input).await
    }

    /// Calls an export with bytes. See [`Request::raw`].
    ///
    /// # Errors
    /// Every way in which a call can end without a reply.
    pub async fn call_raw(&self, export: &str, input: Vec<u8>) -> Result<Vec<u8>, CallError> {
        self.request(export).raw(input).await
    }

    /// Prepares a call with its own deadline.
    pub fn request(&self, export: &str) -> Request<'_> {
        Request::new(self, export)
    }

    /// Prepares a run of a command.
    pub fn command(&self) -> CommandRequest<'_> {
        CommandRequest::new(self)
    }

    /// Ends the plugin: calls that wait or run end with [`CallError::HostShutdown`]. Returns when its worker is gone.
    pub async fn unload(self) {
        let _ = self.inner.closing.send(true);
        // The task drops its end when it is done.
        let mut evidence = self.inner.evidence.clone();
        while evidence.changed().await.is_ok() {}
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.closing.send(true);
    }
}
