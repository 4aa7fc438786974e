//! The object that an application embeds.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hotcell_package::hex;
use hotcell_policy::{Manifest, Plan, Platform};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::broker::Handlers;
use crate::builder::HostBuilder;
use crate::compile::{Compilers, blocking};
use crate::crash::{Crashes, Wreck};
use crate::error::Error;
use crate::event::{EventKind, Events};
use crate::identity::Registry;
use crate::network::Directory;
use crate::package::{Gate, Packages};
use crate::plugin::{Loaded, Plugin};
use crate::prepare::{LoadOptions, Prepared, prepare};
use crate::worker::Surroundings;

/// Loads and keeps plugins. Clones are the same host.
///
/// Dropping every handle to a host and its plugins ends its launcher and all workers; [`Host::shutdown`] also waits.
#[derive(Clone, Debug)]
pub struct Host {
    shared: Arc<Shared>,
}

/// A plugin that was read, planned and measured, as it was then: what lies on disk may change since.
///
/// Each [`Package::start`] makes a plugin of its own of it, in a fraction of a millisecond.
#[derive(Clone, Debug)]
pub struct Package {
    host: Host,
    prepared: Arc<Prepared>,
}

impl Package {
    /// Starts a plugin. Returns when its first worker is confined and ready; a command starts a worker with every run.
    ///
    /// # Errors
    /// A layer of the sandbox is missing here, or the plugin could not start. Nothing of it goes on running then.
    pub async fn start(&self) -> Result<Plugin, Error> {
        let shared = &self.host.shared;
        let alive = shared.alive()?;
        shared.surroundings.events.send(&self.prepared.blueprint.plugin, 0, EventKind::Loaded);
        let plugin = Plugin::start(Arc::clone(shared), Arc::clone(&self.prepared)).await;
        drop(alive);
        plugin
    }

    /// What the plugin is and requests.
    pub fn manifest(&self) -> &Manifest {
        &self.prepared.manifest
    }

    /// The plan that its workers will execute; [`hotcell_policy::render`] makes it readable.
    pub fn plan(&self) -> &Plan {
        &self.prepared.plan
    }

    /// How many of its spare workers wait now; [`LoadOptions::spares`] were asked for.
    pub fn spares(&self) -> usize {
        self.prepared.spares.count()
    }
}

/// What a host, its plugins and their tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) surroundings: Surroundings,
    pub(crate) compilers: Compilers,
    pub(crate) handlers: Handlers,
    pub(crate) platform: Platform,
    pub(crate) gate: Arc<Gate>,
    pub(crate) registry: Registry,
    pub(crate) directory: Directory,
    /// A copy of the advisory database.
    pub(crate) advisories: Option<PathBuf>,
    pub(crate) loaded: Loaded,
    plugins: AtomicU64,
    closing: watch::Sender<bool>,
    living: watch::Sender<u64>,
    buried: Mutex<Option<oneshot::Receiver<()>>>,
}

/// What the builder made.
pub(crate) struct Parts {
    pub(crate) surroundings: Surroundings,
    pub(crate) compilers: Compilers,
    pub(crate) handlers: Handlers,
    pub(crate) platform: Platform,
    pub(crate) gate: Arc<Gate>,
    pub(crate) registry: Registry,
    pub(crate) directory: Directory,
    pub(crate) advisories: Option<PathBuf>,
    pub(crate) wrecks: mpsc::Receiver<Wreck>,
    pub(crate) buried: oneshot::Receiver<()>,
}

/// Counts a task that [`Host::shutdown`] waits for.
pub(crate) struct Alive(watch::Sender<u64>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.send_modify(|living| *living -= 1);
    }
}

impl Shared {
    pub(crate) fn next_plugin(&self) -> u64 {
        self.plugins.fetch_add(1, Ordering::Relaxed)
    }

    /// Says when the host is shut down.
    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    /// Registers a task.
    pub(crate) fn alive(&self) -> Result<Alive, Error> {
        self.living.send_modify(|living| *living += 1);
        let alive = Alive(self.living.clone());
        if *self.closing.borrow() { Err(Error::Shutdown) } else { Ok(alive) }
    }
}

impl Host {
    /// Prepares a host.
    pub fn builder() -> HostBuilder {
        HostBuilder::new()
    }

    pub(crate) fn from_parts(parts: Parts) -> Host {
        let Parts {
            surroundings,
            compilers,
            handlers,
            platform,
            gate,
            registry,
            directory,
            advisories,
            wrecks,
            buried,
        } = parts;
        let shared = Shared {
            surroundings,
            compilers,
            handlers,
            platform,
            gate,
            registry,
            directory,
            advisories,
            loaded: Loaded::default(),
            plugins: AtomicU64::new(1),
            closing: watch::Sender::new(false),
            living: watch::Sender::new(0),
            buried: Mutex::new(Some(buried)),
        };
        let shared = Arc::new(shared);
        if let Ok(alive) = shared.alive() {
            let reports = crate::crash::serve(wrecks, Arc::downgrade(&shared));
            tokio::spawn(async move {
                reports.await;
                drop(alive);
            });
        }
        Host { shared }
    }

    /// Loads what a path names: an `.lbplugin` file, a folder with `manifest.json`, a manifest, a bare `.wasm`, `.wat` or
    /// `.so`, or `@ID` for the plugin of this id that is installed.
    ///
    /// What is signed has to be signed rightly, and is loaded from a read-only copy in the state folder.
    ///
    /// Returns when its first worker is confined and ready; a command starts a worker with every run.
    ///
    /// # Errors
    /// The package, manifest, profile or artifact is not what it must be, something is not granted, a layer of the sandbox
    /// is missing here, or the plugin could not start. Nothing of the plugin goes on running then.
    pub async fn load(&self, path: impl AsRef<Path>) -> Result<Plugin, Error> {
        self.load_with(path, LoadOptions::default()).await
    }

    /// As [`Host::load`], with options.
    ///
    /// # Errors
    /// As [`Host::load`].
    pub async fn load_with(&self, path: impl AsRef<Path>, options: LoadOptions) -> Result<Plugin, Error> {
        self.prepare_with(path, options).await?.start().await
    }

    /// Does everything of [`Host::load`] that comes before the first worker: reads, plans, measures and, where it is wasm,
    /// compiles.
    ///
    /// # Errors
    /// As [`Host::load`], up to there. No code of the plugin runs.
    pub async fn prepare(&self, path: impl AsRef<Path>) -> Result<Package, Error> {
        self.prepare_with(path, LoadOptions::default()).await
    }

    /// As [`Host::prepare`], with options.
    ///
    /// # Errors
    /// As [`Host::prepare`].
    pub async fn prepare_with(&self, path: impl AsRef<Path>, options: LoadOptions) -> Result<Package, Error> {
        let _alive = self.shared.alive()?;
        let prepared = Arc::new(self.read(path.as_ref(), options).await?);
        Ok(Package { host: self.clone(), prepared })
    }

    /// The plan for what a path names, without starting the plugin; a module of unknown kind is compiled for it.
    ///
    /// # Errors
    /// As [`Host::load`] up to the plan.
    pub async fn plan(&self, path: impl AsRef<Path>, options: LoadOptions) -> Result<Plan, Error> {
        let _alive = self.shared.alive()?;
        let options = LoadOptions { spares: 0, ..options };
        Ok(Arc::unwrap_or_clone(self.read(path.as_ref(), options).await?.plan))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Ends with the host: nobody waits for a compiler that is of no use any more.
    async fn read(&self, path: &Path, options: LoadOptions) -> Result<Prepared, Error> {
        let mut closing = self.shared.closing();
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => Err(Error::Shutdown),
            prepared = prepare(&self.shared, path.to_owned(), options, 1) => prepared,
        }
    }

    /// The plugins that are loaded and have a handle, in the order in which they were started.
    pub fn loaded(&self) -> Vec<Plugin> {
        self.shared.loaded.list()
    }

    /// What happens from now on.
    pub fn events(&self) -> Events {
        self.shared.surroundings.events.subscribe()
    }

    /// The public key with which this host signs [receipts](crate::Receipt), as 64 hexadecimal digits. Made when it is
    /// first wanted, and kept in the state folder.
    ///
    /// # Errors
    /// The key cannot be made or used.
    pub async fn receipt_key(&self) -> Result<String, Error> {
        let places = Arc::clone(&self.shared.surroundings.places);
        let key = blocking(move || crate::receipt::key(places.state())).await?;
        Ok(hex(key.verifying_key().as_bytes()))
    }

    /// The reports of plugins that crashed, in this host's state folder.
    pub fn crashes(&self) -> Crashes {
        Crashes::new(self.shared.surroundings.places.state())
    }

    /// The plugins that are installed in this host's state folder, and the keys that are trusted.
    pub fn packages(&self) -> Packages {
        Packages::new(Arc::clone(&self.shared.gate))
    }

    /// What this machine can enforce.
    pub fn platform(&self) -> &Platform {
        &self.shared.platform
    }

    /// As [`Host::shutdown`], but gently: plugins end one after the other, each before those that it needs, when it has
    /// ended the calls that it runs, and its state is kept where [checkpoints](crate::Checkpoint) are. What is not done
    /// after `time` is cut off. Calls that wait end with [`CallError::HostShutdown`](crate::CallError::HostShutdown).
    pub async fn shutdown_within(self, time: Duration) {
        let deadline = Instant::now() + time;
        for plugin in self.loaded().into_iter().rev() {
            plugin.retire(deadline).await;
        }
        self.shutdown().await;
    }

    /// Ends every plugin and the launcher; returns when all processes are gone. Calls that wait or run end with
    /// [`CallError::HostShutdown`](crate::CallError::HostShutdown).
    pub async fn shutdown(self) {
        self.shared.closing.send_replace(true);
        let mut living = self.shared.living.subscribe();
        // The sender is ours: it cannot be gone.
        let _ = living.wait_for(|living| *living == 0).await;
        self.shared.surroundings.launcher.stop();
        let buried = self.shared.buried.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(buried) = buried {
            let _ = buried.await;
        }
    }
}
