//! Loads: of the sample plugins, and of a large component that was never seen before.

use std::path::{Path, PathBuf};

use super::component;
use super::promise::{Bound, Promise};
use crate::failure::Failure;
use crate::isolated::{Driven, Hosts, Packages};
use crate::measure::Samples;

/// Every load has to be done by then.
const LOAD: Bound = Bound::Milliseconds(1_000);

/// Sample plugins of every kind that is loaded.
const SAMPLES: [&str; 6] =
    ["counter", "greet/native", "greet/core", "greet/component", "crash-lab/native", "crash-lab/wasm"];

/// Loads the sample plugins in turn, again and again.
pub(super) fn samples(quick: bool, hosts: &Hosts, packages: &Packages) -> [Promise; 2] {
    let rounds = if quick { 5 } else { 50 };
    let packages = SAMPLES.map(|name| packages.samples.join(name));
    match in_turn(hosts, &packages, rounds) {
        Ok(loads) => loads.promises(),
        Err(failure) => {
            let again = Failure::other(failure.to_string());
            [Promise::new("load", LOAD, Err(failure), ""), Promise::new(SUCCESS.0, SUCCESS.1, Err(again), "")]
        }
    }
}

const SUCCESS: (&str, Bound) = ("load success", Bound::PercentAbove(99));

/// What came of loads.
#[derive(Default)]
struct Loads {
    times: Samples,
    tried: usize,
    failed: usize,
    /// Why the first that failed did.
    first: Option<String>,
}

impl Loads {
    fn promises(self) -> [Promise; 2] {
        let Loads { times, tried, failed, first } = self;
        let none = || Failure::other(first.clone().unwrap_or_else(|| "nothing was loaded".to_owned()));
        let slowest = times.largest().map(|time| time as f64).ok_or_else(none);
        let how = format!(
            "largest of {tried} loads of {} sample plugins, the first ones with compiling",
            SAMPLES.len()
        );
        let percent = (tried - failed) as f64 / tried.max(1) as f64 * 100.0;
        let why = first.map(|first| format!(", e.g. {first}")).unwrap_or_default();
        [
            Promise::new("load", LOAD, slowest, how),
            Promise::new(SUCCESS.0, SUCCESS.1, Ok(percent), format!("{failed} of {tried} failed{why}")),
        ]
    }
}

fn in_turn(hosts: &Hosts, packages: &[PathBuf], rounds: usize) -> Result<Loads, Failure> {
    let driven = hosts.one_thread()?;
    let mut loads = Loads::default();
    for package in std::iter::repeat_n(packages, rounds).flatten() {
        loads.tried += 1;
        if let Err(failure) = load(&driven, package, &mut loads.times) {
            loads.failed += 1;
            loads.first.get_or_insert(failure.to_string());
        }
    }
    Ok(loads)
}

fn load(driven: &Driven, package: &Path, times: &mut Samples) -> Result<(), Failure> {
    let Driven { host, runtime } = driven;
    let plugin = times.time(|| Ok(runtime.block_on(host.load(package))?))?;
    runtime.block_on(plugin.unload());
    Ok(())
}

/// Reloads a plugin with its state, again and again.
pub(super) fn reload(quick: bool, hosts: &Hosts, packages: &Packages) -> Promise {
    let times = if quick { 5 } else { 50 };
    let slowest = reloads(hosts, &packages.samples.join("counter"), times);
    let how = format!("largest of {times} reloads of `counter`, which keeps its count");
    Promise::new("hot reload", Bound::Milliseconds(2_000), slowest, how)
}

fn reloads(hosts: &Hosts, package: &Path, times: u32) -> Result<f64, Failure> {
    let Driven { host, runtime } = hosts.one_thread()?;
    let plugin = runtime.block_on(host.load(package))?;
    runtime.block_on(plugin.call_raw("add", b"{\"by\":41}".to_vec()))?;
    let mut samples = Samples::default();
    for _ in 0..times {
        let reloaded = samples.time(|| {
            let reloaded = runtime.block_on(plugin.reload());
            reloaded.map_err(|error| Failure::other(error.to_string()))
        })?;
        if !matches!(reloaded.states[..], [hotcell::StateMove::Kept(_)]) {
            return Err(Failure::other(format!("a reload without state: {reloaded:?}")));
        }
    }
    let value = runtime.block_on(plugin.call_raw("value", Vec::new()))?;
    runtime.block_on(plugin.unload());
    match String::from_utf8_lossy(&value).contains("41") {
        true => Ok(samples.largest().unwrap_or_default() as f64),
        false => Err(Failure::other("the count is lost")),
    }
}

/// Loads a component of 18 MB that no cache has, and again when the cache has it.
pub(super) fn component(hosts: &Hosts) -> [Promise; 2] {
    let [cold, warm] = match cold_and_warm(hosts) {
        Ok(times) => times.map(|time| Ok(time as f64)),
        Err(failure) => [Err(Failure::other(failure.to_string())), Err(failure)],
    };
    let how = format!("made for this run: {}", component::ABOUT);
    [
        Promise::new("load, 18 MB component, cold", LOAD, cold, how),
        Promise::new("load, 18 MB component, cached", LOAD, warm, "the same again"),
    ]
}

fn cold_and_warm(hosts: &Hosts) -> Result<[u64; 2], Failure> {
    let path = hosts.folder()?.join("component.wasm");
    let bytes = component::of_functions(component::FUNCTIONS, component::DATA);
    std::fs::write(&path, bytes).map_err(|source| Failure::io("write a component", source))?;
    let driven = hosts.one_thread()?;
    let mut times = [0; 2];
    for time in &mut times {
        let mut samples = Samples::default();
        load(&driven, &path, &mut samples)?;
        *time = samples.largest().unwrap_or_default();
    }
    Ok(times)
}
