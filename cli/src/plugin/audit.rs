//! `hotcell plugin audit`: what can be said against a package.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use hotcell::{AUDIT_RULES, Audit, Finding, Severity};
use serde_json::{Value, json};

use super::project::package_of;
use crate::args::Global;
use crate::host;
use crate::outcome::Outcome;

/// What `audit` is about.
pub(crate) const AUDIT: &str = "\
It reads signatures, permissions, what the artifact says of itself (in a confined process), and looks for secrets. What code does is
not found by reading: the sandbox is for that. A profile with `audit = \"high\"` has hosts do the same at every load.";

#[derive(Debug, Args)]
pub(crate) struct AuditArguments {
    /// A project, an .lbplugin file, a folder with manifest.json, or @ID of an installed plugin
    #[arg(default_value = ".")]
    plugin: PathBuf,
    /// Exit 1 from this severity on
    #[arg(long, value_enum, default_value = "high")]
    fail_on: FailOn,
    /// A copy of the RustSec advisory database, in which faults of the wasm runtime are looked up [default: advisory-db in
    /// the folder of cargo, if it is there]
    #[arg(long, value_name = "DIR")]
    advisories: Option<PathBuf>,
    /// Print the findings as JSON
    #[arg(long, conflicts_with = "sarif")]
    json: bool,
    /// Print them as SARIF 2.1.0, which code hosts show
    #[arg(long)]
    sarif: bool,
}

/// From which severity on an audit fails.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FailOn {
    Low,
    Medium,
    High,
    Never,
}

pub(crate) async fn audit(global: &Global, arguments: AuditArguments) -> ExitCode {
    match made(global, &arguments).await {
        Ok(audit) => {
            match (arguments.json, arguments.sarif) {
                (true, _) => print_json(&json!(audit)),
                (_, true) => print_json(&sarif(&audit)),
                _ => print(&audit),
            }
            let limit = match arguments.fail_on {
                FailOn::Low => Some(Severity::Low),
                FailOn::Medium => Some(Severity::Medium),
                FailOn::High => Some(Severity::High),
                FailOn::Never => None,
            };
            let fails = limit.is_some_and(|limit| audit.worst().is_some_and(|worst| worst >= limit));
            ExitCode::from(u8::from(fails))
        }
        Err(outcome) => outcome.report(),
    }
}

async fn made(global: &Global, arguments: &AuditArguments) -> Result<Audit, Outcome> {
    let plugin = package_of(&arguments.plugin)?;
    let mut builder = host::builder(global)?;
    if let Some(database) = arguments.advisories.clone().or_else(database_of_cargo) {
        builder = builder.advisories(database);
    }
    let host = builder.build().await?;
    let audit = host.audit(plugin).await;
    host.shutdown().await;
    Ok(audit?)
}

/// Where `cargo audit` keeps the database.
fn database_of_cargo() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
    Some(home.join("advisory-db")).filter(|database| database.join("crates").is_dir())
}

fn print(audit: &Audit) {
    println!("{} {}: {} findings", audit.plugin, audit.version, audit.findings.len());
    match audit.advisories {
        Some(read) => println!("advisories about the wasm runtime: {read} read"),
        None => println!("advisories about the wasm runtime: not looked up"),
    }
    for Finding { rule, severity, file, message } in &audit.findings {
        let place =
            file.as_ref().map_or(String::new(), |file| format!("{}: ", hotcell::escape(file.as_bytes())));
        println!("{:<6} {rule}: {place}{message}", name(*severity));
    }
}

fn print_json(value: &Value) {
    println!("{value:#}");
}

fn name(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
    }
}

/// The Static Analysis Results Interchange Format (OASIS), as far as it is of use here.
fn sarif(audit: &Audit) -> Value {
    let rules: Vec<_> = AUDIT_RULES
        .iter()
        .map(|rule| json!({ "id": rule.name, "shortDescription": { "text": rule.about } }))
        .collect();
    let result = |finding: &Finding| {
        let level = match finding.severity {
            Severity::Low => "note",
            Severity::Medium => "warning",
            Severity::High => "error",
        };
        let file = finding.file.as_deref().unwrap_or("manifest.json");
        json!({
            "ruleId": finding.rule,
            "level": level,
            "message": { "text": finding.message },
            "locations": [{ "physicalLocation": { "artifactLocation": { "uri": file } } }],
        })
    };
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "hotcell", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "results": audit.findings.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}
