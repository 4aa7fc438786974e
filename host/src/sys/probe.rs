//! Asks the kernel what it offers, without changing this process.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::clone::try_in_child;
use super::last_errno;

/// `LANDLOCK_CREATE_RULESET_VERSION`.
const RULESET_VERSION: u32 = 1;

/// A seccomp action that a plan relies on (seccomp(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SeccompAction {
    /// `SECCOMP_RET_KILL_PROCESS`.
    KillProcess,
    /// `SECCOMP_RET_ERRNO`.
    Errno,
    /// `SECCOMP_RET_USER_NOTIF`.
    UserNotification,
}

/// The Landlock ABI of this kernel (landlock_create_ruleset(2)).
pub(crate) fn landlock_abi() -> Result<u32, Errno> {
    // SAFETY: with the version flag the call takes a null pointer and size 0.
    let result = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, RULESET_VERSION) };
    u32::try_from(result).map_err(|_| last_errno())
}

/// Whether the kernel knows a seccomp action (`SECCOMP_GET_ACTION_AVAIL`).
pub(crate) fn seccomp_action(action: SeccompAction) -> Result<(), Errno> {
    let value = match action {
        SeccompAction::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        SeccompAction::Errno => libc::SECCOMP_RET_ERRNO,
        SeccompAction::UserNotification => libc::SECCOMP_RET_USER_NOTIF,
    };
    // SAFETY: the kernel reads one u32, which `value` is.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const value) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Whether a process of this user can enter its own IPC, mount, network and UTS namespaces, through a user namespace if it is
/// not privileged. Tried in a child.
pub(crate) fn namespaces(through_user: bool) -> Result<bool, Errno> {
    succeeds(if through_user { enter_through_user } else { enter })
}

/// Whether such a process may mount in a mount namespace of its own. Tried in a child.
pub(crate) fn mounting(through_user: bool) -> Result<bool, Errno> {
    succeeds(if through_user { mount_through_user } else { mount })
}

fn succeeds(attempt: fn() -> bool) -> Result<bool, Errno> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let child = try_in_child(attempt, writer.as_fd())?;
    drop(writer);
    let mut report = [0];
    let entered = loop {
        match rustix::io::read(&reader, &mut report) {
            Err(Errno::INTR) => {}
            other => break other? == 1,
        }
    };
    let options = WaitIdOptions::EXITED | WaitIdOptions::from_bits_retain(wall());
    // The application may have reaped it already.
    while let Err(Errno::INTR) = waitid(WaitId::PidFd(child.as_fd()), options) {}
    Ok(entered)
}

/// `__WALL`: also children whose exit signal is not SIGCHLD.
pub(crate) fn wall() -> u32 {
    libc::__WALL.cast_unsigned()
}

fn enter() -> bool {
    unshare(libc::CLONE_NEWIPC | libc::CLONE_NEWNET | libc::CLONE_NEWNS | libc::CLONE_NEWUTS)
}

fn enter_through_user() -> bool {
    unshare(libc::CLONE_NEWUSER) && enter()
}

fn mount() -> bool {
    let (none, root) = (std::ptr::null::<libc::c_char>(), c"/".as_ptr());
    // SAFETY: the path is a C string, and null is allowed where only the propagation changes; only the probing child calls it.
    unshare(libc::CLONE_NEWNS)
        && unsafe { libc::mount(none, root, none, libc::MS_SLAVE | libc::MS_REC, none.cast()) == 0 }
}

fn mount_through_user() -> bool {
    unshare(libc::CLONE_NEWUSER) && mount()
}

fn unshare(flags: i32) -> bool {
    // SAFETY: takes no pointer; only the probing child calls it.
    unsafe { libc::unshare(flags) == 0 }
}

#[cfg(test)]
mod tests {
    use super::{SeccompAction, seccomp_action};

    #[test]
    fn probing_answers_without_changing_this_process() {
        let before = std::fs::read_to_string("/proc/self/status").expect("status");
        let _ = super::landlock_abi();
        seccomp_action(SeccompAction::Errno).expect("every seccomp kernel has it");
        super::namespaces(true).expect("the child is made and reaped");
        super::mounting(true).expect("the child is made and reaped");
        let after = std::fs::read_to_string("/proc/self/status").expect("status");
        let line = |text: &str, key: &str| text.lines().find(|l| l.starts_with(key)).map(str::to_owned);
        assert_eq!(line(&before, "Seccomp:"), line(&after, "Seccomp:"));
        assert_eq!(line(&before, "SigBlk:"), line(&after, "SigBlk:"));
    }
}
