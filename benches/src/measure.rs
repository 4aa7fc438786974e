//! Interleaved rounds: every case takes its samples in turn, so that what disturbs the machine disturbs all alike.

use std::time::Duration;

use crate::failure::Failure;
use crate::group::Group;
use crate::placement::{Placement, Processors};
use crate::progress::Progress;
pub(crate) use crate::row::Kind;
use crate::row::{Outcome, Row, compare};
pub(crate) use crate::samples::Samples;

/// Something that can be measured again and again.
pub(crate) trait Case {
    /// Takes `count` samples.
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure>;

    /// Lets time pass in which nothing is called.
    fn pause(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    /// What confines its other end, in short.
    fn layers(&self) -> Option<String> {
        None
    }
}

/// A case that was opened, or why it could not be.
pub(crate) type Opened = Result<Box<dyn Case>, Failure>;

/// Starts whatever a case needs.
pub(crate) type Open = Box<dyn FnOnce() -> Opened>;

/// One row to be, before anything of it runs.
pub(crate) struct Entry {
    /// What the row is called.
    pub(crate) name: String,
    /// Whose it is.
    pub(crate) kind: Kind,
    /// What it belongs to.
    pub(crate) group: Group,
    /// Where it runs.
    pub(crate) placement: Placement,
    /// The row of the same group and placement that it is compared with.
    pub(crate) floor: &'static str,
    /// Samples of one round.
    pub(crate) count: usize,
    /// Starts whatever it needs.
    pub(crate) open: Open,
}

impl Entry {
    /// What a filter is matched with.
    pub(crate) fn id(&self) -> String {
        format!("{}/{}/{}", self.group.id(), self.name, self.placement.name())
    }
}

/// How long a caller of the sparse group sleeps before a call.
const SLEEP: Duration = Duration::from_micros(200);

/// A case whose caller sleeps before every sample, so that nothing is warm or awake any more.
struct Sparse(Box<dyn Case>);

impl Case for Sparse {
    fn sample(&mut self, count: usize, samples: &mut Samples) -> Result<(), Failure> {
        for _ in 0..count {
            self.0.pause(SLEEP);
            self.0.sample(1, samples)?;
        }
        Ok(())
    }

    fn layers(&self) -> Option<String> {
        self.0.layers()
    }
}

/// The same case with a sleep before every sample.
pub(crate) fn sparse(open: Open) -> Open {
    Box::new(|| Ok(Box::new(Sparse(open()?))))
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// How often each case gets its turn.
    pub(crate) rounds: usize,
    /// What the samples of a turn are multiplied with.
    pub(crate) factor: usize,
    /// What they are divided by.
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
    let progress = Progress::new();
    let total = entries.len();
    let mut running = Vec::with_capacity(total);
    for (index, entry) in entries.into_iter().enumerate() {
        progress.step(&format!("opening {} of {total}", index + 1));
        running.push(open(entry, effort));
    }
    for round in 1..=effort.rounds {
        progress.line(&format!("round {round} of {}", effort.rounds));
        for one in &mut running {
            one.take_turn(processors);
        }
    }
    let mut rows: Vec<Row> = running.into_iter().map(Running::finish).collect();
    compare(&mut rows);
    rows
}

fn open(entry: Entry, effort: Effort) -> Running {
    let Entry { name, kind, group, placement, floor, count, open } = entry;
    let result = Outcome::pending();
    let mut row = Row { name, kind, group, placement, unit: group.unit(), layers: None, floor, result };
    let case = open().inspect_err(|failure| row.result = Outcome::failed(failure)).ok();
    row.layers = case.as_ref().and_then(|case| case.layers());
    Running { row, case, samples: Samples::default(), count: (count * effort.factor / effort.divisor).max(1) }
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
            self.row.result = Outcome::of(self.samples);
        }
        self.row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct FailsSecondTime(bool);

    impl Case for FailsSecondTime {
        fn sample(&mut self, _: usize, samples: &mut Samples) -> Result<(), Failure> {
            samples.add_number(1);
            if std::mem::replace(&mut self.0, true) { Err(Failure::other("broke")) } else { Ok(()) }
        }

        fn layers(&self) -> Option<String> {
            Some("none".to_owned())
        }
    }

    #[test]
    fn a_case_that_fails_has_layers_and_no_figures() {
        let entry = Entry {
            name: "fails".to_owned(),
            kind: Kind::Floor,
            group: Group::Call,
            placement: Placement::Unpinned,
            floor: "floor",
            count: 1,
            open: sparse(Box::new(|| Ok(Box::new(FailsSecondTime(false))))),
        };
        let processors = Processors::allowed().expect("affinity is readable");
        let rows = run(vec![entry], Effort { rounds: 3, factor: 1, divisor: 1 }, &processors);
        let [Row { layers, result: Outcome::Failed { not_measured }, .. }] = rows.as_slice() else {
            unreachable!("one row without figures")
        };
        assert_eq!((layers.as_deref(), not_measured.as_str()), (Some("none"), "broke"));
    }
}
