//! The report on a terminal.

use super::Report;
use super::figure::{Block, blocks};

/// Columns are this far apart.
const GAP: &str = "  ";

/// The whole report as text.
pub(super) fn text(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "{}, {} cores, Linux {}, {}, {}, load before {}\n",
        machine.processor, machine.cores, machine.kernel, machine.user, machine.date, machine.load
    );
    for block in blocks(&report.rows) {
        text.push_str(&format!("\n{}\n", block.group.title()));
        text.push_str(&aligned(&cells(&block)));
        for line in &block.lines {
            for (placement, reason) in line.failures() {
                text.push_str(&format!("{GAP}{}, {}: not measured: {reason}\n", line.name, placement.name()));
            }
        }
    }
    for layers in &report.layers {
        text.push_str(&format!("\nLayers of {}\n", layers.plugins.join(", ")));
        for line in &layers.lines {
            text.push_str(&format!("{GAP}{line}\n"));
        }
    }
    text
}

fn cells(block: &Block<'_>) -> Vec<Vec<String>> {
    let mut head = vec![String::new()];
    for placement in &block.placements {
        head.extend([placement.name().to_owned(), "p99".to_owned(), "ratio".to_owned()]);
    }
    head.push("to".to_owned());
    let mut rows = vec![head];
    for line in &block.lines {
        let mut row = vec![line.name.to_owned()];
        row.extend(block.placements.iter().flat_map(|placement| line.cells(*placement)));
        row.push(if line.is_floor() { "(floor)" } else { line.floor }.to_owned());
        rows.push(row);
    }
    rows
}

/// First and last column to the left, figures to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            line.push_str(GAP);
            if column == 0 || column + 1 == columns {
                line.push_str(&format!("{cell:<width$}"));
            } else {
                line.push_str(&format!("{cell:>width$}"));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["", "a", "to"], ["pipe", "1.5 µs", "x"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(aligned(&rows), "             a  to\n  pipe  1.5 µs  x\n");
    }
}
