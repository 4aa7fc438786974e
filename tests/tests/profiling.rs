//! Where a plugin spends its time, seen from outside, through the library and the command.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::time::Duration;

use hotcell::{CallError, ProfileOptions, ProfiledStack};
use hotcell_tests::{Folders, command, package};

mod common;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Long enough to see a plugin that does nothing but loop.
const SOON: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_plugin_spends_its_time_is_seen_from_outside() {
    let setup = common::Setup::new().await;
    for name in ["crash-lab/native", "crash-lab/wasm", "greet/component"] {
        let plugin = setup.load(name).await;
        let options = ProfileOptions { time: Duration::from_millis(200), frequency: 300 };
        let idle = plugin.profile(options.clone()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(idle.samples > 0 && idle.outside == idle.samples, "{name}: {idle:?}");
    }
    for (name, fault) in [("crash-lab/native", "null_write"), ("crash-lab/wasm", "unreachable")] {
        let plugin = setup.load(name).await;
        let spin = plugin.request("spin").deadline(PATIENCE).raw(Vec::new());
        let profile = plugin.profile(ProfileOptions { time: SOON, frequency: 300 });
        let profile = tokio::select! {
            profile = profile => profile.unwrap_or_else(|error| panic!("{name}: {error}")),
            ended = spin => panic!("{name}: {ended:?}"),
        };
        let spins = |stack: &ProfiledStack| {
            stack.functions.iter().any(|function| function.contains("spin") || function == "forever")
        };
        let spun: u64 = profile.stacks.iter().filter(|stack| spins(stack)).map(|stack| stack.samples).sum();
        assert!(spun * 2 > profile.samples, "{name}: {profile:?}");
        assert_eq!(plugin.call_raw("ok", b"x".to_vec()).await.expect("it goes on"), b"x", "{name}");
        // Whoever looks at a worker is told of its end first; the host has to learn of it nevertheless.
        let pid = plugin.evidence().expect("it runs").pid;
        let crash = async {
            let is_watched = || {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
                !status.contains("TracerPid:\t0\n")
            };
            while !is_watched() {
                tokio::task::yield_now().await;
            }
            plugin.call_raw(fault, Vec::new()).await
        };
        let long = plugin.profile(ProfileOptions { time: PATIENCE, frequency: 300 });
        let (profile, crashed) = tokio::join!(long, crash);
        assert!(profile.is_ok(), "{name}: {profile:?}");
        assert!(matches!(crashed, Err(CallError::Crashed(_))), "{name}: {crashed:?}");
        assert_eq!(plugin.call_raw("ok", b"x".to_vec()).await.expect("another one answers"), b"x", "{name}");
    }
}

#[test]
fn the_command_draws_where_a_plugin_spends_its_time() {
    let folders = Folders::new();
    let (drawing, folded) = (folders.join("flames.svg"), folders.join("folded"));
    let mut command = command::command(&folders);
    command.args(["plugin", "profile"]).arg(package("crash-lab/native")).args(["spin", "--time", "1s"]);
    let said = command::run(command.arg("--svg").arg(&drawing).arg("--folded").arg(&folded));
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.contains("samples during 1 calls") && said.out.contains("spin"), "{}", said.out);
    assert!(fs::read_to_string(drawing).expect("was drawn").contains("spin"));
    assert!(fs::read_to_string(folded).expect("was written").contains("spin"));
    let mut command = command::command(&folders);
    let said = command::run(command.args(["plugin", "profile"]).arg(package("nowhere")).arg("spin"));
    assert_eq!(said.code, Some(2), "{}", said.err);
}
