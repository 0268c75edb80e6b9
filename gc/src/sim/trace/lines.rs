//! Lines of text and the fields in them.

use std::str::FromStr;

use super::SECTOR_BYTES;
use super::error::Fault;

/// Longest text that an error repeats, in characters.
const QUOTED_MAX: usize = 32;

/// The line without its end and without blanks around it.
pub(super) fn trimmed(line: &[u8]) -> &[u8] {
    line.trim_ascii()
}

/// Whether a line of a table is one of column names: all tables here begin with a number.
pub(super) fn is_header(line: &[u8]) -> bool {
    trimmed(line).first().is_some_and(u8::is_ascii_alphabetic)
}

pub(super) fn text(line: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(line).map_err(|_| Fault::NotText)
}

/// The first `N` values of a line that are separated by commas.
pub(super) fn values<const N: usize>(line: &[u8]) -> Result<[&str; N], Fault> {
    first_fields(text(line)?.split(',').map(str::trim))
}

/// The first `N` of some fields.
pub(super) fn first_fields<'a, const N: usize>(fields: impl Iterator<Item = &'a str>) -> Result<[&'a str; N], Fault> {
    let mut first = [""; N];
    let found = first.iter_mut().zip(fields).map(|(slot, field)| *slot = field).count();
    if found == N { Ok(first) } else { Err(Fault::Fields { needed: N, found }) }
}

/// `field` is its name, for the fault.
pub(super) fn number<T: FromStr>(field: &'static str, text: &str) -> Result<T, Fault> {
    text.parse().map_err(|_| no_number(field, text))
}

/// A time with a fraction, in units of `unit_us` microseconds.
pub(super) fn decimal_us(field: &'static str, text: &str, unit_us: u32) -> Result<u64, Fault> {
    let units: f64 = number(field, text)?;
    let usable = units.is_finite() && units >= 0.0;
    if usable { Ok((units * f64::from(unit_us)).round() as u64) } else { Err(no_number(field, text)) }
}

/// A count of sectors, in bytes.
pub(super) fn sectors_bytes(sectors: u64) -> Result<u64, Fault> {
    sectors.checked_mul(SECTOR_BYTES).ok_or(Fault::Range)
}

pub(super) fn no_operation(text: &str) -> Fault {
    Fault::Operation(text.chars().take(QUOTED_MAX).collect())
}

fn no_number(field: &'static str, text: &str) -> Fault {
    Fault::Number { field, text: text.chars().take(QUOTED_MAX).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_the_first_ones_and_too_few_are_counted() {
        assert_eq!(values::<2>(b"1, 2,3"), Ok(["1", "2"]));
        assert_eq!(values::<4>(b"1,2,3"), Err(Fault::Fields { needed: 4, found: 3 }));
        assert_eq!(values::<1>(b"\xff"), Err(Fault::NotText));
    }

    #[test]
    fn decimal_times_are_exact_to_the_microsecond() {
        assert_eq!(decimal_us("time", "147000.001", 1000), Ok(147_000_001));
        assert_eq!(decimal_us("time", "3.000000999", 1_000_000), Ok(3_000_001));
        for bad in ["", "x", "-1", "NaN", "inf"] {
            let fault = Fault::Number { field: "time", text: bad.to_owned() };
            assert_eq!(decimal_us("time", bad, 1), Err(fault));
        }
    }

    #[test]
    fn long_texts_are_quoted_in_part() {
        let Err(Fault::Number { text, .. }) = number::<u64>("offset", &"9".repeat(100)) else { panic!("no fault") };
        assert_eq!(text.len(), QUOTED_MAX);
    }
}
