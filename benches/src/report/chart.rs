//! Bar charts as SVG, written by hand. Colours are of middle brightness, for light and dark pages.

use std::fmt::Write as _;

use super::Report;
use super::figure::{number, scale_of};
use super::tables::{Block, blocks};
use crate::group::{Group, Unit};
use crate::measure::Kind;
use crate::row::Row;

/// Sizes in pixels.
const WIDTH: f64 = 960.0;
const PLOT_LEFT: f64 = 290.0;
const PLOT_WIDTH: f64 = 520.0;
const TOP: f64 = 56.0;
const BAR: f64 = 14.0;
const GAP: f64 = 9.0;
const HEADING: f64 = 26.0;
const BOTTOM: f64 = 68.0;

/// Colours: text, grid lines, and bars by whose they are.
const TEXT: &str = "#808893";
const GRID: &str = "#80889355";

/// From this ratio of the largest to the smallest on, short bars could not be told apart on a linear scale.
const LINEAR_TO: f64 = 20.0;

/// A chart for each group that was measured.
pub(super) fn charts(report: &Report) -> Vec<(Group, String)> {
    let caption = report.machine.sentence();
    let of = |group: Group| {
        let blocks: Vec<_> = blocks(&report.rows).into_iter().filter(|block| block.group == group).collect();
        Some((group, chart(group, &blocks, &caption)?))
    };
    Group::ALL.into_iter().filter_map(of).collect()
}

/// Where a value lies between the left and the right end of the plot.
#[derive(Debug)]
struct Scale {
    logarithmic: bool,
    low: f64,
    high: f64,
    /// Between two lines of a linear scale.
    step: f64,
}

impl Scale {
    /// Whole powers of ten where the values are far apart, from zero on otherwise. `None` without a value.
    fn of(values: &[u64], unit: Unit) -> Option<Scale> {
        let least = (*values.iter().min()?).max(1) as f64;
        let most = (*values.iter().max()?).max(1) as f64;
        if most / least <= LINEAR_TO {
            let (size, _) = scale_of(most, unit);
            let step = round_step(most / size / 4.0) * size;
            return Some(Scale { logarithmic: false, low: 0.0, high: step * (most / step).ceil(), step });
        }
        let (low, high) = (10f64.powf(least.log10().floor()), 10f64.powf(most.log10().ceil()));
        // A bar of the least value would have no length.
        Some(Scale { logarithmic: true, low: if low < least { low } else { low / 10.0 }, high, step: 0.0 })
    }

    /// 0 at the left end, 1 at the right one.
    fn position(&self, value: f64) -> f64 {
        let part = if self.logarithmic {
            (value.max(self.low) / self.low).log10() / (self.high / self.low).log10()
        } else {
            value / self.high
        };
        part.clamp(0.0, 1.0)
    }

    /// Values that get a line and a label.
    fn ticks(&self) -> Vec<f64> {
        if !self.logarithmic {
            let lines = std::iter::successors(Some(0.0), |last| Some(last + self.step));
            return lines.take_while(|line| *line <= self.high * 1.001).collect();
        }
        let mut ticks = vec![self.low];
        while let Some(last) = ticks.last().copied().filter(|last| *last < self.high * 0.99) {
            ticks.push(last * 10.0);
        }
        ticks
    }
}

/// The least of 1, 2, 5, 10, 20 ... that is not below a value.
fn round_step(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|digit| digit * power).find(|step| *step >= value).unwrap_or(power * 10.0)
}

fn chart(group: Group, blocks: &[Block<'_>], caption: &str) -> Option<String> {
    let rows = blocks.iter().flat_map(|block| &block.rows);
    let values: Vec<u64> = rows.filter_map(|row| row.result.median()).collect();
    let scale = Scale::of(&values, group.unit())?;
    let mut bars = String::new();
    let mut y = TOP;
    for block in blocks {
        y += HEADING;
        let _ = write!(bars, "{}", text(PLOT_LEFT, y - 8.0, "start", "bold", block.placement.name()));
        for row in block.rows.iter().filter(|row| row.result.median().is_some()) {
            bar(&mut bars, row, &scale, y);
            y += BAR + GAP;
        }
    }
    let height = y + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"{TEXT}\">\n"
    );
    svg.push_str(&text(12.0, 22.0, "start", "bold", group.title()));
    legend(&mut svg);
    axis(&mut svg, &scale, group.unit(), y);
    svg.push_str(&bars);
    svg.push_str(&text(12.0, height - 8.0, "start", "normal", caption));
    svg.push_str("</svg>\n");
    Some(svg)
}

fn bar(svg: &mut String, row: &Row, scale: &Scale, y: f64) {
    let Some(median) = row.result.median() else { return };
    let length = scale.position(median as f64) * PLOT_WIDTH;
    let middle = y + BAR - 3.0;
    svg.push_str(&text(PLOT_LEFT - 8.0, middle, "end", "normal", &row.name));
    let colour = colour(row.kind);
    let _ = writeln!(
        svg,
        "<rect x=\"{PLOT_LEFT}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"2\" fill=\"{colour}\"/>"
    );
    svg.push_str(&text(PLOT_LEFT + length + 6.0, middle, "start", "normal", &number(median, row.unit)));
}

fn axis(svg: &mut String, scale: &Scale, unit: Unit, bottom: f64) {
    for tick in scale.ticks() {
        let x = PLOT_LEFT + scale.position(tick) * PLOT_WIDTH;
        let _ = writeln!(svg, "<path d=\"M{x:.1} {TOP}V{bottom:.1}\" stroke=\"{GRID}\"/>");
        svg.push_str(&text(x, bottom + 16.0, "middle", "normal", &number(whole(tick), unit)));
    }
    let what = match unit {
        Unit::Nanoseconds => "median time",
        Unit::Bytes => "median of private memory",
    };
    let kind = if scale.logarithmic { "logarithmic" } else { "linear" };
    let label = format!("{what}, {kind} scale; shorter is better");
    svg.push_str(&text(PLOT_LEFT + PLOT_WIDTH / 2.0, bottom + 34.0, "middle", "normal", &label));
}

fn legend(svg: &mut String) {
    let kinds = [(Kind::Floor, "floor"), (Kind::Peer, "alternative"), (Kind::Hotcell, "hotcell")];
    let mut x = PLOT_LEFT;
    for (kind, word) in kinds {
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"34\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{}\"/>",
            colour(kind)
        );
        svg.push_str(&text(x + 18.0, 44.0, "start", "normal", word));
        x += 110.0;
    }
}

fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Floor => "#8b949e",
        Kind::Peer => "#c98500",
        Kind::Hotcell => "#3987e5",
    }
}

fn text(x: f64, y: f64, anchor: &str, weight: &str, words: &str) -> String {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-weight=\"{weight}\">{words}</text>\n"
    )
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "ticks are not negative and small"
)]
fn whole(tick: f64) -> u64 {
    tick.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::Placement;
    use crate::row::tests::row;

    #[test]
    fn far_apart_is_logarithmic_and_close_together_linear() {
        let scale = |values: &[u64]| Scale::of(values, Unit::Nanoseconds);
        let far = scale(&[50, 40_000]).expect("has values");
        assert!(far.logarithmic);
        assert_eq!(far.ticks().into_iter().map(whole).collect::<Vec<_>>(), [10, 100, 1_000, 10_000, 100_000]);
        let near = scale(&[250, 780]).expect("has values");
        assert!(!near.logarithmic);
        assert_eq!(near.ticks().into_iter().map(whole).collect::<Vec<_>>(), [0, 200, 400, 600, 800]);
        assert!(scale(&[]).is_none());
    }

    #[test]
    fn every_bar_is_visible_and_within_the_plot() {
        for values in [vec![1u64, 1_000_000], vec![100, 100_000], vec![0, 7], vec![u64::MAX, 1], vec![5]] {
            let scale = Scale::of(&values, Unit::Bytes).expect("has values");
            for value in values.iter().filter(|value| **value > 0) {
                let position = scale.position(*value as f64);
                assert!(position > 0.0 && position <= 1.0, "{value} of {values:?} is at {position}");
            }
        }
    }

    #[test]
    fn a_chart_names_what_it_shows_and_escapes_it() {
        let rows = vec![row("a <b> & c", Kind::Floor, Placement::OneCore, 7_000)];
        let svg = chart(Group::Call, &blocks(&rows), "machine, Linux 6, 2026-01-31").expect("has values");
        for part in
            ["a &lt;b&gt; &amp; c", "7 µs", "one core", "linear scale", "Linux 6, 2026-01-31", "64 bytes"]
        {
            assert!(svg.contains(part), "{part}");
        }
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
    }
}
