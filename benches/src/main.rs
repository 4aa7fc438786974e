//! `hotcell-bench`: what a confined process costs, beside what this machine charges for any process.
//!
//! All figures of one report come from one run in interleaved rounds. It judges nothing: no time makes it fail.

#![deny(unsafe_code)]

mod args;
mod failure;
mod floor;
mod group;
mod in_process;
mod isolated;
mod machine;
mod measure;
mod memory;
mod peer;
mod placement;
mod report;
mod runtimes;
mod sys;

use std::process::ExitCode;
use std::rc::Rc;

use clap::Parser;

use args::Args;
use failure::Failure;
use isolated::Hosts;
use machine::Machine;
use measure::Entry;
use placement::Processors;
use report::Report;
use runtimes::Runtimes;

fn main() -> ExitCode {
    if peer::is_exit_asked() {
        return ExitCode::SUCCESS;
    }
    match peer::run_if_asked().and_then(|was_peer| if was_peer { Ok(()) } else { run(&Args::parse()) }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("hotcell-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let runtimes = Rc::new(Runtimes::default());
    let hosts = Rc::new(Hosts::new(args, Rc::clone(&runtimes)));
    let mut entries = floor::entries(&runtimes);
    entries.extend(in_process::entries(&args.plugins));
    entries.extend(isolated::entries(&hosts, args));
    let entries = select(entries, &args.filter);
    if entries.is_empty() {
        return Err(Failure::other("no row has an id that contains the filter; --list prints the ids"));
    }
    if args.list {
        for entry in &entries {
            println!("{}", id(entry));
        }
        return Ok(());
    }
    let report = measure(args, entries, &hosts)?;
    report.print();
    if let Some(path) = &args.json {
        report.write_json(path)?;
    }
    if let Some(path) = &args.markdown {
        report.write_markdown(path)?;
    }
    Ok(())
}

fn measure(args: &Args, entries: Vec<Entry>, hosts: &Hosts) -> Result<Report, Failure> {
    let processors = Processors::allowed()?;
    let machine = Machine::look(&processors, args.date.clone())?;
    let effort = args.effort();
    let rows = measure::run(entries, effort, &processors);
    let layers = hosts.close();
    Ok(Report { machine, rounds: effort.rounds, layers, rows })
}

fn id(entry: &Entry) -> String {
    format!("{}/{}/{}", entry.group.id(), entry.name, entry.placement.name())
}

/// The entries that a filter names, and the floors that they are compared with.
fn select(entries: Vec<Entry>, filter: &[String]) -> Vec<Entry> {
    let named = |entry: &Entry| filter.is_empty() || filter.iter().any(|text| id(entry).contains(text));
    let floors: Vec<_> = entries
        .iter()
        .filter(|entry| named(entry))
        .map(|entry| (entry.group, entry.placement, entry.floor))
        .collect();
    let is_floor = |entry: &Entry| floors.contains(&(entry.group, entry.placement, entry.name));
    entries.into_iter().filter(|entry| named(entry) || is_floor(entry)).collect()
}
