//! `hotcell reload --check`: what a reload would come to.

use std::process::ExitCode;
use std::time::Duration;

use hotcell::{IncompatibleState, ReloadOptions, Reloaded};

use crate::args::{Global, Reload};
use crate::host;
use crate::outcome::Outcome;

pub(crate) async fn reload(global: &Global, arguments: Reload) -> ExitCode {
    match check(global, &arguments).await {
        Ok(reloaded) if arguments.json => match serde_json::to_string(&reloaded) {
            Ok(text) => {
                println!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => Outcome::internal(error.to_string()).report(),
        },
        Ok(Reloaded { from, to, states }) => {
            let states: Vec<_> = states.iter().map(ToString::to_string).collect();
            println!("{from} -> {to}: would be taken, {}", states.join(", "));
            ExitCode::SUCCESS
        }
        Err(outcome) => outcome.report(),
    }
}

async fn check(global: &Global, arguments: &Reload) -> Result<Reloaded, Outcome> {
    let host = host::build(global).await?;
    let (plugin, _needed) = host::load(&host, &arguments.old, host::load_options(global)).await?;
    let options = ReloadOptions {
        path: Some(arguments.new.clone()),
        may_widen: arguments.may_widen,
        may_go_back: global.allow_downgrade,
        on_incompatible_state: match arguments.drop_state {
            true => IncompatibleState::Drop,
            false => IncompatibleState::Refuse,
        },
        probation: Duration::ZERO,
        check_only: true,
        ..ReloadOptions::default()
    };
    let result = plugin.reload_with(options).await;
    host.shutdown().await;
    result.map_err(|error| Outcome { class: error.class(), message: error.to_string() })
}
