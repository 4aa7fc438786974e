//! What a debugger has to know of a plugin.

use std::fs::File;

use hotcell_protocol::Runtime;
use hotcell_protocol::crash::PLUGIN;

use super::Plugin;
use super::profile::{mapped, pid_of};
use crate::class::Class;
use crate::crash::backtrace::program;
use crate::error::Error;
use crate::sys::pidfd::lives;

/// A worker of a native plugin, as a debugger needs it.
#[derive(Debug)]
#[non_exhaustive]
pub struct DebugTarget {
    /// Its process.
    pub pid: u32,
    /// The library that it has loaded, whatever the package holds by now: the debugger finds no file of it, since it was loaded from
    /// memory. To be copied into one.
    pub library: File,
    /// By how much the addresses of the library are moved in the process: for gdb, `add-symbol-file FILE -o BASE`.
    pub base: u64,
}

impl Plugin {
    /// A worker to attach a debugger to, where the profile says that one may (`debug = "attach"`).
    ///
    /// A debugger stops the worker whenever it wants, and deadlines go on: such a plugin's calls may be given longer ones than its
    /// profile's call limit, up to a day. What it reads of the plugin is as hostile
    /// as the plugin, and nothing confines the debugger.
    ///
    /// # Errors
    /// The profile does not say so, the plugin is no native one, or no worker of it runs.
    pub fn debug_target(&self) -> Result<DebugTarget, Error> {
        let prepared = self.prepared();
        let blueprint = &prepared.blueprint;
        let unusable = |detail: &str, class| Error::Package {
            subject: format!("{} {}", blueprint.plugin, blueprint.version),
            detail: detail.to_owned(),
            class,
        };
        if blueprint.orders.runtime != Runtime::Native {
            let what = "no debugger knows the code of a wasm plugin; its crash reports, its log and `hotcell plugin profile` have names";
            return Err(unusable(what, Class::Invalid));
        }
        if !blueprint.orders.debuggable {
            let what =
                "its profile lets no debugger attach; for development, give it one with `debug = \"attach\"`";
            return Err(unusable(what, Class::Refused));
        }
        let gone = || unusable("no worker of it runs", Class::Invalid);
        let shared = self.inner.shared.upgrade().ok_or(Error::Shutdown)?;
        let sight = self.inner.exchange.sights().into_iter().next().ok_or_else(gone)?;
        let modules = mapped(pid_of(&sight).ok_or_else(gone)?, &program(&shared, &blueprint.orders))?;
        // Whoever has its number now was not looked at.
        if !lives(sight.pidfd.get_ref()) {
            return Err(gone());
        }
        let base = modules.iter().find(|module| module.name == PLUGIN).ok_or_else(gone)?.base;
        Ok(DebugTarget { pid: sight.evidence.pid, library: blueprint.artifact.descriptor()?.into(), base })
    }
}
