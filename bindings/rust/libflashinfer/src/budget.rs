//! Budgets: bytes, or a share of the model's file; and as an application's user writes them, exact to the byte.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// How much memory a model may use. A number of bytes is one, and so is a text such as `"50%".parse()?`.
///
/// ```
/// use libflashinfer::Budget;
/// # fn main() -> Result<(), libflashinfer::Error> {
/// assert_eq!("64M".parse::<Budget>()?, Budget::Bytes(64 << 20)); // K, M, G, T are of 1024
/// assert_eq!("62.5%".parse::<Budget>()?, Budget::Percent(62.5));
/// assert_eq!(Budget::from(20 << 20), Budget::Bytes(20 << 20));
/// assert!("64 MB".parse::<Budget>().is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Budget {
    /// Bytes; 0: whatever makes everything resident.
    Bytes(u64),
    /// Percent of the model file's size, more than 0.
    Percent(f64),
}

impl Default for Budget {
    fn default() -> Self {
        Budget::Bytes(0)
    }
}

impl From<u64> for Budget {
    fn from(bytes: u64) -> Self {
        Budget::Bytes(bytes)
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Budget::Bytes(bytes) => write!(f, "{}", bytes),
            Budget::Percent(percent) => write!(f, "{}%", percent),
        }
    }
}

impl FromStr for Budget {
    type Err = Error;

    /// What the programs' `--budget` takes.
    fn from_str(text: &str) -> Result<Self> {
        parse(text).ok_or_else(|| {
            Error::invalid(format!(
                "a budget is a share of the model file such as 50%, or bytes such as 1.5G, 800M or 123456, not \"{}\"",
                text
            ))
        })
    }
}

fn parse(text: &str) -> Option<Budget> {
    if let Some(percent) = text.strip_suffix('%') {
        scaled(percent, u64::MAX)?; // is it a number, and not 0?
        return percent.parse().ok().map(Budget::Percent);
    }
    let units = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let unit = units.iter().find(|(name, _)| text.ends_with(*name));
    let bytes = match unit {
        Some((name, power)) => scaled(text.strip_suffix(*name)?, 1 << power)?,
        None if text.contains('.') => return None, // a part of a byte
        None => scaled(text, 1)?,
    };
    u64::try_from(bytes).ok().map(Budget::Bytes)
}

/// DIGITS or DIGITS.DIGITS times a unit, rounded down once; none if it is something else, too much or 0.
fn scaled(number: &str, unit: u64) -> Option<u128> {
    let (whole, behind) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(behind) {
        return None; // f64 and u64 read signs, too
    }
    let unit = u128::from(unit);
    // from the last digit on: to round down at each adds up to rounding down once
    let part = behind.bytes().rev().fold(0, |part, digit| {
        (u128::from(digit - b'0') * unit + part) / 10
    });
    let whole = u128::from(whole.parse::<u64>().ok()?);
    Some(whole * unit + part).filter(|product| *product != 0)
}

impl Budget {
    /// The bytes. file_bytes: of the model, asked for only if it is a share. A share that comes to no byte at all is refused,
    /// for 0 bytes mean no ceiling.
    pub(crate) fn bytes(self, file_bytes: impl FnOnce() -> Result<u64>) -> Result<u64> {
        let percent = match self {
            Budget::Bytes(bytes) => return Ok(bytes),
            Budget::Percent(percent) => percent,
        };
        let file_bytes = file_bytes()?;
        let share =
            scaled(&percent.to_string(), file_bytes).map_or(0, |hundredfold| hundredfold / 100);
        match u64::try_from(share) {
            Ok(bytes) if bytes != 0 => Ok(bytes),
            _ => Err(Error::invalid(format!(
                "a budget of {}% of {} bytes is none that can be",
                percent, file_bytes
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (text, budget) in [
            ("50%", Budget::Percent(50.0)),
            ("20000%", Budget::Percent(20000.0)),
            ("0.5%", Budget::Percent(0.5)),
            ("20000000", Budget::Bytes(20_000_000)),
            ("1.5G", Budget::Bytes(3 << 29)),
            ("3K", Budget::Bytes(3072)),
            ("2T", Budget::Bytes(2 << 40)),
            ("0.3G", Budget::Bytes(322_122_547)),
            ("0.0009765625K", Budget::Bytes(1)),
            (
                "1.99902343749999999999999999999999999K",
                Budget::Bytes(2046),
            ),
            ("18446744073709551614", Budget::Bytes(u64::MAX - 1)),
        ] {
            assert_eq!(text.parse::<Budget>().unwrap(), budget);
        }
        let wrong = ",%,K,.,0,0%,0.0%,0G,-5%,+5,50 %, 5,64m,1e9,nan,inf,1K%,5%%,1.5,5.,.5G,5.G,1.2.3G,16777216T,\u{0663}%";
        for text in wrong.split(',') {
            let error = text.parse::<Budget>().unwrap_err();
            assert!(error.text().contains(&format!("not \"{}\"", text)));
        }
        for budget in [Budget::Bytes(7), Budget::Percent(12.5)] {
            assert_eq!(budget.to_string().parse::<Budget>().unwrap(), budget);
        }
    }

    #[test]
    fn shares() {
        let of = |budget: Budget, file: u64| budget.bytes(|| Ok(file));
        assert_eq!(of(Budget::Percent(50.0), 1001).unwrap(), 500);
        assert_eq!(of(Budget::Percent(150.0), 1000).unwrap(), 1500);
        assert_eq!(of(Budget::Bytes(7), 0).unwrap(), 7);
        // as binary floating point cannot
        for tenths in 1..1000_u32 {
            let percent = f64::from(tenths) / 10.0;
            let bytes = of(Budget::Percent(percent), 1_000_000).unwrap();
            assert_eq!(bytes, u64::from(tenths) * 1000);
        }
        for percent in [0.0, -1.0, 1e300, f64::NAN, f64::INFINITY, 0.01] {
            assert!(of(Budget::Percent(percent), 1000).is_err(), "{}", percent);
        }
        let asked = Budget::Bytes(5).bytes(|| panic!("not a share"));
        assert_eq!(asked.unwrap(), 5);
    }
}
