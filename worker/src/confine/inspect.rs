//! Evidence: what the kernel says of this process after it confined itself, and what it refuses.

use std::fs::File;
use std::io::Read;
use std::os::fd::{BorrowedFd, RawFd};

use hotcell_protocol::{Evidence, Failure, Orders, Refusal, Resource, Rlimit, Step, launch::build_id};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};

/// `/proc/self/status`, opened while that is still possible; each read shows the state at that moment.
pub(super) struct ProcessStatus {
    file: File,
    /// The highest descriptor that was open at the start: none above it can have come since, but those that this
    /// process opened itself, which lie below its limit.
    highest: u32,
}

impl ProcessStatus {
    pub(super) fn open() -> Result<ProcessStatus, Failure> {
        let opened = File::open("/proc/self/status").and_then(|file| {
            let highest = highest_descriptor()?;
            Ok(ProcessStatus { file, highest })
        });
        opened.map_err(|error| failure(format!("failed to read /proc/self: {error}")))
    }

    fn read(mut self) -> Result<String, Failure> {
        let mut text = String::new();
        match self.file.read_to_string(&mut text) {
            Ok(_) => Ok(text),
            Err(error) => Err(failure(format!("failed to read /proc/self/status: {error}"))),
        }
    }
}

/// Reads the state back and tries two forbidden acts.
pub(super) fn evidence(status: ProcessStatus, dumpable: bool, orders: &Orders) -> Result<Evidence, Failure> {
    let highest = status.highest;
    let text = status.read()?;
    let line = |name: &str| value(&text, name);
    Ok(Evidence {
        build: build_id(),
        pid: number(line("Pid")?)?,
        uid: one_id(line("Uid")?)?,
        gid: one_id(line("Gid")?)?,
        groups: u32::try_from(line("Groups")?.split_whitespace().count()).unwrap_or(u32::MAX),
        capabilities: capabilities(&text, orders.distinct_uid)?,
        no_new_privs: line("NoNewPrivs")? == "1",
        landlock_abi: orders.landlock.abi,
        seccomp_mode: number(line("Seccomp")?)?,
        seccomp_filters: number(line("Seccomp_filters")?)?,
        threads: number(line("Threads")?)?,
        dumpable,
        descriptors: open_descriptors(highest, &orders.rlimits),
        refused: vec![refused_open()?, refused_socket()?],
    })
}

fn capabilities(status: &str, with_bounding: bool) -> Result<u64, Failure> {
    let mut sets = vec!["CapInh", "CapPrm", "CapEff", "CapAmb"];
    sets.extend(with_bounding.then_some("CapBnd"));
    let mut union = 0;
    for set in sets {
        let bits = value(status, set)?;
        union |= u64::from_str_radix(bits, 16)
            .map_err(|_| failure(format!("{set} is not hexadecimal: {bits}")))?;
    }
    Ok(union)
}

fn value<'t>(status: &'t str, name: &str) -> Result<&'t str, Failure> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
        .ok_or_else(|| failure(format!("/proc/self/status has no {name} line; Linux 5.9 or later shows it")))
}

fn number(text: &str) -> Result<u32, Failure> {
    text.parse().map_err(|_| failure(format!("not a number in /proc/self/status: {text}")))
}

/// Real, effective, saved and file-system id, which must all be one.
fn one_id(text: &str) -> Result<u32, Failure> {
    let mut ids = text.split_whitespace();
    let first = ids.next().unwrap_or_default();
    if ids.any(|id| id != first) {
        return Err(failure(format!("real, effective and saved id differ: {text}")));
    }
    number(first)
}

fn highest_descriptor() -> std::io::Result<u32> {
    let mut highest = 0;
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        highest = highest.max(number.unwrap_or(u32::MAX));
    }
    Ok(highest)
}

fn open_descriptors(highest: u32, rlimits: &[Rlimit]) -> Vec<u32> {
    let limit =
        rlimits.iter().find(|limit| limit.resource == Resource::NoFile).map_or(0, |limit| limit.value);
    let last = u32::try_from(limit).unwrap_or(u32::MAX).max(highest);
    (0..=last).filter(|fd| is_open(*fd)).collect()
}

#[allow(unsafe_code, reason = "asks about descriptor numbers that this process may not own")]
fn is_open(fd: u32) -> bool {
    let Ok(fd) = RawFd::try_from(fd) else { return false };
    // SAFETY: the borrow ends with this call, which only asks whether the number is in use and changes nothing.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    rustix::io::fcntl_getfd(borrowed).is_ok()
}

/// No plan grants the root folder, so Landlock must refuse it.
fn refused_open() -> Result<Refusal, Failure> {
    refused(
        "open(\"/\", O_RDONLY)",
        rustix::fs::openat(CWD, "/", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()),
    )
}

/// No plan allows sockets, so seccomp must refuse one.
fn refused_socket() -> Result<Refusal, Failure> {
    refused("socket(AF_INET, SOCK_DGRAM)", rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None))
}

fn refused<T>(act: &str, result: Result<T, Errno>) -> Result<Refusal, Failure> {
    match result {
        Err(errno @ (Errno::ACCESS | Errno::PERM)) => {
            Ok(Refusal { act: act.to_owned(), errno: errno.raw_os_error() })
        }
        Err(errno) => {
            Err(failure(format!("{act} must be refused by the sandbox, and failed otherwise: {errno}")))
        }
        Ok(_) => Err(failure(format!("{act} must be refused, and succeeded"))),
    }
}

fn failure(detail: String) -> Failure {
    Failure { step: Step::SelfCheck, errno: 0, detail }
}
