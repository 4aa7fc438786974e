//! What the host functions of a WASI guest work on, and the runtime that drives its waiting.
//!
//! Commands and components run on a fiber, inside a current-thread runtime that has timers and nothing else: no I/O
//! driver, so no epoll, and no helper thread.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hotcell_protocol::{Failure, Filters, Start, TrapKind};
use hotcell_worker::load_failure;
use tokio::runtime::{Builder, Runtime};
use wasmtime::Store;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::WasiHttpCtx;

use crate::broker::Broker;
use crate::budget::Budget;
use crate::engine::engine;
use crate::trap::Fault;

/// Handles that a guest may hold at once.
const RESOURCES_MAX: usize = 100_000;

/// A component, or a command that is one.
pub(crate) struct Guest {
    pub(crate) broker: Broker,
    pub(crate) http: WasiHttpCtx,
    budget: Budget,
    wasi: WasiCtx,
    pub(crate) table: ResourceTable,
}

/// A command that is a core module.
pub(crate) struct ModuleGuest {
    pub(crate) wasi: WasiP1Ctx,
    budget: Budget,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// A store for a component.
pub(crate) fn store(wasi: WasiCtx, start: &Start) -> Result<Store<Guest>, Failure> {
    let mut table = ResourceTable::new();
    table.set_max_capacity(RESOURCES_MAX);
    let budget = Budget::new(start.orders.limits.memory);
    let broker = Broker::new(has_network(start));
    let guest = Guest { broker, http: WasiHttpCtx::new(), budget, wasi, table };
    let mut store = Store::new(engine().map_err(load_failure)?, guest);
    store.limiter(|guest| &mut guest.budget);
    Ok(store)
}

/// A store for a module.
pub(crate) fn module_store(wasi: WasiP1Ctx, start: &Start) -> Result<Store<ModuleGuest>, Failure> {
    let guest = ModuleGuest { wasi, budget: Budget::new(start.orders.limits.memory) };
    let mut store = Store::new(engine().map_err(load_failure)?, guest);
    store.limiter(|guest| &mut guest.budget);
    Ok(store)
}

/// Whether the host gives this worker sockets: its socket(2) ends it otherwise.
fn has_network(start: &Start) -> bool {
    matches!(start.orders.filters, Filters::Staged { listener: true, .. })
}

/// The runtime of one worker, made after the fork. It watches descriptors only where the worker can have connections.
pub(crate) fn runtime(start: &Start) -> Result<Runtime, Failure> {
    let mut builder = Builder::new_current_thread();
    builder.enable_time();
    if has_network(start) {
        builder.enable_io();
    }
    builder.build().map_err(|error| load_failure(format!("failed to make the event loop of WASI: {error}")))
}

/// Drives guest code to its end. A panic of a host function ends the guest, not the worker's account of it.
pub(crate) fn drive<T>(
    runtime: &Runtime,
    guest: impl Future<Output = wasmtime::Result<T>>,
) -> Result<wasmtime::Result<T>, Fault> {
    catch_unwind(AssertUnwindSafe(|| runtime.block_on(guest))).map_err(|panic| {
        let text =
            panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        let text = format!("a host function failed: {}", text.unwrap_or("it panicked"));
        Fault::new(TrapKind::Other, &text)
    })
}

impl Guest {
    pub(crate) fn refusal(&self) -> Option<String> {
        self.budget.refusal()
    }
}

impl ModuleGuest {
    pub(crate) fn refusal(&self) -> Option<String> {
        self.budget.refusal()
    }
}
