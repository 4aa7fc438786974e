//! On which processor a worker runs.
//!
//! A blocking wake-up across processors costs 40 to 80 us on virtual machines, on the same one 2 us. So a worker is moved
//! to the processor of whoever calls it, whenever that changes; a call that takes long sets it free again, so that a busy
//! plugin does not compete with its caller for one processor while others idle. A worker whose call takes so long also weighs
//! less than its host from then on: it must not take a processor that the host wants by looping. (Not before: the kernel would
//! switch to a heavier host at each reply, where a worker that weighs as much replies to a whole queue first.)
//!
//! The scheduler is asked by process number, since it knows no pidfd: the worker is known to live right before, and a
//! number is not used again before all others were. Nothing depends on success.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::process::{Pid, getpriority_process, setpriority_process};
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
    /// Its niceness (sched(7)) before it was raised.
    weighed: Option<i32>,
}

/// By how much the niceness of a worker is raised whose call takes long: against its host it gets a quarter of a processor.
const NICENESS: i32 = 5;

/// The highest that there is.
const NICENESS_MAX: i32 = 19;

/// Quick calls after one that was not, before the worker is moved to its caller again.
const TRUST: u32 = 8;

/// Calls at once from which caller and worker are better off on processors of their own.
const CROWD: usize = 4;

impl Placement {
    /// Of a worker with this number; `apart` keeps it away from its caller's processor instead.
    pub(crate) fn new(pid: u32, pidfd: Arc<Watch<OwnedFd>>, apart: bool) -> Placement {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        Placement { worker: pid.map(|pid| (pid, pidfd)), processor: None, quick: TRUST, apart, weighed: None }
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
            if let Some(before) = self.weighed {
                // Only root may: an ordinary user's worker stays as it is.
                self.weighed = self.weigh(before).is_none().then_some(before);
            }
        }
    }

    /// Whether a call that takes long changes anything.
    pub(crate) fn is_favoured(&self) -> bool {
        self.processor.is_some() || self.weighed.is_none()
    }

    /// Its call takes long: it may run anywhere, and weighs less than its host.
    pub(crate) fn takes_long(&mut self) {
        self.set_free();
        let Some((pid, _)) = &self.worker else { return };
        if self.weighed.is_none()
            && let Ok(before) = getpriority_process(Some(*pid))
        {
            self.weighed = Some(before);
            let _ = self.weigh((before + NICENESS).min(NICENESS_MAX));
        }
    }

    fn weigh(&self, niceness: i32) -> Option<()> {
        let (pid, pidfd) = self.worker.as_ref()?;
        if lives(pidfd.get_ref()) { setpriority_process(Some(*pid), niceness).ok() } else { None }
    }

    /// Lets the worker run anywhere: its call was not quick, or others wait behind it.
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
