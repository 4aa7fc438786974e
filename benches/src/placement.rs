//! Where processes run: this one and everything that it started, workers included.
//!
//! Affinity is set from outside, thread by thread, because a hotcell worker does not take it over from its host.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::failure::Failure;

/// Which processors the two ends of a measurement may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Placement {
    /// Both ends on one and the same.
    OneCore,
    /// The caller on one, the other end on another.
    TwoCores,
    /// Wherever the kernel puts them.
    Unpinned,
}

impl Placement {
    /// All, in the order of the report.
    pub(crate) const ALL: [Placement; 3] = [Placement::OneCore, Placement::TwoCores, Placement::Unpinned];

    /// Its name in tables and ids.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Placement::OneCore => "one core",
            Placement::TwoCores => "two cores",
            Placement::Unpinned => "unpinned",
        }
    }
}

/// The processors that this program was allowed to use when it started.
pub(crate) struct Processors {
    all: CpuSet,
    one: CpuSet,
    /// Where there is a second one.
    other: Option<CpuSet>,
    /// Children that are callers themselves.
    callers: RefCell<Vec<i32>>,
}

impl Processors {
    /// Asks the kernel.
    pub(crate) fn allowed() -> Result<Processors, Failure> {
        let all = sched_getaffinity(None).map_err(|errno| Failure::io("read the affinity", errno.into()))?;
        // From the last on: the first is where most interrupts go.
        let mut set = (0..CpuSet::MAX_CPU).rev().filter(|cpu| all.is_set(*cpu)).map(|cpu| {
            let mut set = CpuSet::new();
            set.set(cpu);
            set
        });
        let one = set.next().unwrap_or_default();
        let other = set.next();
        Ok(Processors { all, one, other, callers: RefCell::default() })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.all.count()
    }

    /// Treats a child as this process where caller and other end are told apart.
    pub(crate) fn add_caller(&self, process: i32) {
        self.callers.borrow_mut().push(process);
    }

    /// Moves every thread of this process and of its descendants.
    pub(crate) fn place(&self, placement: Placement) -> Result<(), Failure> {
        let (callers, others) = match (placement, &self.other) {
            (Placement::OneCore, _) => (&self.one, &self.one),
            (Placement::Unpinned, _) => (&self.all, &self.all),
            (Placement::TwoCores, Some(other)) => (&self.one, other),
            (Placement::TwoCores, None) => return Err(Failure::other("there is only one core")),
        };
        let me = own_pid();
        for process in descendants(me)?.into_iter().chain([me]) {
            let calls = process == me || self.callers.borrow().contains(&process);
            place_process(process, if calls { callers } else { others })?;
        }
        Ok(())
    }
}

/// The id of this process.
pub(crate) fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

fn place_process(process: i32, set: &CpuSet) -> Result<(), Failure> {
    let entries = match fs::read_dir(format!("/proc/{process}/task")) {
        // It has ended in the meantime.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => {
            other.map_err(|source| Failure::io(format!("list the threads of process {process}"), source))?
        }
    };
    for thread in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        match sched_setaffinity(Pid::from_raw(thread), set) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(Failure::io(format!("place process {process}"), errno.into())),
        }
    }
    Ok(())
}

/// Every process that `ancestor` started, directly or not, and that still runs.
pub(crate) fn descendants(ancestor: i32) -> Result<Vec<i32>, Failure> {
    let entries = fs::read_dir("/proc").map_err(|source| Failure::io("list /proc", source))?;
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for process in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        if let Some(parent) = living_parent(process) {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![ancestor];
    while let Some(process) = next.pop() {
        let own = children.remove(&process).unwrap_or_default();
        next.extend(&own);
        found.extend(own);
    }
    Ok(found)
}

/// The parent of a process that has not ended.
fn living_parent(process: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    parse_stat(&stat)
}

/// proc_pid_stat(5): the command name may contain anything, so the fields are counted from its last parenthesis.
fn parse_stat(stat: &str) -> Option<i32> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z" && state != "X").then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_cannot_forge_a_parent() {
        assert_eq!(parse_stat("7 (a) R 1 (b)) S 42 7 7 0"), Some(42));
        assert_eq!(parse_stat("7 (a) Z 42 7 7 0"), None);
        assert_eq!(parse_stat("7 a S"), None);
    }

    #[test]
    fn a_child_is_a_descendant() {
        let mut child =
            std::process::Command::new("sleep").arg("60").spawn().expect("sleep is a standard program");
        let pid = i32::try_from(child.id()).expect("a pid fits");
        assert!(descendants(own_pid()).expect("reads /proc").contains(&pid));
        child.kill().expect("kills");
        child.wait().expect("reaps");
        assert!(!descendants(own_pid()).expect("reads /proc").contains(&pid));
    }
}
