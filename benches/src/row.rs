//! The rows of a report, and what they are compared with.

use crate::failure::Failure;
use crate::group::{Group, Unit};
use crate::peers;
use crate::placement::Placement;
use crate::samples::{Samples, Summary};

/// Whose a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// The machine's own price.
    Floor,
    /// What a user would pick instead.
    Peer,
    /// hotcell.
    Hotcell,
}

/// One row.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) group: Group,
    pub(crate) placement: Placement,
    pub(crate) unit: Unit,
    /// What confines the other end, in short.
    pub(crate) layers: Option<String>,
    pub(crate) floor: &'static str,
    #[serde(flatten)]
    pub(crate) result: Outcome,
}

/// What came of a row.
#[derive(Debug, serde::Serialize)]
#[serde(untagged)]
pub(crate) enum Outcome {
    /// Figures.
    Measured {
        #[serde(flatten)]
        summary: Summary,
        ratios: Ratios,
    },
    /// No figures.
    Failed {
        /// Why, in words.
        not_measured: String,
    },
}

/// The median through that of another row of the same group and placement, where that was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct Ratios {
    /// Through its floor's.
    pub(crate) floor: Option<f64>,
    /// Through Extism's.
    pub(crate) extism: Option<f64>,
    /// Through gRPC's.
    pub(crate) grpc: Option<f64>,
}

impl Outcome {
    /// What the samples amount to.
    pub(crate) fn of(samples: Samples) -> Outcome {
        match samples.summary() {
            Some(summary) => Outcome::Measured { summary, ratios: Ratios::default() },
            None => Outcome::pending(),
        }
    }

    pub(crate) fn pending() -> Outcome {
        Outcome::Failed { not_measured: "no sample was taken".to_owned() }
    }

    pub(crate) fn failed(failure: &Failure) -> Outcome {
        Outcome::Failed { not_measured: failure.to_string() }
    }

    /// The median, if there is one.
    pub(crate) fn median(&self) -> Option<u64> {
        match self {
            Outcome::Measured { summary, .. } => Some(summary.median),
            Outcome::Failed { .. } => None,
        }
    }
}

/// Fills in the ratios of every row.
pub(crate) fn compare(rows: &mut [Row]) {
    let medians: Vec<_> = rows
        .iter()
        .filter_map(|row| Some((row.group, row.placement, row.name.clone(), row.result.median()?)))
        .collect();
    for row in rows {
        let (group, placement) = (row.group, row.placement);
        let through = |median: u64, name: &str| {
            let (.., other) = medians
                .iter()
                .find(|(of, at, called, _)| (*of, *at, called.as_str()) == (group, placement, name))?;
            (*other > 0).then(|| median as f64 / *other as f64)
        };
        if let Outcome::Measured { summary: Summary { median, .. }, ratios } = &mut row.result {
            *ratios = Ratios {
                floor: through(*median, row.floor),
                extism: through(*median, peers::EXTISM),
                grpc: through(*median, peers::GRPC),
            };
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn row(name: &str, kind: Kind, placement: Placement, median: u64) -> Row {
        let summary = Summary { samples: 1, median, p99: median };
        let result = Outcome::Measured { summary, ratios: Ratios::default() };
        let (group, unit) = (Group::Call, Unit::Nanoseconds);
        Row { name: name.to_owned(), kind, group, placement, unit, layers: None, floor: "floor", result }
    }

    fn ratios(row: &Row) -> Ratios {
        match row.result {
            Outcome::Measured { ratios, .. } => ratios,
            Outcome::Failed { .. } => Ratios::default(),
        }
    }

    #[test]
    fn a_ratio_is_to_a_row_of_the_same_placement() {
        let mut rows = vec![
            row("floor", Kind::Floor, Placement::OneCore, 10),
            row("floor", Kind::Floor, Placement::Unpinned, 100),
            row(peers::EXTISM, Kind::Peer, Placement::OneCore, 50),
            row("other", Kind::Hotcell, Placement::OneCore, 25),
            row("other", Kind::Hotcell, Placement::Unpinned, 50),
        ];
        compare(&mut rows);
        let floors: Vec<_> = rows.iter().map(|row| ratios(row).floor).collect();
        assert_eq!(floors, [Some(1.0), Some(1.0), Some(5.0), Some(2.5), Some(0.5)]);
        let extism: Vec<_> = rows.iter().map(|row| ratios(row).extism).collect();
        assert_eq!(extism, [Some(0.2), None, Some(1.0), Some(0.5), None]);
    }

    #[test]
    fn without_anything_to_compare_with_there_is_no_ratio() {
        let mut rows = vec![row("other", Kind::Hotcell, Placement::OneCore, 25)];
        compare(&mut rows);
        assert_eq!(ratios(&rows.remove(0)), Ratios::default());
    }
}
