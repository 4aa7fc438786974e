//! `hotcell call`: one call of one export.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hotcell::{CallError, Class, Exit, Violation};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::args::{Call, Global};
use crate::host;
use crate::interrupt;
use crate::outcome::{Outcome, name};

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Envelope {
    outcome: &'static str,
    exit_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<Reply>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<Exit>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Violation>,
}

/// A reply in the envelope.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Reply {
    /// As the plugin wrote it, on one line.
    Json(Box<RawValue>),
    /// What is not JSON, or was not to be read as JSON; bytes that are no text are replaced.
    Text(String),
}

/// A call's end, with what `--json` says of it.
struct Failure {
    outcome: Outcome,
    exit: Option<Exit>,
}

pub(crate) async fn call(global: &Global, arguments: Call) -> ExitCode {
    let began = Instant::now();
    let mut violations = Vec::new();
    let result = tokio::select! {
        result = perform(global, &arguments, &mut violations) => result,
        () = interrupt::control_c() => Err(interrupted()),
    };
    if arguments.json {
        return print_envelope(result, violations, began.elapsed(), arguments.raw);
    }
    match result {
        Ok(reply) => print_reply(&reply, arguments.raw),
        Err(failure) => failure.outcome.report(),
    }
}

async fn perform(
    global: &Global,
    arguments: &Call,
    violations: &mut Vec<Violation>,
) -> Result<Vec<u8>, Failure> {
    let input = read_input(arguments.input.as_deref(), arguments.raw)?;
    let host = host::build(global).await?;
    let mut events = host.events();
    let with = arguments.with.iter().map(|path| (path.clone(), host::load_options(global)));
    let loaded = match host.load_with_installed(with).await {
        Ok(others) => {
            let plugin = host::load(&host, &arguments.plugin, host::load_options(global)).await;
            plugin.map(|loaded| (loaded, others))
        }
        Err(error) => Err(error.into()),
    };
    violations.extend(host::violations(&mut events));
    let ((plugin, _needed), _others) = loaded?;
    let mut request = plugin.request(&arguments.export);
    if let Some(deadline) = arguments.timeout {
        request = request.deadline(deadline);
    }
    let result = request.raw(input).await;
    host.shutdown().await;
    violations.extend(host::violations(&mut events));
    result.map_err(Failure::from)
}

/// The input's bytes; JSON is checked before anything starts.
pub(crate) fn read_input(input: Option<&str>, raw: bool) -> Result<Vec<u8>, Outcome> {
    let bytes = match input {
        None => return Ok(Vec::new()),
        Some("-") => {
            let mut bytes = Vec::new();
            let read = std::io::stdin().lock().read_to_end(&mut bytes);
            read.map_err(|error| Outcome::invalid(format!("failed to read standard input: {error}")))?;
            bytes
        }
        Some(text) => match text.strip_prefix('@') {
            Some(path) => std::fs::read(path)
                .map_err(|error| Outcome::invalid(format!("failed to read {path}: {error}")))?,
            None => text.as_bytes().to_vec(),
        },
    };
    if !raw {
        serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).map_err(|error| {
            Outcome::invalid(format!("the input is not JSON: {error}; use --raw to pass bytes as they are"))
        })?;
    }
    Ok(bytes)
}

pub(crate) fn print_reply(reply: &[u8], raw: bool) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let written = if raw {
        out.write_all(reply)
    } else {
        out.write_all(&printable(reply)).and_then(|()| out.write_all(b"\n"))
    };
    match written.and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => Outcome::internal(format!("failed to write the reply: {error}")).report(),
    }
}

/// A reply as it is, but for a terminal.
fn printable(reply: &[u8]) -> Cow<'_, [u8]> {
    if reply.is_empty() || !std::io::stdout().is_terminal() {
        return Cow::Borrowed(reply);
    }
    Cow::Owned(shown(reply).into_bytes())
}

/// A reply that a terminal may be shown: JSON, or a JSON string of its text, that cannot drive it.
fn shown(reply: &[u8]) -> String {
    match serde_json::from_slice::<&RawValue>(reply) {
        Ok(json) => tame(json.get()),
        Err(_) => tame(&serde_json::json!(String::from_utf8_lossy(reply)).to_string()),
    }
}

/// The same JSON without a character that could drive a terminal or mislead its reader.
fn tame(json: &str) -> String {
    let mut tamed = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            // Valid JSON holds these between its tokens only.
            '\n' | '\t' => tamed.push(character),
            '\r' => tamed.push(' '),
            character if hotcell::is_unsafe(character) => {
                let units = &mut [0; 2];
                character.encode_utf16(units).iter().for_each(|unit| _ = write!(tamed, "\\u{unit:04x}"));
            }
            character => tamed.push(character),
        }
    }
    tamed
}

fn print_envelope(
    result: Result<Vec<u8>, Failure>,
    violations: Vec<Violation>,
    took: Duration,
    raw: bool,
) -> ExitCode {
    let duration_ms = took.as_secs_f64() * 1000.0;
    let envelope = match result {
        Ok(reply) => Envelope {
            outcome: "ok",
            exit_code: 0,
            reply: Some(reply_value(&reply, raw)),
            error: None,
            duration_ms,
            exit: None,
            violations,
        },
        Err(Failure { outcome, exit }) => Envelope {
            outcome: name(outcome.class),
            exit_code: outcome.class.exit_code(),
            reply: None,
            error: Some(outcome.message),
            duration_ms,
            exit,
            violations,
        },
    };
    match serde_json::to_string(&envelope) {
        Ok(text) if std::io::stdout().is_terminal() => println!("{}", tame(&text)),
        Ok(text) => println!("{text}"),
        Err(error) => return Outcome::internal(format!("failed to write the report: {error}")).report(),
    }
    ExitCode::from(envelope.exit_code)
}

/// The reply as JSON, copied, not parsed into values; anything else as text.
fn reply_value(reply: &[u8], raw: bool) -> Reply {
    let json = if raw { None } else { serde_json::from_slice::<&RawValue>(reply).ok() };
    // Valid JSON holds line ends between its tokens only.
    let line = json.and_then(|json| RawValue::from_string(json.get().replace(['\n', '\r'], " ")).ok());
    line.map_or_else(|| Reply::Text(String::from_utf8_lossy(reply).into_owned()), Reply::Json)
}

fn interrupted() -> Failure {
    Failure { outcome: Outcome { class: Class::Interrupted, message: "interrupted".to_owned() }, exit: None }
}

impl From<Outcome> for Failure {
    fn from(outcome: Outcome) -> Failure {
        Failure { outcome, exit: None }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Failure {
        Failure { exit: error.exit().cloned(), outcome: error.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::{reply_value, shown};

    fn value(reply: &[u8], raw: bool) -> String {
        serde_json::to_string(&reply_value(reply, raw)).expect("is JSON")
    }

    #[test]
    fn a_reply_on_a_terminal_cannot_drive_it_and_is_the_same_json() {
        let hostile = "{\r\n\t\"a\": \"\u{9b}31m\u{202e}\u{7f}\u{e0041}\u{fc}\"}";
        let tamed = shown(hostile.as_bytes());
        assert_eq!(tamed, "{ \n\t\"a\": \"\\u009b31m\\u202e\\u007f\\udb40\\udc41\u{fc}\"}");
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("is JSON");
        assert_eq!(parse(&tamed), parse(hostile));
        let text = shown(b"\x1b]52;c;x\x07\xc2\x9b\xff");
        assert_eq!(text, "\"\\u001b]52;c;x\\u0007\\u009b\u{fffd}\"", "no JSON: a string of its text");
    }

    #[test]
    fn the_envelope_takes_json_as_it_is_and_other_bytes_as_text() {
        assert_eq!(value(b" {\"a\":\n1.00} ", false), "{\"a\": 1.00}", "one line, digits kept");
        assert_eq!(value(b"{\"a\":1}", true), "\"{\\\"a\\\":1}\"", "raw is never read as JSON");
        assert_eq!(value(b"\xffx", false), "\"\u{fffd}x\"");
        assert_eq!(value(b"\"\xff\"", false), "\"\\\"\u{fffd}\\\"\"", "invalid UTF-8 is no JSON");
    }
}
