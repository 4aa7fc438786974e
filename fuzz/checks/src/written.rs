//! What is shown of a text that somebody else wrote.

use hotcell_policy::ParseError;

use crate::input::Input;
use crate::text::{LINE_MAX, Lines, escape, text as kept};

/// Longest message about a document, in bytes: a message, a place, a line cut to a window and a help line.
const MESSAGE_MAX: usize = 4 << 10;

/// Whether nothing in a text can drive a terminal or hide.
pub(crate) fn is_shown(text: &str) -> bool {
    !text.chars().any(misleads)
}

/// Whether a character drives a terminal, ends a line, or reorders or hides text. Written a second time on purpose.
fn misleads(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'
            | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// An error of a document points into it, and shows a bounded, escaped piece of it.
pub(crate) fn refusal(error: &ParseError, document: &str) {
    let shown = error.to_string();
    assert!(shown.lines().all(is_shown), "{shown:?}");
    assert!(shown.len() <= MESSAGE_MAX, "{} bytes", shown.len());
    let lines = document.split('\n').count();
    assert!((1..=lines).contains(&error.line()), "line {} of {lines}", error.line());
    let line = document.split('\n').nth(error.line() - 1).unwrap_or_default();
    let columns = line.chars().count() + 1;
    assert!((1..=columns).contains(&error.column()), "column {} of {columns}", error.column());
}

/// What a plugin writes comes out in lines that are bounded and escaped, whatever pieces it came in.
///
/// The first byte says how long the pieces are.
pub fn text(data: &[u8]) {
    let mut input = Input(data);
    let piece = usize::from(input.byte()).max(1);
    let rest = input.0;
    let in_pieces = lines(rest.chunks(piece));
    assert_eq!(in_pieces, lines(std::iter::once(rest)));
    for line in &in_pieces {
        assert!(line.len() <= LINE_MAX && !line.contains(&b'\n'));
    }
    let wanted: Vec<u8> = rest.iter().copied().filter(|byte| !b"\r\n".contains(byte)).collect();
    let got: Vec<u8> = in_pieces.concat().into_iter().filter(|byte| *byte != b'\r').collect();
    assert_eq!(got, wanted, "nothing is lost");
    let escaped = escape(rest);
    assert!(is_shown(&escaped), "{escaped:?}");
    assert!(escaped.len() < LINE_MAX + 32, "{} bytes", escaped.len());
    assert_eq!(kept(rest), String::from_utf8_lossy(rest), "short enough to be kept whole");
}

fn lines<'p>(pieces: impl Iterator<Item = &'p [u8]>) -> Vec<Vec<u8>> {
    let (mut lines, mut cutter) = (Vec::new(), Lines::default());
    for piece in pieces {
        cutter.feed(piece, |line| lines.push(line.to_vec()));
    }
    cutter.finish(|line| lines.push(line.to_vec()));
    lines
}
