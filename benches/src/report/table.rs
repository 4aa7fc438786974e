//! Tables, for a terminal and for Markdown.

use std::fmt::Write as _;

/// Columns are this far apart on a terminal.
const GAP: &str = "  ";

/// A table with a heading. The first column and those called so are text, the others are figures.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    /// What is to be said below it, a line each.
    pub(crate) notes: Vec<String>,
}

/// Columns of words.
const TEXT: [&str; 4] = ["floor", "layers", "verdict", "how"];

impl Table {
    pub(crate) fn new(title: impl Into<String>, head: &[&str]) -> Table {
        let head = head.iter().map(|cell| (*cell).to_owned()).collect();
        Table { title: title.into(), head, ..Table::default() }
    }

    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    fn is_text(&self, column: usize) -> bool {
        column == 0 || self.head.get(column).is_some_and(|head| TEXT.contains(&head.as_str()))
    }

    /// For Markdown, below a heading of the third level.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("### {}\n\n{}|", self.title, line(&self.head));
        for column in 0..self.head.len() {
            text.push_str(if self.is_text(column) { "---|" } else { "---:|" });
        }
        text.push('\n');
        self.rows.iter().for_each(|row| text.push_str(&line(row)));
        if !self.notes.is_empty() {
            text.push('\n');
            self.notes.iter().for_each(|note| {
                let _ = writeln!(text, "- {note}");
            });
        }
        text
    }

    /// For a terminal; bold headings and coloured verdicts if it is one.
    pub(crate) fn text(&self, colour: bool) -> String {
        let (bold, plain) = if colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        let mut text = format!("{bold}{}{plain}\n", self.title);
        let widths: Vec<usize> = (0..self.head.len()).map(|column| self.width(column)).collect();
        for row in std::iter::once(&self.head).chain(&self.rows) {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                line.push_str(GAP);
                if self.is_text(column) {
                    let (begin, end) = paint(cell, colour);
                    let _ = write!(line, "{begin}{cell:<width$}{end}");
                } else {
                    let _ = write!(line, "{cell:>width$}");
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        self.notes.iter().for_each(|note| {
            let _ = writeln!(text, "{GAP}{note}");
        });
        text
    }

    fn width(&self, column: usize) -> usize {
        let rows = std::iter::once(&self.head).chain(&self.rows);
        rows.filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

/// What goes before and after a cell on a terminal.
fn paint(cell: &str, colour: bool) -> (&'static str, &'static str) {
    match cell {
        "pass" if colour => ("\x1b[32m", "\x1b[0m"),
        "FAIL" if colour => ("\x1b[31m", "\x1b[0m"),
        _ => ("", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new("Title", &["", "a", "layers"]);
        table.push(["pipe", "1.5 µs", "x"].map(str::to_owned).to_vec());
        table.notes.push("why".to_owned());
        table
    }

    #[test]
    fn columns_line_up_on_a_terminal() {
        assert_eq!(table().text(false), "Title\n             a  layers\n  pipe  1.5 µs  x\n  why\n");
        assert!(table().text(true).starts_with("\x1b[1mTitle\x1b[0m\n"));
        let mut verdicts = Table::new("", &["", "verdict"]);
        verdicts.push(vec!["a".to_owned(), "FAIL".to_owned()]);
        assert!(verdicts.text(true).contains("\x1b[31mFAIL   \x1b[0m"));
    }

    #[test]
    fn words_are_to_the_left_and_figures_to_the_right() {
        let wanted = "### Title\n\n|  | a | layers |\n|---|---:|---|\n| pipe | 1.5 µs | x |\n\n- why\n";
        assert_eq!(table().markdown(), wanted);
    }
}
