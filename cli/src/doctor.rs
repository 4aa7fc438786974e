//! `hotcell doctor`: what this machine can enforce.

use std::io::IsTerminal;
use std::process::ExitCode;

use hotcell::{Doctor as Report, Layer, LayerStatus, ProfileStatus, Surrounding};

use crate::args::Doctor;
use crate::outcome::Outcome;

/// The report's own verdict is not an error of the command: it exits 0 even where nothing can start.
pub(crate) fn doctor(arguments: &Doctor) -> ExitCode {
    let report = match hotcell::doctor() {
        Ok(report) => report,
        Err(error) => return Outcome::from(error).report(),
    };
    if !arguments.json {
        print(&report);
        return ExitCode::SUCCESS;
    }
    match serde_json::to_string_pretty(&report) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => Outcome::internal(format!("failed to write the report: {error}")).report(),
    }
}

fn print(report: &Report) {
    let (major, minor) = report.kernel;
    println!("Linux {major}.{minor} on {}\n", report.arch);
    println!("layers");
    report.layers.iter().for_each(print_layer);
    if !report.surroundings.is_empty() {
        println!("\nsurroundings");
        report.surroundings.iter().for_each(print_surrounding);
    }
    println!("\nshipped profiles");
    report.profiles.iter().for_each(print_profile);
}

fn print_layer(layer: &Layer) {
    let status = match layer.status {
        LayerStatus::Present => paint("present ", GREEN),
        LayerStatus::Partial => paint("partial ", YELLOW),
        LayerStatus::Absent => paint("absent  ", RED),
        LayerStatus::NotUsed => paint("not used", YELLOW),
    };
    println!("  {status}  {:<18} {}", layer.name, layer.detail);
    if layer.status != LayerStatus::Present {
        println!("{:30} needs {}", "", layer.since);
        println!("{:30} to do: {}", "", layer.advice);
    }
}

fn print_surrounding(surrounding: &Surrounding) {
    println!("  {}: {}", surrounding.name, surrounding.found);
    println!("{:16}where a layer is missing: {}", "", surrounding.advice);
}

fn print_profile(profile: &ProfileStatus) {
    match &profile.problem {
        None => println!("  {}  {}", paint("can start   ", GREEN), profile.name),
        Some(problem) => {
            println!("  {}  {}", paint("cannot start", RED), profile.name);
            problem.lines().for_each(|line| println!("{:16}{line}", ""));
        }
    }
}

const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";

fn paint(text: &str, colour: &str) -> String {
    if std::io::stdout().is_terminal() { format!("{colour}{text}\x1b[0m") } else { text.to_owned() }
}
