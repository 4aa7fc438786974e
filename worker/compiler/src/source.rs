//! From the artifact's bytes to binary wasm.

use hotcell_protocol::{CompileFailure, FailureKind};

use crate::failure::failure;

/// Largest binary. Real programs of 70 MB exist; their native code still fits the limits of a worker.
const BINARY_MAX: usize = 128 * 1024 * 1024;

/// Largest text. Its syntax tree takes some fifty times its size.
const TEXT_MAX: usize = 8 * 1024 * 1024;

const WASM_MAGIC: &[u8] = b"\0asm";
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// Binary wasm as it is, or made from the text format. Anything else is refused by what it looks like.
pub(crate) fn binary(source: Vec<u8>) -> Result<Vec<u8>, CompileFailure> {
    if source.starts_with(WASM_MAGIC) {
        within(source.len(), BINARY_MAX, "module")?;
        return Ok(source);
    }
    if source.starts_with(ELF_MAGIC) {
        let message = "this is an ELF file, perhaps a precompiled module; only WebAssembly is compiled here";
        return Err(failure(FailureKind::Malformed, message));
    }
    let Ok(text) = std::str::from_utf8(&source) else {
        return Err(failure(FailureKind::Malformed, "neither WebAssembly nor its text format"));
    };
    if !looks_like_text(text) {
        return Err(failure(FailureKind::Malformed, "neither WebAssembly nor its text format"));
    }
    within(source.len(), TEXT_MAX, "text")?;
    let wasm = wat::parse_str(text).map_err(|error| failure(FailureKind::Malformed, error.to_string()))?;
    within(wasm.len(), BINARY_MAX, "module")?;
    Ok(wasm)
}

/// The text format begins with a parenthesis or a comment.
fn looks_like_text(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with('(') || text.starts_with(";;")
}

fn within(len: usize, max: usize, what: &str) -> Result<(), CompileFailure> {
    if len <= max {
        return Ok(());
    }
    Err(failure(FailureKind::TooLarge, format!("the {what} has {len} bytes; the compiler accepts {max}")))
}

#[cfg(test)]
mod tests {
    use hotcell_protocol::FailureKind;

    use super::{TEXT_MAX, binary};

    fn kind(source: &[u8]) -> FailureKind {
        binary(source.to_vec()).expect_err("is refused").kind
    }

    #[test]
    fn text_becomes_binary_and_binary_stays() {
        let wasm = binary(b" ;; a comment\n(module)".to_vec()).expect("parses");
        assert_eq!(wasm, b"\0asm\x01\0\0\0");
        assert_eq!(binary(wasm.clone()).expect("is binary"), wasm);
    }

    #[test]
    fn other_formats_are_malformed() {
        for source in [&b"\x7fELF\x02\x01\x01"[..], b"#!/bin/sh\n", b"", b"\xff\xfe", b"(module"] {
            assert_eq!(kind(source), FailureKind::Malformed, "{source:?}");
        }
    }

    #[test]
    fn a_text_over_the_cap_is_too_large_before_it_is_parsed() {
        let mut text = b"(module)".to_vec();
        text.resize(TEXT_MAX + 1, b' ');
        assert_eq!(kind(&text), FailureKind::TooLarge);
    }
}
