//! What is known of one worker's misdeeds and end, shared by everything that watches it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hotcell_policy::review::Access;

use super::Blueprint;
use crate::event::{EventKind, EventSender};
use crate::exit::ExitCause;
use crate::launcher::Killer;
use crate::text::escape;
use crate::violation::{Adviser, Observer, Refuser, Severity, Violation};

/// Violations of one worker that are told as events; the rest is counted.
const TOLD: u64 = 16;

/// Violations after which a worker is killed: it does nothing else any more.
const FLOOD: u64 = 4096;

/// Longest address, path or name that is told of, in bytes.
const TEXT_SHOWN: usize = 300;

/// The record of one worker.
pub(crate) struct Record {
    blueprint: Arc<Blueprint>,
    generation: u32,
    events: EventSender,
    killer: Killer,
    cause: OnceLock<ExitCause>,
    violations: AtomicU64,
    running: OnceLock<Running>,
    told: Mutex<Vec<Violation>>,
}

/// Asks for the export that runs.
type Running = Box<dyn Fn() -> Option<String> + Send + Sync>;

impl Record {
    pub(crate) fn new(
        blueprint: Arc<Blueprint>,
        generation: u32,
        events: EventSender,
        killer: Killer,
    ) -> Record {
        Record {
            blueprint,
            generation,
            events,
            killer,
            cause: OnceLock::new(),
            violations: AtomicU64::new(0),
            running: OnceLock::new(),
            told: Mutex::default(),
        }
    }

    /// Kills the worker for a cause; an earlier cause stays.
    pub(crate) fn kill(&self, cause: ExitCause) {
        self.note(cause);
        self.killer.kill();
    }

    /// Remembers why the worker ends by itself; an earlier cause stays.
    pub(crate) fn note(&self, cause: ExitCause) {
        // The first cause wins.
        let _ = self.cause.set(cause);
    }

    /// The first cause that was noted.
    pub(crate) fn cause(&self) -> Option<ExitCause> {
        self.cause.get().cloned()
    }

    pub(crate) fn violations(&self) -> u64 {
        self.violations.load(Ordering::Relaxed)
    }

    /// The violations that were told.
    pub(crate) fn told(&self) -> Vec<Violation> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says how to find out which export runs, for violations to come. Said once.
    pub(crate) fn ask_for_running(&self, running: impl Fn() -> Option<String> + Send + Sync + 'static) {
        let _ = self.running.set(Box::new(running));
    }

    /// Tells that the kernel killed the worker for an act; it does not say which.
    pub(crate) fn kernel_violation(&self) {
        let remedy = vec!["the kernel does not say which system call it was".to_owned()];
        let act = "a forbidden system call".to_owned();
        self.tell(Refuser::Seccomp, Observer::Kernel, act, Vec::new(), (Severity::High, remedy));
    }

    /// Records a system call that was refused; a flood of them ends the worker.
    pub(crate) fn refused_syscall(&self, name: String, arguments: Vec<u64>) {
        if self.count(|| name.clone()) {
            let advice = match &self.blueprint.adviser {
                Some(adviser) => adviser.syscall(&name, &arguments),
                None => (Severity::High, Vec::new()),
            };
            self.tell(Refuser::Seccomp, Observer::Host, name, arguments, advice);
        }
    }

    /// The same for a host call, by the name that the plugin gave.
    pub(crate) fn refused_host_call(&self, name: &str) {
        let act = || format!("host call {}", escape(name.as_bytes()));
        self.refused_by_broker(act, |adviser| adviser.host_call(name));
    }

    /// The same for a connection, by the address that the plugin gave.
    pub(crate) fn refused_connection(&self, wanted: &[u8]) {
        let act = || format!("connection to {}", escape(wanted.get(..TEXT_SHOWN).unwrap_or(wanted)));
        self.refused_by_broker(act, |adviser| adviser.connection(wanted));
    }

    /// The same for the look-up of a name.
    pub(crate) fn refused_look_up(&self, name: &[u8]) {
        let act = || format!("look-up of {}", escape(name.get(..TEXT_SHOWN).unwrap_or(name)));
        self.refused_by_broker(act, |adviser| adviser.look_up(name));
    }

    fn refused_by_broker(
        &self,
        act: impl Fn() -> String,
        advice: impl FnOnce(&Adviser) -> (Severity, Vec<String>),
    ) {
        if self.count(&act) {
            let advice = self.blueprint.adviser.as_ref().map_or((Severity::High, Vec::new()), advice);
            self.tell(Refuser::Broker, Observer::Host, act(), Vec::new(), advice);
        }
    }

    /// Tells of a connection that was made.
    pub(crate) fn connected(&self, wanted: &[u8], peer: SocketAddr) {
        let (plugin, address) = (&self.blueprint.plugin, escape(wanted));
        tracing::info!(target: "hotcell::network", %plugin, %address, %peer, "connected");
        self.events.send(plugin, self.generation, EventKind::Connected { address, peer });
    }

    /// The same for an address to listen at.
    pub(crate) fn refused_listening(&self, wanted: &[u8]) {
        let act = || format!("listening at {}", escape(wanted.get(..TEXT_SHOWN).unwrap_or(wanted)));
        self.refused_by_broker(act, |adviser| adviser.listening(wanted));
    }

    /// The same for a path, of which the host read what the plugin had there; the kernel has refused what was there then.
    pub(crate) fn refused_path(&self, path: &str, access: Access) {
        let verb = match access {
            Access::Read => "reading",
            Access::Write => "writing",
            Access::Create => "creating",
            Access::Delete => "deleting or renaming",
        };
        let act =
            || format!("{verb} {}", escape(path.as_bytes().get(..TEXT_SHOWN).unwrap_or(path.as_bytes())));
        if self.count(act) {
            let advice = |adviser: &Adviser| adviser.path(path, access);
            let advice = self.blueprint.adviser.as_ref().map_or((Severity::Low, Vec::new()), advice);
            self.tell(Refuser::Landlock, Observer::Host, act(), Vec::new(), advice);
        }
    }

    /// The same for a program.
    pub(crate) fn refused_program(&self, wanted: &str) {
        let act = || {
            format!("program {}", escape(wanted.as_bytes().get(..TEXT_SHOWN).unwrap_or(wanted.as_bytes())))
        };
        self.refused_by_broker(act, |adviser| adviser.program(wanted));
    }

    /// Tells that a worker got what the host listens with.
    pub(crate) fn listening(&self, address: SocketAddr) {
        let plugin = &self.blueprint.plugin;
        tracing::info!(target: "hotcell::network", %plugin, %address, "listening");
        self.events.send(plugin, self.generation, EventKind::Listening { address });
    }

    /// Counts one more. Returns whether it is to be told, too.
    fn count(&self, act: impl Fn() -> String) -> bool {
        let count = self.violations.fetch_add(1, Ordering::Relaxed) + 1;
        if count > FLOOD {
            self.kill(ExitCause::Violation { syscall: Some(act()) });
        }
        count <= TOLD
    }

    fn tell(
        &self,
        layer: Refuser,
        observer: Observer,
        act: String,
        arguments: Vec<u64>,
        (severity, remedy): (Severity, Vec<String>),
    ) {
        let call = self.running.get().and_then(|running| running());
        let violation = Violation { layer, observer, act, arguments, call, severity, remedy };
        let plugin = &self.blueprint.plugin;
        tracing::warn!(target: "hotcell::violation", %plugin, generation = self.generation, "{violation}");
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(violation.clone());
        self.events.send(plugin, self.generation, EventKind::Violation(violation));
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("plugin", &self.blueprint.plugin).finish_non_exhaustive()
    }
}
