//! `hotcell-launcher`: warmed with wasmtime's runtime, makes workers. Started by the host, never by hand.

use std::process::ExitCode;

use hotcell_worker::{Inherited, launcher};
use hotcell_worker_wasm::{WasmRuntime, warm};

fn main() -> ExitCode {
    match launch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hotcell-launcher: {error}");
            ExitCode::FAILURE
        }
    }
}

fn launch() -> Result<(), String> {
    if launcher::made_this_a_worker() {
        warm()?;
        work(Inherited::adopt());
    }
    launcher::detach().map_err(|error| format!("failed to leave the host's process state: {error}"))?;
    warm()?;
    let program = std::env::current_exe().map_err(|error| format!("failed to find its own path: {error}"))?;
    let programs = program.parent().ok_or("its own path has no folder")?;
    launcher::serve(programs, work).map_err(|error| error.to_string())
}

/// A copy of the launcher or its program executed afresh, from here on a worker.
fn work(inherited: Inherited) -> ! {
    hotcell_worker::run::<WasmRuntime>(inherited)
}
