//! The runtimes of asynchronous callers, made when first asked for.

use std::cell::OnceCell;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use crate::failure::Failure;

/// One runtime of each flavour.
#[derive(Default)]
pub(crate) struct Runtimes {
    one: OnceCell<Arc<Runtime>>,
    many: OnceCell<Arc<Runtime>>,
}

impl Runtimes {
    /// A runtime that runs on the thread that waits for it.
    pub(crate) fn one_thread(&self) -> Result<Arc<Runtime>, Failure> {
        obtain(&self.one, &mut Builder::new_current_thread())
    }

    /// A runtime with a thread for each processor, as most applications have.
    pub(crate) fn many_threads(&self) -> Result<Arc<Runtime>, Failure> {
        obtain(&self.many, &mut Builder::new_multi_thread())
    }
}

fn obtain(cell: &OnceCell<Arc<Runtime>>, builder: &mut Builder) -> Result<Arc<Runtime>, Failure> {
    if let Some(runtime) = cell.get() {
        return Ok(Arc::clone(runtime));
    }
    let runtime = builder.enable_all().build().map_err(|source| Failure::io("start a runtime", source))?;
    Ok(Arc::clone(cell.get_or_init(|| Arc::new(runtime))))
}
