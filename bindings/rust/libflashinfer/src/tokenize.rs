//! How a text becomes tokens.

use crate::sys;

/// How a text becomes tokens: as a prompt does, unless something is set.
///
/// ```
/// use libflashinfer::TokenizeOptions;
/// let middle_of_a_text = TokenizeOptions::new().bos(false);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenizeOptions {
    bos: bool,
    special: bool,
}

impl Default for TokenizeOptions {
    fn default() -> Self {
        TokenizeOptions {
            bos: true,
            special: false,
        }
    }
}

impl TokenizeOptions {
    /// With the model's bos token if it wants one, and without control tokens.
    pub fn new() -> Self {
        TokenizeOptions::default()
    }

    setters! {
        /// Begin with the model's bos token if it wants one; on unless it is set off.
        bos: bool,
        /// Texts such as `</s>` become their control token; off unless it is set on.
        special: bool,
    }

    pub(crate) fn number(self) -> u32 {
        let flag = |yes, flag| if yes { flag } else { 0 };
        flag(self.bos, sys::FLASHINFER_TOKENIZE_BOS)
            | flag(self.special, sys::FLASHINFER_TOKENIZE_SPECIAL)
    }
}

/// The old form of [`TokenizeOptions`], whose `bos` is off by default.
#[deprecated(note = "TokenizeOptions, as in Python: bos is on unless it is set off")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenizeFlags {
    /// Begin with the model's bos token if it wants one.
    pub bos: bool,
    /// Texts such as `</s>` become their control token.
    pub special: bool,
}

#[allow(deprecated)]
impl From<TokenizeFlags> for TokenizeOptions {
    fn from(flags: TokenizeFlags) -> Self {
        TokenizeOptions {
            bos: flags.bos,
            special: flags.special,
        }
    }
}
