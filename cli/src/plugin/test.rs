//! `hotcell plugin test`: the cases of a project, each in a real confined worker.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use hotcell::policy::Export;
use hotcell::{CallError, CommandIo, Host, Plugin, Violation};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::project::{Case, Project};
use crate::args::Global;
use crate::host;
use crate::outcome::Outcome;

/// Bytes of a command's output that are compared.
const OUTPUT_MAX: usize = 1 << 20;

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// The project's folder
    #[arg(default_value = ".")]
    project: PathBuf,
    /// Do not build first
    #[arg(long)]
    no_build: bool,
    /// Print what came of each case as JSON
    #[arg(long)]
    json: bool,
}

/// What came of one case.
struct Verdict {
    name: String,
    /// Why it failed.
    problem: Option<String>,
    violations: Vec<Violation>,
    seconds: f64,
}

pub(crate) async fn test(global: &Global, arguments: &Test) -> ExitCode {
    match verdicts(global, arguments).await {
        Ok(verdicts) => {
            let failed = verdicts.iter().filter(|verdict| verdict.problem.is_some()).count();
            match arguments.json {
                true => println!("{}", as_json(&verdicts)),
                false => print(&verdicts),
            }
            ExitCode::from(u8::from(failed > 0))
        }
        Err(outcome) => outcome.report(),
    }
}

async fn verdicts(global: &Global, arguments: &Test) -> Result<Vec<Verdict>, Outcome> {
    let project = Project::open(&arguments.project)?;
    if !arguments.no_build {
        let artifact = super::build::make(&project)?;
        super::contract::refresh(global, &project, &artifact).await?;
    }
    if project.tests.is_empty() {
        let what = "there is no [[test]] in hotcell.toml: write one, with `call`, `input` and `reply`";
        return Err(Outcome::invalid(what.to_owned()));
    }
    let host = project_host(global, &project).await?;
    let tried = match host::load(&host, &project.package, host::load_options(global)).await {
        Ok((plugin, _needed)) => {
            let contract = super::contract::of(&project)?;
            let mut verdicts = Vec::new();
            for case in &project.tests {
                verdicts.push(verdict(&host, &plugin, case, &contract).await);
            }
            Ok(verdicts)
        }
        Err(outcome) => Err(outcome),
    };
    host.shutdown().await;
    tried
}

/// A host whose state lies in the project, unless a folder was named.
pub(super) async fn project_host(global: &Global, project: &Project) -> Result<Host, Outcome> {
    let mut builder = host::builder(global)?;
    if global.state_dir.is_none() {
        builder = builder.state_dir(project.state());
    }
    // What is missing in the manifest is best told with its path.
    Ok(builder.observe_paths().build().await?)
}

async fn verdict(host: &Host, plugin: &Plugin, case: &Case, contract: &[Export]) -> Verdict {
    let mut events = host.events();
    let began = Instant::now();
    let (name, problem) = match (&case.call, &case.run) {
        (Some(export), _) => {
            let problem = match call(plugin, export, case).await {
                None => breach(host, contract.iter().find(|of| of.name == *export), case).await,
                problem => problem,
            };
            (format!("{export} {}", case.input), problem)
        }
        (None, Some(arguments)) => {
            (format!("run {}", arguments.join(" ")), run(plugin, arguments, case).await)
        }
        (None, None) => ("nothing".to_owned(), Some("it neither calls nor runs".to_owned())),
    };
    let violations = host::violations(&mut events);
    Verdict { name, problem, violations, seconds: began.elapsed().as_secs_f64() }
}

/// How a case that succeeded breaks the types that the manifest tells, if it does. Bytes that are not JSON break them.
async fn breach(host: &Host, export: Option<&Export>, case: &Case) -> Option<String> {
    let (export, reply) = (export?, case.reply.as_ref()?);
    let sides = [("input", &export.params, &case.input), ("reply", &export.result, reply)];
    for (side, schema, value) in sides {
        let Some(schema) = schema else { continue };
        if let Err(error) = host.validate(schema, value).await {
            let name = &export.name;
            return Some(format!("its {side} is not what the manifest tells of {name}: {error}"));
        }
    }
    None
}

/// What is wrong with the reply, if anything is.
async fn call(plugin: &Plugin, export: &str, case: &Case) -> Option<String> {
    let got = plugin.call_raw(export, case.input.clone().into_bytes()).await;
    match (got, &case.reply, &case.error) {
        (Ok(reply), Some(expected), _) if same(&reply, expected) => None,
        (Ok(reply), Some(expected), _) => {
            Some(format!("replied {}, expected {expected}", hotcell::escape(&reply)))
        }
        (Err(CallError::Plugin(text)), _, Some(part)) if text.contains(part) => None,
        (Err(error), _, Some(part)) => Some(format!("{error}; expected an error with {part:?}")),
        (Ok(reply), None, Some(part)) => {
            Some(format!("replied {}, expected an error with {part:?}", hotcell::escape(&reply)))
        }
        (Err(error), ..) => Some(error.to_string()),
        (Ok(_), None, None) => Some("the case says neither `reply` nor `error`".to_owned()),
    }
}

/// Equal as JSON, where both are JSON, else byte for byte.
fn same(reply: &[u8], expected: &str) -> bool {
    let (theirs, ours) = (serde_json::from_slice::<Value>(reply), serde_json::from_str::<Value>(expected));
    reply == expected.as_bytes() || matches!((theirs, ours), (Ok(theirs), Ok(ours)) if theirs == ours)
}

async fn run(plugin: &Plugin, arguments: &[String], case: &Case) -> Option<String> {
    if !plugin.is_command() {
        return Some("the plugin is no command: a case for it has `call`".to_owned());
    }
    let (near, far) = tokio::io::duplex(OUTPUT_MAX);
    let io = CommandIo {
        stdin: Some(Box::new(std::io::Cursor::new(case.stdin.clone()))),
        stdout: Some(Box::new(far)),
        stderr: None,
    };
    let mut written = Vec::new();
    let mut near = near.take(OUTPUT_MAX as u64);
    let reading = near.read_to_end(&mut written);
    let (code, _) = tokio::join!(plugin.command().arguments(arguments).io(io).run(), reading);
    match code {
        Err(error) => Some(error.to_string()),
        Ok(code) if code != case.exit => Some(format!("exited with {code}, expected {}", case.exit)),
        Ok(_) => {
            let expected = case.stdout.as_ref()?;
            (written != expected.as_bytes())
                .then(|| format!("wrote {}, expected {expected:?}", hotcell::escape(&written)))
        }
    }
}

fn print(verdicts: &[Verdict]) {
    for Verdict { name, problem, violations, seconds } in verdicts {
        let name = hotcell::escape(name.as_bytes());
        match problem {
            None => println!("ok      {name}  ({:.1} ms)", seconds * 1000.0),
            Some(problem) => println!("FAILED  {name}\n        {problem}"),
        }
        for violation in violations {
            println!("        refused: {violation}");
        }
    }
    let failed = verdicts.iter().filter(|verdict| verdict.problem.is_some()).count();
    println!("{} passed, {failed} failed", verdicts.len() - failed);
}

fn as_json(verdicts: &[Verdict]) -> Value {
    let verdict = |verdict: &Verdict| {
        json!({
            "name": verdict.name,
            "passed": verdict.problem.is_none(),
            "problem": verdict.problem,
            "violations": verdict.violations,
            "seconds": verdict.seconds,
        })
    };
    verdicts.iter().map(verdict).collect()
}
