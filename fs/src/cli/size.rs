//! Sizes and shares as people write them: `4K`, `2M`, `1.5G`, `16GiB`, `7%`.
//!
//! Units are powers of 1024, in either case, with or without `B` or `iB`. A bare number is bytes.

use std::fmt;
use std::str::FromStr;

/// A number of bytes, as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A share of a whole, as an argument: 7 % is 700 hundredths of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    hundredths: u32,
}

impl Share {
    /// This share of `whole`, rounded down.
    pub fn of(self, whole: u64) -> u64 {
        (u128::from(whole) * u128::from(self.hundredths) / 10_000) as u64
    }

    /// Hundredths of a percent, 0 to 10,000.
    pub fn hundredths(self) -> u32 {
        self.hundredths
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a size; write it like 4K, 2M, 16G or 1T");
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let shift = shift_of(unit.trim()).ok_or_else(wrong)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || (number.contains('.') && (fraction.is_empty() || fraction.len() > 6 || shift == 0)) {
            return Err(wrong());
        }
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let too_big = || format!("'{text}' is more than 64 bits can hold");
        let scaled = whole.checked_shl(shift).filter(|scaled| scaled >> shift == whole).ok_or_else(too_big)?;
        let part = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().map_err(|_| wrong())? };
        let part = (u128::from(part) << shift) / 10u128.pow(fraction.len() as u32);
        scaled.checked_add(part as u64).map(Self).ok_or_else(too_big)
    }
}

fn shift_of(unit: &str) -> Option<u32> {
    let unit = unit.to_ascii_lowercase();
    let letter = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    match letter {
        "" if unit != "ib" => Some(0),
        "k" => Some(10),
        "m" => Some(20),
        "g" => Some(30),
        "t" => Some(40),
        "p" => Some(50),
        _ => None,
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a share; write it like 7% or 12.5%");
        let number = text.trim().strip_suffix('%').unwrap_or(text.trim()).trim_end();
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || fraction.len() > 2 || !digits(whole) || !digits(fraction) || number.ends_with('.') {
            return Err(wrong());
        }
        let whole: u32 = whole.parse().map_err(|_| wrong())?;
        let fraction: u32 = format!("{fraction:0<2}").parse().map_err(|_| wrong())?;
        match whole.checked_mul(100).and_then(|hundredths| hundredths.checked_add(fraction)) {
            Some(hundredths) if hundredths <= 10_000 => Ok(Self { hundredths }),
            _ => Err(format!("'{text}' is more than the whole; a share lies between 0% and 100%")),
        }
    }
}

impl fmt::Display for Size {
    /// The shortest exact unit, else one decimal of the largest that fits: `4K`, `2M`, `1.5G`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["B", "K", "M", "G", "T", "P"];
        let unit = (self.0.max(1).ilog2() / 10).min(5) as usize;
        let divisor = 1u64 << (10 * unit);
        if self.0.is_multiple_of(divisor) {
            write!(f, "{}{}", self.0 / divisor, UNITS[unit])
        } else {
            write!(f, "{:.1}{}", self.0 as f64 / divisor as f64, UNITS[unit])
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.hundredths) / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> Option<u64> {
        text.parse::<Size>().ok().map(|size| size.0)
    }

    fn share(text: &str) -> Option<u32> {
        text.parse::<Share>().ok().map(Share::hundredths)
    }

    #[test]
    fn sizes_as_people_write_them() {
        assert_eq!(size("0"), Some(0));
        assert_eq!(size("512"), Some(512));
        assert_eq!(size("4K"), Some(4096));
        assert_eq!(size("4k"), Some(4096));
        assert_eq!(size("2MiB"), Some(2 << 20));
        assert_eq!(size("2mb"), Some(2 << 20));
        assert_eq!(size("16 G"), Some(16 << 30));
        assert_eq!(size("1T"), Some(1 << 40));
        assert_eq!(size("1.5G"), Some(3 << 29));
        assert_eq!(size("7B"), Some(7));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in
            ["", "K", "-1", "+1", "4X", "4KK", "1.G", ".5G", "1.5", "1.2.3G", "7%", "ib", "4ib", "1e3", "16384P"]
        {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn shares_as_people_write_them() {
        assert_eq!(share("7%"), Some(700));
        assert_eq!(share("12.5%"), Some(1250));
        assert_eq!(share("7"), Some(700));
        assert_eq!(share("100 %"), Some(10_000));
        assert_eq!("7%".parse::<Share>().unwrap().of(1000), 70);
        for text in ["", "%", "101%", "7.125%", "-3%", "7K", "7.%", "99999999999%"] {
            assert_eq!(share(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_print_as_they_are_read() {
        for text in ["4K", "2M", "16G", "1T", "0B", "1.5G", "511B"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
    }
}
