//! What a run says, for people and for programs.

mod chart;
pub(crate) mod figure;
mod losses;
mod markdown;
pub(crate) mod table;
mod tables;

use std::io::IsTerminal;
use std::path::Path;

use serde::Serialize;

use crate::args::Bench;
use crate::failure::Failure;
use crate::machine::Machine;
use crate::row::Row;
use losses::losses;
use tables::blocks;

/// Everything that a run found out.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// How often each case got its turn.
    pub(crate) rounds: usize,
    /// What the alternatives are: name of the row and the peers program's words.
    pub(crate) legend: Vec<(String, String)>,
    /// What confined the measured workers.
    pub(crate) layers: Vec<Layers>,
    pub(crate) rows: Vec<Row>,
}

/// What confined the workers of some plugins.
#[derive(Debug, Serialize)]
pub(crate) struct Layers {
    /// In short, as it stands beside the rows.
    pub(crate) key: String,
    pub(crate) plugins: Vec<String>,
    pub(crate) lines: Vec<String>,
}

impl Report {
    /// Prints it, and writes the files that the command line names.
    pub(crate) fn write(&self, bench: &Bench) -> Result<(), Failure> {
        print(bench, self, || self.text(std::io::stdout().is_terminal()))?;
        let Some(folder) = &bench.out else { return Ok(()) };
        write_file(&make(folder)?.join("figures.json"), &json(self)?)?;
        write_file(&folder.join("figures.md"), &markdown::figures(self))?;
        for (group, chart) in chart::charts(self) {
            write_file(&folder.join(format!("{}.svg", group.id())), &chart)?;
        }
        match &bench.markdown {
            Some(file) => self.replace_summary(file, folder),
            None => Ok(()),
        }
    }

    fn text(&self, colour: bool) -> String {
        let mut text = format!("{}\n", self.machine.sentence());
        for block in blocks(&self.rows) {
            text.push_str(&format!("\n{}", block.table().text(colour)));
        }
        for Layers { key, plugins, lines } in &self.layers {
            text.push_str(&format!("\n{key}, of {}\n  {}\n", plugins.join(", "), lines.join("\n  ")));
        }
        let losses = losses(&self.rows);
        if !losses.is_empty() {
            text.push_str("\nWhere hotcell loses\n");
        }
        losses.iter().for_each(|loss| text.push_str(&format!("  {}\n", loss.sentence())));
        text
    }

    fn replace_summary(&self, file: &Path, folder: &Path) -> Result<(), Failure> {
        let subject = |verb: &str| format!("{verb} {}", file.display());
        let old = std::fs::read_to_string(file).map_err(|source| Failure::io(subject("read"), source))?;
        let folder = folder.file_name().unwrap_or_default().to_string_lossy();
        let new = markdown::replace(&old, &markdown::summary(self, &folder)).ok_or_else(|| {
            Failure::Usage(format!("{} lacks the two markers of the figures", file.display()))
        })?;
        write_file(file, &new)
    }
}

/// Prints a report as text, or as JSON where standard output is asked for that; writes JSON to a file where one is named.
pub(crate) fn print(
    bench: &Bench,
    report: &impl Serialize,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    match bench.json.as_deref() {
        Some(file) if file == Path::new("-") => {
            print!("{}", json(report)?);
            return Ok(());
        }
        Some(file) => write_file(file, &json(report)?)?,
        None => {}
    }
    print!("{}", text());
    Ok(())
}

/// A report for programs.
pub(crate) fn json(report: &impl Serialize) -> Result<String, Failure> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    Ok(text)
}

/// Makes a folder, unless it is there.
pub(crate) fn make(folder: &Path) -> Result<&Path, Failure> {
    let subject = |source| Failure::io(format!("make the folder {}", folder.display()), source);
    std::fs::create_dir_all(folder).map(|()| folder).map_err(subject)
}

pub(crate) fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|source| Failure::io(format!("write {}", path.display()), source))
}
