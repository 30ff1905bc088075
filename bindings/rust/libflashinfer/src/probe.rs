//! What a device and a machine give.

use crate::callbacks::{call, Callbacks, Progress};
use crate::error::Result;
use crate::kinds::{Kernels, StorageKind};
use crate::numbers::size_of;
use crate::options::c_path;
use crate::sys;
use std::ops::ControlFlow;
use std::path::Path;
use std::ptr;
use std::sync::Arc;

/// How a machine is measured.
#[derive(Clone, Debug)]
pub struct ProbeOptions {
    time_ms: u32,
    threads: u32,
    storage: StorageKind,
    file_bytes: u64,
    callbacks: Callbacks,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        ProbeOptions {
            time_ms: 0,
            threads: 0,
            storage: StorageKind::Default,
            file_bytes: 0,
            callbacks: Callbacks::default(),
        }
    }
}

impl ProbeOptions {
    /// Five seconds, every kind of storage there is.
    pub fn new() -> Self {
        ProbeOptions::default()
    }

    setters! {
        /// For everything; 0: 5000.
        time_ms: u32,
        /// Of memory and kernel rates; 0: as [`Options`](crate::Options).
        threads: u32,
        /// The default: every kind there is, the table of the fastest.
        storage: StorageKind,
        /// Of the file written into a directory; 0: 256 MiB.
        file_bytes: u64,
    }

    /// Called during the measurement; `Break` cancels it.
    #[must_use]
    pub fn on_progress(
        mut self,
        progress: impl Fn(&Progress<'_>) -> ControlFlow<()> + Send + Sync + 'static,
    ) -> Self {
        self.callbacks.progress = Some(Arc::new(progress));
        self
    }
}

/// What was measured. Rates are bytes per second, at random places past the page cache; 0: not measured.
#[derive(Clone, Debug)]
pub struct ProbeResult {
    raw: Box<sys::flashinfer_probe_result>,
}

impl ProbeResult {
    fn empty() -> ProbeResult {
        // SAFETY: numbers, for which zero is a value
        let mut raw: Box<sys::flashinfer_probe_result> = Box::new(unsafe { std::mem::zeroed() });
        raw.size = size_of::<sys::flashinfer_probe_result>();
        ProbeResult { raw }
    }

    /// Every number, as C has them.
    pub fn raw(&self) -> &sys::flashinfer_probe_result {
        &self.raw
    }

    /// The kind that read fastest.
    pub fn storage(&self) -> StorageKind {
        self.raw.storage.into()
    }

    /// The kernels that were measured.
    pub fn kernels(&self) -> Kernels {
        self.raw.kernels.into()
    }

    /// Best rate of the table of sizes and depths.
    pub fn read_bytes_per_s(&self) -> u64 {
        let all = self.raw.read_bytes_per_s.iter().flatten();
        all.copied().max().unwrap_or(0)
    }

    /// Median of one read of 4 KiB alone.
    pub fn latency_ns(&self) -> u64 {
        self.raw.latency_ns
    }

    /// Reading memory by all threads.
    pub fn dram_bytes_per_s(&self) -> u64 {
        self.raw.dram_bytes_per_s
    }

    /// Write it as a small text file, which appears under this name only when it is complete.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = c_path(path.as_ref())?;
        // SAFETY: both live until the call returns
        call(ptr::null(), ptr::null_mut(), |error| unsafe {
            sys::flashinfer_probe_save(self.raw(), path.as_ptr(), error)
        })
        .finish()
    }

    /// Read one back.
    pub fn load(path: impl AsRef<Path>) -> Result<ProbeResult> {
        let path = c_path(path.as_ref())?;
        let mut result = ProbeResult::empty();
        // SAFETY: both live until the call returns
        call(ptr::null(), ptr::null_mut(), |error| unsafe {
            sys::flashinfer_probe_load(path.as_ptr(), &mut *result.raw, error)
        })
        .finish()?;
        Ok(result)
    }
}

/// Measure the device that a file or directory is on, memory and kernels. Into a directory a nameless file is written.
pub fn probe(path: impl AsRef<Path>, options: &ProbeOptions) -> Result<ProbeResult> {
    let path = c_path(path.as_ref())?;
    let mut result = ProbeResult::empty();
    let raw = sys::flashinfer_probe_options {
        size: size_of::<sys::flashinfer_probe_options>(),
        time_ms: options.time_ms,
        threads: options.threads,
        storage: options.storage.number(),
        file_bytes: options.file_bytes,
        progress: options.callbacks.progress_callback(),
        progress_user: options.callbacks.user(),
    };
    // SAFETY: everything lives until the call returns
    call(ptr::null(), ptr::null_mut(), |error| unsafe {
        sys::flashinfer_probe(path.as_ptr(), &raw, &mut *result.raw, error)
    })
    .finish()?;
    Ok(result)
}
