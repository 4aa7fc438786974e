//! Runs the plugin that an author works on in a real confined worker, from `cargo test`.
//!
//! ```no_run
//! use hotcell_test::Trial;
//! use serde_json::{Value, json};
//!
//! let plugin = Trial::of("package").host_call("storage.get", |_key| Ok(b"42".to_vec())).start()?;
//! let reply: Value = plugin.call("greet", &json!({ "name": "Ada" }))?;
//! assert_eq!(reply, json!({ "greeting": "Hello, Ada!" }));
//! assert_eq!(plugin.host_calls(), ["storage.get"]);
//! plugin.assert_no_violations();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The sandbox is the one that users get: what a test of this crate may do, the plugin may. Host calls are answered by the
//! test's own functions, and only those that the manifest requests and the profile grants reach them. Build the plugin first
//! (`hotcell plugin build`): nothing here does.

#![forbid(unsafe_code)]

mod folder;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hotcell::policy::Profile;
use hotcell::{
    CallError, Checkpoint, Error, Event, EventKind, Events, Exit, Host, HostBuilder, LoadOptions, Plugin,
    ReloadError, ReloadOptions, Reloaded, Violation,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::runtime::Runtime;

use folder::Folder;

/// The command beside which hotcell's programs lie.
const COMMAND: &str = "hotcell";

/// What is to be tried, and with what around it.
#[derive(Debug)]
#[must_use = "nothing runs until `start`"]
pub struct Trial {
    package: PathBuf,
    builder: HostBuilder,
    programs: Option<PathBuf>,
    config: Option<serde_json::Value>,
    asked: Asked,
}

/// The host calls that reached the test's functions.
type Asked = Arc<Mutex<Vec<String>>>;

/// A plugin that runs in a confined worker, and what it has met so far. Ends with all that it has left, when it is dropped.
#[derive(Debug)]
pub struct TrialPlugin {
    plugin: Option<Plugin>,
    host: Option<Host>,
    runtime: Runtime,
    seen: Mutex<Seen>,
    asked: Asked,
    _folder: Folder,
}

#[derive(Debug)]
struct Seen {
    events: Events,
    violations: Vec<Violation>,
    exits: Vec<Exit>,
}

impl Trial {
    /// A package: a folder with `manifest.json` and the artifact, or an `.lbplugin` file.
    pub fn of(package: impl Into<PathBuf>) -> Trial {
        Trial {
            package: package.into(),
            builder: Host::builder(),
            programs: None,
            config: None,
            asked: Asked::default(),
        }
    }

    /// Where hotcell's programs are. Default: beside the `hotcell` that PATH finds. (Applications never ask PATH; here it is as
    /// trusted as the compiler that it finds.)
    pub fn programs(mut self, folder: impl Into<PathBuf>) -> Trial {
        self.programs = Some(folder.into());
        self
    }

    /// Adds a profile, for a plugin whose manifest names one of its own. `name` is its name, `text` its TOML.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn profile(mut self, name: &str, text: &str) -> Result<Trial, Error> {
        self.builder = self.builder.profile(Profile::parse(&format!("{name}.toml"), text)?);
        Ok(self)
    }

    /// Answers a host call, if the manifest requests it and the profile grants it. An error is the plugin's to handle.
    pub fn host_call<F>(mut self, name: &str, answer: F) -> Trial
    where
        F: Fn(&[u8]) -> Result<Vec<u8>, String> + Send + Sync + 'static,
    {
        let (asked, known, answer) = (Arc::clone(&self.asked), name.to_owned(), Arc::new(answer));
        self.builder = self.builder.host_call(name, move |_, input| {
            lock(&asked).push(known.clone());
            let answer = Arc::clone(&answer);
            async move { answer(&input) }
        });
        self
    }

    /// Replaces the manifest's `config`.
    pub fn config(mut self, config: serde_json::Value) -> Trial {
        self.config = Some(config);
        self
    }

    /// Starts it. Its state, data and uid are the test's own, and removed with it.
    ///
    /// # Errors
    /// As [`Host::load`](hotcell::Host::load); or hotcell's programs are not found.
    pub fn start(self) -> Result<TrialPlugin, Error> {
        let failed = |what: &str, source| Error::Io { what: what.to_owned(), source };
        let folder = Folder::new().map_err(|error| failed("make a folder for a test", error))?;
        let programs = match self.programs {
            Some(folder) => folder,
            None => beside_the_command().ok_or_else(|| {
                failed(
                    "find `hotcell` through PATH; name its folder with `programs`",
                    std::io::ErrorKind::NotFound.into(),
                )
            })?,
        };
        let builder = self
            .builder
            .worker(programs)
            .state_dir(folder.join("state"))
            .cache_dir(folder.join("cache"))
            .uid_registry(folder.join("uids"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| failed("start a runtime", error))?;
        let options =
            LoadOptions { config: self.config, checkpoint: Checkpoint::OnRequest, ..LoadOptions::default() };
        let (host, plugin, events) = runtime.block_on(async {
            let host = builder.build().await?;
            let events = host.events();
            let plugin = host.load_with(&self.package, options).await?;
            Ok::<_, Error>((host, plugin, events))
        })?;
        let seen = Mutex::new(Seen { events, violations: Vec::new(), exits: Vec::new() });
        Ok(TrialPlugin {
            plugin: Some(plugin),
            host: Some(host),
            runtime,
            seen,
            asked: self.asked,
            _folder: folder,
        })
    }
}

impl TrialPlugin {
    fn plugin(&self) -> &Plugin {
        match &self.plugin {
            Some(plugin) => plugin,
            // Taken by `drop` alone.
            None => unreachable!("it lives as long as its handle"),
        }
    }

    /// Calls an export with JSON. A plugin that crashes is replaced with the next call, as in an application.
    ///
    /// # Errors
    /// As [`Plugin::call`].
    pub fn call<I: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        export: &str,
        input: &I,
    ) -> Result<T, CallError> {
        let input = serde_json::to_vec(input).map_err(|error| CallError::BadInput(error.to_string()))?;
        serde_json::from_slice(&self.call_raw(export, input)?).map_err(CallError::Decode)
    }

    /// Calls an export with bytes as they are.
    ///
    /// # Errors
    /// As [`Plugin::call`].
    pub fn call_raw(&self, export: &str, input: impl Into<Vec<u8>>) -> Result<Vec<u8>, CallError> {
        self.runtime.block_on(self.plugin().call_raw(export, input.into()))
    }

    /// Puts another version in its place, with its state.
    ///
    /// # Errors
    /// Why the version that runs goes on.
    pub fn reload(&self, package: impl AsRef<Path>) -> Result<Reloaded, ReloadError> {
        let options = ReloadOptions { path: Some(package.as_ref().to_owned()), ..ReloadOptions::default() };
        self.runtime.block_on(self.plugin().reload_with(options))
    }

    /// Keeps its state, so that the worker that replaces one that crashes takes it over. Returns its bytes.
    ///
    /// # Errors
    /// The plugin does not save its state.
    pub fn checkpoint(&self) -> Result<usize, hotcell::CheckpointError> {
        self.runtime.block_on(self.plugin().checkpoint())
    }

    /// The host calls that reached the test's functions, in their order.
    pub fn host_calls(&self) -> Vec<String> {
        lock(&self.asked).clone()
    }

    /// What the sandbox has stopped so far. What Landlock alone refuses is not seen.
    pub fn violations(&self) -> Vec<Violation> {
        self.seen().violations.clone()
    }

    /// How workers have ended so far.
    pub fn exits(&self) -> Vec<Exit> {
        self.seen().exits.clone()
    }

    /// # Panics
    /// The sandbox has stopped something. The message says what would allow it.
    pub fn assert_no_violations(&self) {
        let violations: Vec<_> = self.violations().iter().map(ToString::to_string).collect();
        assert!(violations.is_empty(), "the sandbox refused:\n  {}", violations.join("\n  "));
    }

    /// # Panics
    /// The sandbox has not stopped this system call or host call.
    pub fn assert_violation(&self, act: &str) {
        let violations = self.violations();
        let acts = violations.iter().map(|violation| violation.act.as_str());
        let acts: Vec<_> = acts.map(|act| act.strip_prefix("host call ").unwrap_or(act)).collect();
        assert!(acts.contains(&act), "the sandbox did not refuse `{act}`; it refused: {acts:?}");
    }

    /// The same plugin, for what is not here.
    pub fn as_plugin(&self) -> &Plugin {
        self.plugin()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        let mut seen = lock(&self.seen);
        while let Some(Event { kind, .. }) = seen.events.try_next() {
            match kind {
                EventKind::Violation(violation) => seen.violations.push(violation),
                EventKind::Exited(exit) => seen.exits.push(exit),
                _ => {}
            }
        }
        seen
    }
}

impl Drop for TrialPlugin {
    fn drop(&mut self) {
        drop(self.plugin.take());
        if let Some(host) = self.host.take() {
            self.runtime.block_on(host.shutdown());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The folder of the `hotcell` that PATH finds.
fn beside_the_command() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found =
        std::env::split_paths(&path).map(|folder| folder.join(COMMAND)).find(|file| file.is_file())?;
    found.canonicalize().ok()?.parent().map(Path::to_owned)
}
