//! Why something could not be measured.

use std::path::PathBuf;

/// Why something could not be measured. The run goes on; its report says so in the place of the figure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A system call or a file.
    #[error("failed to {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Something did not do what it is measured for, in words.
    #[error("{0}")]
    Other(String),
    /// JSON of a floor or of the report.
    #[error("failed to read or write JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A library that could not be loaded into this process.
    #[error("failed to load {path}: {source}", path = path.display())]
    Library {
        /// The library.
        path: PathBuf,
        /// What the dynamic linker says.
        source: libloading::Error,
    },
    /// The host did not start or did not load a plugin.
    #[error(transparent)]
    Host(#[from] hotcell::Error),
    /// A call did not end with a reply.
    #[error(transparent)]
    Call(#[from] hotcell::CallError),
}

impl Failure {
    pub(crate) fn io(what: impl Into<String>, source: std::io::Error) -> Failure {
        Failure::Io { what: what.into(), source }
    }

    pub(crate) fn other(what: &str) -> Failure {
        Failure::Other(what.to_owned())
    }
}
