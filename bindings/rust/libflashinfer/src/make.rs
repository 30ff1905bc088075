//! What is made beside running: packed models, orders of bundles, predictor files.

use crate::callbacks::{call, Callbacks, Progress, Trace};
use crate::error::{Error, Result};
use crate::kinds::{Activation, Dtype, LogLevel};
use crate::model::Model;
use crate::numbers::{index, size_of};
use crate::options::c_path;
use crate::sys;
use std::ops::ControlFlow;
use std::os::raw::c_int;
use std::path::Path;
use std::ptr;
use std::ptr::NonNull;
use std::sync::Arc;

// ------------------------------------------------------------------------------------ pack

/// How a checkpoint is packed.
#[derive(Clone, Debug)]
pub struct PackOptions {
    dtype: Dtype,
    dtype_resident: Dtype,
    dtype_ffn: Dtype,
    sketch_bits: u32,
    no_sketch: bool,
    activation: u32,
    activation_threshold: f32,
    callbacks: Callbacks,
}

impl Default for PackOptions {
    fn default() -> Self {
        PackOptions {
            dtype: Dtype::Default,
            dtype_resident: Dtype::Default,
            dtype_ffn: Dtype::Default,
            sketch_bits: 0,
            no_sketch: false,
            activation: 0,
            activation_threshold: 0.0,
            callbacks: Callbacks::default(),
        }
    }
}

impl PackOptions {
    /// float16, with a sketch of 3 bits.
    pub fn new() -> Self {
        PackOptions::default()
    }

    setters! {
        /// Of all matrices, unless the two below say otherwise.
        dtype: Dtype,
        /// Of token embeddings, attention and head, which stay in memory.
        dtype_resident: Dtype,
        /// Of bundles, which are read from flash.
        dtype_ffn: Dtype,
        /// 1 to 4 bits of the deciding matrix for the sketch predictor; 0: 3.
        sketch_bits: u32,
        /// Write no predictor; the file runs in exact and all mode only.
        no_sketch: bool,
    }

    /// What the FFN computes, where the checkpoint's config.json says another activation than its authors' code.
    /// The threshold counts with [`Activation::FatRelu`] only.
    #[must_use]
    pub fn activation(mut self, activation: Activation, threshold: f32) -> Self {
        self.activation = activation.number();
        self.activation_threshold = threshold;
        self
    }

    /// Called with what the library has to say.
    #[must_use]
    pub fn on_log(mut self, log: impl Fn(LogLevel, &str) + Send + Sync + 'static) -> Self {
        self.callbacks.log = Some(Arc::new(log));
        self
    }

    /// Called while packing; `Break` cancels it.
    #[must_use]
    pub fn on_progress(
        mut self,
        progress: impl Fn(&Progress<'_>) -> ControlFlow<()> + Send + Sync + 'static,
    ) -> Self {
        self.callbacks.progress = Some(Arc::new(progress));
        self
    }
}

/// Write a Hugging Face checkpoint as a model file in flash layout, bundles in an order if one was learned.
pub fn pack(
    checkpoint: impl AsRef<Path>,
    path: impl AsRef<Path>,
    options: &PackOptions,
    order: Option<&Order>,
) -> Result<()> {
    let (checkpoint, path) = (c_path(checkpoint.as_ref())?, c_path(path.as_ref())?);
    let user = options.callbacks.user();
    let raw = sys::flashinfer_pack_options {
        size: size_of::<sys::flashinfer_pack_options>(),
        dtype: options.dtype.number(),
        sketch_bits: options.sketch_bits,
        no_sketch: options.no_sketch.into(),
        log: options.callbacks.log_callback(),
        log_user: user,
        progress: options.callbacks.progress_callback(),
        progress_user: user,
        order: order.map_or(ptr::null(), |order| order.raw.as_ptr()),
        dtype_resident: options.dtype_resident.number(),
        dtype_ffn: options.dtype_ffn.number(),
        activation: options.activation,
        activation_threshold: options.activation_threshold,
    };
    // SAFETY: everything lives until the call returns
    run(|error| unsafe { sys::flashinfer_pack(checkpoint.as_ptr(), path.as_ptr(), &raw, error) })
}

fn run(run: impl FnOnce(*mut sys::flashinfer_error) -> c_int) -> Result<()> {
    call(ptr::null(), ptr::null_mut(), run).finish()
}

// ------------------------------------------------------------------------------------ order

/// Learns in which order a model's bundles should lie, from what layers ask for; see [`pack`].
#[derive(Debug)]
pub struct Order {
    raw: NonNull<sys::flashinfer_order>,
}

// SAFETY: belongs to one thread at a time, any
unsafe impl Send for Order {}

impl Drop for Order {
    fn drop(&mut self) {
        // SAFETY: nobody else has it
        unsafe { sys::flashinfer_order_destroy(self.raw.as_ptr()) };
    }
}

impl Order {
    /// layers, neurons: of the model, as in [`Info`](crate::Info).
    pub fn new(layers: u32, neurons: u32) -> Result<Order> {
        let mut raw = ptr::null_mut();
        // SAFETY: raw receives the handle
        run(|error| unsafe { sys::flashinfer_order_create(layers, neurons, &mut raw, error) })?;
        let raw = NonNull::new(raw);
        raw.map(|raw| Order { raw })
            .ok_or_else(|| Error::invalid("the library returned no order"))
    }

    /// What one layer of one step asked for. The first 4096 steps of a layer count.
    pub fn add(&mut self, trace: &Trace<'_>) -> Result<()> {
        let raw = self.raw.as_ptr();
        // SAFETY: the order is ours alone; the trace is there during its callback
        run(|error| unsafe { sys::flashinfer_order_add(raw, trace.raw, error) })
    }
}

// ------------------------------------------------------------------------------------ predictors

/// A predictor being made or looked at: for every layer a sketch or two low-rank factors. Holds its model; its own
/// memory is beside the model's budget.
#[derive(Debug)]
pub struct PredictorMaker {
    model: Model,
    raw: NonNull<sys::flashinfer_predictor>,
    width: usize,
    neurons: usize,
}

// SAFETY: belongs to one thread at a time, any
unsafe impl Send for PredictorMaker {}

impl Drop for PredictorMaker {
    fn drop(&mut self) {
        // SAFETY: nobody else has it; its model goes after it
        unsafe { sys::flashinfer_predictor_destroy(self.raw.as_ptr()) };
    }
}

type Create = unsafe extern "C" fn(
    *mut sys::flashinfer_model,
    *mut *mut sys::flashinfer_predictor,
    *mut sys::flashinfer_error,
) -> c_int;

impl PredictorMaker {
    /// Begin with no layer having a kind.
    pub fn new(model: &Model) -> Result<PredictorMaker> {
        PredictorMaker::with(model, sys::flashinfer_predictor_create)
    }

    /// Begin with a copy of the predictor that the model runs by.
    pub fn copy_of(model: &Model) -> Result<PredictorMaker> {
        PredictorMaker::with(model, sys::flashinfer_predictor_copy)
    }

    fn with(model: &Model, create: Create) -> Result<PredictorMaker> {
        let info = model.info();
        let mut raw = ptr::null_mut();
        // SAFETY: the model outlives the predictor that holds it
        let outcome = model.inner.call(ptr::null_mut(), |error| unsafe {
            create(model.inner.as_ptr(), &mut raw, error)
        });
        let maker = NonNull::new(raw).map(|raw| PredictorMaker {
            model: model.clone(),
            raw,
            width: index(info.embedding_length),
            neurons: index(info.ffn_length),
        });
        outcome.finish()?;
        maker.ok_or_else(|| Error::invalid("the library returned no predictor"))
    }

    /// A low-bit copy (1 to 4) of a layer's deciding matrix, in place of what the layer had. margin: standard deviations of
    /// the sketch's expected error that biases are raised by; none: the default for these bits.
    pub fn set_sketch(&mut self, layer: u32, bits: u32, margin: Option<f32>) -> Result<()> {
        let margin = margin.unwrap_or(-1.0);
        // SAFETY: the predictor is ours alone
        self.run(|raw, error| unsafe {
            sys::flashinfer_predictor_set_sketch(raw, layer, bits, margin, error)
        })
    }

    /// Two factors for a layer: score = up . (down . x), named if score > -bias. down: (rank, embedding_length),
    /// up: (ffn_length, rank), bias: (ffn_length). relu: only the positive part of down . x counts.
    pub fn set_lowrank(
        &mut self,
        layer: u32,
        relu: bool,
        down: &[f32],
        up: &[f32],
        bias: &[f32],
    ) -> Result<()> {
        let rank = down.len() / self.width;
        if down.len() != rank * self.width || up.len() != rank * self.neurons {
            return Err(Error::invalid(
                "the factors do not have the model's sizes and one rank",
            ));
        }
        let rank = u32::try_from(rank).map_err(|_| Error::invalid("the rank is too large"))?;
        self.check("bias", bias, self.neurons)?;
        // SAFETY: the predictor is ours alone; lengths are checked
        self.run(|raw, error| unsafe {
            let (down, up, bias) = (down.as_ptr(), up.as_ptr(), bias.as_ptr());
            sys::flashinfer_predictor_set_lowrank(
                raw,
                layer,
                rank,
                relu.into(),
                down,
                up,
                bias,
                error,
            )
        })
    }

    /// The old name of [`import_powerinfer`](Self::import_powerinfer).
    #[deprecated(note = "import_powerinfer(), as in Python")]
    pub fn import(&mut self, path: impl AsRef<Path>) -> Result<()> {
        self.import_powerinfer(path)
    }

    /// Every layer's factors from a PowerInfer GGUF, in place of what the layers had.
    pub fn import_powerinfer(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = c_path(path.as_ref())?;
        // SAFETY: the predictor is ours alone
        self.run(|raw, error| unsafe {
            sys::flashinfer_predictor_import(raw, path.as_ptr(), error)
        })
    }

    /// A layer's biases.
    pub fn bias(&self, layer: u32) -> Result<Vec<f32>> {
        let mut bias = vec![0.0; self.neurons];
        // SAFETY: there is room for the biases
        self.run(|raw, error| unsafe {
            sys::flashinfer_predictor_bias(raw, layer, bias.as_mut_ptr(), error)
        })?;
        Ok(bias)
    }

    /// Set a layer's thresholds: neuron i is named if its score is above -bias\[i\].
    pub fn set_bias(&mut self, layer: u32, bias: &[f32]) -> Result<()> {
        self.check("bias", bias, self.neurons)?;
        // SAFETY: the predictor is ours alone; the length is checked
        self.run(|raw, error| unsafe {
            sys::flashinfer_predictor_set_bias(raw, layer, bias.as_ptr(), error)
        })
    }

    /// What a layer's predictor thinks of an FFN input, biases left out.
    pub fn scores(&self, layer: u32, x: &[f32]) -> Result<Vec<f32>> {
        self.check("x", x, self.width)?;
        let mut scores = vec![0.0; self.neurons];
        // SAFETY: the length is checked, there is room for the scores
        self.run(|raw, error| unsafe {
            sys::flashinfer_predictor_scores(raw, layer, x.as_ptr(), scores.as_mut_ptr(), error)
        })?;
        Ok(scores)
    }

    /// Memory that a layer's predictor takes in an open model; 0 without one.
    pub fn bytes(&self, layer: u32) -> u64 {
        // SAFETY: the predictor is there
        unsafe { sys::flashinfer_predictor_bytes(self.raw.as_ptr(), layer) }
    }

    /// Write a file for [`Options::predictor_path`](crate::Options::predictor_path). Every layer needs a kind.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = c_path(path.as_ref())?;
        // SAFETY: the predictor is there
        self.run(|raw, error| unsafe { sys::flashinfer_predictor_save(raw, path.as_ptr(), error) })
    }

    fn check(&self, name: &str, numbers: &[f32], length: usize) -> Result<()> {
        if numbers.len() == length {
            return Ok(());
        }
        let found = numbers.len();
        Err(Error::invalid(format!(
            "{} has {} numbers, not {}",
            name, found, length
        )))
    }

    fn run(
        &self,
        run: impl FnOnce(*mut sys::flashinfer_predictor, *mut sys::flashinfer_error) -> c_int,
    ) -> Result<()> {
        let raw = self.raw.as_ptr();
        let outcome = self
            .model
            .inner
            .call(ptr::null_mut(), |error| run(raw, error));
        outcome.finish()
    }
}
