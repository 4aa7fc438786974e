//! Confinement: the Load stage in one ordered list, and the proof of it.
//!
//! Fail closed: the first step that the kernel does not do in full ends the worker with an error that names it. What
//! this does *not* protect against: kernel bugs behind an allowed system call, speculative side channels, and the use
//! of shared caches, memory bandwidth and disk I/O.

mod identity;
mod inspect;
mod landlock;
mod limits;
mod mounts;
mod seccomp;

use hotcell_protocol::{Channel, Failure, Filters, Generation, Namespace, Orders, Statement, Step};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, PTracer, dumpable_behavior, set_dumpable_behavior, set_ptracer};

use crate::start::Started;

/// Proof that the Load stage is in force in this process. Only `confine` makes one.
#[derive(Debug)]
pub struct Confined {
    statement: Statement,
}

impl Confined {
    /// What this process can say of it.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Applies the Run stage: nothing that only loading needs is possible any more.
    ///
    /// For a native plugin the host's listener does this when it sees "loaded", since a filter that is installed after
    /// plugin code has run proves nothing.
    pub(crate) fn seal(&self, orders: &Orders) -> Result<(), Failure> {
        match &orders.filters {
            Filters::Staged { run: Some(run), .. } => seccomp::seal(run),
            Filters::Staged { run: None, .. } | Filters::Supervised { .. } => Ok(()),
        }
    }
}

/// Confines this process as its orders say. `assemble` starts the threads that the plan allows: they inherit everything but
/// the seccomp program, which is installed for all of them, and none can be started later.
///
/// # Errors
/// The step that the kernel refused, with its errno.
pub(crate) fn confine(
    started: &Started,
    setup: &Channel,
    generation: Generation,
    assemble: impl FnOnce(u32) -> Result<(), Failure>,
) -> Result<Confined, Failure> {
    let orders = &started.start.orders;
    inspect::close_the_rest()?;
    limits::apply(&orders.rlimits)?;
    if orders.namespaces.contains(&Namespace::Mount) {
        mounts::hide(orders, &started.start.places)?;
    }
    identity::become_nobody(orders.distinct_uid, started.start.identity)?;
    if let Some((place, path)) = &orders.folder {
        landlock::enter(*place, path, &started.start.places)?;
    }
    let ruleset = landlock::prepare(&orders.landlock, &started.start.places)?;
    let dumpable = set_dumpable(orders.dumpable)?;
    if orders.debuggable {
        // EINVAL where there is no Yama: nobody keeps debuggers away then.
        let _ = set_ptracer(PTracer::Any);
    }
    landlock::enforce(ruleset)?;
    assemble(orders.limits.threads)?;
    limits::apply_last(&orders.rlimits)?;
    seccomp::install(&orders.filters, setup, generation)?;
    Ok(Confined { statement: inspect::statement(dumpable, orders)? })
}

/// Sets PR_SET_DUMPABLE; returns what the kernel says of it afterwards.
fn set_dumpable(dumpable: bool) -> Result<bool, Failure> {
    let behavior = if dumpable { DumpableBehavior::Dumpable } else { DumpableBehavior::NotDumpable };
    set_dumpable_behavior(behavior).map_err(failed(Step::Dumpable, "set PR_SET_DUMPABLE"))?;
    let now = dumpable_behavior().map_err(failed(Step::Dumpable, "read PR_GET_DUMPABLE"))?;
    Ok(now != DumpableBehavior::NotDumpable)
}

/// Names the step and the act that an errno came from.
fn failed(step: Step, act: impl Into<String>) -> impl FnOnce(Errno) -> Failure {
    let act = act.into();
    move |errno| Failure { step, errno: errno.raw_os_error(), detail: format!("failed to {act}: {errno}") }
}
