//! Native code from the artifact's memfd.
//!
//! What is mapped is hostile code by design. It came out of a confined compiler that had read a hostile module, and the
//! host authenticated it only as "what that compiler said".

#![allow(unsafe_code, reason = "wasmtime trusts the bytes that it maps")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use hotcell_protocol::Failure;
use hotcell_worker::{crash, load_failure};
use wasmtime::{Module, component};

use crate::engine::engine;

/// What the artifact turned out to hold.
pub(crate) enum Artifact {
    Module(Module),
    Component(component::Component),
}

/// Maps the code of a core module.
pub(crate) fn module(file: File) -> Result<Module, Failure> {
    let engine = engine().map_err(load_failure)?;
    // SAFETY: the host verified that the sealed file is what its compiler made; if the compiler lied, the code is no
    // more hostile than this process, which is confined, is held to be.
    let module = unsafe { Module::deserialize_open_file(engine, file) }.map_err(|error| refused(&error))?;
    crash::note_code(module.text());
    Ok(module)
}

/// Maps the code of a component. wasmtime takes a path here: the kernel's name for the same descriptor.
pub(crate) fn component(file: &File) -> Result<component::Component, Failure> {
    let engine = engine().map_err(load_failure)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // SAFETY: as in `module`.
    let component = unsafe { component::Component::deserialize_file(engine, path) };
    let component = component.map_err(|error| refused(&error))?;
    crash::note_code(component.text());
    Ok(component)
}

/// Maps whichever of the two it is.
pub(crate) fn either(file: File) -> Result<Artifact, Failure> {
    if is_component(&file)
        .map_err(|error| load_failure(format!("failed to read the compiled plugin: {error}")))?
    {
        return Ok(Artifact::Component(component(&file)?));
    }
    Ok(Artifact::Module(module(file)?))
}

/// wasmtime's artifacts are ELF files that say in `e_flags` what they hold; it looks again, and refuses a lie.
fn is_component(file: &File) -> std::io::Result<bool> {
    const E_FLAGS: u64 = 48;
    const EF_WASMTIME_COMPONENT: u32 = 1 << 1;
    let mut flags = [0; 4];
    file.read_exact_at(&mut flags, E_FLAGS)?;
    Ok(u32::from_ne_bytes(flags) & EF_WASMTIME_COMPONENT != 0)
}

fn refused(error: &wasmtime::Error) -> Failure {
    load_failure(format!("failed to map the compiled plugin: {error:#}"))
}
