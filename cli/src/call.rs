//! `hotcell call`: one call of one export.

use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hotcell::{CallError, Class, Exit};
use serde::Serialize;
use serde_json::Value;

use crate::args::{Call, Global};
use crate::host;
use crate::outcome::{Outcome, name};

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Envelope {
    outcome: &'static str,
    exit_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<Exit>,
}

/// A call's end, with what `--json` says of it.
struct Failure {
    outcome: Outcome,
    exit: Option<Exit>,
}

pub(crate) async fn call(global: &Global, arguments: Call) -> ExitCode {
    let began = Instant::now();
    let result = tokio::select! {
        result = perform(global, &arguments) => result,
        _ = tokio::signal::ctrl_c() => Err(interrupted()),
    };
    if arguments.json {
        return print_envelope(result, began.elapsed(), arguments.raw);
    }
    match result {
        Ok(reply) => print_reply(&reply, arguments.raw),
        Err(failure) => failure.outcome.report(),
    }
}

async fn perform(global: &Global, arguments: &Call) -> Result<Vec<u8>, Failure> {
    let input = read_input(arguments)?;
    let host = host::build(global).await?;
    let plugin = host.load(&arguments.plugin).await.map_err(Outcome::from)?;
    let mut request = plugin.request(&arguments.export);
    if let Some(deadline) = arguments.timeout {
        request = request.deadline(deadline);
    }
    let result = request.raw(input).await;
    host.shutdown().await;
    result.map_err(Failure::from)
}

/// The input's bytes; JSON is checked before anything starts.
fn read_input(arguments: &Call) -> Result<Vec<u8>, Outcome> {
    let bytes = match arguments.input.as_deref() {
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
    if !arguments.raw {
        serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).map_err(|error| {
            Outcome::invalid(format!("the input is not JSON: {error}; use --raw to pass bytes as they are"))
        })?;
    }
    Ok(bytes)
}

fn print_reply(reply: &[u8], raw: bool) -> ExitCode {
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

/// A reply that a terminal may be shown: JSON as it is, anything else as a JSON string of its text.
fn printable(reply: &[u8]) -> Vec<u8> {
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(reply).is_ok();
    if is_json || reply.is_empty() || !std::io::stdout().is_terminal() {
        return reply.to_vec();
    }
    Value::String(String::from_utf8_lossy(reply).into_owned()).to_string().into_bytes()
}

fn print_envelope(result: Result<Vec<u8>, Failure>, took: Duration, raw: bool) -> ExitCode {
    let duration_ms = took.as_secs_f64() * 1000.0;
    let envelope = match result {
        Ok(reply) => Envelope {
            outcome: "ok",
            exit_code: 0,
            reply: Some(reply_value(&reply, raw)),
            error: None,
            duration_ms,
            exit: None,
        },
        Err(Failure { outcome, exit }) => Envelope {
            outcome: name(outcome.class),
            exit_code: outcome.class.exit_code(),
            reply: None,
            error: Some(outcome.message),
            duration_ms,
            exit,
        },
    };
    match serde_json::to_string(&envelope) {
        Ok(text) => println!("{text}"),
        Err(error) => return Outcome::internal(format!("failed to write the report: {error}")).report(),
    }
    ExitCode::from(envelope.exit_code)
}

/// The reply as JSON; bytes that are not JSON as an array of numbers.
fn reply_value(reply: &[u8], raw: bool) -> Value {
    let parsed = if raw { None } else { serde_json::from_slice(reply).ok() };
    parsed.unwrap_or_else(|| match std::str::from_utf8(reply) {
        Ok(text) => Value::from(text),
        Err(_) => Value::from(reply.to_vec()),
    })
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
