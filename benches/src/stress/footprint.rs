//! What this process holds, before and after a storm.

use std::fs;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::memory::private_bytes;

/// How long what was used may take to be given back.
const SETTLE: Duration = Duration::from_secs(10);

/// Memory that an allocator may keep, and that a storm of any length may cost once.
const SLACK: u64 = 32 << 20;

/// Counts of this process and those that it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Footprint {
    pub(super) descriptors: usize,
    pub(super) threads: usize,
    /// Descendants, as far as this kernel lists them.
    pub(super) processes: usize,
    pub(super) mappings: usize,
    /// Private memory, in bytes.
    pub(super) memory: u64,
}

impl Footprint {
    pub(super) fn now() -> Footprint {
        let entries = |folder: &str| fs::read_dir(folder).map_or(0, Iterator::count);
        Footprint {
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
            processes: descendants(std::process::id()),
            mappings: fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count()),
            memory: private(),
        }
    }

    /// The footprint as soon as it is no larger than this one, or what it is after a while.
    pub(super) fn settled(self) -> Footprint {
        let deadline = Instant::now() + SETTLE;
        loop {
            let now = Footprint::now();
            if self.covers(&now) || Instant::now() >= deadline {
                return now;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether nothing was added that a longer storm would add more of. A runtime's pool may have grown by a few threads
    /// with their stacks, and an allocator by a few arenas.
    pub(super) fn covers(&self, later: &Footprint) -> bool {
        const POOL: usize = 8;
        later.descriptors <= self.descriptors
            && later.threads <= self.threads + POOL
            && later.processes <= self.processes
            && later.mappings <= self.mappings + 4 * POOL
            && later.memory <= self.memory + SLACK
    }
}

fn private() -> u64 {
    i32::try_from(std::process::id()).map_or(0, |pid| private_bytes(pid).unwrap_or(0))
}

fn descendants(of: u32) -> usize {
    let Ok(threads) = fs::read_dir(format!("/proc/{of}/task")) else { return 0 };
    let children =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let pids: Vec<u32> = children
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    pids.iter().map(|pid| 1 + descendants(*pid)).sum()
}
