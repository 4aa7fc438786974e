//! The storms, one after the other, for each kind of the notebook.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hotcell::{
    CallError, Checkpoint, EventKind, Events, Host, LoadOptions, Plugin, ReloadError, ReloadOptions,
};
use serde_json::{Value, json};

use super::Stress;
use super::footprint::Footprint;
use super::load::{Load, Seen, add};
use super::report::{Storm, Times};
use crate::failure::Failure;
use crate::isolated::Hosts;
use crate::progress::Progress;
use crate::runtimes::Runtimes;

/// The packages of the notebook: folder and artifact.
const KINDS: [(&str, &str); 2] = [("native", "notebook.so"), ("core", "notebook.wasm")];

/// How long callers are watched before anything is done to the plugin.
const CALM: Duration = Duration::from_millis(500);

/// How long a roll-back may take to be told.
const PATIENCE: Duration = Duration::from_secs(30);

/// Progress is told after so many acts.
const STEP: u32 = 20;

/// Runs all storms.
pub(super) fn run(stress: &Stress, hosts: &Hosts, runtimes: &Runtimes) -> Result<Vec<Storm>, Failure> {
    let mut storms = Vec::new();
    let runtime = runtimes.many_threads()?;
    for kind in KINDS {
        let (folder, (builder, _)) = (hosts.folder()?, hosts.one_more()?);
        storms.extend(runtime.block_on(async {
            let host = builder.build().await?;
            let packages = Packages::write(&stress.plugins, &folder, kind)?;
            let run = Run { stress, host, packages, kind: kind.0, progress: Progress::new() };
            run.all().await
        })?);
    }
    Ok(storms)
}

/// Versions of the notebook.
struct Packages {
    good: [PathBuf; 2],
    bad: PathBuf,
    /// Another plugin.
    other: PathBuf,
}

impl Packages {
    fn write(plugins: &Path, folder: &Path, (kind, artifact): (&str, &str)) -> Result<Packages, Failure> {
        let from = plugins.join("notebook").join(kind);
        let failed = |path: &Path| {
            let what = format!("read {} (scripts/build-plugins notebook builds it)", path.display());
            move |source| Failure::io(what, source)
        };
        let manifest = from.join("manifest.json");
        let text = fs::read_to_string(&manifest).map_err(failed(&manifest))?;
        let version = |name: &str, version: &str, config: Value| {
            let mut manifest: serde_json::Map<String, Value> = serde_json::from_str(&text)?;
            manifest.insert("version".to_owned(), version.into());
            manifest.insert("config".to_owned(), config);
            if name == "other" {
                manifest.insert("id".to_owned(), "dev.hotcell.notebook-other".into());
            }
            let to = folder.join(format!("notebook-{kind}-{name}"));
            let written = |source| Failure::io(format!("write {}", to.display()), source);
            fs::create_dir_all(&to).map_err(written)?;
            fs::copy(from.join(artifact), to.join(artifact)).map_err(failed(&from.join(artifact)))?;
            fs::write(to.join("manifest.json"), Value::Object(manifest).to_string()).map_err(written)?;
            Ok::<_, Failure>(to)
        };
        Ok(Packages {
            good: [
                version("one", "0.1.0", json!({ "fault": "none" }))?,
                version("two", "0.2.0", json!({ "fault": "none" }))?,
            ],
            other: version("other", "0.1.0", json!({ "fault": "none" }))?,
            bad: version("bad", "0.3.0", json!({ "fault": "crashes-on-add" }))?,
        })
    }
}

struct Run<'s> {
    stress: &'s Stress,
    host: Host,
    packages: Packages,
    kind: &'static str,
    progress: Progress,
}

impl Run<'_> {
    async fn all(self) -> Result<Vec<Storm>, Failure> {
        let mut storms = vec![self.calm().await?];
        let Stress { reloads, bad_updates, crashes, mixed, .. } = *self.stress;
        if reloads > 0 {
            storms.push(self.reloads(reloads).await?);
        }
        if bad_updates > 0 {
            storms.push(self.bad_updates(bad_updates).await?);
        }
        if crashes > 0 {
            storms.push(self.crashes(crashes, Checkpoint::Never).await?);
            storms.push(self.crashes(crashes, Checkpoint::OnRequest).await?);
            storms.push(self.reports().await?);
        }
        if mixed > 0 {
            storms.push(self.mixed(Duration::from_secs(mixed)).await?);
        }
        self.host.shutdown().await;
        Ok(storms)
    }

    async fn load(&self) -> Result<Plugin, Failure> {
        self.load_with(Checkpoint::Never).await
    }

    async fn load_with(&self, checkpoint: Checkpoint) -> Result<Plugin, Failure> {
        let [first, _] = &self.packages.good;
        let options = LoadOptions { checkpoint, ..LoadOptions::default() };
        let plugin = self.host.load_with(first, options).await?;
        plugin.call_raw("set_state", vec![b's'; self.stress.state]).await?;
        Ok(plugin)
    }

    fn storm(&self, name: &'static str) -> Storm {
        self.progress.line(&format!("{}: {name}", self.kind));
        Storm::new(self.kind, name)
    }

    async fn calm(&self) -> Result<Storm, Failure> {
        let mut storm = self.storm("undisturbed");
        let plugin = self.load().await?;
        let load = Load::start(&plugin, self.stress.callers);
        tokio::time::sleep(CALM).await;
        storm.judge_counted(load.end().await?);
        plugin.unload().await;
        Ok(storm)
    }

    async fn reloads(&self, times: u32) -> Result<Storm, Failure> {
        let mut storm = self.storm("reloads");
        let plugin = self.load().await?;
        let before = Footprint::now();
        let load = Load::start(&plugin, self.stress.callers);
        let mut took = Times::new("reload, request to new version serving");
        for number in 0..times {
            self.step(number, times);
            took.time(self.reload(&plugin, number, Duration::ZERO)).await.map_err(failed)?;
        }
        storm.judge_counted(load.end().await?);
        storm.must_be("state", plugin.call_raw("get_state", Vec::new()).await?.len(), self.stress.state);
        storm.end(vec![took], before);
        plugin.unload().await;
        Ok(storm)
    }

    async fn reload(&self, plugin: &Plugin, number: u32, probation: Duration) -> Result<(), ReloadError> {
        let [one, two] = &self.packages.good;
        let path = if number.is_multiple_of(2) { two } else { one }.clone();
        let options = ReloadOptions { path: Some(path), probation, retry: true, ..ReloadOptions::default() };
        plugin.reload_with(options).await.map(drop)
    }

    async fn bad_updates(&self, times: u32) -> Result<Storm, Failure> {
        let mut storm = self.storm("bad updates");
        let plugin = self.load().await?;
        let before = Footprint::now();
        let mut events = self.host.events();
        let load = Load::start(&plugin, self.stress.callers);
        for number in 0..times {
            self.step(number, times);
            self.update_badly(&plugin, &mut events).await?;
        }
        let mut seen = load.end().await?;
        let gaps =
            Times::of("crash of the bad version to next reply of the old", std::mem::take(&mut seen.gaps));
        storm.must_be("calls that ran in a crashed worker", seen.crashed, u64::from(times));
        storm.judge_counted(Seen { crashed: 0, ..seen });
        storm.must_be("state", plugin.call_raw("get_state", Vec::new()).await?.len(), self.stress.state);
        storm.end(vec![gaps], before);
        plugin.unload().await;
        Ok(storm)
    }

    /// Returns when the bad version was rolled back.
    async fn update_badly(&self, plugin: &Plugin, events: &mut Events) -> Result<(), Failure> {
        // Of earlier ones.
        while events.try_next().is_some() {}
        let path = Some(self.packages.bad.clone());
        let options = ReloadOptions { path, retry: true, ..ReloadOptions::default() };
        plugin.reload_with(options).await.map_err(failed)?;
        let rolled_back = async {
            while let Some(event) = events.next().await {
                if matches!(event.kind, EventKind::RolledBack { .. }) {
                    return Ok(());
                }
            }
            Err(Failure::other("the host ended"))
        };
        let late = |_| Failure::other("a version that crashes was not rolled back");
        tokio::time::timeout(PATIENCE, rolled_back).await.map_err(late)?
    }

    async fn crashes(&self, times: u32, checkpoint: Checkpoint) -> Result<Storm, Failure> {
        let restores = checkpoint != Checkpoint::Never;
        let (name, what) = match restores {
            true => ("crashes, with checkpoints", "crash to next reply, state restored"),
            false => ("crashes", "crash to next reply"),
        };
        let mut storm = self.storm(name);
        let plugin = self.load_with(checkpoint).await?;
        if restores {
            plugin.checkpoint().await.map_err(|error| Failure::other(error.to_string()))?;
        }
        let before = Footprint::now();
        let load = Load::start(&plugin, self.stress.callers);
        let mut took = Times::new(what);
        for number in 0..times {
            self.step(number, times);
            took.time(crash(&plugin)).await?;
        }
        let seen = load.end().await?;
        storm.must_be("calls of others that ended as crashed", seen.crashed, 0);
        let state = plugin.call_raw("get_state", Vec::new()).await?.len();
        storm.must_be("state", state, if restores { self.stress.state } else { 0 });
        storm.judge_replied(seen);
        storm.end(vec![took], before);
        plugin.unload().await;
        Ok(storm)
    }

    /// How long after the end of a call its crash report is written. Few: a plugin gets few reports at a time.
    async fn reports(&self) -> Result<Storm, Failure> {
        const REPORTS: u32 = 5;
        let mut storm = self.storm("crash reports");
        // Those of the storms before it.
        let crashes = self.host.crashes();
        let plugin = self.host.load(&self.packages.other).await?;
        let before = Footprint::now();
        let mut events = self.host.events();
        let mut took = Times::new("crash to its report");
        for _ in 0..REPORTS {
            if plugin.call_raw("crash", Vec::new()).await.is_ok() {
                return Err(Failure::other("a call that crashes was replied to"));
            }
            let reported = async {
                while let Some(event) = events.next().await {
                    if matches!(event.kind, EventKind::CrashReported { .. }) && event.plugin == plugin.id() {
                        return Ok(());
                    }
                }
                Err(Failure::other("the host ended"))
            };
            let late = |_| Failure::other("a crash was not reported");
            took.time(async { tokio::time::timeout(PATIENCE, reported).await.map_err(late)? }).await?;
        }
        let reports = crashes.list()?.iter().filter(|report| report.plugin == plugin.id()).count();
        storm.must_be("reports", reports, REPORTS as usize);
        storm.end(vec![took], before);
        plugin.unload().await;
        Ok(storm)
    }

    /// All of it, in an order that the seed decides.
    async fn mixed(&self, time: Duration) -> Result<Storm, Failure> {
        let mut storm = self.storm("mixed");
        let plugin = self.load().await?;
        let before = Footprint::now();
        let mut events = self.host.events();
        let load = Load::start(&plugin, self.stress.callers);
        let (mut random, mut bad, begin) = (Random(self.stress.seed), 0, Instant::now());
        let mut took = Times::new("act of any kind");
        for number in 0.. {
            if begin.elapsed() >= time {
                break;
            }
            match random.next() % 4 {
                0 => took.time(crash(&plugin)).await?,
                1 => {
                    bad += 1;
                    took.time(self.update_badly(&plugin, &mut events)).await?;
                }
                _ => took.time(self.reload(&plugin, number, PATIENCE)).await.map_err(failed)?,
            }
        }
        // Ends the probation of the last one.
        self.reload(&plugin, 0, Duration::ZERO).await.map_err(failed)?;
        let seen = load.end().await?;
        storm.must_be("calls that ran in a crashed worker", seen.crashed, bad);
        storm.judge_replied(seen);
        storm.end(vec![took], before);
        plugin.unload().await;
        Ok(storm)
    }

    fn step(&self, number: u32, times: u32) {
        if number.is_multiple_of(STEP) {
            self.progress.step(&format!("{number} of {times}"));
        }
    }
}

/// Crashes the worker, and returns when it serves again.
async fn crash(plugin: &Plugin) -> Result<(), Failure> {
    match plugin.call_raw("crash", Vec::new()).await {
        Err(CallError::Crashed(_)) => Ok(add(plugin).await.map(drop)?),
        Err(error) => Err(error.into()),
        Ok(_) => Err(Failure::other("a call that crashes was replied to")),
    }
}

fn failed(error: ReloadError) -> Failure {
    Failure::other(format!("a reload failed: {error}"))
}

/// A sequence of numbers without a pattern that matters here (a linear congruential generator; Knuth's constants).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}
