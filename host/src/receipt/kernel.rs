//! What the kernel says of a process: proc_pid_status(5), proc_pid_limits(5), cgroups(7), namespaces(7),
//! user_namespaces(7).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use serde::Serialize;

use crate::sys::pidfd::lives;
use crate::sys::watch::Polled;

/// The lines of `/proc/PID/status` that say what confines a process.
const STATUS: [&str; 13] = [
    "CapAmb",
    "CapBnd",
    "CapEff",
    "CapInh",
    "CapPrm",
    "Gid",
    "Groups",
    "NSpid",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "Threads",
    "Uid",
];

const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// Read at one moment of a process's life.
#[derive(Debug, Serialize)]
pub(super) struct InForce {
    status: BTreeMap<String, String>,
    /// Soft and hard limit and unit, by name.
    limits: BTreeMap<String, String>,
    cgroups: Vec<String>,
    namespaces: BTreeMap<&'static str, Namespace>,
    uid_map: String,
    gid_map: String,
}

#[derive(Debug, Serialize)]
struct Namespace {
    /// As `/proc/PID/ns` names it: kind and inode.
    id: String,
    /// Whether the host is in another one.
    apart: bool,
}

/// Reads it all. Blocks for a fraction of a millisecond.
///
/// # Errors
/// The process has ended, or may not be looked at.
pub(super) fn read(pid: u32, pidfd: &Polled<OwnedFd>) -> io::Result<InForce> {
    let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
    let in_force = InForce {
        status: status(&file("status")?),
        limits: limits(&file("limits")?),
        cgroups: file("cgroup")?.lines().map(str::to_owned).collect(),
        namespaces: NAMESPACES
            .into_iter()
            .filter_map(|name| namespace(pid, name).transpose().map(|found| found.map(|found| (name, found))))
            .collect::<io::Result<_>>()?,
        uid_map: file("uid_map")?.split_whitespace().collect::<Vec<_>>().join(" "),
        gid_map: file("gid_map")?.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    // The number cannot have been used again if the process still lives now.
    if lives(pidfd) { Ok(in_force) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn status(text: &str) -> BTreeMap<String, String> {
    let line = |line: &str| {
        let (key, value) = line.split_once(':')?;
        let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
        STATUS.contains(&key).then(|| (key.to_owned(), value))
    };
    text.lines().filter_map(line).collect()
}

/// The names are of several words, and columns are two blanks apart.
fn limits(text: &str) -> BTreeMap<String, String> {
    let line = |line: &str| {
        let (name, values) = line.trim_end().split_once("  ")?;
        Some((name.to_owned(), values.split_whitespace().collect::<Vec<_>>().join(" ")))
    };
    text.lines().skip(1).filter_map(line).collect()
}

/// `None` for a kind that this kernel lacks.
fn namespace(pid: u32, name: &str) -> io::Result<Option<Namespace>> {
    let id = |pid: &str| match fs::read_link(format!("/proc/{pid}/ns/{name}")) {
        Ok(link) => Ok(Some(link.to_string_lossy().into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let own = id("self")?;
    Ok(id(&pid.to_string())?.map(|id| Namespace { apart: own.as_ref() != Some(&id), id }))
}

#[cfg(test)]
mod tests {
    use rustix::process::{PidfdFlags, getpid, pidfd_open};

    use super::{limits, read};
    use crate::sys::watch::Polled;

    #[test]
    fn this_process_is_read_and_one_that_has_ended_is_not() {
        let me = Polled(pidfd_open(getpid(), PidfdFlags::empty()).expect("opens"));
        let read_back = read(std::process::id(), &me).expect("reads");
        assert!(
            read_back.status.contains_key("NoNewPrivs") && read_back.limits.contains_key("Max open files")
        );
        assert!(read_back.namespaces.len() >= 7 && read_back.namespaces.values().all(|one| !one.apart));
        let mut child = std::process::Command::new("true").spawn().expect("starts");
        let gone =
            Polled(pidfd_open(rustix::process::Pid::from_child(&child), PidfdFlags::empty()).expect("opens"));
        child.wait().expect("ends");
        assert!(read(std::process::id(), &gone).is_err(), "whoever has the number now");
    }

    #[test]
    fn limits_are_read_by_their_columns() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
            Max cpu time              10                   unlimited            seconds   \n\
            Max nice priority         0                    0                    \n";
        let read = limits(text);
        let value = |name: &str| read.get(name).map(String::as_str);
        assert_eq!(value("Max cpu time"), Some("10 unlimited seconds"));
        assert_eq!(value("Max nice priority"), Some("0 0"));
    }
}
