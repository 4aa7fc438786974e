//! What one case measured, and the few figures that stand for it.

use std::time::{Duration, Instant};

use crate::failure::Failure;

/// Samples of one case, in its unit.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<u64>);

impl Samples {
    /// Keeps a time.
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(nanoseconds(time));
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

    /// Runs what does the same `times` times, and keeps the time of one of them.
    pub(crate) fn time_each(
        &mut self,
        times: usize,
        operation: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let start = Instant::now();
        operation()?;
        self.0.push(nanoseconds(start.elapsed()) / times.max(1) as u64);
        Ok(())
    }

    /// Takes over the samples of another.
    pub(crate) fn append(&mut self, mut other: Samples) {
        self.0.append(&mut other.0);
    }

    /// Count, median and 99th percentile, if there is any sample.
    pub(crate) fn summary(mut self) -> Option<Summary> {
        self.0.sort_unstable();
        let (median, p99) = (quantile(&self.0, 50)?, quantile(&self.0, 99)?);
        Some(Summary { samples: self.0.len(), median, p99 })
    }

    /// The largest sample.
    pub(crate) fn largest(&self) -> Option<u64> {
        self.0.iter().max().copied()
    }
}

/// The figures of one case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Summary {
    /// How many samples they are of.
    pub(crate) samples: usize,
    /// Half of the samples are not above it.
    pub(crate) median: u64,
    /// 99 of 100 samples are not above it; of fewer than 100 samples, the largest.
    pub(crate) p99: u64,
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Nearest rank: the smallest sample that `percent` of all are not above.
fn quantile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
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

    #[test]
    fn a_summary_does_not_need_sorted_samples() {
        let samples = Samples(vec![9, 1, 5]);
        assert_eq!(samples.largest(), Some(9));
        assert_eq!(samples.summary(), Some(Summary { samples: 3, median: 5, p99: 9 }));
        assert_eq!(Samples::default().summary(), None);
    }
}
