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

    /// End the text before the first of these that comes, in place of those set before; none: nothing ends it.
    ///
    /// No part of one is given: what may be the beginning of one is held back until later tokens tell. Set them after a
    /// prompt's tokens, whose text may hold one.
    pub fn set_stops<S: AsRef<str>>(&mut self, stops: &[S]) -> Result<()> {
        let texts: Vec<&str> = stops.iter().map(AsRef::as_ref).collect();
        let lengths: Vec<usize> = texts.iter().map(|text| text.len()).collect();
        let texts: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr() as _).collect();
        let raw = self.raw.as_ptr();
        // SAFETY: the decoder is there, and ours alone; the texts are copied
        let outcome = self.model.inner.call(ptr::null_mut(), |error| unsafe {
            let (texts, lengths) = (texts.as_ptr(), lengths.as_ptr());
            sys::flashinfer_decoder_set_stops(raw, texts, lengths, stops.len(), error)
        });
        outcome.finish()
    }

    /// Which of the stops has ended the text, from 0; none so far. It stands until another text begins.
    pub fn stopped(&self) -> Option<usize> {
        // SAFETY: the decoder is there
        let stopped = unsafe { sys::flashinfer_decoder_stopped(self.raw.as_ptr()) };
        usize::try_from(stopped).ok()
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
