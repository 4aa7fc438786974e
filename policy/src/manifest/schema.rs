//! The JSON Schema of manifests, printed from the key table.

use serde_json::{Map, Value, json};

use super::keys::{KEYS, Key, Kind, Need, child_of};

/// The JSON Schema (draft 2020-12) of manifests, as text.
///
/// It accepts every manifest that [`Manifest::parse`](crate::Manifest::parse) accepts; the parser is stricter where a
/// schema cannot say it.
pub fn manifest_schema() -> String {
    let mut schema = table("");
    schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".to_owned(), json!("hotcell manifest"));
    let mut text = format!("{:#}", Value::Object(schema));
    text.push('\n');
    text
}

fn table(path: &str) -> Map<String, Value> {
    let members = || KEYS.iter().filter_map(|key| Some((child_of(key.path, path)?, key)));
    let properties: Map<String, Value> =
        members().map(|(name, key)| (name.to_owned(), Value::Object(schema_of(key)))).collect();
    let required: Vec<&str> =
        members().filter(|(_, key)| matches!(key.need, Need::Required)).map(|(name, _)| name).collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    match KEYS.iter().find(|key| key.path == join(path, "*")) {
        Some(any) => _ = schema.insert("additionalProperties".to_owned(), Value::Object(schema_of(any))),
        // A JSON Schema inside the manifest: nothing is said of its keys.
        None if properties.is_empty() => {}
        None => {
            schema.insert("properties".to_owned(), Value::Object(properties));
            schema.insert("additionalProperties".to_owned(), json!(false));
        }
    }
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    schema
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn schema_of(key: &Key) -> Map<String, Value> {
    let mut schema = match key.kind {
        Kind::Any => Map::new(),
        Kind::Choice(words) => object(json!({ "enum": words })),
        Kind::Flag => object(json!({ "type": "boolean" })),
        Kind::Integer(low, high) => object(json!({ "type": "integer", "minimum": low, "maximum": high })),
        Kind::List => list(key.path),
        Kind::Pattern(pattern) => object(json!({ "type": "string", "pattern": pattern })),
        Kind::Size => object(json!({
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^[0-9]+ (B|KiB|MiB|GiB|TiB)$" },
            ]
        })),
        Kind::Table => table(key.path),
        Kind::Text(max) => object(json!({ "type": "string", "minLength": 1, "maxLength": max })),
    };
    let absent = match key.need {
        Need::Required => String::new(),
        Need::Else(meaning) => format!("; if absent: {meaning}"),
    };
    let note = if key.built { "" } else { "; not built yet" };
    schema.insert("description".to_owned(), json!(format!("{}{absent}{note}", key.about)));
    schema
}

fn list(path: &str) -> Map<String, Value> {
    let items = KEYS.iter().find(|key| key.path.strip_suffix("[]") == Some(path));
    let mut schema = object(json!({ "type": "array", "minItems": 1 }));
    if let Some(items) = items {
        let unique = !matches!(items.kind, Kind::Table);
        schema.insert("items".to_owned(), Value::Object(schema_of(items)));
        schema.insert("uniqueItems".to_owned(), json!(unique));
    }
    schema
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a test fails that way")]

    use std::fmt::Write;

    use super::super::keys::{KEYS, Key, Kind, Need};

    const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/manifest.md");
    const BEGIN: &str = "<!-- keys: written by the tests from the key table -->\n";
    const END: &str = "<!-- keys: end -->\n";

    fn kind(kind: &Kind) -> String {
        match kind {
            Kind::Any => "any JSON".to_owned(),
            Kind::Choice(words) => {
                words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ")
            }
            Kind::Flag => "true or false".to_owned(),
            Kind::Integer(low, high) if low == high => format!("integer, {low}"),
            Kind::Integer(low, high) => format!("integer, {low} to {high}"),
            Kind::List => "list, not empty, nothing twice".to_owned(),
            Kind::Pattern(pattern) => format!("string, `{}`", pattern.replace('|', "\\|")),
            Kind::Size => "size: `\"64 MiB\"`, or whole bytes".to_owned(),
            Kind::Table => "table".to_owned(),
            Kind::Text(max) => format!("string, 1 to {max} visible characters"),
        }
    }

    fn row(key: &Key) -> String {
        let need = match key.need {
            Need::Required => "required".to_owned(),
            Need::Else(meaning) => meaning.to_owned(),
        };
        let built = if key.built { "" } else { " **Not built yet.**" };
        format!("| `{}` | {} | {need} | {}.{built} |\n", key.path, kind(&key.kind), key.about)
    }

    /// `HOTCELL_BLESS=1` renews the table.
    #[test]
    fn the_table_of_the_documentation_is_the_key_table() {
        let document = std::fs::read_to_string(DOCUMENT).expect("reads");
        let (head, rest) = document.split_once(BEGIN).expect("has the mark");
        let (_, tail) = rest.split_once(END).expect("has the end mark");
        let mut text =
            format!("{head}{BEGIN}| key | type and bounds | if absent | is |\n|---|---|---|---|\n");
        for key in KEYS {
            text.push_str(&row(key));
        }
        write!(text, "{END}{tail}").expect("a string takes all");
        if std::env::var_os("HOTCELL_BLESS").is_some() {
            std::fs::write(DOCUMENT, text).expect("writes");
        } else if text != document {
            panic!(
                "docs/manifest.md differs from the key table; HOTCELL_BLESS=1 cargo test -p hotcell-policy renews it"
            );
        }
    }

    #[test]
    fn every_key_has_its_parent_before_it_and_stands_once() {
        for (index, key) in KEYS.iter().enumerate() {
            let before = || KEYS.iter().take(index);
            assert!(!before().any(|other| other.path == key.path), "{} stands twice", key.path);
            let item = key.path.strip_suffix("[]");
            let member = key.path.rsplit_once('.').map(|(parent, _)| parent);
            if let Some(parent) = item.or(member) {
                assert!(before().any(|other| other.path == parent), "{} has no parent", key.path);
            }
        }
    }
}
