//! What was found, for people.

use std::fmt::Write;

use crate::attack::{Attack, Corpus};

/// The report as Markdown, a table for each category. `systems` are names with what was found there: lines of `corpus`,
/// profile (or `control`), id, what, and what came of it, separated by tabs.
pub fn markdown(corpora: &[Corpus], systems: &[(&str, &str)]) -> String {
    let mut text = HEAD.to_owned();
    for corpus in corpora {
        let _ = write!(text, "\n## {}\n\n| id | attack | stopped by |", corpus.category);
        systems.iter().for_each(|(system, _)| _ = write!(text, " {system} |"));
        let _ = writeln!(text, " without a sandbox |");
        let _ = writeln!(text, "|{}", "---|".repeat(systems.len() + 4));
        for attack in &corpus.attacks {
            text.push_str(&row(attack, systems));
        }
        section(&mut text, "Shown elsewhere", corpus.elsewhere.iter().map(|one| (&one.id, &one.place)));
        section(&mut text, "Not shown", corpus.uncovered.iter().map(|one| (&one.id, &one.why)));
    }
    text
}

const HEAD: &str = "# Attack corpus

Hostile behaviours, what came of each on several kernels, and what comes of the same code without a sandbox. The attacks are
[corpus/attacks/](../corpus/attacks); `hotcell profile test PROFILE` runs them against a profile. This page is made of what
`scripts/corpus --write` found, as root, under `native-strict` and `pure-compute`; `tests/tests/corpus.rs` runs all of it again in
every check, as root and as an ordinary user, and fails where an attack is not stopped or where its control is not what it must
be. Linux 6.12 with `lsm=yama`, without Landlock, has no column: nothing starts there.

`done` means that the kernel did it. A dash means that the attack was not run on that system.
";

fn row(attack: &Attack, systems: &[(&str, &str)]) -> String {
    let Attack { id, what, layer, .. } = attack;
    let mut cells = vec![id.clone(), what.clone(), layer.clone()];
    cells.extend(systems.iter().map(|(_, lines)| found(lines, attack, false)));
    let control = match attack.no_control() {
        Some(why) => format!("no control: {why}"),
        None => systems.first().map_or_else(String::new, |(_, lines)| found(lines, attack, true)),
    };
    cells.push(control);
    line(&cells)
}

/// What was found of an attack or of its control.
fn found(lines: &str, attack: &Attack, control: bool) -> String {
    let cell = |line: &str| {
        let mut cells = line.split('\t').skip(1);
        let (of, id, what, seen) = (cells.next()?, cells.next()?, cells.next()?, cells.next()?);
        let is_it = (of == "control") == control && id == attack.id && what == attack.what;
        is_it.then(|| seen.to_owned())
    };
    lines.lines().find_map(cell).unwrap_or_else(|| "–".to_owned())
}

fn section<'c>(text: &mut String, title: &str, rows: impl Iterator<Item = (&'c String, &'c String)>) {
    let rows: Vec<_> = rows.map(|(id, what)| line(&[id.clone(), what.clone()])).collect();
    if !rows.is_empty() {
        let _ = write!(text, "\n{title}:\n\n| id | |\n|---|---|\n{}", rows.concat());
    }
}

fn line(cells: &[String]) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}
