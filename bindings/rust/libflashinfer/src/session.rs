//! Sessions: stepping, logits, position, state; and stopping one from elsewhere.

use crate::error::{Error, Result};
use crate::model::Model;
use crate::records::Logprob;
use crate::sys;
use std::os::raw::{c_int, c_void};
use std::ptr;
use std::ptr::NonNull;
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One sequence: KV cache and position. Holds its model.
#[derive(Debug)]
pub struct Session {
    model: Model,
    raw: NonNull<sys::flashinfer_session>,
    cancel: CancelHandle,
}

// SAFETY: calls on sessions may come from any thread and are serialised inside; what runs a session takes it mutably
unsafe impl Send for Session {}
unsafe impl Sync for Session {}

/// Stops a session's running call, which then fails with [`ErrorCode::Canceled`](crate::ErrorCode::Canceled). Does
/// nothing if no call runs, and once the session is gone.
///
/// May be used from any thread, also in a callback. It takes a lock for a moment, so it is not for signal handlers.
#[derive(Clone, Debug)]
pub struct CancelHandle {
    target: Arc<Mutex<Option<Target>>>,
}

#[derive(Debug)]
struct Target(NonNull<sys::flashinfer_session>);

// SAFETY: only flashinfer_session_cancel(), which any thread may call, is given the pointer
unsafe impl Send for Target {}

impl CancelHandle {
    /// Stop the session's running call.
    pub fn cancel(&self) {
        if let Some(Target(session)) = &*self.lock() {
            // SAFETY: the session takes itself out of the lock before it goes
            unsafe { sys::flashinfer_session_cancel(session.as_ptr()) };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Target>> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        *self.cancel.lock() = None;
        self.model.inner.destroy_session(self.raw);
    }
}

impl Session {
    pub(crate) fn create(model: &Model) -> Result<Session> {
        let mut raw = ptr::null_mut();
        // SAFETY: the model is open
        let outcome = model.inner.call(ptr::null_mut(), |error| unsafe {
            sys::flashinfer_session_create(model.inner.as_ptr(), &mut raw, error)
        });
        let session = NonNull::new(raw).map(|raw| Session {
            model: model.clone(),
            raw,
            cancel: CancelHandle {
                target: Arc::new(Mutex::new(Some(Target(raw)))),
            },
        });
        outcome.finish()?;
        session.ok_or_else(|| Error::invalid("the library returned no session"))
    }

    /// The model this session runs on.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Run one token through all layers. On failure position and logits are as before.
    pub fn step(&mut self, token: i32) -> Result<()> {
        // SAFETY: the session is there, and ours alone
        self.run(|session, error| unsafe { sys::flashinfer_step(session, token, error) })
    }

    /// Run tokens in order, such as a prompt. On failure or cancel the session stands after the last token or chunk
    /// completed, without logits.
    pub fn eval(&mut self, tokens: &[i32]) -> Result<()> {
        // SAFETY: the session is there, and ours alone; so are the tokens
        self.run(|session, error| unsafe {
            sys::flashinfer_eval(session, tokens.as_ptr(), tokens.len(), error)
        })
    }

    /// The logits of the last step, one for each id of the vocabulary; none before the first. They are the session's
    /// own memory, so nothing can run while they are borrowed.
    pub fn logits(&self) -> Option<&[f32]> {
        let mut count = 0;
        // SAFETY: valid until the session's next call, which takes it mutably
        unsafe {
            let logits = sys::flashinfer_logits(self.raw.as_ptr(), &mut count);
            logits
                .as_ref()
                .map(|first| slice::from_raw_parts(first, count))
        }
    }

    /// Log probabilities after the last step: of these tokens, then of the `top` likeliest, the likeliest first.
    ///
    /// Of the model's own distribution: what a sampler does to logits does not count. Before the first step there are
    /// none, which is [`ErrorCode::InvalidArgument`](crate::ErrorCode::InvalidArgument).
    pub fn logprobs(&self, tokens: &[i32], top: usize) -> Result<Vec<Logprob>> {
        let logits = self
            .logits()
            .ok_or_else(|| Error::invalid("the session has no logits: run a token first"))?;
        if top > logits.len() {
            let text = format!("top is {}, must be at most {}", top, logits.len());
            return Err(Error::invalid(text));
        }
        let raw = |token: i32| sys::flashinfer_logprob {
            token,
            logprob: 0.0,
        };
        let mut asked: Vec<_> = tokens.iter().map(|token| raw(*token)).collect();
        let mut likeliest = vec![raw(0); top];
        // SAFETY: the logits are there as long as they are borrowed; both lists have room for their lengths
        let outcome = self.model.inner.call(ptr::null_mut(), |error| unsafe {
            sys::flashinfer_logprobs(
                logits.as_ptr(),
                logits.len(),
                asked.as_mut_ptr(),
                asked.len(),
                likeliest.as_mut_ptr(),
                likeliest.len(),
                error,
            )
        });
        outcome.finish()?;
        asked.append(&mut likeliest);
        let read = |raw: sys::flashinfer_logprob| Logprob {
            token: raw.token,
            logprob: raw.logprob,
        };
        Ok(asked.into_iter().map(read).collect())
    }

    /// Tokens in the session's context.
    pub fn position(&self) -> u32 {
        // SAFETY: the session is there
        unsafe { sys::flashinfer_session_position(self.raw.as_ptr()) }
    }

    /// Forget everything from a position on, at most the current one; 0 begins anew. The logits are gone.
    pub fn rewind(&mut self, position: u32) -> Result<()> {
        // SAFETY: the session is there, and ours alone
        self.run(|session, error| unsafe {
            sys::flashinfer_session_rewind(session, position, error)
        })
    }

    /// A handle that stops this session's calls from another thread or a callback.
    pub fn cancel_handle(&self) -> CancelHandle {
        self.cancel.clone()
    }

    /// Position, logits and KV cache, to be written to a file.
    pub fn save_state(&mut self) -> Result<Vec<u8>> {
        // SAFETY: the session is there
        let bytes = unsafe { sys::flashinfer_state_bytes(self.raw.as_ptr()) };
        let mut state = vec![0_u8; bytes];
        let mut written = 0;
        // SAFETY: the session is there, and ours alone; state has room for that many bytes
        self.run(|session, error| unsafe {
            let buffer = state.as_mut_ptr() as *mut c_void;
            sys::flashinfer_state_save(session, buffer, bytes, &mut written, error)
        })?;
        state.truncate(written);
        Ok(state)
    }

    /// Replace position, logits and KV cache by those saved from the same model file and KV type; anything else is
    /// [`ErrorCode::State`](crate::ErrorCode::State).
    pub fn load_state(&mut self, state: &[u8]) -> Result<()> {
        // SAFETY: the session is there, and ours alone; so is the state
        self.run(|session, error| unsafe {
            let buffer = state.as_ptr() as *const c_void;
            sys::flashinfer_state_load(session, buffer, state.len(), error)
        })
    }

    fn run(
        &mut self,
        run: impl FnOnce(*mut sys::flashinfer_session, *mut sys::flashinfer_error) -> c_int,
    ) -> Result<()> {
        let session = self.raw.as_ptr();
        let outcome = self.model.inner.call(session, |error| run(session, error));
        outcome.finish()
    }
}
