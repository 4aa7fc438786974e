//! Random bytes of the kernel.

use hotcell_package::hex;
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::Error;

/// Fills a key.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut key = [0; N];
    let mut filled = 0;
    while let Some(rest) = key.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match getrandom(rest, GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::io("read random bytes", errno.into())),
        }
    }
    Ok(key)
}

/// A file name that nobody guesses.
pub(crate) fn name() -> Result<String, Error> {
    Ok(hex(&bytes::<8>()?))
}
