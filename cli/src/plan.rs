//! `hotcell plan`: the effective plan as text.

use std::process::ExitCode;

use crate::args::{Global, Plan};
use crate::host;
use crate::outcome::Outcome;

pub(crate) async fn plan(global: &Global, arguments: Plan) -> ExitCode {
    match text(global, &arguments).await {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(outcome) => outcome.report(),
    }
}

async fn text(global: &Global, arguments: &Plan) -> Result<String, Outcome> {
    let host = host::build(global).await?;
    let plugin = host.load(&arguments.plugin).await?;
    let text = plugin.plan();
    host.shutdown().await;
    Ok(text)
}
