//! Why guest code stopped, as a claim that is safe to print.

use hotcell_protocol::{Failure, ReplyStatus, TrapKind};
use hotcell_worker::{Reply, load_failure};
use wasmtime::{Trap, WasmBacktrace};

/// Bytes of an explanation.
const TEXT_MAX: usize = 4096;

/// A guest that gave a host function what it must not.
#[derive(Debug)]
pub(crate) struct BadArgument(pub(crate) String);

impl std::fmt::Display for BadArgument {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for BadArgument {}

/// A trap, kept: a worker whose guest has trapped serves no more.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    kind: TrapKind,
    text: String,
}

impl Fault {
    /// What an error of wasmtime says.
    pub(crate) fn of(error: &wasmtime::Error) -> Fault {
        let mut text = format!("{}", error.root_cause());
        if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
            text = format!("{text}\n{backtrace}");
        }
        Fault { kind: kind(error), text: printable(&text) }
    }

    /// A fault that the worker itself found.
    pub(crate) fn new(kind: TrapKind, text: &str) -> Fault {
        Fault { kind, text: printable(text) }
    }

    /// The explanation.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The answer to the call in which it happened.
    pub(crate) fn reply(&self) -> Reply {
        Reply::text(ReplyStatus::Trap(self.kind), self.text.clone())
    }
}

fn kind(error: &wasmtime::Error) -> TrapKind {
    if error.downcast_ref::<BadArgument>().is_some() || error.downcast_ref::<wiggle::GuestError>().is_some() {
        return TrapKind::BadArgument;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => TrapKind::Unreachable,
        Some(Trap::StackOverflow) => TrapKind::StackOverflow,
        Some(Trap::MemoryOutOfBounds) => TrapKind::MemoryOutOfBounds,
        Some(Trap::TableOutOfBounds) => TrapKind::TableOutOfBounds,
        Some(Trap::IndirectCallToNull | Trap::BadSignature) => TrapKind::IndirectCall,
        Some(Trap::IntegerOverflow) => TrapKind::IntegerOverflow,
        Some(Trap::IntegerDivisionByZero) => TrapKind::IntegerDivisionByZero,
        Some(Trap::BadConversionToInteger) => TrapKind::BadConversion,
        _ => TrapKind::Other,
    }
}

/// A failure to start that quotes the plugin.
pub(crate) fn failed(detail: &str) -> Failure {
    load_failure(printable(detail))
}

/// Escapes what could move a terminal's cursor (function names come from the plugin), and cuts.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(TEXT_MAX));
    for character in text.chars() {
        let before = out.len();
        match character {
            '\n' | '"' | '\'' | '\\' => out.push(character),
            _ => out.extend(character.escape_debug()),
        }
        if out.len() > TEXT_MAX {
            out.truncate(before);
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{TEXT_MAX, printable};

    #[test]
    fn names_from_a_plugin_cannot_move_the_cursor() {
        assert_eq!(printable("evil\u{1b}[2J\r\nnext"), "evil\\u{1b}[2J\\r\nnext");
        assert!(printable(&"\u{9b}".repeat(TEXT_MAX)).len() <= TEXT_MAX);
    }
}
