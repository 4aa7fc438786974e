//! From a Rust function to an exported symbol: the `export!` macro and what its expansion calls.
//!
//! A panic becomes a plugin error here (with the feature `std`, on targets that unwind). That is a courtesy to the
//! caller: a plugin that panics in a constructor, in a destructor or twice still takes its process down.

use crate::abi::{STATUS_ERROR, STATUS_OK};
use crate::boundary::{self, Input};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;

/// What an exported function may return as its result: bytes, or something that is bytes.
pub trait IntoReply {
    /// The bytes of the reply. They go to the host as they are.
    fn into_reply(self) -> Vec<u8>;
}

impl IntoReply for Vec<u8> {
    fn into_reply(self) -> Vec<u8> {
        self
    }
}

impl IntoReply for &[u8] {
    fn into_reply(self) -> Vec<u8> {
        self.to_vec()
    }
}

impl IntoReply for String {
    fn into_reply(self) -> Vec<u8> {
        self.into_bytes()
    }
}

impl IntoReply for &str {
    fn into_reply(self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl IntoReply for () {
    fn into_reply(self) -> Vec<u8> {
        Vec::new()
    }
}

/// Runs an exported function on the worker's input, replies, and returns the status.
///
/// # Safety
/// `data` and `length` are what the worker passed to the export, unchanged and not used before.
pub unsafe fn run<R: IntoReply, E: Display>(
    data: *const u8,
    length: usize,
    function: impl FnOnce(&[u8]) -> Result<R, E>,
) -> i32 {
    // SAFETY: the worker passes readable bytes that stay unchanged during the call, in wasm those of `allocate`.
    let input = unsafe { Input::new(data, length) };
    run_hook(|| function(input.bytes()))
}

/// Runs a function without input, replies, and returns the status.
pub fn run_hook<R: IntoReply, E: Display>(function: impl FnOnce() -> Result<R, E>) -> i32 {
    match guard(|| function().map(IntoReply::into_reply).map_err(|error| error.to_string())) {
        Ok(reply) => {
            boundary::reply(&reply);
            STATUS_OK
        }
        Err(text) => {
            boundary::reply(text.as_bytes());
            STATUS_ERROR
        }
    }
}

/// Turns a panic into an error text. What the plugin left half done is the plugin's to repair; a `Mutex` is poisoned.
#[cfg(feature = "std")]
fn guard<R>(function: impl FnOnce() -> Result<R, String>) -> Result<R, String> {
    match std::panic::catch_unwind(core::panic::AssertUnwindSafe(function)) {
        Ok(result) => result,
        Err(payload) => {
            let message = payload
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("(no message)");
            let text = std::format!("panicked: {message}");
            // The destructor of a payload may panic itself, outside of this guard.
            core::mem::forget(payload);
            Err(text)
        }
    }
}

#[cfg(not(feature = "std"))]
fn guard<R>(function: impl FnOnce() -> Result<R, String>) -> Result<R, String> {
    function()
}

/// Exports functions to the host. To be used once per plugin, at the top level.
///
/// Each `name => function` makes the export `name`. The function takes `&[u8]` and returns `Result<R, E>` where `R` is
/// [`IntoReply`] and `E` is `Display`; with the feature `json`, `json(function)` makes one of a typed function. With the
/// feature `contract` the types of those written so are told to whoever builds the plugin ([`CONTRACT`](crate::abi::CONTRACT));
/// each has to be a `schemars::JsonSchema`.
///
/// After a semicolon come the optional hooks:
///
/// | hook | type | means |
/// |---|---|---|
/// | `state_save` | `fn() -> Result<R, E>` | the state, to be given to the next version |
/// | `state_load` | `fn(u32, &[u8]) -> Result<(), E>` | takes the state that version `u32` saved |
/// | `health` | `fn() -> Result<R, E>` | an error means: replace me |
/// | `configure` | `fn(&[u8]) -> Result<R, E>` | takes the new configuration, JSON |
///
/// ```
/// use std::sync::atomic::{AtomicU8, Ordering};
///
/// static LAST: AtomicU8 = AtomicU8::new(0);
///
/// fn remember(input: &[u8]) -> Result<(), &'static str> {
///     let byte = input.first().ok_or("nothing to remember")?;
///     LAST.store(*byte, Ordering::Relaxed);
///     Ok(())
/// }
///
/// fn save() -> Result<Vec<u8>, String> {
///     Ok(vec![LAST.load(Ordering::Relaxed)])
/// }
///
/// fn load(version: u32, state: &[u8]) -> Result<(), String> {
///     if version == 1 { remember(state).map_err(String::from) } else { Err(format!("unknown version {version}")) }
/// }
///
/// hotcell_plugin::export! {
///     remember => remember;
///     state_save: save,
///     state_load: load,
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export {
    ( $($all:tt)* ) => {
        $crate::__entry! {}
        $crate::__exports! { [] $($all)* }
    };
}

/// The list of `export!`, piece by piece: in brackets stands what was typed so far.
#[doc(hidden)]
#[macro_export]
macro_rules! __exports {
    ( [ $($typed:tt)* ] $name:ident => json ( $function:expr ) $($rest:tt)* ) => {
        $crate::__export! { $name, json($function) }
        $crate::__exports! { @more [ $($typed)* ($name, $function) ] $($rest)* }
    };
    ( [ $($typed:tt)* ] $name:ident => hotcell_plugin::json ( $function:expr ) $($rest:tt)* ) => {
        $crate::__export! { $name, $crate::json($function) }
        $crate::__exports! { @more [ $($typed)* ($name, $function) ] $($rest)* }
    };
    ( $typed:tt $name:ident => $function:expr ) => {
        $crate::__exports! { $typed $name => $function, }
    };
    ( $typed:tt $name:ident => $function:expr ; $($hooks:tt)* ) => {
        $crate::__exports! { $typed $name => $function, ; $($hooks)* }
    };
    ( $typed:tt $name:ident => $function:expr , $($rest:tt)* ) => {
        $crate::__export! { $name, $function }
        $crate::__exports! { $typed $($rest)* }
    };
    ( @more $typed:tt $(, $($rest:tt)* )? ) => {
        $crate::__exports! { $typed $($($rest)*)? }
    };
    ( @more $typed:tt ; $($hooks:tt)* ) => {
        $crate::__exports! { $typed ; $($hooks)* }
    };
    ( [ $($typed:tt)* ] $( ; $( $hook:ident : $handler:expr ),* $(,)? )? ) => {
        $crate::__contract! { $($typed)* }
        $( $( $crate::__hook! { $hook, $handler } )* )?
    };
}

/// What says the types of typed exports, where the feature `contract` is on.
#[cfg(not(feature = "contract"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __contract {
    ( $($typed:tt)* ) => {};
}

/// What says the types of typed exports.
#[cfg(feature = "contract")]
#[doc(hidden)]
#[macro_export]
macro_rules! __contract {
    () => {};
    ( $( ($name:ident, $function:expr) )+ ) => {
        $crate::__export! {
            hotcell_contract,
            |_: &[u8]| $crate::__private::contract([
                $( $crate::__private::describe(stringify!($name), &$function) ),+
            ])
        }
    };
}

/// The entry symbol, and for wasm the allocator of input buffers.
#[doc(hidden)]
#[macro_export]
macro_rules! __entry {
    () => {
        const _: () = {
            #[cfg(not(target_family = "wasm"))]
            #[unsafe(export_name = "hotcell_plugin_v1")]
            unsafe extern "C" fn entry(host: *const $crate::abi::HostTable) -> u32 {
                // SAFETY: only the worker calls the entry symbol, with a table that lives as long as the process.
                unsafe { $crate::__private::accept(host) }
            }

            #[cfg(target_family = "wasm")]
            #[unsafe(export_name = "hotcell_plugin_v1")]
            extern "C" fn entry() -> u32 {
                $crate::__private::accept()
            }

            #[cfg(target_family = "wasm")]
            #[unsafe(export_name = "hotcell_alloc")]
            extern "C" fn allocate(length: usize) -> *mut u8 {
                $crate::__private::allocate(length)
            }
        };
    };
}

/// One export.
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ( $name:ident, $function:expr ) => {
        const _: () = {
            assert!(
                $crate::abi::is_export_name(stringify!($name)),
                "an export name has 1 to 64 ASCII letters, digits or _"
            );

            #[unsafe(export_name = concat!("hotcell_export_", stringify!($name)))]
            unsafe extern "C" fn export(data: *const u8, length: usize) -> i32 {
                // SAFETY: only the worker calls exports, with its own input.
                unsafe { $crate::__private::run(data, length, |input: &[u8]| ($function)(input)) }
            }
        };
    };
}

/// One hook.
#[doc(hidden)]
#[macro_export]
macro_rules! __hook {
    ( state_save, $handler:expr ) => {
        const _: () = {
            #[unsafe(export_name = "hotcell_state_save")]
            extern "C" fn hook() -> i32 {
                $crate::__private::run_hook(|| ($handler)())
            }
        };
    };
    ( state_load, $handler:expr ) => {
        const _: () = {
            #[unsafe(export_name = "hotcell_state_load")]
            unsafe extern "C" fn hook(version: u32, data: *const u8, length: usize) -> i32 {
                // SAFETY: only the worker calls hooks, with its own input.
                unsafe { $crate::__private::run(data, length, |state: &[u8]| ($handler)(version, state)) }
            }
        };
    };
    ( health, $handler:expr ) => {
        const _: () = {
            #[unsafe(export_name = "hotcell_health")]
            extern "C" fn hook() -> i32 {
                $crate::__private::run_hook(|| ($handler)())
            }
        };
    };
    ( configure, $handler:expr ) => {
        const _: () = {
            #[unsafe(export_name = "hotcell_configure")]
            unsafe extern "C" fn hook(data: *const u8, length: usize) -> i32 {
                // SAFETY: only the worker calls hooks, with its own input.
                unsafe { $crate::__private::run(data, length, |json: &[u8]| ($handler)(json)) }
            }
        };
    };
}
