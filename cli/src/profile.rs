//! `hotcell profile`: what a reviewer asks of profiles. Only `test` starts something.

use std::path::Path;
use std::process::ExitCode;

use hotcell::policy::review::{
    Difference, Explanation, Mark, Question, Verdict, Warning, diff, explain, grants, grants_json, lint,
};
use hotcell::policy::{Policy, Profile, compile, render, render_json};
use hotcell::{Class, Error, Runtime};
use serde_json::Value;

use crate::args::Global;
use crate::outcome::Outcome;
use crate::profile_args::{self as args, Action, RuntimeName};
use crate::profile_test;

/// Something widens, or there is a warning.
const FOUND: u8 = 1;

pub(crate) fn profile(global: &Global, arguments: args::Profile) -> ExitCode {
    let done = match arguments.action {
        Action::Plan(arguments) => print_plan(arguments),
        Action::Explain(arguments) => print_explanation(arguments),
        Action::Diff(arguments) => print_diff(&arguments),
        Action::Lint(arguments) => print_lint(&arguments),
        Action::Test(arguments) => return profile_test::test(global, arguments),
    };
    done.unwrap_or_else(|outcome| outcome.report())
}

fn print_plan(arguments: args::Plan) -> Result<ExitCode, Outcome> {
    let profile = read(&arguments.of)?;
    let platform = match arguments.platform {
        Some(platform) => platform,
        None => hotcell::platform()?,
    };
    let mut plans = Vec::new();
    for runtime in runtimes(&profile, arguments.runtime) {
        let plan = Policy::widest(&profile, runtime).and_then(|policy| compile(&policy, &platform));
        plans.push(plan.map_err(Error::from)?);
    }
    if arguments.json {
        return Ok(print_json(&plans.iter().map(render_json).collect()));
    }
    let texts: Vec<_> = plans.iter().map(render).collect();
    print!("{}", texts.join("\n\n"));
    Ok(ExitCode::SUCCESS)
}

fn print_explanation(arguments: args::Explain) -> Result<ExitCode, Outcome> {
    let profile = read(&arguments.of)?;
    let (runtime, json) = (arguments.runtime, arguments.json);
    let Some(question) = question(arguments) else {
        if json {
            return Ok(print_json(&grants_json(&profile)));
        }
        grants(&profile).iter().for_each(|grant| println!("{grant}"));
        return Ok(ExitCode::SUCCESS);
    };
    let answers =
        runtimes(&profile, runtime).into_iter().map(|runtime| explain(&profile, runtime, &question));
    let answers: Vec<Explanation> =
        answers.collect::<Result<_, _>>().map_err(|error| Outcome::invalid(error.to_string()))?;
    if json {
        print_json(&answers.iter().map(Explanation::to_json).collect());
    } else {
        answers.iter().for_each(|answer| println!("{answer}"));
    }
    let allowed = answers.iter().all(|answer| answer.verdict == Verdict::Allowed);
    Ok(if allowed { ExitCode::SUCCESS } else { ExitCode::from(Class::Refused.exit_code()) })
}

fn question(arguments: args::Explain) -> Option<Question> {
    let args::Explain {
        syscall,
        arg,
        path,
        access,
        host_call,
        connect,
        listen,
        program,
        of: _,
        runtime: _,
        json: _,
    } = arguments;
    let syscall = syscall.map(|name| Question::Syscall { name, args: arg });
    let path = path.zip(access).map(|(path, access)| Question::Path { path, access: access.into() });
    syscall
        .or(path)
        .or(host_call.map(Question::HostCall))
        .or(connect.map(Question::Connect))
        .or(listen.map(Question::Listen))
        .or(program.map(Question::Program))
}

fn print_diff(arguments: &args::Diff) -> Result<ExitCode, Outcome> {
    let differences = diff(&read(&arguments.old)?, &read(&arguments.new)?);
    if arguments.json {
        print_json(&differences.iter().map(Difference::to_json).collect());
    } else {
        differences.iter().for_each(|difference| println!("{difference}"));
    }
    Ok(found(differences.iter().any(|difference| difference.mark == Mark::Widens)))
}

fn print_lint(arguments: &args::Lint) -> Result<ExitCode, Outcome> {
    let mut warnings = Vec::new();
    for of in &arguments.of {
        let (file, text) = source(of)?;
        warnings.extend(lint(&file, &text).map_err(|error| Outcome::invalid(error.to_string()))?);
    }
    if arguments.json {
        print_json(&warnings.iter().map(Warning::to_json).collect());
    } else {
        warnings.iter().for_each(|warning| println!("{warning}"));
    }
    Ok(found(!warnings.is_empty()))
}

pub(crate) fn found(found: bool) -> ExitCode {
    if found { ExitCode::from(FOUND) } else { ExitCode::SUCCESS }
}

pub(crate) fn print_json(value: &Value) -> ExitCode {
    println!("{value:#}");
    ExitCode::SUCCESS
}

/// The runtimes to speak of.
fn runtimes(profile: &Profile, only: Option<RuntimeName>) -> Vec<Runtime> {
    only.map_or_else(|| profile.runtimes().to_vec(), |only| vec![only.into()])
}

pub(crate) fn read(of: &Path) -> Result<Profile, Outcome> {
    let (file, text) = source(of)?;
    Profile::parse(&file, &text).map_err(|error| Outcome::invalid(error.to_string()))
}

/// Name and text of a shipped profile, or of a file.
fn source(of: &Path) -> Result<(String, String), Outcome> {
    let name = of.display().to_string();
    if let Some(text) = Profile::shipped_text(&name) {
        return Ok((format!("{name}.toml"), text.to_owned()));
    }
    if of.extension().is_none_or(|extension| extension != "toml") {
        let shipped = Profile::shipped_names().join(", ");
        return Err(Outcome::invalid(format!(
            "`{name}` is neither a shipped profile ({shipped}) nor a .toml file"
        )));
    }
    let text = std::fs::read_to_string(of)
        .map_err(|error| Outcome::invalid(format!("failed to read {name}: {error}")))?;
    Ok((name, text))
}
