//! What a plugin can ask of the host: named host calls, and `log` on top of them.
//!
//! Whether a call is allowed is decided by the host, on its side, each time. Nothing here decides anything.

use crate::abi::HostCallStatus;
use crate::boundary;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// Why a host call gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostCallError {
    /// The call is not declared in the manifest, not granted by the profile, or unknown to the host. The host does
    /// not say which, so that a plugin learns nothing about what exists.
    Refused,
    /// The handler failed; its text, empty if it gave none. Bytes that are not UTF-8 are replaced.
    Failed(String),
}

impl fmt::Display for HostCallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("Permission denied: the host refused the call"),
            Self::Failed(text) if text.is_empty() => f.write_str("the host call failed"),
            Self::Failed(text) => write!(f, "the host call failed: {text}"),
        }
    }
}

impl core::error::Error for HostCallError {}

/// Calls the host and waits for the answer. `name` is what the manifest lists under `permissions.host_calls`.
///
/// To be used on the thread that runs the export, while it runs. The host limits the size of input and answer and
/// the rate of calls.
///
/// # Errors
/// [`HostCallError::Refused`] if the plugin may not call this, [`HostCallError::Failed`] if the handler failed, or if
/// there is no memory for its answer.
pub fn host_call(name: &str, input: &[u8]) -> Result<Vec<u8>, HostCallError> {
    match HostCallStatus::decode(boundary::host_call(name, input)) {
        HostCallStatus::Answered(length) => take(length),
        HostCallStatus::Refused => Err(HostCallError::Refused),
        HostCallStatus::Failed => Err(HostCallError::Failed(String::new())),
        HostCallStatus::FailedWithText(length) => {
            let text = take(length)?;
            Err(HostCallError::Failed(String::from_utf8_lossy(&text).into_owned()))
        }
    }
}

/// Fetches what the worker keeps of the last host call.
fn take(length: u64) -> Result<Vec<u8>, HostCallError> {
    let no_memory = || HostCallError::Failed(String::from("no memory for the answer"));
    let length = usize::try_from(length).map_err(|_| no_memory())?;
    let mut answer = Vec::new();
    answer.try_reserve_exact(length).map_err(|_| no_memory())?;
    answer.resize(length, 0);
    let copied = boundary::host_take(&mut answer);
    answer.truncate(copied);
    Ok(answer)
}

/// How much a log message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// For the plugin's author.
    Debug,
    /// For whoever runs the host.
    Info,
    /// Something is wrong, and the plugin goes on.
    Warn,
    /// Something failed.
    Error,
}

impl Level {
    /// The word that the host call `log` takes.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Writes one message to the host's log, where it appears escaped and under the plugin's id. Needs the host call
/// `log`; the host limits rate and length and drops what exceeds them.
///
/// # Errors
/// Those of [`host_call`]. A plugin that only wants to be heard where possible ignores them.
pub fn log(level: Level, message: &str) -> Result<(), HostCallError> {
    host_call("log", log_record(level, message).as_bytes()).map(drop)
}

/// Calls an export of another plugin. Needs the host call `plugin.call`, and the plugin's id among the manifest's
/// `dependencies`.
///
/// # Errors
/// Those of [`host_call`]: refused if the plugin is not among the dependencies, failed if it is not loaded, if it waits for
/// this one, or if its call did not end with a reply.
pub fn call_plugin(id: &str, export: &str, input: &[u8]) -> Result<Vec<u8>, HostCallError> {
    let mut framed = Vec::with_capacity(id.len() + export.len() + input.len() + 2);
    for part in [id.as_bytes(), b"/", export.as_bytes(), b"\n", input] {
        framed.extend_from_slice(part);
    }
    host_call("plugin.call", &framed)
}

/// `{"level":"info","message":"..."}`, without a JSON library.
fn log_record(level: Level, message: &str) -> String {
    let mut json = String::with_capacity(message.len() + 40);
    json.push_str("{\"level\":\"");
    json.push_str(level.as_str());
    json.push_str("\",\"message\":");
    write_json_text(&mut json, message);
    json.push('}');
    json
}

/// Adds a text as JSON has it, with its quotes.
pub(crate) fn write_json_text(json: &mut String, text: &str) {
    json.push('"');
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            control if control < ' ' => {
                // Writing to a string cannot fail.
                let _ = write!(json, "\\u{:04x}", u32::from(control));
            }
            other => json.push(other),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_record_is_json_whatever_the_message() {
        assert_eq!(log_record(Level::Info, "hi"), r#"{"level":"info","message":"hi"}"#);
        assert_eq!(
            log_record(Level::Error, "a\"b\\c\nd\u{1b}[2J é"),
            r#"{"level":"error","message":"a\"b\\c\nd\u001b[2J é"}"#
        );
    }

    #[test]
    fn errors_say_who_failed() {
        use alloc::string::ToString;
        assert_eq!(HostCallError::Refused.to_string(), "Permission denied: the host refused the call");
        assert_eq!(HostCallError::Failed(String::new()).to_string(), "the host call failed");
        assert_eq!(HostCallError::Failed("no".into()).to_string(), "the host call failed: no");
    }
}
