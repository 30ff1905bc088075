//! Logits to a token id.

use crate::callbacks::call;
use crate::error::{Error, Result};
use crate::numbers::size_of;
use crate::sys;
use std::os::raw::c_int;
use std::ptr;
use std::ptr::NonNull;

/// How tokens are chosen; the default is greedy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplerOptions {
    top_k: u32,
    seed: u64,
    temperature: f32,
    top_p: f32,
    min_p: f32,
    repetition_penalty: f32,
    repetition_tokens: u32,
}

impl SamplerOptions {
    /// Greedy.
    pub fn new() -> Self {
        SamplerOptions::default()
    }

    setters! {
        /// Keep the k most likely; 0: all.
        top_k: u32,
        /// Same seed, same logits: same tokens on every machine.
        seed: u64,
        /// 0: greedy, the lowest id among equals.
        temperature: f32,
        /// Nucleus; 0 or 1: off.
        top_p: f32,
        /// Drop what is less likely than `min_p` times the likeliest; 0: off.
        min_p: f32,
        /// Divides positive and multiplies negative logits of recent tokens; 0 or 1: off.
        repetition_penalty: f32,
        /// How many recent tokens count; 0: 64.
        repetition_tokens: u32,
    }

    fn raw(&self) -> sys::flashinfer_sampler_options {
        sys::flashinfer_sampler_options {
            size: size_of::<sys::flashinfer_sampler_options>(),
            top_k: self.top_k,
            seed: self.seed,
            temperature: self.temperature,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            repetition_tokens: self.repetition_tokens,
            logit_bias_count: 0,
            logit_biases: ptr::null(),
        }
    }
}

/// Chooses tokens. Independent of any model.
#[derive(Debug)]
pub struct Sampler {
    raw: NonNull<sys::flashinfer_sampler>,
}

// SAFETY: has no tie to a thread; not Sync, for two threads must not use one at once
unsafe impl Send for Sampler {}

impl Drop for Sampler {
    fn drop(&mut self) {
        // SAFETY: nobody else has it
        unsafe { sys::flashinfer_sampler_destroy(self.raw.as_ptr()) };
    }
}

impl Sampler {
    /// vocab_count: longest logits it will be given.
    pub fn new(options: &SamplerOptions, vocab_count: usize) -> Result<Sampler> {
        let mut raw = ptr::null_mut();
        // SAFETY: the options are copied
        run(|error| unsafe {
            sys::flashinfer_sampler_create(&options.raw(), vocab_count, &mut raw, error)
        })?;
        let raw = NonNull::new(raw);
        raw.map(|raw| Sampler { raw })
            .ok_or_else(|| Error::invalid("the library returned no sampler"))
    }

    /// Choose a token and remember it for the repetition penalty.
    pub fn sample(&mut self, logits: &[f32]) -> Result<i32> {
        let mut token = 0;
        let raw = self.raw.as_ptr();
        // SAFETY: the sampler is there, and ours alone; so are the logits
        run(|error| unsafe {
            sys::flashinfer_sampler_sample(raw, logits.as_ptr(), logits.len(), &mut token, error)
        })?;
        Ok(token)
    }

    /// Let a token that was not sampled, such as a prompt's, count for the repetition penalty.
    pub fn accept(&mut self, token: i32) -> Result<()> {
        let raw = self.raw.as_ptr();
        // SAFETY: the sampler is there, and ours alone
        run(|error| unsafe { sys::flashinfer_sampler_accept(raw, token, error) })
    }
}

fn run(run: impl FnOnce(*mut sys::flashinfer_error) -> c_int) -> Result<()> {
    call(ptr::null(), ptr::null_mut(), run).finish()
}
