//! What plugin authors link: a hotcell plugin in Rust, as a native shared library or a core wasm module.
//!
//! ```
//! fn shout(input: &[u8]) -> Result<String, String> {
//!     let text = std::str::from_utf8(input).map_err(|error| error.to_string())?;
//!     Ok(text.to_uppercase())
//! }
//!
//! hotcell_plugin::export! { shout => shout }
//! # fn main() {}
//! ```
//!
//! Build it with `crate-type = ["cdylib"]`. Components and WASI commands do not need this crate: they speak their
//! own interfaces (`wit/` beside this crate has the host's).
//!
//! The crate is a convenience for honest plugins. It gives a hostile one nothing beyond the raw ABI of [`abi`],
//! and no check in here protects the host: the host's sandbox and worker process do that.
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub mod abi;
mod boundary;
#[cfg(all(feature = "std", target_os = "linux"))]
mod connect;
#[cfg(feature = "contract")]
mod contract;
mod export;
mod host;
#[cfg(feature = "json")]
mod json;
mod program;

#[cfg(all(feature = "std", target_os = "linux"))]
pub use connect::{Connection, connect, listen, resolve};
pub use export::IntoReply;
pub use host::{HostCallError, Level, call_plugin, host_call, log};
#[cfg(feature = "json")]
pub use json::{host_call_json, json};
#[cfg(all(feature = "std", target_os = "linux"))]
pub use program::Running;
pub use program::{End, Output, Program};

/// What the expansion of [`export!`] calls. Not for people.
#[doc(hidden)]
pub mod __private {
    pub use crate::boundary::accept;
    #[cfg(target_family = "wasm")]
    pub use crate::boundary::allocate;
    #[cfg(feature = "contract")]
    pub use crate::contract::{contract, describe};
    pub use crate::export::{run, run_hook};
}
