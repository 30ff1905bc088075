//! Models: opening, asking, changing the budget, closing.

use crate::budget::Budget;
use crate::callbacks::{call, Callbacks, Outcome};
use crate::error::{Error, ErrorCode, Result};
use crate::kinds::Part;
use crate::numbers::index;
use crate::options::{c_path, Options};
use crate::records::{Info, Plan, Stats, TensorInfo};
use crate::session::Session;
use crate::storage::{Host, Storage};
use crate::sys;
use crate::text::Decoder;
use crate::tokenize::TokenizeOptions;
use std::ffi::CStr;
use std::os::raw::{c_char, c_int};
use std::os::unix::io::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use std::ptr;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

const METADATA_BYTES: usize = 4096; // longer values are cut

/// An open model file: its resident weights, cache, threads and budget. A clone is another reference to the same model.
#[derive(Clone, Debug)]
pub struct Model {
    pub(crate) inner: Arc<Inner>,
}

/// The handle and what the library keeps pointers to.
#[derive(Debug)]
pub(crate) struct Inner {
    raw: NonNull<sys::flashinfer_model>,
    callbacks: Option<Box<Callbacks>>,
    host: Option<Box<Host>>,
    orphans: Mutex<Vec<Orphan>>,
}

/// A session dropped inside a callback of its model, where it cannot be destroyed.
#[derive(Debug)]
struct Orphan(NonNull<sys::flashinfer_session>);

// SAFETY: calls on a model and its sessions may come from any thread and are serialised inside; callbacks and storage
// are Send + Sync themselves
unsafe impl Send for Inner {}
unsafe impl Sync for Inner {}
unsafe impl Send for Orphan {}

impl Drop for Inner {
    fn drop(&mut self) {
        self.bury_orphans();
        // SAFETY: the last reference; what the pointers lead to goes after it
        let code = unsafe { sys::flashinfer_model_close(self.raw.as_ptr()) };
        if code != sys::FLASHINFER_OK {
            // still open, so it may still use these; cannot happen while sessions hold the model
            std::mem::forget((self.callbacks.take(), self.host.take()));
        }
    }
}

impl Inner {
    pub fn as_ptr(&self) -> *mut sys::flashinfer_model {
        self.raw.as_ptr()
    }

    /// Make a call that this model, and session if not null, runs.
    pub fn call(
        &self,
        session: *mut sys::flashinfer_session,
        run: impl FnOnce(*mut sys::flashinfer_error) -> c_int,
    ) -> Outcome {
        let mut outcome = call(self.as_ptr(), session, run);
        if outcome.panic.is_none() {
            outcome.panic = self.host.as_ref().and_then(|host| host.take_panic());
        }
        if !crate::callbacks::inside_call(self.as_ptr()) {
            self.bury_orphans();
        }
        outcome
    }

    /// Destroy a session now, or once the call it is dropped in is over.
    pub fn destroy_session(&self, session: NonNull<sys::flashinfer_session>) {
        if crate::callbacks::inside_call(self.as_ptr()) {
            if let Ok(mut orphans) = self.orphans.lock() {
                orphans.push(Orphan(session));
            }
        } else {
            // SAFETY: nobody else has it
            unsafe { sys::flashinfer_session_destroy(session.as_ptr()) };
        }
    }

    fn bury_orphans(&self) {
        let orphans = match self.orphans.lock() {
            Ok(mut orphans) if !orphans.is_empty() => std::mem::take(&mut *orphans),
            _ => return,
        };
        for orphan in orphans {
            // SAFETY: nobody else has it
            unsafe { sys::flashinfer_session_destroy(orphan.0.as_ptr()) };
        }
    }
}

type RawModel = *mut sys::flashinfer_model;

/// What a way of opening gets: options, where the handle goes, the record.
type Opening<'a> =
    dyn FnOnce(&sys::flashinfer_options, &mut RawModel, *mut sys::flashinfer_error) -> c_int + 'a;

/// file_bytes: what a budget may be a share of.
fn open(
    options: &Options,
    file_bytes: impl FnOnce() -> Result<u64>,
    host: Option<Box<Host>>,
    run: Box<Opening<'_>>,
) -> Result<Model> {
    let callbacks = options.boxed_callbacks();
    let mut raw: RawModel = ptr::null_mut();
    let mut outcome = options.with_raw(&callbacks, file_bytes, |options| {
        call(ptr::null(), ptr::null_mut(), |error| {
            run(options, &mut raw, error)
        })
    })?;
    if let Some(payload) = host.as_ref().and_then(|host| host.take_panic()) {
        outcome.panic.get_or_insert(payload);
    }
    let model = NonNull::new(raw).map(|raw| Model {
        inner: Arc::new(Inner {
            raw,
            callbacks: Some(callbacks),
            host,
            orphans: Mutex::new(Vec::new()),
        }),
    });
    outcome.finish()?;
    model.ok_or_else(|| Error::invalid("the library returned no model"))
}

/// What a budget would give, without opening the model. One below the minimum is no error here: see `minimum_bytes`.
pub fn plan_file(path: impl AsRef<Path>, options: &Options) -> Result<Plan> {
    plan(&c_path(path.as_ref())?, options)
}

fn plan(path: &CStr, options: &Options) -> Result<Plan> {
    let callbacks = options.boxed_callbacks();
    let mut plan = Plan::empty();
    let outcome = options.with_raw(
        &callbacks,
        || file_bytes(path),
        |options| {
            // SAFETY: everything lives until the call returns
            call(ptr::null(), ptr::null_mut(), |error| unsafe {
                sys::flashinfer_plan_file(path.as_ptr(), options, &mut plan, error)
            })
        },
    )?;
    outcome.finish()?;
    // SAFETY: filled by the call
    Ok(unsafe { Plan::of(&plan) })
}

fn file_bytes(path: &CStr) -> Result<u64> {
    Ok(plan(path, &Options::new().no_tokenizer(true))?.file_bytes)
}

fn open_part(fd: RawFd, offset: u64, length: u64, options: &Options) -> Result<Model> {
    let header = Options::new().metadata_only(true).no_tokenizer(true);
    open(
        options,
        || Ok(open_part(fd, offset, length, &header)?.info().file_bytes),
        None,
        // SAFETY: the descriptor is open until the call returns
        Box::new(move |options, model, error| unsafe {
            sys::flashinfer_model_open_fd(fd, offset, length, options, model, error)
        }),
    )
}

/// What the callbacks of a storage say; `user` is theirs.
unsafe fn storage_bytes(ops: &sys::flashinfer_storage_ops) -> Result<u64> {
    let mut caps: sys::flashinfer_storage_caps = std::mem::zeroed();
    caps.size = crate::numbers::size_of::<sys::flashinfer_storage_caps>();
    match ops.caps {
        Some(ask) if ask(ops.user, &mut caps) == 0 => Ok(caps.length_bytes),
        _ => Err(Error::invalid(
            "the storage does not say how long it is: give a budget in bytes",
        )),
    }
}

impl Model {
    /// Open a model file inside a memory budget.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Model> {
        let path = c_path(path.as_ref())?;
        open(
            options,
            || file_bytes(&path),
            None,
            // SAFETY: path and options live until the call returns
            Box::new(|options, model, error| unsafe {
                sys::flashinfer_model_open(path.as_ptr(), options, model, error)
            }),
        )
    }

    /// Open a model that is part of an open file, such as an application's asset: `length` bytes from `offset` on, or
    /// up to the end. The file may be closed afterwards. Direct reads need an offset that is a multiple of 4096.
    pub fn open_fd(
        file: impl AsFd,
        offset: u64,
        length: Option<u64>,
        options: &Options,
    ) -> Result<Model> {
        if length == Some(0) {
            return Err(Error::invalid("a model of 0 bytes"));
        }
        open_part(
            file.as_fd().as_raw_fd(),
            offset,
            length.unwrap_or(0),
            options,
        )
    }

    /// Open a model whose bytes the host reads.
    pub fn open_storage(storage: impl Storage + 'static, options: &Options) -> Result<Model> {
        let host = Host::new(Box::new(storage));
        let (ops, length) = (host.ops(), host.length());
        open(
            options,
            || Ok(length),
            Some(host),
            // SAFETY: ops are copied; the host they point at stays where it is, in the model
            Box::new(move |options, model, error| unsafe {
                sys::flashinfer_model_open_storage(&ops, options, model, error)
            }),
        )
    }

    /// Open a model through callbacks in C's terms, for an asynchronous queue of the host's own.
    ///
    /// # Safety
    ///
    /// The callbacks keep the contract of `flashinfer_backend.h`, do not unwind, and may be called until `close` was.
    pub unsafe fn open_storage_ops(
        ops: &sys::flashinfer_storage_ops,
        options: &Options,
    ) -> Result<Model> {
        open(
            options,
            || storage_bytes(ops),
            None,
            Box::new(move |options, model, error| {
                sys::flashinfer_model_open_storage(ops, options, model, error)
            }),
        )
    }

    /// Begin a sequence. Takes one of the `session_count` places; [`ErrorCode::Sessions`] when none is free.
    pub fn session(&self) -> Result<Session> {
        Session::create(self)
    }

    /// Begin streaming text.
    pub fn decoder(&self) -> Result<Decoder> {
        Decoder::create(self)
    }

    /// What is in the model file.
    pub fn info(&self) -> Info {
        let mut raw = Info::empty();
        // SAFETY: cannot fail with a size that is set; strings are the model's
        unsafe {
            sys::flashinfer_model_info(self.inner.as_ptr(), &mut raw);
            Info::of(&raw)
        }
    }

    /// The tensors of the file, in file order.
    pub fn tensors(&self) -> Vec<TensorInfo> {
        let mut all = Vec::new();
        let mut raw = TensorInfo::empty();
        for index in 0..self.info().tensor_count {
            // SAFETY: names are the model's; cannot fail below the count
            unsafe {
                sys::flashinfer_model_tensor(self.inner.as_ptr(), index, &mut raw);
                all.push(TensorInfo::of(&raw));
            }
        }
        all
    }

    /// The metadata of the file as text, in file order. Arrays are shortened to their first elements.
    pub fn metadata(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let mut value = vec![0 as c_char; METADATA_BYTES];
        let mut key: *const c_char = ptr::null();
        for index in 0..self.info().metadata_count {
            // SAFETY: keys are the model's, values end with a zero byte; cannot fail below the count
            unsafe {
                sys::flashinfer_model_metadata(
                    self.inner.as_ptr(),
                    index,
                    &mut key,
                    value.as_mut_ptr(),
                    value.len(),
                );
                let text = |at| CStr::from_ptr(at).to_string_lossy().into_owned();
                all.push((text(key), text(value.as_ptr())));
            }
        }
        all
    }

    /// Read the whole file once and compare every checksum.
    pub fn verify(&self) -> Result<()> {
        // SAFETY: the model is open
        self.run(|error| unsafe { sys::flashinfer_model_verify(self.inner.as_ptr(), error) })
    }

    /// FFN weights of neurons `first` to `first + count` of a layer, one row of `embedding_length` after the other.
    /// [`Part::Gate`] only where [`Info::ffn_gated`] says that there is one; it decides what fires then, else
    /// [`Part::Up`].
    pub fn ffn_rows(&self, layer: u32, part: Part, first: u32, count: u32) -> Result<Vec<f32>> {
        let info = self.info();
        if count > info.ffn_length {
            return Err(Error::invalid(format!(
                "{} neurons of {}",
                count, info.ffn_length
            )));
        }
        let floats = index(count).checked_mul(index(info.embedding_length));
        let mut rows = vec![0.0; floats.ok_or_else(|| Error::invalid("more floats than memory"))?];
        // SAFETY: there is room for the rows
        self.run(|error| unsafe {
            let (model, part) = (self.inner.as_ptr(), part.number());
            sys::flashinfer_model_ffn_rows(
                model,
                layer,
                part,
                first,
                count,
                rows.as_mut_ptr(),
                error,
            )
        })?;
        Ok(rows)
    }

    /// Biases of the deciding sums of a layer's neurons, zeros where the model has none: one may fire if
    /// row . x + bias is above [`Info::ffn_threshold`].
    pub fn ffn_bias(&self, layer: u32) -> Result<Vec<f32>> {
        let mut bias = vec![0.0; index(self.info().ffn_length)];
        // SAFETY: there is room for the biases
        self.run(|error| unsafe {
            sys::flashinfer_model_ffn_bias(self.inner.as_ptr(), layer, bias.as_mut_ptr(), error)
        })?;
        Ok(bias)
    }

    /// The plan the model runs under; none if only its metadata was opened.
    pub fn plan(&self) -> Result<Plan> {
        let mut raw = Plan::empty();
        // SAFETY: raw has room for a plan of its size
        self.run(|_| unsafe { sys::flashinfer_model_plan(self.inner.as_ptr(), &mut raw) })?;
        // SAFETY: filled by the call
        Ok(unsafe { Plan::of(&raw) })
    }

    /// Change the budget between two steps, to bytes, of which 0 makes everything resident, or a share of the file. The
    /// output does not change. Refused with [`ErrorCode::Budget`], the old budget staying in force, below the minimum.
    pub fn set_budget(&self, budget: impl Into<Budget>) -> Result<()> {
        let budget_bytes = budget.into().bytes(|| Ok(self.info().file_bytes))?;
        // SAFETY: the model is open
        self.run(|error| unsafe {
            sys::flashinfer_model_set_budget(self.inner.as_ptr(), budget_bytes, error)
        })
    }

    /// The counters. Waits for a running call, unless a callback of that call asks.
    pub fn stats(&self) -> Stats {
        let mut raw = Stats::empty();
        // SAFETY: cannot fail with a size that is set
        unsafe {
            sys::flashinfer_model_stats(self.inner.as_ptr(), &mut raw);
            Stats::of(&raw)
        }
    }

    /// Set the counters to zero.
    pub fn reset_stats(&self) -> Result<()> {
        // SAFETY: the model is open
        self.run(|_| unsafe { sys::flashinfer_model_reset_stats(self.inner.as_ptr()) })
    }

    /// Text to token ids by the model's own tokenizer. Waits for nothing.
    pub fn tokenize(
        &self,
        text: impl AsRef<[u8]>,
        options: impl Into<TokenizeOptions>,
    ) -> Result<Vec<i32>> {
        let (text, flags) = (text.as_ref(), options.into().number());
        fill(text.len() + 1, |tokens: &mut [i32], count| {
            // SAFETY: the text and room for that many tokens
            self.inner.call(ptr::null_mut(), |error| unsafe {
                sys::flashinfer_tokenize(
                    self.inner.as_ptr(),
                    text.as_ptr() as *const c_char,
                    text.len(),
                    flags,
                    tokens.as_mut_ptr(),
                    tokens.len(),
                    count,
                    error,
                )
            })
        })
    }

    /// Token ids to bytes. Control tokens give none; the result may begin or end inside a UTF-8 character, see
    /// [`Decoder`]. Waits for nothing.
    pub fn detokenize(&self, tokens: &[i32]) -> Result<Vec<u8>> {
        fill(tokens.len() * 8, |text: &mut [u8], count| {
            // SAFETY: the tokens and room for that many bytes
            self.inner.call(ptr::null_mut(), |error| unsafe {
                sys::flashinfer_detokenize(
                    self.inner.as_ptr(),
                    tokens.as_ptr(),
                    tokens.len(),
                    text.as_mut_ptr() as *mut c_char,
                    text.len(),
                    count,
                    error,
                )
            })
        })
    }

    fn run(&self, run: impl FnOnce(*mut sys::flashinfer_error) -> c_int) -> Result<()> {
        self.inner.call(ptr::null_mut(), run).finish()
    }
}

/// Run a call that fills a buffer and says how much it has to give; once more if the first buffer was too small.
fn fill<T: Clone + Default>(
    guess: usize,
    mut run: impl FnMut(&mut [T], &mut usize) -> Outcome,
) -> Result<Vec<T>> {
    let mut buffer = vec![T::default(); guess];
    let mut count = 0;
    let mut result = run(&mut buffer, &mut count).finish();
    if matches!(&result, Err(error) if error.code() == ErrorCode::Buffer) {
        buffer.resize(count, T::default());
        result = run(&mut buffer, &mut count).finish();
    }
    result?;
    buffer.truncate(count);
    Ok(buffer)
}
