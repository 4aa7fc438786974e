//! Where processes run: this one and everything that it started, workers included.
//!
//! Affinity is set from outside, thread by thread, because a hotcell worker does not take it over from its host.

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
    /// Wherever the kernel puts them.
    Unpinned,
}

impl Placement {
    /// All, in the order of the report.
    pub(crate) const ALL: [Placement; 2] = [Placement::OneCore, Placement::Unpinned];

    /// Its name in tables and ids.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Placement::OneCore => "one core",
            Placement::Unpinned => "unpinned",
        }
    }
}

/// The processors that this program was allowed to use when it started.
pub(crate) struct Processors {
    all: CpuSet,
    one: CpuSet,
}

impl Processors {
    /// Asks the kernel.
    pub(crate) fn allowed() -> Result<Processors, Failure> {
        let all = sched_getaffinity(None).map_err(|errno| Failure::io("read the affinity", errno.into()))?;
        let mut one = CpuSet::new();
        // The last one: the first is where most interrupts go.
        let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| all.is_set(*cpu));
        one.set(last.unwrap_or_default());
        Ok(Processors { all, one })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.all.count()
    }

    /// Moves every thread of this process and of its descendants.
    pub(crate) fn place(&self, placement: Placement) -> Result<(), Failure> {
        let set = match placement {
            Placement::OneCore => &self.one,
            Placement::Unpinned => &self.all,
        };
        let me = own_pid();
        for process in descendants(me)?.into_iter().chain([me]) {
            place_process(process, set)?;
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
