//! fork(2), from a process of one thread.

use std::ffi::CStr;

use rustix::process::{Pid, WaitOptions, waitpid};

use crate::failure::Failure;

/// What a child exits with if it could not execute a program.
const NOT_EXECUTED: i32 = 127;

/// Forks a child that exits at once, and waits for it. The caller has one thread.
pub(crate) fn fork_exit_wait() -> Result<(), Failure> {
    // SAFETY: the child calls nothing but `_exit`, which is async-signal-safe.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: ends the child without running destructors of the parent's state.
        unsafe { libc::_exit(0) };
    }
    reap(child)
}

/// Forks a child that executes a program with one argument, and waits for it. The caller has one thread.
pub(crate) fn fork_exec_wait(program: &CStr, argument: &CStr) -> Result<(), Failure> {
    let arguments = [program.as_ptr(), argument.as_ptr(), std::ptr::null()];
    // SAFETY: the child calls nothing but `execv` and `_exit`, which are async-signal-safe.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: both strings end with zero and the array with a null pointer; all outlive the call.
        unsafe { libc::execv(program.as_ptr(), arguments.as_ptr()) };
        // SAFETY: ends the child without running destructors of the parent's state.
        unsafe { libc::_exit(NOT_EXECUTED) };
    }
    reap(child)
}

fn reap(child: libc::pid_t) -> Result<(), Failure> {
    let pid = Pid::from_raw(child)
        .filter(|_| child > 0)
        .ok_or_else(|| Failure::io("fork", std::io::Error::last_os_error()))?;
    let status = waitpid(Some(pid), WaitOptions::empty())
        .map_err(|errno| Failure::io("wait for a child", errno.into()))?;
    match status.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        other => Err(Failure::other(format!("a child ended with {other:?}"))),
    }
}
