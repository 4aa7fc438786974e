//! Extism in this process: the plugin framework that most people would take.
//!
//! Its wasm sandbox holds as long as Wasmtime has no bug; a loop or a large memory of the plugin is this process's.

use extism::{Plugin, PluginBuilder};

use crate::failure::{Failure, failed};
use crate::measure::Echo;

/// Copies input and output word by word through Extism's functions, as every plugin made with a PDK does.
const ECHO: &[u8] = include_bytes!("extism_echo.wat");

/// Compiles and loads the plugin, without a cache that would write to the user's home.
pub(super) fn open() -> Result<ExtismPlugin, Failure> {
    let plugin = PluginBuilder::new(ECHO)
        .with_wasi(false)
        .with_cache_disabled()
        .build()
        .map_err(failed("load the Extism plugin"))?;
    Ok(ExtismPlugin(plugin))
}

pub(super) struct ExtismPlugin(Plugin);

impl Echo for ExtismPlugin {
    fn echo(&mut self, input: &[u8]) -> Result<Vec<u8>, Failure> {
        self.0.call::<&[u8], Vec<u8>>("echo", input).map_err(failed("call the Extism plugin"))
    }
}
