//! A JSON reader (RFC 8259) that keeps positions.
//!
//! Stricter than serde_json: duplicate keys at any depth, more than [`DEPTH_MAX`] levels, and numbers that neither 64
//! bits nor a double can hold are errors. Depth bounds the recursion, so hostile nesting costs no stack.

use super::tree::{Member, Node, Value};
use super::{Document, ParseError, Span, shown};

/// Levels of lists and tables inside one another.
const DEPTH_MAX: usize = 32;

/// Reads a whole document.
pub(crate) fn read_json(document: Document<'_>) -> Result<Node, ParseError> {
    let mut reader = Reader { document, at: 0, depth: 0 };
    reader.skip_space();
    let node = reader.value()?;
    reader.skip_space();
    match reader.peek() {
        None => Ok(node),
        Some(_) => Err(reader.unexpected("the end of the file")),
    }
}

struct Reader<'d> {
    document: Document<'d>,
    at: usize,
    depth: usize,
}

impl<'d> Reader<'d> {
    fn peek(&self) -> Option<u8> {
        self.document.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'d str {
        self.document.text.get(self.at..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn error(&self, start: usize, message: impl Into<String>) -> ParseError {
        self.document.error(&(start..self.at.max(start)), message)
    }

    fn unexpected(&self, wanted: &str) -> ParseError {
        let found = match self.rest().chars().next() {
            None => "the end of the file".to_owned(),
            Some(character) => format!("`{}`", shown(&character.to_string())),
        };
        self.document.error(&(self.at..self.at + 1), format!("expected {wanted}, found {found}"))
    }

    fn value(&mut self) -> Result<Node, ParseError> {
        let start = self.at;
        let value = match self.peek() {
            Some(b'{') => self.nested(Reader::table)?,
            Some(b'[') => self.nested(Reader::list)?,
            Some(b'"') => Value::Text(self.text()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b'a'..=b'z' | b'A'..=b'Z') => self.word()?,
            _ => return Err(self.unexpected("a value")),
        };
        Ok(Node { span: start..self.at, value })
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value, ParseError>) -> Result<Value, ParseError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error(self.at, format!("more than {DEPTH_MAX} levels of nesting")));
        }
        self.at += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn list(&mut self) -> Result<Value, ParseError> {
        let mut items = Vec::new();
        self.skip_space();
        if self.eat(b']') {
            return Ok(Value::List(items));
        }
        loop {
            self.skip_space();
            items.push(self.value()?);
            self.skip_space();
            if self.eat(b']') {
                return Ok(Value::List(items));
            }
            self.comma("`,` or `]`", b']')?;
        }
    }

    fn table(&mut self) -> Result<Value, ParseError> {
        let mut members = Members::default();
        self.skip_space();
        if self.eat(b'}') {
            return Ok(Value::Table(members.list));
        }
        loop {
            self.skip_space();
            let member = self.member()?;
            members.add(member, &self.document)?;
            self.skip_space();
            if self.eat(b'}') {
                return Ok(Value::Table(members.list));
            }
            self.comma("`,` or `}`", b'}')?;
        }
    }

    fn member(&mut self) -> Result<Member, ParseError> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a key in double quotes"));
        }
        let key = self.text()?;
        let key_span = start..self.at;
        self.skip_space();
        if !self.eat(b':') {
            return Err(self.unexpected("`:` after the key"));
        }
        self.skip_space();
        Ok(Member { key, key_span, node: self.value()? })
    }

    fn comma(&mut self, wanted: &str, close: u8) -> Result<(), ParseError> {
        let start = self.at;
        if !self.eat(b',') {
            return Err(self.unexpected(wanted));
        }
        let end = self.at;
        self.skip_space();
        if self.peek() == Some(close) {
            return Err(self.document.error(&(start..end), "a comma with nothing after it"));
        }
        Ok(())
    }

    fn word(&mut self) -> Result<Value, ParseError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric()) {
            self.at += 1;
        }
        match self.document.text.get(start..self.at) {
            Some("true") => Ok(Value::Flag(true)),
            Some("false") => Ok(Value::Flag(false)),
            Some("null") => Ok(Value::Null),
            word => Err(self
                .error(start, format!("`{}` is not a value", shown(word.unwrap_or_default())))
                .with_help("JSON knows true, false, null, numbers, and strings in double quotes")),
        }
    }

    fn number(&mut self) -> Result<Value, ParseError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z')) {
            self.at += 1;
        }
        let text = self.document.text.get(start..self.at).unwrap_or_default();
        parse_number(text).map_err(|message| self.error(start, format!("`{}` {message}", shown(text))))
    }

    fn text(&mut self) -> Result<String, ParseError> {
        let start = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = self.rest();
            let plain = rest
                .find(|character: char| matches!(character, '"' | '\\') || character < ' ')
                .unwrap_or(rest.len());
            out.push_str(rest.get(..plain).unwrap_or_default());
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(_) => {
                    let help = "write it as an escape, such as `\\n`";
                    return Err(self.error(self.at, "a control character inside a string").with_help(help));
                }
                None => return Err(self.document.error(&(start..start + 1), "a string that does not end")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, ParseError> {
        let start = self.at;
        let letter = self.rest().chars().nth(1);
        self.at += 1 + letter.map_or(0, char::len_utf8);
        match letter {
            Some(character @ ('"' | '\\' | '/')) => Ok(character),
            Some('b') => Ok('\u{8}'),
            Some('f') => Ok('\u{c}'),
            Some('n') => Ok('\n'),
            Some('r') => Ok('\r'),
            Some('t') => Ok('\t'),
            Some('u') => self.unicode_escape(start),
            _ => Err(self.error(start, "an escape that JSON does not know")),
        }
    }

    fn unicode_escape(&mut self, start: usize) -> Result<char, ParseError> {
        let first = self.four_digits(start)?;
        let high = matches!(first, 0xd800..=0xdbff);
        let code = if high && self.rest().starts_with("\\u") {
            self.at += 2;
            let second = self.four_digits(start)?;
            if !matches!(second, 0xdc00..=0xdfff) {
                return Err(self.error(start, "half of a surrogate pair"));
            }
            0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
        } else {
            first
        };
        char::from_u32(code).ok_or_else(|| self.error(start, "half of a surrogate pair"))
    }

    fn four_digits(&mut self, start: usize) -> Result<u32, ParseError> {
        let digits =
            self.rest().get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let Some(digits) = digits else {
            return Err(self.error(start, "`\\u` needs four hexadecimal digits"));
        };
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| self.error(start, "`\\u` needs four hexadecimal digits"))
    }
}

/// The grammar of RFC 8259, section 6, and the ranges that survive.
fn parse_number(text: &str) -> Result<Value, &'static str> {
    const NOT_A_NUMBER: &str = "is not a number";
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (digits, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !fraction.is_none_or(is_digits) || !exponent.is_none_or(is_digits) {
        return Err(NOT_A_NUMBER);
    }
    if whole.len() > 1 && whole.starts_with('0') {
        return Err("is a number with a leading zero");
    }
    if fraction.is_none() && exponent.is_none() {
        let number: i128 = text.parse().map_err(|_| "does not fit 64 bits")?;
        let fits = (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&number);
        return if fits { Ok(Value::Integer(number)) } else { Err("does not fit 64 bits") };
    }
    let number: f64 = text.parse().map_err(|_| NOT_A_NUMBER)?;
    if number.is_finite() { Ok(Value::Float(number)) } else { Err("is larger than a double can hold") }
}

/// Members of one table, with what is needed to find a duplicate key in a large one.
#[derive(Default)]
struct Members {
    list: Vec<Member>,
    seen: std::collections::HashMap<String, Span>,
}

impl Members {
    fn add(&mut self, member: Member, document: &Document<'_>) -> Result<(), ParseError> {
        if let Some(first) = self.seen.insert(member.key.clone(), member.key_span.clone()) {
            let line = document.line(first.start);
            let message = format!("the key `{}` stands here twice", shown(&member.key));
            return Err(document
                .error(&member.key_span, message)
                .with_help(format!("the first one is on line {line}")));
        }
        self.list.push(member);
        Ok(())
    }
}
