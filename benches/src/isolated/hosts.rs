//! The hosts of one run, one for each interface, started when first asked for.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use hotcell::policy::Profile;
use hotcell::{Host, HostBuilder, Plugin, blocking};
use tokio::runtime::Runtime;

use super::folder::Folder;
use super::host_call::Arrivals;
use super::layers;
use crate::failure::Failure;
use crate::report::Layers;
use crate::runtimes::Runtimes;

/// The hosts of one run.
pub(crate) struct Hosts {
    worker_dir: Option<PathBuf>,
    runtimes: Rc<Runtimes>,
    profiles: Vec<Profile>,
    arrivals: Arrivals,
    folder: RefCell<Option<Folder>>,
    one_thread: RefCell<Option<Host>>,
    many_threads: RefCell<Option<Host>>,
    blocking: RefCell<Option<blocking::Host>>,
    more: Cell<u32>,
    layers: RefCell<Vec<Layers>>,
}

/// An asynchronous host and the runtime that drives it.
pub(crate) struct Driven {
    pub(crate) host: Host,
    pub(crate) runtime: Arc<Runtime>,
}

impl Hosts {
    /// Starts nothing yet.
    pub(crate) fn new(worker_dir: Option<PathBuf>, runtimes: Rc<Runtimes>) -> Result<Hosts, Failure> {
        Ok(Hosts {
            worker_dir,
            runtimes,
            profiles: profiles()?,
            arrivals: Arrivals::default(),
            folder: RefCell::default(),
            one_thread: RefCell::default(),
            many_threads: RefCell::default(),
            blocking: RefCell::default(),
            more: Cell::default(),
            layers: RefCell::default(),
        })
    }

    /// The same in a folder that somebody else removes.
    pub(super) fn within(
        folder: PathBuf,
        worker_dir: Option<PathBuf>,
        runtimes: Rc<Runtimes>,
    ) -> Result<Hosts, Failure> {
        let hosts = Hosts::new(worker_dir, runtimes)?;
        hosts.folder.replace(Some(Folder::Lent(folder)));
        Ok(hosts)
    }

    /// Where hotcell's programs lie, if not beside this one.
    pub(super) fn worker_dir(&self) -> Option<&Path> {
        self.worker_dir.as_deref()
    }

    /// The host whose runtime has one thread.
    pub(crate) fn one_thread(&self) -> Result<Driven, Failure> {
        self.driven(&self.one_thread, "one-thread", self.runtimes.one_thread()?)
    }

    /// The host whose runtime has many threads.
    pub(super) fn many_threads(&self) -> Result<Driven, Failure> {
        self.driven(&self.many_threads, "many-threads", self.runtimes.many_threads()?)
    }

    /// The host without a runtime of the caller's.
    pub(crate) fn blocking(&self) -> Result<blocking::Host, Failure> {
        let mut slot = self.blocking.borrow_mut();
        if let Some(host) = &*slot {
            return Ok(host.clone());
        }
        Ok(slot.insert(self.builder("blocking")?.build_blocking()?).clone())
    }

    /// A folder of this run.
    pub(crate) fn folder(&self) -> Result<PathBuf, Failure> {
        let mut slot = self.folder.borrow_mut();
        if let Some(folder) = &*slot {
            return Ok(folder.path().to_owned());
        }
        Ok(slot.insert(Folder::make()?).path().to_owned())
    }

    /// Keeps what confines a plugin's worker, once for each plugin; returns it in short.
    pub(crate) fn note_layers(&self, plugin: &Plugin) -> String {
        layers::note(&mut self.layers.borrow_mut(), plugin)
    }

    /// When host calls of plugins arrived.
    pub(super) fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    /// Sets up one more host, driven by the runtime of one thread.
    pub(crate) fn one_more(&self) -> Result<(HostBuilder, Arc<Runtime>), Failure> {
        Ok((
            self.builder(&format!("host-{}", self.more.replace(self.more.get() + 1)))?,
            self.runtimes.one_thread()?,
        ))
    }

    /// Ends all hosts and their processes; returns what confined the workers.
    pub(crate) fn close(&self) -> Vec<Layers> {
        let pairs = [
            (self.one_thread.take(), self.runtimes.one_thread()),
            (self.many_threads.take(), self.runtimes.many_threads()),
        ];
        for (host, runtime) in pairs {
            if let (Some(host), Ok(runtime)) = (host, runtime) {
                runtime.block_on(host.shutdown());
            }
        }
        if let Some(host) = self.blocking.take() {
            host.shutdown();
        }
        self.folder.take();
        self.layers.take()
    }

    fn driven(
        &self,
        slot: &RefCell<Option<Host>>,
        name: &str,
        runtime: Arc<Runtime>,
    ) -> Result<Driven, Failure> {
        let mut slot = slot.borrow_mut();
        let host = match &*slot {
            Some(host) => host.clone(),
            None => slot.insert(runtime.block_on(self.builder(name)?.build())?).clone(),
        };
        Ok(Driven { host, runtime })
    }

    /// A host with folders and uids of its own, so that no figure depends on what the machine has kept.
    fn builder(&self, name: &str) -> Result<HostBuilder, Failure> {
        let folder = self.folder()?;
        let own = folder.join(name);
        let mut builder = Host::builder()
            .state_dir(own.join("state"))
            .cache_dir(own.join("cache"))
            .uid_registry(folder.join("uids"));
        for profile in &self.profiles {
            builder = builder.profile(profile.clone());
        }
        builder = self.arrivals.register(builder);
        Ok(match &self.worker_dir {
            Some(folder) => builder.worker(absolute(folder)?),
            None => builder,
        })
    }
}

/// Shipped profiles with what some rows need beside: a host call and more calls outstanding, or the other kind of launch.
fn profiles() -> Result<Vec<Profile>, Failure> {
    let texts: [(&str, &str); 6] = [
        ("bench-core.toml", include_str!("../../profiles/bench-core.toml")),
        ("bench-native.toml", include_str!("../../profiles/bench-native.toml")),
        ("bench-core-executed.toml", include_str!("../../profiles/bench-core-executed.toml")),
        ("bench-core-grouped.toml", include_str!("../../profiles/bench-core-grouped.toml")),
        ("bench-core-hidden.toml", include_str!("../../profiles/bench-core-hidden.toml")),
        ("bench-native-forked.toml", include_str!("../../profiles/bench-native-forked.toml")),
    ];
    let parse = |(file, text): (&str, &str)| {
        Profile::parse(file, text).map_err(|error| Failure::other(error.to_string()))
    };
    texts.into_iter().map(parse).collect()
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|source| Failure::io(format!("find {}", path.display()), source))
}
