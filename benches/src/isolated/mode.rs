//! The ways of loading that are measured. A way that hotcell learns gets its rows here, and nowhere else.

use hotcell::{LoadOptions, Waiting};

use crate::placement::Placement;

/// A way to load a plugin, with rows of its own in every group of messages.
pub(super) struct Mode {
    /// What the name of its rows says after "hotcell native" or "hotcell wasm"; nothing for the default.
    pub(super) label: &'static str,
    /// How its plugins are loaded.
    pub(super) options: fn() -> LoadOptions,
    /// Where it makes sense.
    pub(super) placements: &'static [Placement],
}

/// All, in the order of their rows.
pub(super) const MODES: &[Mode] = &[
    Mode { label: "", options: LoadOptions::default, placements: &Placement::ALL },
    Mode {
        label: ", spinning",
        options: || LoadOptions { waiting: Waiting::Spin, ..LoadOptions::default() },
        placements: &[Placement::TwoCores, Placement::Unpinned],
    },
];
