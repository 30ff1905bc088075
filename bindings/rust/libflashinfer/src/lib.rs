//! Runs language models whose weights do not fit in the memory an application may use: weights stay on flash, for every
//! token the neurons that will fire are predicted, read in large direct reads and kept in a bounded cache.
//!
//! This crate is a safe layer over the C library `libflashinfer`, whose header has the whole story of every call.
//!
//! ```no_run
//! use libflashinfer::{GenerateOptions, Model, Options};
//!
//! # fn main() -> Result<(), libflashinfer::Error> {
//! let model = Model::open("model.gguf", &Options::new().memory_budget(20 << 20))?;
//! let mut session = model.session()?;
//! for piece in session.generate("Once upon a time", &GenerateOptions::new().tokens(64))? {
//!     print!("{}", piece?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Ownership
//!
//! A [`Model`] is a counted reference, cheap to clone. [`Session`]s, [`Decoder`]s and [`PredictorMaker`]s hold one
//! themselves, so none of them borrows: they can live in one struct with their model or move to another thread, and the
//! file is closed when the last of them is dropped. Everything frees what it holds when dropped.
//!
//! # Threads
//!
//! Different models are independent. Calls on one model and its sessions may come from any thread and are serialised
//! inside, so [`Model`] and [`Session`] are `Send` and `Sync`; two sessions of a model take turns, token by token or
//! call by call. [`Model::tokenize`] and [`Model::detokenize`] do not wait. A [`CancelHandle`] stops a session's
//! running call from any thread. [`Sampler`], [`Decoder`], [`Order`] and [`PredictorMaker`] move between threads but
//! are used by one at a time.
//!
//! # Callbacks
//!
//! Closures in [`Options`] are called from the thread that made the call. A panic in one does not unwind into C: the
//! call is cancelled and the panic goes on where the call was made, with the session at its last complete token. A
//! closure may ask a clone of the same model for its statistics and plan; what would run or change that model is refused
//! with [`ErrorCode::Busy`].
//!
//! # Finding the library
//!
//! See the crate `libflashinfer-sys`: `FLASHINFER_LIB_DIR`, else `pkg-config`, else a build of the source tree.
#![warn(missing_docs)]

#[macro_use]
mod macros;

mod budget;
mod callbacks;
mod error;
mod generate;
mod kinds;
mod make;
mod model;
mod numbers;
mod options;
mod probe;
mod records;
mod sampler;
mod session;
mod storage;
mod text;
mod tokenize;

pub use budget::Budget;
pub use callbacks::{Audit, FfnInput, Progress, Trace};
pub use error::{Error, ErrorCode, Result};
pub use generate::{Generate, GenerateOptions};
pub use kinds::{
    Activation, CachePolicy, Dtype, Kernels, KvType, LogLevel, Part, PredictorKind, StorageKind,
    Verify,
};
pub use libflashinfer_sys as sys;
pub use make::{pack, Order, PackOptions, PredictorMaker};
pub use model::{plan_file, Model};
pub use options::Options;
pub use probe::{probe, ProbeOptions, ProbeResult};
pub use records::{Info, Logprob, Plan, Stats, TensorInfo};
pub use sampler::{Sampler, SamplerOptions};
pub use session::{CancelHandle, Session};
pub use storage::Storage;
pub use text::Decoder;
#[allow(deprecated)]
pub use tokenize::{TokenizeFlags, TokenizeOptions};

/// The old name of [`PredictorKind`].
#[deprecated(note = "PredictorKind, as in Python: a predictor itself is made with PredictorMaker")]
pub type Predictor = PredictorKind;

/// The README's programs compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// Version of the library in use, such as "0.1.0".
pub fn version() -> &'static str {
    // SAFETY: a static string
    let text = unsafe { std::ffi::CStr::from_ptr(sys::flashinfer_version()) };
    text.to_str().unwrap_or("?")
}
