//! What a run is doing, on standard error.

use std::io::{IsTerminal, Write};

/// Says what a run is doing.
pub(crate) struct Progress {
    terminal: bool,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        Progress { terminal: std::io::stderr().is_terminal() }
    }

    /// A line that stays.
    pub(crate) fn line(&self, text: &str) {
        self.erase();
        eprintln!("{text}");
    }

    /// A line that the next one replaces; on anything but a terminal, nothing.
    pub(crate) fn step(&self, text: &str) {
        if self.terminal {
            self.erase();
            eprint!("{text}");
            // Progress that cannot be shown is no reason to stop.
            let _ = std::io::stderr().flush();
        }
    }

    fn erase(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}
