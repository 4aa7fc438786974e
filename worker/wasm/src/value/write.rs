//! JSON out.

use wasmtime::component::Val;

/// What cannot be written; its type was refused before the call, so this is not reached by a component.
const CANNOT_CROSS: &str = "the result holds something that cannot leave its component";

/// A result as JSON; no result is `null`.
pub(crate) fn to_json(value: Option<&Val>) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    match value {
        Some(value) => write(value, &mut out)?,
        None => out.extend_from_slice(b"null"),
    }
    Ok(out)
}

fn write(value: &Val, out: &mut Vec<u8>) -> Result<(), String> {
    match value {
        Val::Bool(value) => plain(value, out),
        Val::S8(value) => plain(value, out),
        Val::U8(value) => plain(value, out),
        Val::S16(value) => plain(value, out),
        Val::U16(value) => plain(value, out),
        Val::S32(value) => plain(value, out),
        Val::U32(value) => plain(value, out),
        Val::S64(value) => plain(value, out),
        Val::U64(value) => plain(value, out),
        Val::Float32(value) if value.is_finite() => plain(value, out),
        Val::Float64(value) if value.is_finite() => plain(value, out),
        Val::Float32(value) => strange(f64::from(*value), out),
        Val::Float64(value) => strange(*value, out),
        Val::Char(value) => plain(value, out),
        Val::String(text) | Val::Enum(text) => plain(text, out),
        Val::Flags(names) => plain(names, out),
        Val::List(items) | Val::Tuple(items) => array(items, out),
        Val::Record(fields) => record(fields, out),
        Val::Variant(name, None) => plain(name, out),
        Val::Variant(name, Some(payload)) => entry(name, Some(payload), out),
        Val::Option(None) => plain(&(), out),
        // The outer of two options is marked, or its null would be the inner one's.
        Val::Option(Some(inner)) if matches!(**inner, Val::Option(_)) => entry("some", Some(inner), out),
        Val::Option(Some(inner)) => write(inner, out),
        Val::Result(Ok(payload)) => entry("ok", payload.as_deref(), out),
        Val::Result(Err(payload)) => entry("err", payload.as_deref(), out),
        _ => Err(CANNOT_CROSS.to_owned()),
    }
}

fn plain(value: &impl serde::Serialize, out: &mut Vec<u8>) -> Result<(), String> {
    serde_json::to_writer(out, value).map_err(|error| error.to_string())
}

/// JSON has no word for these numbers.
fn strange(value: f64, out: &mut Vec<u8>) -> Result<(), String> {
    let text = if value.is_nan() {
        "NaN"
    } else if value.is_sign_positive() {
        "Infinity"
    } else {
        "-Infinity"
    };
    plain(&text, out)
}

fn array(items: &[Val], out: &mut Vec<u8>) -> Result<(), String> {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(item, out)?;
    }
    out.push(b']');
    Ok(())
}

fn record(fields: &[(String, Val)], out: &mut Vec<u8>) -> Result<(), String> {
    out.push(b'{');
    for (index, (name, value)) in fields.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        plain(name, out)?;
        out.push(b':');
        write(value, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn entry(name: &str, payload: Option<&Val>, out: &mut Vec<u8>) -> Result<(), String> {
    out.push(b'{');
    plain(&name, out)?;
    out.push(b':');
    match payload {
        Some(payload) => write(payload, out)?,
        None => out.extend_from_slice(b"null"),
    }
    out.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use wasmtime::component::Val;

    use super::to_json;

    fn json(value: Val) -> String {
        String::from_utf8(to_json(Some(&value)).expect("writes")).expect("is text")
    }

    fn boxed(value: Val) -> Option<Box<Val>> {
        Some(Box::new(value))
    }

    #[test]
    fn numbers_are_exact_and_short() {
        assert_eq!(json(Val::U64(u64::MAX)), "18446744073709551615");
        assert_eq!(json(Val::S64(i64::MIN)), "-9223372036854775808");
        assert_eq!(json(Val::Float32(0.1)), "0.1");
        assert_eq!(json(Val::Float64(f64::NAN)), "\"NaN\"");
        assert_eq!(json(Val::Float32(f32::NEG_INFINITY)), "\"-Infinity\"");
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(json(Val::String("a\"\n\u{1b}".to_owned())), r#""a\"\n\u001b""#);
        assert_eq!(json(Val::Char('"')), r#""\"""#);
    }

    #[test]
    fn compounds_are_what_the_table_says() {
        let record = Val::Record(vec![
            ("x".to_owned(), Val::Tuple(vec![Val::U8(1), Val::Bool(true)])),
            ("flags".to_owned(), Val::Flags(vec!["a".to_owned(), "b".to_owned()])),
        ]);
        assert_eq!(json(record), r#"{"x":[1,true],"flags":["a","b"]}"#);
        assert_eq!(json(Val::Variant("empty".to_owned(), None)), r#""empty""#);
        assert_eq!(json(Val::Variant("full".to_owned(), boxed(Val::U8(1)))), r#"{"full":1}"#);
        assert_eq!(json(Val::Result(Ok(None))), r#"{"ok":null}"#);
        assert_eq!(json(Val::Result(Err(boxed(Val::Enum("no".to_owned()))))), r#"{"err":"no"}"#);
        assert_eq!(to_json(None).expect("writes"), b"null");
    }

    #[test]
    fn an_option_of_an_option_keeps_its_three_values_apart() {
        assert_eq!(json(Val::Option(None)), "null");
        assert_eq!(json(Val::Option(boxed(Val::Option(None)))), r#"{"some":null}"#);
        assert_eq!(json(Val::Option(boxed(Val::Option(boxed(Val::U8(7)))))), r#"{"some":7}"#);
    }
}
