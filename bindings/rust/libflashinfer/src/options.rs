//! How a model is opened.

use crate::budget::Budget;
use crate::callbacks::{Audit, Callbacks, FfnInput, Progress, Trace};
use crate::error::{Error, Result};
use crate::kinds::{Activation, CachePolicy, Kernels, KvType, LogLevel, PredictorKind, StorageKind, Verify};
use crate::numbers::size_of;
use crate::probe::ProbeResult;
use crate::sys;
use std::ffi::CString;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;

/// How a model is opened; every option left alone has the library's default.
///
/// ```no_run
/// use libflashinfer::{Options, PredictorKind};
/// let options = Options::new().memory_budget(64 << 20).predictor(PredictorKind::Exact);
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    flags: u32,
    memory_budget: Budget,
    threads: u32,
    context_tokens: u32,
    session_count: u32,
    kv_type: KvType,
    predictor: PredictorKind,
    window_tokens: u32,
    storage: StorageKind,
    verify: Verify,
    kernels: Kernels,
    io_depth: u32,
    io_lanes: u32,
    io_timeout_ms: u32,
    audit_interval: u32,
    io_gap_bytes: u32,
    probe: Option<ProbeResult>,
    cache_policy: CachePolicy,
    audit_layers: u32,
    predictor_path: Option<PathBuf>,
    ffn_activation: Option<Activation>,
    ffn_threshold: f32,
    callbacks: Callbacks,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            flags: 0,
            memory_budget: Budget::default(),
            threads: 0,
            context_tokens: 0,
            session_count: 0,
            kv_type: KvType::Default,
            predictor: PredictorKind::Default,
            window_tokens: 0,
            storage: StorageKind::Default,
            verify: Verify::Default,
            kernels: Kernels::Default,
            io_depth: 0,
            io_lanes: 0,
            io_timeout_ms: 0,
            audit_interval: 0,
            io_gap_bytes: 0,
            probe: None,
            cache_policy: CachePolicy::Default,
            audit_layers: 0,
            predictor_path: None,
            ffn_activation: None,
            ffn_threshold: 0.0,
            callbacks: Callbacks::default(),
        }
    }
}

impl Options {
    /// The defaults: everything resident, as many threads as pay.
    pub fn new() -> Self {
        Options::default()
    }

    /// Ceiling, sessions included: bytes, of which 0 makes everything resident, or a [`Budget`] such as a share of the file. A
    /// budget that cannot work is refused with [`ErrorCode::Budget`](crate::ErrorCode::Budget) and the smallest one that
    /// can.
    #[must_use]
    pub fn memory_budget(mut self, memory_budget: impl Into<Budget>) -> Self {
        self.memory_budget = memory_budget.into();
        self
    }

    setters! {
        /// Compute threads, caller's included; 0: one per CPU, at most 16 and one for 8 MiB of FFN.
        threads: u32,
        /// Positions a session may have; 0: all the model has, at most 8192.
        context_tokens: u32,
        /// Sessions that may exist at once; 0: 1.
        session_count: u32,
        /// What keys and values are kept as.
        kv_type: KvType,
        /// Which neurons are computed.
        predictor: PredictorKind,
        /// k of the paper's sliding window: neurons unused for so many tokens leave; 0: as slots last.
        window_tokens: u32,
        /// How bundles are read.
        storage: StorageKind,
        /// Which checksums are compared.
        verify: Verify,
        /// Which instructions compute.
        kernels: Kernels,
        /// Reads in flight (libaio, io_uring); 0: the probe's, else 64.
        io_depth: u32,
        /// Reading threads (pread, buffered, a host's storage); 0: the probe's, else 4.
        io_lanes: u32,
        /// Longest wait for one read; 0: 30000.
        io_timeout_ms: u32,
        /// Every nth token some layers are also computed densely; 0: never.
        audit_interval: u32,
        /// Reads at most this far apart become one, gap included; 1: none; 0: the probe's, else 4096.
        io_gap_bytes: u32,
        /// Which neurons leave the cache.
        cache_policy: CachePolicy,
        /// How many layers an audit looks at, in turn; 0: 1.
        audit_layers: u32,
    }

    /// The FFN's activation, for GGUF files that do not say theirs. The threshold is that of
    /// [`Activation::FatRelu`], 0 for others.
    #[must_use]
    pub fn ffn_activation(mut self, activation: Activation, threshold: f32) -> Self {
        self.ffn_activation = Some(activation);
        self.ffn_threshold = threshold;
        self
    }

    /// Read header and tokenizer only: no sessions, no budget.
    #[must_use]
    pub fn metadata_only(self, yes: bool) -> Self {
        self.flag(sys::FLASHINFER_OPEN_METADATA, yes)
    }

    /// Take a model with an unknown tokenizer: no text calls.
    #[must_use]
    pub fn no_tokenizer(self, yes: bool) -> Self {
        self.flag(sys::FLASHINFER_OPEN_NO_TOKENIZER, yes)
    }

    fn flag(mut self, flag: u32, yes: bool) -> Self {
        self.flags = if yes {
            self.flags | flag
        } else {
            self.flags & !flag
        };
        self
    }

    /// What this machine was measured to give.
    #[must_use]
    pub fn probe(mut self, probe: ProbeResult) -> Self {
        self.probe = Some(probe);
        self
    }

    /// A predictor file made for this model, in place of the model file's own.
    #[must_use]
    pub fn predictor_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.predictor_path = Some(path.into());
        self
    }

    /// Called with what the library has to say.
    #[must_use]
    pub fn on_log(mut self, log: impl Fn(LogLevel, &str) + Send + Sync + 'static) -> Self {
        self.callbacks.log = Some(Arc::new(log));
        self
    }

    /// Called during long calls; `Break` cancels them with [`ErrorCode::Canceled`](crate::ErrorCode::Canceled).
    #[must_use]
    pub fn on_progress(
        mut self,
        progress: impl Fn(&Progress<'_>) -> ControlFlow<()> + Send + Sync + 'static,
    ) -> Self {
        self.callbacks.progress = Some(Arc::new(progress));
        self
    }

    /// Called for every layer of every step, not in mode `All`. Prompts then run token by token.
    #[must_use]
    pub fn on_trace(mut self, trace: impl Fn(&Trace<'_>) + Send + Sync + 'static) -> Self {
        self.callbacks.trace = Some(Arc::new(trace));
        self
    }

    /// Called for every layer of every step, before its FFN. Prompts then run token by token.
    #[must_use]
    pub fn on_ffn_input(
        mut self,
        ffn_input: impl Fn(&FfnInput<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.callbacks.ffn_input = Some(Arc::new(ffn_input));
        self
    }

    /// Called for every audited layer, see `audit_interval`.
    #[must_use]
    pub fn on_audit(mut self, audit: impl Fn(&Audit) + Send + Sync + 'static) -> Self {
        self.callbacks.audit = Some(Arc::new(audit));
        self
    }

    /// Callbacks for a model to keep: raw options point at them.
    pub(crate) fn boxed_callbacks(&self) -> Box<Callbacks> {
        Box::new(self.callbacks.clone())
    }

    /// Hand the options to a call as C sees them. file_bytes: what a budget may be a share of.
    pub(crate) fn with_raw<T>(
        &self,
        callbacks: &Callbacks,
        file_bytes: impl FnOnce() -> Result<u64>,
        run: impl FnOnce(&sys::flashinfer_options) -> T,
    ) -> Result<T> {
        let path = self.predictor_path.as_deref().map(c_path).transpose()?;
        let memory_budget = self.memory_budget.bytes(file_bytes)?;
        let user = callbacks.user();
        // every field is named: a header with more of them does not compile until it is passed on here
        let raw = sys::flashinfer_options {
            size: size_of::<sys::flashinfer_options>(),
            flags: self.flags,
            memory_budget,
            threads: self.threads,
            context_tokens: self.context_tokens,
            session_count: self.session_count,
            kv_type: self.kv_type.number(),
            predictor: self.predictor.number(),
            window_tokens: self.window_tokens,
            storage: self.storage.number(),
            verify: self.verify.number(),
            kernels: self.kernels.number(),
            io_depth: self.io_depth,
            io_lanes: self.io_lanes,
            io_timeout_ms: self.io_timeout_ms,
            audit_interval: self.audit_interval,
            io_gap_bytes: self.io_gap_bytes,
            log: callbacks.log_callback(),
            log_user: user,
            progress: callbacks.progress_callback(),
            progress_user: user,
            probe: self.probe.as_ref().map_or(ptr::null(), |probe| probe.raw()),
            cache_policy: self.cache_policy.number(),
            audit_layers: self.audit_layers,
            trace: callbacks.trace_callback(),
            trace_user: user,
            predictor_path: path.as_ref().map_or(ptr::null(), |path| path.as_ptr()),
            ffn_input: callbacks.ffn_input_callback(),
            ffn_input_user: user,
            audit: callbacks.audit_callback(),
            audit_user: user,
            ffn_activation: self.ffn_activation.map_or(0, |activation| activation.number()),
            ffn_threshold: self.ffn_threshold,
        };
        Ok(run(&raw))
    }
}

pub(crate) fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::invalid(format!("the path {} has a zero byte", path.display())))
}
