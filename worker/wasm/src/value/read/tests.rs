//! Values that fit, and the place of those that do not.

use wasmtime::component::Val;

use super::arguments;
use crate::value::shape::{Shape, Signature};
use crate::value::to_json;

fn signature(shapes: impl IntoIterator<Item = Shape>) -> Signature {
    let names = ('a'..='z').map(String::from);
    Signature { params: names.zip(shapes).collect(), has_result: false }
}

/// The one argument of a function of one parameter.
fn one(shape: Shape, json: &str) -> Result<Val, String> {
    let mut values = arguments(json.as_bytes(), &signature([shape])).map_err(|bad| bad.to_string())?;
    Ok(values.remove(0))
}

fn refusal(shape: Shape, json: &str) -> String {
    one(shape, json).expect_err("does not fit")
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn person() -> Shape {
    let nickname = Shape::Option(Box::new(Shape::String));
    Shape::Record(vec![
        ("name".to_owned(), Shape::String),
        ("age".to_owned(), Shape::U8),
        ("nickname".to_owned(), nickname),
    ])
}

#[test]
fn arguments_are_counted_and_named() {
    let two = signature([Shape::U8, Shape::String]);
    assert_eq!(arguments(br#"[1,"x"]"#, &two), Ok(vec![Val::U8(1), Val::String("x".to_owned())]));
    let bad = arguments(b"[1]", &two).expect_err("one is missing").to_string();
    assert_eq!(bad, "$: the function takes 2 arguments (a, b), and got 1");
    let bad = arguments(b"1", &two).expect_err("no array").to_string();
    assert_eq!(bad, "$: the arguments must be an array, and this is a number");
    assert_eq!(arguments(b"", &signature([])), Ok(vec![]));
    assert_eq!(arguments(b"[]", &signature([])), Ok(vec![]));
    assert!(arguments(b"null", &signature([])).is_err());
    assert!(arguments(b"[1", &two).expect_err("cut").to_string().contains("not JSON"));
}

#[test]
fn one_argument_may_stand_alone_unless_it_is_an_array() {
    assert_eq!(one(Shape::U8, "[7]"), Ok(Val::U8(7)));
    assert_eq!(one(Shape::U8, "7"), Ok(Val::U8(7)));
    let list = Shape::List(Box::new(Shape::U8));
    assert_eq!(one(list.clone(), "[[7]]"), Ok(Val::List(vec![Val::U8(7)])));
    assert_eq!(refusal(list, "[7]"), "$[0]: expected a list (array), found a number");
}

#[test]
fn integers_end_where_their_type_does() {
    for (shape, fits, outside) in [
        (Shape::U8, "255", "256"),
        (Shape::S8, "-128", "-129"),
        (Shape::U16, "65535", "-1"),
        (Shape::S16, "32767", "32768"),
        (Shape::U32, "4294967295", "4294967296"),
        (Shape::S32, "-2147483648", "2147483648"),
        (Shape::U64, "18446744073709551615", "18446744073709551616"),
        (Shape::S64, "-9223372036854775808", "9223372036854775808"),
        (Shape::U32, "0", "0.5"),
        (Shape::U32, "1", "1e0"),
    ] {
        let value = one(shape.clone(), fits).expect("fits");
        assert_eq!(to_json(Some(&value)).expect("writes"), fits.as_bytes());
        assert!(refusal(shape, outside).contains("does not fit"), "{outside}");
    }
    assert_eq!(refusal(Shape::U8, "\"1\""), "$[0]: expected a u8, found a string");
}

#[test]
fn floats_have_words_for_what_json_has_none() {
    assert_eq!(one(Shape::Float64, "1"), Ok(Val::Float64(1.0)));
    assert_eq!(one(Shape::Float32, "\"-Infinity\""), Ok(Val::Float32(f32::NEG_INFINITY)));
    assert!(matches!(one(Shape::Float64, "\"NaN\""), Ok(Val::Float64(nan)) if nan.is_nan()));
    assert!(refusal(Shape::Float32, "1e39").contains("does not fit"));
    assert!(refusal(Shape::Float64, "\"one\"").contains("expected an f64"));
}

#[test]
fn a_char_is_one_character() {
    assert_eq!(one(Shape::Char, "\"é\""), Ok(Val::Char('é')));
    assert!(refusal(Shape::Char, "\"\"").contains("exactly one"));
    assert!(refusal(Shape::Char, "\"ab\"").contains("exactly one"));
}

#[test]
fn records_name_the_field_that_is_wrong() {
    let fits = one(person(), r#"{"name":"Ada","age":36}"#).expect("an option may be left out");
    assert_eq!(to_json(Some(&fits)).expect("writes"), br#"{"name":"Ada","age":36,"nickname":null}"#);
    assert_eq!(refusal(person(), r#"{"age":36}"#), "$[0].name: the field is missing");
    assert_eq!(
        refusal(person(), r#"{"name":"Ada","age":36,"email":1}"#),
        "$[0].email: the record has no such field"
    );
    assert_eq!(refusal(person(), r#"{"name":"Ada","age":360}"#), "$[0].age: 360 does not fit a u8");
    let people = Shape::List(Box::new(person()));
    assert_eq!(
        refusal(people, r#"[[{"name":"Ada","age":36},{"name":7,"age":1}]]"#),
        "$[0][1].name: expected a string, found a number"
    );
}

#[test]
fn variants_are_a_word_or_a_word_with_its_payload() {
    let shape = || Shape::Variant(vec![("none".to_owned(), None), ("size".to_owned(), Some(Shape::U8))]);
    assert_eq!(one(shape(), "\"none\""), Ok(Val::Variant("none".to_owned(), None)));
    assert_eq!(one(shape(), r#"{"none":null}"#), Ok(Val::Variant("none".to_owned(), None)));
    assert_eq!(
        one(shape(), r#"{"size":3}"#),
        Ok(Val::Variant("size".to_owned(), Some(Box::new(Val::U8(3)))))
    );
    assert_eq!(refusal(shape(), "\"size\""), "$[0].size: the case needs its payload");
    assert_eq!(refusal(shape(), r#"{"none":1}"#), "$[0].none: the case has no payload");
    assert_eq!(refusal(shape(), r#"{"size":300}"#), "$[0].size: 300 does not fit a u8");
    assert_eq!(refusal(shape(), "\"big\""), "$[0]: `big` is none of none, size");
    assert!(refusal(shape(), r#"{"size":1,"none":null}"#).contains("a variant is"));
}

#[test]
fn enums_and_flags_know_their_names() {
    let suits = || Shape::Enum(names(&["hearts", "spades"]));
    assert_eq!(one(suits(), "\"spades\""), Ok(Val::Enum("spades".to_owned())));
    assert_eq!(refusal(suits(), "\"clubs\""), "$[0]: `clubs` is none of hearts, spades");
    let modes = || Shape::Flags(names(&["read", "write"]));
    assert_eq!(one(modes(), r#"[["write"]]"#), Ok(Val::Flags(names(&["write"]))));
    assert_eq!(refusal(modes(), r#"[["exec"]]"#), "$[0][0]: `exec` is none of read, write");
    assert_eq!(refusal(modes(), r#"[["read","read"]]"#), "$[0][1]: `read` is named twice");
}

#[test]
fn options_nest_without_ambiguity() {
    let option = |inner| Shape::Option(Box::new(inner));
    assert_eq!(one(option(Shape::U8), "null"), Ok(Val::Option(None)));
    assert_eq!(one(option(Shape::U8), "1"), Ok(Val::Option(Some(Box::new(Val::U8(1))))));
    for json in ["null", r#"{"some":null}"#, r#"{"some":1}"#] {
        let value = one(option(option(Shape::U8)), json).expect("fits");
        assert_eq!(to_json(Some(&value)).expect("writes"), json.as_bytes(), "comes back as it went");
    }
    assert!(refusal(option(option(Shape::U8)), "1").contains("\"some\""));
    assert_eq!(refusal(option(option(Shape::U8)), r#"{"some":900}"#), "$[0].some: 900 does not fit a u8");
}

#[test]
fn results_have_two_sides() {
    let shape = || Shape::Result(Some(Box::new(Shape::U8)), None);
    assert_eq!(one(shape(), r#"{"ok":1}"#), Ok(Val::Result(Ok(Some(Box::new(Val::U8(1)))))));
    assert_eq!(one(shape(), r#"{"err":null}"#), Ok(Val::Result(Err(None))));
    assert_eq!(refusal(shape(), r#"{"err":1}"#), "$[0].err: this side has no value: write null");
    assert!(refusal(shape(), r#"{"maybe":1}"#).contains("a result is"));
}

#[test]
fn tuples_have_their_length() {
    let shape = || Shape::Tuple(vec![Shape::U8, Shape::Bool]);
    assert_eq!(one(shape(), "[[1,true]]"), Ok(Val::Tuple(vec![Val::U8(1), Val::Bool(true)])));
    assert_eq!(refusal(shape(), "[[1]]"), "$[0]: the tuple has 2 members, and got 1");
    assert_eq!(refusal(shape(), "[[1,2]]"), "$[0][1]: expected a bool, found a number");
}

#[test]
fn deep_json_is_an_error_and_not_an_overflow() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(refusal(Shape::U8, &deep).contains("not JSON"));
}

#[test]
fn text_of_the_caller_is_escaped_in_a_refusal() {
    let bad = refusal(person(), "{\"name\":\"Ada\",\"age\":1,\"\\u001b[2J\":1}");
    assert!(bad.starts_with("$[0].\\u{1b}[2J"), "{bad}");
}
