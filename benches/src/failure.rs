//! Why something could not be measured.

use hotcell::Class;

/// Why something could not be measured. Where it is one row, the run goes on, and its report says so in the place of the
/// figure.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A system call or a file.
    #[error("failed to {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The command line asks for something that cannot be done, in words.
    #[error("{0}")]
    Usage(String),
    /// Something did not do what it is measured for, in words.
    #[error("{0}")]
    Other(String),
    /// JSON of a floor, of the peers or of the report.
    #[error("failed to read or write JSON: {0}")]
    Json(#[from] serde_json::Error),
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

    pub(crate) fn other(what: impl Into<String>) -> Failure {
        Failure::Other(what.into())
    }

    /// What kind of end it is for the command, as its exit code says it.
    pub fn class(&self) -> Class {
        match self {
            Failure::Usage(_) => Class::Invalid,
            Failure::Io { .. } | Failure::Other(_) | Failure::Json(_) => Class::Internal,
            Failure::Host(error) => error.class(),
            Failure::Call(error) => error.class(),
        }
    }
}
