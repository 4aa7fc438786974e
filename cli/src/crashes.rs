//! `hotcell crashes`: what is known of plugins that crashed.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use hotcell::{CrashReport, Crashes};
use serde::Serialize;

use crate::args::{CrashesAction, Global};
use crate::host;
use crate::outcome::Outcome;

pub(crate) fn crashes(global: &Global, action: CrashesAction) -> ExitCode {
    match text(global, action) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(outcome) => outcome.report(),
    }
}

fn text(global: &Global, action: CrashesAction) -> Result<String, Outcome> {
    let crashes = host::builder(global)?.crashes()?;
    match action {
        CrashesAction::List { plugin, groups, json } => {
            let mut reports = crashes.list()?;
            reports.retain(|report| plugin.as_ref().is_none_or(|plugin| report.plugin == *plugin));
            match (groups, json) {
                (true, true) => as_json(&Crashes::group(&reports)),
                (true, false) => Ok(group(&reports)),
                (false, true) => as_json(&reports),
                (false, false) => Ok(list(&reports)),
            }
        }
        CrashesAction::Show { id, json: true } => as_json(&crashes.find(&id)?),
        CrashesAction::Show { id, json: false } => Ok(crashes.find(&id)?.to_string()),
        CrashesAction::Export { id, folder } => {
            let report = crashes.find(&id)?;
            export(&crashes, &report, &folder)
        }
    }
}

fn as_json(value: &impl Serialize) -> Result<String, Outcome> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Outcome::internal(error.to_string()))?;
    Ok(text + "\n")
}

fn list(reports: &[CrashReport]) -> String {
    let mut text = String::new();
    for report in reports {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{}  {}  {}  {}", report.id, report.version, report.signature, report.title);
    }
    text
}

fn group(reports: &[CrashReport]) -> String {
    let mut text = String::new();
    for group in Crashes::group(reports) {
        let when = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(group.newest_ms));
        let _ = writeln!(
            text,
            "{}  {:>4} reports  {} {}  last {when}  {}",
            group.signature,
            group.reports,
            group.plugin,
            group.versions.join(", "),
            group.title
        );
    }
    text
}

/// Copies the files of a report into a new folder.
fn export(crashes: &Crashes, report: &CrashReport, folder: &Path) -> Result<String, Outcome> {
    let name = folder.display();
    let failed = |error: std::io::Error| Outcome::invalid(format!("failed to write {name}: {error}"));
    std::fs::create_dir(folder).map_err(failed)?;
    let mut text = String::new();
    for entry in std::fs::read_dir(crashes.folder(report)).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let to = folder.join(entry.file_name());
        std::fs::copy(entry.path(), &to).map_err(failed)?;
        let _ = writeln!(text, "{}", to.display());
    }
    Ok(text)
}
