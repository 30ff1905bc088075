//! Logits to a token id.

use crate::callbacks::call;
use crate::error::{Error, ErrorCode, Result};
use crate::numbers::size_of;
use crate::sys;
use std::os::raw::{c_int, c_void};
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
    logit_biases: Vec<(i32, f32)>,
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

    /// What is added to tokens' logits before all else, each a token and its bias: finite, or negative infinity, by which
    /// a token is never chosen. The order means nothing; a token has one at most.
    #[must_use]
    pub fn logit_biases(mut self, logit_biases: impl Into<Vec<(i32, f32)>>) -> Self {
        self.logit_biases = logit_biases.into();
        self
    }

    /// The list as C sees it.
    fn raw_biases(&self) -> Vec<sys::flashinfer_logit_bias> {
        let raw = |&(token, bias): &(i32, f32)| sys::flashinfer_logit_bias { token, bias };
        self.logit_biases.iter().map(raw).collect()
    }

    /// biases must stay where they are as long as what this returns.
    fn raw(
        &self,
        biases: &[sys::flashinfer_logit_bias],
    ) -> Result<sys::flashinfer_sampler_options> {
        let logit_bias_count = u32::try_from(biases.len())
            .map_err(|_| Error::invalid(format!("{} logit biases are too many", biases.len())))?;
        Ok(sys::flashinfer_sampler_options {
            size: size_of::<sys::flashinfer_sampler_options>(),
            top_k: self.top_k,
            seed: self.seed,
            temperature: self.temperature,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            repetition_tokens: self.repetition_tokens,
            logit_bias_count,
            logit_biases: biases.as_ptr(),
        })
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
        let biases = options.raw_biases();
        let given = options.raw(&biases)?;
        // SAFETY: the options are copied, and the biases looked at during the call only
        Sampler::made(|raw, error| unsafe {
            sys::flashinfer_sampler_create(&given, vocab_count, raw, error)
        })
    }

    /// A second sampler that goes on as this one would: options, next random numbers, recent tokens.
    pub fn copy(&self) -> Result<Sampler> {
        let from = self.raw.as_ptr();
        // SAFETY: the sampler is there, and nobody changes it: it is not Sync
        Sampler::made(|raw, error| unsafe { sys::flashinfer_sampler_copy(from, raw, error) })
    }

    fn made(
        make: impl FnOnce(*mut *mut sys::flashinfer_sampler, *mut sys::flashinfer_error) -> c_int,
    ) -> Result<Sampler> {
        let mut raw = ptr::null_mut();
        run(|error| make(&mut raw, error))?;
        let raw = NonNull::new(raw);
        raw.map(|raw| Sampler { raw })
            .ok_or_else(|| Error::invalid("the library returned no sampler"))
    }

    /// Random numbers and recent tokens, to be written to a file beside [`Session::save_state`](crate::Session::save_state).
    /// Options are not in it.
    pub fn save_state(&self) -> Result<Vec<u8>> {
        let mut written = 0;
        match self.save_into(&mut [], &mut written) {
            Err(error) if error.code() == ErrorCode::Buffer => {}
            result => result?,
        }
        let mut state = vec![0_u8; written];
        self.save_into(&mut state, &mut written)?;
        state.truncate(written);
        Ok(state)
    }

    fn save_into(&self, state: &mut [u8], written: &mut usize) -> Result<()> {
        let raw = self.raw.as_ptr();
        let buffer = state.as_mut_ptr() as *mut c_void;
        // SAFETY: the sampler is there, and nobody changes it: it is not Sync; state has room for its length
        run(|error| unsafe {
            sys::flashinfer_sampler_state_save(raw, buffer, state.len(), written, error)
        })
    }

    /// Go on as the sampler would that a state was saved from, if this one was made with the same options. A state of
    /// another vocabulary's size, or of another number of recent tokens, is
    /// [`ErrorCode::State`](crate::ErrorCode::State), and changes nothing.
    pub fn load_state(&mut self, state: &[u8]) -> Result<()> {
        let raw = self.raw.as_ptr();
        let buffer = state.as_ptr() as *const c_void;
        // SAFETY: the sampler is there, and ours alone; so is the state
        run(|error| unsafe { sys::flashinfer_sampler_state_load(raw, buffer, state.len(), error) })
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
