//! JSON at the edges of a component, both ways.
//!
//! | WIT | JSON |
//! |---|---|
//! | `bool`, `string`, `char` | boolean, string, string of one character |
//! | `u8` to `u64`, `s8` to `s64` | number without fraction, in range; all 64 bits are exact |
//! | `f32`, `f64` | number, or `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | `list<T>`, `tuple<...>` | array |
//! | `record` | object with every field, except that an `option` may be left out |
//! | `variant` | `"case"`, or `{"case": payload}` |
//! | `enum` | `"case"` |
//! | `flags` | array of names |
//! | `option<T>` | `null` or T; where T is itself an option, `{"some": T}` |
//! | `result<T, E>` | `{"ok": T}` or `{"err": E}`, with `null` where there is no type |
//!
//! The input of a call is the array of its arguments. Anything but an array is accepted as the one argument of a
//! function that has one; no input at all is no arguments. Resources, streams and futures cannot cross.

mod read;
mod shape;
mod write;

pub(crate) use read::arguments;
pub(crate) use shape::Signature;
pub(crate) use write::to_json;

/// Levels of nesting in a type. JSON itself is read to a depth of 128.
const DEPTH_MAX: usize = 60;

/// Where a value does not fit its type.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadValue {
    /// Innermost step first.
    steps: Vec<String>,
    reason: String,
}

impl BadValue {
    fn new(reason: impl Into<String>) -> BadValue {
        BadValue { steps: Vec::new(), reason: reason.into() }
    }

    /// The same, seen from one level further out.
    fn inside(mut self, step: String) -> BadValue {
        self.steps.push(step);
        self
    }
}

impl std::fmt::Display for BadValue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("$")?;
        for step in self.steps.iter().rev() {
            formatter.write_str(step)?;
        }
        write!(formatter, ": {}", self.reason)
    }
}
