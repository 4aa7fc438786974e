//! What a run says, for people and for programs.

mod figure;
mod markdown;
mod table;

use std::path::Path;

use serde::Serialize;

use crate::failure::Failure;
use crate::machine::Machine;
use crate::measure::Row;

/// Everything that a run found out.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// How often each case got its turn.
    pub(crate) rounds: usize,
    /// What confined the measured workers.
    pub(crate) layers: Vec<Layers>,
    pub(crate) rows: Vec<Row>,
}

/// What confined the workers of some plugins.
#[derive(Debug, Serialize)]
pub(crate) struct Layers {
    pub(crate) plugins: Vec<String>,
    pub(crate) lines: Vec<String>,
}

impl Report {
    /// Prints the table for people.
    pub(crate) fn print(&self) {
        print!("{}", table::text(self));
    }

    /// Writes everything as JSON.
    pub(crate) fn write_json(&self, path: &Path) -> Result<(), Failure> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        std::fs::write(path, text).map_err(|source| Failure::io(format!("write {}", path.display()), source))
    }

    /// Replaces the figures in a Markdown file.
    pub(crate) fn write_markdown(&self, path: &Path) -> Result<(), Failure> {
        let subject = |verb: &str| format!("{verb} {}", path.display());
        let old = std::fs::read_to_string(path).map_err(|source| Failure::io(subject("read"), source))?;
        let new = markdown::replace(&old, &markdown::section(self)).ok_or_else(|| {
            Failure::Other(format!("{} lacks the two markers of the figures", path.display()))
        })?;
        std::fs::write(path, new).map_err(|source| Failure::io(subject("write"), source))
    }
}
