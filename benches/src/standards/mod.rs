//! What hotcell promises, and whether it keeps it here: `hotcell bench --standards`.
//!
//! The bounds are loose ones, for any machine; the figures of the other report are what to compare.

mod component;
mod loads;
mod neighbours;
mod promise;

use std::io::IsTerminal;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::args::Bench;
use crate::cpu;
use crate::failure::Failure;
use crate::isolated::{self, Driven, Hosts, Image, Packages};
use crate::machine::Machine;
use crate::measure::{Entry, Samples};
use crate::placement::{Processors, descendants, own_pid};
use crate::progress::Progress;
use crate::report::{json, make, print, table::Table, write_file};
use promise::{Bound, Promise};

/// What was found, for programs.
#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    /// Whether no promise was broken.
    kept: bool,
    promises: Vec<Promise>,
}

/// Measures every promise and prints what came of it. Returns whether none was broken.
pub(crate) fn run(bench: &Bench, hosts: &Rc<Hosts>, packages: &Packages) -> Result<bool, Failure> {
    let machine = Machine::look(&Processors::allowed()?, bench.date.clone())?;
    let promises = measure(bench.quick, hosts, packages);
    hosts.close();
    let report = Report { machine, kept: promises.iter().all(Promise::is_kept), promises };
    print(bench, &report, || text(&report))?;
    if let Some(folder) = &bench.out {
        write_file(&make(folder)?.join("standards.json"), &json(&report)?)?;
        write_file(&folder.join("standards.md"), &markdown(&report))?;
    }
    Ok(report.kept)
}

fn table(report: &Report) -> Table {
    let mut table = Table::new("Promises", &["promise", "bound", "hotcell", "verdict", "how"]);
    report.promises.iter().for_each(|promise| table.push(promise.cells()));
    table
}

fn text(report: &Report) -> String {
    let table = table(report);
    let verdict = if report.kept { "every promise is kept" } else { "a promise is not kept" };
    format!("{}\n\n{}\n{verdict}\n", report.machine.sentence(), table.text(std::io::stdout().is_terminal()))
}

fn markdown(report: &Report) -> String {
    let sentence = report.machine.sentence();
    let about = "Written by `hotcell bench --standards --out`, measured on";
    format!("# Standards\n\n{about} {sentence}.\n\n{}", table(report).markdown())
}

fn measure(quick: bool, hosts: &Rc<Hosts>, packages: &Packages) -> Vec<Promise> {
    let progress = Progress::new();
    let from_rows = |rows: &[FromRow]| rows.iter().map(|row| row.promise(quick, hosts, packages)).collect();
    progress.line("start");
    let mut promises: Vec<Promise> = from_rows(&START);
    progress.line("loads of sample plugins");
    promises.extend(loads::samples(quick, hosts, packages));
    progress.line("an 18 MB component");
    promises.extend(loads::component(hosts));
    promises.push(loads::reload(quick, hosts, packages));
    progress.line("memory");
    promises.extend(from_rows(&MEMORY));
    progress.line("host calls");
    promises.extend(from_rows(&HOST_CALLS));
    progress.line("neighbours");
    promises.extend(neighbours::promises(quick, hosts, packages));
    promises.push(neighbours::share_of_host(quick, hosts, packages));
    progress.line("idle");
    let idle = idle(hosts, packages, if quick { Duration::from_secs(1) } else { IDLE_TIME });
    let how = "host and 20 loaded plugins, of one core, as /proc counts it in ticks";
    promises.push(Promise::new("idle CPU", Bound::PercentBelow(5), idle, how));
    promises
}

/// A promise that a row of the other report tells of: none of its samples may break it.
struct FromRow {
    promise: &'static str,
    bound: Bound,
    id: &'static str,
    /// Samples, and those of a quick run.
    count: (usize, usize),
    how: &'static str,
}

const START: [FromRow; 1] = [FromRow {
    promise: "start",
    bound: Bound::Milliseconds(500),
    id: "launch/hotcell host with its launcher/unpinned",
    count: (10, 2),
    how: "slowest start of a host with its launcher",
}];

const MEMORY: [FromRow; 3] = [
    private_memory("memory, native worker", "memory/hotcell native worker/unpinned"),
    private_memory("memory, wasm worker", "memory/hotcell wasm worker/unpinned"),
    private_memory("memory, launcher", "memory/hotcell launcher, once/unpinned"),
];

const HOST_CALLS: [FromRow; 2] = [
    host_call("host call, native", "host-call-64/hotcell native, async/unpinned"),
    host_call("host call, wasm", "host-call-64/hotcell wasm, async/unpinned"),
];

const fn private_memory(promise: &'static str, id: &'static str) -> FromRow {
    let (bound, how) = (Bound::Megabytes(10), "most private memory");
    FromRow { promise, bound, id, count: (10, 2), how }
}

const fn host_call(promise: &'static str, id: &'static str) -> FromRow {
    let (bound, how) = (Bound::Milliseconds(50), "slowest round trip");
    FromRow { promise, bound, id, count: (2_000, 100), how }
}

impl FromRow {
    fn promise(&self, quick: bool, hosts: &Rc<Hosts>, packages: &Packages) -> Promise {
        let count = if quick { self.count.1 } else { self.count.0 };
        let figure = largest(isolated::entries(hosts, packages), self.id, count);
        Promise::new(self.promise, self.bound, figure, format!("{} of {count}", self.how))
    }
}

/// The largest of some samples of a row.
fn largest(entries: Vec<Entry>, id: &str, count: usize) -> Result<f64, Failure> {
    let entry = entries.into_iter().find(|entry| entry.id() == id);
    let entry = entry.ok_or_else(|| Failure::other(format!("there is no row {id}")))?;
    let mut samples = Samples::default();
    (entry.open)()?.sample(count, &mut samples)?;
    let largest = samples.largest().ok_or_else(|| Failure::other("no sample was taken"))?;
    Ok(largest as f64)
}

/// Plugins that are loaded and idle, half of them native.
const IDLE_PLUGINS: usize = 20;
const IDLE_TIME: Duration = Duration::from_secs(5);

/// Percent of one core that this process and everything that it started take while nobody calls.
fn idle(hosts: &Hosts, packages: &Packages, time: Duration) -> Result<f64, Failure> {
    let Driven { host, runtime } = hosts.one_thread()?;
    let packages = Image::ALL.map(|image| packages.ordinary(image));
    let mut plugins = Vec::new();
    for package in packages.iter().cycle().take(IDLE_PLUGINS) {
        plugins.push(runtime.block_on(host.load(package))?);
    }
    let mut processes = descendants(own_pid())?;
    processes.push(own_pid());
    cpu::percent_during(&processes, || {
        let start = Instant::now();
        runtime.block_on(async { tokio::time::sleep(time).await });
        Ok(start.elapsed())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::Runtimes;

    #[test]
    fn the_rows_that_promises_are_read_from_exist() {
        let hosts = Rc::new(Hosts::new(None, Rc::new(Runtimes::default())).expect("profiles are valid"));
        let packages = Packages { samples: "plugins".into(), own: "benches/plugins".into() };
        let ids: Vec<String> = isolated::entries(&hosts, &packages).iter().map(Entry::id).collect();
        for FromRow { id, .. } in START.iter().chain(&MEMORY).chain(&HOST_CALLS) {
            assert!(ids.iter().any(|known| known == id), "{id}");
        }
    }
}
