//! The one engine of the launcher, and so of every worker forked from it.

use std::sync::OnceLock;

use hotcell_worker::crash;
use wasmtime::Engine;

/// Makes the engine and the tables of host functions, installs wasmtime's signal handlers and this thread's signal stack.
///
/// None of it depends on a plugin or on chance. Called by the launcher before the first fork, on the thread that forks: after `seal` a worker could do none of it.
///
/// # Errors
/// The configuration and this build of wasmtime do not fit: a fault of the build.
pub fn warm() -> Result<(), String> {
    engine()?;
    crate::core::imports::linker()?;
    crate::command::linker()?;
    crate::imports::linker()?;
    Engine::tls_eager_initialize();
    crash::prepare_wasm().map_err(|errno| format!("failed to prepare for notes of an end: {errno}"))?;
    know_the_processor();
    Ok(())
}

/// Has the libraries that mapping compiled code goes through ask the processor now what it can do: in a virtual machine
/// each question costs microseconds, and every fresh worker would ask again.
fn know_the_processor() {
    let _ = memchr::memchr(b'w', b"warm");
    #[cfg(target_arch = "x86_64")]
    let _ = std::arch::is_x86_feature_detected!("avx2");
}

/// The engine, made by [`warm`].
pub(crate) fn engine() -> Result<&'static Engine, String> {
    static ENGINE: OnceLock<Result<Engine, String>> = OnceLock::new();
    let made = ENGINE.get_or_init(|| {
        let mut config = hotcell_engine::config();
        config.async_stack_size(hotcell_engine::CALL_STACK);
        Engine::new(&config).map_err(|error| format!("failed to make the engine: {error:#}"))
    });
    made.as_ref().map_err(Clone::clone)
}
