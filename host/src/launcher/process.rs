//! One worker process: kill it, and learn how it ended. Only ever by pidfd, never by number.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use hotcell_protocol::{Usage, WaitStatus, WorkerId};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use tokio::io::Interest;
use tokio::sync::oneshot;

use super::link::Launcher;
use crate::sys::watch::Watch;
use crate::sys::{pidfd, probe};

/// How long the launcher may take to reap a process that has ended.
const REAP_TIME: Duration = Duration::from_secs(2);

/// How often the kernel is asked for the status of a process that somebody else will reap, and how long between.
const ASKS: (u32, Duration) = (20, Duration::from_millis(10));

/// How a process ended and what it used, as far as anybody can tell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct End {
    pub(crate) status: Option<WaitStatus>,
    pub(crate) usage: Usage,
}

/// A process that the launcher has started. Dropping it kills the process, wherever it is on its way to its owner.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) pid: u32,
    pub(super) pidfd: Arc<Watch<OwnedFd>>,
    pub(super) report: oneshot::Receiver<End>,
}

impl Drop for Spawned {
    fn drop(&mut self) {
        Killer(Arc::clone(&self.pidfd)).kill();
    }
}

/// The host's handle to a worker process. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(super) worker: WorkerId,
    pub(super) spawned: Spawned,
    pub(super) launcher: Launcher,
}

/// Kills a process from elsewhere than where its end is awaited.
#[derive(Clone, Debug)]
pub(crate) struct Killer(Arc<Watch<OwnedFd>>);

impl Killer {
    /// Sends SIGKILL. A process that has ended already is none of our concern.
    pub(crate) fn kill(&self) {
        let _ = pidfd_send_signal(&self.0.get_ref().0, Signal::KILL);
    }

    /// Sends SIGABRT, which a process can block or survive.
    pub(crate) fn abort(&self) {
        let _ = pidfd_send_signal(&self.0.get_ref().0, Signal::ABORT);
    }
}

impl Process {
    /// A handle that can kill.
    pub(crate) fn killer(&self) -> Killer {
        Killer(Arc::clone(&self.spawned.pidfd))
    }

    /// Its number; only good while the pidfd says that the process lives.
    pub(crate) fn pid(&self) -> u32 {
        self.spawned.pid
    }

    fn pidfd(&self) -> BorrowedFd<'_> {
        self.spawned.pidfd.get_ref().0.as_fd()
    }

    /// The same, for whoever waits for its end elsewhere.
    pub(crate) fn shared_pidfd(&self) -> Arc<Watch<OwnedFd>> {
        Arc::clone(&self.spawned.pidfd)
    }

    /// Whether the process has not ended.
    pub(crate) fn lives(&self) -> bool {
        pidfd::lives(self.spawned.pidfd.get_ref())
    }

    /// Completes when the process has ended. Safe to cancel.
    pub(crate) async fn ended(&self) {
        // A pidfd becomes readable once and for ever; an error of the runtime means that nobody waits any more.
        let _ = self.spawned.pidfd.ready(Interest::READABLE).await;
    }

    /// How it ended, once it has.
    pub(crate) async fn end(mut self) -> End {
        match tokio::time::timeout(REAP_TIME, &mut self.spawned.report).await {
            Ok(Ok(end)) => end,
            // The launcher died first, so that nobody of ours is the parent.
            _ => End { status: self.ask_the_kernel().await, usage: Usage::default() },
        }
    }

    async fn ask_the_kernel(&self) -> Option<WaitStatus> {
        for _ in 0..ASKS.0 {
            if let Some(status) = self.reap().or_else(|| pidfd::exit_status(self.pidfd())) {
                return Some(status);
            }
            tokio::time::sleep(ASKS.1).await;
        }
        None
    }

    /// Reaps the orphan if this process inherited it (it is init, or a subreaper).
    fn reap(&self) -> Option<WaitStatus> {
        let options =
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::from_bits_retain(probe::wall());
        let status = waitid(WaitId::PidFd(self.pidfd()), options).ok()??;
        let code = status.exit_status().map(|code| WaitStatus::Exited { code });
        code.or_else(|| status.terminating_signal().map(|signal| WaitStatus::Signaled { signal }))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.launcher.forget(self.worker);
    }
}
