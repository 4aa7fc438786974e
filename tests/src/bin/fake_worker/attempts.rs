//! What is tried with descriptors and with the memory as a whole: before confinement, as the control, and after.

#![allow(unsafe_code, reason = "system calls that must fail")]

use std::fmt::Write;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::memory::Memory;

/// Lines of `attempt: done` or `attempt: errno`.
#[derive(Default)]
struct Report(String);

impl Report {
    fn note<T>(&mut self, attempt: &str, result: Result<T, rustix::io::Errno>) {
        let result = result.map_or_else(|errno| errno.raw_os_error().to_string(), |_| "done".to_owned());
        // A String takes everything.
        let _ = writeln!(self.0, "{attempt}: {result}");
    }
}

/// With every right that an ordinary process has. The memory is only what its seals let be done to it.
pub(crate) fn before_confinement(setup: &OwnedFd, memory: OwnedFd) -> String {
    let mut report = Report::default();
    report.note("shrink", rustix::fs::ftruncate(&memory, 0));
    report.note("grow", rustix::fs::ftruncate(&memory, 1 << 30));
    report.note("seal", rustix::fs::fcntl_add_seals(&memory, rustix::fs::SealFlags::FUTURE_WRITE));
    let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    let end = hotcell_protocol::ring::FILE_LEN as u64 - 4096;
    report.note("punch a hole", rustix::fs::fallocate(&memory, flags, end, 4096));
    let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    report.note("pass a descriptor", pair.and_then(|(near, _far)| pass(near.as_fd(), setup.as_fd())));
    report.0
}

fn pass(through: BorrowedFd<'_>, descriptor: BorrowedFd<'_>) -> Result<usize, rustix::io::Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)), "room for one");
    rustix::net::sendmsg(through, &[IoSlice::new(b"x")], &mut control, SendFlags::NOSIGNAL)
}

/// The same as a plugin.
pub(crate) fn under_confinement(memory: &Memory) -> String {
    let mut report = Report::default();
    for number in 0..16 {
        // SAFETY: never closed through this; a number that is not open is what is tried, too.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        report.note(&format!("pass a descriptor through {number}"), pass(descriptor, descriptor));
        report.note(&format!("shrink {number}"), rustix::fs::ftruncate(descriptor, 0));
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        report
            .note(&format!("punch a hole into {number}"), rustix::fs::fallocate(descriptor, flags, 0, 4096));
        report.note(&format!("read from {number} what it is"), rustix::fs::fcntl_get_seals(descriptor));
        report.note(
            &format!("make {number} block"),
            rustix::fs::fcntl_setfl(descriptor, rustix::fs::OFlags::empty()),
        );
    }
    report.note("remove the memory's pages", memory.remove_pages());
    let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    report.note("make a socket", pair.map(|(near, _)| near.as_raw_fd()));
    report.0
}
