//! What docs/ holds: all figures in one file, and their summary between two markers of another.

use std::fmt::Write as _;

use super::Report;
use super::chart::charts;
use super::figure::{number, ratio};
use super::losses::{best, losses};
use super::table::Table;
use super::tables::{Block, blocks};
use crate::row::Outcome;

const BEGIN: &str = "<!-- figures: begin -->";
const END: &str = "<!-- figures: end -->";

/// The text with everything between its markers replaced, or `None` if they are not there in this order.
pub(super) fn replace(old: &str, section: &str) -> Option<String> {
    let (before, rest) = old.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{section}\n{END}{after}"))
}

/// Every figure.
pub(super) fn figures(report: &Report) -> String {
    let mut text = format!("# Figures\n\nWritten by `hotcell bench --out`. {}\n", measured(report));
    for block in blocks(&report.rows) {
        let _ = write!(text, "\n{}", block.table().markdown());
    }
    if !report.legend.is_empty() {
        text.push_str("\n### The alternatives\n\n");
    }
    for (name, about) in &report.legend {
        let _ = writeln!(text, "- {name}: {about}");
    }
    if !report.layers.is_empty() {
        text.push_str("\n### Layers in force\n");
    }
    for layers in &report.layers {
        let (plugins, lines) = (layers.plugins.join("`, `"), layers.lines.join("\n"));
        let _ = write!(text, "\n{}, of `{plugins}`:\n\n```\n{lines}\n```\n", layers.key);
    }
    text
}

/// The few figures that most readers want; `folder` is where the others lie.
pub(super) fn summary(report: &Report, folder: &str) -> String {
    let mut text = format!("{} Every row: [figures.md]({folder}/figures.md).\n\n", measured(report));
    text.push_str(&headline(report).markdown());
    text.push_str("\n### Where hotcell loses\n\n");
    for loss in losses(&report.rows) {
        let _ = writeln!(text, "- {}", loss.sentence());
    }
    text.push_str("\n### Charts\n");
    for (group, _) in charts(report) {
        let _ = write!(text, "\n![{}]({folder}/{}.svg)\n", group.title(), group.id());
    }
    text
}

/// The best row of hotcell in each group and placement.
fn headline(report: &Report) -> Table {
    let head = ["", "hotcell", "median", "to Extism, in process", "to gRPC", "to the floor", "layers"];
    let mut table = Table::new("The best row of hotcell", &head);
    for block in blocks(&report.rows) {
        table.rows.extend(headline_row(&block));
    }
    table
}

fn headline_row(block: &Block<'_>) -> Option<Vec<String>> {
    let row = best(block)?;
    let Outcome::Measured { summary, ratios } = &row.result else { return None };
    Some(vec![
        block.title(),
        row.name.trim_start_matches("hotcell ").to_owned(),
        number(summary.median, row.unit),
        ratio(ratios.extism),
        ratio(ratios.grpc),
        ratio(ratios.floor),
        row.layers.clone().unwrap_or_default(),
    ])
}

/// Where and when, in a sentence.
fn measured(report: &Report) -> String {
    format!("Measured on {}, in {} interleaved rounds.", report.machine.sentence(), report.rounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let old = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = replace(&old, "new\n").expect("both markers are there");
        assert_eq!(new, format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert_eq!(replace(&new, "new\n"), Some(new.clone()));
    }

    #[test]
    fn a_file_without_both_markers_is_left_alone() {
        assert_eq!(replace(BEGIN, "new"), None);
        assert_eq!(replace(&format!("{END} {BEGIN}"), "new"), None);
    }
}
