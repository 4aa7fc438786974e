//! A host that counts and keeps the count, until somebody kills it: for `tests/checkpoints.rs`.
//!
//! Its argument is a folder with `package` in it; it says the first count after its start, and each that is kept.

use std::path::PathBuf;

use hotcell::{Checkpoint, Host, LoadOptions};
use hotcell_tests::fixture;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("a folder")?);
    let builder = Host::builder()
        .worker(fixture::programs())
        .state_dir(folder.join("state"))
        .cache_dir(fixture::shared_cache())
        .uid_registry(folder.join("uids"));
    let host = builder.build().await?;
    let options = LoadOptions { checkpoint: Checkpoint::OnRequest, ..LoadOptions::default() };
    let plugin = host.load_with(folder.join("package"), options).await?;
    let mut word = "began";
    loop {
        let count = plugin.call_raw("add", Vec::new()).await?;
        if word == "kept" {
            plugin.checkpoint().await?;
        }
        println!(
            "{word} {} {}",
            String::from_utf8_lossy(&count),
            plugin.evidence().map_or(0, |seen| seen.pid)
        );
        word = "kept";
    }
}
