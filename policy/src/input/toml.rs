//! TOML as a tree with positions.

use toml::de::{DeTable, DeValue};

use super::tree::{Member, Node, Value};
use super::{Document, ParseError, Span};

/// Reads a whole document. Duplicate keys and deep nesting are errors of the `toml` crate.
pub(crate) fn read_toml(document: Document<'_>) -> Result<Node, ParseError> {
    let table = DeTable::parse(document.text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        document.error(&span, error.message().lines().collect::<Vec<_>>().join(", "))
    })?;
    let span = table.span();
    Ok(Node { span, value: convert_table(table.into_inner(), &document)? })
}

fn convert_table(table: DeTable<'_>, document: &Document<'_>) -> Result<Value, ParseError> {
    let mut members = Vec::new();
    for (key, value) in table {
        let key_span = key.span();
        let node = convert(value.span(), value.into_inner(), document)?;
        members.push(Member { key: key.into_inner().into_owned(), key_span, node });
    }
    // The crate sorts by name; errors and plans follow the file.
    members.sort_by_key(|member| member.key_span.start);
    Ok(Value::Table(members))
}

fn convert(span: Span, value: DeValue<'_>, document: &Document<'_>) -> Result<Node, ParseError> {
    let value = match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Boolean(flag) => Value::Flag(flag),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            let parsed = i64::from_str_radix(&digits, number.radix());
            Value::Integer(
                parsed.map_err(|_| document.error(&span, "a number that does not fit 64 bits"))?.into(),
            )
        }
        DeValue::Float(_) | DeValue::Datetime(_) => {
            return Err(document.error(&span, "fractions and dates have no place in a profile"));
        }
        DeValue::Array(items) => {
            let items = items.into_iter().map(|item| convert(item.span(), item.into_inner(), document));
            Value::List(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => convert_table(table, document)?,
    };
    Ok(Node { span, value })
}
