//! The system calls that no safe wrapper offers: seccomp(2), fork(2), execveat(2), and signal dispositions.
//!
//! Linux only. Nothing here decides anything.

#![allow(unsafe_code, reason = "raw system calls; each block says who upholds what")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use hotcell_protocol::{Filter, Instruction, Usage, WaitStatus};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::process::Pid;
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Which extras a seccomp program is installed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Install {
    /// On every thread of the process.
    AllThreads,
    /// With a listener; only for a process of one thread.
    WithListener,
}

/// Installs a seccomp program (seccomp(2), `SECCOMP_SET_MODE_FILTER`), its `self_pid` places filled in.
///
/// Returns the listener if one was asked for.
pub(crate) fn install_filter(filter: &Filter, install: Install) -> Result<Option<OwnedFd>, Errno> {
    let program = bind(filter)?;
    let len = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let fprog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let flags = match install {
        Install::AllThreads => libc::SECCOMP_FILTER_FLAG_TSYNC,
        Install::WithListener => libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
    };
    // SAFETY: `fprog` points at `program`, which lives until after the call; the kernel copies and validates it.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref(&fprog))
    };
    match (install, result) {
        (_, -1) => Err(last_errno()),
        (Install::AllThreads, 0) => Ok(None),
        // TSYNC returns the id of a thread that could not be synchronised.
        (Install::AllThreads, _) => Err(Errno::SRCH),
        (Install::WithListener, fd) => {
            let fd = i32::try_from(fd).map_err(|_| Errno::OVERFLOW)?;
            // SAFETY: the kernel has just made this descriptor for us and nothing else owns it.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
        }
    }
}

fn bind(filter: &Filter) -> Result<Vec<libc::sock_filter>, Errno> {
    if filter.program.is_empty() {
        return Err(Errno::INVAL);
    }
    let to_kernel = |i: &Instruction| libc::sock_filter { code: i.code, jt: i.jt, jf: i.jf, k: i.k };
    let mut program: Vec<_> = filter.program.iter().map(to_kernel).collect();
    for place in &filter.self_pid {
        program.get_mut(usize::from(*place)).ok_or(Errno::INVAL)?.k = std::process::id();
    }
    Ok(program)
}

/// Leaves namespaces of the parent for new ones (unshare(2)).
pub(crate) fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: descriptors are not unshared, and the process has one thread, so no other code's assumptions change.
    unsafe { unshare_unsafe(flags) }
}

/// Adds attributes to a mount, with [`libc::AT_RECURSIVE`] also to what is mounted below it (mount_setattr(2), Linux 5.12).
pub(crate) fn mount_attributes(mount: &OwnedFd, flags: i32, more: MountAttrFlags) -> Result<(), Errno> {
    // `struct mount_attr`: what to set, what to clear, propagation, and the user namespace of an idmapped mount.
    let attributes = [u64::from(more.bits()), 0, 0, 0];
    // SAFETY: the path is an empty C string, and the kernel reads so many bytes of the array, which outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | flags,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    if result == -1 { Err(last_errno()) } else { Ok(()) }
}

/// Splits a single-threaded process in two (fork(2)). The child gets `None`.
pub(crate) fn fork() -> Result<Option<Pid>, Errno> {
    // SAFETY: the launcher has one thread, so the child may go on running any code.
    match unsafe { libc::fork() } {
        -1 => Err(last_errno()),
        0 => Ok(None),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// Replaces this process by the program behind `file` (execveat(2)).
///
/// Returns only on failure.
pub(crate) fn exec<T: AsRef<CStr>>(file: BorrowedFd<'_>, arguments: &[T], environment: &[T]) -> Errno {
    let pointers = |texts: &[T]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ref().as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer and outlive the call; the path is an empty C string.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    last_errno()
}

/// Ends the process at once: no destructor, no atexit handler of a plugin (_exit(2)).
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes any value and does not return.
    unsafe { libc::_exit(code) }
}

/// Gives every signal its default disposition and unblocks all of them.
pub(crate) fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is a valid disposition; KILL, STOP and libc's own signals answer an error, which is fine.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    unblock_signals();
}

/// Makes a write to a pipe without a reader an error, as Rust programs expect, and not the end of the process.
pub(crate) fn ignore_broken_pipes() {
    // SAFETY: SIG_IGN is a valid disposition of SIGPIPE.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Joins a new, empty session keyring, so that the one of the host is out of reach (keyctl(2)).
///
/// A kernel without keyrings has none to share; and who runs the host may refuse keyctl(2) to it, as containers do, and so to
/// every worker: no set holds it either. An ordinary user may have 200 keys (kernel.keys.maxkeys), and the kernel collects
/// those of ended processes a little later: whoever starts many hosts in a row waits for that, for up to five seconds.
pub(crate) fn new_session_keyring() -> Result<(), Errno> {
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);
    for _ in 0..500 {
        match join_session_keyring() {
            Err(Errno::DQUOT) => std::thread::sleep(PAUSE),
            Err(Errno::NOSYS | Errno::PERM) => return Ok(()),
            joined => return joined,
        }
    }
    Err(Errno::DQUOT)
}

fn join_session_keyring() -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let result = unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>())
    };
    if result == -1 { Err(last_errno()) } else { Ok(()) }
}

/// Why the last system call of this thread failed.
pub(crate) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Waits for a child that has ended (wait4(2)).
pub(crate) fn reap(pid: Pid) -> Result<(WaitStatus, Usage), Errno> {
    let reaped = wait(pid.as_raw_pid(), 0)?;
    reaped.map(|(_, status, usage)| (status, usage)).ok_or(Errno::CHILD)
}

/// Any child that has ended, if there is one.
pub(crate) fn reap_any() -> Result<Option<(Pid, WaitStatus, Usage)>, Errno> {
    match wait(-1, libc::WNOHANG) {
        Err(Errno::CHILD) => Ok(None),
        other => other,
    }
}

fn wait(pid: i32, flags: i32) -> Result<Option<(Pid, WaitStatus, Usage)>, Errno> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are valid for writing and live until after the call.
    let reaped = unsafe { libc::wait4(pid, &raw mut status, flags, usage.as_mut_ptr()) };
    if reaped < 0 {
        return Err(last_errno());
    }
    let Some(pid) = Pid::from_raw(reaped) else { return Ok(None) };
    // SAFETY: all zeroes is a valid rusage, and the kernel filled it in.
    let usage = unsafe { usage.assume_init() };
    let ended = if libc::WIFSIGNALED(status) {
        WaitStatus::Signaled { signal: libc::WTERMSIG(status) }
    } else {
        WaitStatus::Exited { code: libc::WEXITSTATUS(status) }
    };
    Ok(Some((pid, ended, to_usage(&usage))))
}

/// Has the end of children told by a descriptor (signalfd(2)) rather than by a handler.
pub(crate) fn child_signals() -> Result<OwnedFd, Errno> {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set that it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set was initialised above.
    unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD) };
    // SAFETY: likewise; a null old set is allowed.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) };
    // SAFETY: the set is initialised, and -1 asks for a new descriptor.
    match unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) } {
        -1 => Err(last_errno()),
        // SAFETY: the kernel has just made this descriptor for us and nothing else owns it.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// Empties the descriptor of [`child_signals`]: several ends are told as one.
pub(crate) fn forget_child_signals(signals: &OwnedFd) {
    let mut told = [0; size_of::<libc::signalfd_siginfo>()];
    while rustix::io::read(signals, &mut told).is_ok() {}
}

/// Unblocks all signals.
pub(crate) fn unblock_signals() {
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set that it is given.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: the set was initialised above; a null old set is allowed.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) };
}

/// Closes every descriptor from this number on (close_range(2)).
pub(crate) fn close_from(first: u32) -> Result<(), Errno> {
    close_range_from(first, 0)
}

/// Has the next execve(2) close every descriptor from this number on, those that are inherited by design among them.
pub(crate) fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    close_range_from(first, libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range_from(first: u32, flags: libc::c_uint) -> Result<(), Errno> {
    // SAFETY: closes numbers that no code of this process has been given, or changes a flag.
    match unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}

fn to_usage(usage: &libc::rusage) -> Usage {
    let micros = |time: libc::timeval| {
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_usec).unwrap_or(0)
    };
    Usage {
        max_rss: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
        cpu_us: micros(usage.ru_utime) + micros(usage.ru_stime),
    }
}

/// Moves descriptors to the numbers 0, 1, 2 ... in their order, and closes every other one (close_range(2)).
///
/// With `exec`, the others are closed by the next execve instead. The process's owned descriptors mean nothing after
/// this: the caller never returns to code that holds one.
pub(crate) fn keep_only(descriptors: &[BorrowedFd<'_>], exec: bool) -> Result<(), Errno> {
    const ABOVE: libc::c_int = 64;
    let mut moved = Vec::with_capacity(descriptors.len());
    for descriptor in descriptors {
        // SAFETY: F_DUPFD_CLOEXEC makes a new descriptor of a valid one.
        match unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, ABOVE) } {
            -1 => return Err(last_errno()),
            fd => moved.push(fd),
        }
    }
    for (target, fd) in (0..).zip(&moved) {
        // SAFETY: `fd` was made above; whatever had the number `target` belongs to the launcher's copy that ends here.
        if unsafe { libc::dup2(*fd, target) } == -1 {
            return Err(last_errno());
        }
    }
    let first = libc::c_uint::try_from(descriptors.len()).map_err(|_| Errno::INVAL)?;
    let flags = if exec { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: closes numbers from `first` on; no code of this process uses one of them again.
    match unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}

/// Takes over a descriptor number that a parent process left open.
pub(crate) fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: by the launch protocol the number is open in this process and nothing else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
