//! Budgets: bytes, or a share of the model's file; and as an application's user writes them, exact to the byte.

use crate::callbacks::call;
use crate::error::{Error, Result};
use crate::sys;
use std::ffi::CString;
use std::fmt;
use std::ptr;
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
        let bytes = parse(text, ANY_FILE)?;
        match text.strip_suffix('%').map(str::parse) {
            Some(Ok(percent)) => Ok(Budget::Percent(percent)),
            _ => Ok(Budget::Bytes(bytes)),
        }
    }
}

const ANY_FILE: u64 = 1 << 40; // is the text a budget at all?

/// The library's own reading.
fn parse(text: &str, file_bytes: u64) -> Result<u64> {
    let given = CString::new(text).map_err(|_| Error::invalid("a budget with a zero byte"))?;
    let mut bytes = 0;
    // SAFETY: the text lives until the call returns
    call(ptr::null(), ptr::null_mut(), |error| unsafe {
        sys::flashinfer_budget_parse(given.as_ptr(), file_bytes, &mut bytes, error)
    })
    .finish()?;
    Ok(bytes)
}

impl Budget {
    /// The bytes. file_bytes: of the model, asked for only if it is a share. A share that comes to no byte at all is refused,
    /// for 0 bytes mean no ceiling.
    pub(crate) fn bytes(self, file_bytes: impl FnOnce() -> Result<u64>) -> Result<u64> {
        match self {
            Budget::Bytes(bytes) => Ok(bytes),
            Budget::Percent(_) => {
                let text = self.to_string();
                parse(&text, ANY_FILE)?; // before a file is looked for
                parse(&text, file_bytes()?)
            }
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
            assert!(error.text().contains(&format!("\"{}\"", text)));
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
