//! JSON in: checked against a type, with the place of what does not fit.

use serde_json::{Map, Number, Value};
use wasmtime::component::Val;

use super::BadValue;
use super::shape::{Shape, Signature};

type Read<T> = Result<T, BadValue>;

/// The arguments of a call.
pub(crate) fn arguments(input: &[u8], signature: &Signature) -> Read<Vec<Val>> {
    let wanted = signature.params.len();
    let values = match parse(input)? {
        Value::Array(values) => values,
        one if wanted == 1 => vec![one],
        other => {
            return Err(BadValue::new(format!(
                "the arguments must be an array, and this is {}",
                kind(&other)
            )));
        }
    };
    if values.len() != wanted {
        let names: Vec<&str> = signature.params.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(", ");
        let found = values.len();
        return Err(BadValue::new(format!(
            "the function takes {wanted} arguments ({names}), and got {found}"
        )));
    }
    let numbered = values.into_iter().zip(&signature.params).enumerate();
    numbered.map(|(index, (value, (_, shape)))| read(value, shape).map_err(|bad| at(bad, index))).collect()
}

/// No input at all is no arguments.
fn parse(input: &[u8]) -> Read<Value> {
    if input.is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    serde_json::from_slice(input).map_err(|error| BadValue::new(format!("not JSON: {error}")))
}

fn read(value: Value, shape: &Shape) -> Read<Val> {
    match (shape, value) {
        (Shape::Bool, Value::Bool(value)) => Ok(Val::Bool(value)),
        (Shape::String, Value::String(text)) => Ok(Val::String(text)),
        (Shape::Char, Value::String(text)) => one_char(&text),
        (Shape::Float32 | Shape::Float64, value) => float(&value, shape),
        (Shape::List(item), Value::Array(values)) => {
            let items = values.into_iter().enumerate();
            let items = items.map(|(index, value)| read(value, item).map_err(|bad| at(bad, index)));
            Ok(Val::List(items.collect::<Read<_>>()?))
        }
        (Shape::Tuple(shapes), Value::Array(values)) => tuple(values, shapes),
        (Shape::Record(fields), Value::Object(object)) => record(object, fields),
        (Shape::Variant(cases), value) => variant(value, cases),
        (Shape::Enum(names), Value::String(name)) => Ok(Val::Enum(known(name, names)?)),
        (Shape::Option(_), Value::Null) => Ok(Val::Option(None)),
        (Shape::Option(inner), value) => some(value, inner),
        (Shape::Result(ok, err), Value::Object(object)) => result(object, ok.as_deref(), err.as_deref()),
        (Shape::Flags(names), Value::Array(values)) => flags(values, names),
        (shape, Value::Number(number)) => integer(&number, shape),
        (shape, value) => Err(mismatch(shape, &value)),
    }
}

fn integer(number: &Number, shape: &Shape) -> Read<Val> {
    let signed = number.as_i64();
    let unsigned = number.as_u64();
    let value = match shape {
        Shape::S8 => signed.and_then(|value| i8::try_from(value).ok()).map(Val::S8),
        Shape::S16 => signed.and_then(|value| i16::try_from(value).ok()).map(Val::S16),
        Shape::S32 => signed.and_then(|value| i32::try_from(value).ok()).map(Val::S32),
        Shape::S64 => signed.map(Val::S64),
        Shape::U8 => unsigned.and_then(|value| u8::try_from(value).ok()).map(Val::U8),
        Shape::U16 => unsigned.and_then(|value| u16::try_from(value).ok()).map(Val::U16),
        Shape::U32 => unsigned.and_then(|value| u32::try_from(value).ok()).map(Val::U32),
        Shape::U64 => unsigned.map(Val::U64),
        _ => return Err(mismatch(shape, &Value::Number(number.clone()))),
    };
    value.ok_or_else(|| BadValue::new(format!("{number} does not fit {}", name(shape))))
}

fn float(value: &Value, shape: &Shape) -> Read<Val> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    };
    let number = number.ok_or_else(|| mismatch(shape, value))?;
    if *shape == Shape::Float64 {
        return Ok(Val::Float64(number));
    }
    #[allow(
        clippy::cast_possible_truncation,
        reason = "rounding is what f32 means; what becomes infinite is refused"
    )]
    let short = number as f32;
    if short.is_infinite() && number.is_finite() {
        return Err(BadValue::new(format!("{number} does not fit {}", name(shape))));
    }
    Ok(Val::Float32(short))
}

fn one_char(text: &str) -> Read<Val> {
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(character), None) => Ok(Val::Char(character)),
        _ => Err(BadValue::new("a char is a string of exactly one character")),
    }
}

fn tuple(values: Vec<Value>, shapes: &[Shape]) -> Read<Val> {
    if values.len() != shapes.len() {
        return Err(BadValue::new(format!(
            "the tuple has {} members, and got {}",
            shapes.len(),
            values.len()
        )));
    }
    let members = values.into_iter().zip(shapes).enumerate();
    let members = members.map(|(index, (value, shape))| read(value, shape).map_err(|bad| at(bad, index)));
    Ok(Val::Tuple(members.collect::<Read<_>>()?))
}

fn record(mut object: Map<String, Value>, fields: &[(String, Shape)]) -> Read<Val> {
    let mut values = Vec::with_capacity(fields.len());
    for (name, shape) in fields {
        let value = match (object.remove(name), shape) {
            (Some(value), shape) => read(value, shape).map_err(|bad| field(bad, name))?,
            (None, Shape::Option(_)) => Val::Option(None),
            (None, _) => return Err(field(BadValue::new("the field is missing"), name)),
        };
        values.push((name.clone(), value));
    }
    match object.keys().next() {
        Some(unknown) => Err(field(BadValue::new("the record has no such field"), unknown)),
        None => Ok(Val::Record(values)),
    }
}

fn variant(value: Value, cases: &[(String, Option<Shape>)]) -> Read<Val> {
    let (name, payload) = match value {
        Value::String(name) => (name, None),
        Value::Object(object) => {
            let (name, payload) = single(object, "a variant is \"case\" or {\"case\": payload}")?;
            (name, Some(payload))
        }
        other => {
            return Err(BadValue::new(format!("expected a variant, found {}", kind(&other))));
        }
    };
    let Some((_, shape)) = cases.iter().find(|(case, _)| *case == name) else {
        return Err(unknown(&name, cases.iter().map(|(case, _)| case)));
    };
    let payload = match (shape, payload) {
        (None, None | Some(Value::Null)) => None,
        (None, Some(_)) => return Err(field(BadValue::new("the case has no payload"), &name)),
        (Some(_), None) => return Err(field(BadValue::new("the case needs its payload"), &name)),
        (Some(shape), Some(payload)) => {
            Some(Box::new(read(payload, shape).map_err(|bad| field(bad, &name))?))
        }
    };
    Ok(Val::Variant(name, payload))
}

/// `{"some": value}` where `null` could also be the inner option's.
fn some(value: Value, inner: &Shape) -> Read<Val> {
    if !matches!(inner, Shape::Option(_)) {
        return Ok(Val::Option(Some(Box::new(read(value, inner)?))));
    }
    let text = "an option of an option is null or {\"some\": value}";
    let Value::Object(object) = value else {
        return Err(BadValue::new(text));
    };
    match single(object, text)? {
        (name, value) if name == "some" => {
            let value = read(value, inner).map_err(|bad| field(bad, &name))?;
            Ok(Val::Option(Some(Box::new(value))))
        }
        _ => Err(BadValue::new(text)),
    }
}

fn result(object: Map<String, Value>, ok: Option<&Shape>, err: Option<&Shape>) -> Read<Val> {
    let text = "a result is {\"ok\": value} or {\"err\": value}";
    let (name, value) = single(object, text)?;
    let shape = match name.as_str() {
        "ok" => ok,
        "err" => err,
        _ => return Err(BadValue::new(text)),
    };
    let payload = match (shape, value) {
        (None, Value::Null) => None,
        (None, _) => return Err(field(BadValue::new("this side has no value: write null"), &name)),
        (Some(shape), value) => Some(Box::new(read(value, shape).map_err(|bad| field(bad, &name))?)),
    };
    Ok(Val::Result(if name == "ok" { Ok(payload) } else { Err(payload) }))
}

fn flags(values: Vec<Value>, names: &[String]) -> Read<Val> {
    let mut flags: Vec<String> = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        let Value::String(flag) = value else {
            return Err(at(mismatch(&Shape::String, &value), index));
        };
        let flag = known(flag, names).map_err(|bad| at(bad, index))?;
        if flags.contains(&flag) {
            return Err(at(BadValue::new(format!("`{flag}` is named twice")), index));
        }
        flags.push(flag);
    }
    Ok(Val::Flags(flags))
}

fn single(object: Map<String, Value>, otherwise: &str) -> Read<(String, Value)> {
    let mut entries = object.into_iter();
    match (entries.next(), entries.next()) {
        (Some(entry), None) => Ok(entry),
        _ => Err(BadValue::new(otherwise)),
    }
}

fn known(found: String, names: &[String]) -> Read<String> {
    if names.contains(&found) { Ok(found) } else { Err(unknown(&found, names.iter())) }
}

fn unknown<'n>(found: &str, names: impl Iterator<Item = &'n String>) -> BadValue {
    const SHOWN: usize = 16;
    let names: Vec<&str> = names.take(SHOWN).map(String::as_str).collect();
    BadValue::new(format!("`{}` is none of {}", found.escape_debug(), names.join(", ")))
}

fn at(bad: BadValue, index: usize) -> BadValue {
    bad.inside(format!("[{index}]"))
}

fn field(bad: BadValue, name: &str) -> BadValue {
    bad.inside(format!(".{}", name.escape_debug()))
}

fn mismatch(shape: &Shape, value: &Value) -> BadValue {
    BadValue::new(format!("expected {}, found {}", name(shape), kind(value)))
}

fn name(shape: &Shape) -> &'static str {
    match shape {
        Shape::Bool => "a bool",
        Shape::S8 => "an s8",
        Shape::U8 => "a u8",
        Shape::S16 => "an s16",
        Shape::U16 => "a u16",
        Shape::S32 => "an s32",
        Shape::U32 => "a u32",
        Shape::S64 => "an s64",
        Shape::U64 => "a u64",
        Shape::Float32 => "an f32",
        Shape::Float64 => "an f64",
        Shape::Char => "a char",
        Shape::String => "a string",
        Shape::List(_) => "a list (array)",
        Shape::Record(_) => "a record (object)",
        Shape::Tuple(_) => "a tuple (array)",
        Shape::Variant(_) => "a variant",
        Shape::Enum(_) => "an enum (string)",
        Shape::Option(_) => "an option",
        Shape::Result(..) => "a result (object)",
        Shape::Flags(_) => "flags (array of strings)",
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
