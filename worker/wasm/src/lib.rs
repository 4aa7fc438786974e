//! The wasm worker: core modules with the plugin ABI, WASI commands, and components.
//!
//! A worker is the forked copy of a launcher in which only the engine and the tables of host functions exist; artifact,
//! store, WASI context and random generators come after the fork. Compiled code is as hostile as the module that it was made from: what holds it is
//! the sandbox around the process, not wasmtime alone.

#![deny(unsafe_code)]

mod artifact;
mod broker;
mod budget;
mod command;
mod component;
mod core;
mod engine;
mod export;
mod files;
mod guest;
mod http;
mod imports;
mod lent;
mod lifecycle;
mod sockets;
mod stdio;
mod trap;
mod value;
mod wasi;

use hotcell_protocol::{Failure, Runtime as Kind};
use hotcell_worker::{Confined, Input, Link, Reply, Runtime, Started, crash, load_failure};

use crate::command::Command;
use crate::component::Component;
use crate::core::Core;
pub use crate::engine::warm;

/// Whatever the orders say: every kind of wasm plugin is forked from the same launcher.
#[derive(Debug)]
pub enum WasmRuntime {
    /// A core module with the ABI of `sdk/`.
    Core(Box<Core>),
    /// A WASI command, module or component.
    Command(Box<Command>),
    /// A component, called with typed values.
    Component(Box<Component>),
}

impl Runtime for WasmRuntime {
    /// Code is mapped, and instantiated after `seal`.
    const LOAD_RUNS_CODE: bool = false;

    fn prepare(started: &mut Started) -> Result<(), Failure> {
        crash::note_in(&started.notes);
        Ok(())
    }

    fn load(_: &Confined, started: &mut Started) -> Result<WasmRuntime, Failure> {
        load(started)
    }

    fn ready(&mut self, started: &Started, link: &mut Link) -> Result<(), Failure> {
        match self {
            WasmRuntime::Core(core) => core.ready(started, link),
            WasmRuntime::Command(command) => command.ready(),
            WasmRuntime::Component(component) => component.ready(&started.start, link),
        }
    }

    fn call(&mut self, export: &str, input: &Input, link: &mut Link) -> Reply {
        match self {
            WasmRuntime::Core(core) => core.call(export, input, link),
            WasmRuntime::Command(command) => command.call(export, link),
            WasmRuntime::Component(component) => component.call(export, input, link),
        }
    }
}

fn load(started: &mut Started) -> Result<WasmRuntime, Failure> {
    let file = started.artifact.take().ok_or_else(|| load_failure("the host sent no artifact"))?;
    let start = &started.start;
    match start.orders.runtime {
        Kind::Core => Ok(WasmRuntime::Core(Box::new(Core::load(file, start)?))),
        Kind::Command => Ok(WasmRuntime::Command(Box::new(Command::load(file, start)?))),
        Kind::Component => Ok(WasmRuntime::Component(Box::new(Component::load(file, start)?))),
        Kind::Native | Kind::Compiler | Kind::Program => {
            Err(load_failure("this worker runs WebAssembly only"))
        }
    }
}
