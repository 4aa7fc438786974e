//! The three imports of the ABI, and the only places where a guest's numbers become ranges of its memory.

use std::sync::OnceLock;

use hotcell_plugin::abi::{self, HostCallStatus};
use hotcell_worker::HostCallError;
use wasmtime::{Caller, Error, Linker};

use super::Guest;
use crate::engine::engine;
use crate::trap::BadArgument;

/// Bytes of the name of a host call.
const NAME_MAX: usize = 64;

/// The import module `hotcell`, made once by the launcher.
///
/// # Errors
/// Two definitions collide: a fault of the build.
pub(crate) fn linker() -> Result<&'static Linker<Guest>, String> {
    static LINKER: OnceLock<Result<Linker<Guest>, String>> = OnceLock::new();
    let made = LINKER.get_or_init(|| {
        let mut linker = Linker::new(engine()?);
        define(&mut linker).map_err(|error| format!("failed to prepare the imports: {error:#}"))?;
        Ok(linker)
    });
    made.as_ref().map_err(Clone::clone)
}

fn define(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(abi::IMPORT_MODULE, abi::REPLY, reply)?;
    linker.func_wrap(abi::IMPORT_MODULE, abi::HOST_CALL, host_call)?;
    linker.func_wrap(abi::IMPORT_MODULE, abi::HOST_TAKE, host_take)?;
    Ok(())
}

fn reply(mut caller: Caller<'_, Guest>, address: u32, length: u32) -> wasmtime::Result<()> {
    let (memory, guest) = split(&mut caller)?;
    let bytes = range(memory, address, length, abi::REPLY)?;
    let given = guest.link.link().is_none_or(|link| link.give(bytes).is_ok());
    guest.over_limit = (!given).then_some(length);
    Ok(())
}

fn host_call(
    mut caller: Caller<'_, Guest>,
    name: u32,
    name_len: u32,
    input: u32,
    input_len: u32,
) -> wasmtime::Result<i64> {
    let (memory, guest) = split(&mut caller)?;
    let name = range(memory, name, name_len, abi::HOST_CALL)?;
    let input = range(memory, input, input_len, abi::HOST_CALL)?;
    let name = std::str::from_utf8(name).ok().filter(|name| name.len() <= NAME_MAX);
    let name =
        name.ok_or_else(|| bad(format!("`host_call`: a name is at most {NAME_MAX} bytes of UTF-8")))?;
    let answer = match guest.link.link() {
        Some(link) => link.host_call(name, input),
        None => Err(HostCallError::Refused),
    };
    Ok(guest.keep(answer).encode())
}

fn host_take(mut caller: Caller<'_, Guest>, address: u32, capacity: u32) -> wasmtime::Result<u32> {
    let (memory, guest) = split(&mut caller)?;
    let length = u32::try_from(guest.answer.len()).unwrap_or(u32::MAX).min(capacity);
    let target = range_mut(memory, address, length, abi::HOST_TAKE)?;
    target.copy_from_slice(guest.answer.get(..target.len()).unwrap_or_default());
    Ok(length)
}

impl Guest {
    fn keep(&mut self, answer: Result<Vec<u8>, HostCallError>) -> HostCallStatus {
        match answer {
            Ok(answer) => {
                self.answer = answer;
                HostCallStatus::Answered(self.answer.len() as u64)
            }
            Err(HostCallError::Failed(text)) => {
                self.answer = text.into_bytes();
                HostCallStatus::FailedWithText(self.answer.len() as u64)
            }
            Err(HostCallError::Refused) => {
                self.answer.clear();
                HostCallStatus::Refused
            }
            Err(HostCallError::OverLimit) => {
                self.answer.clear();
                HostCallStatus::Failed
            }
        }
    }
}

fn split<'a>(caller: &'a mut Caller<'_, Guest>) -> wasmtime::Result<(&'a mut [u8], &'a mut Guest)> {
    // A start function runs before the memory is known, and has no business here.
    let memory =
        caller.data().memory.ok_or_else(|| bad("a start function cannot use the host".to_owned()))?;
    Ok(memory.data_and_store_mut(caller))
}

fn range<'m>(memory: &'m [u8], address: u32, length: u32, what: &str) -> wasmtime::Result<&'m [u8]> {
    let bounds = bounds(address, length);
    memory.get(bounds).ok_or_else(|| outside(address, length, what))
}

/// The bytes of a range that the guest named, or a trap.
pub(super) fn range_mut<'m>(
    memory: &'m mut [u8],
    address: u32,
    length: u32,
    what: &str,
) -> wasmtime::Result<&'m mut [u8]> {
    let bounds = bounds(address, length);
    memory.get_mut(bounds).ok_or_else(|| outside(address, length, what))
}

/// Cannot overflow: both are 32-bit, and usize is not.
fn bounds(address: u32, length: u32) -> std::ops::Range<usize> {
    address as usize..address as usize + length as usize
}

fn outside(address: u32, length: u32, what: &str) -> Error {
    bad(format!("`{what}`: {length} bytes at {address:#x} are not all in memory"))
}

fn bad(text: String) -> Error {
    Error::new(BadArgument(text))
}

#[cfg(test)]
mod tests {
    use super::{range, range_mut};
    use crate::trap::BadArgument;

    #[test]
    fn a_range_at_the_edge_is_inside_and_one_byte_more_is_not() {
        let mut memory = [0_u8; 16];
        assert_eq!(range(&memory, 8, 8, "test").expect("inside").len(), 8);
        assert_eq!(range(&memory, 16, 0, "test").expect("empty at the end").len(), 0);
        for (address, length) in [(8, 9), (17, 0), (u32::MAX, 1), (0xffff_fff0, 0x20), (0, u32::MAX)] {
            let error = range_mut(&mut memory, address, length, "test").expect_err("outside");
            assert!(error.downcast_ref::<BadArgument>().is_some());
        }
    }
}
