//! What reads hostile files for the host: wasm in, native code and a bounded description out; the notes of a crash in, a
//! backtrace and a minidump out; a configuration and its JSON Schema in, whether they fit out; a native library in, what it says of
//! itself out.
//!
//! It runs confined, in a process of its own for each module, crash and schema, without files or executable memory, and with no thread that was not there
//! before it read a byte. Its output stays as hostile as what it read: wasm workers are confined like native ones, and the rest are claims.

#![forbid(unsafe_code)]

pub mod crash;
mod failure;
mod inspect;
pub mod library;
mod offer;
pub mod schema;
mod source;
mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::thread::available_parallelism;

use hotcell_engine::{EXCEPTIONS, FEATURES};
use hotcell_protocol::{CompileFailure, CompileRequest, Description, FailureKind, Runtime};
use wasmtime::Engine;

use crate::failure::{bounded, failure};
use crate::inspect::{Facts, Kind};
pub use crate::worker::Compiler;

/// Native code and what was found in the module.
#[derive(Debug)]
pub struct Compiled {
    /// wasmtime's own format, for [`hotcell_engine::config`] on this machine.
    pub code: Vec<u8>,
    /// Bounded, and as true as the module.
    pub description: Description,
}

/// Makes the engine, before any hostile byte is read. Later calls do nothing.
///
/// # Errors
/// The configuration and this build of wasmtime do not fit: a fault of the build.
pub fn warm() -> Result<(), String> {
    engine().map(|_| ())
}

fn engine() -> Result<&'static Engine, String> {
    static ENGINE: OnceLock<Result<Engine, String>> = OnceLock::new();
    let made =
        ENGINE.get_or_init(|| Engine::new(&hotcell_engine::config()).map_err(|error| format!("{error:#}")));
    made.as_ref().map_err(Clone::clone)
}

/// Stack of a thread, in bytes: what the first one has, for code that is nested as deep.
const THREAD_STACK: usize = 8 << 20;

/// Starts the threads that modules are compiled with, one for each processor and at most so many.
///
/// # Errors
/// The kernel refused one, or they were started before.
pub fn start_threads(most: usize) -> Result<(), String> {
    let threads = available_parallelism().map_or(1, usize::from).min(most);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(THREAD_STACK);
    pool.build_global().map_err(|error| format!("failed to start {threads} threads: {error}"))
}

/// Compiles a module or component, in binary or text form.
///
/// Time and memory are bounded by the process that it runs in.
///
/// # Errors
/// What is wrong with the module, in words that are safe to print.
pub fn compile(source: Vec<u8>, request: &CompileRequest) -> Result<Compiled, CompileFailure> {
    let wasm = source::binary(source)?;
    let features = if request.exceptions { FEATURES.union(EXCEPTIONS) } else { FEATURES };
    let facts = inspect::inspect(&wasm, features)?;
    let runtime = choose(&facts, request.runtime)?;
    offer::check(runtime, &facts)?;
    let code = emit(&wasm, &facts)?;
    let description = Description {
        runtime,
        exports: facts.callable(runtime),
        imports: facts.import_names(),
        code_len: code.len() as u64,
    };
    Ok(Compiled { code, description })
}

/// What the module can be, against what the manifest says it is.
fn choose(facts: &Facts, wanted: Option<Runtime>) -> Result<Runtime, CompileFailure> {
    let library = facts.kind.library();
    match wanted {
        None => Ok(if facts.is_command { Runtime::Command } else { library }),
        // A module without WASI may still be a command.
        Some(Runtime::Command) if facts.has_start => Ok(Runtime::Command),
        Some(wanted) if wanted == library => Ok(library),
        Some(wanted) => {
            let (wanted, found) = (name(wanted), facts.kind.article());
            let message = format!("the manifest says `{wanted}`, but this is {found}");
            Err(failure(FailureKind::Unsupported, message))
        }
    }
}

fn name(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Native => "native",
        Runtime::Core => "core",
        Runtime::Component => "component",
        Runtime::Command => "command",
        Runtime::Compiler => "compiler",
        Runtime::Program => "program",
    }
}

/// A panic of the compiler is a refusal of the module, not an unexplained end.
fn emit(wasm: &[u8], facts: &Facts) -> Result<Vec<u8>, CompileFailure> {
    let engine = engine().map_err(|error| failure(FailureKind::Unsupported, error))?;
    let compiled = catch_unwind(AssertUnwindSafe(|| match facts.kind {
        Kind::Core => engine.precompile_module(wasm),
        Kind::Component => engine.precompile_component(wasm),
    }));
    match compiled {
        Ok(Ok(code)) => Ok(code),
        // It was valid: a limit of the compiler's own.
        Ok(Err(error)) => {
            Err(failure(FailureKind::Unsupported, format!("failed to compile the module: {error:#}")))
        }
        Err(_) => Err(failure(FailureKind::Unsupported, bounded("the compiler gave up on this module"))),
    }
}

#[cfg(test)]
mod tests;
