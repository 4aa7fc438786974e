//! What a host holds of the system: descriptors, threads, children, shared mappings.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// Counts that must be the same before and after whatever a plugin did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Open descriptors of this process.
    pub descriptors: usize,
    /// Its threads.
    pub threads: usize,
    /// Its descendants, zombies included.
    pub descendants: usize,
    /// Its mappings that are shared or backed by a memfd.
    pub shared_mappings: usize,
}

/// How long a footprint may take to come back: killing and reaping are not instantaneous.
const SETTLE: Duration = Duration::from_secs(20);

impl Footprint {
    /// Reads the counts of this process.
    pub fn now() -> Footprint {
        let maps = fs::read_to_string("/proc/self/maps").expect("maps are readable");
        let shared = |line: &&str| {
            line.split_whitespace().nth(1).is_some_and(|rights| rights.ends_with('s'))
                || line.contains("memfd:")
        };
        Footprint {
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
            descendants: descendants(std::process::id()).len(),
            shared_mappings: maps.lines().filter(shared).count(),
        }
    }

    /// Whether nothing was added. Fewer is right too: a runtime ends threads of its own that have nothing to do.
    pub fn covers(self, later: Footprint) -> bool {
        later.descriptors <= self.descriptors
            && later.threads <= self.threads
            && later.descendants <= self.descendants
            && later.shared_mappings <= self.shared_mappings
    }

    /// Waits until the footprint is no larger than this one; panics with both if it stays so.
    pub fn must_return(self) {
        let now = self.settled();
        assert!(self.covers(now), "the footprint was {self:?} and is {now:?}");
    }

    /// The footprint once it is no larger than this one; the last one if it stays larger. Blocks.
    pub fn settled(self) -> Footprint {
        let deadline = Instant::now() + SETTLE;
        loop {
            let now = Footprint::now();
            if self.covers(now) || Instant::now() >= deadline {
                return now;
            }
            std::thread::yield_now();
        }
    }
}

fn entries(folder: &str) -> usize {
    fs::read_dir(folder).expect("own /proc entries are readable").count()
}

/// Process ids of every descendant of a process, from `/proc/*/stat`.
pub fn descendants(of: u32) -> Vec<u32> {
    let parents: BTreeMap<u32, u32> = fs::read_dir("/proc")
        .expect("/proc is readable")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let is_descendant = |pid: &u32| {
        let mut ancestor = parents.get(pid);
        // A chain is never longer than the number of processes, even if one ends and its number is used again.
        for _ in 0..parents.len() {
            match ancestor {
                Some(parent) if *parent == of => return true,
                Some(parent) => ancestor = parents.get(parent),
                None => return false,
            }
        }
        false
    };
    parents.keys().copied().filter(is_descendant).collect()
}

/// The parent of a process; the name in the second field may hold anything, so parsing starts behind its parenthesis.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
