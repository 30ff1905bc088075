//! What the library tells: plans, statistics, what is in a model file.

use crate::kinds::{Activation, CachePolicy, Dtype, PredictorKind};
use std::ffi::CStr;
use std::os::raw::c_char;

/// From a C field to the Rust field of the same name.
pub(crate) trait Read<C> {
    /// Strings must be there.
    unsafe fn read(field: C) -> Self;
}

macro_rules! read_as_is {
    ($($kind:ty)*) => { $(impl Read<$kind> for $kind {
        unsafe fn read(field: $kind) -> Self {
            field
        }
    })* };
}

read_as_is! { u32 i32 u64 f32 }

impl Read<u32> for bool {
    unsafe fn read(field: u32) -> Self {
        field != 0
    }
}

/// -1: none
impl Read<i32> for Option<i32> {
    unsafe fn read(field: i32) -> Self {
        Some(field).filter(|token| *token >= 0)
    }
}

impl Read<*const c_char> for String {
    unsafe fn read(field: *const c_char) -> Self {
        if field.is_null() {
            return String::new();
        }
        CStr::from_ptr(field).to_string_lossy().into_owned()
    }
}

impl Read<u32> for PredictorKind {
    unsafe fn read(field: u32) -> Self {
        PredictorKind::from(field)
    }
}

impl Read<u32> for Dtype {
    unsafe fn read(field: u32) -> Self {
        Dtype::from(field)
    }
}

impl Read<u32> for Activation {
    unsafe fn read(field: u32) -> Self {
        Activation::from(field)
    }
}

impl Read<u32> for CachePolicy {
    unsafe fn read(field: u32) -> Self {
        CachePolicy::from(field)
    }
}

impl Read<[u64; 4]> for [u64; 4] {
    unsafe fn read(field: [u64; 4]) -> Self {
        field
    }
}

/// A token and its probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logprob {
    /// Its id.
    pub token: i32,
    /// The natural logarithm of its probability; negative infinity: it has none.
    pub logprob: f32,
}

record! {
    /// What is in a model file.
    Info of flashinfer_info {
        /// Layers.
        layer_count: u32,
        /// d: width of the residual stream.
        embedding_length: u32,
        /// FFN neurons per layer.
        ffn_length: u32,
        /// Attention heads.
        head_count: u32,
        /// Token ids are below this.
        vocab_count: u32,
        /// Longest context of the model.
        context_tokens: u32,
        /// Tensors in the file.
        tensor_count: u32,
        /// Metadata entries in the file.
        metadata_count: u32,
        /// Payload bytes of one FFN neuron.
        bundle_bytes: u32,
        /// Distance between two bundles in the file.
        bundle_stride_bytes: u32,
        /// Token that begins a text.
        bos_token: Option<i32>,
        /// Token that ends a text.
        eos_token: Option<i32>,
        /// Texts of this model begin with `bos_token`.
        add_bos: bool,
        /// Weights.
        parameter_count: u64,
        /// Bytes of the file.
        file_bytes: u64,
        /// Payload bytes of all bundles.
        ffn_bytes: u64,
        /// Such as "opt" or "llama".
        architecture: String,
        /// Empty if the file has none.
        name: String,
        /// Kinds this file can be run with, such as "exact,sketch,all".
        predictors: String,
        /// Packed with an order, see [`Order`](crate::Order).
        ordered: bool,
        /// Of token embeddings, attention and head.
        dtype_resident: Dtype,
        /// Of bundles.
        dtype_ffn: Dtype,
        /// Bundles have a gate row, which decides what fires; else the up row does.
        ffn_gated: bool,
        /// What becomes of a deciding sum.
        ffn_activation: Activation,
        /// Neurons may not fire; else all do and predictors leave nothing out.
        ffn_sparse: bool,
        /// What a deciding sum must be above to fire; 0 without `ffn_sparse`.
        ffn_threshold: f32,
        /// Heads of keys and values; each serves `head_count / kv_head_count`.
        kv_head_count: u32,
        /// Elements of a head.
        head_length: u32,
    } without { size, reserved, }
}

record! {
    /// A tensor of the model file.
    TensorInfo of flashinfer_tensor_info {
        /// GGUF tensor type number: 0 F32, 1 F16, 2 Q4_0, 8 Q8_0, 24 I8, 27 I64, 30 BF16.
        r#type: u32,
        /// How many of `dimensions` count.
        dimension_count: u32,
        /// Fastest first, as in GGUF.
        dimensions: [u64; 4],
        /// Bytes from the start of the model.
        offset: u64,
        /// Bytes of it.
        bytes: u64,
        /// XXH3-64 of its bytes; of its checksum tensor for a bundle tensor.
        xxh3: u64,
        /// Name in the file.
        name: String,
    } without { size, reserved, }
}

record! {
    /// How a budget is divided. `planned_bytes` is the sum of the parts and never above the budget.
    Plan of flashinfer_plan {
        /// The kind in force.
        predictor: PredictorKind,
        /// As asked for; `maximum_bytes` if 0 was asked for.
        budget_bytes: u64,
        /// What is held.
        planned_bytes: u64,
        /// Smallest budget that works with these options.
        minimum_bytes: u64,
        /// Budget above which more memory changes nothing.
        maximum_bytes: u64,
        /// Header, tensor table, tokenizer.
        metadata_bytes: u64,
        /// Embeddings, attention, norms, biases, bundle checksums.
        resident_bytes: u64,
        /// Sketch, or the resident deciding rows of exact mode.
        predictor_bytes: u64,
        /// Neuron cache: slots and their bookkeeping.
        cache_bytes: u64,
        /// Sessions.
        kv_bytes: u64,
        /// Activations, logits.
        scratch_bytes: u64,
        /// Staging and stream buffers, request tables.
        io_bytes: u64,
        /// Stacks.
        thread_bytes: u64,
        /// Bytes of the file.
        file_bytes: u64,
        /// Bundles cached, mean over layers.
        slots_per_layer: u32,
        /// Bytes of one.
        slot_bytes: u32,
        /// Exact mode: deciding rows of a layer kept in memory.
        resident_rows: u32,
        /// The policy in force.
        cache_policy: CachePolicy,
        /// Bundles cached, over all layers.
        slots: u32,
        /// The system's page tables of all that is mapped.
        page_table_bytes: u64,
        /// Plain files: read for every token, because memory lacks them.
        streamed_bytes: u64,
    } without { size, reserved, }
}

record! {
    /// Sums since the model was opened or the last reset, over all its sessions. Neuron counts are per (token, layer).
    Stats of flashinfer_stats {
        /// Steps completed.
        tokens: u64,
        /// FFN neurons of the dense model over those steps.
        neurons: u64,
        /// Neurons the predictor named.
        predicted: u64,
        /// Predicted neurons whose activation was not zero.
        active: u64,
        /// Predicted neurons found in the cache.
        resident: u64,
        /// Predicted neurons read from flash.
        missing: u64,
        /// Neurons read in whole layers.
        streamed: u64,
        /// Extra passes because a token needed more bundles than there are slots.
        waves: u64,
        /// Truly active neurons seen by the audit.
        audited_active: u64,
        /// Of those, not predicted.
        audited_missed: u64,
        /// Bytes read for bundles.
        flash_bytes: u64,
        /// Read requests for bundles.
        flash_reads: u64,
        /// Bytes read by the audit, not part of `flash_bytes`.
        audit_bytes: u64,
        /// Reads done again after a failure or checksum mismatch.
        read_retries: u64,
        /// Time in the predictor.
        predict_ns: u64,
        /// Time compute stood still for flash: handing over reads, waiting.
        io_wait_ns: u64,
        /// Time in cache bookkeeping.
        memory_ns: u64,
        /// Time in attention, FFN and logits kernels.
        compute_ns: u64,
        /// Time in those steps.
        total_ns: u64,
        /// Time in handing reads over, beside computing or not.
        io_submit_ns: u64,
        /// Tokens of prompts run many at once, counted nowhere above but in `read_retries`.
        prefill_tokens: u64,
        /// Time they took.
        prefill_ns: u64,
        /// Of that, compute stood still for flash.
        prefill_wait_ns: u64,
        /// Bytes read for their bundles.
        prefill_bytes: u64,
    } without { size, reserved, }
}
