//! How a worker wakes its host: two eventfds that it may write, and nothing that it could hold back.
//!
//! Neither is ever read: both are watched by edges, and a count that is full rings no more, which harms only the worker.
//! The end of the process is watched beside them.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hotcell_protocol::ring::Watcher;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use tokio::io::Interest;

use crate::sys::watch::{Watch, watch};

/// The host's ends of the two bells of a worker.
#[derive(Debug)]
pub(crate) struct Bells {
    first: Watch<OwnedFd>,
    second: OwnedFd,
    pidfd: OnceLock<Arc<Watch<OwnedFd>>>,
    /// Made for the first blocking caller.
    sleeper: OnceLock<OwnedFd>,
}

impl Bells {
    /// Makes two bells: `(the host's ends, the worker's)`.
    pub(crate) fn make() -> std::io::Result<(Bells, [OwnedFd; 2])> {
        let bell = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let (first, second) = (bell()?, bell()?);
        let worker = [first.try_clone()?, second.try_clone()?];
        let bells = Bells {
            first: watch(first, Interest::READABLE)?,
            second,
            pidfd: OnceLock::new(),
            sleeper: OnceLock::new(),
        };
        Ok((bells, worker))
    }

    /// Names the process whose end wakes a blocking caller, too.
    pub(crate) fn belong_to(&self, pidfd: Arc<Watch<OwnedFd>>) {
        // Said once, when the process was started.
        let _ = self.pidfd.set(pidfd);
    }

    /// Completes when the first bell has rung since the last time. Safe to cancel.
    pub(crate) async fn rung(&self) {
        // An error of the runtime means that nobody waits any more.
        if let Ok(mut guard) = self.first.readable().await {
            guard.clear_ready();
        }
    }

    /// Sleeps for at most `most`, until the second bell rings, the process has ended, or earlier. Looks for `spin` first.
    pub(crate) fn sleep(
        &self,
        spin: Duration,
        most: Duration,
        watcher: impl FnOnce() -> Option<Watcher>,
    ) -> Result<(), Errno> {
        if !spin.is_zero() && watcher().is_some_and(|watcher| stirs_within(&watcher, spin)) {
            return Ok(());
        }
        let sleeper = match self.sleeper.get() {
            Some(sleeper) => sleeper,
            None => {
                let made = self.make_sleeper()?;
                self.sleeper.get_or_init(|| made)
            }
        };
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 2];
        let most = Timespec::try_from(most).ok();
        match epoll::wait(sleeper, &mut events, most.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn make_sleeper(&self) -> Result<OwnedFd, Errno> {
        let sleeper = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let edge = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&sleeper, &self.second, epoll::EventData::new_u64(0), edge)?;
        if let Some(pidfd) = self.pidfd.get() {
            // Not an edge: who comes later must not sleep beside a dead worker.
            epoll::add(
                &sleeper,
                pidfd.get_ref().0.as_fd(),
                epoll::EventData::new_u64(1),
                epoll::EventFlags::IN,
            )?;
        }
        Ok(sleeper)
    }
}

/// Looks for something new for at most `spin`.
pub(crate) fn stirs_within(watcher: &Watcher, spin: Duration) -> bool {
    let until = Instant::now() + spin;
    loop {
        if watcher.stirs() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::hint::spin_loop();
    }
}
