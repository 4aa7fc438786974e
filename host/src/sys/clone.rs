//! Children made by a raw clone(2) with exit signal 0.
//!
//! An application may ignore SIGCHLD or reap every child that it sees: neither touches a child whose exit signal is 0
//! (wait(2), `__WALL`). Between clone and exec the child makes system calls on memory prepared by the parent and
//! nothing else: no allocation, no lock, no Rust destructor.

use std::ffi::{CStr, c_char};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use super::last_errno;

/// The descriptor on which the launcher finds its channel.
const CHANNEL_FD: RawFd = 3;

/// Exit code of a child that could not become the launcher.
const CHILD_FAILED: i32 = 127;

/// Signals of Linux: 1 to 64.
const SIGNALS: i32 = 64;

/// Words of a CPU mask that covers 8192 processors, the largest kernel configuration.
const CPU_WORDS: usize = 128;

/// Bytes of the kernel's signal set (`sizeof(sigset_t)` in the kernel, not in libc).
const KERNEL_SIGSET: usize = 8;

/// What the child needs, made before it exists.
pub(crate) struct Launch<'a> {
    /// The program, opened and checked.
    pub(crate) program: BorrowedFd<'a>,
    /// Its arguments, name first.
    pub(crate) arguments: &'a [&'a CStr],
    /// Becomes descriptor 3.
    pub(crate) channel: BorrowedFd<'a>,
    /// `/dev/null`; becomes descriptors 0, 1 and 2.
    pub(crate) null: BorrowedFd<'a>,
}

/// The kernel's `struct sigaction` with the default disposition: all words zero, on every architecture.
#[repr(C)]
struct KernelSigaction([u64; 4]);

/// Starts a program as a child with exit signal 0 and an empty environment; returns its pidfd.
///
/// Nothing of this process but the program's arguments and the three descriptors reaches it. Its parent-death signal and
/// `waitid` refer to the calling thread, which must live as long as the child.
pub(crate) fn launch(launch: &Launch<'_>) -> Result<OwnedFd, Errno> {
    let mut arguments: Vec<*const c_char> = launch.arguments.iter().map(|text| text.as_ptr()).collect();
    arguments.push(std::ptr::null());
    let environment = [std::ptr::null::<c_char>()];
    // The descriptors are moved out of the way of 0 to 3 before the child places them.
    let [program, channel, null] = [launch.program, launch.channel, launch.null].map(above_stdio);
    let (program, channel, null) = (program?, channel?, null?);
    let descriptors = [program.as_raw_fd(), channel.as_raw_fd(), null.as_raw_fd()];
    match clone_child()? {
        Some(pidfd) => Ok(pidfd),
        None => become_program(descriptors, arguments.as_ptr(), environment.as_ptr()),
    }
}

/// Runs `attempt` in a child that writes a byte to `report` if it succeeded, and ends; for probes that change the process.
///
/// The exit status would not do: an application that reaps every child may take it away. `attempt` may make system calls
/// only.
pub(crate) fn try_in_child(attempt: fn() -> bool, report: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let report = report.as_raw_fd();
    match clone_child()? {
        Some(pidfd) => Ok(pidfd),
        None => {
            if attempt() {
                // SAFETY: the byte is a static; the descriptor was open when this child was made.
                unsafe { libc::write(report, c"1".as_ptr().cast(), 1) };
            }
            exit_child(0)
        }
    }
}

fn above_stdio(descriptor: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(descriptor, CHANNEL_FD + 1)
}

/// clone(2) with every signal blocked around it, so that no handler of the application runs in the child.
/// Returns the pidfd in the parent, `None` in the child.
fn clone_child() -> Result<Option<OwnedFd>, Errno> {
    let blocked = u64::MAX;
    let mut before = 0_u64;
    set_signal_mask(&blocked, Some(&mut before));
    let mut pidfd: RawFd = -1;
    let flags = libc::CLONE_PIDFD;
    // SAFETY: without CLONE_VM the child gets its own copy of memory, like fork(2); a null stack keeps the caller's.
    // `pidfd` is where CLONE_PIDFD stores the descriptor, in the third argument on every Linux architecture but s390.
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) };
    let error = last_errno();
    if result == 0 {
        return Ok(None);
    }
    set_signal_mask(&before, None);
    if result < 0 {
        return Err(error);
    }
    // SAFETY: the kernel has just made this descriptor for us and nothing else owns it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Child only: gives up everything inherited, then becomes the program.
fn become_program(
    [program, channel, null]: [RawFd; 3],
    arguments: *const *const c_char,
    environment: *const *const c_char,
) -> ! {
    reset_dispositions();
    leave_session();
    reset_scheduling();
    if place_descriptors(program, channel, null) {
        set_signal_mask(&0, None);
        // SAFETY: both arrays end with a null pointer and live in this process's copy of the parent's memory; the path is
        // an empty C string, so that the program is the descriptor itself.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                program,
                c"".as_ptr(),
                arguments,
                environment,
                libc::AT_EMPTY_PATH,
            )
        };
    }
    exit_child(CHILD_FAILED)
}

fn reset_dispositions() {
    let default = KernelSigaction([0; 4]);
    for signal in 1..=SIGNALS {
        // SAFETY: `default` is at least as long as the kernel's structure; SIGKILL and SIGSTOP are refused, harmlessly.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, 0, KERNEL_SIGSET);
        }
    }
}

/// New session (no terminal), `/` as working directory, private umask, no session keyring.
fn leave_session() {
    // SAFETY: takes no pointer.
    unsafe { libc::setsid() };
    // SAFETY: the path is a C string.
    unsafe { libc::chdir(c"/".as_ptr()) };
    // SAFETY: takes no pointer.
    unsafe { libc::umask(0o077) };
    // A kernel without keyrings, or one that refuses, has none to leak: no worker filter allows keyctl(2).
    // SAFETY: a null name asks for a new anonymous session keyring.
    unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, 0) };
}

/// Every CPU, ordinary scheduling, nice 0 where the kernel lets it.
fn reset_scheduling() {
    let every = [u64::MAX; CPU_WORDS];
    // SAFETY: the mask is as long as is said; CPUs outside the cpuset are ignored.
    unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&every), every.as_ptr()) };
    let ordinary = libc::sched_param { sched_priority: 0 };
    // SAFETY: `ordinary` lives for the call.
    unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_OTHER, &raw const ordinary) };
    // SAFETY: takes no pointer.
    unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, 0) };
}

/// Places 0 to 3 and closes the rest, at the latest in exec for the program's own descriptor.
fn place_descriptors(program: RawFd, channel: RawFd, null: RawFd) -> bool {
    for (from, to) in [(null, 0), (null, 1), (null, 2), (channel, CHANNEL_FD)] {
        // SAFETY: takes no pointer; the descriptors belong to this process alone.
        if unsafe { libc::dup2(from, to) } != to {
            return false;
        }
    }
    // `program` stays, close-on-exec, on one side of two ranges.
    let Ok(program) = u32::try_from(program) else { return false };
    close_range(4, program - 1) && close_range(program + 1, u32::MAX)
}

fn close_range(first: u32, last: u32) -> bool {
    if first > last {
        return true;
    }
    // SAFETY: takes no pointer; closing is what this child wants of every descriptor in the range.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) == 0 }
}

fn set_signal_mask(mask: &u64, before: Option<&mut u64>) {
    let before = before.map_or(std::ptr::null_mut(), std::ptr::from_mut);
    // SAFETY: both pointers are null or point at 8 bytes, the size that is passed.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            std::ptr::from_ref(mask),
            before,
            KERNEL_SIGSET,
        )
    };
}

fn exit_child(code: i32) -> ! {
    // SAFETY: `_exit` runs no handler and no destructor of the application.
    unsafe { libc::_exit(code) }
}
