//! `bare LIBRARY EXPORT [INPUT]`: calls a native plugin in this process, without any sandbox.
//!
//! The control of the attack tests: an attack that fails here too proves nothing.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;

use hotcell_plugin::abi::{self, EntryFn, ExportFn, HostCallStatus, HostTable};
use libloading::Library;

static REPLY: Mutex<Vec<u8>> = Mutex::new(Vec::new());

static TABLE: HostTable =
    HostTable { abi_version: abi::ABI_VERSION, size: abi::HOST_TABLE_SIZE, reply, host_call, host_take };

unsafe extern "C" fn reply(data: *const u8, len: usize) {
    let bytes = if len == 0 {
        Vec::new()
    } else {
        // SAFETY: the plugin promises that the bytes are readable.
        unsafe { std::slice::from_raw_parts(data, len) }.to_vec()
    };
    *REPLY.lock().expect("one thread") = bytes;
}

unsafe extern "C" fn host_call(_: *const u8, _: usize, _: *const u8, _: usize) -> i64 {
    HostCallStatus::Refused.encode()
}

unsafe extern "C" fn host_take(_: *mut u8, _: usize) -> usize {
    0
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(export)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: bare LIBRARY EXPORT [INPUT]");
        return ExitCode::from(2);
    };
    let input = arguments.next().unwrap_or_default();
    // SAFETY: the tests name only this repository's own plugins.
    let library = unsafe { Library::new(path) }.expect("the library loads");
    // SAFETY: the ABI gives the symbol this type.
    let entry = unsafe { library.get::<EntryFn>(abi::ENTRY) }.expect("it is a plugin");
    // SAFETY: the table is static.
    assert_eq!(unsafe { entry(&raw const TABLE) }, abi::ENTRY_ACCEPTED);
    // SAFETY: the ABI gives the symbol this type.
    let call = unsafe { library.get::<ExportFn>(format!("{}{export}", abi::EXPORT_PREFIX)) }
        .expect("it is exported");
    // SAFETY: the input lives until the call returns.
    let status = unsafe { call(input.as_ptr(), input.len()) };
    std::io::stdout().write_all(&REPLY.lock().expect("one thread")).expect("standard output is open");
    ExitCode::from(u8::from(status != abi::STATUS_OK))
}
