//! One promise: its bound, what hotcell did, and the verdict.

use serde::Serialize;

use crate::failure::Failure;
use crate::group::Unit;
use crate::report::figure::{digits, number};

/// What a figure has to stay below or above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// Less time; figures are nanoseconds.
    Milliseconds(u64),
    /// Less memory; figures are bytes.
    Megabytes(u64),
    /// Fewer percent.
    PercentBelow(u64),
    /// More percent.
    PercentAbove(u64),
    /// Fewer times as much.
    Times(u64),
}

impl Bound {
    fn is_kept(self, figure: f64) -> bool {
        match self {
            Bound::Milliseconds(most) => figure < most as f64 * 1e6,
            Bound::Megabytes(most) => figure < most as f64 * 1e6,
            Bound::PercentBelow(most) | Bound::Times(most) => figure < most as f64,
            Bound::PercentAbove(least) => figure > least as f64,
        }
    }

    fn text(self) -> String {
        match self {
            Bound::Milliseconds(most) if most >= 1_000 => format!("< {} s", most / 1_000),
            Bound::Milliseconds(most) => format!("< {most} ms"),
            Bound::Megabytes(most) => format!("< {most} MB"),
            Bound::PercentBelow(most) => format!("< {most} %"),
            Bound::PercentAbove(least) => format!("> {least} %"),
            Bound::Times(most) => format!("< {most} x"),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "figures are counts, not negative"
    )]
    fn figure(self, figure: f64) -> String {
        match self {
            Bound::Milliseconds(_) => number(figure as u64, Unit::Nanoseconds),
            Bound::Megabytes(_) => number(figure as u64, Unit::Bytes),
            Bound::PercentBelow(_) | Bound::PercentAbove(_) => format!("{} %", digits(figure)),
            Bound::Times(_) => format!("{} x", digits(figure)),
        }
    }
}

/// What came of a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Pass,
    Fail,
}

/// One promise.
#[derive(Debug, Serialize)]
pub(super) struct Promise {
    promise: &'static str,
    bound: String,
    /// hotcell's figure in words, or why there is none.
    hotcell: String,
    /// The same for programs: nanoseconds, bytes, percent or a ratio.
    figure: Option<f64>,
    verdict: Verdict,
    /// How the figure came about.
    how: String,
}

impl Promise {
    /// A promise that cannot be measured is not kept.
    pub(super) fn new(
        promise: &'static str,
        bound: Bound,
        figure: Result<f64, Failure>,
        how: impl Into<String>,
    ) -> Promise {
        let (text, figure) = match figure {
            Ok(figure) => (bound.figure(figure), Some(figure)),
            Err(failure) => (format!("not measured: {failure}"), None),
        };
        let kept = figure.is_some_and(|figure| bound.is_kept(figure));
        let verdict = if kept { Verdict::Pass } else { Verdict::Fail };
        Promise { promise, bound: bound.text(), hotcell: text, figure, verdict, how: how.into() }
    }

    pub(super) fn is_kept(&self) -> bool {
        self.verdict == Verdict::Pass
    }

    /// One row of the table.
    pub(super) fn cells(&self) -> Vec<String> {
        let verdict = match self.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail => "FAIL",
        };
        vec![
            self.promise.to_owned(),
            self.bound.clone(),
            self.hotcell.clone(),
            verdict.to_owned(),
            self.how.clone(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_not_part_of_what_is_allowed() {
        assert!(Bound::Milliseconds(50).is_kept(49_999_999.0));
        assert!(!Bound::Milliseconds(50).is_kept(50_000_000.0));
        assert!(Bound::Megabytes(10).is_kept(9_999_999.0));
        assert!(!Bound::Megabytes(10).is_kept(10_000_000.0));
        assert!(!Bound::PercentBelow(5).is_kept(5.0));
        assert!(Bound::PercentAbove(99).is_kept(100.0));
        assert!(!Bound::PercentAbove(99).is_kept(99.0));
    }

    #[test]
    fn what_cannot_be_measured_is_not_kept() {
        let failed = Promise::new("load", Bound::Milliseconds(1_000), Err(Failure::other("no plugin")), "");
        assert!(!failed.is_kept());
        assert_eq!(failed.cells().join("|"), "load|< 1 s|not measured: no plugin|FAIL|");
        let kept = Promise::new("idle", Bound::PercentBelow(5), Ok(0.25), "x");
        assert_eq!(kept.cells().join("|"), "idle|< 5 %|0.250 %|pass|x");
    }
}
