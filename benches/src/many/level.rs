//! Starts of one package that stay, and the figures at a number of them.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hotcell::{Host, Package, Plugin};
use serde::Serialize;
use tokio::runtime::Runtime;

use crate::cpu;
use crate::failure::Failure;
use crate::isolated::{Hosts, Subject, memory::private_bytes_since};
use crate::measure::Samples;
use crate::memory::{available_bytes, private_bytes};
use crate::placement::{descendants, own_pid};
use crate::progress::Progress;
use crate::samples::Summary;

/// Starts whose time is of interest: the last ones of a level.
const STARTS: usize = 100;
/// Calls of random plugins.
const CALLS: usize = 500;
/// How long nothing is done.
const IDLE: Duration = Duration::from_secs(3);
/// Plugins between two lines of progress.
const STEP: usize = 100;

/// Figures at a number of plugins.
#[derive(Debug, Serialize)]
pub(super) struct Level {
    pub(super) plugins: u32,
    pub(super) start: Summary,
    pub(super) call: Summary,
    /// Private memory of one plugin's process, bytes.
    pub(super) memory_each: u64,
    /// Private memory that the host has for one plugin, bytes.
    pub(super) host_memory_each: u64,
    /// What the whole system has less of for one plugin, bytes: with page tables, kernel stacks and shared memory.
    pub(super) system_memory_each: u64,
    /// Of one core, all processes together.
    pub(super) idle_percent: f64,
    /// Descriptors that the host has for one plugin.
    pub(super) descriptors_each: f64,
}

/// A host and its plugins.
pub(super) struct Loaded {
    host: Host,
    runtime: Arc<Runtime>,
    package: Package,
    export: &'static str,
    input: &'static [u8],
    plugins: Vec<Plugin>,
    layers: String,
    random: Random,
    /// What was there before the first plugin.
    before: Before,
}

struct Before {
    processes: Vec<i32>,
    memory: u64,
    available: u64,
    descriptors: usize,
}

impl Loaded {
    /// A host without plugins; the cache has the code already.
    pub(super) fn new(hosts: &Hosts, subject: &Subject<'_>) -> Result<Loaded, Failure> {
        let Subject { path, export, input } = *subject;
        let (builder, runtime) = hosts.one_more()?;
        let host = runtime.block_on(builder.build())?;
        let package = runtime.block_on(host.prepare(path))?;
        let first = runtime.block_on(package.start())?;
        let layers = hosts.note_layers(&first);
        runtime.block_on(first.unload());
        let before = Before {
            processes: descendants(own_pid())?,
            memory: private_bytes(own_pid())?,
            available: available_bytes()?,
            descriptors: descriptors()?,
        };
        let (plugins, random) = (Vec::new(), Random(0x9e37_79b9_7f4a_7c15));
        Ok(Loaded { host, runtime, package, export, input, plugins, layers, random, before })
    }

    pub(super) fn layers(&self) -> &str {
        &self.layers
    }

    /// Starts until there are as many plugins, then takes the figures.
    pub(super) fn rise_to(&mut self, level: u32) -> Result<Level, Failure> {
        let wanted = level as usize;
        let progress = Progress::new();
        let mut start = Samples::default();
        while self.plugins.len() < wanted {
            let mut one = Samples::default();
            let started = one.time(|| Ok(self.runtime.block_on(self.package.start())?));
            let have = self.plugins.len();
            let says = |failure| Failure::other(format!("with {have} plugins, the next one: {failure}"));
            self.plugins.push(started.map_err(says)?);
            if have + STARTS >= wanted {
                start.append(one);
            }
            if have.is_multiple_of(STEP) {
                progress.step(&format!("{have} of {wanted}"));
            }
        }
        self.figures(level, start)
    }

    fn figures(&mut self, level: u32, start: Samples) -> Result<Level, Failure> {
        let call = self.calls()?;
        let none = || Failure::other("no sample was taken");
        let available = available_bytes()?;
        let count = u64::from(level).max(1);
        let memory = private_bytes_since(&self.before.processes)?;
        let host = private_bytes(own_pid())?.saturating_sub(self.before.memory);
        let more = descriptors()?.saturating_sub(self.before.descriptors);
        Ok(Level {
            plugins: level,
            start: start.summary().ok_or_else(none)?,
            call: call.summary().ok_or_else(none)?,
            memory_each: memory / count,
            host_memory_each: host / count,
            system_memory_each: self.before.available.saturating_sub(available) / count,
            idle_percent: self.idle()?,
            descriptors_each: more as f64 / count as f64,
        })
    }

    fn calls(&mut self) -> Result<Samples, Failure> {
        let mut samples = Samples::default();
        for _ in 0..CALLS {
            let index = self.random.below(self.plugins.len());
            let Some(plugin) = self.plugins.get(index) else { continue };
            let (export, input) = (self.export, self.input.to_vec());
            self.runtime.block_on(async {
                let start = Instant::now();
                plugin.call_raw(export, input).await?;
                samples.add(start.elapsed());
                Ok::<(), Failure>(())
            })?;
        }
        Ok(samples)
    }

    fn idle(&self) -> Result<f64, Failure> {
        let mut processes = descendants(own_pid())?;
        processes.push(own_pid());
        cpu::percent_during(&processes, || {
            let start = Instant::now();
            self.runtime.block_on(async { tokio::time::sleep(IDLE).await });
            Ok(start.elapsed())
        })
    }

    /// Ends everything; returns the nanoseconds that it took.
    pub(super) fn end(self) -> u64 {
        let start = Instant::now();
        drop((self.plugins, self.package));
        self.runtime.block_on(self.host.shutdown());
        u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Descriptors that this process has open.
fn descriptors() -> Result<usize, Failure> {
    let entries =
        fs::read_dir("/proc/self/fd").map_err(|source| Failure::io("list the open descriptors", source))?;
    Ok(entries.count())
}

/// Xorshift: which plugin is called need not be unpredictable, only different.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (bound.max(1) as u64)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plugin_is_called_sooner_or_later() {
        let mut random = Random(1);
        let called: std::collections::BTreeSet<usize> = (0..200).map(|_| random.below(10)).collect();
        assert_eq!(called.len(), 10);
        assert!(called.into_iter().all(|index| index < 10));
    }
}
