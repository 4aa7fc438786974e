//! A WASI command: run once, with arguments and stdio, to its exit code.

use std::fs::File;
use std::sync::OnceLock;

use hotcell_protocol::{Failure, ReplyStatus, Start};
use hotcell_worker::{Link, Reply, load_failure};
use tokio::runtime::Runtime;
use wasmtime::component::{self, ComponentExportIndex};
use wasmtime::{Instance, InstancePre, Linker, Store};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p1;

use crate::artifact::{self, Artifact};
use crate::engine::engine;
use crate::export::Exports;
use crate::guest::{self, Guest, ModuleGuest, drive};
use crate::imports;
use crate::trap::{Fault, failed};
use crate::wasi;

/// The one export of a command, as a call names it.
const RUN: &str = "run";

/// The function of a component that is a command.
const RUN_FUNCTION: &str = "wasi:cli/run@0.2.";

/// A command, before and after its one run.
pub struct Command {
    runtime: Runtime,
    program: Program,
    ended: Option<Reply>,
}

enum Program {
    Module { store: Store<ModuleGuest>, code: InstancePre<ModuleGuest>, instance: Option<Instance> },
    Component { store: Store<Guest>, code: component::InstancePre<Guest>, run: ComponentExportIndex },
}

impl std::fmt::Debug for Command {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Command").field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Command {
    pub(crate) fn load(file: File, start: &Start) -> Result<Command, Failure> {
        let runtime = guest::runtime(start)?;
        let mut context = wasi::command_context(start)?;
        let program = match artifact::either(file)? {
            Artifact::Module(module) => {
                let linker = linker().map_err(load_failure)?;
                let code = linker.instantiate_pre(&module).map_err(|error| link_failure(&error))?;
                Program::Module {
                    store: guest::module_store(context.build_p1(), start)?,
                    code,
                    instance: None,
                }
            }
            Artifact::Component(component) => {
                let linker = imports::linker().map_err(load_failure)?;
                let code = linker.instantiate_pre(&component).map_err(|error| link_failure(&error))?;
                let exports = Exports::of(&component).map_err(load_failure)?;
                let run = exports
                    .starting(RUN_FUNCTION)
                    .ok_or_else(|| load_failure("the component does not export `wasi:cli/run`"))?;
                Program::Component { store: guest::store(context.build(), start)?, code, run }
            }
        };
        Ok(Command { runtime, program, ended: None })
    }

    /// A module is instantiated here, so that one over its limits does not start. A component is instantiated by its run.
    pub(crate) fn ready(&mut self) -> Result<(), Failure> {
        let Program::Module { store, code, instance } = &mut self.program else {
            return Ok(());
        };
        let made = drive(&self.runtime, code.instantiate_async(&mut *store));
        let made = made.and_then(|made| made.map_err(|error| Fault::of(&error)));
        *instance = Some(made.map_err(|fault| start_failure(store.data().refusal(), &fault))?);
        Ok(())
    }

    pub(crate) fn call(&mut self, export: &str, link: &mut Link) -> Reply {
        if export != RUN {
            return Reply::text(ReplyStatus::NoSuchExport, "the one export of a command is `run`");
        }
        if let Some(ended) = &self.ended {
            return ended.clone();
        }
        let outcome = match &mut self.program {
            Program::Module { store, instance, .. } => run_module(&self.runtime, store, *instance),
            Program::Component { store, code, run } => {
                store.data_mut().broker.link.begin(link);
                let outcome = drive(&self.runtime, run_component(store, code, *run));
                store.data_mut().broker.link.end();
                outcome
            }
        };
        self.ended.insert(verdict(outcome)).clone()
    }
}

/// The functions of WASI 0.1, made once by the launcher.
///
/// # Errors
/// Two definitions collide: a fault of the build.
pub(crate) fn linker() -> Result<&'static Linker<ModuleGuest>, String> {
    static LINKER: OnceLock<Result<Linker<ModuleGuest>, String>> = OnceLock::new();
    let made = LINKER.get_or_init(|| {
        let mut linker = Linker::new(engine()?);
        p1::add_to_linker_async(&mut linker, |guest: &mut ModuleGuest| &mut guest.wasi)
            .map_err(|error| format!("failed to prepare the imports: {error:#}"))?;
        Ok(linker)
    });
    made.as_ref().map_err(Clone::clone)
}

fn run_module(
    runtime: &Runtime,
    store: &mut Store<ModuleGuest>,
    instance: Option<Instance>,
) -> Result<wasmtime::Result<i32>, Fault> {
    drive(runtime, async {
        let instance = instance.ok_or_else(|| wasmtime::Error::msg("the command is not instantiated"))?;
        let start = instance.get_typed_func::<(), ()>(&mut *store, "_start")?;
        start.call_async(store, ()).await.map(|()| 0)
    })
}

async fn run_component(
    store: &mut Store<Guest>,
    code: &component::InstancePre<Guest>,
    run: ComponentExportIndex,
) -> wasmtime::Result<i32> {
    let instance = code.instantiate_async(&mut *store).await?;
    let run = instance.get_typed_func::<(), (Result<(), ()>,)>(&mut *store, run)?;
    let (outcome,) = run.call_async(store, ()).await?;
    Ok(i32::from(outcome.is_err()))
}

/// An exit is an exit however it was asked for; everything else is a trap.
fn verdict(outcome: Result<wasmtime::Result<i32>, Fault>) -> Reply {
    let exited = |code: i32| Reply::bytes(ReplyStatus::Exited(code), Vec::new());
    match outcome {
        Ok(Ok(code)) => exited(code),
        Ok(Err(error)) => match error.downcast_ref::<I32Exit>() {
            Some(exit) => exited(exit.0),
            None => Fault::of(&error).reply(),
        },
        Err(fault) => fault.reply(),
    }
}

/// Why a guest did not start: the limit, if it was the limit.
pub(crate) fn start_failure(refusal: Option<String>, fault: &Fault) -> Failure {
    failed(&refusal.unwrap_or_else(|| format!("failed to start the plugin: {}", fault.text())))
}

/// Why imports and host functions do not fit.
pub(crate) fn link_failure(error: &wasmtime::Error) -> Failure {
    failed(&format!("failed to link the plugin: {}", Fault::of(error).text()))
}
