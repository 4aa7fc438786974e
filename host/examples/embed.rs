//! A complete application that embeds hotcell: it loads a plugin, offers it a host call, and calls it.
//!
//! Run from the repository: `cargo run --release -p hotcell --example embed -- target/embed`, after `scripts/build`.

use std::path::PathBuf;
use std::time::Duration;

use hotcell::{CallError, Host};
use serde::Deserialize;
use serde_json::json;

/// What the plugin's `greet` replies.
#[derive(Deserialize)]
struct Greeting {
    greeting: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // An installed application has hotcell's programs beside it; an example lies one folder below them.
    let programs = std::env::current_exe()?.with_file_name("..");
    let mut builder =
        Host::builder().worker(programs).host_call("clock", async |_context, _input| Ok(b"noon".to_vec()));
    // Without a folder of the application's own, hotcell uses the system's, or the user's.
    if let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) {
        let (state, cache, uids) = (folder.join("state"), folder.join("cache"), folder.join("uids"));
        builder = builder.state_dir(state).cache_dir(cache).uid_registry(uids);
    }
    let host = builder.build().await?;

    let plugin = host.load("plugins/greet/native").await?;
    let Greeting { greeting } = plugin.call("greet", &json!({ "name": "Ada" })).await?;
    println!("{} says: {greeting}", plugin.id());

    let nobody = json!({ "name": "" });
    let deadline = Duration::from_millis(500);
    match plugin.request("greet").deadline(deadline).json(&nobody).await {
        Ok(Greeting { greeting }) => println!("it greets nobody: {greeting}"),
        Err(CallError::Plugin(text)) => println!("its own error: {text}"),
        Err(error) => println!("{:?}: {error}", error.class()),
    }

    host.shutdown().await;
    Ok(())
}
