//! What the parts of one schema say, each by itself.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde_json::{Number, Value};

use super::{ANNOTATIONS, Place, REFERENCES_MAX, Schema, TYPES, UNDERSTOOD};

/// A schema without references at its top. What stands beside a reference counts, too.
pub(super) fn resolve(root: &Value, schema: &Value, at: &Place) -> Result<Value, String> {
    let mut schema = schema.clone();
    for _ in 0..REFERENCES_MAX {
        let Some(reference) = schema.get("$ref") else { return Ok(schema) };
        let found = reference.as_str().and_then(|text| root.pointer(text.strip_prefix('#')?));
        let Some(found) = found else { return at.no(format!("{reference} is no definition here")) };
        let beside = schema.as_object().map(|schema| without(schema, "$ref")).unwrap_or_default();
        let says_more = beside.keys().any(|key| !ANNOTATIONS.contains(&key.as_str()));
        schema = if says_more { merged(&beside, found, at)? } else { found.clone() };
    }
    at.no("a reference leads to itself")
}

/// What both say, if no keyword is in both with another meaning.
pub(super) fn merged(rest: &Schema, member: &Value, at: &Place) -> Result<Value, String> {
    let member = match member {
        Value::Bool(true) => return Ok(Value::Object(rest.clone())),
        Value::Object(member) => member,
        _ => return Ok(Value::Bool(false)),
    };
    let mut keys = rest.keys().chain(member.keys()).map(String::as_str);
    let known = |key: &str| UNDERSTOOD.contains(&key) || ANNOTATIONS.contains(&key) || key == "$ref";
    if !rest.is_empty() && !keys.all(known) {
        return at.no("what several parts of a type say together cannot be told");
    }
    let mut all = rest.clone();
    // What closes an object looks at the properties beside it, and no further.
    let closed =
        |schema: &Schema| schema.contains_key("additionalProperties") || schema.contains_key("items");
    let open = |schema: &Schema| {
        schema.contains_key("properties")
            || schema.contains_key("patternProperties")
            || schema.contains_key("prefixItems")
    };
    if closed(rest) && open(member) || closed(member) && open(rest) {
        return at.no("what several parts of a type say together cannot be told");
    }
    for (key, said) in member {
        match all.get(key) {
            Some(known) if key == "required" => {
                let both: BTreeSet<_> = names(Some(known)).union(&names(Some(said))).cloned().collect();
                all.insert(key.clone(), both.into_iter().collect());
            }
            Some(known) if known != said && !ANNOTATIONS.contains(&key.as_str()) => {
                return at.no(format!("what several parts of a type say of `{key}` together cannot be told"));
            }
            _ => _ = all.insert(key.clone(), said.clone()),
        }
    }
    Ok(Value::Object(all))
}

pub(super) fn without(schema: &Schema, key: &str) -> Schema {
    schema.iter().filter(|(name, _)| *name != key).map(|(name, said)| (name.clone(), said.clone())).collect()
}

pub(super) fn property<'s>(schema: &'s Schema, name: &str) -> Option<&'s Value> {
    schema.get("properties")?.get(name)
}

pub(super) fn names(list: Option<&Value>) -> BTreeSet<String> {
    let names = list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    names.map(str::to_owned).collect()
}

/// The values of `const` or `enum`, if one of them is there.
pub(super) fn values(schema: &Schema) -> Option<Vec<&Value>> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(Value::Array(values))) => Some(values.iter().collect()),
        _ => None,
    }
}

/// The one value of a schema, if it is a number or a text.
pub(super) fn scalar(schema: &Schema) -> Option<&Value> {
    schema.get("const").filter(|value| value.is_number() || value.is_string())
}

/// Whether a number or a text is within a bound that is told of such.
pub(super) fn within(value: &Value, key: &str, bound: &Value) -> bool {
    match (value, bound, key) {
        (Value::Number(value), Value::Number(bound), "minimum") => {
            compare(value, bound) != Some(Ordering::Less)
        }
        (Value::Number(value), Value::Number(bound), "maximum") => {
            compare(value, bound) != Some(Ordering::Greater)
        }
        (Value::String(text), Value::Number(bound), "minLength") => {
            bound.as_u64().is_some_and(|bound| text.chars().count() as u64 >= bound)
        }
        (Value::String(text), Value::Number(bound), "maxLength") => {
            bound.as_u64().is_some_and(|bound| text.chars().count() as u64 <= bound)
        }
        _ => false,
    }
}

pub(super) fn named_types(schema: &Schema) -> BTreeSet<&str> {
    match schema.get("type") {
        Some(Value::String(of)) => BTreeSet::from([of.as_str()]),
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
        _ => TYPES.into_iter().collect(),
    }
}

/// The types that a schema's values can have. A number without a fraction is an integer.
pub(super) fn types(schema: &Schema) -> BTreeSet<&str> {
    let mut types = named_types(schema);
    if let Some(values) = values(schema) {
        let of = values.into_iter().map(|value| match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => "integer",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        });
        let of: BTreeSet<&str> = of.collect();
        let has_number = types.contains("number");
        types.extend(has_number.then_some("integer"));
        types.retain(|known| of.contains(known));
    }
    types
}

/// Whether a schema of numbers keeps a bound of another.
pub(super) fn bounded(narrow: &Schema, key: &str, bound: &Value) -> bool {
    let Value::Number(bound) = bound else { return false };
    let (exclusive, inclusive, wrong) = match key {
        "minimum" | "exclusiveMinimum" => ("exclusiveMinimum", "minimum", Ordering::Less),
        _ => ("exclusiveMaximum", "maximum", Ordering::Greater),
    };
    let keeps = |said: &str, or_equal: bool| match narrow.get(said) {
        Some(Value::Number(own)) => compare(own, bound)
            .is_some_and(|order| order == wrong.reverse() || (or_equal && order == Ordering::Equal)),
        _ => false,
    };
    // Whoever stays strictly inside keeps either kind.
    keeps(exclusive, true) || keeps(inclusive, key == inclusive)
}

pub(super) fn compare(one: &Number, other: &Number) -> Option<Ordering> {
    match (one.as_i128(), other.as_i128()) {
        (Some(one), Some(other)) => Some(one.cmp(&other)),
        _ => exact(one)?.partial_cmp(&exact(other)?),
    }
}

/// A number as a float that is that number.
pub(super) fn exact(number: &Number) -> Option<f64> {
    const EXACT: i128 = 1 << f64::MANTISSA_DIGITS;
    match number.as_i128() {
        Some(whole) if whole.abs() > EXACT => None,
        _ => number.as_f64(),
    }
}

/// Whether two values are different in JSON, where 1 and 1.0 are not. `false` where that takes a closer look.
pub(super) fn differ(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => compare(one, other).is_some_and(Ordering::is_ne),
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => false,
        _ => one != other,
    }
}

/// Whether the format that types of numbers have is the same or one within it.
pub(super) fn format_fits(narrow: &Schema, wide: &Value) -> bool {
    const SIGNED: [&str; 4] = ["int8", "int16", "int32", "int64"];
    const UNSIGNED: [&str; 4] = ["uint8", "uint16", "uint32", "uint64"];
    let (Some(narrow), Some(wide)) = (narrow.get("format").and_then(Value::as_str), wide.as_str()) else {
        return false;
    };
    let place = |of: &[&str; 4], format: &str| of.iter().position(|known| *known == format);
    match (place(&SIGNED, narrow), place(&SIGNED, wide), place(&UNSIGNED, narrow), place(&UNSIGNED, wide)) {
        (Some(narrow), Some(wide), ..) | (.., Some(narrow), Some(wide)) => narrow <= wide,
        (_, Some(wide), Some(narrow), _) => narrow < wide,
        _ => false,
    }
}

/// How large a value is, in values and in pieces of text.
pub(super) fn size(value: &Value) -> usize {
    1 + match value {
        Value::Object(of) => members(of),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::String(text) => text.len() / 16,
        _ => 0,
    }
}

pub(super) fn members(schema: &Schema) -> usize {
    schema.iter().map(|(name, value)| 1 + name.len() / 16 + size(value)).sum()
}

/// Whether this is a key anywhere in a value.
pub(super) fn has_key(value: &Value, key: &str) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(name, value)| name == key || has_key(value, key)),
        Value::Array(items) => items.iter().any(|item| has_key(item, key)),
        _ => false,
    }
}
