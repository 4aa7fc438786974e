//! `hotcell-compiler`: one module, one process. Started by the launcher, never by hand.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use hotcell_compiler::Compiler;
use hotcell_worker::launcher::descriptor;

fn main() {
    if let Err(error) = hotcell_compiler::warm() {
        eprintln!("hotcell-compiler: failed to make the compiler: {error}");
        std::process::exit(1);
    }
    hotcell_worker::run::<Compiler>(adopt(descriptor::SETUP), adopt(descriptor::CHANNEL))
}

/// Takes over a descriptor that the launcher left open over the exec.
fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: the launcher left this number open for this program, and nothing else here knows it; by hand, without it,
    // every use fails with EBADF.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
