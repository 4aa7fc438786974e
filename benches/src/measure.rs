//! Interleaved rounds: every case takes its samples in turn, so that what disturbs the machine disturbs all alike.

use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::group::{Group, Unit};
use crate::placement::{Placement, Processors};

/// Samples of one case, in its unit.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<u64>);

impl Samples {
    /// Keeps a time.
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Keeps a number.
    pub(crate) fn add_number(&mut self, number: u64) {
        self.0.push(number);
    }

    /// Runs an operation and keeps its time, if it succeeds.
    pub(crate) fn time<T>(&mut self, operation: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        let start = Instant::now();
        let result = operation()?;
        self.add(start.elapsed());
        Ok(result)
    }

    /// Takes over the samples of another.
    pub(crate) fn append(&mut self, mut other: Samples) {
        self.0.append(&mut other.0);
    }

    fn sorted(mut self) -> Vec<u64> {
        self.0.sort_unstable();
        self.0
    }
}

/// Something that can be measured again and again.
pub(crate) trait Case {
    /// Takes `count` samples.
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure>;
}

/// A case that was opened, or why it could not be.
pub(crate) type Opened = Result<Box<dyn Case>, Failure>;

/// One row to be, before anything of it runs.
pub(crate) struct Entry {
    /// What the row is called.
    pub(crate) name: &'static str,
    /// What it belongs to.
    pub(crate) group: Group,
    /// Where it runs.
    pub(crate) placement: Placement,
    /// The row of the same group and placement that it is compared with.
    pub(crate) floor: &'static str,
    /// Samples of one round.
    pub(crate) count: usize,
    /// Starts whatever it needs.
    pub(crate) open: Box<dyn FnOnce() -> Opened>,
}

/// One row.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) group: Group,
    pub(crate) placement: Placement,
    pub(crate) unit: Unit,
    pub(crate) floor: &'static str,
    #[serde(flatten)]
    pub(crate) result: Outcome,
}

/// What came of a row.
#[derive(Debug, serde::Serialize)]
#[serde(untagged)]
pub(crate) enum Outcome {
    /// Figures.
    Measured {
        /// How many samples the figures are of.
        samples: usize,
        /// Half of the samples are not above it.
        median: u64,
        /// 99 of 100 samples are not above it; of fewer than 100 samples, the largest.
        p99: u64,
        /// Median through the floor's median, if the floor was measured.
        ratio: Option<f64>,
    },
    /// No figures.
    Failed {
        /// Why, in words.
        not_measured: String,
    },
}

impl Outcome {
    /// The median, if there is one.
    pub(crate) fn median(&self) -> Option<u64> {
        match self {
            Outcome::Measured { median, .. } => Some(*median),
            Outcome::Failed { .. } => None,
        }
    }

    fn pending() -> Outcome {
        Outcome::Failed { not_measured: "no sample was taken".to_owned() }
    }

    fn failed(failure: &Failure) -> Outcome {
        Outcome::Failed { not_measured: failure.to_string() }
    }
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// How often each case gets its turn.
    pub(crate) rounds: usize,
    /// What the samples of a turn are divided by.
    pub(crate) divisor: usize,
}

/// Operations before the samples of each turn, which no figure contains: caches and branch predictors are those of others.
const WARM_UP_DIVISOR: usize = 10;

struct Running {
    row: Row,
    case: Option<Box<dyn Case>>,
    samples: Samples,
    count: usize,
}

/// Opens all entries and takes their samples in rounds.
pub(crate) fn run(entries: Vec<Entry>, effort: Effort, processors: &Processors) -> Vec<Row> {
    let mut running: Vec<Running> = entries.into_iter().map(|entry| open(entry, effort)).collect();
    for round in 1..=effort.rounds {
        eprintln!("round {round} of {}", effort.rounds);
        for one in &mut running {
            one.take_turn(processors);
        }
    }
    let mut rows: Vec<Row> = running.into_iter().map(Running::finish).collect();
    compare(&mut rows);
    rows
}

fn open(entry: Entry, effort: Effort) -> Running {
    let Entry { name, group, placement, floor, count, open } = entry;
    let mut row = Row { name, group, placement, unit: group.unit(), floor, result: Outcome::pending() };
    let case = open().inspect_err(|failure| row.result = Outcome::failed(failure)).ok();
    Running { row, case, samples: Samples::default(), count: (count / effort.divisor).max(1) }
}

impl Running {
    /// Takes the samples of one round; the first failure is the last turn.
    fn take_turn(&mut self, processors: &Processors) {
        let Some(case) = &mut self.case else { return };
        let warm_up = self.count / WARM_UP_DIVISOR;
        let result = processors
            .place(self.row.placement)
            .and_then(|()| case.sample(warm_up, &mut Samples::default()))
            .and_then(|()| case.sample(self.count, &mut self.samples));
        if let Err(failure) = result {
            self.row.result = Outcome::failed(&failure);
            self.case = None;
        }
    }

    fn finish(mut self) -> Row {
        if self.case.take().is_some() {
            self.row.result = summary(self.samples);
        }
        self.row
    }
}

fn summary(samples: Samples) -> Outcome {
    let sorted = samples.sorted();
    match (quantile(&sorted, 50), quantile(&sorted, 99)) {
        (Some(median), Some(p99)) => Outcome::Measured { samples: sorted.len(), median, p99, ratio: None },
        _ => Outcome::pending(),
    }
}

/// Nearest rank: the smallest sample that `percent` of all are not above.
fn quantile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

/// Fills in the ratio of each row to its floor.
fn compare(rows: &mut [Row]) {
    let medians: Vec<_> =
        rows.iter().map(|row| (row.group, row.placement, row.name, row.result.median())).collect();
    for row in rows {
        let floor = medians.iter().find(|(group, placement, name, _)| {
            (*group, *placement, *name) == (row.group, row.placement, row.floor)
        });
        if let (Outcome::Measured { median, ratio, .. }, Some((.., Some(floor)))) = (&mut row.result, floor) {
            *ratio = (*floor > 0).then(|| *median as f64 / *floor as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_sample() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(quantile(&hundred, 50), Some(50));
        assert_eq!(quantile(&hundred, 99), Some(99));
        assert_eq!(quantile(&[7], 50), Some(7));
        assert_eq!(quantile(&[7, 9], 99), Some(9));
        assert_eq!(quantile(&[], 50), None);
    }

    fn row(name: &'static str, placement: Placement, median: u64) -> Row {
        let result = Outcome::Measured { samples: 1, median, p99: median, ratio: None };
        Row { name, group: Group::Call, placement, unit: Unit::Nanoseconds, floor: "floor", result }
    }

    fn ratio(row: &Row) -> Option<f64> {
        match row.result {
            Outcome::Measured { ratio, .. } => ratio,
            Outcome::Failed { .. } => None,
        }
    }

    #[test]
    fn a_ratio_is_to_the_floor_of_the_same_placement() {
        let mut rows = vec![
            row("floor", Placement::OneCore, 10),
            row("floor", Placement::Unpinned, 100),
            row("other", Placement::OneCore, 25),
            row("other", Placement::Unpinned, 50),
        ];
        compare(&mut rows);
        assert_eq!(rows.iter().map(ratio).collect::<Vec<_>>(), [Some(1.0), Some(1.0), Some(2.5), Some(0.5)]);
    }

    #[test]
    fn without_a_floor_there_is_no_ratio() {
        let mut rows = vec![row("other", Placement::OneCore, 25)];
        compare(&mut rows);
        assert_eq!(ratio(&rows.remove(0)), None);
    }

    struct FailsSecondTime(bool);

    impl Case for FailsSecondTime {
        fn sample(&mut self, _: usize, samples: &mut Samples) -> Result<(), Failure> {
            samples.add_number(1);
            if std::mem::replace(&mut self.0, true) { Err(Failure::other("broke")) } else { Ok(()) }
        }
    }

    #[test]
    fn a_case_that_fails_has_no_figures() {
        let entry = Entry {
            name: "fails",
            group: Group::Call,
            placement: Placement::Unpinned,
            floor: "floor",
            count: 1,
            open: Box::new(|| Ok(Box::new(FailsSecondTime(false)))),
        };
        let processors = Processors::allowed().expect("affinity is readable");
        let rows = run(vec![entry], Effort { rounds: 3, divisor: 1 }, &processors);
        let reasons: Vec<_> = rows
            .iter()
            .map(|row| match &row.result {
                Outcome::Failed { not_measured } => not_measured.as_str(),
                Outcome::Measured { .. } => "measured",
            })
            .collect();
        assert_eq!(reasons, ["broke"]);
    }
}
