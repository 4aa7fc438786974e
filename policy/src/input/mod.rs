//! What people write, as trees with positions: JSON manifests, TOML profiles and syscall sets.

mod diagnostic;
mod fields;
mod json;
mod toml;
mod tree;

pub use diagnostic::ParseError;
pub(crate) use diagnostic::{Document, Span, is_hidden, shown};
pub(crate) use fields::{Field, Fields};
pub(crate) use json::read_json;
pub(crate) use toml::read_toml;
pub(crate) use tree::Value;
