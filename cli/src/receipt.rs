//! `hotcell receipt`: what is in force on a plugin's workers, signed.

use std::path::Path;
use std::process::ExitCode;

use hotcell::{Class, Receipt, ReceiptError};
use serde_json::Value;

use crate::args::{Global, ReceiptAction};
use crate::host;
use crate::outcome::Outcome;

pub(crate) async fn receipt(global: &Global, action: ReceiptAction) -> ExitCode {
    let printed = match action {
        ReceiptAction::Show { plugin } => show(global, &plugin).await,
        ReceiptAction::Key => key(global).await,
        ReceiptAction::Verify { file, key } => verify(global, &file, key).await,
    };
    match printed {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(outcome) => outcome.report(),
    }
}

/// Starts the plugin, and ends it when its workers were looked at.
async fn show(global: &Global, plugin: &Path) -> Result<String, Outcome> {
    let host = host::build(global).await?;
    let (plugin, _needed) = host::load(&host, plugin, host::load_options(global)).await?;
    let receipts = match plugin.is_command() {
        true => Err(Outcome::invalid("a command's worker lives only while it runs".to_owned())),
        false => plugin.receipts().await.map_err(Outcome::from),
    };
    host.shutdown().await;
    Ok(receipts?.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

async fn key(global: &Global) -> Result<String, Outcome> {
    let host = host::build(global).await?;
    let key = host.receipt_key().await;
    host.shutdown().await;
    Ok(key?)
}

async fn verify(global: &Global, file: &Path, expected: Option<String>) -> Result<String, Outcome> {
    let name = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Outcome::invalid(format!("failed to read {name}: {error}")))?;
    let expected = match expected {
        Some(key) => key,
        None => key(global).await?,
    };
    let mut bodies = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let receipt = Receipt::verify(line, &expected).map_err(|error| refused(&name.to_string(), &error))?;
        let body: Value = serde_json::from_str(receipt.body())
            .map_err(|error| Outcome::invalid(format!("{name}: {error}")))?;
        bodies.push(format!("{body:#}"));
    }
    match bodies.is_empty() {
        true => Err(Outcome::invalid(format!("{name}: no receipt"))),
        false => Ok(bodies.join("\n")),
    }
}

fn refused(name: &str, error: &ReceiptError) -> Outcome {
    let class = match error {
        ReceiptError::Malformed(_) => Class::Invalid,
        ReceiptError::OtherKey(_) | ReceiptError::Signature => Class::Refused,
    };
    Outcome { class, message: format!("{name}: {error}") }
}
