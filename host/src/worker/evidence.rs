//! Checks that a worker is confined as ordered: what it read back itself, and what `/proc` tells the host.

use std::os::fd::{AsRawFd, BorrowedFd};

use hotcell_protocol::launch::build_id;
use hotcell_protocol::{Evidence, Orders};

use crate::identity::Identity;

/// `Seccomp:` of a process in filter mode.
const FILTER_MODE: u32 = 2;

/// Forbidden acts that a worker must have tried.
const ACTS: usize = 2;

/// What a worker must look like.
#[derive(Clone, Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) orders: &'a Orders,
    pub(crate) identity: Option<Identity>,
    /// Descriptors that it may hold, ascending.
    pub(crate) descriptors: &'a [u32],
}

impl Expected<'_> {
    fn ids(&self) -> (u32, u32) {
        match self.identity {
            Some(Identity { uid, gid }) => (uid, gid),
            None => (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
        }
    }

    /// Compares the worker's own evidence; the error names the first fact that differs.
    pub(crate) fn check(&self, evidence: &Evidence) -> Result<(), String> {
        let (uid, gid) = self.ids();
        // In a user namespace of its own a worker sees itself as it was mapped.
        let identity_told = self.identity.is_some() || self.orders.namespaces.is_empty();
        let foreign = evidence.descriptors.iter().find(|fd| !self.descriptors.contains(fd));
        let groups_allowed = if self.identity.is_some() { 0 } else { u32::MAX };
        let facts: [(&str, bool); 11] = [
            ("build", evidence.build == build_id()),
            ("uid", !identity_told || evidence.uid == uid),
            ("gid", !identity_told || evidence.gid == gid),
            ("supplementary groups", evidence.groups <= groups_allowed),
            ("capabilities", evidence.capabilities == 0),
            ("no_new_privs", evidence.no_new_privs),
            ("Landlock ABI", evidence.landlock_abi == self.orders.landlock.abi),
            ("seccomp", evidence.seccomp_mode == FILTER_MODE && evidence.seccomp_filters > 0),
            ("threads", evidence.threads == 1),
            ("dumpable", evidence.dumpable == self.orders.dumpable),
            ("refused acts", evidence.refused.len() >= ACTS && evidence.refused.iter().all(|r| r.errno != 0)),
        ];
        match (facts.iter().find(|(_, holds)| !holds), foreign) {
            (Some((fact, _)), _) => Err(format!("its {fact} is not as ordered")),
            (None, Some(fd)) => Err(format!("it holds descriptor {fd}")),
            (None, None) => Ok(()),
        }
    }

    /// Compares what the kernel tells the host about the process.
    pub(crate) fn check_status(&self, status: &str) -> Result<(), String> {
        let (uid, gid) = self.ids();
        let numbers = |key: &str, base: u32| numbers(status, key, base);
        let four = |id: u32| Some(vec![u64::from(id); 4]);
        let none = |key: &str| numbers(key, 16).is_some_and(|sets| sets.iter().all(|set| *set == 0));
        let facts = [
            ("Uid", numbers("Uid", 10) == four(uid)),
            ("Gid", numbers("Gid", 10) == four(gid)),
            ("Groups", self.identity.is_none() || numbers("Groups", 10) == Some(Vec::new())),
            ("NoNewPrivs", numbers("NoNewPrivs", 10) == Some(vec![1])),
            ("Seccomp", numbers("Seccomp", 10) == Some(vec![u64::from(FILTER_MODE)])),
            (
                "Seccomp_filters",
                numbers("Seccomp_filters", 10).is_none_or(|n| n.first().is_some_and(|count| *count >= 1)),
            ),
            ("Threads", numbers("Threads", 10) == Some(vec![1])),
            ("CapInh", none("CapInh")),
            ("CapPrm", none("CapPrm")),
            ("CapEff", none("CapEff")),
            ("CapAmb", none("CapAmb")),
        ];
        match facts.iter().find(|(_, holds)| !holds) {
            Some((fact, _)) => Err(format!("{fact} of the process is not as ordered")),
            None => Ok(()),
        }
    }
}

/// The numbers behind a key of `/proc/PID/status`.
fn numbers(status: &str, key: &str, base: u32) -> Option<Vec<u64>> {
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().map(|word| u64::from_str_radix(word, base).ok()).collect()
}

/// The number and `/proc/PID/status` of the process behind a pidfd. The number is used only while the pidfd says that it is still the
/// same process.
pub(crate) fn read_status(pidfd: BorrowedFd<'_>) -> std::io::Result<(u32, String)> {
    let pid = pid_of(pidfd)?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    // The number cannot have been used again if the process still lives now.
    if pid_of(pidfd)? == pid { Ok((pid, status)) } else { Err(std::io::ErrorKind::NotFound.into()) }
}

/// The process id behind a pidfd, in this PID namespace.
pub(crate) fn pid_of(pidfd: BorrowedFd<'_>) -> std::io::Result<u32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    pid.ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::process::{PidfdFlags, getpid, pidfd_open};

    use super::{numbers, pid_of, read_status};

    #[test]
    fn a_pidfd_leads_to_the_status_of_its_process() {
        let me = pidfd_open(getpid(), PidfdFlags::empty()).expect("opens");
        assert_eq!(pid_of(me.as_fd()).expect("reads"), std::process::id());
        let (_, status) = read_status(me.as_fd()).expect("reads");
        assert!(numbers(&status, "Threads", 10).expect("a number").first().expect("one") >= &1);
        assert_eq!(numbers(&status, "Uid", 10).expect("numbers").len(), 4);
        assert_eq!(numbers(&status, "Nothing", 10), None);
    }

    #[test]
    fn status_lines_are_numbers_or_nothing() {
        let status = "Groups:\t \nCapEff:\t000001ffffffffff\nSeccomp_filters:\tx\n";
        assert_eq!(numbers(status, "Groups", 10), Some(Vec::new()));
        assert_eq!(numbers(status, "CapEff", 16), Some(vec![0x1ff_ffff_ffff]));
        assert_eq!(numbers(status, "Seccomp_filters", 10), None);
    }
}
