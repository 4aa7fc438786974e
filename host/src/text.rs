//! Text of a plugin, made fit for a log or a terminal: one line, no control characters, bounded.

use std::fmt::Write;

/// Longest line of a plugin that is kept, in bytes of the escaped text.
pub(crate) const LINE_MAX: usize = 4096;

/// Longest text of a plugin that an error keeps, in bytes before conversion.
const TEXT_MAX: usize = 64 << 10;

/// Marks a line that was cut.
const CUT: &str = " [cut]";

/// Makes text of a plugin fit for a log or a terminal: one line, bounded.
///
/// Escapes control characters (C0, DEL, C1), line and paragraph separators, and the characters that reorder or hide
/// text; replaces invalid UTF-8; cuts after 4 KiB.
pub fn escape(bytes: &[u8]) -> String {
    // Every character escapes to at least its own length: what comes after these bytes is cut in any case.
    let bytes = bytes.get(..LINE_MAX + 4).unwrap_or(bytes);
    let mut escaped = String::new();
    for character in String::from_utf8_lossy(bytes).chars() {
        if escaped.len() >= LINE_MAX {
            escaped.push_str(CUT);
            break;
        }
        match character {
            '\t' => escaped.push(' '),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\\' => escaped.push_str("\\\\"),
            hidden if is_unsafe(hidden) => _ = write!(escaped, "\\u{{{:x}}}", u32::from(hidden)),
            plain => escaped.push(plain),
        }
    }
    escaped
}

/// The text of a plugin's error as it wrote it, cut after 64 KiB.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..TEXT_MAX).unwrap_or(bytes)).into_owned()
}

/// Whether a character can drive a terminal, or reorder or hide text: what [`escape`] replaces.
pub fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Cuts bytes into lines of at most [`LINE_MAX`] bytes, whatever comes in whatever pieces.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Takes the next bytes; hands each finished line to `emit`, as it came.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut emit: impl FnMut(&[u8])) {
        let parts = bytes.split_inclusive(|byte| *byte == b'\n');
        for part in parts {
            let (line, ended) = part.strip_suffix(b"\n").map_or((part, false), |line| (line, true));
            for piece in line.chunks(LINE_MAX) {
                let room = LINE_MAX - self.rest.len().min(LINE_MAX);
                let (fits, over) = piece.split_at(room.min(piece.len()));
                self.rest.extend_from_slice(fits);
                if !over.is_empty() {
                    self.flush(&mut emit);
                    self.rest.extend_from_slice(over);
                }
            }
            if ended {
                self.flush(&mut emit);
            }
        }
    }

    /// Hands out what is left without a line end.
    pub(crate) fn finish(&mut self, emit: impl FnOnce(&[u8])) {
        if !self.rest.is_empty() {
            self.flush(emit);
        }
    }

    fn flush(&mut self, emit: impl FnOnce(&[u8])) {
        let line = self.rest.strip_suffix(b"\r").unwrap_or(&self.rest);
        emit(line);
        self.rest.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE_MAX, Lines, escape};

    #[test]
    fn control_and_reordering_characters_are_escaped() {
        assert_eq!(escape(b"\x1b]52;c;x\x07"), "\\u{1b}]52;c;x\\u{7}");
        assert_eq!(escape("a\u{9b}31m\u{202e}b\u{2028}".as_bytes()), "a\\u{9b}31m\\u{202e}b\\u{2028}");
        assert_eq!(escape("gr\u{fc}\u{df}e \u{1f600}".as_bytes()), "gr\u{fc}\u{df}e \u{1f600}", "control");
        assert_eq!(escape(b"\xff\\n"), "\u{fffd}\\\\n", "a backslash cannot imitate an escape");
    }

    #[test]
    fn a_record_is_one_line_and_bounded() {
        let mut lines = Vec::new();
        let mut cutter = Lines::default();
        cutter.feed(b"one\r\ntwo\nth", |line| lines.push(escape(line)));
        cutter.feed(b"ree\n[INFO] fake", |line| lines.push(escape(line)));
        cutter.finish(|line| lines.push(escape(line)));
        assert_eq!(lines, ["one", "two", "three", "[INFO] fake"]);
        let mut lines = Vec::new();
        cutter.feed(&[b'x'; 3 * LINE_MAX + 5], |line| lines.push(line.to_vec()));
        cutter.finish(|line| lines.push(line.to_vec()));
        assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), [LINE_MAX, LINE_MAX, LINE_MAX, 5]);
        assert!(escape(&[1; LINE_MAX]).len() < LINE_MAX + 32, "escapes grow, within the bound");
    }

    #[test]
    fn only_the_part_of_a_text_that_is_kept_is_converted() {
        let long = "\u{fc}".repeat(LINE_MAX);
        assert_eq!(escape(long.as_bytes()), format!("{} [cut]", "\u{fc}".repeat(LINE_MAX / 2)));
        let odd = format!("x{}", "\u{1f600}".repeat(LINE_MAX));
        assert!(!escape(odd.as_bytes()).contains('\u{fffd}'), "a character on the border is cut, not broken");
        assert_eq!(super::text(&vec![b'x'; 1 << 20]).len(), super::TEXT_MAX);
        assert_eq!(super::text(b"short\n"), "short\n", "control: as it was written");
    }
}
