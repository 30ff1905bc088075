//! Calls into C with closures behind them: what they are told, where a panic goes, which call of a thread is running.
//!
//! Owns: the record of the calls a thread is in, and panics on their way across C.
//! Refuses: letting a panic unwind into C, and running a second callback after one that panicked in the same call.

use crate::error::{Error, Result};
use crate::kinds::LogLevel;
use crate::numbers::index;
use crate::sys;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::fmt;
use std::ops::ControlFlow;
use std::os::raw::{c_char, c_int, c_void};
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::ptr;
use std::slice;
use std::sync::Arc;

pub(crate) type Payload = Box<dyn Any + Send>;

// ------------------------------------------------------------------------------------ what they are told

/// How far a long call is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress<'a> {
    /// "open", "verify", "eval", "pack" or "probe".
    pub stage: &'a str,
    /// Bytes; tokens for "eval", measurements for "probe".
    pub done: u64,
    /// In the same unit as `done`.
    pub total: u64,
}

/// What a layer asks for in one step: the neurons the predictor named, before the cache is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Trace<'a> {
    pub(crate) raw: &'a sys::flashinfer_trace,
}

impl<'a> Trace<'a> {
    /// Which layer.
    pub fn layer(&self) -> u32 {
        self.raw.layer
    }

    /// Layers of the model.
    pub fn layer_count(&self) -> u32 {
        self.raw.layer_count
    }

    /// Neurons of a layer.
    pub fn ffn_length(&self) -> u32 {
        self.raw.ffn_length
    }

    /// Steps of the model since it was opened, from 1.
    pub fn step(&self) -> u64 {
        self.raw.step
    }

    /// Distance between two bundles in the file.
    pub fn bundle_stride_bytes(&self) -> u32 {
        self.raw.bundle_stride_bytes
    }

    /// Of the layer's first bundle, bytes from the start of the model.
    pub fn bundle_offset(&self) -> u64 {
        self.raw.bundle_offset
    }

    /// The neurons, ascending.
    pub fn ids(&self) -> &'a [u32] {
        // SAFETY: the library's array, there during the callback
        unsafe { items(self.raw.ids, self.raw.count) }
    }
}

/// What goes into a layer's FFN in one step: the input its predictor sees.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FfnInput<'a> {
    /// Which layer.
    pub layer: u32,
    /// Layers of the model.
    pub layer_count: u32,
    /// Steps of the model since it was opened, from 1.
    pub step: u64,
    /// The input, as wide as the model.
    pub x: &'a [f32],
}

/// What a predictor missed in a layer of one step, found by computing all neurons beside those it named.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Audit {
    /// Which layer.
    pub layer: u32,
    /// Layers of the model.
    pub layer_count: u32,
    /// Neurons of a layer.
    pub ffn_length: u32,
    /// Steps of the model since it was opened, from 1.
    pub step: u64,
    /// Neurons named.
    pub predicted: u32,
    /// Neurons that fire.
    pub active: u32,
    /// Of those, not named.
    pub missed: u32,
    /// Norm of what all firing neurons add up to, bias left out.
    pub output_norm: f64,
    /// Norm of what the missed ones add up to.
    pub missed_norm: f64,
}

unsafe fn items<'a, T>(data: *const T, count: u32) -> &'a [T] {
    if count == 0 {
        &[]
    } else {
        slice::from_raw_parts(data, index(count))
    }
}

// ------------------------------------------------------------------------------------ the closures

pub(crate) type LogFn = dyn Fn(LogLevel, &str) + Send + Sync;
pub(crate) type ProgressFn = dyn Fn(&Progress<'_>) -> ControlFlow<()> + Send + Sync;
pub(crate) type TraceFn = dyn Fn(&Trace<'_>) + Send + Sync;
pub(crate) type FfnInputFn = dyn Fn(&FfnInput<'_>) + Send + Sync;
pub(crate) type AuditFn = dyn Fn(&Audit) + Send + Sync;

/// A model keeps the ones it was opened with; the pointer to them is the `user` of its callbacks.
#[derive(Clone, Default)]
pub(crate) struct Callbacks {
    pub log: Option<Arc<LogFn>>,
    pub progress: Option<Arc<ProgressFn>>,
    pub trace: Option<Arc<TraceFn>>,
    pub ffn_input: Option<Arc<FfnInputFn>>,
    pub audit: Option<Arc<AuditFn>>,
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks")
            .field("log", &self.log.is_some())
            .field("progress", &self.progress.is_some())
            .field("trace", &self.trace.is_some())
            .field("ffn_input", &self.ffn_input.is_some())
            .field("audit", &self.audit.is_some())
            .finish()
    }
}

impl Callbacks {
    pub(crate) fn user(&self) -> *mut c_void {
        self as *const Callbacks as *mut c_void
    }

    pub(crate) fn log_callback(&self) -> sys::flashinfer_log_callback {
        self.log.as_ref().map(|_| on_log as _)
    }

    pub(crate) fn progress_callback(&self) -> sys::flashinfer_progress_callback {
        self.progress.as_ref().map(|_| on_progress as _)
    }

    pub(crate) fn trace_callback(&self) -> sys::flashinfer_trace_callback {
        self.trace.as_ref().map(|_| on_trace as _)
    }

    pub(crate) fn ffn_input_callback(&self) -> sys::flashinfer_ffn_input_callback {
        self.ffn_input.as_ref().map(|_| on_ffn_input as _)
    }

    pub(crate) fn audit_callback(&self) -> sys::flashinfer_audit_callback {
        self.audit.as_ref().map(|_| on_audit as _)
    }
}

// SAFETY of all five: user is a Callbacks that outlives the call, records and text are there during the callback.

unsafe extern "C" fn on_log(level: c_int, text: *const c_char, user: *mut c_void) {
    if let Some(log) = &(*(user as *const Callbacks)).log {
        shielded((), || {
            log(
                LogLevel::from(level),
                &CStr::from_ptr(text).to_string_lossy(),
            )
        });
    }
}

unsafe extern "C" fn on_progress(raw: *const sys::flashinfer_progress, user: *mut c_void) -> c_int {
    let progress = match &(*(user as *const Callbacks)).progress {
        Some(progress) => progress,
        None => return 0,
    };
    let stage = CStr::from_ptr((*raw).stage).to_string_lossy();
    let told = Progress {
        stage: &stage,
        done: (*raw).done,
        total: (*raw).total,
    };
    match shielded(ControlFlow::Break(()), || progress(&told)) {
        ControlFlow::Continue(()) => 0,
        ControlFlow::Break(()) => 1,
    }
}

unsafe extern "C" fn on_trace(raw: *const sys::flashinfer_trace, user: *mut c_void) {
    if let Some(trace) = &(*(user as *const Callbacks)).trace {
        shielded((), || trace(&Trace { raw: &*raw }));
    }
}

unsafe extern "C" fn on_ffn_input(raw: *const sys::flashinfer_ffn_input, user: *mut c_void) {
    if let Some(ffn_input) = &(*(user as *const Callbacks)).ffn_input {
        let told = FfnInput {
            layer: (*raw).layer,
            layer_count: (*raw).layer_count,
            step: (*raw).step,
            x: items((*raw).x, (*raw).width),
        };
        shielded((), || ffn_input(&told));
    }
}

unsafe extern "C" fn on_audit(raw: *const sys::flashinfer_audit, user: *mut c_void) {
    if let Some(audit) = &(*(user as *const Callbacks)).audit {
        let told = Audit {
            layer: (*raw).layer,
            layer_count: (*raw).layer_count,
            ffn_length: (*raw).ffn_length,
            step: (*raw).step,
            predicted: (*raw).predicted,
            active: (*raw).active,
            missed: (*raw).missed,
            output_norm: (*raw).output_norm,
            missed_norm: (*raw).missed_norm,
        };
        shielded((), || audit(&told));
    }
}

// ------------------------------------------------------------------------------------ calls and panics

/// One call into the library. Callbacks run on the thread that made it, so they find it through `CURRENT`.
struct Call {
    model: *const sys::flashinfer_model,
    session: *mut sys::flashinfer_session,
    panic: RefCell<Option<Payload>>,
    outer: *const Call,
}

thread_local! {
    static CURRENT: Cell<*const Call> = const { Cell::new(ptr::null()) };
}

/// What a call came to. A new handle is wrapped, so that it is freed, before `finish` may panic.
#[must_use]
pub(crate) struct Outcome {
    pub code: c_int,
    pub panic: Option<Payload>,
    record: sys::flashinfer_error,
}

impl Outcome {
    /// The call's result; or the panic of a callback goes on from here.
    pub fn finish(self) -> Result<()> {
        if let Some(payload) = self.panic {
            resume_unwind(payload);
        }
        match self.code {
            sys::FLASHINFER_OK => Ok(()),
            code => Err(Error::from_record(code, &self.record)),
        }
    }
}

/// Make a call. model and session, which may be null, are the ones it runs on.
pub(crate) fn call(
    model: *const sys::flashinfer_model,
    session: *mut sys::flashinfer_session,
    run: impl FnOnce(*mut sys::flashinfer_error) -> c_int,
) -> Outcome {
    let mut record = Error::record();
    let call = Call {
        model,
        session,
        panic: RefCell::new(None),
        outer: CURRENT.with(Cell::get),
    };
    CURRENT.with(|current| current.set(&call));
    let code = run(&mut record);
    CURRENT.with(|current| current.set(call.outer));
    Outcome {
        code,
        panic: call.panic.into_inner(),
        record,
    }
}

/// Is this thread inside a call on this model, that is in one of its callbacks?
pub(crate) fn inside_call(model: *const sys::flashinfer_model) -> bool {
    let mut at = CURRENT.with(Cell::get);
    while !at.is_null() {
        // SAFETY: calls of this thread that have not returned
        let call = unsafe { &*at };
        if call.model == model {
            return true;
        }
        at = call.outer;
    }
    false
}

/// Run a callback's closure. A panic is kept for the end of the call, which is cancelled if it is a session's.
fn shielded<T>(otherwise: T, run: impl FnOnce() -> T) -> T {
    // SAFETY: the call that this callback belongs to has not returned
    let call = match unsafe { CURRENT.with(Cell::get).as_ref() } {
        Some(call) => call,
        None => return otherwise,
    };
    if call.panic.borrow().is_some() {
        return otherwise;
    }
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(value) => value,
        Err(payload) => {
            *call.panic.borrow_mut() = Some(payload);
            // SAFETY: the session of a running call; NULL is fine
            unsafe { sys::flashinfer_session_cancel(call.session) };
            otherwise
        }
    }
}
