//! Many plugins loaded at once: `hotcell bench --many N`. Apart from the interleaved rounds, since nothing else could be
//! measured beside thousands of processes.
//!
//! All are the same plugin, loaded again and again, so they share one uid.

mod level;
mod limit;

use std::io::IsTerminal;

use serde::Serialize;

use crate::args::Bench;
use crate::failure::Failure;
use crate::group::Unit;
use crate::isolated::{Hosts, Image, Packages, Subject};
use crate::machine::Machine;
use crate::placement::Processors;
use crate::progress::Progress;
use crate::report::figure::{digits, number};
use crate::report::{json, make, print, table::Table, write_file};
use level::{Level, Loaded};

/// Where figures are taken on the way up, below the number that is asked for.
const LEVELS: [u32; 4] = [100, 1_000, 5_000, 10_000];

/// What was found, for programs.
#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    runs: Vec<Run>,
    /// Kinds that this machine has not enough descriptors for, in words.
    left_out: Vec<String>,
}

/// One plugin, loaded many times.
#[derive(Debug, Serialize)]
struct Run {
    image: &'static str,
    layers: String,
    levels: Vec<Level>,
    /// From the first worker's end to the last, and the launcher's.
    teardown_nanoseconds: u64,
}

/// Measures, prints, and writes the files that the command line names.
pub(crate) fn run(bench: &Bench, plugins: u32, hosts: &Hosts, packages: &Packages) -> Result<(), Failure> {
    let machine = Machine::look(&Processors::allowed()?, bench.date.clone())?;
    let (mut runs, mut left_out) = (Vec::new(), Vec::new());
    for image in Image::ALL {
        match limit::raise(image, plugins) {
            Ok(()) => runs.push(one(hosts, packages, image, plugins)?),
            Err(failure) => left_out.push(failure.to_string()),
        }
    }
    hosts.close();
    if runs.is_empty() {
        return Err(Failure::Usage(left_out.join("\n")));
    }
    let report = Report { machine, runs, left_out };
    print(bench, &report, || text(&report, std::io::stdout().is_terminal()))?;
    let Some(folder) = &bench.out else { return Ok(()) };
    write_file(&make(folder)?.join("many.json"), &json(&report)?)?;
    write_file(&folder.join("many.md"), &markdown(&report))
}

fn one(hosts: &Hosts, packages: &Packages, image: Image, plugins: u32) -> Result<Run, Failure> {
    let progress = Progress::new();
    let path = packages.ordinary(image);
    let mut loaded = Loaded::new(hosts, &Subject::ordinary(image, &path))?;
    let mut levels = Vec::new();
    for level in LEVELS.into_iter().filter(|level| *level < plugins).chain([plugins]) {
        progress.line(&format!("{} plugins, {}", level, image.name()));
        levels.push(loaded.rise_to(level)?);
    }
    let layers = loaded.layers().to_owned();
    Ok(Run { image: image.name(), layers, levels, teardown_nanoseconds: loaded.end() })
}

fn tables(report: &Report) -> impl Iterator<Item = Table> + '_ {
    report.runs.iter().map(Run::table)
}

impl Run {
    fn table(&self) -> Table {
        let head = [
            "plugins",
            "start",
            "p99",
            "call",
            "p99",
            "memory each",
            "host memory each",
            "system memory each",
            "idle CPU",
        ];
        let mut table = Table::new(format!("Many plugins at once: {}", self.image), &head);
        for level in &self.levels {
            let time = |time| number(time, Unit::Nanoseconds);
            table.push(vec![
                level.plugins.to_string(),
                time(level.start.median),
                time(level.start.p99),
                time(level.call.median),
                time(level.call.p99),
                number(level.memory_each, Unit::Bytes),
                number(level.host_memory_each, Unit::Bytes),
                number(level.system_memory_each, Unit::Bytes),
                format!("{} %", digits(level.idle_percent)),
            ]);
        }
        let teardown = number(self.teardown_nanoseconds, Unit::Nanoseconds);
        table.notes.push(format!("end of all of them and of their host: {teardown}"));
        table.notes.push(format!("layers: {}", self.layers));
        let each = self.levels.last().map_or(0.0, |level| level.descriptors_each);
        table.notes.push(format!("the host has {} descriptors open for each", digits(each)));
        table
    }
}

fn text(report: &Report, colour: bool) -> String {
    let mut text = format!("{}\n", report.machine.sentence());
    tables(report).for_each(|table| text.push_str(&format!("\n{}", table.text(colour))));
    report.left_out.iter().for_each(|reason| text.push_str(&format!("\nleft out: {reason}\n")));
    text
}

fn markdown(report: &Report) -> String {
    let about = "One package, started again and again by one host. \"start\" is of the last 100 starts of a level, \"call\" of \
                 64 bytes or less to a random plugin, \"memory each\" the private memory of its process, \"system memory each\" what the whole system has less of, \"idle CPU\" that \
                 of all processes together, of one core.";
    let sentence = report.machine.sentence();
    let mut text = format!(
        "# Many plugins at once\n\nWritten by `hotcell bench --many N --out`, measured on {sentence}. {about}\n"
    );
    tables(report).for_each(|table| text.push_str(&format!("\n{}", table.markdown())));
    report.left_out.iter().for_each(|reason| text.push_str(&format!("\nLeft out: {reason}.\n")));
    text
}
