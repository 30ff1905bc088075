//! Token ids to text, piece by piece.

use crate::error::{Error, Result};
use crate::model::Model;
use crate::sys;
use std::os::raw::c_char;
use std::ptr;
use std::ptr::NonNull;
use std::slice;

/// Token ids to text, never splitting a UTF-8 character. Holds its model.
#[derive(Debug)]
pub struct Decoder {
    model: Model,
    raw: NonNull<sys::flashinfer_decoder>,
}

// SAFETY: reads the model's tokenizer, which nothing changes; not Sync, for its own state is not locked
unsafe impl Send for Decoder {}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: nobody else has it; its model goes after it
        unsafe { sys::flashinfer_decoder_destroy(self.raw.as_ptr()) };
    }
}

impl Decoder {
    pub(crate) fn create(model: &Model) -> Result<Decoder> {
        let mut raw = ptr::null_mut();
        // SAFETY: the model outlives the decoder that holds it
        let outcome = model.inner.call(ptr::null_mut(), |error| unsafe {
            sys::flashinfer_decoder_create(model.inner.as_ptr(), &mut raw, error)
        });
        let decoder = NonNull::new(raw).map(|raw| Decoder {
            model: model.clone(),
            raw,
        });
        outcome.finish()?;
        decoder.ok_or_else(|| Error::invalid("the library returned no decoder"))
    }

    /// Add a token, take the text that is complete. Bytes that can never become a character are replaced by U+FFFD.
    pub fn push(&mut self, token: i32) -> Result<&str> {
        if token < 0 {
            return Err(Error::invalid(format!(
                "token {}; finish() ends a stream",
                token
            )));
        }
        self.push_raw(token)
    }

    /// End the stream, take what is left. The decoder can begin another one.
    pub fn finish(&mut self) -> Result<&str> {
        self.push_raw(-1)
    }

    fn push_raw(&mut self, token: i32) -> Result<&str> {
        let mut text: *const c_char = ptr::null();
        let mut bytes = 0;
        let raw = self.raw.as_ptr();
        // SAFETY: the decoder is there, and ours alone
        let outcome = self.model.inner.call(ptr::null_mut(), |error| unsafe {
            sys::flashinfer_decoder_push(raw, token, &mut text, &mut bytes, error)
        });
        outcome.finish()?;
        // SAFETY: the decoder's until its next call, which takes it mutably
        let text = unsafe { slice::from_raw_parts(text as *const u8, bytes) };
        std::str::from_utf8(text).map_err(|_| Error::invalid("the library returned no UTF-8"))
    }
}
