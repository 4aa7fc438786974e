//! Wasmtime in this process without a framework: what a call costs at least when wasm is the only isolation.

use wasmtime::{Engine, Instance, Memory, Module, Store, TypedFunc};

use crate::failure::{Failure, failed};
use crate::measure::Echo;

const ECHO: &str = include_str!("wasmtime_echo.wat");

/// Compiles the module and makes one instance for all calls.
pub(super) fn open() -> Result<WasmtimeModule, Failure> {
    let engine = Engine::default();
    let module = Module::new(&engine, ECHO).map_err(failed("compile the module"))?;
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &module, &[]).map_err(failed("make an instance"))?;
    let memory = instance
        .get_memory(&mut store, "memory")
        .ok_or("it is not exported")
        .map_err(failed("find the memory"))?;
    let alloc = instance.get_typed_func(&mut store, "alloc").map_err(failed("find an export"))?;
    let echo = instance.get_typed_func(&mut store, "echo").map_err(failed("find an export"))?;
    Ok(WasmtimeModule { store, memory, alloc, echo })
}

pub(super) struct WasmtimeModule {
    store: Store<()>,
    memory: Memory,
    alloc: TypedFunc<u32, u32>,
    echo: TypedFunc<(u32, u32), (u32, u32)>,
}

impl Echo for WasmtimeModule {
    fn echo(&mut self, input: &[u8]) -> Result<Vec<u8>, Failure> {
        let length = u32::try_from(input.len()).map_err(failed("pass a length"))?;
        let address = self.alloc.call(&mut self.store, length).map_err(failed("call the module"))?;
        self.memory.write(&mut self.store, address as usize, input).map_err(failed("copy the input"))?;
        let (start, length) =
            self.echo.call(&mut self.store, (address, length)).map_err(failed("call the module"))?;
        let range = start as usize..start as usize + length as usize;
        let reply = self.memory.data(&self.store).get(range).ok_or(Failure::WrongReply)?;
        Ok(reply.to_vec())
    }
}
