//! What people write, as trees with positions: JSON manifests, TOML profiles.

mod diagnostic;

pub use diagnostic::ParseError;
pub(crate) use diagnostic::{Document, Span, is_hidden, shown};
