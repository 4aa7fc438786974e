//! The only unsafe code: a native library loaded into this process.
//!
//! Nothing stops the library from doing what it likes to this process; that is what the peer "dlopen" shows.

#![allow(unsafe_code, reason = "calls into C")]

use std::cell::RefCell;
use std::path::Path;

use libloading::Library;

use crate::failure::{Failure, failed};

/// The version of hotcell's plugin ABI that the library must speak.
const ABI_VERSION: u32 = 1;
/// What the entry returns to accept the load.
const ACCEPTED: u32 = 0;
/// What an export returns when its reply is a result.
const OK: i32 = 0;
/// What a host call is answered with: there is none here.
const NO_HOST_CALL: i64 = -1;

type Entry = unsafe extern "C" fn(*const HostTable) -> u32;
type Export = unsafe extern "C" fn(*const u8, usize) -> i32;

/// `struct hotcell_host` of `hotcell_plugin.h`: the functions that a library may call.
#[repr(C)]
struct HostTable {
    version: u32,
    size: u32,
    reply: unsafe extern "C" fn(*const u8, usize),
    host_call: unsafe extern "C" fn(*const u8, usize, *const u8, usize) -> i64,
    host_take: unsafe extern "C" fn(*mut u8, usize) -> usize,
}

#[expect(clippy::cast_possible_truncation, reason = "five fields")]
static TABLE: HostTable =
    HostTable { version: ABI_VERSION, size: size_of::<HostTable>() as u32, reply, host_call, host_take };

thread_local! {
    /// The reply of the running call.
    static REPLY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The export "ok" of a library.
pub(crate) struct LoadedExport {
    export: Export,
    /// Keeps the export's code mapped.
    _library: Library,
}

impl LoadedExport {
    /// Loads a library and enters it.
    pub(crate) fn open(path: &Path) -> Result<LoadedExport, Failure> {
        // SAFETY: runs the constructors of a library that the caller of this program chose to trust with this process.
        let library = unsafe { Library::new(path) }.map_err(failed("load the library"))?;
        // SAFETY: hotcell_plugin.h declares this symbol with this type.
        let entry =
            *unsafe { library.get::<Entry>("hotcell_plugin_v1") }.map_err(failed("find the entry"))?;
        // SAFETY: hotcell_plugin.h declares exports with this type.
        let export =
            *unsafe { library.get::<Export>("hotcell_export_ok") }.map_err(failed("find the export"))?;
        // SAFETY: the table is static, and the library is loaded.
        let answer = unsafe { entry(&raw const TABLE) };
        if answer != ACCEPTED {
            return Err(failed("enter the library")("it refused"));
        }
        Ok(LoadedExport { export, _library: library })
    }

    /// Calls the export and takes its reply.
    pub(crate) fn call(&self, input: &[u8]) -> Result<Vec<u8>, Failure> {
        // SAFETY: `self` keeps the library loaded, and the input outlives the call.
        let status = unsafe { (self.export)(input.as_ptr(), input.len()) };
        let reply = REPLY.take();
        if status == OK { Ok(reply) } else { Err(Failure::Refused(String::from_utf8_lossy(&reply).into())) }
    }
}

unsafe extern "C" fn reply(data: *const u8, length: usize) {
    let reply = if length == 0 {
        Vec::new()
    } else {
        // SAFETY: the library passes a readable range of this length, which is copied before this function returns.
        unsafe { std::slice::from_raw_parts(data, length) }.to_vec()
    };
    REPLY.set(reply);
}

unsafe extern "C" fn host_call(_: *const u8, _: usize, _: *const u8, _: usize) -> i64 {
    NO_HOST_CALL
}

unsafe extern "C" fn host_take(_: *mut u8, _: usize) -> usize {
    0
}
