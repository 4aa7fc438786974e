//! Checks that a worker is confined as ordered: what it read back itself, and what `/proc` tells the host.

use std::os::fd::OwnedFd;

use hotcell_protocol::launch::build_id;
use hotcell_protocol::{Evidence, Namespace, Orders, Statement};

use crate::identity::Identity;
use crate::sys::pidfd::lives;
use crate::sys::watch::Polled;

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

    /// Compares what a worker says of itself and what the kernel says of it with the orders; the error names the first
    /// fact that differs.
    pub(crate) fn check(
        &self,
        statement: Statement,
        pid: u32,
        KernelView { status, threads_alike }: &KernelView,
    ) -> Result<Evidence, String> {
        let (uid, gid) = self.ids();
        let own = self.identity.is_some();
        let orders = self.orders;
        let status = Status(status);
        let evidence = Evidence {
            uid: status.one_id("Uid")?,
            gid: status.one_id("Gid")?,
            groups: u32::try_from(status.numbers("Groups", 10)?.len()).unwrap_or(u32::MAX),
            capabilities: status.capabilities(own)?,
            no_new_privs: status.number("NoNewPrivs")? == 1,
            seccomp_mode: status.number("Seccomp")?,
            // Kernels before 5.9 do not count.
            seccomp_filters: status.number("Seccomp_filters").unwrap_or(1),
            threads: status.number("Threads")?,
            pid,
            cgroups: Vec::new(),
            statement,
        };
        let said = &evidence.statement;
        let own_files = orders.namespaces.contains(&Namespace::Mount);
        let facts: [(&str, bool); 12] = [
            ("build", said.build == build_id()),
            ("uid", evidence.uid == uid),
            ("gid", evidence.gid == gid),
            ("supplementary groups", !own || evidence.groups == 0),
            ("capabilities", evidence.capabilities == 0),
            ("no_new_privs", evidence.no_new_privs),
            ("Landlock ABI", said.landlock_abi == orders.landlock.abi),
            ("seccomp", evidence.seccomp_mode == FILTER_MODE && evidence.seccomp_filters > 0),
            ("threads", evidence.threads <= orders.limits.threads.saturating_add(1) && *threads_alike),
            ("dumpable", said.dumpable == orders.dumpable),
            ("refused acts", said.refused.len() >= ACTS && said.refused.iter().all(|r| r.errno != 0)),
            ("file tree", !own_files || said.refused.iter().any(|r| r.errno == libc::ENOENT)),
        ];
        let foreign = said.descriptors.iter().find(|fd| !self.descriptors.contains(fd));
        match (facts.iter().find(|(_, holds)| !holds), foreign) {
            (Some((fact, _)), _) => Err(format!("its {fact} is not as ordered")),
            (None, Some(fd)) => Err(format!("it holds descriptor {fd}")),
            (None, None) => Ok(evidence),
        }
    }
}

/// `/proc/PID/status`.
struct Status<'t>(&'t str);

impl Status<'_> {
    fn numbers(&self, key: &str, base: u32) -> Result<Vec<u64>, String> {
        numbers(self.0, key, base).ok_or_else(|| format!("the kernel tells no {key} of it"))
    }

    fn number(&self, key: &str) -> Result<u32, String> {
        let first = self.numbers(key, 10)?.first().copied();
        first
            .and_then(|number| u32::try_from(number).ok())
            .ok_or_else(|| format!("the kernel tells no {key} of it"))
    }

    /// Real, effective, saved and file-system id, which must all be one.
    fn one_id(&self, key: &str) -> Result<u32, String> {
        let ids = self.numbers(key, 10)?;
        let first = self.number(key)?;
        if ids.len() == 4 && ids.iter().all(|id| *id == u64::from(first)) {
            Ok(first)
        } else {
            Err(format!("its {key} is not one id"))
        }
    }

    fn capabilities(&self, with_bounding: bool) -> Result<u64, String> {
        let sets =
            ["CapInh", "CapPrm", "CapEff", "CapAmb"].into_iter().chain(with_bounding.then_some("CapBnd"));
        sets.map(|set| self.numbers(set, 16))
            .try_fold(0, |union, set| Ok(set?.iter().fold(union, |a, b| a | b)))
    }
}

/// The numbers behind a key of `/proc/PID/status`.
fn numbers(status: &str, key: &str, base: u32) -> Option<Vec<u64>> {
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().map(|word| u64::from_str_radix(word, base).ok()).collect()
}

/// What the kernel tells of a process.
#[derive(Debug)]
pub(crate) struct KernelView {
    /// Its `/proc/PID/status`.
    status: String,
    /// Whether the kernel tells the same of each of its threads.
    threads_alike: bool,
}

/// Lines of a status that must be those of every thread: ids, capabilities, and what binds it.
const OF_EACH_THREAD: [&str; 11] = [
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
];

/// What binds a thread, in the kernel's words.
fn bonds(status: &str) -> Vec<&str> {
    let binds = |line: &&str| line.split_once(':').is_some_and(|(key, _)| OF_EACH_THREAD.contains(&key));
    status.lines().filter(binds).collect()
}

/// Whether all threads of a process are bound as the one whose status this is.
fn threads_alike(pid: u32, status: &str) -> std::io::Result<bool> {
    if numbers(status, "Threads", 10).as_deref() == Some(&[1]) {
        return Ok(true);
    }
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        if bonds(&std::fs::read_to_string(thread?.path().join("status"))?) != bonds(status) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Asks the kernel about the process behind a pidfd. The number is used only while the pidfd says that it is still the
/// same process.
pub(crate) fn look_at(pid: u32, pidfd: &Polled<OwnedFd>) -> std::io::Result<KernelView> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let threads_alike = threads_alike(pid, &status)?;
    // The number cannot have been used again if the process still lives now.
    if lives(pidfd) {
        Ok(KernelView { status, threads_alike })
    } else {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{PidfdFlags, getpid, pidfd_open};

    use super::{KernelView, Status, look_at, numbers};
    use crate::sys::watch::Polled;

    #[test]
    fn a_pidfd_vouches_for_what_the_kernel_tells_of_its_process() {
        let me = Polled(pidfd_open(getpid(), PidfdFlags::empty()).expect("opens"));
        let KernelView { status, .. } = look_at(std::process::id(), &me).expect("reads");
        assert!(numbers(&status, "Threads", 10).expect("a number").first().expect("one") >= &1);
        assert_eq!(numbers(&status, "Uid", 10).expect("numbers").len(), 4);
        assert_eq!(numbers(&status, "Nothing", 10), None);
        let mut child = std::process::Command::new("true").spawn().expect("starts");
        let pid = child.id();
        let raw = rustix::process::Pid::from_child(&child);
        let gone = Polled(pidfd_open(raw, PidfdFlags::empty()).expect("opens"));
        child.wait().expect("ends");
        assert!(look_at(pid, &gone).is_err(), "whoever has the number now");
    }

    #[test]
    fn status_lines_are_numbers_or_nothing() {
        let status = "Groups:\t \nCapEff:\t000001ffffffffff\nSeccomp_filters:\tx\nUid:\t1\t1\t1\t0\nGid:\t7\t7\t7\t7\n";
        assert_eq!(numbers(status, "Groups", 10), Some(Vec::new()));
        assert_eq!(numbers(status, "CapEff", 16), Some(vec![0x1ff_ffff_ffff]));
        assert_eq!(numbers(status, "Seccomp_filters", 10), None);
        assert!(Status(status).one_id("Uid").is_err(), "they differ");
        assert_eq!(Status(status).one_id("Gid"), Ok(7));
        assert!(Status(status).capabilities(false).is_err(), "the others are missing");
    }
}
