//! What a pidfd still says of a process that somebody else reaped (`PIDFD_GET_INFO`, Linux 6.15).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use hotcell_protocol::WaitStatus;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::watch::Polled;

/// Whether the process behind a pidfd has not ended. Does not wait.
pub(crate) fn lives(pidfd: &Polled<OwnedFd>) -> bool {
    let mut polled = [PollFd::new(&pidfd.0, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0)
}

/// `struct pidfd_info` of linux/pidfd.h, first version.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// `PIDFD_INFO_EXIT`: the exit code is wanted, or was there.
const INFO_EXIT: u64 = 1 << 3;

/// `_IOWR(0xFF, 11, struct pidfd_info)`, with the size of the first version.
const PIDFD_GET_INFO: libc::Ioctl = 0xC040_FF0B_u32 as libc::Ioctl;

/// How the process ended, once it has been reaped; `None` before that, and on kernels without it.
pub(crate) fn exit_status(pidfd: BorrowedFd<'_>) -> Option<WaitStatus> {
    let mut info = PidfdInfo { mask: INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the request's size field says 64 bytes, and `info` is 64 bytes long (asserted below).
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    (result == 0 && info.mask & INFO_EXIT != 0).then(|| decode(info.exit_code))
}

const _: () = assert!(size_of::<PidfdInfo>() == 64, "PIDFD_GET_INFO carries the size of the first version");

/// A wait(2) status word.
fn decode(word: i32) -> WaitStatus {
    if libc::WIFEXITED(word) {
        WaitStatus::Exited { code: libc::WEXITSTATUS(word) }
    } else {
        WaitStatus::Signaled { signal: libc::WTERMSIG(word) }
    }
}

#[cfg(test)]
mod tests {
    use super::{WaitStatus, decode};

    #[test]
    fn a_wait_status_word_is_a_code_or_a_signal() {
        assert_eq!(decode(7 << 8), WaitStatus::Exited { code: 7 });
        assert_eq!(decode(11), WaitStatus::Signaled { signal: 11 });
        assert_eq!(decode(11 | 0x80), WaitStatus::Signaled { signal: 11 }, "with a core dump");
    }
}
