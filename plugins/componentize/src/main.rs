//! Makes a component of a core wasm module that was built with `wit-bindgen`.
//!
//! It runs while plugins are built, on the author's machine, and is part of no host.

use std::error::Error;
use std::process::ExitCode;
use std::{env, fs};
use wit_component::ComponentEncoder;

fn componentize(module: &str, component: &str) -> Result<(), Box<dyn Error>> {
    let bytes = fs::read(module)?;
    let encoded = ComponentEncoder::default().validate(true).module(&bytes)?.encode()?;
    fs::write(component, encoded)?;
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [module, component] = arguments.as_slice() else {
        eprintln!("usage: componentize MODULE COMPONENT");
        return ExitCode::from(2);
    };
    match componentize(module, component) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed to make a component of {module}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
