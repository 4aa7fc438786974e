//! Typed reading of a tree: every value is asked for by key and type, and what nobody asks for is an error.

use std::collections::HashSet;
use std::hash::Hash;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::tree::{Member, Node, Value};
use super::{Document, ParseError, Span, is_hidden, shown};

/// A table being read.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'d> {
    document: &'d Document<'d>,
    members: &'d [Member],
    span: &'d Span,
    path: String,
}

/// A value being read, with the path of keys that leads to it.
#[derive(Clone, Debug)]
pub(crate) struct Field<'d> {
    document: &'d Document<'d>,
    pub(crate) node: &'d Node,
    pub(crate) path: String,
}

impl<'d> Fields<'d> {
    /// The whole document, which must be a table with no other keys than `known`.
    pub(crate) fn of_document(
        document: &'d Document<'d>,
        node: &'d Node,
        known: &[&str],
    ) -> Result<Fields<'d>, ParseError> {
        Field { document, node, path: String::new() }.table(known)
    }

    /// The value of a key that may be missing.
    pub(crate) fn optional(&self, key: &str) -> Option<Field<'d>> {
        let member = self.members.iter().find(|member| member.key == key)?;
        Some(Field { document: self.document, node: &member.node, path: join(&self.path, key) })
    }

    /// The value of a key that may not.
    pub(crate) fn required(&self, key: &str) -> Result<Field<'d>, ParseError> {
        self.optional(key).ok_or_else(|| {
            let place = if self.path.is_empty() { String::new() } else { format!(" in `{}`", self.path) };
            self.error_at_start(format!("missing key `{key}`{place}"))
        })
    }

    /// The keys and values, in the order of the text.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'d str, Span, Field<'d>)> {
        self.members.iter().map(|member| {
            let path = join(&self.path, &shown(&member.key));
            let field = Field { document: self.document, node: &member.node, path };
            (member.key.as_str(), member.key_span.clone(), field)
        })
    }

    /// An error that points at the start of the table.
    pub(crate) fn error_at_start(&self, message: impl Into<String>) -> ParseError {
        self.document.error(&(self.span.start..self.span.start + 1), message)
    }

    fn refuse_unknown(&self, known: &[&str]) -> Result<(), ParseError> {
        let Some(member) = self.members.iter().find(|member| !known.contains(&member.key.as_str())) else {
            return Ok(());
        };
        let place = if self.path.is_empty() { String::new() } else { format!(" in `{}`", self.path) };
        let error =
            self.document.error(&member.key_span, format!("unknown key `{}`{place}", shown(&member.key)));
        Err(match nearest(&member.key, known) {
            Some(near) => error.with_help(format!("did you mean `{near}`?")),
            None => error.with_help(format!("known here: {}", known.join(", "))),
        })
    }
}

impl<'d> Field<'d> {
    /// An error that points at the value.
    pub(crate) fn error(&self, message: impl Into<String>) -> ParseError {
        self.document.error(&self.node.span, message)
    }

    /// The line of the value.
    pub(crate) fn line(&self) -> usize {
        self.document.line(self.node.span.start)
    }

    pub(crate) fn wrong_type(&self, wanted: &str) -> ParseError {
        self.error(format!("`{}` must be {wanted}, not {}", self.path, self.node.value.kind()))
    }

    /// A table with no other keys than `known`.
    pub(crate) fn table(&self, known: &[&str]) -> Result<Fields<'d>, ParseError> {
        let fields = self.open_table()?;
        fields.refuse_unknown(known)?;
        Ok(fields)
    }

    /// A table whose keys are names of the writer's choice.
    pub(crate) fn open_table(&self) -> Result<Fields<'d>, ParseError> {
        match &self.node.value {
            Value::Table(members) => Ok(Fields {
                document: self.document,
                members,
                span: &self.node.span,
                path: self.path.clone(),
            }),
            _ if self.path.is_empty() => Err(self.error("the document must be a table of keys")),
            _ => Err(self.wrong_type("a table")),
        }
    }

    /// Text of visible characters, not empty, of at most `max` characters.
    pub(crate) fn text(&self, max: usize) -> Result<&'d str, ParseError> {
        let Value::Text(text) = &self.node.value else { return Err(self.wrong_type("a string")) };
        if text.trim().is_empty() {
            return Err(self.error(format!("`{}` is empty", self.path)));
        }
        if text.chars().nth(max).is_some() {
            return Err(self.error(format!("`{}` has more than {max} characters", self.path)));
        }
        match text.chars().find(|character| is_hidden(*character)) {
            Some(hidden) => Err(self.error(format!(
                "`{}` contains U+{:04X}, a control, direction-changing or invisible character",
                self.path,
                u32::from(hidden)
            ))),
            None => Ok(text),
        }
    }

    /// Text that parses into a type of its own.
    pub(crate) fn parsed<T: FromStr<Err: std::fmt::Display>>(&self) -> Result<T, ParseError> {
        let text = self.text(usize::MAX - 1)?;
        text.parse().map_err(|error| self.error(format!("`{}` is `{}`: {error}", self.path, shown(text))))
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, ParseError> {
        let text = self.text(usize::MAX - 1)?;
        match choices.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(*value),
            None => {
                let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
                let error = self.error(format!("`{}` cannot be `{}`", self.path, shown(text)));
                Err(match nearest(text, &words) {
                    Some(near) => error.with_help(format!("did you mean `{near}`?")),
                    None => error.with_help(format!("one of: {}", words.join(", "))),
                })
            }
        }
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self) -> Result<bool, ParseError> {
        match self.node.value {
            Value::Flag(flag) => Ok(flag),
            _ => Err(self.wrong_type("true or false")),
        }
    }

    /// An integer within bounds.
    pub(crate) fn integer(&self, bounds: RangeInclusive<u64>) -> Result<u64, ParseError> {
        let Value::Integer(number) = self.node.value else { return Err(self.wrong_type("an integer")) };
        u64::try_from(number).ok().filter(|number| bounds.contains(number)).ok_or_else(|| {
            let (low, high) = (bounds.start(), bounds.end());
            let bounds = if low == high { format!("not {low}") } else { format!("outside {low} to {high}") };
            self.error(format!("`{}` is {number}, {bounds}", self.path))
        })
    }

    /// An integer of 32 bits within bounds.
    pub(crate) fn integer32(&self, bounds: RangeInclusive<u32>) -> Result<u32, ParseError> {
        let wide = u64::from(*bounds.start())..=u64::from(*bounds.end());
        Ok(u32::try_from(self.integer(wide)?).unwrap_or(u32::MAX))
    }

    /// The items of a list that is not empty.
    pub(crate) fn items(&self) -> Result<Vec<Field<'d>>, ParseError> {
        let Value::List(items) = &self.node.value else { return Err(self.wrong_type("a list")) };
        if items.is_empty() {
            return Err(self
                .error(format!("`{}` is an empty list", self.path))
                .with_help("leave the key out to ask for nothing"));
        }
        let path = format!("{}[]", self.path);
        Ok(items.iter().map(|node| Field { document: self.document, node, path: path.clone() }).collect())
    }

    /// The items of a list, each parsed, none twice.
    pub(crate) fn distinct<T: FromStr<Err: std::fmt::Display> + Clone + Eq + Hash>(
        &self,
    ) -> Result<Vec<T>, ParseError> {
        let mut values = Vec::new();
        // The list is as long as its writer wants.
        let mut seen = HashSet::new();
        for item in self.items()? {
            let value: T = item.parsed()?;
            if !seen.insert(value.clone()) {
                return Err(item.error(format!("`{}` names this twice", self.path)));
            }
            values.push(value);
        }
        Ok(values)
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The known word that a mistyped one is closest to, if it is close.
fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    /// Longer words are not mistyped keys, and comparing them costs time.
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let near = known.iter().map(|candidate| (distance(word, candidate), *candidate)).min()?;
    let close_enough = near.0 <= 1 + near.1.len() / 4;
    close_enough.then_some(near.1)
}

/// Insertions, deletions and replacements between two words (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, a) in left.chars().enumerate() {
        let mut diagonal = index;
        let mut previous = index + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(&right) {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = *cell;
            *cell = replaced.min(diagonal + 1).min(previous + 1);
            previous = *cell;
        }
    }
    // After the first row, the row's first cell is never read: a deletion there costs `index + 1`, as `previous` says.
    if right.is_empty() { left.chars().count() } else { row.last().copied().unwrap_or_default() }
}
