//! A host with folders of its own, for each test.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::{Mutex, MutexGuard, PoisonError};

use hotcell::{Host, Plugin};
use hotcell_tests::{Folders, fixture, package};

/// A host and its folders, which are removed with it.
pub(crate) struct Setup {
    pub(crate) host: Host,
    pub(crate) folders: Folders,
}

impl Setup {
    pub(crate) async fn new() -> Setup {
        let folders = Folders::new();
        let host = fixture::host(&folders).build().await.expect("a host starts");
        Setup { host, folders }
    }

    pub(crate) async fn load(&self, name: &str) -> Plugin {
        match self.host.load(package(name)).await {
            Ok(plugin) => plugin,
            Err(error) => panic!("{name} must load: {error}"),
        }
    }
}

/// One at a time: tests that count what this process holds, or that need the machine's attention.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A runtime for a test that holds a guard across it.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts")
}
