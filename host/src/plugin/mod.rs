//! The handle to a loaded plugin.

mod actor;
mod call;
mod clock;
mod custody;
mod debug;
mod errand;
mod exchange;
mod health;
mod hooks;
mod launch;
mod memory;
mod peers;
mod probation;
mod profile;
mod reload;
mod rest;
mod restarts;
mod room;
mod status;
mod steward;
mod version;
mod wait;
mod watching;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use hotcell_policy::Plan;
use hotcell_protocol::{Evidence, Runtime};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::class::Class;
use crate::compile::blocking;
use crate::error::{CallError, Error};
use crate::event::{EventKind, EventSender};
use crate::host::Shared;
use crate::network::OpenListeners;
use crate::package::Gate;
use crate::places::Places;
use crate::prepare::Prepared;
use crate::receipt::{self, Receipt};
use actor::{Actor, Closing, Common};
pub use call::{CommandRequest, Request};
pub use debug::DebugTarget;
use exchange::Exchange;
use memory::Memory;
pub(crate) use peers::{Loaded, PLUGIN_CALL, Peers};
pub use profile::{ProfileOptions, ProfiledStack, StackProfile};
pub use reload::{
    CheckpointError, ConfigureError, IncompatibleState, ReloadError, ReloadOptions, Reloaded, StateMove,
};
use restarts::Restarts;
pub use status::Status;
use steward::{Order, Steward};
use version::{Current, Version};
pub use watching::Watching;

/// Between two looks whether a plugin has ended its calls.
const PAUSE: Duration = Duration::from_millis(1);

/// A loaded plugin. Clones are the same plugin; when the last is dropped, it is unloaded.
///
/// Each of its workers (the plan's `instances`) runs one call at a time, in the order in which they came. A worker that
/// crashed is replaced with the next call; calls that it had not begun with go to the next one.
#[derive(Clone, Debug)]
pub struct Plugin {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    number: u64,
    id: Arc<str>,
    command: bool,
    current: Arc<Current>,
    exchange: Arc<Exchange>,
    restarts: Arc<Restarts>,
    orders: mpsc::UnboundedSender<Order>,
    events: EventSender,
    generation: Arc<AtomicU32>,
    closing: watch::Sender<bool>,
    closed: Closing,
    evidence: watch::Receiver<Option<Evidence>>,
    places: Arc<Places>,
    gate: Arc<Gate>,
    /// A handle does not keep its host alive.
    shared: Weak<Shared>,
    /// Where its manifest asks for reloads.
    watching: OnceLock<Watching>,
}

impl Plugin {
    /// Starts the plugin's tasks; waits until its workers are ready, unless it is a command.
    pub(crate) async fn start(shared: Arc<Shared>, prepared: Arc<Prepared>) -> Result<Plugin, Error> {
        let limits = &prepared.plan.orders.limits;
        let command = prepared.plan.orders.runtime == Runtime::Command;
        let seats = limits.instances as usize;
        let exchange = Exchange::new(seats, limits.outstanding, command, prepared.blueprint.spin);
        let (closing, closed) = watch::channel(false);
        let (evidence, seen) = watch::channel(None);
        let checkpoints = match prepared.options.checkpoint {
            Checkpoint::Never => None,
            _ if command => None,
            _ => {
                let (places, limit) = (Arc::clone(&shared.surroundings.places), limits.state);
                let id = prepared.manifest.id().as_str().to_owned();
                let opened = blocking(move || Checkpoints::open(places.state(), &id, limit));
                Some(Arc::new(opened.await?))
            }
        };
        shared.loaded.check(&prepared.manifest)?;
        let memory = remember(&shared, &prepared).await?;
        let (orders, ordered) = mpsc::unbounded_channel();
        let common = Common {
            number: shared.next_plugin(),
            id: prepared.manifest.id().as_str().into(),
            command,
            current: Arc::new(Current::new(Version::new(&shared, prepared, OpenListeners::default()))),
            custody: Arc::default(),
            restarts: Arc::default(),
            config: Arc::default(),
            memory,
            checkpoints,
            orders,
            closing: Closing { plugin: closed, host: shared.closing() },
            generation: Arc::default(),
            exchange: Arc::new(exchange),
            shared,
            evidence,
        };
        let inner = common.handle(closing, seen);
        let (mut actors, mut successors) = (Vec::new(), Vec::new());
        for seat in 0..seats {
            let (successor, successions) = mpsc::unbounded_channel();
            successors.push(successor);
            let mut actor = Actor::new(common.clone(), seat, successions)?;
            if !command {
                actor.ensure_worker().await?;
            }
            actors.push(actor);
        }
        tokio::spawn(clock::run(Arc::clone(&common.exchange), common.closing.clone()));
        for mut actor in actors {
            tokio::spawn(async move { actor.run().await });
        }
        let inner = Arc::new(inner);
        common.shared.loaded.add(&inner);
        tokio::spawn(Steward::new(common, successors)?.run(ordered));
        let plugin = Plugin { inner };
        plugin.watch_if_asked()?;
        Ok(plugin)
    }

    fn tell(&self, kind: EventKind) {
        let Inner { events, id, generation, .. } = self.inner.as_ref();
        events.send(id, generation.load(Ordering::Relaxed), kind);
    }

    fn tell_of_failure(&self, export: &str, error: &CallError) {
        self.tell(EventKind::CallFailed { export: export.to_owned(), outcome: error.to_string() });
    }

    /// The id of its manifest.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// The name of its manifest.
    pub fn name(&self) -> String {
        self.prepared().manifest.name().to_owned()
    }

    /// The version of its manifest. A reload changes it.
    pub fn version(&self) -> String {
        self.prepared().manifest.version().to_string()
    }

    fn prepared(&self) -> Arc<Prepared> {
        Arc::clone(&self.inner.current.get().prepared)
    }

    /// What kind of plugin it is.
    pub fn runtime(&self) -> Runtime {
        self.prepared().plan.orders.runtime
    }

    /// Whether it is run rather than called.
    pub fn is_command(&self) -> bool {
        self.inner.command
    }

    /// The plan that its workers execute; [`hotcell_policy::render`] makes it readable.
    pub fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.prepared().plan)
    }

    /// Exports that the compiler saw in a wasm plugin: a claim. Empty for a native one, which nobody looks into.
    pub fn exports(&self) -> Vec<String> {
        let description = self.prepared().description.clone();
        description.map_or_else(Vec::new, |description| description.exports)
    }

    /// What the latest worker's confinement looked like, as the kernel told it and the host verified it. `None` before the
    /// first run of a command.
    pub fn evidence(&self) -> Option<Evidence> {
        self.inner.evidence.borrow().clone()
    }

    /// A receipt for each worker that lives now, none for a command that does not run: what the kernel says is in force on
    /// it, with the digests of plan, profile and artifact, signed by this host's key.
    ///
    /// # Errors
    /// The host's key cannot be used, or a worker ended meanwhile.
    pub async fn receipts(&self) -> Result<Vec<Receipt>, Error> {
        let (sights, prepared) = (self.inner.exchange.sights(), self.prepared());
        let places = Arc::clone(&self.inner.places);
        blocking(move || {
            let key = receipt::key(places.state())?;
            sights.iter().map(|sight| Receipt::of_living(&prepared.blueprint, sight, &key)).collect()
        })
        .await
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

    /// Ends the plugin gently: calls that it has may end until the deadline, and its state is kept where states are.
    pub(crate) async fn retire(self, deadline: Instant) {
        let exchange = &self.inner.exchange;
        exchange.hold();
        while !exchange.is_quiet() && Instant::now() < deadline {
            sleep(PAUSE).await;
        }
        let checkpoint = async {
            if let Err(error) = self.checkpoint().await
                && !matches!(error, CheckpointError::Off)
            {
                self.tell(EventKind::CheckpointFailed { reason: error.to_string() });
            }
        };
        // At the deadline the state that was kept before is what stays.
        let _ = timeout_at(deadline, checkpoint).await;
        self.unload().await;
    }

    /// Ends the plugin: calls that wait or run end with [`CallError::HostShutdown`]. Returns when its worker is gone.
    pub async fn unload(self) {
        let _ = self.inner.closing.send(true);
        // The task drops its end when it is done.
        let mut evidence = self.inner.evidence.clone();
        while evidence.changed().await.is_ok() {}
    }
}

/// What is remembered of the plugin, unless that forbids to start it.
async fn remember(shared: &Shared, prepared: &Prepared) -> Result<Arc<Memory>, Error> {
    let (places, id) = (Arc::clone(&shared.surroundings.places), prepared.manifest.id().as_str().to_owned());
    let (version, retry) = (prepared.fingerprint(), prepared.options.retry);
    let memory = Arc::new(blocking(move || Memory::open(places.state(), &id)).await?);
    match memory.quarantine(&version) {
        None => {}
        Some(_) if retry => _ = memory.released(),
        Some((reason, left)) => {
            let wait = left.map_or_else(String::new, |left| format!(" for {left:.0?}"));
            let advice = "load another version, or this one with LoadOptions::retry";
            return Err(Error::Package {
                subject: prepared.manifest.id().to_string(),
                detail: format!("it is in quarantine{wait}: {reason}; {advice}"),
                class: Class::Crashed,
            });
        }
    }
    Ok(memory)
}

impl Common {
    /// What handles share; not a part of what the tasks keep, so that they notice when the last handle is gone.
    fn handle(&self, closing: watch::Sender<bool>, evidence: watch::Receiver<Option<Evidence>>) -> Inner {
        Inner {
            number: self.number,
            id: Arc::clone(&self.id),
            command: self.command,
            current: Arc::clone(&self.current),
            exchange: Arc::clone(&self.exchange),
            restarts: Arc::clone(&self.restarts),
            orders: self.orders.clone(),
            events: self.shared.surroundings.events.clone(),
            generation: Arc::clone(&self.generation),
            closing,
            closed: self.closing.clone(),
            gate: Arc::clone(&self.shared.gate),
            shared: Arc::downgrade(&self.shared),
            evidence,
            places: Arc::clone(&self.shared.surroundings.places),
            watching: OnceLock::new(),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.closing.send(true);
    }
}
