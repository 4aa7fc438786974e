//! Numbers as people read them, and the cells that both tables have in common.

use crate::group::{Group, Unit};
use crate::measure::{Outcome, Row};
use crate::placement::Placement;

/// A number with its unit and three significant digits or so.
pub(super) fn number(value: u64, unit: Unit) -> String {
    let scales: &[(f64, &str)] = match unit {
        Unit::Nanoseconds => &[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")],
        Unit::Bytes => &[(1024.0 * 1024.0, "MiB"), (1024.0, "KiB"), (1.0, "B")],
    };
    let value = value as f64;
    let (scale, name) = scales.iter().find(|(scale, _)| value >= *scale).unwrap_or(&(1.0, "ns"));
    format!("{} {name}", digits(value / scale))
}

/// Three significant digits, and no more decimals than that takes.
fn digits(value: f64) -> String {
    let decimals = match value {
        value if value >= 100.0 || value.fract() == 0.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        value if value >= 0.1 => 3,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

/// The part of a report that is one table.
pub(super) struct Block<'a> {
    pub(super) group: Group,
    /// The placements that any of its rows has.
    pub(super) placements: Vec<Placement>,
    pub(super) lines: Vec<Line<'a>>,
}

/// The rows of one name.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) floor: &'a str,
    rows: Vec<&'a Row>,
}

/// Collects rows into tables, in the order of their first appearance.
pub(super) fn blocks(rows: &[Row]) -> Vec<Block<'_>> {
    Group::ALL.into_iter().filter_map(|group| block(group, rows)).collect()
}

fn block(group: Group, rows: &[Row]) -> Option<Block<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for row in rows.iter().filter(|row| row.group == group) {
        match lines.iter_mut().find(|line| line.name == row.name) {
            Some(line) => line.rows.push(row),
            None => lines.push(Line { name: row.name, floor: row.floor, rows: vec![row] }),
        }
    }
    let has =
        |placement: &Placement| rows.iter().any(|row| row.group == group && row.placement == *placement);
    let placements = Placement::ALL.into_iter().filter(has).collect();
    (!lines.is_empty()).then_some(Block { group, placements, lines })
}

impl Line<'_> {
    /// Whether the others are compared with it.
    pub(super) fn is_floor(&self) -> bool {
        self.name == self.floor
    }

    /// Median, p99 and ratio of one placement. A row without figures has none.
    pub(super) fn cells(&self, placement: Placement) -> [String; 3] {
        let absent = || "–".to_owned();
        let row = self.rows.iter().find(|row| row.placement == placement);
        let Some(Row { unit, result: Outcome::Measured { median, p99, ratio, .. }, .. }) = row else {
            return [absent(), absent(), absent()];
        };
        let ratio = ratio.map_or_else(absent, |ratio| format!("{} x", digits(ratio)));
        [number(*median, *unit), number(*p99, *unit), ratio]
    }

    /// Why rows of this name have no figures: placement and reason.
    pub(super) fn failures(&self) -> impl Iterator<Item = (Placement, &str)> {
        self.rows.iter().filter_map(|row| match &row.result {
            Outcome::Failed { not_measured } => Some((row.placement, not_measured.as_str())),
            Outcome::Measured { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_or_so() {
        let time = |value| number(value, Unit::Nanoseconds);
        assert_eq!(time(0), "0 ns");
        assert_eq!(time(87), "87 ns");
        assert_eq!(time(1_850), "1.85 µs");
        assert_eq!(time(41_234), "41.2 µs");
        assert_eq!(time(412_345), "412 µs");
        assert_eq!(time(1_500_000_000), "1.50 s");
        assert_eq!(digits(0.00693), "0.0069");
        assert_eq!(digits(0.852), "0.852");
        assert_eq!(number(72 * 1024, Unit::Bytes), "72 KiB");
        assert_eq!(number(3 * 1024 * 1024 / 2, Unit::Bytes), "1.50 MiB");
    }
}
