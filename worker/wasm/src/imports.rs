//! What a component can import: WASI 0.2, of HTTP its client, and `hotcell:plugin/host`.

use std::sync::OnceLock;

use hotcell_worker::HostCallError;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, HasData, Lift, Linker, Lower};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::{ResourceTable, WasiView};
use wasmtime_wasi_io::bindings::wasi::io;

use crate::engine::engine;
use crate::files;
use crate::guest::Guest;
use crate::http;
use crate::sockets;

/// The interface of `sdk/wit`.
const HOST: &str = "hotcell:plugin/host@0.1.0";

/// Bytes of the name of a host call; a longer one is the name of none.
const NAME_MAX: usize = 64;

/// `host-error` of `sdk/wit`.
#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(variant)]
enum HostError {
    #[component(name = "refused")]
    Refused,
    #[component(name = "failed")]
    Failed(String),
}

/// The streams and pollables of WASI live in the resource table.
struct Io;

impl HasData for Io {
    type Data<'a> = &'a mut ResourceTable;
}

/// Everything that a component may import: functions and their types, made once by the launcher.
///
/// # Errors
/// Two definitions collide: a fault of the build.
pub(crate) fn linker() -> Result<&'static Linker<Guest>, String> {
    static LINKER: OnceLock<Result<Linker<Guest>, String>> = OnceLock::new();
    let made = LINKER.get_or_init(|| {
        let mut linker = Linker::new(engine()?);
        define(&mut linker).map_err(|error| format!("failed to prepare the imports: {error:#}"))?;
        Ok(linker)
    });
    made.as_ref().map_err(Clone::clone)
}

fn define(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    io::error::add_to_linker::<Guest, Io>(linker, |guest| guest.ctx().table)?;
    io::poll::add_to_linker::<Guest, Io>(linker, |guest| guest.ctx().table)?;
    io::streams::add_to_linker::<Guest, Io>(linker, |guest| guest.ctx().table)?;
    clocks::wall_clock::add_to_linker::<Guest, WasiClocks>(linker, Guest::clocks)?;
    clocks::monotonic_clock::add_to_linker::<Guest, WasiClocks>(linker, Guest::clocks)?;
    random::random::add_to_linker::<Guest, WasiRandom>(linker, |guest| guest.ctx().ctx.random())?;
    random::insecure::add_to_linker::<Guest, WasiRandom>(linker, |guest| guest.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<Guest, WasiRandom>(linker, |guest| guest.ctx().ctx.random())?;
    define_cli(linker)?;
    filesystem::preopens::add_to_linker::<Guest, WasiFilesystem>(linker, Guest::filesystem)?;
    filesystem::types::add_to_linker::<Guest, WasiFilesystem>(linker, Guest::filesystem)?;
    linker.allow_shadowing(true);
    files::replace(linker)?;
    linker.allow_shadowing(false);
    sockets::define(linker)?;
    http::define(linker)?;
    linker.instance(HOST)?.func_wrap("host-call", host_call)
}

fn define_cli(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    cli::exit::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::environment::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::stdin::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::stdout::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::stderr::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::terminal_input::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::terminal_output::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::terminal_stdin::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::terminal_stdout::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::terminal_stderr::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)
}

fn host_call(
    mut store: StoreContextMut<'_, Guest>,
    (name, input): (String, Vec<u8>),
) -> wasmtime::Result<(Result<Vec<u8>, HostError>,)> {
    let answer = if name.len() <= NAME_MAX {
        store.data_mut().broker.ask(&name, &input)
    } else {
        Err(HostCallError::Refused)
    };
    Ok((answer.map_err(|error| match error {
        HostCallError::Refused => HostError::Refused,
        HostCallError::Failed(text) => HostError::Failed(text),
        HostCallError::OverLimit => HostError::Failed(error.to_string()),
    }),))
}
