//! Hostile behaviours, run against a profile: each with what must come of it, the layer that stops it, and its control.
//!
//! The attacks are text (`corpus/attacks/*.toml`), for reviewers to read and to add to. Most are system calls that the crash
//! lab (`plugins/crash-lab`) makes by number; the others are its exports, and packages that misbehave while they are
//! loaded. An attack that is stopped proves little unless the same code succeeds elsewhere: that is its control, which runs
//! the same library in a process without a sandbox.
//!
//! That every attack is stopped does not show that a profile is safe: it shows that these are stopped.

#![forbid(unsafe_code)]

mod attack;
mod control;
mod lab;
mod report;
mod seen;

pub use attack::{Attack, Corpus, CorpusError, Elsewhere, Uncovered};
pub use control::{Bare, Control};
pub use lab::{Finding, Lab, LabError};
pub use report::markdown;
pub use seen::Seen;
