//! Random lives of a plugin beside a model of them: whatever happens in whatever order, each call ends once and as the model
//! says, and the plugin's count is the one that the model has.
//!
//! The faults are the plugin's own: it can be told to refuse, hang, crash or lie at each step of a start, a reload and a drain.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::time::Duration;

use hotcell::{
    CallError, Checkpoint, CheckpointError, ConfigureError, Host, LoadOptions, Plugin, ReloadError,
    ReloadOptions,
};
use hotcell_tests::{Folders, fixture};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

mod common;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a plugin that hangs while it saves its state is waited for.
const DRAIN: Duration = Duration::from_millis(60);

/// Lives, and the most steps of one.
const LIVES: u32 = 40;
const STEPS: usize = 30;

/// What is wrong with the plugin.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    Unhealthy,
    SavesNot,
    SavesForever,
    TakesNot,
    CrashesOnState,
    CrashesOnAdd,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Fault::None => "none",
            Fault::Unhealthy => "unhealthy",
            Fault::SavesNot => "saves-not",
            Fault::SavesForever => "saves-forever",
            Fault::TakesNot => "takes-not",
            Fault::CrashesOnState => "crashes-on-state",
            Fault::CrashesOnAdd => "crashes-on-add",
        }
    }

    fn takes_a_state(self) -> bool {
        !matches!(self, Fault::TakesNot | Fault::CrashesOnState)
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Add,
    AddMany(usize),
    Crash,
    /// A call that does not end before its deadline.
    Overstay,
    Checkpoint,
    Configure(Fault),
    /// A configuration that the plugin refuses.
    ConfigureBadly,
    Reload,
    /// A version that crashes with its first call, on probation.
    BadUpdate,
    Unload,
    /// The host ends, and another one comes.
    Restart {
        gentle: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use Fault::{CrashesOnAdd, CrashesOnState, None, SavesForever, SavesNot, TakesNot, Unhealthy};
    let faults =
        [None, None, None, Unhealthy, SavesNot, SavesForever, TakesNot, CrashesOnState, CrashesOnAdd];
    let step = prop_oneof![
        6 => Just(Step::Add),
        2 => (2..6_usize).prop_map(Step::AddMany),
        2 => Just(Step::Crash),
        1 => Just(Step::Overstay),
        3 => Just(Step::Checkpoint),
        3 => prop::sample::select(faults.to_vec()).prop_map(Step::Configure),
        1 => Just(Step::ConfigureBadly),
        4 => Just(Step::Reload),
        2 => Just(Step::BadUpdate),
        1 => Just(Step::Unload),
        1 => any::<bool>().prop_map(|gentle| Step::Restart { gentle }),
    ];
    prop::collection::vec(step, 1..STEPS)
}

/// What the plugin is by the model.
#[derive(Clone, Debug)]
struct Model {
    /// Calls that the worker has counted; `None` if there is no worker.
    live: Option<u64>,
    /// Counts that were kept, the newest last; at most two.
    kept: Vec<u64>,
    fault: Fault,
    /// The application has given a configuration since the plugin was loaded.
    configured: bool,
}

impl Model {
    /// A worker is started if none is there; it takes the newest state that it takes.
    fn start(&mut self) -> u64 {
        if self.live.is_none() {
            self.live = Some(self.restored());
        }
        self.live.unwrap_or_default()
    }

    fn restored(&mut self) -> u64 {
        if !self.fault.takes_a_state() {
            self.kept.clear();
        }
        self.kept.last().copied().unwrap_or_default()
    }

    fn keep(&mut self, count: u64) {
        self.kept.push(count);
        if self.kept.len() > 2 {
            self.kept.remove(0);
        }
    }

    /// The plugin is loaded anew, as its manifest says.
    fn load(&mut self) {
        (self.live, self.fault, self.configured) = (None, Fault::None, false);
        self.start();
    }

    fn save(&mut self) -> Result<Option<u64>, ()> {
        match (self.live, self.fault) {
            (None, _) => Ok(None),
            (Some(_), Fault::SavesNot) => Err(()),
            // It is ended where it hangs.
            (Some(_), Fault::SavesForever) => {
                self.live = None;
                Err(())
            }
            (Some(count), _) => Ok(Some(count)),
        }
    }
}

/// The plugin beside its model.
struct Life {
    folders: Folders,
    host: Host,
    plugin: Plugin,
    model: Model,
}

const ID: &str = "lived";

impl Life {
    async fn begin() -> Life {
        let folders = Folders::new();
        common::native(&folders, ID, "notebook/native/notebook.so", json!({}));
        let bad = json!({
            "id": format!("dev.hotcell.test.{ID}"), "version": "0.2.0", "config": { "fault": "crashes-on-add" },
        });
        common::native(&folders, "bad", "notebook/native/notebook.so", bad);
        let host = fixture::host(&folders).build().await.expect("a host starts");
        let plugin = load(&host, &folders).await;
        let model = Model { live: Some(0), kept: Vec::new(), fault: Fault::None, configured: false };
        Life { folders, host, plugin, model }
    }

    fn package(&self, name: &str) -> PathBuf {
        self.folders.join(name)
    }

    async fn take(self, step: Step) -> Life {
        let mut life = self;
        match step {
            Step::Add => life.add().await,
            Step::AddMany(many) => life.add_many(many).await,
            Step::Crash => {
                life.model.start();
                let ended = life.plugin.call_raw("crash", Vec::new()).await;
                assert!(matches!(ended, Err(CallError::Crashed(_))), "{ended:?}");
                life.model.live = None;
            }
            Step::Overstay => {
                life.model.start();
                let request = life.plugin.request("work").deadline(Duration::from_millis(80));
                let ended = request.raw(b"100000000".to_vec()).await;
                assert!(matches!(ended, Err(CallError::Timeout)), "{ended:?}");
                life.model.live = None;
            }
            Step::Checkpoint => life.checkpoint().await,
            Step::Configure(fault) => {
                let config = json!({ "fault": fault.name() });
                life.plugin.configure(&config).await.unwrap_or_else(|error| panic!("{error}"));
                (life.model.fault, life.model.configured) = (fault, true);
            }
            Step::ConfigureBadly => {
                let refused = life.plugin.configure(&json!({ "fault": "no such fault" })).await;
                match life.model.live {
                    Some(_) => assert!(matches!(refused, Err(ConfigureError::NotTaken(_))), "{refused:?}"),
                    // Nobody was there to refuse it: put right before anybody is.
                    None => {
                        let config = json!({ "fault": life.model.fault.name() });
                        life.plugin.configure(&config).await.unwrap_or_else(|error| panic!("{error}"));
                        life.model.configured = true;
                    }
                }
            }
            Step::Reload => life.reload().await,
            Step::BadUpdate => life.update_badly().await,
            Step::Unload => {
                life.plugin.clone().unload().await;
                life.model.load();
                life.plugin = load(&life.host, &life.folders).await;
            }
            Step::Restart { gentle } => return life.restart(gentle).await,
        }
        life
    }

    async fn add(&mut self) {
        let before = self.model.start();
        let ended = self.plugin.call_raw("add", Vec::new()).await;
        if self.model.fault == Fault::CrashesOnAdd {
            assert!(matches!(ended, Err(CallError::Crashed(_))), "{ended:?}");
            self.model.live = None;
            return;
        }
        assert_eq!(number(ended), before + 1);
        self.model.live = Some(before + 1);
    }

    /// Calls that wait for each other: each is counted once.
    async fn add_many(&mut self, many: usize) {
        if self.model.fault == Fault::CrashesOnAdd {
            return self.add().await;
        }
        let before = self.model.start();
        let plugin = &self.plugin;
        let calls: Vec<_> = (0..many)
            .map(|_| {
                let plugin = plugin.clone();
                tokio::spawn(async move { plugin.call_raw("add", Vec::new()).await })
            })
            .collect();
        let mut counts = Vec::new();
        for call in calls {
            counts.push(number(call.await.expect("no panic")));
        }
        counts.sort_unstable();
        let after = before + many as u64;
        assert_eq!(counts, (before + 1..=after).collect::<Vec<_>>());
        self.model.live = Some(after);
    }

    async fn checkpoint(&mut self) {
        // One that hangs is waited for until the plan's deadline.
        if self.model.fault == Fault::SavesForever {
            return;
        }
        let kept = self.plugin.checkpoint().await;
        match self.model.save() {
            Ok(Some(count)) => {
                assert!(kept.is_ok_and(|bytes| bytes > 0));
                self.model.keep(count);
            }
            Ok(None) => assert!(matches!(kept, Ok(0)), "{kept:?}"),
            Err(()) => assert!(matches!(kept, Err(CheckpointError::NotSaved(_))), "{kept:?}"),
        }
    }

    async fn reload(&mut self) {
        let options = ReloadOptions { drain: DRAIN, probation: Duration::ZERO, ..ReloadOptions::default() };
        let reloaded = self.plugin.reload_with(options).await;
        if self.model.fault == Fault::Unhealthy {
            assert!(matches!(reloaded, Err(ReloadError::Unhealthy(_))), "{reloaded:?}");
            return;
        }
        match self.model.save() {
            Err(()) => assert!(matches!(reloaded, Err(ReloadError::NotSaved(_))), "{reloaded:?}"),
            // A new worker, with what was kept.
            Ok(None) => {
                reloaded.unwrap_or_else(|error| panic!("{error}"));
                self.model.start();
            }
            Ok(Some(_)) => match self.model.fault {
                Fault::TakesNot => assert!(matches!(reloaded, Err(ReloadError::NotTaken(_))), "{reloaded:?}"),
                Fault::CrashesOnState => {
                    assert!(matches!(reloaded, Err(ReloadError::Ended(_))), "{reloaded:?}")
                }
                _ => assert!(reloaded.is_ok(), "{reloaded:?}"),
            },
        }
    }

    async fn update_badly(&mut self) {
        // A configuration that was given would hide what is wrong with it.
        if self.model.configured {
            return;
        }
        let before = self.model.live;
        let options =
            ReloadOptions { path: Some(self.package("bad")), retry: true, ..ReloadOptions::default() };
        self.plugin.reload_with(options).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(self.plugin.version(), "0.2.0");
        let crashed = self.plugin.call_raw("add", Vec::new()).await;
        assert!(matches!(crashed, Err(CallError::Crashed(_))), "{crashed:?}");
        assert_eq!(self.plugin.version(), "0.1.0", "it is rolled back");
        self.model.live = before;
    }

    async fn restart(self, gentle: bool) -> Life {
        let Life { folders, host, plugin, mut model } = self;
        drop(plugin.clone());
        // Gently, its state is kept, if it can be; one that hangs is waited for until the end.
        if gentle && model.fault != Fault::SavesForever {
            if let Ok(Some(count)) = model.save() {
                model.keep(count);
            }
            host.shutdown_within(PATIENCE).await;
        } else {
            host.shutdown().await;
        }
        let ended = plugin.call_raw("add", Vec::new()).await;
        assert!(matches!(ended, Err(CallError::HostShutdown)), "{ended:?}");
        model.load();
        let host = fixture::host(&folders).build().await.expect("a host starts");
        let plugin = load(&host, &folders).await;
        Life { folders, host, plugin, model }
    }

    /// After everything the plugin is what the model says.
    async fn end(mut self) {
        let config = json!({ "fault": "none" });
        // Starts, if it has to, with the fault that it had.
        self.model.start();
        let _ = self.plugin.call_raw("get_state", Vec::new()).await;
        self.plugin.configure(&config).await.unwrap_or_else(|error| panic!("{error}"));
        self.model.fault = Fault::None;
        self.add().await;
        self.host.shutdown().await;
    }
}

async fn load(host: &Host, folders: &Folders) -> Plugin {
    let options = LoadOptions { checkpoint: Checkpoint::OnRequest, ..LoadOptions::default() };
    host.load_with(folders.join(ID), options).await.unwrap_or_else(|error| panic!("{error}"))
}

fn number(ended: Result<Vec<u8>, CallError>) -> u64 {
    let reply = ended.unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8(reply).expect("text").parse().expect("a number")
}

#[test]
fn random_lives_are_as_their_model() {
    let runtime = common::runtime();
    let config =
        Config { cases: LIVES, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let lived = TestRunner::new(config).run(&steps(), |steps| {
        runtime.block_on(async {
            let mut life = Life::begin().await;
            for step in steps {
                life = life.take(step).await;
            }
            life.end().await;
        });
        Ok(())
    });
    lived.unwrap_or_else(|failure| panic!("{failure}"));
}
