//! A seccomp listener (seccomp_unotify(2)): receive a notification, answer it.
//!
//! Only the system call's number and its register values count: what is in the memory of the notifying process may change.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::last_errno;

/// A system call that waits for its verdict.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notification {
    id: u64,
    /// `AUDIT_ARCH_*`.
    pub(crate) arch: u32,
    /// System call number.
    pub(crate) number: i32,
    /// Address of the instruction.
    pub(crate) instruction_pointer: u64,
    /// Its six arguments.
    pub(crate) arguments: [u64; 6],
}

/// What the waiting system call is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The kernel executes it.
    Continue,
    /// It fails with this errno.
    Refuse(i32),
}

/// The next notification, or `None` when there is none: never blocks.
///
/// Readiness is asked for first, since a receive on a listener blocks whatever O_NONBLOCK says.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> Result<Option<Notification>, Errno> {
    let mut polled = [PollFd::new(&listener, PollFlags::IN)];
    while let Err(errno) = poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        if errno != Errno::INTR {
            return Err(errno);
        }
    }
    let ready = polled.first().map_or(PollFlags::empty(), PollFd::revents);
    if !ready.contains(PollFlags::IN) {
        return if ready.contains(PollFlags::HUP) { Err(Errno::PIPE) } else { Ok(None) };
    }
    let data = libc::seccomp_data { nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] };
    let mut raw = libc::seccomp_notif { id: 0, pid: 0, flags: 0, data };
    // SAFETY: the kernel writes one `struct seccomp_notif`, which `raw` is, and demands that it is zeroed.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut raw) };
    match (result, last_errno()) {
        (0, _) => Ok(Some(Notification {
            id: raw.id,
            arch: raw.data.arch,
            number: raw.data.nr,
            instruction_pointer: raw.data.instruction_pointer,
            arguments: raw.data.args,
        })),
        // The process died, or the call was interrupted, between poll and receive.
        (_, Errno::NOENT | Errno::INTR | Errno::AGAIN) => Ok(None),
        (_, errno) => Err(errno),
    }
}

/// Puts a descriptor into the waiting process, closed on exec, and answers with its number there, both at once (Linux 5.14).
///
/// # Errors
/// The process has no free descriptor, or is gone: it has no answer yet.
pub(crate) fn install(
    listener: BorrowedFd<'_>,
    notification: &Notification,
    descriptor: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let addfd = libc::seccomp_notif_addfd {
        id: notification.id,
        flags: u32::try_from(libc::SECCOMP_ADDFD_FLAG_SEND).unwrap_or(2),
        srcfd: descriptor.as_raw_fd().cast_unsigned(),
        newfd: 0,
        newfd_flags: libc::O_CLOEXEC.cast_unsigned(),
    };
    // SAFETY: the kernel reads one `struct seccomp_notif_addfd`, which `addfd` is.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const addfd) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Answers a notification. A process that is gone meanwhile needs no answer.
pub(crate) fn answer(
    listener: BorrowedFd<'_>,
    notification: &Notification,
    verdict: Verdict,
) -> Result<(), Errno> {
    let (error, flags) = match verdict {
        Verdict::Continue => (0, u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(1)),
        Verdict::Refuse(errno) => (-errno, 0),
    };
    let response = libc::seccomp_notif_resp { id: notification.id, val: 0, error, flags };
    // SAFETY: the kernel reads one `struct seccomp_notif_resp`, which `response` is.
    let result = unsafe {
        libc::ioctl(listener.as_fd().as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const response)
    };
    match (result, last_errno()) {
        (0, _) | (_, Errno::NOENT | Errno::INPROGRESS) => Ok(()),
        (_, errno) => Err(errno),
    }
}
