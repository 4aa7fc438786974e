//! `hotcell plan`: the effective plan as text.

use std::process::ExitCode;

use hotcell::policy::render;

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
    let plan = host.plan(&arguments.plugin, host::load_options(global)).await;
    host.shutdown().await;
    Ok(render(&plan?))
}
