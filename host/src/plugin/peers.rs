//! Plugins that need each other: who is loaded, who may call whom.
//!
//! A plugin calls another one through the host call `plugin.call`, which its manifest requests and its profile grants like
//! any other; whom it may call is what its manifest names in `dependencies`. The call that waits holds its chain, so that
//! circles are found, and ends with its deadline, which ends the call that it waits for, too.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hotcell_policy::{Dependency, Manifest, needed_besides, start_order, unmet};
use hotcell_protocol::hook;

use super::{Inner, Plugin};
use crate::broker::HostCallResult;
use crate::class::Class;
use crate::compile::blocking;
use crate::error::Error;
use crate::host::{Host, Package, Shared};
use crate::package::installed_path;
use crate::prepare::LoadOptions;
use crate::reentry::Chain;

/// The host call by which a plugin calls another one: `ID/EXPORT`, a line feed, and the input.
pub(crate) const PLUGIN_CALL: &str = "plugin.call";

/// Most plugins that wait for each other, the first included.
const DEPTH_MAX: usize = 8;

/// Longest `ID/EXPORT`, in bytes.
const TARGET_MAX: usize = 512;

/// The plugins of a host.
#[derive(Debug, Default)]
pub(crate) struct Loaded(Mutex<Vec<Weak<Inner>>>);

impl Loaded {
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Inner>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, plugin: &Arc<Inner>) {
        let mut loaded = self.lock();
        loaded.retain(|plugin| plugin.strong_count() > 0);
        loaded.push(Arc::downgrade(plugin));
    }

    /// Those that are not unloaded, in the order in which they were started.
    pub(crate) fn list(&self) -> Vec<Plugin> {
        let loaded: Vec<_> = self.lock().iter().filter_map(Weak::upgrade).collect();
        let plugins = loaded.into_iter().map(|inner| Plugin { inner });
        plugins.filter(|plugin| !plugin.inner.exchange.is_closed()).collect()
    }

    /// The newest that fits.
    fn find(&self, wanted: &Dependency) -> Option<Plugin> {
        let mut fitting = self.list();
        fitting.retain(|plugin| wanted.is_met_by(&plugin.prepared().manifest));
        fitting.into_iter().max_by_key(|plugin| plugin.prepared().manifest.version().clone())
    }

    /// Checks that everything is there that a plugin cannot do without.
    pub(super) fn check(&self, manifest: &Manifest) -> Result<(), Error> {
        if manifest.dependencies().is_empty() {
            return Ok(());
        }
        let loaded: Vec<_> = self.list().iter().map(Plugin::prepared).collect();
        let loaded: Vec<_> = loaded.iter().map(|prepared| &prepared.manifest).collect();
        let refused = |detail| refused(detail, manifest.id().as_str());
        start_order(&[manifest], &loaded).map(drop).map_err(|error| refused(error.to_string()))?;
        for needed in manifest.dependencies() {
            let Some(found) = self.find(needed) else { continue };
            let unmet = unmet(&needed.exports, found.prepared().manifest.exports());
            if !unmet.is_empty() {
                let found = format!("{} {}", found.id(), found.version());
                return Err(refused(format!("{found} is not what it was built for: {}", unmet.join("; "))));
            }
        }
        Ok(())
    }

    /// The plugins that need this one and would not do with another version of it, in the place of one that they have now.
    ///
    /// What they were built for, their manifests tell; where they do not, it is what they have now.
    pub(super) fn broken_by(&self, manifest: &Manifest, before: &Manifest) -> Vec<String> {
        let breaks = |plugin: &Plugin| {
            let other = plugin.prepared();
            let mut needs = other.manifest.dependencies().iter();
            let need = needs.find(|dependency| dependency.id == *manifest.id())?;
            let name = format!("{} {}", other.manifest.id(), other.manifest.version());
            if !need.version.matches(manifest.version()) {
                return (!need.optional).then(|| format!("{name} ({})", need.version));
            }
            let wanted = if need.exports.is_empty() { before.exports() } else { &need.exports };
            let unmet = unmet(wanted, manifest.exports());
            (!unmet.is_empty()).then(|| format!("{name} ({})", unmet.join("; ")))
        };
        self.list().iter().filter_map(breaks).collect()
    }
}

fn refused(detail: String, subject: &str) -> Error {
    Error::Package { subject: subject.to_owned(), detail, class: Class::Refused }
}

impl Host {
    /// Loads several plugins, each after those that it needs (`dependencies`), and returns them in the order in which they
    /// were started.
    ///
    /// # Errors
    /// As [`Host::load_with`]; something that is needed is missing or does not fit, or plugins need each other in a circle:
    /// the error names all of them. What was started before an error is unloaded with it.
    pub async fn load_all(
        &self,
        packages: impl IntoIterator<Item = (PathBuf, LoadOptions)>,
    ) -> Result<Vec<Plugin>, Error> {
        let prepared = self.prepare_all(packages).await?;
        self.start_all(&prepared).await
    }

    /// As [`Host::load_all`], with what they need besides and what is [installed](Host::packages): that is loaded as it would be
    /// by its name, `@ID`, with the options that are the default. What runs already or is among `packages` is taken
    /// before what is installed. An optional dependency is left out where it is not installed in a version that fits, or lacks
    /// itself what it needs. Where one plugin is asked for, it is the last that is returned.
    ///
    /// # Errors
    /// As [`Host::load_all`].
    pub async fn load_with_installed(
        &self,
        packages: impl IntoIterator<Item = (PathBuf, LoadOptions)>,
    ) -> Result<Vec<Plugin>, Error> {
        let mut prepared = self.prepare_all(packages).await?;
        let given: Vec<_> = prepared.iter().map(|package| package.manifest().clone()).collect();
        let running: Vec<_> = self.loaded().iter().map(Plugin::prepared).collect();
        let packages = self.packages();
        let more = blocking(move || {
            let running: Vec<_> = running.iter().map(|prepared| &prepared.manifest).collect();
            let given: Vec<_> = given.iter().collect();
            needed_besides(&given, &running, |id| packages.installed(id))
        });
        let more =
            more.await?.into_iter().map(|manifest| (installed_path(manifest.id()), LoadOptions::default()));
        prepared.extend(self.prepare_all(more).await?);
        self.start_all(&prepared).await
    }

    async fn prepare_all(
        &self,
        packages: impl IntoIterator<Item = (PathBuf, LoadOptions)>,
    ) -> Result<Vec<Package>, Error> {
        let mut prepared = Vec::new();
        for (path, options) in packages {
            prepared.push(self.prepare_with(path, options).await?);
        }
        Ok(prepared)
    }

    async fn start_all(&self, prepared: &[Package]) -> Result<Vec<Plugin>, Error> {
        let manifests: Vec<_> = prepared.iter().map(Package::manifest).collect();
        let running: Vec<_> = self.loaded().iter().map(Plugin::prepared).collect();
        let running: Vec<_> = running.iter().map(|prepared| &prepared.manifest).collect();
        let order =
            start_order(&manifests, &running).map_err(|error| refused(error.to_string(), "the plugins"))?;
        let mut plugins = Vec::new();
        for index in order {
            if let Some(package) = prepared.get(index) {
                plugins.push(package.start().await?);
            }
        }
        Ok(plugins)
    }
}

/// Whom one plugin may call.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    /// A plugin does not keep its host alive.
    shared: Weak<Shared>,
    dependencies: Arc<[Dependency]>,
}

impl Peers {
    pub(super) fn new(shared: &Arc<Shared>, manifest: &Manifest) -> Peers {
        // Whom a call reaches, the types of nobody's exports decide.
        let bare = |needed: &Dependency| Dependency {
            id: needed.id.clone(),
            version: needed.version.clone(),
            optional: needed.optional,
            exports: Vec::new(),
        };
        let dependencies = manifest.dependencies().iter().map(bare).collect();
        Peers { shared: Arc::downgrade(shared), dependencies }
    }

    /// Calls another plugin. `None` if the caller's manifest does not name it, or if what it wants to call is the host's: a
    /// plugin's state is nobody else's to read or to replace.
    pub(crate) fn call(&self, input: &[u8]) -> Option<impl Future<Output = HostCallResult> + Send + use<>> {
        let end = input.iter().take(TARGET_MAX).position(|byte| *byte == b'\n')?;
        let (target, rest) = input.split_at_checked(end)?;
        let (id, export) = std::str::from_utf8(target).ok()?.split_once('/')?;
        if hook::is_reserved(export) {
            return None;
        }
        let wanted = self.dependencies.iter().find(|dependency| dependency.id.as_str() == id)?.clone();
        let (export, input) = (export.to_owned(), rest.get(1..).unwrap_or_default().to_vec());
        let shared = self.shared.clone();
        Some(async move {
            if Chain::current().depth() > DEPTH_MAX {
                return Err(format!("more than {DEPTH_MAX} plugins wait for each other"));
            }
            let found = shared.upgrade().and_then(|shared| shared.loaded.find(&wanted));
            let Some(plugin) = found else {
                return Err(format!("{} {} is not loaded", wanted.id, wanted.version));
            };
            plugin.call_raw(&export, input).await.map_err(|error| format!("{}: {error}", wanted.id))
        })
    }
}
