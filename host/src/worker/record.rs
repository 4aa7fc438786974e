//! What is known of one worker's misdeeds and end, shared by everything that watches it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::event::{EventKind, EventSender, Observer, Violation};
use crate::exit::ExitCause;
use crate::launcher::Killer;

/// Violations of one worker that are told as events; the rest is counted.
const TOLD: u64 = 16;

/// Violations after which a worker is killed: it does nothing else any more.
const FLOOD: u64 = 4096;

/// The record of one worker.
#[derive(Debug)]
pub(crate) struct Record {
    plugin: String,
    generation: u32,
    events: EventSender,
    killer: Killer,
    cause: OnceLock<ExitCause>,
    violations: AtomicU64,
}

impl Record {
    pub(crate) fn new(plugin: &str, generation: u32, events: EventSender, killer: Killer) -> Record {
        Record {
            plugin: plugin.to_owned(),
            generation,
            events,
            killer,
            cause: OnceLock::new(),
            violations: AtomicU64::new(0),
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

    /// Tells that the kernel killed the worker for an act; it does not say which.
    pub(crate) fn kernel_violation(&self) {
        self.tell(Observer::Kernel, "a forbidden system call".to_owned(), Vec::new());
    }

    /// Records an act that was stopped; a flood of them ends the worker.
    pub(crate) fn violation(&self, act: String, arguments: Vec<u64>) {
        let count = self.violations.fetch_add(1, Ordering::Relaxed) + 1;
        if count > FLOOD {
            self.kill(ExitCause::Violation { syscall: Some(act) });
        } else if count <= TOLD {
            self.tell(Observer::Host, act, arguments);
        }
    }

    fn tell(&self, observer: Observer, act: String, arguments: Vec<u64>) {
        let violation = EventKind::Violation(Violation { observer, act, arguments });
        self.events.send(&self.plugin, self.generation, violation);
    }
}
