//! The one wasmtime configuration, shared by the compiler and the worker that runs what it made.
//!
//! wasmtime refuses native code that was made under other settings. Nothing here may therefore depend on which cargo
//! features one of the two was built with: every wasm feature is switched on or off by name.
//!
//! This protects a host from nothing: it says which wasm a plugin may use, the sandbox says what it may do.

#![forbid(unsafe_code)]

use wasmparser::WasmFeatures;
use wasmtime::{Collector, Config, WasmBacktraceDetails};

/// Stack of wasm code, in bytes; what is deeper is a stack overflow trap.
pub const WASM_STACK: usize = 1024 * 1024;

/// Stack of one call of a command or component, in bytes: the wasm stack, and as much again for host functions.
pub const CALL_STACK: usize = 2 * WASM_STACK;

/// Linear memories of one worker. Each reserves [`MEMORY_RESERVATION`] and its guards, and the address space of a worker
/// (RLIMIT_AS) has room for three.
pub const MEMORIES_MAX: usize = 3;

/// Address space that a linear memory reserves, in bytes: all that 32-bit addresses reach, so that it never moves and
/// needs no bounds check.
pub const MEMORY_RESERVATION: u64 = 4 << 30;

/// Unmapped address space before and behind a linear memory, in bytes.
const MEMORY_GUARD: u64 = 32 << 20;

/// Address space of the exceptions and external references of one worker, in bytes, and so the most of them there can be.
const OBJECTS_RESERVATION: u64 = 64 << 20;

/// The wasm features of plugins: what compilers emit without being asked, and no proposal that is young or wide.
///
/// Off are, among others: threads and shared memory, garbage-collected types, exceptions, tail calls, 64-bit memories,
/// relaxed SIMD, asynchronous components. Several memories in one module are on, because wasmtime's own code between the
/// parts of a composed component uses them.
pub const FEATURES: WasmFeatures = WasmFeatures::MUTABLE_GLOBAL
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::CALL_INDIRECT_OVERLONG)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::BULK_MEMORY_OPT)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::FLOATS)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::COMPONENT_MODEL);

/// What a profile can grant beside [`FEATURES`]: exceptions, to which C++ is compiled where its author says so.
///
/// wasmtime keeps what is thrown, and references to objects of the host, in a heap of its own. It counts as memory of the
/// plugin; and it is a collector more that a hostile module can reach.
pub const EXCEPTIONS: WasmFeatures = WasmFeatures::EXCEPTIONS.union(WasmFeatures::GC_TYPES);

/// The configuration of every engine of this workspace: of all that a profile can grant. Who may use how much of it, the compiler
/// decides.
///
/// There is no fuel and there are no epochs: the host kills a worker that does not answer in time.
pub fn config() -> Config {
    let mut config = Config::new();
    for feature in WasmFeatures::all() {
        config.wasm_features(feature, FEATURES.union(EXCEPTIONS).contains(feature));
    }
    config
        .max_wasm_stack(WASM_STACK)
        .memory_reservation(MEMORY_RESERVATION)
        .memory_guard_size(MEMORY_GUARD)
        .memory_may_move(false)
        .guard_before_linear_memory(true)
        .collector(Collector::DeferredReferenceCounting)
        .gc_heap_reservation(OBJECTS_RESERVATION)
        .gc_heap_reservation_for_growth(0)
        .gc_heap_guard_size(MEMORY_GUARD)
        .gc_heap_may_move(false)
        // Data segments are mapped from the artifact itself; nothing needs memfd_create.
        .memory_init_cow(true)
        .table_lazy_init(true)
        .signals_based_traps(true)
        // Names of functions in a backtrace; no DWARF of a plugin is ever parsed.
        .generate_address_map(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .native_unwind_info(false);
    config
}
