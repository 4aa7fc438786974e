//! Host and compiler: what is asked of it, and what it claims.
//!
//! The compiler is a worker whose export is [`COMPILE`]. Its input is a [`CompileRequest`], its reply a
//! [`Description`], its plugin error a [`CompileFailure`], each in this crate's codec. The native code goes into the
//! output memfd that travelled with its `Start`.

use serde::{Deserialize, Serialize};

use crate::orders::Runtime;

/// The compiler's export.
pub const COMPILE: &str = "compile";

/// Another export of the same program: whether a configuration (the input, JSON) meets the JSON Schema that the process was
/// started with in the place of a module. The reply is empty, a plugin error a `String`.
pub const VALIDATE: &str = "validate";

/// Another export: what can be said of a native library without loading it. The input is empty, the reply [`LibraryFacts`], a plugin
/// error a `String`.
pub const EXAMINE: &str = "examine";

/// Names that a description may list; the rest is cut.
pub const NAMES_MAX: usize = 1000;

/// Asks for native code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompileRequest {
    /// What the manifest says the artifact is, or `None` to find out.
    pub runtime: Option<Runtime>,
    /// Whether it may use WebAssembly's exceptions, and references to objects of the host.
    pub exceptions: bool,
}

/// What the compiler says of a module. A claim: it has read hostile bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// `Core`, `Component` or `Command`.
    pub runtime: Runtime,
    /// The functions that may be called, as `call` takes them; at most [`NAMES_MAX`].
    pub exports: Vec<String>,
    /// The imports, at most [`NAMES_MAX`].
    pub imports: Vec<String>,
    /// Bytes of native code in the output.
    pub code_len: u64,
}

/// What a native library says of itself (elf(5)). A claim: whoever said so has read hostile bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LibraryFacts {
    /// The libraries that it needs (`DT_NEEDED`), at most [`NAMES_MAX`].
    pub needed: Vec<String>,
    /// Where these are looked for (`DT_RPATH`, `DT_RUNPATH`).
    pub run_paths: Vec<String>,
    /// The plugin exports that it has, at most [`NAMES_MAX`].
    pub exports: Vec<String>,
    /// Functions that run while it is loaded, before any call.
    pub constructors: u64,
    /// It asks for a stack that can be executed.
    pub executable_stack: bool,
    /// It has memory that is writable and executable.
    pub writable_code: bool,
    /// Its code is changed while it is loaded.
    pub text_relocations: bool,
    /// What the dynamic linker has filled in becomes read-only (`PT_GNU_RELRO`).
    pub relro: bool,
    /// All of it is filled in at once (`BIND_NOW`), so that all of it becomes read-only.
    pub bind_now: bool,
}

/// Why there is no native code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The bytes are not wasm, or not valid wasm.
    Malformed,
    /// It imports something that its runtime does not offer.
    UndeclaredImport,
    /// It uses a wasm feature that is switched off, or is of another kind than the manifest says.
    Unsupported,
    /// It is larger than the compiler accepts.
    TooLarge,
}

/// A refused module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompileFailure {
    /// The kind of refusal.
    pub kind: FailureKind,
    /// What is wrong, at most 4 KiB.
    pub message: String,
}
