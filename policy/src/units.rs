//! Quantities with their units, as people write and read them.

use std::fmt;
use std::str::FromStr;

use crate::names::NameError;

const SIZES: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

const TIMES: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000)];

/// Largest quantity: leaves room for sums of a few in 64 bits.
const QUANTITY_MAX: u64 = 1 << 60;

/// Bytes: `64 MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

/// Milliseconds: `500 ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Duration(pub(crate) u64);

/// Bytes per second: `64 KiB/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rate(pub(crate) u64);

/// Thousandths of one core: `100 %`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Share(pub(crate) u32);

fn quantity(text: &str, units: &[(&str, u64)], example: &str) -> Result<u64, NameError> {
    let wrong = || {
        let units: Vec<_> = units.iter().map(|(unit, _)| *unit).collect();
        NameError(format!(
            "write a whole number, a space and one of {}, such as `{example}`",
            units.join(", ")
        ))
    };
    let (number, unit) = text.split_once(' ').ok_or_else(wrong)?;
    let (_, factor) = units.iter().find(|(known, _)| *known == unit).ok_or_else(wrong)?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let value = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
    value
        .filter(|value| *value <= QUANTITY_MAX)
        .ok_or_else(|| NameError("is more than any machine has".to_owned()))
}

/// The largest unit that divides the value.
fn write_quantity(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let fitting = units.iter().rev().find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor));
    let (unit, factor) = fitting.or(units.first()).copied().unwrap_or(("", 1));
    write!(f, "{} {unit}", value / factor)
}

impl FromStr for Size {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Size, NameError> {
        quantity(text, &SIZES, "64 MiB").map(Size)
    }
}

impl FromStr for Duration {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Duration, NameError> {
        quantity(text, &TIMES, "500 ms").map(Duration)
    }
}

impl FromStr for Rate {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Rate, NameError> {
        let size = text.strip_suffix("/s");
        let size = size.ok_or_else(|| NameError("write a size per second, such as `64 KiB/s`".to_owned()))?;
        quantity(size, &SIZES, "64 KiB").map(Rate)
    }
}

impl FromStr for Share {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Share, NameError> {
        /// 64 whole cores.
        const PERCENT_MAX: u32 = 6400;
        let number =
            text.strip_suffix(" %").filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        match number.and_then(|number| number.parse::<u32>().ok()) {
            Some(percent @ 1..=PERCENT_MAX) => Ok(Share(percent * 10)),
            _ => Err(NameError("write a share of one core, such as `100 %`".to_owned())),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_quantity(f, self.0, &SIZES)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_quantity(f, self.0, &TIMES)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", Size(self.0))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0 / 10)
    }
}
