//! Examples as types change, and random schemas against a validator that knows nothing of this.

#![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::WORK;

/// Each comparison with all the work that there is.
fn fits(narrow: &Value, wide: &Value) -> Result<(), String> {
    super::fits(narrow, wide, &mut { WORK })
}

fn person(more: &Value) -> Value {
    let mut person = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Person",
        "type": "object",
        "properties": { "name": { "type": "string" }, "age": { "type": "integer", "format": "uint8", "minimum": 0, "maximum": 255 } },
        "required": ["name"],
    });
    for (key, value) in more.as_object().expect("a table") {
        person[key] = value.clone();
    }
    person
}

#[test]
fn types_that_accept_more_accept_all_that_was_accepted() {
    let closed = json!({ "additionalProperties": false });
    let optional =
        json!({ "properties": { "name": { "type": "string" }, "age": {}, "more": { "type": "string" } } });
    let shape = |kinds: &[&str]| {
        let kinds: Vec<_> = kinds
            .iter()
            .map(|kind| json!({ "type": "object", "properties": { "kind": { "const": kind } }, "required": ["kind"] }))
            .collect();
        json!({ "oneOf": kinds })
    };
    let tree = |of: &str| {
        json!({
            "$ref": "#/$defs/Tree",
            "$defs": { "Tree": { "type": "object", "properties": {
                "value": { "type": of }, "left": { "anyOf": [{ "$ref": "#/$defs/Tree" }, { "type": "null" }] },
            } } },
        })
    };
    let pair = json!({ "type": "array", "prefixItems": [{ "type": "integer" }, { "type": "string" }], "minItems": 2, "maxItems": 2 });
    let rows = [
        (person(&json!({})), person(&json!({})), true),
        (person(&json!({ "title": "Someone" })), person(&json!({ "description": "A person." })), true),
        (person(&closed), person(&json!({})), true),
        (person(&json!({})), person(&closed), false),
        (
            person(&closed),
            person(&json!({ "properties": optional["properties"].clone(), "additionalProperties": false })),
            true,
        ),
        // Who could say anything there before could say something else.
        (person(&json!({})), person(&optional), false),
        (person(&json!({})), person(&json!({ "required": ["name", "age"] })), false),
        (person(&json!({})), person(&json!({ "required": [] })), true),
        (
            json!({ "type": "integer", "format": "uint8" }),
            json!({ "type": "integer", "format": "uint16" }),
            true,
        ),
        (
            json!({ "type": "integer", "format": "uint8" }),
            json!({ "type": "integer", "format": "int8" }),
            false,
        ),
        (json!({ "type": "integer", "minimum": 1 }), json!({ "type": "number", "minimum": 0 }), true),
        (
            json!({ "type": "integer", "minimum": 0 }),
            json!({ "type": "integer", "exclusiveMinimum": 0 }),
            false,
        ),
        (json!({ "type": "string" }), json!({ "type": ["string", "null"] }), true),
        (json!({ "type": ["string", "null"] }), json!({ "type": "string" }), false),
        (json!({ "enum": ["a", "b"] }), json!({ "enum": ["a", "b", "c"] }), true),
        (json!({ "enum": ["a", "b", "c"] }), json!({ "enum": ["a", "b"] }), false),
        (json!({ "enum": ["a", "b"] }), json!({ "type": "string" }), true),
        (shape(&["circle"]), shape(&["circle", "square"]), true),
        (shape(&["circle", "square"]), shape(&["circle"]), false),
        (tree("integer"), tree("number"), true),
        (tree("number"), tree("integer"), false),
        (pair.clone(), json!({ "type": "array", "items": { "type": ["integer", "string"] } }), true),
        (json!({ "type": "array", "items": { "type": "integer" } }), pair, false),
        (json!({}), json!(true), true),
        (json!(true), json!(false), false),
        (json!({ "not": { "type": "null" } }), json!({ "not": { "type": "null" } }), true),
        (json!({ "type": "string" }), json!({ "not": { "type": "null" } }), false),
    ];
    for (narrow, wide, fit) in rows {
        let said = fits(&narrow, &wide);
        assert_eq!(said.is_ok(), fit, "{narrow:#}\nin\n{wide:#}\n{said:?}");
    }
}

#[test]
fn the_place_and_the_reason_are_told() {
    let wide = person(&json!({ "properties": { "name": { "type": "string", "maxLength": 10 } } }));
    assert_eq!(fits(&person(&json!({})), &wide), Err("/name: `maxLength` is 10 now".to_owned()));
}

#[test]
fn hostile_schemas_end_soon() {
    let mut defs = json!({ "d0": { "type": "object" } });
    for step in 1..40 {
        let inner = json!({ "$ref": format!("#/$defs/d{}", step - 1) });
        defs[format!("d{step}")] = json!({ "allOf": [inner.clone(), inner] });
    }
    let doubling = json!({ "$defs": defs, "$ref": "#/$defs/d39" });
    let mut deep = json!({ "type": "string" });
    for _ in 0..100 {
        deep = json!({ "type": "array", "items": deep });
    }
    let circle = json!({ "$ref": "#" });
    let circles = json!({ "anyOf": [{ "$ref": "#" }, { "$ref": "#" }] });
    for schema in [doubling, deep, circle, circles] {
        for (narrow, wide) in [
            (&schema, &json!({ "type": "object" })),
            (&json!({ "type": "object" }), &schema),
            (&schema, &schema),
        ] {
            // An answer, whichever.
            let _ = fits(narrow, wide);
        }
    }
    // Many references to one long list, in a file of the largest size: each of them would be a million comparisons.
    let list: Vec<_> = (0..3000).collect();
    let many: serde_json::Map<_, _> =
        (0..400).map(|name| (format!("p{name}"), json!({ "$ref": "#/$defs/List" }))).collect();
    let lists = json!({ "$defs": { "List": { "enum": list } }, "properties": many });
    let mut work = WORK;
    let said = super::fits(&lists, &lists, &mut work);
    assert!(said.is_err_and(|why| why.contains("too large")) && work == 0, "it stops when the work is done");
    assert!(super::fits(&json!({}), &json!({}), &mut work).is_err(), "and there is none left for others");
    let foreign = json!({ "$schema": "http://json-schema.org/draft-07/schema#", "type": "string" });
    assert!(fits(&foreign, &foreign).is_err());
    let named = json!({ "properties": { "a": { "$id": "x", "$ref": "#/y" } } });
    assert!(fits(&named, &named).is_err());
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        (-3..4_i64).prop_map(Value::from),
        prop_oneof![Just(json!(1.0)), Just(json!(0.5)), Just(json!(-2.5))],
        prop_oneof![Just("a"), Just("b"), Just("abc")].prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 12, 3, |inner| {
        let name = prop_oneof![Just("a".to_owned()), Just("b".to_owned()), Just("c".to_owned())];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..4).prop_map(|members| json!(members)),
        ]
    })
}

fn keyword(inner: BoxedStrategy<Value>, refers: bool) -> impl Strategy<Value = (&'static str, Value)> {
    let of = || {
        prop_oneof![
            Just("null"),
            Just("boolean"),
            Just("integer"),
            Just("number"),
            Just("string"),
            Just("array"),
            Just("object")
        ]
    };
    let name = || prop_oneof![Just("a"), Just("b"), Just("c")];
    let named = prop::collection::btree_map(name(), inner.clone(), 0..3);
    let some = || prop::collection::vec(inner.clone(), 1..3);
    prop_oneof![
        of().prop_map(|of| ("type", json!(of))),
        of().prop_map(|of| ("type", json!(of))),
        prop::collection::btree_set(of(), 1..4).prop_map(|of| ("type", json!(of))),
        prop::collection::vec(scalar(), 1..4).prop_map(|values| ("enum", json!(values))),
        scalar().prop_map(|value| ("const", value)),
        named.prop_map(|of| ("properties", json!(of))),
        prop::collection::btree_set(name(), 0..3).prop_map(|of| ("required", json!(of))),
        prop_oneof![Just(json!(false)), inner.clone()].prop_map(|of| ("additionalProperties", of)),
        inner.clone().prop_map(|of| ("items", of)),
        some().prop_map(|of| ("prefixItems", json!(of))),
        (
            prop_oneof![
                Just("minItems"),
                Just("maxItems"),
                Just("minLength"),
                Just("maxLength"),
                Just("minProperties"),
                Just("maxProperties")
            ],
            0..3_u64
        )
            .prop_map(|(key, bound)| (key, json!(bound))),
        (
            prop_oneof![Just("minimum"), Just("maximum"), Just("exclusiveMinimum"), Just("exclusiveMaximum")],
            -2..3_i64
        )
            .prop_map(|(key, bound)| (key, json!(bound))),
        any::<bool>().prop_map(|unique| ("uniqueItems", json!(unique))),
        some().prop_map(|of| ("anyOf", json!(of))),
        some().prop_map(|of| ("oneOf", json!(of))),
        some().prop_map(|of| ("allOf", json!(of))),
        inner.prop_map(|of| ("not", of)),
        Just(if refers { ("$ref", json!("#/$defs/Other")) } else { ("title", json!("Other")) }),
    ]
}

fn part(refers: bool) -> BoxedStrategy<Value> {
    let leaf =
        prop_oneof![Just(json!({})), Just(json!(true)), scalar().prop_map(|value| json!({ "const": value }))]
            .boxed();
    leaf.prop_recursive(3, 24, 3, move |inner| {
        prop::collection::vec(keyword(inner.boxed(), refers), 1..4)
            .prop_map(|keywords| keywords.into_iter().map(|(key, said)| (key.to_owned(), said)).collect())
    })
    .boxed()
}

/// A schema, in which parts may be of one definition. That refers to nothing: a validator may run in circles.
fn schema() -> impl Strategy<Value = Value> {
    (part(true), part(false)).prop_map(|(mut schema, definition)| {
        if let Some(members) = schema.as_object_mut() {
            members.insert("$defs".to_owned(), json!({ "Other": definition }));
        }
        schema
    })
}

/// The same schema with one thing less said, or another said.
fn changed(schema: &Value, key: usize, other: Value) -> Value {
    let mut changed = schema.clone();
    if let Some(members) = changed.as_object_mut() {
        let keys: Vec<_> = members.keys().filter(|key| *key != "$defs").cloned().collect();
        if let Some(key) = keys.get(key % keys.len().max(1)) {
            members.remove(key);
        }
        for (key, said) in other.as_object().into_iter().flatten().take(1) {
            members.insert(key.clone(), said.clone());
        }
    }
    changed
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn what_fits_is_accepted(
        narrow in schema(),
        drop in any::<usize>(),
        other in prop_oneof![Just(json!({})), part(true)],
        values in prop::collection::vec(value(), 40),
    ) {
        let wide = changed(&narrow, drop, other);
        for (narrow, wide) in [(&narrow, &wide), (&wide, &narrow), (&narrow, &narrow)] {
            if fits(narrow, wide).is_err() {
                continue;
            }
            // Not every random schema is one.
            let (Ok(narrow_is), Ok(wide_is)) = (jsonschema::validator_for(narrow), jsonschema::validator_for(wide)) else {
                continue;
            };
            for value in &values {
                prop_assert!(!narrow_is.is_valid(value) || wide_is.is_valid(value), "{value} is accepted by {narrow} alone, not by {wide}");
            }
        }
    }
}
