//! A native plugin loaded into this process: what people do without hotcell.
//!
//! Nothing stops the library from doing what it likes to this process.

use std::cell::RefCell;
use std::path::Path;

use hotcell_plugin::abi::{
    ABI_VERSION, ENTRY, ENTRY_ACCEPTED, EXPORT_PREFIX, EntryFn, ExportFn, HOST_TABLE_SIZE, HostCallStatus,
    HostTable, STATUS_OK,
};
use libloading::Library;

use crate::failure::Failure;

thread_local! {
    static REPLY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

static TABLE: HostTable =
    HostTable { abi_version: ABI_VERSION, size: HOST_TABLE_SIZE, reply, host_call, host_take };

/// One export of a library in this process.
pub(crate) struct LoadedExport {
    function: ExportFn,
    /// Keeps the function's code mapped.
    _library: Library,
}

impl LoadedExport {
    /// Loads a library, enters it and finds an export.
    pub(crate) fn open(path: &Path, export: &str) -> Result<LoadedExport, Failure> {
        let subject = |source| Failure::Library { path: path.to_owned(), source };
        // SAFETY: runs the library's constructors; the file is a sample plugin of this repository, which has none.
        let library = unsafe { Library::new(path) }.map_err(subject)?;
        // SAFETY: the ABI gives the symbol of this name this type.
        let entry = *unsafe { library.get::<EntryFn>(ENTRY) }.map_err(subject)?;
        // SAFETY: the table is static, as the ABI demands.
        let accepted = unsafe { entry(&raw const TABLE) };
        if accepted != ENTRY_ACCEPTED {
            return Err(Failure::other("the library refused to be entered"));
        }
        // SAFETY: the ABI gives symbols with this prefix this type.
        let function =
            *unsafe { library.get::<ExportFn>(format!("{EXPORT_PREFIX}{export}")) }.map_err(subject)?;
        Ok(LoadedExport { function, _library: library })
    }

    /// Calls the export and takes its reply.
    pub(crate) fn call(&self, input: &[u8]) -> Result<Vec<u8>, Failure> {
        // SAFETY: the library is loaded while `self` lives, and the input outlives the call.
        let status = unsafe { (self.function)(input.as_ptr(), input.len()) };
        let reply = REPLY.take();
        if status == STATUS_OK { Ok(reply) } else { Err(Failure::other("the export returned an error")) }
    }
}

unsafe extern "C" fn reply(data: *const u8, length: usize) {
    let bytes: &[u8] = if length == 0 {
        &[]
    } else {
        // SAFETY: the ABI has the plugin pass a readable range, which is copied before this function returns.
        unsafe { std::slice::from_raw_parts(data, length) }
    };
    REPLY.set(bytes.to_vec());
}

unsafe extern "C" fn host_call(_: *const u8, _: usize, _: *const u8, _: usize) -> i64 {
    HostCallStatus::Refused.encode()
}

unsafe extern "C" fn host_take(_: *mut u8, _: usize) -> usize {
    0
}
