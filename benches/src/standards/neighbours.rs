//! What an honest plugin's caller notices of another plugin of the same host that misbehaves as long as it can.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hotcell::{CallError, Class, blocking};
use rustix::time::{ClockId, clock_gettime};

use super::promise::{Bound, Promise};
use crate::failure::Failure;
use crate::floor::{check_echo, message};
use crate::group::Group;
use crate::isolated::{Hosts, Image, Packages};
use crate::measure::Samples;
use crate::placement::{Placement, Processors};

/// What another thread has a plugin do again and again meanwhile.
struct Misdeed {
    promise: &'static str,
    /// Which plugin does it, by the group whose package it is.
    group: Group,
    export: &'static str,
    input: fn() -> Vec<u8>,
    /// How each call must end, or the misdeed was not what it says; without a class, with a reply.
    ends: Option<Class>,
}

const MISDEEDS: [Misdeed; 6] = [
    misdeed("neighbour loops", "spin", Some(Class::Deadline)),
    misdeed("neighbour crashes", "abort", Some(Class::Crashed)),
    Misdeed {
        group: Group::HostCall,
        input: || HOST_CALLS.to_le_bytes().to_vec(),
        ..misdeed("neighbour floods the host with calls", "ask", None)
    },
    Misdeed {
        input: || message(Group::SixteenMebibytes.payload()),
        ..misdeed("neighbour replies with 16 MiB each time", "ok", None)
    },
    misdeed("neighbour rings its bells without end", "bell_storm", Some(Class::Deadline)),
    misdeed("neighbour corrupts its rings", "wrong_cursor", Some(Class::Protocol)),
];

const fn misdeed(promise: &'static str, export: &'static str, ends: Option<Class>) -> Misdeed {
    Misdeed { promise, group: Group::Call, export, input: Vec::new, ends }
}

/// Host calls of one flooding call, each answered.
const HOST_CALLS: u32 = 4_000;

/// How long a misdeed goes on that only its deadline ends, and how long the others may take.
const DEADLINE: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(5);

/// A disturbed turn lasts until so many misdeeds have ended.
const MISDEEDS_PER_TURN: u32 = 4;

/// How long a turn waits for them.
const PATIENCE: Duration = Duration::from_secs(20);

/// Turns of each kind, undisturbed and disturbed, and calls of a turn at least; and those of a quick run.
const ROUNDS: (usize, usize) = (10, 2);
const CALLS: (usize, usize) = (10_000, 1_000);

/// The 99th percentile of a caller's times, against what it is when nobody misbehaves.
pub(super) fn promises(quick: bool, hosts: &Hosts, packages: &Packages) -> Vec<Promise> {
    let counts = if quick { (ROUNDS.1, CALLS.1) } else { (ROUNDS.0, CALLS.0) };
    let promise = |misdeed: &Misdeed| {
        let (ratio, how) = match beside(hosts, packages, misdeed, counts) {
            Ok(Beside { alone, disturbed, misdeeds, calls }) => {
                let how = format!(
                    "p99 of {calls} calls of 64 bytes beside {misdeeds} times `{}`: {} µs, alone {} µs",
                    misdeed.export,
                    disturbed / 1_000,
                    alone / 1_000
                );
                (Ok(disturbed as f64 / alone.max(1) as f64), how)
            }
            Err(failure) => (Err(failure), String::new()),
        };
        Promise::new(misdeed.promise, Bound::Times(3), ratio, how)
    };
    MISDEEDS.iter().map(promise).collect()
}

/// Plugins that loop at once, on the processor of a host that has work of its own.
const LOOPING: usize = 4;

/// How long they and the host have it, and in a quick run; and how long after their calls each of them loops for sure.
const SHARED: (Duration, Duration) = (Duration::from_secs(3), Duration::from_millis(500));
const UNTIL_ALL_LOOP: Duration = Duration::from_millis(500);

/// Percent of one processor that a busy thread of the host keeps while plugins loop on the same one.
pub(super) fn share_of_host(quick: bool, hosts: &Hosts, packages: &Packages) -> Promise {
    let time = if quick { SHARED.1 } else { SHARED.0 };
    let how =
        format!("a thread of the host and {LOOPING} plugins that loop, bound to one processor for {time:?}");
    Promise::new("host beside loops", Bound::PercentAbove(40), share(hosts, packages, time), how)
}

fn share(hosts: &Hosts, packages: &Packages, time: Duration) -> Result<f64, Failure> {
    let host = hosts.blocking()?;
    let load = |_| Ok(host.load(packages.echo(Group::Call, Image::Native))?);
    let looping = (0..LOOPING).map(load).collect::<Result<Vec<_>, Failure>>()?;
    let processors = Processors::allowed()?;
    std::thread::scope(|scope| {
        let calls: Vec<_> = looping
            .iter()
            .map(|plugin| scope.spawn(|| plugin.call_within(UNTIL_ALL_LOOP + time * 2, "spin", Vec::new())))
            .collect();
        std::thread::sleep(UNTIL_ALL_LOOP);
        processors.place(Placement::OneCore)?;
        let (start, before) = (Instant::now(), thread_time());
        while start.elapsed() < time {}
        let (passed, took) = (start.elapsed(), thread_time().saturating_sub(before));
        processors.place(Placement::Unpinned)?;
        let ended = calls.into_iter().map(|call| call.join().ok().and_then(Result::err));
        let looped =
            ended.filter(|end| end.as_ref().is_some_and(|end| end.class() == Class::Deadline)).count();
        if looped < LOOPING {
            return Err(Failure::other(format!("{looped} of {LOOPING} plugins looped to their deadline")));
        }
        Ok(took.as_secs_f64() / passed.as_secs_f64() * 100.0)
    })
}

/// Processor time of the calling thread so far.
fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// Percentiles in nanoseconds, and how often what was done meanwhile.
struct Beside {
    alone: u64,
    disturbed: u64,
    misdeeds: u32,
    calls: usize,
}

fn beside(
    hosts: &Hosts,
    packages: &Packages,
    misdeed: &Misdeed,
    (rounds, calls): (usize, usize),
) -> Result<Beside, Failure> {
    let host = hosts.blocking()?;
    let honest = host.load(packages.echo(Group::Call, Image::Native))?;
    let hostile = host.load(packages.echo(misdeed.group, Image::Native))?;
    let (mut alone, mut disturbed, mut misdeeds) = (Samples::default(), Samples::default(), 0);
    for _ in 0..rounds {
        for _ in 0..calls {
            echo(&honest, &mut alone)?;
        }
        misdeeds += disturbed_turn(&honest, &hostile, misdeed, calls, &mut disturbed)?;
    }
    honest.unload();
    hostile.unload();
    let summary = |samples: Samples| samples.summary().ok_or_else(|| Failure::other("no sample was taken"));
    let (alone, disturbed) = (summary(alone)?, summary(disturbed)?);
    Ok(Beside { alone: alone.p99, disturbed: disturbed.p99, misdeeds, calls: disturbed.samples })
}

/// Times the honest plugin's calls while the other one is called. Returns how often the other one misbehaved.
fn disturbed_turn(
    honest: &blocking::Plugin,
    hostile: &blocking::Plugin,
    misdeed: &Misdeed,
    calls: usize,
    samples: &mut Samples,
) -> Result<u32, Failure> {
    let (stop, done) = (AtomicBool::new(false), AtomicU32::new(0));
    let start = Instant::now();
    let within = if misdeed.ends == Some(Class::Deadline) { DEADLINE } else { LONG };
    std::thread::scope(|scope| {
        let misbehaving = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                check_end(misdeed, &hostile.call_within(within, misdeed.export, (misdeed.input)()))?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let mut echoed = Ok(());
        let mut left = calls;
        let goes_on = |left| left > 0 || done.load(Ordering::Relaxed) < MISDEEDS_PER_TURN;
        while echoed.is_ok() && goes_on(left) && start.elapsed() < PATIENCE {
            echoed = echo(honest, samples);
            left = left.saturating_sub(1);
        }
        stop.store(true, Ordering::Relaxed);
        let misbehaved = misbehaving.join().unwrap_or_else(|_| Err(Failure::other("a thread panicked")));
        echoed.and(misbehaved)
    })?;
    Ok(done.into_inner())
}

/// That the plugin did what it was called for.
fn check_end(misdeed: &Misdeed, ended: &Result<Vec<u8>, CallError>) -> Result<(), Failure> {
    let class = ended.as_ref().err().map(CallError::class);
    if class == misdeed.ends {
        return Ok(());
    }
    let how = ended.as_ref().err().map_or_else(|| "a reply".to_owned(), ToString::to_string);
    Err(Failure::other(format!("`{}` ended with {how}", misdeed.export)))
}

fn echo(plugin: &blocking::Plugin, samples: &mut Samples) -> Result<(), Failure> {
    let input = message(Group::Call.payload());
    let reply = samples.time(|| Ok(plugin.call_raw("ok", input.clone())?))?;
    check_echo(&input, &reply)
}
