//! What a reviewer asks of profiles: what differs, what is allowed and why, and what looks wrong.
//!
//! Like all of this crate it asks no kernel. It says nothing about what a plugin does with its grants.

mod calls;
mod diff;
mod explain;
mod inclusion;
mod lint;
mod platform;
#[cfg(test)]
mod tests;
mod widening;

pub use diff::{Difference, Mark, diff};
pub use explain::{
    Access, Argument, Explanation, Ground, Question, QuestionError, StageAnswer, Verdict, explain, grants,
    grants_json,
};
pub use inclusion::Call;
pub use lint::{Warning, lint};
pub use platform::PlatformError;
pub use widening::widened;
