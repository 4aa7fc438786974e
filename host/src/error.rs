//! Why a host, a plugin or a call failed.

use std::time::Duration;

use hotcell_package::{PackageError, SignatureError};
use hotcell_policy::{ParseError, PolicyError};

use crate::class::Class;
use crate::exit::{Exit, ExitCause, Limit};
use crate::text::escape;

/// Why a host could not be built, or a plugin not be loaded or started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on behalf of the host failed.
    #[error("failed to {what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
    /// A manifest or a profile is not what it must be; the text points at the place.
    #[error("{0}")]
    Parse(Box<ParseError>),
    /// The profile does not cover the manifest's requests, or the platform cannot enforce the policy.
    #[error("{0}")]
    Policy(Box<PolicyError>),
    /// The package or its artifact cannot be used.
    #[error("failed to load {subject}: {detail}")]
    Package {
        /// The package, artifact or path.
        subject: String,
        /// What is wrong with it.
        detail: String,
        /// [`Class::Invalid`] for a malformed one, [`Class::Refused`] for one that asks for what is not there.
        class: Class,
    },
    /// An archive or a folder is no package.
    #[error("failed to load {subject}: {source}")]
    Archive {
        /// Its path.
        subject: String,
        /// What is wrong with it.
        source: PackageError,
    },
    /// A package is not signed as it has to be.
    #[error("failed to load {subject}: {source}")]
    Signature {
        /// The plugin's id and version.
        subject: String,
        /// What is wrong with the signatures, or who does not count.
        source: SignatureError,
    },
    /// This system lacks a layer that the plan needs.
    #[error(
        "failed to confine a worker: {layer} is not available here ({detail}); it needs {since}; {advice}"
    )]
    Unavailable {
        /// The layer, such as `Landlock`.
        layer: &'static str,
        /// What the kernel said.
        detail: String,
        /// The kernel feature and version that provide it.
        since: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// hotcell's own programs are missing, foreign or broken.
    #[error("failed to start hotcell's worker programs: {0}")]
    Launch(String),
    /// A worker ended before it was ready.
    #[error("failed to start {plugin}: {exit}")]
    Start {
        /// The plugin's id.
        plugin: String,
        /// Its end.
        exit: Exit,
    },
    /// The host was shut down, or the plugin unloaded.
    #[error("the host was shut down")]
    Shutdown,
}

impl Error {
    pub(crate) fn io(what: impl Into<String>, source: std::io::Error) -> Error {
        Error::Io { what: what.into(), source }
    }

    pub(crate) fn launch(what: impl Into<String>) -> Error {
        Error::Launch(what.into())
    }

    pub(crate) fn malformed(subject: impl Into<String>, detail: impl Into<String>) -> Error {
        Error::Package { subject: subject.into(), detail: detail.into(), class: Class::Invalid }
    }

    /// What it means to a caller.
    pub fn class(&self) -> Class {
        match self {
            Error::Io { .. } | Error::Launch(_) => Class::Internal,
            Error::Parse(_) | Error::Archive { .. } => Class::Invalid,
            Error::Signature { source: SignatureError::Malformed(_), .. } => Class::Invalid,
            Error::Signature { .. } => Class::Refused,
            Error::Policy(error) => crate::platform::class_of(error),
            Error::Package { class, .. } => *class,
            Error::Unavailable { .. } => Class::Unavailable,
            Error::Start { exit, .. } => exit.class(),
            Error::Shutdown => Class::Interrupted,
        }
    }

    /// The end of the worker, where one started.
    pub fn exit(&self) -> Option<&Exit> {
        match self {
            Error::Start { exit, .. } => Some(exit),
            _ => None,
        }
    }
}

/// Why a call has no reply. A call ends exactly once: with a reply or with one of these.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The plugin returned an error. Its text, as the plugin wrote it.
    #[error("the plugin returned an error: {}", escape(.0.as_bytes()))]
    Plugin(String),
    /// The plugin has no such export.
    #[error("no such export: {}", escape(.0.as_bytes()))]
    NoSuchExport(String),
    /// The input does not fit the export.
    #[error("bad input: {}", escape(.0.as_bytes()))]
    BadInput(String),
    /// The input, the reply or the host-wide budget of payload bytes is over its limit.
    #[error("over a limit of {limit}: {detail}")]
    OverLimit {
        /// Which.
        limit: Limit,
        /// How large, and what the limit is.
        detail: String,
    },
    /// The deadline passed, in the queue or while the call ran; a worker that ran it was killed.
    #[error("the call's deadline passed")]
    Timeout,
    /// The worker ended before it replied.
    #[error("the plugin's worker {0}")]
    Crashed(Box<Exit>),
    /// Not accepted: too many calls are outstanding, or the plugin would wait for itself.
    #[error("call refused: {0}")]
    Refused(&'static str),
    /// The caller gave up. Nobody is left to read this but the event stream.
    #[error("the caller gave up")]
    Cancelled,
    /// No worker could be started for it.
    #[error(transparent)]
    Start(Box<Error>),
    /// The plugin crashed or failed to start too often, and is not started now.
    #[error("the plugin is not started{}: {reason}", retry(.retry_after))]
    Down {
        /// What happened.
        reason: String,
        /// When the next call starts it; `None` for not before it is reloaded.
        retry_after: Option<Duration>,
        /// What that means to a caller, as it did the last time.
        class: Class,
    },
    /// The reply is not the JSON that the caller expects.
    #[error("failed to decode the reply: {0}")]
    Decode(serde_json::Error),
    /// The plugin was unloaded or the host shut down.
    #[error("the host was shut down")]
    HostShutdown,
}

fn retry(after: &Option<Duration>) -> String {
    match after {
        Some(after) => format!(" for another {after:.1?}"),
        None => " again".to_owned(),
    }
}

impl CallError {
    /// What it means to a caller.
    pub fn class(&self) -> Class {
        match self {
            CallError::Plugin(_) => Class::Plugin,
            CallError::NoSuchExport(_) | CallError::BadInput(_) | CallError::Decode(_) => Class::Invalid,
            CallError::OverLimit { .. } => Class::Resource,
            CallError::Timeout => Class::Deadline,
            CallError::Crashed(exit) => exit.class(),
            CallError::Refused(_) => Class::Refused,
            CallError::Start(error) => error.class(),
            CallError::Down { class, .. } => *class,
            CallError::HostShutdown | CallError::Cancelled => Class::Interrupted,
        }
    }

    /// The end of the worker, where that is the cause.
    pub fn exit(&self) -> Option<&Exit> {
        match self {
            CallError::Crashed(exit) => Some(exit),
            CallError::Start(error) => error.exit(),
            _ => None,
        }
    }

    pub(crate) fn from_exit(exit: Exit) -> CallError {
        match exit.cause {
            ExitCause::Deadline => CallError::Timeout,
            _ => CallError::Crashed(Box::new(exit)),
        }
    }
}

impl From<ParseError> for Error {
    fn from(error: ParseError) -> Error {
        Error::Parse(Box::new(error))
    }
}

impl From<PolicyError> for Error {
    fn from(error: PolicyError) -> Error {
        Error::Policy(Box::new(error))
    }
}
