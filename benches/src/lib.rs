//! What a confined process costs, beside what this machine charges for any process and beside what a user would pick
//! instead: the subcommand `hotcell bench`.
//!
//! All figures of one report come from one run in interleaved rounds. It judges nothing, but for `--standards`.

#![deny(unsafe_code)]

mod args;
mod cpu;
mod failure;
mod floor;
mod group;
mod isolated;
mod machine;
mod many;
mod measure;
mod memory;
mod other_end;
mod peers;
mod placement;
mod progress;
mod report;
mod row;
mod runtimes;
mod samples;
mod standards;
mod stress;
mod sys;

use std::path::PathBuf;
use std::rc::Rc;

pub use args::Bench;
pub use failure::Failure;
pub use other_end::serve_if_asked;
pub use stress::{Stress, stress};

use isolated::{Hosts, Packages};
use machine::Machine;
use measure::Entry;
use peers::Peers;
use placement::Processors;
use report::Report;
use runtimes::Runtimes;

/// Whether hotcell kept what it promises; true where that was not asked.
pub type Kept = bool;

/// Runs the subcommand. `worker_dir` is the folder of hotcell's programs, if it is not beside this one.
///
/// # Errors
/// What was asked for cannot be measured at all, or a report cannot be written. A single row that cannot be measured is
/// no error: the report says why.
pub fn run(bench: &Bench, worker_dir: Option<PathBuf>) -> Result<Kept, Failure> {
    let runtimes = Rc::new(Runtimes::default());
    let hosts = Rc::new(Hosts::new(worker_dir, Rc::clone(&runtimes))?);
    let packages = Packages { samples: bench.plugins.clone(), own: bench.bench_plugins.clone() };
    if bench.standards {
        return standards::run(bench, &hosts, &packages);
    }
    if let Some(plugins) = bench.many {
        return many::run(bench, plugins, &hosts, &packages).map(|()| true);
    }
    let processors = Processors::allowed()?;
    let peers = bench.peers.as_deref().map(|program| Peers::start(program, &processors)).transpose()?;
    let mut entries = floor::entries(&runtimes);
    entries.extend(peers.iter().flat_map(Peers::entries));
    entries.extend(isolated::entries(&hosts, &packages));
    let entries = select(entries, bench, processors.count())?;
    if bench.list {
        entries.iter().for_each(|entry| println!("{}", entry.id()));
        return Ok(true);
    }
    let machine = Machine::look(&processors, bench.date.clone())?;
    let effort = bench.effort();
    let rows = measure::run(entries, effort, &processors);
    let legend = peers.as_ref().map(Peers::legend).unwrap_or_default();
    Report { machine, rounds: effort.rounds, legend, layers: hosts.close(), rows }.write(bench)?;
    Ok(true)
}

/// The entries that a filter names, and those that they are compared with.
fn select(
    entries: Vec<Entry>,
    Bench { filter, alone, .. }: &Bench,
    cores: u32,
) -> Result<Vec<Entry>, Failure> {
    let named = |entry: &Entry| {
        let id = entry.id();
        filter.is_empty() || filter.iter().any(|text| id.contains(text))
    };
    let fits = |entry: &Entry| cores > 1 || entry.placement != placement::Placement::TwoCores;
    let wanted: Vec<_> = entries
        .iter()
        .filter(|entry| named(entry) && fits(entry))
        .map(|entry| (entry.group, entry.placement, entry.floor))
        .collect();
    if wanted.is_empty() {
        return Err(Failure::Usage("no row has an id with this text; --list prints all ids".to_owned()));
    }
    let compared = |entry: &Entry| {
        !alone
            && wanted.iter().any(|(group, placement, floor)| {
                let name = entry.name.as_str();
                (entry.group, entry.placement) == (*group, *placement)
                    && [floor, peers::EXTISM, peers::GRPC].contains(&name)
            })
    };
    Ok(entries.into_iter().filter(|entry| fits(entry) && (named(entry) || compared(entry))).collect())
}
