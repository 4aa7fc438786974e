//! `hotcell run`: a command plugin with this process's standard streams, through pipes.

use std::process::ExitCode;
use std::time::Instant;

use hotcell::{BareUse, CallError, Class, CommandIo, Exit, LoadOptions, Violation};
use serde::Serialize;

use crate::args::{Global, Run};
use crate::host;
use crate::interrupt;
use crate::outcome::{Outcome, name};

/// Added to the exit code of a failure that is not the command's own.
const OWN_FAILURE: u8 = 120;

/// What `--json` prints on standard error.
#[derive(Debug, Serialize)]
struct Report {
    outcome: &'static str,
    /// The command's own code, where it ended by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<Exit>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Violation>,
    duration_ms: f64,
}

pub(crate) async fn run(global: &Global, arguments: Run) -> ExitCode {
    let began = Instant::now();
    let json = arguments.json;
    let mut violations = Vec::new();
    let result = tokio::select! {
        result = perform(global, arguments, &mut violations) => result,
        () = interrupt::control_c() => Err((interrupted(), None)),
    };
    let duration_ms = began.elapsed().as_secs_f64() * 1000.0;
    let (report, code) = match result {
        Ok(code) => {
            let (outcome, code_of_its_own) = ("exited", Some(code));
            let report =
                Report { outcome, code: code_of_its_own, error: None, exit: None, violations, duration_ms };
            (report, u8::try_from(code).unwrap_or(u8::MAX))
        }
        Err((outcome, exit)) => {
            if !json {
                outcome.report();
            }
            let code = own_code(outcome.class);
            let error = Some(outcome.message);
            (Report { outcome: name(outcome.class), code: None, error, exit, violations, duration_ms }, code)
        }
    };
    if json {
        match serde_json::to_string(&report) {
            Ok(text) => eprintln!("{text}"),
            Err(error) => return Outcome::internal(format!("failed to write the report: {error}")).report(),
        }
    }
    ExitCode::from(code)
}

async fn perform(
    global: &Global,
    arguments: Run,
    violations: &mut Vec<Violation>,
) -> Result<i32, (Outcome, Option<Exit>)> {
    let Run { plugin, env, arguments, timeout, .. } = arguments;
    let host = host::build(global).await.map_err(without_exit)?;
    let mut events = host.events();
    let plugin = host
        .load_with(&plugin, LoadOptions { bare_use: BareUse::Command, ..host::load_options(global) })
        .await
        .map_err(|error| {
            let exit = error.exit().cloned();
            (error.into(), exit)
        })?;
    if !plugin.is_command() {
        let message = format!("{} is not a command; use `hotcell call` with one of its exports", plugin.id());
        return Err(without_exit(Outcome::invalid(message)));
    }
    let io = CommandIo {
        stdin: Some(Box::new(tokio::io::stdin())),
        stdout: Some(Box::new(tokio::io::stdout())),
        stderr: Some(Box::new(tokio::io::stderr())),
    };
    let mut command = plugin.command().arguments(arguments).io(io);
    command = env.into_iter().fold(command, |command, (name, value)| command.env(name, value));
    if let Some(deadline) = timeout {
        command = command.deadline(deadline);
    }
    let result = command.run().await.map_err(|error: CallError| {
        let exit = error.exit().cloned();
        (error.into(), exit)
    });
    host.shutdown().await;
    violations.extend(host::violations(&mut events));
    result
}

fn without_exit(outcome: Outcome) -> (Outcome, Option<Exit>) {
    (outcome, None)
}

fn interrupted() -> Outcome {
    Outcome { class: Class::Interrupted, message: "interrupted".to_owned() }
}

/// A failure of hotcell's own must not look like a code of the command; an interruption looks as it always does.
fn own_code(class: Class) -> u8 {
    match class {
        Class::Interrupted => class.exit_code(),
        _ => OWN_FAILURE + class.exit_code(),
    }
}
