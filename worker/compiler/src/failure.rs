//! Refusals, in text that is safe to print: whatever a module says of itself is escaped and cut.

use hotcell_engine::{EXCEPTIONS, FEATURES};
use hotcell_protocol::{CompileFailure, FailureKind};
use wasmparser::{Validator, WasmFeatures};

/// Bytes of a failure's message.
const MESSAGE_MAX: usize = 4096;

/// Bytes of one name in a description or a message.
pub(crate) const NAME_MAX: usize = 256;

/// A failure whose message is escaped and bounded here.
pub(crate) fn failure(kind: FailureKind, message: impl AsRef<str>) -> CompileFailure {
    CompileFailure { kind, message: bounded(message.as_ref()) }
}

/// Escapes control and formatting characters, and cuts at the size of a message.
pub(crate) fn bounded(text: &str) -> String {
    escaped(text, MESSAGE_MAX)
}

/// A name from a module, for a description or a message.
pub(crate) fn printable(name: &str) -> String {
    escaped(name, NAME_MAX)
}

fn escaped(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    for character in text.chars() {
        let before = out.len();
        match character {
            '\n' => out.push('\n'),
            '"' | '\'' | '\\' => out.push(character),
            _ => out.extend(character.escape_debug()),
        }
        if out.len() > max {
            out.truncate(before);
            break;
        }
    }
    out
}

/// Tells a feature that is switched off from bytes that are no wasm at all.
pub(crate) fn refuse_invalid(wasm: &[u8], error: &wasmparser::BinaryReaderError) -> CompileFailure {
    let valid = |features| Validator::new_with_features(features).validate_all(wasm).is_ok();
    if valid(FEATURES.union(EXCEPTIONS)) {
        return failure(
            FailureKind::Unsupported,
            format!(
                "the module uses exceptions, which its profile does not grant (`wasm = [\"exceptions\"]`): {error}"
            ),
        );
    }
    if valid(WasmFeatures::all()) {
        return failure(
            FailureKind::Unsupported,
            format!("the module uses a feature that is switched off: {error}"),
        );
    }
    failure(FailureKind::Malformed, format!("not valid WebAssembly: {error}"))
}

#[cfg(test)]
mod tests {
    use super::{MESSAGE_MAX, bounded, printable};

    #[test]
    fn terminal_escapes_and_direction_marks_are_printed_not_obeyed() {
        assert_eq!(printable("a\u{1b}[31m\u{202e}b"), "a\\u{1b}[31m\\u{202e}b");
        assert_eq!(bounded("line\nline `x`"), "line\nline `x`");
    }

    #[test]
    fn a_message_is_cut_at_a_character() {
        let long = bounded(&"é".repeat(MESSAGE_MAX));
        assert_eq!(long.len(), MESSAGE_MAX);
        assert!(printable(&"\u{1b}".repeat(1000)).len() <= super::NAME_MAX);
    }
}
