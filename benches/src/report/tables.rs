//! The tables of a run: one for each group and placement.

use super::figure::{ABSENT, number, rate, ratio};
use super::table::Table;
use crate::group::Group;
use crate::measure::Kind;
use crate::placement::Placement;
use crate::row::{Outcome, Ratios, Row};
use crate::samples::Summary;

/// The rows of one table.
pub(super) struct Block<'a> {
    pub(super) group: Group,
    pub(super) placement: Placement,
    pub(super) rows: Vec<&'a Row>,
}

/// Rows that are compared with each other, in the order of the report.
pub(super) fn blocks(rows: &[Row]) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    for group in Group::ALL {
        for placement in group.placements().iter().copied() {
            let belongs = |row: &&Row| (row.group, row.placement) == (group, placement);
            let rows: Vec<_> = rows.iter().filter(belongs).collect();
            if !rows.is_empty() {
                blocks.push(Block { group, placement, rows });
            }
        }
    }
    blocks
}

impl Block<'_> {
    /// What it is called.
    pub(super) fn title(&self) -> String {
        if self.group.placements().len() == 1 {
            return self.group.title().to_owned();
        }
        format!("{} ({})", self.group.title(), self.placement.name())
    }

    pub(super) fn table(&self) -> Table {
        let columns = Columns::of(self);
        let mut table = Table::new(self.title(), &columns.head(self.group));
        for row in &self.rows {
            table.push(columns.cells(row));
        }
        if let (false, Some(row)) = (columns.floors, self.rows.first()) {
            table.notes.push(format!("floor: {}", row.floor));
        }
        let failed = self.rows.iter().filter_map(|row| match &row.result {
            Outcome::Failed { not_measured } => Some(format!("{}: not measured: {not_measured}", row.name)),
            Outcome::Measured { .. } => None,
        });
        table.notes.extend(failed);
        table
    }
}

/// Which columns a table has, beside those that all have.
struct Columns {
    extism: bool,
    grpc: bool,
    /// More than one floor: each row names its own.
    floors: bool,
}

impl Columns {
    fn of(block: &Block<'_>) -> Columns {
        let has = |pick: fn(&Ratios) -> Option<f64>| {
            block.rows.iter().any(|row| match &row.result {
                Outcome::Measured { ratios, .. } => pick(ratios).is_some(),
                Outcome::Failed { .. } => false,
            })
        };
        let first = block.rows.first().map(|row| row.floor);
        Columns {
            extism: has(|ratios| ratios.extism),
            grpc: has(|ratios| ratios.grpc),
            floors: block.rows.iter().any(|row| Some(row.floor) != first),
        }
    }

    fn head(&self, group: Group) -> Vec<&'static str> {
        let second = if group == Group::Pipelined { "calls/s" } else { "p99" };
        let mut head = vec!["", "median", second];
        head.extend(self.extism.then_some("to Extism"));
        head.extend(self.grpc.then_some("to gRPC"));
        head.push("to floor");
        head.extend(self.floors.then_some("floor"));
        head.push("layers");
        head
    }

    fn cells(&self, row: &Row) -> Vec<String> {
        let absent = || ABSENT.to_owned();
        let (median, second, ratios) = match &row.result {
            Outcome::Failed { .. } => (absent(), absent(), Ratios::default()),
            Outcome::Measured { summary: Summary { median, p99, .. }, ratios } => {
                let pipelined = row.group == Group::Pipelined;
                let second = if pipelined { rate(*median) } else { number(*p99, row.unit) };
                (number(*median, row.unit), second, *ratios)
            }
        };
        let mut cells = vec![row.name.clone(), median, second];
        cells.extend(self.extism.then(|| ratio(ratios.extism)));
        cells.extend(self.grpc.then(|| ratio(ratios.grpc)));
        cells.push(ratio(ratios.floor));
        cells.extend(self.floors.then(|| row.floor.to_owned()));
        let layers = if row.kind == Kind::Floor { "" } else { ABSENT };
        cells.push(row.layers.clone().unwrap_or_else(|| layers.to_owned()));
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::compare;
    use crate::row::tests::row;

    #[test]
    fn a_table_has_only_the_ratios_that_were_measured() {
        let mut rows = vec![
            row("floor", Kind::Floor, Placement::OneCore, 1_000),
            row(crate::peers::EXTISM, Kind::Peer, Placement::OneCore, 2_000),
            row("hotcell", Kind::Hotcell, Placement::OneCore, 4_000),
        ];
        rows.push(Row { result: Outcome::pending(), ..row("broken", Kind::Peer, Placement::OneCore, 0) });
        compare(&mut rows);
        let tables: Vec<Table> = blocks(&rows).iter().map(Block::table).collect();
        let [table] = tables.as_slice() else { unreachable!("one group, one placement") };
        assert_eq!(table.head, ["", "median", "p99", "to Extism", "to floor", "layers"]);
        let hotcell = table.rows.get(2).expect("the third row");
        assert_eq!(hotcell.join("|"), "hotcell|4 µs|4 µs|2 x|4 x|–");
        assert_eq!(table.notes, ["floor: floor", "broken: not measured: no sample was taken"]);
    }
}
