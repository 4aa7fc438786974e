//! Whether a configuration meets a JSON Schema.
//!
//! The schema is a plugin author's, and a small one can take longer than anybody waits (references that double with each
//! step), so it is tried here and not in the host. Patterns are run without backtracking; nothing is fetched.

use jsonschema::PatternOptions;
use serde_json::Value;

/// Errors that are told.
const TOLD: usize = 5;

/// Tries it.
///
/// # Errors
/// What is wrong with the schema, or with the configuration, and where.
pub fn validate(schema: &[u8], config: &[u8]) -> Result<(), String> {
    let parse = |name: &str, text: &[u8]| {
        serde_json::from_slice::<Value>(text).map_err(|error| format!("the {name} is no JSON: {error}"))
    };
    let (schema, config) = (parse("schema", schema)?, parse("configuration", config)?);
    let validator = jsonschema::options()
        .with_pattern_options(PatternOptions::regex())
        .build(&schema)
        .map_err(|error| format!("`config_schema` is no JSON Schema: {error}"))?;
    let mut errors = validator.iter_errors(&config).map(|error| match error.instance_path().as_str() {
        "" => error.to_string(),
        place => format!("{place}: {error}"),
    });
    let told: Vec<_> = errors.by_ref().take(TOLD).collect();
    match (told.is_empty(), errors.next()) {
        (true, _) => Ok(()),
        (false, None) => Err(told.join("; ")),
        (false, Some(_)) => Err(format!("{}; and more", told.join("; "))),
    }
}

#[cfg(test)]
mod tests {
    use super::validate;

    const SCHEMA: &[u8] = br#"{
        "type": "object",
        "properties": { "level": { "enum": ["low", "high"] }, "size": { "type": "integer", "maximum": 9 } },
        "required": ["level"],
        "additionalProperties": false
    }"#;

    #[test]
    fn what_meets_the_schema_passes_and_what_does_not_is_named() {
        assert_eq!(validate(SCHEMA, br#"{ "level": "low", "size": 9 }"#), Ok(()));
        let error = validate(SCHEMA, br#"{ "level": "mid", "size": 10, "more": 1 }"#).expect_err("does not");
        for part in ["/level", "/size", "more"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_schema_that_is_none_is_told() {
        assert!(validate(br#"{ "type": "colour" }"#, b"{}").expect_err("no type").contains("no JSON Schema"));
        assert!(validate(b"{", b"{}").expect_err("no JSON").contains("the schema is no JSON"));
    }

    #[test]
    fn nothing_is_fetched() {
        let schema = br#"{ "$ref": "http://127.0.0.1:9/schema.json" }"#;
        assert!(validate(schema, b"{}").is_err());
        let schema = br#"{ "$ref": "file:///etc/passwd" }"#;
        assert!(validate(schema, b"{}").is_err());
    }

    #[test]
    fn patterns_do_not_backtrack() {
        let schema = br#"{ "pattern": "^(a+)+$" }"#;
        let config = format!("\"{}!\"", "a".repeat(20_000));
        assert!(validate(schema, config.as_bytes()).is_err(), "in an instant");
    }
}
