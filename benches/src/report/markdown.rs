//! The figures of docs/benchmarks.md, between two markers.

use super::Report;
use super::figure::{Block, Line, blocks};

const BEGIN: &str = "<!-- figures: begin -->";
const END: &str = "<!-- figures: end -->";

/// The text with everything between its markers replaced, or `None` if they are not there in this order.
pub(super) fn replace(old: &str, section: &str) -> Option<String> {
    let (before, rest) = old.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{section}\n{END}{after}"))
}

/// The figures, without the markers.
pub(super) fn section(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "Measured on {}: {}, {} cores, Linux {}, as {}, {} interleaved rounds, load average before them {}.\n",
        machine.date,
        machine.processor,
        machine.cores,
        machine.kernel,
        machine.user,
        report.rounds,
        machine.load
    );
    for block in blocks(&report.rows) {
        text.push_str(&format!("\n### {}\n\n{}", block.group.title(), table(&block)));
        let failures: String = block.lines.iter().map(failures).collect();
        if !failures.is_empty() {
            text.push_str(&format!("\n{failures}"));
        }
    }
    if !report.layers.is_empty() {
        text.push_str("\n### Layers in force\n");
    }
    for layers in &report.layers {
        text.push_str(&format!(
            "\n`{}`:\n\n```\n{}\n```\n",
            layers.plugins.join("`, `"),
            layers.lines.join("\n")
        ));
    }
    text
}

fn table(block: &Block<'_>) -> String {
    let mut head = "|".to_owned();
    let mut rule = "|---".to_owned();
    for placement in &block.placements {
        head.push_str(&format!(" | {} | p99 | ratio", placement.name()));
        rule.push_str(&"|---:".repeat(3));
    }
    let mut text = format!("{head} | to |\n{rule}|---|\n");
    for line in &block.lines {
        let cells: Vec<String> =
            block.placements.iter().flat_map(|placement| line.cells(*placement)).collect();
        let floor = if line.is_floor() { "*floor*" } else { line.floor };
        text.push_str(&format!("| {} | {} | {floor} |\n", line.name, cells.join(" | ")));
    }
    text
}

fn failures(line: &Line<'_>) -> String {
    line.failures()
        .map(|(placement, reason)| format!("- {}, {}: not measured: {reason}\n", line.name, placement.name()))
        .collect()
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
