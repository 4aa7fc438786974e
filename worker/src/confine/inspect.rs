//! What a process can say of its own confinement: its descriptors, and what the kernel refuses it.

use std::os::fd::{BorrowedFd, RawFd};

use hotcell_protocol::{Failure, Namespace, Orders, Refusal, Statement, Step, launch::build_id};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};

/// No worker is given a descriptor with this number or a higher one.
const BEYOND: u32 = 16;

/// Closes every descriptor that no worker is given, whoever left it open.
pub(super) fn close_the_rest() -> Result<(), Failure> {
    crate::sys::close_from(BEYOND).map_err(super::failed(Step::Limits, "close what was inherited"))
}

/// Looks at the descriptors, and tries two forbidden acts.
pub(super) fn statement(dumpable: bool, orders: &Orders) -> Result<Statement, Failure> {
    Ok(Statement {
        build: build_id(),
        landlock_abi: orders.landlock.abi,
        dumpable,
        descriptors: (0..BEYOND).filter(|fd| is_open(*fd)).collect(),
        refused: refused_acts(orders)?,
    })
}

#[allow(unsafe_code, reason = "asks about descriptor numbers that this process may not own")]
fn is_open(fd: u32) -> bool {
    let Ok(fd) = RawFd::try_from(fd) else { return false };
    // SAFETY: the borrow ends with this call, which only asks whether the number is in use and changes nothing.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    rustix::io::fcntl_getfd(borrowed).is_ok()
}

fn refused_acts(orders: &Orders) -> Result<Vec<Refusal>, Failure> {
    let mut acts = vec![refused_open()?, refused_socket()?];
    if orders.namespaces.contains(&Namespace::Mount) {
        acts.push(absent_status()?);
    }
    Ok(acts)
}

/// No plan grants anything of `/proc`, of which a file tree of the worker's own has descriptors at most.
fn absent_status() -> Result<Refusal, Failure> {
    const ACT: &str = "stat(\"/proc/self/status\")";
    match rustix::fs::stat("/proc/self/status") {
        Err(errno @ Errno::NOENT) => Ok(Refusal { act: ACT.to_owned(), errno: errno.raw_os_error() }),
        other => {
            Err(failure(format!("{ACT} must find nothing, and said {:?}", other.map(|_| "there it is"))))
        }
    }
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
