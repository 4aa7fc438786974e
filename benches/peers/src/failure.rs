//! Why a question could not be answered.

use std::error::Error;

/// What every library's error becomes.
type BoxError = Box<dyn Error + Send + Sync>;

/// Why a question could not be answered. The program goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A library or a system call.
    #[error("failed to {what}")]
    Step {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: BoxError,
    },
    /// A reply that is not the input.
    #[error("the reply is not the input")]
    WrongReply,
    /// The other end is gone.
    #[error("the other end hung up")]
    HungUp,
    /// A peer that takes one call at a time.
    #[error("does not pipeline")]
    DoesNotPipeline,
    /// A question that does not fit what is open.
    #[error("{0}")]
    Question(&'static str),
    /// What a peer says about a call that it refuses.
    #[error("the peer refused the call: {0}")]
    Refused(String),
}

impl Failure {
    /// The failure and its causes in one line.
    pub(crate) fn text(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

/// Says what failed, for `map_err`.
pub(crate) fn failed<E: Into<BoxError>>(what: &'static str) -> impl FnOnce(E) -> Failure {
    move |source| Failure::Step { what, source: source.into() }
}
