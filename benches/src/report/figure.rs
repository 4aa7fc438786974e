//! Numbers as people read them.

use crate::group::Unit;

/// What stands where there is no figure.
pub(crate) const ABSENT: &str = "–";

/// The size and the name of the unit that a value is written in.
pub(super) fn scale_of(value: f64, unit: Unit) -> (f64, &'static str) {
    let scales: &[(f64, &str)] = match unit {
        Unit::Nanoseconds => &[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")],
        Unit::Bytes => &[(GIBIBYTE, "GiB"), (MEBIBYTE, "MiB"), (KIBIBYTE, "KiB"), (1.0, "B")],
    };
    let least = scales.last().copied().unwrap_or((1.0, ""));
    scales.iter().find(|(size, _)| value >= *size).copied().unwrap_or(least)
}

const KIBIBYTE: f64 = 1024.0;
const MEBIBYTE: f64 = 1024.0 * KIBIBYTE;
const GIBIBYTE: f64 = 1024.0 * MEBIBYTE;

/// A number with its unit and three significant digits or so.
pub(crate) fn number(value: u64, unit: Unit) -> String {
    let value = value as f64;
    let (size, name) = scale_of(value, unit);
    format!("{} {name}", digits(value / size))
}

/// A ratio, or the sign that there is none.
pub(crate) fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| ABSENT.to_owned(), |ratio| format!("{} x", digits(ratio)))
}

/// How often something of this length fits into a second.
pub(super) fn rate(nanoseconds: u64) -> String {
    let rate = 1e9 / nanoseconds.max(1) as f64;
    let (scale, letter) = if rate >= 1e6 {
        (1e6, "M")
    } else if rate >= 1e3 {
        (1e3, "k")
    } else {
        (1.0, "")
    };
    format!("{}{letter}", digits(rate / scale))
}

/// Three significant digits, and no more decimals than that takes.
pub(crate) fn digits(value: f64) -> String {
    let decimals = match value {
        value if value >= 100.0 || value.fract() == 0.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        value if value >= 0.1 => 3,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_or_so() {
        let time = |value| number(value, Unit::Nanoseconds);
        assert_eq!(time(0), "0 ns");
        assert_eq!(time(87), "87 ns");
        assert_eq!(time(1_850), "1.85 µs");
        assert_eq!(time(41_234), "41.2 µs");
        assert_eq!(time(412_345), "412 µs");
        assert_eq!(time(1_500_000_000), "1.50 s");
        assert_eq!(digits(0.00693), "0.0069");
        assert_eq!(digits(0.852), "0.852");
        assert_eq!(number(72 * 1024, Unit::Bytes), "72 KiB");
        assert_eq!(number(3 * 1024 * 1024 / 2, Unit::Bytes), "1.50 MiB");
        assert_eq!(number(0, Unit::Bytes), "0 B");
        assert_eq!(ratio(Some(5.987)), "5.99 x");
        assert_eq!(ratio(None), ABSENT);
    }

    #[test]
    fn a_rate_is_what_fits_into_a_second() {
        assert_eq!(rate(1_000), "1M");
        assert_eq!(rate(40_000), "25k");
        assert_eq!(rate(2_000_000_000), "0.500");
    }
}
