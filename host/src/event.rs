//! What a host tells its application while plugins live.

use std::net::SocketAddr;

use serde::Serialize;
use tokio::sync::broadcast;

use crate::exit::Exit;
use crate::violation::Violation;

/// Something happened to a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The plugin's id.
    pub plugin: String,
    /// The incarnation of the plugin, from 1.
    pub generation: u32,
    /// What happened.
    pub kind: EventKind,
}

/// The kinds of event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The package was read, planned and, where it is wasm, compiled.
    Loaded,
    /// A worker is confined and answers calls.
    Ready,
    /// A call ended in another way than with a reply.
    CallFailed {
        /// The export.
        export: String,
        /// The outcome, in words.
        outcome: String,
    },
    /// The sandbox stopped an act. At most 16 are told per worker; all are counted in its [`Exit`].
    Violation(Violation),
    /// The host has connected for the plugin.
    Connected {
        /// The address as the plugin asked for it.
        address: String,
        /// Where it led.
        peer: SocketAddr,
    },
    /// A worker got what the host listens with for the plugin.
    Listening {
        /// Where.
        address: SocketAddr,
    },
    /// A worker ended.
    Exited(Exit),
    /// A fresh worker replaces one that ended.
    Restarted,
    /// The plugin took another configuration.
    Configured,
    /// A worker did not take a configuration: the one before, back from one that another worker refused, or the present one,
    /// when its version was put back.
    ConfigureFailed {
        /// Why.
        reason: String,
    },
    /// A worker took over the state that was kept of the one before.
    StateRestored {
        /// Its size.
        bytes: usize,
    },
    /// What is known of a worker that ended abnormally was written down.
    CrashReported {
        /// The report's name, for [`Crashes::find`](crate::Crashes::find).
        id: String,
        /// What happened, in a line.
        title: String,
    },
    /// A worker did not take over a state that was kept, or ended when it was given: that state is forgotten.
    StateRefused {
        /// Why.
        reason: String,
    },
    /// A state was not kept when it should have been. The one that was kept before stays.
    CheckpointFailed {
        /// Why.
        reason: String,
    },
    /// A worker said that it cannot serve, and was ended.
    Unhealthy {
        /// In its words.
        reason: String,
    },
    /// Nobody has called the plugin for a while: its workers were ended, and the next call starts one.
    Idle,
    /// The plugin crashed or failed to start too often: calls are refused for a while, or until it is reloaded.
    Quarantined {
        /// What happened.
        reason: String,
    },
    /// Another version has taken the plugin's place.
    Reloaded {
        /// The version before.
        from: String,
        /// The version now.
        to: String,
        /// What became of the state of each worker.
        state: String,
    },
    /// A reload failed; the plugin goes on as it was.
    ReloadFailed {
        /// Why.
        reason: String,
    },
    /// A new version failed on probation, and the one before it came back with its state.
    RolledBack {
        /// The version that is back.
        to: String,
        /// What the new one did.
        reason: String,
    },
}

/// A stream of events. A slow reader loses the oldest, never blocks a plugin.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
    lost: u64,
}

impl Events {
    /// The next event, or `None` when the host is gone. Safe to cancel.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(count)) => self.lost += count,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// The next event that has happened already, if any.
    pub fn try_next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.try_recv() {
                Ok(event) => return Some(event),
                Err(broadcast::error::TryRecvError::Lagged(count)) => self.lost += count,
                Err(_) => return None,
            }
        }
    }

    /// How many events this reader was too slow for.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

/// Where a plugin's parts report.
#[derive(Clone, Debug)]
pub(crate) struct EventSender {
    sender: broadcast::Sender<Event>,
}

impl EventSender {
    pub(crate) fn new(capacity: usize) -> EventSender {
        EventSender { sender: broadcast::channel(capacity.max(1)).0 }
    }

    pub(crate) fn subscribe(&self) -> Events {
        Events { receiver: self.sender.subscribe(), lost: 0 }
    }

    pub(crate) fn send(&self, plugin: &str, generation: u32, kind: EventKind) {
        // Nobody listens: nothing to tell.
        let _ = self.sender.send(Event { plugin: plugin.to_owned(), generation, kind });
    }
}
