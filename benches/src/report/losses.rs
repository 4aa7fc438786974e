//! Where hotcell loses: every row that takes less than the best of hotcell's in the same group and placement.

use super::figure::{digits, number};
use super::tables::{Block, blocks};
use crate::measure::Kind;
use crate::row::Row;

/// A group and placement in which something takes less than hotcell.
pub(super) struct Loss<'a> {
    pub(super) block: Block<'a>,
    /// The best of hotcell's rows.
    pub(super) best: &'a Row,
    /// What takes less, the least first, with what hotcell takes through it.
    pub(super) better: Vec<(&'a Row, f64)>,
}

/// All, in the order of the report.
pub(super) fn losses(rows: &[Row]) -> Vec<Loss<'_>> {
    blocks(rows).into_iter().filter_map(loss).collect()
}

fn loss(block: Block<'_>) -> Option<Loss<'_>> {
    let median = |row: &&Row| row.result.median();
    let best = best(&block)?;
    let own = median(&best)?;
    let others = block.rows.iter().copied().filter(|row| row.kind != Kind::Hotcell);
    let mut better: Vec<_> =
        others.filter_map(|row| Some((row, median(&row)?))).filter(|(_, median)| *median < own).collect();
    better.sort_by_key(|(_, median)| *median);
    let better: Vec<_> =
        better.into_iter().map(|(row, median)| (row, own as f64 / median.max(1) as f64)).collect();
    (!better.is_empty()).then_some(Loss { block, best, better })
}

/// The row of hotcell with the lowest median.
pub(super) fn best<'a>(block: &Block<'a>) -> Option<&'a Row> {
    let own = block.rows.iter().copied().filter(|row| row.kind == Kind::Hotcell);
    own.filter(|row| row.result.median().is_some()).min_by_key(|row| row.result.median())
}

impl Loss<'_> {
    /// In one line.
    pub(super) fn sentence(&self) -> String {
        let own = number(self.best.result.median().unwrap_or_default(), self.best.unit);
        let others: Vec<String> =
            self.better.iter().map(|(row, ratio)| format!("{} ({} x)", row.name, digits(*ratio))).collect();
        format!("{}: {}, {own}, against {}", self.block.title(), self.best.name, others.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::Placement;
    use crate::row::tests::row;

    #[test]
    fn a_loss_names_all_that_take_less_than_the_best_row() {
        let rows = vec![
            row("pipe", Kind::Floor, Placement::OneCore, 2_000),
            row("memory", Kind::Floor, Placement::OneCore, 1_000),
            row("slow peer", Kind::Peer, Placement::OneCore, 9_000),
            row("hotcell a", Kind::Hotcell, Placement::OneCore, 8_000),
            row("hotcell b", Kind::Hotcell, Placement::OneCore, 4_000),
            row("pipe", Kind::Floor, Placement::Unpinned, 5_000),
            row("hotcell b", Kind::Hotcell, Placement::Unpinned, 4_000),
        ];
        let sentences: Vec<String> = losses(&rows).iter().map(Loss::sentence).collect();
        let wanted = "64 bytes there and back (one core): hotcell b, 4 µs, against memory (4 x), pipe (2 x)";
        assert_eq!(sentences, [wanted]);
    }
}
