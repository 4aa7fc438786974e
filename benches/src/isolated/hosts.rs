//! The hosts of one run, one for each interface, started when first asked for.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use hotcell::{Host, HostBuilder, Plugin, blocking};
use tokio::runtime::Runtime;

use super::folder::Folder;
use super::layers;
use crate::args::Args;
use crate::failure::Failure;
use crate::report::Layers;
use crate::runtimes::Runtimes;

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

/// The hosts of one run.
pub(crate) struct Hosts {
    programs: Option<PathBuf>,
    runtimes: Rc<Runtimes>,
    folder: RefCell<Option<Folder>>,
    one_thread: RefCell<Option<Host>>,
    many_threads: RefCell<Option<Host>>,
    blocking: RefCell<Option<blocking::Host>>,
    more: Cell<u32>,
    layers: RefCell<Vec<Layers>>,
}

/// An asynchronous host and the runtime that drives it.
pub(super) struct Driven {
    pub(super) host: Host,
    pub(super) runtime: Arc<Runtime>,
}

impl Hosts {
    /// Starts nothing yet.
    pub(crate) fn new(args: &Args, runtimes: Rc<Runtimes>) -> Hosts {
        Hosts {
            programs: args.programs.clone(),
            runtimes,
            folder: RefCell::default(),
            one_thread: RefCell::default(),
            many_threads: RefCell::default(),
            blocking: RefCell::default(),
            more: Cell::default(),
            layers: RefCell::default(),
        }
    }

    /// The host whose runtime has one thread.
    pub(super) fn one_thread(&self) -> Result<Driven, Failure> {
        self.driven(&self.one_thread, "one-thread", self.runtimes.one_thread()?)
    }

    /// The host whose runtime has many threads.
    pub(super) fn many_threads(&self) -> Result<Driven, Failure> {
        self.driven(&self.many_threads, "many-threads", self.runtimes.many_threads()?)
    }

    /// The host without a runtime of the caller's.
    pub(super) fn blocking(&self) -> Result<blocking::Host, Failure> {
        let mut slot = self.blocking.borrow_mut();
        if let Some(host) = &*slot {
            return Ok(host.clone());
        }
        Ok(slot.insert(self.builder("blocking")?.build_blocking()?).clone())
    }

    /// A folder of this run.
    pub(super) fn folder(&self) -> Result<PathBuf, Failure> {
        let mut slot = self.folder.borrow_mut();
        if let Some(folder) = &*slot {
            return Ok(folder.path().to_owned());
        }
        Ok(slot.insert(Folder::make()?).path().to_owned())
    }

    /// Keeps what confines a plugin's worker, once for each plugin.
    pub(super) fn note_layers(&self, plugin: &Plugin) {
        layers::note(&mut self.layers.borrow_mut(), plugin);
    }

    /// Sets up one more host, driven by the runtime of one thread.
    pub(super) fn one_more(&self) -> Result<(HostBuilder, Arc<Runtime>), Failure> {
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
        let builder = Host::builder()
            .state_dir(own.join("state"))
            .cache_dir(own.join("cache"))
            .uid_registry(folder.join("uids"));
        Ok(match &self.programs {
            Some(programs) => builder.worker(absolute(programs)?),
            None => builder,
        })
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|source| Failure::io(format!("find {}", path.display()), source))
}
