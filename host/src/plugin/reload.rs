//! What is asked of a hot reload, and what comes of it.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::oneshot;

use super::Plugin;
use super::steward::Order;
use crate::class::Class;
use crate::error::{CallError, Error};
use crate::exit::Exit;
use crate::text::escape;

/// How a plugin is reloaded.
#[derive(Clone, Debug)]
pub struct ReloadOptions {
    /// The package of the new version; `None` for the path that the plugin was loaded from.
    pub path: Option<PathBuf>,
    /// How long the old version may take to end the calls that it has and to save its state. Calls that come meanwhile wait.
    pub drain: Duration,
    /// How long the old version waits beside the new one, to be put back if that crashes, is killed at a deadline, or is not
    /// healthy at the end. Zero ends the old version at once.
    pub probation: Duration,
    /// The share of its calls to which the new version may return errors during its probation, once it has replied to twenty;
    /// more puts the old one back. 1 for no bound.
    pub max_error_rate: f64,
    /// What happens where the new version does not take the state of the old one.
    pub on_incompatible_state: IncompatibleState,
    /// Whether the new version may do what the old one may not.
    pub may_widen: bool,
    /// Whether a signed version may be older than one that was seen.
    pub may_go_back: bool,
    /// Whether a version that was rolled back before may be tried again.
    pub retry: bool,
    /// Goes as far as the new version having taken over the state, and then lets the old one go on.
    pub check_only: bool,
}

/// What happens where a new version does not take the state of the old one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncompatibleState {
    /// The reload fails, and the old version goes on.
    #[default]
    Refuse,
    /// The new version starts without it.
    Drop,
}

impl Default for ReloadOptions {
    fn default() -> ReloadOptions {
        ReloadOptions {
            path: None,
            drain: Duration::from_secs(1),
            probation: Duration::from_secs(5),
            max_error_rate: 0.5,
            on_incompatible_state: IncompatibleState::Refuse,
            may_widen: false,
            may_go_back: false,
            retry: false,
            check_only: false,
        }
    }
}

/// A reload that went well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// The version of the manifest before.
    pub from: String,
    /// The version of the manifest now.
    pub to: String,
    /// What became of the state of each of the plugin's workers.
    pub states: Vec<StateMove>,
}

/// What became of the state of one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateMove {
    /// The old version saves none, or no worker of it was there.
    None,
    /// The new version has taken this many bytes.
    Kept(usize),
    /// The new version did not take it, and started without.
    Dropped(String),
}

/// Why a plugin was not reloaded. The version that it had goes on, with its state.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The new version cannot be read, is not granted what it asks for, or does not start.
    #[error("the new version does not start: {0}")]
    Start(Error),
    /// It is another plugin, or differs in what only a new load can change.
    #[error("the new version differs in its {0}; unload the plugin and load the new one")]
    Differs(&'static str),
    /// It may do more than the old one, and nobody has approved that.
    #[error("the new version may do more: {}; `may_widen` approves it", .0.join(", "))]
    Widens(Vec<String>),
    /// Plugins that are loaded need another version of it.
    #[error("the new version does not suit plugins that need it: {}", .0.join(", "))]
    Breaks(Vec<String>),
    /// It was rolled back before.
    #[error("this version was rolled back before; `retry` tries it again")]
    FailedBefore,
    /// It says that it cannot serve.
    #[error("the new version is not healthy: {0}")]
    Unhealthy(CallError),
    /// A worker of it ended while it was asked for its health or given the state.
    #[error("the new version {0}")]
    Ended(Exit),
    /// The old version did not save its state in time, or not at all.
    #[error("the old version did not save its state: {0}")]
    NotSaved(CallError),
    /// The new version does not take the state.
    #[error("the new version does not take the state: {0}")]
    NotTaken(CallError),
    /// A worker could not be exchanged: it was busy, or ended meanwhile.
    #[error("a worker could not be exchanged: it had no quiet moment")]
    Busy,
    /// The host was shut down, or the plugin unloaded.
    #[error("the host was shut down")]
    Shutdown,
}

/// Why a state was not kept.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The plugin was loaded without checkpoints.
    #[error("the plugin was loaded without checkpoints: LoadOptions::checkpoint")]
    Off,
    /// The plugin did not save it.
    #[error("the plugin did not save its state: {0}")]
    NotSaved(CallError),
    /// It could not be written.
    #[error(transparent)]
    Disk(Error),
    /// The host was shut down, or the plugin unloaded.
    #[error("the host was shut down")]
    Shutdown,
}

/// Why a plugin was not configured. The configuration that it had stays.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// A command gets its configuration with each run, or it is too large.
    #[error("{0}")]
    Unfit(String),
    /// The plugin has no function for it, refuses it, or did not take it in time.
    #[error("the plugin does not take the configuration: {0}")]
    NotTaken(CallError),
    /// The host was shut down, or the plugin unloaded.
    #[error("the host was shut down")]
    Shutdown,
}

impl ReloadError {
    /// What it means to whoever asked.
    pub fn class(&self) -> Class {
        match self {
            ReloadError::Start(error) => error.class(),
            ReloadError::Differs(_) => Class::Invalid,
            ReloadError::Widens(_) | ReloadError::Breaks(_) | ReloadError::FailedBefore => Class::Refused,
            ReloadError::Unhealthy(error) | ReloadError::NotSaved(error) | ReloadError::NotTaken(error) => {
                error.class()
            }
            ReloadError::Ended(exit) => exit.class(),
            ReloadError::Busy => Class::Deadline,
            ReloadError::Shutdown => Class::Interrupted,
        }
    }
}

impl std::fmt::Display for StateMove {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StateMove::None => f.write_str("no state"),
            StateMove::Kept(bytes) => write!(f, "{bytes} bytes of state"),
            StateMove::Dropped(why) => write!(f, "state dropped: {}", escape(why.as_bytes())),
        }
    }
}

impl Plugin {
    /// Replaces the plugin by what its path holds now: see [`Plugin::reload_with`].
    ///
    /// # Errors
    /// As [`Plugin::reload_with`].
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        self.reload_with(ReloadOptions::default()).await
    }

    /// Replaces the plugin by another version, without losing a call or its state.
    ///
    /// The new version starts beside the old one, is confined, and says that it is healthy. Then calls wait, the old version
    /// ends those that it has and saves its state (`state_save`), the new one takes it (`state_load`, with the
    /// `state_version` of the old manifest), and the calls go on there. Until the probation is over, the old version waits
    /// as it was: if the new one crashes, the calls that the crashed worker ran end as crashed, and all others go on in the
    /// old version; what the state became meanwhile is lost. Dropping the future does not stop a reload.
    ///
    /// A command has no state: its next run is one of the new version.
    ///
    /// # Errors
    /// Whatever fails before calls go on in the new version; they go on in the old one then.
    pub async fn reload_with(&self, options: ReloadOptions) -> Result<Reloaded, ReloadError> {
        let (done, result) = oneshot::channel();
        let order = Order::Reload(Box::new(options), done);
        self.inner.orders.send(order).map_err(|_| ReloadError::Shutdown)?;
        result.await.unwrap_or(Err(ReloadError::Shutdown))
    }

    /// Keeps the state of each worker, on the disk: a worker that replaces one that crashed takes it over, and so does a
    /// plugin of this id that is loaded later with checkpoints. Returns the bytes of state.
    ///
    /// # Errors
    /// The plugin was loaded without checkpoints or does not save its state, or the disk is full. The states that were kept
    /// before stay.
    pub async fn checkpoint(&self) -> Result<usize, CheckpointError> {
        let (done, result) = oneshot::channel();
        self.inner.orders.send(Order::Checkpoint(done)).map_err(|_| CheckpointError::Shutdown)?;
        result.await.unwrap_or(Err(CheckpointError::Shutdown))
    }

    /// Gives the running plugin another configuration, through its `configure` function: no restart, no lost state. Workers
    /// that are started later get it, too, those of later versions included. Each worker takes it between two calls.
    ///
    /// # Errors
    /// It is larger than [`Manifest::CONFIG_MAX`](hotcell_policy::Manifest::CONFIG_MAX), or a worker does not take it; those
    /// that had taken it are given the one before again.
    pub async fn configure(&self, config: &serde_json::Value) -> Result<(), ConfigureError> {
        let (done, result) = oneshot::channel();
        let order = Order::Configure(config.to_string(), done);
        self.inner.orders.send(order).map_err(|_| ConfigureError::Shutdown)?;
        result.await.unwrap_or(Err(ConfigureError::Shutdown))
    }
}
