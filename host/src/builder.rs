//! How a host is set up. Every default is written here.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hotcell_policy::{Platform, Profile};

use crate::broker::{Handlers, HostCallContext, HostCallResult};
use crate::budget::Budget;
use crate::cgroup::{Groups, given, own};
use crate::compile::{Cache, Compilers, blocking};
use crate::crash::{Crashes, Reporter};
use crate::error::Error;
use crate::event::EventSender;
use crate::host::{Host, Parts};
use crate::identity::{COMPILER, Identity, REGISTRY, Registry, UID_BASE, UID_COUNT};
use crate::launcher::{Launcher, Programs};
use crate::network::{Directory, Resolver, Roots};
use crate::package::{Gate, Packages};
use crate::places::Places;
use crate::platform::platform;
use crate::worker::Surroundings;

/// Payload bytes of all plugins together that a host holds at once.
const BUDGET: u64 = 1 << 30;

/// Bytes of compiled code that are kept.
const CACHE_BOUND: u64 = 4 << 30;

/// Events that a slow reader may fall behind.
const EVENTS: usize = 1024;

/// Sets up a [`Host`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct HostBuilder {
    worker: Option<PathBuf>,
    state: Option<PathBuf>,
    cache: Option<PathBuf>,
    cache_bound: u64,
    compile_time: Duration,
    registry: Registry,
    profiles: Vec<Profile>,
    handlers: Handlers,
    events: usize,
    budget: u64,
    cgroup: Option<PathBuf>,
    directory: Directory,
    advisories: Option<PathBuf>,
    require_signatures: bool,
}

impl HostBuilder {
    pub(crate) fn new() -> HostBuilder {
        HostBuilder {
            worker: None,
            state: None,
            cache: None,
            cache_bound: CACHE_BOUND,
            compile_time: Duration::MAX,
            registry: Registry { folder: REGISTRY.into(), base: UID_BASE, count: UID_COUNT },
            profiles: Vec::new(),
            handlers: Handlers::default(),
            events: EVENTS,
            budget: BUDGET,
            cgroup: None,
            directory: Resolver::system().into(),
            advisories: None,
            require_signatures: false,
        }
    }

    /// The folder of `hotcell-launcher`, `hotcell-worker` and `hotcell-compiler`. Default: beside this executable, then
    /// `../libexec/hotcell` beside it.
    pub fn worker(mut self, folder: impl Into<PathBuf>) -> HostBuilder {
        self.worker = Some(folder.into());
        self
    }

    /// Where plugins keep their data. Default: `/var/lib/hotcell` for root, else `.local/state/hotcell` in the home folder.
    pub fn state_dir(mut self, folder: impl Into<PathBuf>) -> HostBuilder {
        self.state = Some(folder.into());
        self
    }

    /// Where compiled code is kept; must belong to this user alone. Default: `/var/cache/hotcell` for root, else
    /// `.cache/hotcell` in the home folder.
    pub fn cache_dir(mut self, folder: impl Into<PathBuf>) -> HostBuilder {
        self.cache = Some(folder.into());
        self
    }

    /// Bytes of compiled code that are kept; what was not used for longest goes first. Default: 4 GiB.
    pub fn cache_bound(mut self, bytes: u64) -> HostBuilder {
        self.cache_bound = bytes;
        self
    }

    /// How long a module may take to compile, at most two minutes, which is the default: then its load fails.
    pub fn compile_time(mut self, most: Duration) -> HostBuilder {
        self.compile_time = most;
        self
    }

    /// The machine's registry of uids, for a host that is root. Default: `/var/lib/hotcell/uids`.
    pub fn uid_registry(mut self, folder: impl Into<PathBuf>) -> HostBuilder {
        self.registry.folder = folder.into();
        self
    }

    /// The range of uids that the registry gives out. Nothing else on the machine may use it. Default: 10,000 from 700,000.
    pub fn uid_range(mut self, first: u32, count: u32) -> HostBuilder {
        self.registry.base = first;
        self.registry.count = count;
        self
    }

    /// Adds a profile, or replaces a shipped one of the same name.
    pub fn profile(mut self, profile: Profile) -> HostBuilder {
        self.profiles.push(profile);
        self
    }

    /// Has the paths of native plugins observed, whatever their profiles say (`observe = "paths"` in docs/profile.md): what Landlock
    /// refuses is told with its path. For development: each call that names a path costs a notification. Profiles that are added
    /// later are as they are.
    pub fn observe_paths(mut self) -> HostBuilder {
        let own = |name: &&&str| !self.profiles.iter().any(|profile| profile.name() == **name);
        let shipped = Profile::shipped_names().iter().filter(own);
        let shipped: Vec<_> = shipped.filter_map(|name| Profile::shipped(name)?.ok()).collect();
        self.profiles = self.profiles.into_iter().chain(shipped).map(Profile::observing_paths).collect();
        self
    }

    /// Answers a host call. A plugin reaches it only if its manifest requests the name and its profile grants it.
    ///
    /// The handler runs under the deadline of the plugin's call and is dropped with it; it gets at most the plan's
    /// `message` bytes, and may answer as many. Its panic becomes an error for the plugin. The plugin's input is hostile. A
    /// handler that calls the plugin that waits for it is refused, where it awaits the call itself; one that spawns a task
    /// for it waits until the deadline.
    pub fn host_call<F, A>(mut self, name: impl Into<String>, handler: F) -> HostBuilder
    where
        F: Fn(HostCallContext, Vec<u8>) -> A + Send + Sync + 'static,
        A: Future<Output = HostCallResult> + Send + 'static,
    {
        self.handlers.register(name.into(), handler);
        self
    }

    /// Events that a slow reader may fall behind before it loses the oldest. Default: 1024.
    pub fn event_buffer(mut self, events: usize) -> HostBuilder {
        self.events = events;
        self
    }

    /// Bytes of all replies and host calls' inputs in flight together, small ones (up to 64 KiB) apart; one payload may
    /// go over it, so that none waits for ever. Default: 1 GiB.
    pub fn payload_budget(mut self, bytes: u64) -> HostBuilder {
        self.budget = bytes;
        self
    }

    /// Turns a host name and a port into addresses, for plugins that may connect. Default: the system, as getaddrinfo(3)
    /// does. Whatever it says, addresses that are not public are left out unless they are granted, and the port is the
    /// granted one.
    pub fn resolver<F, A>(mut self, resolve: F) -> HostBuilder
    where
        F: Fn(String, u16) -> A + Send + Sync + 'static,
        A: Future<Output = std::io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        self.directory.resolver = Resolver::new(resolve);
        self
    }

    /// A copy of the RustSec advisory database (the folder that has `crates` in it): audits look there for what is known of the runtime
    /// of wasm plugins. Default: none. Nothing is fetched.
    pub fn advisories(mut self, folder: impl Into<PathBuf>) -> HostBuilder {
        self.advisories = Some(folder.into());
        self
    }

    /// The certificate authorities that plugins are told to trust (host call `net.roots`, and `wasi:http`), as PEM
    /// (RFC 7468). Default: the bundle that `SSL_CERT_FILE` names, or the system's, read when a plugin first asks.
    ///
    /// A plugin checks the certificates itself: this says whom it should trust, and cannot make it. Where it may connect,
    /// its plan says.
    pub fn tls_roots(mut self, pem: impl Into<Vec<u8>>) -> HostBuilder {
        self.directory.roots = Roots::given(pem.into());
        self
    }

    /// A cgroup of version 2 in which the host makes groups for its workers, as root or where it was delegated to this
    /// user; no process may be in it. Default: version 1 where this process's own groups are writable, and version 2 where
    /// its own group passes controllers on.
    ///
    /// Only profiles with `cgroups` use it.
    pub fn cgroup(mut self, folder: impl Into<PathBuf>) -> HostBuilder {
        self.cgroup = Some(folder.into());
        self
    }

    /// Loads nothing that no [trusted key](crate::Packages::trust) has signed; no bare artifact either. Default: what is not
    /// signed is loaded, unless its profile or its manifest requires that it is, or a version of it was signed before.
    pub fn require_signatures(mut self) -> HostBuilder {
        self.require_signatures = true;
        self
    }

    /// The plugins that are installed in the state folder that was named, or in the default one, and the keys that are
    /// trusted. No host has to be built.
    ///
    /// # Errors
    /// There is no home folder to look into.
    pub fn packages(&self) -> Result<Packages, Error> {
        let state = state_folder(self.state.clone())?;
        let gate = Gate { state, required: self.require_signatures, profiles: self.profiles.clone() };
        Ok(Packages::new(Arc::new(gate)))
    }

    /// The crash reports in the state folder that was named, or in the default one. No host has to be built.
    ///
    /// # Errors
    /// There is no home folder to look into.
    pub fn crashes(&self) -> Result<Crashes, Error> {
        Ok(Crashes::new(state_folder(self.state.clone())?))
    }

    /// Starts the launcher. Needs a tokio runtime with time and I/O.
    ///
    /// # Errors
    /// hotcell's programs are not found or not trustworthy, or a folder cannot be used.
    pub async fn build(self) -> Result<Host, Error> {
        let HostBuilder { worker, state, cache, cache_bound, compile_time, .. } = self;
        let HostBuilder { registry, profiles, handlers, .. } = self;
        let HostBuilder { events, budget, cgroup, directory, advisories, require_signatures, .. } = self;
        let state = state_folder(state)?;
        let cache = folder_or(cache, "/var/cache/hotcell", ".cache/hotcell")?;
        let uids = registry.clone();
        let (programs, cache, platform, identity, groups) = blocking(move || {
            let groups = groups(cgroup.as_deref())?;
            let platform = Platform { cgroups: groups.controllers(), ..platform()? };
            let identity = compiler_identity(platform.root, &uids)?;
            let cache = Cache::open(&cache, cache_bound)?;
            Ok((Programs::find(worker.as_deref())?, cache, platform, identity, Arc::new(groups)))
        })
        .await?;
        let folder = programs.folder.clone();
        let (launcher, buried) = Launcher::start(programs).await?;
        let (reporter, wrecks) = Reporter::new();
        let gate = Arc::new(Gate { state: state.clone(), required: require_signatures, profiles });
        let surroundings = Surroundings {
            launcher,
            events: EventSender::new(events),
            places: Arc::new(Places::new(state)),
            budget: Budget::new(budget),
            groups,
            reporter,
        };
        let compilers = Compilers::new(cache, platform.clone(), identity, folder, compile_time);
        Ok(Host::from_parts(Parts {
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
        }))
    }
}

fn groups(named: Option<&Path>) -> Result<Groups, Error> {
    let places = match named {
        Some(folder) => given(folder)
            .map_err(|source| Error::io(format!("use the cgroup {}", folder.display()), source))?,
        None => own(),
    };
    Groups::new(places).map_err(|source| Error::io("find the start time of this process", source))
}

fn compiler_identity(root: bool, registry: &Registry) -> Result<Option<Identity>, Error> {
    if root { registry.identity(COMPILER).map(Some) } else { Ok(None) }
}

fn state_folder(named: Option<PathBuf>) -> Result<PathBuf, Error> {
    folder_or(named, "/var/lib/hotcell", ".local/state/hotcell")
}

/// The folder that the application names, else the system's for root, else one in the home folder.
fn folder_or(named: Option<PathBuf>, system: &str, home: &str) -> Result<PathBuf, Error> {
    if let Some(named) = named {
        return std::path::absolute(&named)
            .map_err(|source| Error::io(format!("find {}", named.display()), source));
    }
    if rustix::process::geteuid().is_root() {
        return Ok(Path::new(system).to_owned());
    }
    let found = std::env::home_dir().filter(|folder| folder.is_absolute());
    found.map(|folder| folder.join(home)).ok_or_else(|| {
        let kind = std::io::ErrorKind::NotFound;
        Error::io("find the home folder; name state_dir and cache_dir instead", kind.into())
    })
}
