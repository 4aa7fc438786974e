//! What storms came to, for people and for programs.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Stress;
use super::footprint::Footprint;
use super::load::Seen;
use crate::failure::Failure;
use crate::group::Unit;
use crate::machine::Machine;
use crate::placement::Processors;
use crate::report::figure::number;
use crate::report::table::Table;
use crate::report::{json, write_file};
use crate::samples::{Samples, Summary};

/// The longest bar of a histogram.
const BAR: u64 = 40;

/// All storms of one run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    seed: u64,
    storms: Vec<Storm>,
}

/// One storm on one kind of plugin.
#[derive(Debug, Serialize)]
pub(super) struct Storm {
    kind: &'static str,
    name: &'static str,
    /// Calls that were replied to.
    calls: u64,
    times: Vec<Times>,
    /// What should not have been, in words.
    faults: Vec<String>,
    before: Option<Footprint>,
    after: Option<Footprint>,
}

/// Times of one kind.
#[derive(Debug, Serialize)]
pub(super) struct Times {
    what: &'static str,
    summary: Option<Summary>,
    largest: u64,
    /// How many took up to so many microseconds, by powers of two.
    histogram: Vec<(u64, u64)>,
    #[serde(skip)]
    all: Vec<Duration>,
}

impl Times {
    pub(super) fn new(what: &'static str) -> Times {
        Times::of(what, Vec::new())
    }

    pub(super) fn of(what: &'static str, all: Vec<Duration>) -> Times {
        Times { what, summary: None, largest: 0, histogram: Vec::new(), all }
    }

    /// Keeps how long something took that went well.
    pub(super) async fn time<T, E>(&mut self, act: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let begin = Instant::now();
        let result = act.await?;
        self.all.push(begin.elapsed());
        Ok(result)
    }

    fn closed(mut self) -> Times {
        let mut samples = Samples::default();
        self.all.iter().for_each(|time| samples.add(*time));
        self.largest = samples.largest().unwrap_or(0);
        self.summary = samples.summary();
        // Millions of them would show in the footprint.
        for time in std::mem::take(&mut self.all) {
            let most = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1).next_power_of_two();
            match self.histogram.iter_mut().find(|(bound, _)| *bound == most) {
                Some((_, count)) => *count += 1,
                None => self.histogram.push((most, 1)),
            }
        }
        self.histogram.sort_unstable();
        self
    }
}

impl Storm {
    pub(super) fn new(kind: &'static str, name: &'static str) -> Storm {
        Storm { kind, name, calls: 0, times: Vec::new(), faults: Vec::new(), before: None, after: None }
    }

    /// That a figure is what it must be.
    pub(super) fn must_be<T: PartialEq + std::fmt::Display>(&mut self, what: &str, is: T, wanted: T) {
        if is != wanted {
            self.faults.push(format!("{what}: {is}, and not {wanted}"));
        }
    }

    /// Judges calls of a plugin that counted each of them once, from 1.
    pub(super) fn judge_counted(&mut self, mut seen: Seen) {
        let calls = seen.counts.len();
        seen.counts.sort_unstable();
        let last = seen.counts.last().copied().unwrap_or(0);
        self.must_be("calls that the plugin counted", u64::from(last), calls as u64);
        let twice = seen.counts.windows(2).filter(|pair| pair.first() == pair.last()).count();
        self.must_be("calls counted twice", twice, 0);
        self.must_be("calls that ended as crashed", seen.crashed, 0);
        self.judge_replied(seen);
    }

    /// Judges calls of which none may fail but as crashed.
    pub(super) fn judge_replied(&mut self, seen: Seen) {
        self.calls = seen.counts.len() as u64;
        let failed = seen.failed.len();
        if let Some(first) = seen.failed.first() {
            self.faults.push(format!("{failed} calls failed, the first so: {first}"));
        }
        let times = seen.times.into_iter().map(|time| Duration::from_nanos(time.into()));
        self.times.push(Times::of("call", times.collect()).closed());
    }

    /// Keeps what else was timed, and judges what is left behind.
    pub(super) fn end(&mut self, times: Vec<Times>, before: Footprint) {
        self.times.extend(times.into_iter().map(Times::closed));
        let after = before.settled();
        if !before.covers(&after) {
            self.faults.push(format!("left behind: {before:?} became {after:?}"));
        }
        (self.before, self.after) = (Some(before), Some(after));
    }
}

impl Report {
    pub(super) fn new(seed: u64, storms: Vec<Storm>) -> Report {
        Report { seed, storms }
    }

    /// Whether everything is as it must be.
    pub(super) fn holds(&self) -> bool {
        self.storms.iter().all(|storm| storm.faults.is_empty())
    }

    pub(super) fn write(&self, stress: &Stress) -> Result<(), Failure> {
        match stress.json {
            true => println!("{}", json(self)?),
            false => println!("{}", self.text(std::io::stdout().is_terminal())?),
        }
        let Some(file) = &stress.save else { return Ok(()) };
        let is_json = file.extension().is_some_and(|extension| extension == "json");
        write_file(file, &if is_json { json(self)? } else { self.text(false)? })
    }

    fn text(&self, colour: bool) -> Result<String, Failure> {
        let machine = Machine::look(&Processors::allowed()?, None)?;
        let mut text = format!("{}, seed {}\n", machine.sentence(), self.seed);
        let head = ["storm", "times of", "count", "median", "p99", "largest"];
        let mut table = Table::new("Storms", &head);
        for storm in &self.storms {
            for Times { what, summary, largest, .. } in &storm.times {
                let Some(Summary { samples, median, p99 }) = summary else { continue };
                let time = |time| number(time, Unit::Nanoseconds);
                let name = format!("{} {}", storm.kind, storm.name);
                let figures = [*median, *p99, *largest].map(time);
                table.push([vec![name, (*what).to_owned(), samples.to_string()], figures.to_vec()].concat());
            }
        }
        text.push_str(&format!("\n{}", table.text(colour)));
        for storm in &self.storms {
            for times in storm.times.iter().filter(|times| times.what != "call") {
                text.push_str(&format!("\n{} {}: {}\n", storm.kind, storm.name, times.what));
                text.push_str(&bars(&times.histogram));
            }
        }
        for storm in &self.storms {
            let faults =
                storm.faults.iter().map(|fault| format!("\nFAIL {} {}: {fault}", storm.kind, storm.name));
            text.extend(faults);
        }
        if self.holds() {
            let calls: u64 = self.storms.iter().map(|storm| storm.calls).sum();
            let what =
                "none was lost, doubled or failed but those that a crash cut off, and nothing is left behind";
            text.push_str(&format!("\n{calls} calls were replied to; {what}."));
        }
        Ok(text)
    }
}

fn bars(histogram: &[(u64, u64)]) -> String {
    let most = histogram.iter().map(|(_, count)| *count).max().unwrap_or(1);
    let line = |(bound, count): &(u64, u64)| {
        let bar = "#".repeat(usize::try_from((count * BAR).div_ceil(most)).unwrap_or(0));
        let bound = number(bound.saturating_mul(1000), Unit::Nanoseconds);
        format!("  up to {bound:>8}  {count:>6}  {bar}\n")
    };
    histogram.iter().map(line).collect()
}
