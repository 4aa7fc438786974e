//! The native runtime: a shared library with the C ABI of `sdk/`.
//!
//! The library's constructors run inside `dlopen`, so the whole sandbox stands before [`Runtime::load`] is called.
//! Nothing here protects this process from the library: it shares its memory and may call the host table with any
//! argument, from any place.

#![allow(unsafe_code, reason = "dlopen, and calls through the C ABI")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Once;

use hotcell_plugin::abi::{self, EntryFn, ExportFn, HookFn, HostCallStatus, HostTable, StateLoadFn};
use hotcell_protocol::ring::Input;
use hotcell_protocol::{Failure, ReplyStatus, hook};
use libloading::os::unix::{Library, RTLD_LAZY, RTLD_LOCAL, RTLD_NOW};

use crate::confine::Confined;
use crate::crash;
use crate::link::{HostCallError, Link};
use crate::program;
use crate::sockets;
use crate::start::{
    Inherited, Meeting, Reply, Runtime, Started, load_failure, no_hook, run, serve, split_state,
};
use crate::sys;

/// What a plugin may expect of the system beside libc: compiled code of C, C++ and Rust needs these.
///
/// They are mapped before confinement, because afterwards no file can be opened. A machine without one of them runs
/// the plugins that do not need it; the others are refused by the name of the missing library.
const SYSTEM_LIBRARIES: [&str; 3] = ["libm.so.6", "libgcc_s.so.1", "libstdc++.so.6"];

/// The main function of `hotcell-worker`.
pub fn main() -> ! {
    sys::reset_signals();
    warm();
    // Nobody reads why: the host learns of every other end from the kernel.
    let _ =
        Meeting::begin(Inherited::adopt()).and_then(|meeting| match meeting.started.start.orders.runtime {
            hotcell_protocol::Runtime::Program => program::become_one(meeting),
            _ => serve::<Native>(meeting),
        });
    sys::exit_now(1)
}

/// A copy of the launcher, from here on a native worker.
pub(crate) fn run_forked(inherited: Inherited) -> ! {
    // Without the handlers of wasmtime.
    sys::reset_signals();
    run::<Native>(inherited)
}

/// Maps [`SYSTEM_LIBRARIES`]; the second time it changes nothing.
pub(crate) fn warm() {
    static WARM: Once = Once::new();
    WARM.call_once(|| {
        for name in SYSTEM_LIBRARIES {
            // Their functions are looked up when first called: a plugin needs few of them.
            // SAFETY: the system's own libraries, loaded before any plugin exists; their constructors are trusted.
            if let Ok(library) = unsafe { Library::open(Some(name), RTLD_LAZY | RTLD_LOCAL) } {
                std::mem::forget(library);
            }
        }
    });
}

/// A loaded library. It is never unloaded: the process ends instead.
#[derive(Debug)]
pub struct Native {
    library: Library,
    exports: HashMap<String, ExportFn>,
    /// The export that was called last, which most often is the next.
    last: Option<(String, ExportFn)>,
}

impl Runtime for Native {
    const LOAD_RUNS_CODE: bool = true;

    fn prepare(started: &mut Started) -> Result<(), Failure> {
        sockets::install(ask_for_socket)
            .map_err(|errno| load_failure(format!("failed to prepare for connections: {errno}")))?;
        crash::install(&started.notes)
            .map_err(|errno| load_failure(format!("failed to prepare the notes of a crash: {errno}")))?;
        crash::note_modules("");
        Ok(())
    }

    fn load(_: &Confined, started: &mut Started) -> Result<Native, Failure> {
        let artifact: OwnedFd =
            started.artifact.take().ok_or_else(|| load_failure("the host sent no artifact"))?.into();
        let path = format!("/proc/self/fd/{}", artifact.as_raw_fd());
        // SAFETY: the library is hostile code by design; the process is confined, as `Confined` proves.
        let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) }
            .map_err(|error| load_failure(format!("failed to load the library: {}", reason(&error))))?;
        crash::note_modules(&path);
        Ok(Native { library, exports: HashMap::new(), last: None })
    }

    fn ready(&mut self, started: &Started, link: &mut Link) -> Result<(), Failure> {
        // SAFETY: the ABI gives the entry symbol this type; a library that lies harms only its own process.
        let entry = unsafe { self.library.get::<EntryFn>(abi::ENTRY) }
            .map_err(|_| load_failure(format!("the library has no entry symbol `{}`", abi::ENTRY)))?;
        let (verdict, _) = exchange(link, || {
            // SAFETY: the table is a static that lives as long as the process.
            unsafe { entry(&raw const HOST_TABLE) }
        });
        if verdict != abi::ENTRY_ACCEPTED {
            let text = link.given_text();
            return Err(load_failure(format!("the plugin refused its host with code {verdict}: {text}")));
        }
        match &started.start.config {
            Some(config) => self.configure(config, link),
            None => Ok(()),
        }
    }

    fn call(&mut self, export: &str, input: &Input, link: &mut Link) -> Reply {
        if let Some((_, found)) = self.last.as_ref().filter(|(name, _)| name == export) {
            return invoke(*found, input, link);
        }
        if let Some(found) = self.exports.get(export) {
            self.last = Some((export.to_owned(), *found));
            return invoke(*found, input, link);
        }
        match export {
            hook::HEALTH => return self.hook(abi::HEALTH, link),
            hook::STATE_SAVE => return self.hook(abi::STATE_SAVE, link),
            hook::STATE_LOAD => return self.load_state(input, link),
            hook::CONFIGURE => {
                let configure = self.find(abi::CONFIGURE);
                return configure.map_or_else(|| no_hook(abi::CONFIGURE), |found| invoke(found, input, link));
            }
            hook::MISSING => return self.missing(input),
            name if !abi::is_export_name(name) => {
                return Reply::text(ReplyStatus::NoSuchExport, format!("`{name}` cannot name an export"));
            }
            _ => {}
        }
        match self.find(&format!("{}{export}", abi::EXPORT_PREFIX)) {
            Some(found) => {
                self.exports.insert(export.to_owned(), found);
                invoke(found, input, link)
            }
            None => Reply::text(ReplyStatus::NoSuchExport, format!("the plugin has no export `{export}`")),
        }
    }
}

impl Native {
    fn configure(&self, config: &str, link: &mut Link) -> Result<(), Failure> {
        let Some(function) = self.find(abi::CONFIGURE) else {
            let symbol = abi::CONFIGURE;
            return Err(load_failure(format!(
                "the manifest has a `config`, but the library has no `{symbol}`"
            )));
        };
        match invoke(function, config.as_bytes(), link).status {
            ReplyStatus::Ok => Ok(()),
            _ => Err(load_failure(format!("the plugin refused its configuration: {}", link.given_text()))),
        }
    }

    fn hook(&self, symbol: &str, link: &mut Link) -> Reply {
        // SAFETY: the ABI gives these functions this type; a library that lies harms only its own process.
        let Ok(function) = (unsafe { self.library.get::<HookFn>(symbol) }) else { return no_hook(symbol) };
        let (status, exchange) = exchange(link, || {
            // SAFETY: it takes no argument.
            unsafe { function() }
        });
        exchange.into_reply(status)
    }

    fn load_state(&self, input: &[u8], link: &mut Link) -> Reply {
        let (version, state) = match split_state(input) {
            Ok(parts) => parts,
            Err(reply) => return reply,
        };
        // SAFETY: the ABI gives this function this type; a library that lies harms only its own process.
        let Ok(function) = (unsafe { self.library.get::<StateLoadFn>(abi::STATE_LOAD) }) else {
            return no_hook(abi::STATE_LOAD);
        };
        let (status, exchange) = exchange(link, || {
            // SAFETY: the state lives until the function returns, as the ABI promises.
            unsafe { function(version, state.as_ptr(), state.len()) }
        });
        exchange.into_reply(status)
    }

    /// Which of the exports named in the input are not there.
    fn missing(&self, input: &[u8]) -> Reply {
        let names = String::from_utf8_lossy(input);
        let there = |name: &str| {
            abi::is_export_name(name) && self.find(&format!("{}{name}", abi::EXPORT_PREFIX)).is_some()
        };
        let missing: Vec<_> = names.lines().filter(|name| !there(name)).collect();
        Reply::text(ReplyStatus::Ok, missing.join(", "))
    }

    fn find(&self, symbol: &str) -> Option<ExportFn> {
        // SAFETY: the ABI gives exports this type; a library that lies harms only its own process.
        let export = unsafe { self.library.get::<ExportFn>(symbol) }.ok()?;
        Some(*export)
    }
}

fn invoke(export: ExportFn, input: &[u8], link: &mut Link) -> Reply {
    let (status, exchange) = exchange(link, || {
        // SAFETY: the input lives until the function returns, as the ABI promises; the library is never unloaded.
        unsafe { export(input.as_ptr(), input.len()) }
    });
    exchange.into_reply(status)
}

/// What dlopen said, without the path under which the host passed the library.
fn reason(error: &libloading::Error) -> String {
    let said = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    match said.split_once(": ") {
        Some((path, rest)) if path.starts_with("/proc/self/fd/") => rest.to_owned(),
        _ => said,
    }
}

/// What passes between plugin and worker during one call.
#[derive(Debug, Default)]
struct Exchange {
    link: Option<NonNull<Link>>,
    /// Size of a reply that is over the limit and was not copied.
    over_limit: Option<usize>,
    answer: Vec<u8>,
}

thread_local! {
    static EXCHANGE: RefCell<Exchange> = RefCell::default();
}

/// Runs plugin code with the host functions connected to `link`, and returns what it left behind.
fn exchange<T>(link: &mut Link, plugin: impl FnOnce() -> T) -> (T, Exchange) {
    EXCHANGE.set(Exchange { link: Some(NonNull::from(link)), ..Exchange::default() });
    let result = plugin();
    (result, EXCHANGE.take())
}

impl Exchange {
    fn into_reply(self, status: i32) -> Reply {
        match (self.over_limit, status) {
            (Some(size), _) => Reply::text(
                ReplyStatus::OverLimit,
                format!("the reply of {size} bytes is over the message limit"),
            ),
            (None, abi::STATUS_OK) => Reply::given(ReplyStatus::Ok),
            (None, _) => Reply::given(ReplyStatus::PluginError),
        }
    }

    /// Copies a reply, unless it is over the limit or memory is short.
    ///
    /// # Safety
    /// `data` must be readable for `len` bytes.
    unsafe fn take_reply(&mut self, data: *const u8, len: usize) {
        let Some(mut link) = self.link else { return };
        // SAFETY: as the caller promises.
        let reply = unsafe { bytes(data, len) };
        // SAFETY: points to the `Link` of the running call; nothing else uses it while plugin code runs.
        self.over_limit = unsafe { link.as_mut() }.give(reply).err();
    }
}

static HOST_TABLE: HostTable =
    HostTable { abi_version: abi::ABI_VERSION, size: abi::HOST_TABLE_SIZE, reply, host_call, host_take };

/// `hotcell_host.reply`.
unsafe extern "C" fn reply(data: *const u8, len: usize) {
    // SAFETY: the plugin promises that the bytes are readable; if they are not, only its process ends.
    EXCHANGE.with_borrow_mut(|exchange| unsafe { exchange.take_reply(data, len) });
}

/// Asks the host for a socket while a call runs. What comes of it, the next socket(2) says.
fn ask_for_socket(name: &str, address: &str) {
    let link = EXCHANGE.try_with(|exchange| exchange.try_borrow().ok().and_then(|exchange| exchange.link));
    if let Ok(Some(mut link)) = link {
        // SAFETY: points to the `Link` of the running call; nothing else uses it while plugin code runs.
        let _ = unsafe { link.as_mut() }.host_call(name, address.as_bytes());
    }
}

/// `hotcell_host.host_call`.
unsafe extern "C" fn host_call(name: *const u8, name_len: usize, input: *const u8, len: usize) -> i64 {
    let Some(mut link) = EXCHANGE.with_borrow(|exchange| exchange.link) else {
        return HostCallStatus::Refused.encode();
    };
    // SAFETY: the plugin promises that the name is readable; if it is not, only its process ends.
    let name = unsafe { bytes(name, name_len) };
    let Ok(name) = std::str::from_utf8(name) else {
        return HostCallStatus::Refused.encode();
    };
    // SAFETY: likewise.
    let input = unsafe { bytes(input, len) };
    // SAFETY: points to the `Link` of the running call; nothing else uses it while plugin code runs.
    let answer = unsafe { link.as_mut() }.host_call(name, input);
    EXCHANGE.with_borrow_mut(|exchange| keep(exchange, answer)).encode()
}

fn keep(exchange: &mut Exchange, answer: Result<Vec<u8>, HostCallError>) -> HostCallStatus {
    match answer {
        Ok(answer) => {
            exchange.answer = answer;
            HostCallStatus::Answered(exchange.answer.len() as u64)
        }
        Err(HostCallError::Refused) => HostCallStatus::Refused,
        Err(HostCallError::Failed(text)) => {
            exchange.answer = text.into_bytes();
            HostCallStatus::FailedWithText(exchange.answer.len() as u64)
        }
        Err(HostCallError::OverLimit) => HostCallStatus::Failed,
    }
}

/// `hotcell_host.host_take`.
unsafe extern "C" fn host_take(out: *mut u8, capacity: usize) -> usize {
    EXCHANGE.with_borrow_mut(|exchange| {
        let count = exchange.answer.len().min(capacity);
        // SAFETY: the plugin promises that `capacity` bytes can be written at `out`, and `count` is no more; the answer
        // is this process's own buffer, so the ranges do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(exchange.answer.as_ptr(), out, count) };
        count
    })
}

/// The bytes that a plugin points at; a null pointer is none.
///
/// # Safety
/// `data` must be null or readable for `len` bytes while the result lives.
unsafe fn bytes<'b>(data: *const u8, len: usize) -> &'b [u8] {
    if data.is_null() || len == 0 {
        return &[];
    }
    // SAFETY: as the caller promises.
    unsafe { std::slice::from_raw_parts(data, len) }
}
