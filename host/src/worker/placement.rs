//! On which processor a worker runs.
//!
//! A blocking wake-up across processors costs 40 to 80 us on virtual machines, on the same one 2 us. So a worker is moved
//! to the processor of whoever calls it, whenever that changes; a call that takes long sets it free again, so that a busy
//! plugin does not compete with its caller for one processor while others idle. Until then the scheduler shares it.
//!
//! The scheduler is asked by process number, since it knows no pidfd: the worker is known to live right before, and a
//! number is not used again before all others were. Nothing depends on success.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

use crate::sys::pidfd::lives;
use crate::sys::watch::Watch;

/// Where a worker may run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placement {
    worker: Option<(Pid, Arc<Watch<OwnedFd>>)>,
    processor: Option<usize>,
    /// Quick calls, one at a time, since the last time that it was otherwise.
    quick: u32,
    apart: bool,
}

/// Quick calls after one that was not, before the worker is moved to its caller again.
const TRUST: u32 = 8;

/// Calls at once from which caller and worker are better off on processors of their own.
const CROWD: usize = 4;

impl Placement {
    /// Of a worker with this number; `apart` keeps it away from its caller's processor instead.
    pub(crate) fn new(pid: u32, pidfd: Arc<Watch<OwnedFd>>, apart: bool) -> Placement {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        Placement { worker: pid.map(|pid| (pid, pidfd)), processor: None, quick: TRUST, apart }
    }

    /// The worker is about to be woken by the calling thread, and has `depth` calls: moves it to this thread's processor if
    /// its calls are quick and come one at a time.
    pub(crate) fn wake(&mut self, depth: usize) {
        if depth >= CROWD && !self.apart {
            self.set_free();
        }
        if self.quick < TRUST {
            return;
        }
        let here = sched_getcpu();
        if self.processor != Some(here) {
            self.processor = Some(here);
            self.allow(|processor| (processor == here) != self.apart);
        }
    }

    /// Whether it was moved, and not set free since.
    pub(crate) fn is_held(&self) -> bool {
        self.processor.is_some()
    }

    /// Lets the worker run anywhere: its call takes long, or others wait behind it.
    pub(crate) fn set_free(&mut self) {
        self.quick = 0;
        if self.processor.take().is_some() {
            self.allow(|_| true);
        }
    }

    /// Counts a call that was quick, and the worker's only one.
    pub(crate) fn was_quick(&mut self) {
        self.quick = self.quick.saturating_add(1);
    }

    fn allow(&self, allowed: impl Fn(usize) -> bool) {
        let Some((pid, pidfd)) = &self.worker else { return };
        let mut set = CpuSet::new();
        (0..CpuSet::MAX_CPU).filter(|processor| allowed(*processor)).for_each(|processor| set.set(processor));
        if lives(pidfd.get_ref()) {
            // Refused where the only processor is not one of this cpuset: the worker stays where it is.
            let _ = sched_setaffinity(Some(*pid), &set);
        }
    }
}
