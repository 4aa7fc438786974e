//! What must hold whatever bytes come: one function for each fuzz target.
//!
//! Each takes any bytes and panics if a decoder does what it must not. `fuzz/targets` gives them to libFuzzer; the tests
//! here replay the committed seeds with a stable toolchain. What is not covered is listed in `docs/fuzzing.md`.

#![forbid(unsafe_code)]

mod filter;
mod input;
mod messages;
mod names;
mod package;
mod packet;
mod policy;
mod ring;
#[path = "../../../host/src/text.rs"]
#[allow(unreachable_pub, reason = "public in the crate that it is of")]
mod text;
mod written;

pub use filter::filter;
pub use messages::{compile, from_worker, launcher, to_worker};
pub use names::names;
pub use package::{package, signatures};
pub use packet::packet;
pub use policy::{manifest, plan, profile};
pub use ring::{ring, ring_honest, ring_race};
pub use written::text;

/// A check: panics if it fails.
pub type Check = fn(&[u8]);

/// Every check, by the name of its target and of its folder of seeds.
pub const CHECKS: [(&str, Check); 16] = [
    ("compile", compile),
    ("filter", filter),
    ("from_worker", from_worker),
    ("launcher", launcher),
    ("manifest", manifest),
    ("names", names),
    ("package", package),
    ("packet", packet),
    ("plan", plan),
    ("profile", profile),
    ("ring", ring),
    ("ring_honest", ring_honest),
    ("ring_race", ring_race),
    ("signatures", signatures),
    ("text", text),
    ("to_worker", to_worker),
];
