//! Errors in what people write: where, what, and what to do instead.
//!
//! A manifest is hostile text. What of it is shown is cut to a window and every control or direction-changing
//! character is escaped, so that a message cannot rewrite a terminal or a log.

use std::fmt;
use std::ops::Range;

/// Characters of the offending line that are shown before and after its start.
const WINDOW: usize = 60;

/// Longest piece of a document that a message quotes, in characters.
const QUOTE: usize = 60;

/// An error in a manifest, a profile or a syscall set.
///
/// `Display` prints the message, the place, the line with a caret, and a `help:` line where there is one.
#[derive(Clone, PartialEq, Eq)]
pub struct ParseError(Box<Details>);

#[derive(Clone, PartialEq, Eq)]
struct Details {
    file: String,
    line: usize,
    column: usize,
    message: String,
    excerpt: String,
    marker: Range<usize>,
    help: Option<String>,
}

impl ParseError {
    /// The file, as it was named to the parser.
    pub fn file(&self) -> &str {
        &self.0.file
    }

    /// The line, counted from 1.
    pub fn line(&self) -> usize {
        self.0.line
    }

    /// The column in characters, counted from 1.
    pub fn column(&self) -> usize {
        self.0.column
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What to do, where there is something to say.
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> ParseError {
        self.0.help = Some(help.into());
        self
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details { file, line, column, message, excerpt, marker, help } = &*self.0;
        let gutter = " ".repeat(line.to_string().len());
        writeln!(f, "error: {message}")?;
        writeln!(f, "{gutter}--> {}:{line}:{column}", whole(file))?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{line} | {excerpt}")?;
        write!(f, "{gutter} | {}{}", " ".repeat(marker.start), "^".repeat(marker.len().max(1)))?;
        match help {
            Some(help) => write!(f, "\n{gutter} = help: {help}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ParseError {}

/// A named text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Document<'d> {
    pub(crate) file: &'d str,
    pub(crate) text: &'d str,
}

/// A piece of a document, in bytes.
pub(crate) type Span = Range<usize>;

impl Document<'_> {
    /// The error at `span`.
    pub(crate) fn error(&self, span: &Span, message: impl Into<String>) -> ParseError {
        let start = floor(self.text, span.start);
        let before = self.text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let (excerpt, marker) = self.excerpt(line_start, start..floor(self.text, span.end));
        ParseError(Box::new(Details {
            file: self.file.to_owned(),
            line: self.line(start),
            column: self.text.get(line_start..start).unwrap_or_default().chars().count() + 1,
            message: message.into(),
            excerpt,
            marker,
            help: None,
        }))
    }

    /// The line of an offset, counted from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// The line that starts at `line_start`, cut around `span`, and where the marker belongs below it.
    fn excerpt(&self, line_start: usize, span: Span) -> (String, Range<usize>) {
        let rest = self.text.get(line_start..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let column = rest.get(..span.start - line_start).unwrap_or_default().chars().count();
        let first = column.saturating_sub(WINDOW);
        let mut excerpt = String::new();
        if first > 0 {
            excerpt.push('…');
        }
        let (mut start, mut end) = (excerpt.chars().count(), None);
        let shown = column - first + WINDOW;
        for (offset, character) in line.char_indices().skip(first).take(shown) {
            let offset = line_start + offset;
            let width = excerpt.chars().count();
            if offset == span.start {
                start = width;
            }
            if offset >= span.end {
                end.get_or_insert(width);
            }
            push_shown(&mut excerpt, character);
        }
        let width = excerpt.chars().count();
        if span.start >= line_start + line.len() {
            start = width;
        }
        let end = end.unwrap_or(width);
        if line.chars().nth(first + shown).is_some() {
            excerpt.push('…');
        }
        (excerpt, start..end.max(start))
    }
}

fn floor(text: &str, offset: usize) -> usize {
    text.floor_char_boundary(offset)
}

/// A file name in full, escaped: a reader opens it.
fn whole(text: &str) -> String {
    let mut out = String::new();
    text.chars().for_each(|character| push_shown(&mut out, character));
    out
}

/// Quotes a piece of a document for a message: escaped and cut.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars().take(QUOTE) {
        push_shown(&mut out, character);
    }
    if text.chars().nth(QUOTE).is_some() {
        out.push('…');
    }
    out
}

fn push_shown(out: &mut String, character: char) {
    match character {
        '\t' => out.push(' '),
        _ if is_hidden(character) => out.extend(character.escape_unicode()),
        _ => out.push(character),
    }
}

/// Characters that a reader cannot see or that change how others are shown: control, direction, zero width.
pub(crate) fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}
