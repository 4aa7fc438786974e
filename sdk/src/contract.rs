//! The contract of a plugin's typed exports: the JSON Schemas of what they take and return, made from their types.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

/// An export with the schemas of its input and its reply.
pub fn describe<In: JsonSchema, Out: JsonSchema, E>(name: &str, _: &impl Fn(In) -> Result<Out, E>) -> Value {
    let params = SchemaGenerator::default().into_root_schema_for::<In>();
    let result = SchemaGenerator::default().into_root_schema_for::<Out>();
    json!({ "name": name, "params": params, "result": result })
}

/// What [`CONTRACT`](crate::abi::CONTRACT) replies.
///
/// # Errors
/// Memory is short.
pub fn contract<const N: usize>(exports: [Value; N]) -> Result<Vec<u8>, String> {
    serde_json::to_vec(exports.as_slice()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, schemars::JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Person {
        name: String,
    }

    #[test]
    fn a_typed_function_is_described_by_its_types() {
        let greet = |person: Person| Ok::<_, String>(alloc::format!("Hello, {}!", person.name));
        let greet = describe("greet", &greet);
        assert_eq!(greet["name"], "greet");
        assert_eq!(greet["params"]["properties"]["name"]["type"], "string");
        assert_eq!(greet["params"]["additionalProperties"], false);
        assert_eq!(greet["result"]["type"], "string");
    }
}
