//! What a plugin is made of now. A reload puts another version in its place.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::broker::Broker;
use crate::host::Shared;
use crate::network::{Connector, Listeners, OpenListeners};
use crate::plugin::Peers;
use crate::prepare::Prepared;

/// A package at one time, with the host calls that its plan grants.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) prepared: Arc<Prepared>,
    pub(super) broker: Arc<Broker>,
    listeners: Listeners,
    /// A worker has said whether the exports are there that the manifest promises.
    pub(super) promises_checked: AtomicBool,
}

impl Version {
    /// `open` is what other versions of the plugin listen with.
    pub(super) fn new(shared: &Arc<Shared>, prepared: Arc<Prepared>, open: OpenListeners) -> Version {
        let listeners = Listeners::new(&prepared.plan.listens, open);
        let connector = Connector::new(&prepared.plan.connects, shared.directory.clone());
        let connector = connector.with_listeners(listeners.clone());
        let peers = Peers::new(shared, &prepared.manifest);
        let broker = shared.handlers.broker(&prepared.plan.orders.host_calls, Some(peers));
        let broker = broker.with_connections(connector).with_programs(prepared.programs.clone());
        Version { prepared, broker: Arc::new(broker), listeners, promises_checked: AtomicBool::new(false) }
    }

    /// What it and the plugin's other versions listen with.
    pub(super) fn open_listeners(&self) -> OpenListeners {
        self.listeners.open()
    }
}

/// The version from which workers are started, and by whose limits calls are made.
#[derive(Debug)]
pub(super) struct Current(RwLock<Arc<Version>>);

impl Current {
    pub(super) fn new(version: Version) -> Current {
        Current(RwLock::new(Arc::new(version)))
    }

    pub(super) fn get(&self) -> Arc<Version> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set(&self, version: Arc<Version>) {
        version.listeners.take_over();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = version;
    }
}

/// The configuration that the application gave the running plugin, in place of the one that it was loaded with.
#[derive(Debug, Default)]
pub(super) struct Config(Mutex<Option<String>>);

impl Config {
    pub(super) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the one before.
    pub(super) fn replace(&self, config: Option<String>) -> Option<String> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), config)
    }
}
