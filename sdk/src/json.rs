//! Typed exports and host calls: JSON at the edges, Rust types inside.
//!
//! The input of an export comes from the host's caller and is parsed with `serde_json`'s recursion limit.

use crate::host::{HostCallError, host_call};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Makes an exportable function of a typed one: the input is parsed as JSON, the result written as JSON.
///
/// ```
/// fn add((a, b): (i64, i64)) -> Result<i64, &'static str> {
///     a.checked_add(b).ok_or("the sum does not fit")
/// }
///
/// hotcell_plugin::export! { add => hotcell_plugin::json(add) }
/// # fn main() {}
/// ```
///
/// # Errors
/// The returned function fails with the parser's words if the input is not the JSON that it expects, and with the
/// words of `function` if that fails.
pub fn json<In, Out, E>(function: impl Fn(In) -> Result<Out, E>) -> impl Fn(&[u8]) -> Result<Vec<u8>, String>
where
    In: DeserializeOwned,
    Out: Serialize,
    E: Display,
{
    move |input| {
        let input =
            serde_json::from_slice(input).map_err(|error| format!("failed to read the input: {error}"))?;
        let output = function(input).map_err(|error| error.to_string())?;
        serde_json::to_vec(&output).map_err(|error| format!("failed to write the result: {error}"))
    }
}

/// [`host_call`] with JSON on both sides.
///
/// # Errors
/// Those of [`host_call`]; [`HostCallError::Failed`] if the input cannot be written or the answer cannot be read.
pub fn host_call_json<In, Out>(name: &str, input: &In) -> Result<Out, HostCallError>
where
    In: Serialize + ?Sized,
    Out: DeserializeOwned,
{
    let failed = |error: serde_json::Error| HostCallError::Failed(error.to_string());
    let input = serde_json::to_vec(input).map_err(failed)?;
    let answer = host_call(name, &input)?;
    serde_json::from_slice(&answer).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halve(number: u32) -> Result<u32, String> {
        if number.is_multiple_of(2) { Ok(number / 2) } else { Err(format!("{number} is odd")) }
    }

    #[test]
    fn a_typed_function_speaks_json() {
        assert_eq!(json(halve)(b"8"), Ok(b"4".to_vec()));
    }

    #[test]
    fn errors_of_the_function_and_of_the_input_differ() {
        assert_eq!(json(halve)(b"7"), Err("7 is odd".to_string()));
        let error = json(halve)(b"\"8\"").expect_err("a string is no number");
        assert!(error.starts_with("failed to read the input: "), "{error}");
    }
}
