//! What an honest plugin's caller notices of another plugin of the same host that misbehaves as long as it can.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hotcell::blocking;

use super::promise::{Bound, Promise};
use crate::failure::Failure;
use crate::floor::{check_echo, message};
use crate::group::Group;
use crate::isolated::{Hosts, Image, Packages};
use crate::measure::Samples;

/// Promises, and the export of the crash lab that another thread calls again and again meanwhile.
const MISDEEDS: [(&str, &str); 6] = [
    ("neighbour loops", "spin"),
    ("neighbour crashes", "abort"),
    ("neighbour floods the host with calls", "host_call_bomb"),
    ("neighbour replies without measure", "giant_reply"),
    ("neighbour rings its bells without end", "bell_storm"),
    ("neighbour corrupts its rings", "wrong_cursor"),
];

/// How long one misdeed may go on.
const DEADLINE: Duration = Duration::from_millis(50);

/// Turns of each kind, undisturbed and disturbed, and calls of a turn; and those of a quick run.
const ROUNDS: (usize, usize) = (10, 2);
const CALLS: (usize, usize) = (10_000, 1_000);

/// The 99th percentile of a caller's times, against what it is when nobody misbehaves.
pub(super) fn promises(quick: bool, hosts: &Hosts, packages: &Packages) -> Vec<Promise> {
    let counts = if quick { (ROUNDS.1, CALLS.1) } else { (ROUNDS.0, CALLS.0) };
    let promise = |(promise, export)| {
        let (ratio, how) = match beside(hosts, packages, export, counts) {
            Ok(Beside { alone, disturbed }) => {
                let how = format!(
                    "p99 of {} calls of 64 bytes beside `{export}`: {} µs, alone {} µs",
                    counts.0 * counts.1,
                    disturbed / 1_000,
                    alone / 1_000
                );
                (Ok(disturbed as f64 / alone.max(1) as f64), how)
            }
            Err(failure) => (Err(failure), String::new()),
        };
        Promise::new(promise, Bound::Times(3), ratio, how)
    };
    MISDEEDS.into_iter().map(promise).collect()
}

/// Nanoseconds.
struct Beside {
    alone: u64,
    disturbed: u64,
}

fn beside(
    hosts: &Hosts,
    packages: &Packages,
    export: &str,
    (rounds, calls): (usize, usize),
) -> Result<Beside, Failure> {
    let host = hosts.blocking()?;
    let package = packages.echo(Group::Call, Image::Native);
    let (honest, hostile) = (host.load(&package)?, host.load(&package)?);
    let (mut alone, mut disturbed) = (Samples::default(), Samples::default());
    for _ in 0..rounds {
        echo(&honest, calls, &mut alone)?;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // However it ends.
                    let _ = hostile.call_within(DEADLINE, export, Vec::new());
                }
            });
            let echoed = echo(&honest, calls, &mut disturbed);
            stop.store(true, Ordering::Relaxed);
            echoed
        })?;
    }
    honest.unload();
    hostile.unload();
    let p99 = |samples: Samples| {
        samples.summary().map(|summary| summary.p99).ok_or_else(|| Failure::other("no sample was taken"))
    };
    Ok(Beside { alone: p99(alone)?, disturbed: p99(disturbed)? })
}

fn echo(plugin: &blocking::Plugin, calls: usize, samples: &mut Samples) -> Result<(), Failure> {
    let input = message(Group::Call.payload());
    for _ in 0..calls {
        let reply = samples.time(|| Ok(plugin.call_raw("ok", input.clone())?))?;
        check_echo(&input, &reply)?;
    }
    Ok(())
}
