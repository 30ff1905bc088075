// Written by make_declarations.py from include/flashinfer.h and include/flashinfer_backend.h: change those, run it.

use std::marker::{PhantomData, PhantomPinned};
use std::os::raw::{c_char, c_int, c_void};

/// Of this header; the library's own is flashinfer_version().
/// first number of the version
pub const FLASHINFER_VERSION_MAJOR: u32 = 0;

/// second
pub const FLASHINFER_VERSION_MINOR: u32 = 1;

/// third
pub const FLASHINFER_VERSION_PATCH: u32 = 0;

/// no error
pub const FLASHINFER_OK: c_int = 0;

/// an argument is missing or out of range
pub const FLASHINFER_EINVAL: c_int = -1;

/// the system gave no memory
pub const FLASHINFER_ENOMEM: c_int = -2;

/// reading or writing storage failed
pub const FLASHINFER_EIO: c_int = -3;

/// the file is not a valid model file
pub const FLASHINFER_EFORMAT: c_int = -4;

/// stored bytes do not match their checksum
pub const FLASHINFER_ECORRUPT: c_int = -5;

/// the file or request needs something this build does not have
pub const FLASHINFER_EUNSUPPORTED: c_int = -6;

/// the memory budget cannot hold what was asked for
pub const FLASHINFER_EBUDGET: c_int = -7;

/// a token id is outside the vocabulary
pub const FLASHINFER_ETOKEN: c_int = -8;

/// the session's context is full
pub const FLASHINFER_ECONTEXT: c_int = -9;

/// the call was cancelled
pub const FLASHINFER_ECANCELED: c_int = -10;

/// storage did not answer in time
pub const FLASHINFER_ETIMEDOUT: c_int = -11;

/// the checkpoint cannot be packed
pub const FLASHINFER_ECHECKPOINT: c_int = -12;

/// the caller's buffer is too small
pub const FLASHINFER_EBUFFER: c_int = -13;

/// the saved state does not belong to this model or is damaged
pub const FLASHINFER_ESTATE: c_int = -14;

/// the system gave no thread
pub const FLASHINFER_ETHREAD: c_int = -15;

/// the handle is still in use
pub const FLASHINFER_EBUSY: c_int = -16;

/// all sessions that the model was opened for exist
pub const FLASHINFER_ESESSIONS: c_int = -17;

/// How many errors there are, OK included.
pub const FLASHINFER_ERROR_COUNT_: c_int = 18;

/// of an error's text, its zero included
pub const FLASHINFER_ERROR_TEXT_BYTES: u32 = 512;

/// What went wrong, where and what to do. Filled by a failing call; untouched by a call that
/// succeeds. Owned by the caller, one per thread.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flashinfer_error {
    pub size: u32,
    /// FLASHINFER_E..., as the call returned it
    pub code: i32,
    /// errno of the failing system call, 0 if none
    pub sys_errno: i32,
    /// layer the failure belongs to, -1 if none
    pub layer: i32,
    /// FFN neuron it belongs to, -1 if none
    pub neuron: i64,
    /// byte offset in the file, -1 if none
    pub offset: i64,
    /// one line, UTF-8, zero-terminated
    pub text: [c_char; FLASHINFER_ERROR_TEXT_BYTES as usize],
}

/// An open file with its resident weights, cache, threads and budget.
#[repr(C)]
pub struct flashinfer_model {
    _data: [u8; 0],
    _marker: PhantomData<(*mut u8, PhantomPinned)>,
}

/// One sequence: KV cache and position.
#[repr(C)]
pub struct flashinfer_session {
    _data: [u8; 0],
    _marker: PhantomData<(*mut u8, PhantomPinned)>,
}

/// Token ids to text, never splitting a UTF-8 character.
#[repr(C)]
pub struct flashinfer_decoder {
    _data: [u8; 0],
    _marker: PhantomData<(*mut u8, PhantomPinned)>,
}

/// Logits to a token id.
#[repr(C)]
pub struct flashinfer_sampler {
    _data: [u8; 0],
    _marker: PhantomData<(*mut u8, PhantomPinned)>,
}

/// Which neurons of a layer are computed. exact and all give the dense model's output bit for
/// bit. The deciding matrix is gate where the FFN is gated, else up: flashinfer_info.ffn_gated.
///
/// what there is for every layer: sketch, lowrank, mixed; else exact
pub const FLASHINFER_PREDICTOR_DEFAULT: u32 = 0;

/// every deciding sum computed, firing neurons fetched
pub const FLASHINFER_PREDICTOR_EXACT: u32 = 1;

/// a few bits of the deciding matrix, made at pack time
pub const FLASHINFER_PREDICTOR_SKETCH: u32 = 2;

/// two thin factors, calibrated or trained (paper, 3.1)
pub const FLASHINFER_PREDICTOR_LOWRANK: u32 = 3;

/// dense: every bundle streamed for every token, no cache
pub const FLASHINFER_PREDICTOR_ALL: u32 = 4;

/// sketch in some layers, lowrank in others
pub const FLASHINFER_PREDICTOR_MIXED: u32 = 5;

/// How the model file is read.
///
/// the first of libaio, io_uring, pread, buffered that works on this file
pub const FLASHINFER_STORAGE_DEFAULT: u32 = 0;

/// Linux asynchronous I/O with O_DIRECT
pub const FLASHINFER_STORAGE_LIBAIO: u32 = 1;

/// a pool of reading threads with O_DIRECT
pub const FLASHINFER_STORAGE_PREAD: u32 = 2;

/// the same pool through the page cache
pub const FLASHINFER_STORAGE_BUFFERED: u32 = 3;

/// io_uring with O_DIRECT
pub const FLASHINFER_STORAGE_URING: u32 = 4;

/// Which neurons leave the cache when others need their slots. The output never depends on it.
///
/// window if window_tokens is given, else balanced
pub const FLASHINFER_CACHE_DEFAULT: u32 = 0;

/// those not wanted longest; equal slots for every layer
pub const FLASHINFER_CACHE_WINDOW: u32 = 1;

/// those wanted least, older uses fading; equal slots
pub const FLASHINFER_CACHE_FREQUENCY: u32 = 2;

/// recent and lasting use; slots go where they save most reads
pub const FLASHINFER_CACHE_BALANCED: u32 = 3;

/// What is compared with its checksum, and when.
///
/// header and resident tensors at open, bundles when read
pub const FLASHINFER_VERIFY_DEFAULT: u32 = 0;

/// no checksum is looked at
pub const FLASHINFER_VERIFY_NONE: u32 = 1;

/// as the default, and the whole file once at open
pub const FLASHINFER_VERIFY_OPEN: u32 = 2;

/// Which instructions of the CPU do the arithmetic. Each has its own last bits.
///
/// the best this CPU has
pub const FLASHINFER_KERNELS_DEFAULT: u32 = 0;

/// plain C
pub const FLASHINFER_KERNELS_REF: u32 = 1;

/// AVX2 + FMA + F16C
pub const FLASHINFER_KERNELS_AVX2: u32 = 2;

/// AVX-512 F, BW, DQ, VL
pub const FLASHINFER_KERNELS_AVX512: u32 = 3;

/// every aarch64 CPU; with dotprod where there is
pub const FLASHINFER_KERNELS_NEON: u32 = 4;

/// How keys and values of a session are kept.
///
/// float32
pub const FLASHINFER_KV_DEFAULT: u32 = 0;

/// the same
pub const FLASHINFER_KV_F32: u32 = 1;

/// half the memory; logits differ in about the third digit
pub const FLASHINFER_KV_F16: u32 = 2;

/// GGUF's blocks of 32: a quarter of the memory; heads must be a multiple of 32 wide
pub const FLASHINFER_KV_Q8_0: u32 = 3;

/// How a model is opened; several are joined with |.
///
/// header and tokenizer only: no sessions, no budget. Also opens a GGUF file that has a
/// vocabulary and no tensors
pub const FLASHINFER_OPEN_METADATA: u32 = 1 << 0;

/// take an unknown tokenizer: no text calls
pub const FLASHINFER_OPEN_NO_TOKENIZER: u32 = 1 << 1;

/// How much a line of the log matters.
///
/// not used so far: calls return failures
pub const FLASHINFER_LOG_ERROR: c_int = 0;

/// it works, but otherwise than asked for, or slower
pub const FLASHINFER_LOG_WARNING: c_int = 1;

/// what was chosen and found
pub const FLASHINFER_LOG_INFO: c_int = 2;

/// What a long call is doing. Valid during the callback only.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flashinfer_progress {
    pub size: u32,
    pub reserved: u32,
    /// "open", "verify", "eval", "pack", "probe": static string
    pub stage: *const c_char,
    /// bytes; tokens for "eval", measurements for "probe"
    pub done: u64,
    /// same unit as done
    pub total: u64,
}

/// Takes a line of the log. Called from the thread that made the call.
///
/// - `level`: FLASHINFER_LOG_...
/// - `text`: one line of UTF-8 without an end of line; valid during the callback only
pub type flashinfer_log_callback =
    Option<unsafe extern "C" fn(level: c_int, text: *const c_char, user: *mut c_void)>;

/// Follows a long call, and may end it. Called from the thread that made the call. Return 0 to go
/// on, anything else to cancel the call with FLASHINFER_ECANCELED.
pub type flashinfer_progress_callback =
    Option<unsafe extern "C" fn(progress: *const flashinfer_progress, user: *mut c_void) -> c_int>;

/// What a layer asks for in one step: the neurons the predictor named, before the cache is looked
/// at. Valid during the callback only.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flashinfer_trace {
    pub size: u32,
    pub layer: u32,
    pub layer_count: u32,
    /// neurons per layer
    pub ffn_length: u32,
    /// distance between two bundles in the file
    pub bundle_stride_bytes: u32,
    /// of ids
    pub count: u32,
    /// of the layer's first bundle, bytes from the start of the model; neuron i's is bundle i,
    /// but not with info.ordered
    pub bundle_offset: u64,
    /// steps of the model since it was opened, from 1
    pub step: u64,
    /// (count) ascending
    pub ids: *const u32,
}

/// Sees what every layer asks for. Called from the thread that steps, for every layer of every step.
/// It may ask the model for its stats and plan only.
pub type flashinfer_trace_callback =
    Option<unsafe extern "C" fn(trace: *const flashinfer_trace, user: *mut c_void)>;

/// What goes into a layer's FFN in one step: the input its predictor sees. Valid during the
/// callback only.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flashinfer_ffn_input {
    pub size: u32,
    pub layer: u32,
    pub layer_count: u32,
    /// d
    pub width: u32,
    /// steps of the model since it was opened, from 1
    pub step: u64,
    /// (width)
    pub x: *const f32,
}

/// Sees the input of every FFN. Called from the thread that steps, for every layer of every step,
/// before its FFN. It may ask the model for its stats and plan only.
pub type flashinfer_ffn_input_callback =
    Option<unsafe extern "C" fn(input: *const flashinfer_ffn_input, user: *mut c_void)>;

/// What a predictor missed in a layer of one step, found by computing all neurons beside those it
/// named. Norms are of vectors of embedding_length. Valid during the callback only.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flashinfer_audit {
    pub size: u32,
    pub layer: u32,
    pub layer_count: u32,
    /// neurons per layer
    pub ffn_length: u32,
    /// steps of the model since it was opened, from 1
    pub step: u64,
    /// neurons named
    pub predicted: u32,
    /// neurons that fire
    pub active: u32,
    /// of those, not named: false negatives
    pub missed: u32,
    pub reserved: u32,
    /// of what all firing neurons add up to, bias left out
    pub output_norm: f64,
    /// of what the missed ones add up to
    pub missed_norm: f64,
}

/// Sees what a predictor missed. Called from the thread that steps, after the layer's FFN. It may
/// ask the model for its stats and plan only.
pub type flashinfer_audit_callback =
    Option<unsafe extern "C" fn(audit: *const flashinfer_audit, user: *mut c_void)>;

/// How a model is opened and run. Copied when it is opened: only what log, progress, trace,
/// ffn_input, audit and their user pointers lead to must stay valid until the model is closed.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flashinfer_options {
    pub size: u32,
    /// FLASHINFER_OPEN_...
    pub flags: u32,
    /// ceiling in bytes, sessions included; 0: everything resident
    pub memory_budget: u64,
    /// compute threads, caller's included, at most 64; 0: one per CPU, at most 16 and one for 8 MiB
    /// of FFN.
    /// Of more than the CPUs that the opening thread may run on, and its control group pays for,
    /// as many as those are started, and a warning is logged
    pub threads: u32,
    /// of a session, at most the model's; 0: those, up to 8192
    pub context_tokens: u32,
    /// sessions that may exist at once, at most 1024; 0: 1
    pub session_count: u32,
    /// FLASHINFER_KV_...
    pub kv_type: u32,
    /// FLASHINFER_PREDICTOR_...
    pub predictor: u32,
    /// k of the paper's sliding window: neurons unused for so many tokens leave; 0: as slots last
    pub window_tokens: u32,
    /// FLASHINFER_STORAGE_...
    pub storage: u32,
    /// FLASHINFER_VERIFY_...
    pub verify: u32,
    /// FLASHINFER_KERNELS_...
    pub kernels: u32,
    /// reads in flight (libaio, io_uring), at most 4096; 0: the probe's, else 64
    pub io_depth: u32,
    /// reading threads (pread, buffered), at most 256; 0: the probe's, else 4
    pub io_lanes: u32,
    /// longest wait for one read; 0: 30000
    pub io_timeout_ms: u32,
    /// every nth token some layers are also computed densely; 0: never
    pub audit_interval: u32,
    /// reads at most this far apart become one, gap included; at most 65536; 1: none; 0: the
    /// probe's, else 4096
    pub io_gap_bytes: u32,
    pub log: flashinfer_log_callback,
    pub log_user: *mut c_void,
    pub progress: flashinfer_progress_callback,
    pub progress_user: *mut c_void,
    /// what the device was measured to give; NULL: not measured. Looked at during the call only
    pub probe: *const flashinfer_probe_result,
    /// FLASHINFER_CACHE_...
    pub cache_policy: u32,
    /// of such a token, in turn; at most all; 0: 1
    pub audit_layers: u32,
    /// called with what is asked for, but in mode all
    pub trace: flashinfer_trace_callback,
    pub trace_user: *mut c_void,
    /// predictor file made for this model, see flashinfer_predictor_save(); NULL: the model
    /// file's own. Looked at during the call only
    pub predictor_path: *const c_char,
    /// called with every FFN's input
    pub ffn_input: flashinfer_ffn_input_callback,
    pub ffn_input_user: *mut c_void,
    /// called for audited layers; changes no output
    pub audit: flashinfer_audit_callback,
    pub audit_user: *mut c_void,
    /// FLASHINFER_ACTIVATION_... of the FFN, for GGUF files not in flash layout that do not say
    /// theirs, or say it wrong; 0: the file's
    pub ffn_activation: u32,
    /// of FLASHINFER_ACTIVATION_FATRELU
    pub ffn_threshold: f32,
}

/// What an FFN multiplies a neuron's down column with: of its deciding sum s, which is the gate
/// row's where there is one, else the up row's, and of u, the up row's in gated FFNs, 1 in others.
/// Where the condition does not hold the neuron does not fire and adds nothing.
///
/// s u, where s is above 0
pub const FLASHINFER_ACTIVATION_RELU: u32 = 1;

/// s s u, where s is above 0
pub const FLASHINFER_ACTIVATION_RELU2: u32 = 2;

/// s u, where s is above info.ffn_threshold
pub const FLASHINFER_ACTIVATION_FATRELU: u32 = 3;

/// s u, where s and u are above 0
pub const FLASHINFER_ACTIVATION_DRELU: u32 = 4;

/// s u / (1 + exp(-s)), everywhere
pub const FLASHINFER_ACTIVATION_SILU: u32 = 5;

/// s u (1 + erf(s / sqrt 2)) / 2, everywhere
pub const FLASHINFER_ACTIVATION_GELU: u32 = 6;

/// s u (1 + tanh(t)) / 2, t = sqrt(2 / pi) (s + 0.044715 s^3), everywhere
pub const FLASHINFER_ACTIVATION_GELU_TANH: u32 = 7;

/// What is in a model file. Strings are owned by the model and live as long as it does.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flashinfer_info {
    pub size: u32,
    pub layer_count: u32,
    /// d: width of the residual stream
    pub embedding_length: u32,
    /// FFN neurons per layer
    pub ffn_length: u32,
    /// heads of queries
    pub head_count: u32,
    /// token ids are below it; logits are as many
    pub vocab_count: u32,
    /// longest context of the model
    pub context_tokens: u32,
    /// for flashinfer_model_tensor()
    pub tensor_count: u32,
    /// for flashinfer_model_metadata()
    pub metadata_count: u32,
    /// payload bytes of one FFN neuron
    pub bundle_bytes: u32,
    /// distance between two bundles in the file
    pub bundle_stride_bytes: u32,
    /// -1: none
    pub bos_token: i32,
    /// -1: none
    pub eos_token: i32,
    /// 1: texts of this model begin with bos_token
    pub add_bos: u32,
    /// elements of all weights
    pub parameter_count: u64,
    /// length of the model file
    pub file_bytes: u64,
    /// payload bytes of all bundles
    pub ffn_bytes: u64,
    /// "opt", "qwen3", ...; "" of a file without tensors
    pub architecture: *const c_char,
    /// "" if the file has none
    pub name: *const c_char,
    /// kinds this file can be run with, such as "exact,sketch,all"
    pub predictors: *const c_char,
    /// 1: packed with an order, see flashinfer_order_create()
    pub ordered: u32,
    pub reserved: u32,
    /// FLASHINFER_DTYPE_... of token embeddings, attention and head
    pub dtype_resident: u32,
    /// FLASHINFER_DTYPE_... of bundles
    pub dtype_ffn: u32,
    /// 1: bundles have a gate row, which decides what fires; 0: they have none, the up row does
    pub ffn_gated: u32,
    /// FLASHINFER_ACTIVATION_...
    pub ffn_activation: u32,
    /// 1: neurons may not fire; 0: all do, predictors leave nothing out
    pub ffn_sparse: u32,
    /// what a deciding sum must be above to fire; 0 without ffn_sparse
    pub ffn_threshold: f32,
    /// heads of keys and values; each serves head_count / kv_head_count
    pub kv_head_count: u32,
    /// elements of a head
    pub head_length: u32,
}

/// A tensor of a model file.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flashinfer_tensor_info {
    pub size: u32,
    /// GGUF tensor type number: 0 F32, 1 F16, 2 Q4_0, 8 Q8_0, 24 I8, 27 I64, 30 BF16
    pub r#type: u32,
    /// 1 to 4 of dimensions
    pub dimension_count: u32,
    pub reserved: u32,
    /// fastest first, as in GGUF
    pub dimensions: [u64; 4],
    /// bytes from the start of the model
    pub offset: u64,
    /// its length in the file
    pub bytes: u64,
    /// XXH3-64 of its bytes; of its checksum tensor for a bundle tensor
    pub xxh3: u64,
    /// owned by the model
    pub name: *const c_char,
}

/// Parts of a bundle. The deciding one is GATE with info.ffn_gated, else UP.
///
/// a row of the up projection
pub const FLASHINFER_PART_UP: u32 = 0;

/// a column of the down projection
pub const FLASHINFER_PART_DOWN: u32 = 1;

/// a row of the gate projection
pub const FLASHINFER_PART_GATE: u32 = 2;

/// How a budget is divided. planned_bytes is the sum of the parts and never above the budget.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flashinfer_plan {
    pub size: u32,
    /// FLASHINFER_PREDICTOR_...: the kind in force
    pub predictor: u32,
    /// as asked for; maximum_bytes if 0 was asked for
    pub budget_bytes: u64,
    /// what is held under it at most
    pub planned_bytes: u64,
    /// smallest budget that works with these options
    pub minimum_bytes: u64,
    /// budget above which more memory changes nothing
    pub maximum_bytes: u64,
    /// header, tensor table, tokenizer
    pub metadata_bytes: u64,
    /// embeddings, attention, norms, biases, bundle checksums
    pub resident_bytes: u64,
    /// sketch, or the resident deciding rows of exact mode
    pub predictor_bytes: u64,
    /// neuron cache: slots and their bookkeeping
    pub cache_bytes: u64,
    /// sessions
    pub kv_bytes: u64,
    /// activations, logits
    pub scratch_bytes: u64,
    /// staging and stream buffers, request tables
    pub io_bytes: u64,
    /// stacks of the compute threads in use but the caller's
    pub thread_bytes: u64,
    /// length of the model file, for comparison: no part of the sum
    pub file_bytes: u64,
    /// bundles cached, mean over layers
    pub slots_per_layer: u32,
    /// memory of one cached bundle
    pub slot_bytes: u32,
    /// exact mode: deciding rows of a layer kept in memory
    pub resident_rows: u32,
    /// FLASHINFER_CACHE_...: the one in force
    pub cache_policy: u32,
    /// bundles cached, over all layers
    pub slots: u32,
    pub reserved: u32,
    /// the system's, of all that is mapped: 1/512 with pages of 4 KiB
    pub page_table_bytes: u64,
    /// plain files: read for every token, because memory lacks them
    pub streamed_bytes: u64,
}

/// Sums since open or the last reset, over all sessions of the model. Neuron counts are per
/// (token, layer).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flashinfer_stats {
    pub size: u32,
    pub reserved: u32,
    /// steps completed
    pub tokens: u64,
    /// FFN neurons of the dense model over those steps
    pub neurons: u64,
    /// neurons the predictor named
    pub predicted: u64,
    /// predicted neurons whose activation was not zero
    pub active: u64,
    /// predicted neurons found in the cache (hits)
    pub resident: u64,
    /// predicted neurons read from flash (misses)
    pub missing: u64,
    /// neurons read in whole layers (all; exact beyond its resident rows)
    pub streamed: u64,
    /// extra passes because a token needed more bundles than there are slots
    pub waves: u64,
    /// truly active neurons seen by the audit
    pub audited_active: u64,
    /// of those, not predicted: false negatives
    pub audited_missed: u64,
    /// bytes read for bundles
    pub flash_bytes: u64,
    /// read requests for bundles
    pub flash_reads: u64,
    /// bytes read by the audit, not part of flash_bytes
    pub audit_bytes: u64,
    /// reads done again after a failure or checksum mismatch
    pub read_retries: u64,
    /// time in the predictor
    pub predict_ns: u64,
    /// time compute stood still for flash: handing over reads, waiting
    pub io_wait_ns: u64,
    /// time in cache bookkeeping
    pub memory_ns: u64,
    /// time in attention, FFN and logits kernels
    pub compute_ns: u64,
    /// time in those steps
    pub total_ns: u64,
    /// time in handing reads over, beside computing or not
    pub io_submit_ns: u64,
    /// Tokens that flashinfer_eval() runs many at once, counted here and nowhere above but in
    /// read_retries.
    pub prefill_tokens: u64,
    /// time they took
    pub prefill_ns: u64,
    /// of that, compute stood still for flash
    pub prefill_wait_ns: u64,
    /// bytes read for their bundles
    pub prefill_bytes: u64,
}

/// How text becomes tokens; several are joined with |.
///
/// begin with the model's bos token if it wants one
pub const FLASHINFER_TOKENIZE_BOS: u32 = 1 << 0;

/// texts such as \</s\> become their control token
pub const FLASHINFER_TOKENIZE_SPECIAL: u32 = 1 << 1;

/// What is added to a token's logit, before anything else is done with it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flashinfer_logit_bias {
    pub token: i32,
    /// finite; or -INFINITY: the token is never chosen
    pub bias: f32,
}

/// How a token is chosen from logits. Copied when the sampler is made.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flashinfer_sampler_options {
    pub size: u32,
    /// keep the k most likely; 0: all
    pub top_k: u32,
    /// same seed, same logits: same tokens on every machine
    pub seed: u64,
    /// at least 0; 0: greedy, the lowest id among equals
    pub temperature: f32,
    /// keep the likeliest that together have this probability, 0 to 1; 0 or 1: all
    pub top_p: f32,
    /// drop what is less likely than min_p times the likeliest, 0 to 1; 0: nothing
    pub min_p: f32,
    /// divides positive and multiplies negative logits of recent tokens; at least 0; 0 or 1: off
    pub repetition_penalty: f32,
    /// how many recent tokens count, at most 2^24; 0: 64
    pub repetition_tokens: u32,
    /// of the list below
    pub logit_bias_count: u32,
    /// (logit_bias_count) in any order, at most one a token; looked at by create only
    pub logit_biases: *const flashinfer_logit_bias,
}

/// A token and the natural logarithm of its probability; -INFINITY: it has none.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flashinfer_logprob {
    pub token: i32,
    /// natural logarithm; -INFINITY: it has no probability
    pub logprob: f32,
}

/// reads of 4, 16, 32, 64, 256 and 1024 KiB
pub const FLASHINFER_PROBE_SIZES: u32 = 6;

/// with 1, 4, 16 and 64 in flight
pub const FLASHINFER_PROBE_DEPTHS: u32 = 4;

/// one for each FLASHINFER_STORAGE_..., and room for more
pub const FLASHINFER_PROBE_KINDS: u32 = 8;

/// What a device and a machine were measured to give. Rates are bytes per second, at random places
/// past the page cache. 0: not measured, for lack of time, of a file long enough, or of the kind of
/// storage. The recommendations are values for the options of their names.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flashinfer_probe_result {
    pub size: u32,
    /// FLASHINFER_STORAGE_... that read fastest: read_bytes_per_s is of it
    pub storage: u32,
    /// bytes its reads must be multiples of
    pub alignment: u32,
    /// of the memory and kernel rates
    pub threads: u32,
    /// FLASHINFER_KERNELS_... of the kernel rate
    pub kernels: u32,
    /// recommended
    pub io_depth: u32,
    /// recommended
    pub io_lanes: u32,
    /// recommended
    pub io_gap_bytes: u32,
    /// the sizes of the table below
    pub read_bytes: [u32; FLASHINFER_PROBE_SIZES as usize],
    /// and its reads in flight
    pub depths: [u32; FLASHINFER_PROBE_DEPTHS as usize],
    /// the table: \[i\]\[k\] is read_bytes\[i\] with depths\[k\] in flight
    pub read_bytes_per_s:
        [[u64; FLASHINFER_PROBE_DEPTHS as usize]; FLASHINFER_PROBE_SIZES as usize],
    /// every kind of storage there is, reads of 32 KiB; for pread the depth is the number of
    /// lanes
    pub kind_bytes_per_s:
        [[u64; FLASHINFER_PROBE_DEPTHS as usize]; FLASHINFER_PROBE_KINDS as usize],
    /// of one read of 4 KiB alone: median
    pub latency_ns: u64,
    /// and what one in a hundred takes longer than
    pub latency_p99_ns: u64,
    /// reading memory by all threads
    pub dram_bytes_per_s: u64,
    /// float16 matrix times vector by all threads, from memory
    pub matvec_bytes_per_s: u64,
    /// length of the file that was read
    pub file_bytes: u64,
    /// what it all took
    pub elapsed_ns: u64,
}

/// How long and with what is measured. Looked at during the call only.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flashinfer_probe_options {
    pub size: u32,
    /// for everything; 0: 5000
    pub time_ms: u32,
    /// of memory and kernel rates, at most 64; 0: one per CPU, at most 16
    pub threads: u32,
    /// FLASHINFER_STORAGE_...; 0: every kind there is, the table of the fastest
    pub storage: u32,
    /// of the file written into a directory, 1 MiB at least; 0: 256 MiB
    pub file_bytes: u64,
    pub progress: flashinfer_progress_callback,
    pub progress_user: *mut c_void,
}

/// Types of a model file's matrices. Q8_0 and Q4_0 are GGUF's blocks of 32 elements with a scale,
/// as llama.cpp writes them; widths must be multiples of 32.
///
/// f16
pub const FLASHINFER_DTYPE_DEFAULT: u32 = 0;

/// IEEE single, 32 bits
pub const FLASHINFER_DTYPE_F32: u32 = 1;

/// IEEE half, 16 bits
pub const FLASHINFER_DTYPE_F16: u32 = 2;

/// the upper half of a single: its range, 8 bits of precision
pub const FLASHINFER_DTYPE_BF16: u32 = 3;

/// 8.5 bits an element
pub const FLASHINFER_DTYPE_Q8_0: u32 = 4;

/// 4.5
pub const FLASHINFER_DTYPE_Q4_0: u32 = 5;

/// Which bundles the same tokens want, for packing them side by side.
#[repr(C)]
pub struct flashinfer_order {
    _data: [u8; 0],
    _marker: PhantomData<(*mut u8, PhantomPinned)>,
}

/// How a checkpoint is packed. Looked at during the call only.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flashinfer_pack_options {
    pub size: u32,
    /// FLASHINFER_DTYPE_... of all matrices, unless the two below say otherwise
    pub dtype: u32,
    /// 1 to 4 bits of the deciding matrix, for the sketch predictor; 0: 3
    pub sketch_bits: u32,
    /// 1: write no predictor; the file runs in exact and all mode only. So does that of a model
    /// whose activation has no zeros, whatever is set here; the log says so
    pub no_sketch: u32,
    pub log: flashinfer_log_callback,
    pub log_user: *mut c_void,
    pub progress: flashinfer_progress_callback,
    pub progress_user: *mut c_void,
    /// bundles wanted by the same tokens lie together; NULL: neuron by neuron. Looked at during
    /// the call only
    pub order: *const flashinfer_order,
    /// FLASHINFER_DTYPE_... of token embeddings, attention and head, which stay in memory; 0:
    /// dtype. Position embeddings are F16 beside a quantised one; norms and biases are F32 always
    pub dtype_resident: u32,
    /// of bundles, which are read from flash; 0: dtype
    pub dtype_ffn: u32,
    /// FLASHINFER_ACTIVATION_... that the FFN computes, where the checkpoint's config.json says
    /// another than its authors' code; 0: as there
    pub activation: u32,
    /// with the activation above, if that is FATRELU
    pub activation_threshold: f32,
}

/// A predictor being made or looked at: for every layer a sketch or two low-rank factors.
#[repr(C)]
pub struct flashinfer_predictor {
    _data: [u8; 0],
    _marker: PhantomData<(*mut u8, PhantomPinned)>,
}

/// One piece of memory a read fills.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flashinfer_storage_segment {
    /// the library's: valid until the read has completed
    pub data: *mut c_void,
    /// of data
    pub bytes: usize,
}

/// One contiguous read of the model, scattered over its segments in order. offset, every
/// segment's address and every segment's length are multiples of caps.alignment, except that the
/// last read of a file may reach past its end by less than the alignment; bytes past the end need
/// not be written. The segment array is only valid during submit.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flashinfer_storage_read {
    /// bytes from the start of the model
    pub offset: u64,
    /// returned in the completion
    pub tag: u64,
    /// (segment_count)
    pub segments: *const flashinfer_storage_segment,
    /// at most caps.segments_max
    pub segment_count: u32,
    pub reserved: u32,
}

/// How a read ended.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flashinfer_storage_completion {
    /// as it was in the read
    pub tag: u64,
    /// bytes read, or a negative errno value
    pub result: i64,
}

/// What a backend can do.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flashinfer_storage_caps {
    /// set by the library; leave it as it is
    pub size: u32,
    /// bytes, a power of two up to 4096; 1: any
    pub alignment: u32,
    /// reads that may be in flight; at least 1, with submit
    pub depth: u32,
    /// segments a read may have; at least 1, with submit
    pub segments_max: u32,
    /// of the model
    pub length_bytes: u64,
}

/// A backend's functions and the host's pointer. Set size to sizeof(flashinfer_storage_ops) and what
/// is not there to NULL. Either submit and wait (asynchronous), or read alone (synchronous, any
/// offset and length; the library then calls it from options.io_lanes threads of its own, several at
/// once, with 256 KiB of stack and all signals blocked).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct flashinfer_storage_ops {
    /// sizeof(flashinfer_storage_ops)
    pub size: u32,
    pub reserved: u32,
    /// first argument of every call; never looked at
    pub user: *mut c_void,
    /// Fill \*caps. Returns 0 or a negative errno value.
    pub caps: Option<
        unsafe extern "C" fn(user: *mut c_void, caps: *mut flashinfer_storage_caps) -> c_int,
    >,
    /// Begin up to count reads. Returns how many were taken (a prefix), or a negative errno value
    /// if none could be. Never more than caps.depth are in flight.
    pub submit: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            reads: *const flashinfer_storage_read,
            count: u32,
        ) -> c_int,
    >,
    /// Wait until at least minimum reads have completed or timeout_ns passed; write up to
    /// capacity completions. Returns how many were written (fewer than minimum: timed out), or a
    /// negative errno value. With minimum 0 it only collects what is there.
    pub wait: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            minimum: u32,
            timeout_ns: u64,
            completions: *mut flashinfer_storage_completion,
            capacity: u32,
        ) -> c_int,
    >,
    /// Synchronous alternative. Returns bytes read (fewer than asked for only at the end) or a
    /// negative errno value. It must ask the library for nothing about this model or its sessions,
    /// stats neither: it runs beside the call that waits for it, and would wait for that one until
    /// options.io_timeout_ms is over and the call has failed.
    pub read: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            offset: u64,
            data: *mut c_void,
            bytes: usize,
        ) -> i64,
    >,
    /// Called once when the model is closed. All reads have completed, unless one never came back
    /// within twice options.io_timeout_ms: when this returns it must never land any more, its
    /// memory is gone. Not called in a child of fork, which closes what its parent opened: what
    /// the host holds there is the host's to give back. May be NULL.
    pub close: Option<unsafe extern "C" fn(user: *mut c_void)>,
}

extern "C" {
    /// flashinfer_error_init - prepare an error record
    ///
    /// - `error`: record to fill
    /// - `size`: sizeof(flashinfer_error) as the caller compiled it
    pub fn flashinfer_error_init(error: *mut flashinfer_error, size: usize);

    /// flashinfer_error_name - name of an error code, such as "FLASHINFER_EBUDGET"
    ///
    /// - `code`: FLASHINFER_E...
    ///
    /// Returns a static string, "FLASHINFER_E?" for an unknown code.
    pub fn flashinfer_error_name(code: c_int) -> *const c_char;

    /// flashinfer_error_describe - one-sentence description of an error code
    ///
    /// - `code`: FLASHINFER_E...
    ///
    /// Returns a static string.
    pub fn flashinfer_error_describe(code: c_int) -> *const c_char;

    /// flashinfer_version - version of the library in use, such as "0.1.0"
    /// Returns a static string.
    pub fn flashinfer_version() -> *const c_char;

    /// flashinfer_options_init - fill options with defaults
    ///
    /// - `options`: struct to fill
    /// - `size`: sizeof(flashinfer_options) as the caller compiled it
    pub fn flashinfer_options_init(options: *mut flashinfer_options, size: usize);

    /// flashinfer_model_open - open a model file in flash layout inside a memory budget
    ///
    /// - `path`: GGUF file written by flashinfer_pack()
    /// - `options`: NULL for defaults
    /// - `model`: receives the handle; NULL on failure
    /// - `error`: NULL or the caller's record
    ///
    /// Everything the handle and its sessions will ever hold is planned here and allocated once. Fails
    /// with FLASHINFER_EBUDGET, naming the smallest workable budget, when the plan does not fit.
    pub fn flashinfer_model_open(
        path: *const c_char,
        options: *const flashinfer_options,
        model: *mut *mut flashinfer_model,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_model_open_fd - open a model that is part of an open file, such as an application's
    /// asset
    ///
    /// - `fd`: readable file descriptor; it stays the caller's and may be closed when this returns
    /// - `offset`: byte offset of the model in the file
    /// - `length`: bytes of the model; 0: up to the end of the file
    ///
    /// Direct I/O needs an offset that is a multiple of 4096; with any other the reads go through the
    /// page cache.
    pub fn flashinfer_model_open_fd(
        fd: c_int,
        offset: u64,
        length: u64,
        options: *const flashinfer_options,
        model: *mut *mut flashinfer_model,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_model_open_storage - open a model through callbacks of the host
    ///
    /// - `ops`: copied; see flashinfer_backend.h. ops-\>close is called when the model is closed, not when
    ///   open fails.
    pub fn flashinfer_model_open_storage(
        ops: *const flashinfer_storage_ops,
        options: *const flashinfer_options,
        model: *mut *mut flashinfer_model,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_model_close - release a model
    ///
    /// - `model`: may be NULL
    ///
    /// Every session must have been destroyed. Returns 0, or FLASHINFER_EBUSY (and closes nothing) while
    /// sessions exist.
    pub fn flashinfer_model_close(model: *mut flashinfer_model) -> c_int;

    /// flashinfer_model_info - describe an open model
    ///
    /// - `info`: caller's struct with info-\>size set
    pub fn flashinfer_model_info(
        model: *const flashinfer_model,
        info: *mut flashinfer_info,
    ) -> c_int;

    /// flashinfer_model_tensor - describe tensor number `index` of the file, in file order
    ///
    /// - `index`: from 0, below info.tensor_count
    /// - `tensor`: caller's struct with tensor-\>size set
    pub fn flashinfer_model_tensor(
        model: *const flashinfer_model,
        index: u32,
        tensor: *mut flashinfer_tensor_info,
    ) -> c_int;

    /// flashinfer_model_metadata - metadata entry number `index` of the file as text
    ///
    /// - `index`: from 0, below info.metadata_count
    /// - `key`: receives the key, owned by the model
    /// - `value`: buffer for the value as text; arrays are shortened to their first elements
    /// - `capacity`: bytes of `value`; the text is cut to fit and zero-terminated
    pub fn flashinfer_model_metadata(
        model: *const flashinfer_model,
        index: u32,
        key: *mut *const c_char,
        value: *mut c_char,
        capacity: usize,
    ) -> c_int;

    /// flashinfer_model_verify - read the whole file once and compare every checksum
    ///
    /// Works on any open model, also one opened with FLASHINFER_OPEN_METADATA; reports through the
    /// model's progress callback. The first mismatch is FLASHINFER_ECORRUPT with tensor, neuron and
    /// offset.
    pub fn flashinfer_model_verify(
        model: *mut flashinfer_model,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_model_ffn_rows - FFN weights of some neurons as floats
    ///
    /// - `part`: FLASHINFER_PART_...; GATE is FLASHINFER_EINVAL where info.ffn_gated is 0
    /// - `first`, `count`: neurons of the layer
    /// - `rows`: receives (count, embedding_length) floats
    ///
    /// Reads them from the file, checked against their checksums, past the neuron cache. Not during a
    /// step.
    pub fn flashinfer_model_ffn_rows(
        model: *mut flashinfer_model,
        layer: u32,
        part: u32,
        first: u32,
        count: u32,
        rows: *mut f32,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_model_ffn_bias - biases of the deciding sums of a layer's neurons
    ///
    /// - `bias`: receives (ffn_length) floats, zeros where the model has none
    ///
    /// A neuron's deciding sum for an FFN input x is row . x + bias, its row that of
    /// FLASHINFER_PART_GATE with info.ffn_gated, else of FLASHINFER_PART_UP. It fires if that is above
    /// info.ffn_threshold; under FLASHINFER_ACTIVATION_DRELU the up sum must be above 0 too. Without
    /// info.ffn_sparse every neuron fires.
    pub fn flashinfer_model_ffn_bias(
        model: *mut flashinfer_model,
        layer: u32,
        bias: *mut f32,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_plan_file - what a budget would give, without opening the model
    ///
    /// - `path`: model file
    /// - `options`: as for flashinfer_model_open(); a budget below the minimum is no error here: see
    ///   minimum_bytes
    /// - `plan`: caller's struct with plan-\>size set
    pub fn flashinfer_plan_file(
        path: *const c_char,
        options: *const flashinfer_options,
        plan: *mut flashinfer_plan,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_model_plan - the plan an open model runs under
    ///
    /// - `plan`: caller's struct with plan-\>size set
    pub fn flashinfer_model_plan(model: *mut flashinfer_model, plan: *mut flashinfer_plan) -> c_int;

    /// flashinfer_budget_parse - bytes of a budget as people write it
    ///
    /// - `text`: a share of the model file such as "50%" or "12.5%", bytes such as "123456", or a number of
    ///   K, M, G or T such as "1.5G" (1024 bytes and its powers)
    /// - `file_bytes`: what a share is of: plan.file_bytes or info.file_bytes; 0 refuses shares
    /// - `budget_bytes`: receives the bytes, for options.memory_budget
    ///
    /// Exact to the byte whatever the number of digits, rounded down once. Anything else is
    /// FLASHINFER_EINVAL: spaces, signs, exponents, other units, parts of a byte, what comes to no byte,
    /// and what a uint64_t cannot hold. Shares above 100% are as good as others.
    pub fn flashinfer_budget_parse(
        text: *const c_char,
        file_bytes: u64,
        budget_bytes: *mut u64,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_model_set_budget - change the budget of a live model
    ///
    /// - `budget_bytes`: new ceiling; 0: whatever makes everything resident
    ///
    /// Shrinks or grows the neuron cache between two steps; the output does not change. When this
    /// returns, no more than the new budget is held. It waits for the call that runs on the model: so
    /// that a long flashinfer_eval() does not keep it waiting, cancel that first and run the rest after.
    /// Refused with FLASHINFER_EBUDGET, the old budget staying in force, below the minimum.
    pub fn flashinfer_model_set_budget(
        model: *mut flashinfer_model,
        budget_bytes: u64,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_model_stats - read the counters
    ///
    /// - `stats`: caller's struct with stats-\>size set
    pub fn flashinfer_model_stats(
        model: *mut flashinfer_model,
        stats: *mut flashinfer_stats,
    ) -> c_int;

    /// flashinfer_model_reset_stats - set the counters to zero
    pub fn flashinfer_model_reset_stats(model: *mut flashinfer_model) -> c_int;

    /// flashinfer_session_create - begin a sequence
    ///
    /// - `session`: receives the handle, at position 0; NULL on failure
    ///
    /// Takes one of the options.session_count places planned at open; FLASHINFER_ESESSIONS when none is
    /// free.
    pub fn flashinfer_session_create(
        model: *mut flashinfer_model,
        session: *mut *mut flashinfer_session,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_session_destroy - give a session's place back
    ///
    /// - `session`: may be NULL
    pub fn flashinfer_session_destroy(session: *mut flashinfer_session);

    /// flashinfer_step - run one token through all layers
    ///
    /// - `token`: id in \[0, vocab_count)
    ///
    /// Afterwards flashinfer_logits() holds the prediction for the next token and the position has grown
    /// by one. On failure position and logits are as before the call and the session stays usable.
    pub fn flashinfer_step(
        session: *mut flashinfer_session,
        token: i32,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_eval - run `count` tokens in order, such as a prompt
    ///
    /// - `tokens`: (count) ids; all are checked before the first is run
    /// - `count`: how many
    ///
    /// Prompts are run in chunks: many tokens go through a layer together, all of its FFN neurons are
    /// computed (no predictor is asked, so none is missed) and read once a chunk. A chunk's size depends
    /// on the model file alone, so the result does not depend on budget or threads; it differs from
    /// single steps by rounding, and by what a predictor would have missed. Fewer than 32 tokens (8 with
    /// the predictors exact and all), and every call of a model with trace or ffn_input callbacks or an
    /// audit, are run token by token.
    ///
    /// Logits are those after the last token. What is found before the first token runs (an id the
    /// model has not, more tokens than there are positions left) changes nothing: position and logits
    /// are as before the call. On any later failure or cancel the session stands after the last token or
    /// chunk completed, without logits; flashinfer_session_position() tells where. The progress callback
    /// is called before every token or chunk.
    pub fn flashinfer_eval(
        session: *mut flashinfer_session,
        tokens: *const i32,
        count: usize,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_logits - the logits of the last step
    ///
    /// - `count`: receives the vocabulary size; may be NULL
    ///
    /// Returns (vocab_count) floats owned by the session, valid until its next call, or NULL before the
    /// first step. Does not wait for a running call.
    pub fn flashinfer_logits(session: *const flashinfer_session, count: *mut usize) -> *const f32;

    /// flashinfer_session_position - tokens in the session's context
    ///
    /// Does not wait for a running call: during flashinfer_eval() it tells how far that is.
    pub fn flashinfer_session_position(session: *const flashinfer_session) -> u32;

    /// flashinfer_session_rewind - forget everything from `position` on
    ///
    /// - `position`: at most the current position; 0 begins anew
    ///
    /// The logits are gone until the next step.
    pub fn flashinfer_session_rewind(
        session: *mut flashinfer_session,
        position: u32,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_session_cancel - stop the session's running call
    ///
    /// Counts for a flashinfer_step() or flashinfer_eval() that has begun and not returned, also one
    /// that waits for another call on the model. It returns FLASHINFER_ECANCELED, or, where it was all
    /// but done, as if nothing had come. A cancel that finds no call does nothing, and none stops a call
    /// that is made after it. So one too many or too late is harmless.
    ///
    /// May be called from any thread, from a callback and from a signal handler; it waits for nothing.
    /// A stop button for a loop of calls sets a flag of the host's, then cancels; the loop looks at the
    /// flag before every call. A press between look and call is missed by that call: cancel again until
    /// the loop has ended.
    pub fn flashinfer_session_cancel(session: *mut flashinfer_session);

    /// flashinfer_state_bytes - bytes flashinfer_state_save() needs now
    pub fn flashinfer_state_bytes(session: *mut flashinfer_session) -> usize;

    /// flashinfer_state_save - copy position, logits and KV cache out
    ///
    /// - `buffer`: receives the state; the caller may write it to a file. May be NULL if `capacity` is 0
    /// - `capacity`: bytes of `buffer`
    /// - `written`: receives how many bytes the state has; FLASHINFER_EBUFFER if more than `capacity`
    pub fn flashinfer_state_save(
        session: *mut flashinfer_session,
        buffer: *mut c_void,
        capacity: usize,
        written: *mut usize,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_state_load - replace a session's position, logits and KV cache
    ///
    /// - `buffer`: a state saved from the same model file and KV type; anything else is FLASHINFER_ESTATE
    /// - `bytes`: as many as flashinfer_state_save() wrote
    pub fn flashinfer_state_load(
        session: *mut flashinfer_session,
        buffer: *const c_void,
        bytes: usize,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_tokenize - text to token ids by the model's own tokenizer
    ///
    /// - `text`: bytes, need not be valid UTF-8 or zero-terminated
    /// - `text_bytes`: how many
    /// - `flags`: FLASHINFER_TOKENIZE_...
    /// - `tokens`: receives at most `capacity` ids; may be NULL if `capacity` is 0
    /// - `capacity`: ids that `tokens` has room for
    /// - `count`: receives how many ids the text has; FLASHINFER_EBUFFER if more than `capacity`
    ///
    /// A text may have more ids than bytes: some tokenizers put a space before it. May run beside any
    /// other call on the model.
    pub fn flashinfer_tokenize(
        model: *const flashinfer_model,
        text: *const c_char,
        text_bytes: usize,
        flags: u32,
        tokens: *mut i32,
        capacity: usize,
        count: *mut usize,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_detokenize - token ids to bytes
    ///
    /// - `tokens`: (count) ids
    /// - `count`: how many
    /// - `text`: receives at most `capacity` bytes, not zero-terminated; may be NULL if `capacity` is 0
    /// - `capacity`: bytes that `text` has room for
    /// - `text_bytes`: receives how many bytes the ids have; FLASHINFER_EBUFFER if more than `capacity`
    ///
    /// Control tokens give no bytes. The result may begin or end inside a UTF-8 character: see
    /// flashinfer_decoder_push(). The ids are taken as a whole text: a space that the tokenizer puts
    /// before every text is left out again. For a part of a text, which keeps its first space, use a
    /// decoder. May run beside any other call on the model.
    pub fn flashinfer_detokenize(
        model: *const flashinfer_model,
        tokens: *const i32,
        count: usize,
        text: *mut c_char,
        capacity: usize,
        text_bytes: *mut usize,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_decoder_create - begin streaming text
    ///
    /// - `model`: must outlive the decoder
    /// - `decoder`: receives the handle
    pub fn flashinfer_decoder_create(
        model: *const flashinfer_model,
        decoder: *mut *mut flashinfer_decoder,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_decoder_push - add a token, take the text that is complete
    ///
    /// - `token`: next id; -1 ends the stream and gives what is left
    /// - `text`: receives zero-terminated UTF-8 owned by the decoder until its next call; bytes that can
    ///   never become a character are replaced by U+FFFD
    /// - `text_bytes`: receives its length; may be NULL
    ///
    /// A stream may go on with a text, so that its first space is kept. Where the model's bos token
    /// comes first, a text begins: a space that the tokenizer puts before every text is left out.
    ///
    /// Nothing is given that is, or may be, part of a stop string: flashinfer_decoder_set_stops().
    pub fn flashinfer_decoder_push(
        decoder: *mut flashinfer_decoder,
        token: i32,
        text: *mut *const c_char,
        text_bytes: *mut usize,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_decoder_set_stops - end the text where one of some texts comes
    ///
    /// - `texts`: (count) UTF-8 texts, copied, in place of those set before; may be NULL if `count` is 0
    /// - `text_bytes`: (count) their lengths; NULL: each ends with a zero byte
    /// - `count`: how many; 0: no text stops any more
    ///
    /// From now on flashinfer_decoder_push() shows no part of a stop string, wherever tokens begin and
    /// end: what may be the beginning of one is held back until later tokens tell, or the stream ends.
    /// Once one is complete, what stands before it is given, flashinfer_decoder_stopped() tells, and
    /// further tokens give no text until the stream ends (token -1), after which another can begin. Of
    /// several the first to be complete counts, of those that end together the longest.
    ///
    /// Strings are compared with the text that is given: after tokens whose text may hold one and should
    /// not stop, such as a prompt's, is the time to set them. Text that is held back stays so, for the
    /// new strings. A string that is NULL, empty or not UTF-8 is FLASHINFER_EINVAL; nothing is changed
    /// then, nor by FLASHINFER_ENOMEM.
    pub fn flashinfer_decoder_set_stops(
        decoder: *mut flashinfer_decoder,
        texts: *const *const c_char,
        text_bytes: *const usize,
        count: usize,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_decoder_stopped - which stop string has ended the text
    ///
    /// Returns its index, from 0, or -1 if none has. Stands until a token follows the end of the stream,
    /// or others are set.
    pub fn flashinfer_decoder_stopped(decoder: *const flashinfer_decoder) -> i32;

    /// flashinfer_decoder_destroy - end a stream
    ///
    /// - `decoder`: may be NULL
    pub fn flashinfer_decoder_destroy(decoder: *mut flashinfer_decoder);

    /// flashinfer_sampler_options_init - fill sampler options with defaults (greedy)
    pub fn flashinfer_sampler_options_init(options: *mut flashinfer_sampler_options, size: usize);

    /// flashinfer_sampler_create - make a sampler
    ///
    /// - `options`: NULL for defaults
    /// - `vocab_count`: longest logits it will be given
    /// - `sampler`: receives the handle; NULL on failure
    ///
    /// Independent of any model; one sampler must not be used by two threads at once. Order of
    /// operations: logit biases, repetition penalty, top-k, temperature, top-p, min-p. All memory is
    /// taken here.
    pub fn flashinfer_sampler_create(
        options: *const flashinfer_sampler_options,
        vocab_count: usize,
        sampler: *mut *mut flashinfer_sampler,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_sampler_sample - choose a token and remember it for the repetition penalty
    ///
    /// - `logits`: (count) floats, not changed; NaN counts as never
    /// - `count`: how many, at most the sampler's vocab_count
    /// - `token`: receives the id
    pub fn flashinfer_sampler_sample(
        sampler: *mut flashinfer_sampler,
        logits: *const f32,
        count: usize,
        token: *mut i32,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_sampler_accept - let a token that was not sampled (a prompt's) count for the
    /// repetition penalty
    ///
    /// - `token`: its id
    pub fn flashinfer_sampler_accept(
        sampler: *mut flashinfer_sampler,
        token: i32,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_sampler_copy - a second sampler that goes on as this one would
    ///
    /// - `copy`: receives the handle; NULL on failure
    ///
    /// The same options, the same next random numbers, the same recent tokens. From now on they are
    /// independent.
    pub fn flashinfer_sampler_copy(
        sampler: *const flashinfer_sampler,
        copy: *mut *mut flashinfer_sampler,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_sampler_state_save - copy out what the next tokens depend on beside logits and options
    ///
    /// - `buffer`: receives the state; the caller may write it to a file, beside that of
    ///   flashinfer_state_save(). May be NULL if `capacity` is 0
    /// - `capacity`: bytes of `buffer`
    /// - `written`: receives how many bytes the state has; FLASHINFER_EBUFFER if more than `capacity`
    ///
    /// That is: random numbers and recent tokens, some tens of bytes and 4 for each token. Options are
    /// not in it.
    pub fn flashinfer_sampler_state_save(
        sampler: *const flashinfer_sampler,
        buffer: *mut c_void,
        capacity: usize,
        written: *mut usize,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_sampler_state_load - go on as the sampler would that a state was saved from
    ///
    /// - `buffer`: a state saved from a sampler made for the same vocab_count, which remembers as many
    ///   recent tokens (without a penalty: none); anything else is FLASHINFER_ESTATE
    /// - `bytes`: as many as flashinfer_sampler_state_save() wrote
    ///
    /// Make the sampler with the options of the other one first: then the same logits give the same
    /// tokens. A failure changes nothing.
    pub fn flashinfer_sampler_state_load(
        sampler: *mut flashinfer_sampler,
        buffer: *const c_void,
        bytes: usize,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_sampler_destroy - release a sampler
    ///
    /// - `sampler`: may be NULL
    pub fn flashinfer_sampler_destroy(sampler: *mut flashinfer_sampler);

    /// flashinfer_logprobs - log probabilities of tokens, from raw logits
    ///
    /// - `logits`: (count) floats, such as those of flashinfer_logits(); NaN counts as -infinity
    /// - `count`: how many
    /// - `asked`: (asked_count) with the tokens set, such as the one that was chosen; their logprobs are
    ///   filled in. May be NULL if `asked_count` is 0
    /// - `asked_count`: how many
    /// - `top`: receives (top_count): the likeliest tokens, the likeliest first, lower ids first among
    ///   equals. May be NULL if `top_count` is 0
    /// - `top_count`: at most `count`
    ///
    /// Of the model's own distribution: what a sampler does to logits (biases, penalty, temperature and
    /// what it drops) does not count. Sums are made in double precision, in order of ids. Logits of
    /// +infinity share all probability. A token that has no logit is FLASHINFER_ETOKEN, logits of which
    /// no token can be chosen are FLASHINFER_EINVAL; nothing is written then. Takes no memory and may
    /// run in any thread.
    pub fn flashinfer_logprobs(
        logits: *const f32,
        count: usize,
        asked: *mut flashinfer_logprob,
        asked_count: usize,
        top: *mut flashinfer_logprob,
        top_count: usize,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_probe_options_init - fill probe options with defaults
    pub fn flashinfer_probe_options_init(options: *mut flashinfer_probe_options, size: usize);

    /// flashinfer_probe - measure the device a file or directory is on, memory and kernels
    ///
    /// - `path`: a file to read (1 MiB at least, such as the model), or a directory: a file of random bytes
    ///   is written there, synced, and gone whatever happens, since it has no name
    /// - `options`: NULL for defaults
    /// - `result`: caller's struct with result-\>size set
    ///
    /// Takes about options.time_ms, a third of it for writing (a slow device gets a shorter file), and
    /// up to half a GiB of memory. A file that was just written may be in a cache of the drive's own:
    /// read a larger one if in doubt.
    pub fn flashinfer_probe(
        path: *const c_char,
        options: *const flashinfer_probe_options,
        result: *mut flashinfer_probe_result,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_probe_save - write a result as a small text file
    ///
    /// - `path`: file to write; it appears under this name only when it is complete. What had this name, a
    ///   symbolic link too, is replaced; a directory, a FIFO or a device is FLASHINFER_EINVAL
    pub fn flashinfer_probe_save(
        result: *const flashinfer_probe_result,
        path: *const c_char,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_probe_load - read a result back
    ///
    /// - `path`: file written by flashinfer_probe_save()
    /// - `result`: caller's struct with result-\>size set
    ///
    /// Anything but a whole file of flashinfer_probe_save() is FLASHINFER_EFORMAT, FLASHINFER_ECORRUPT
    /// where a byte has changed, FLASHINFER_EUNSUPPORTED from a newer library.
    pub fn flashinfer_probe_load(
        path: *const c_char,
        result: *mut flashinfer_probe_result,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_pack_options_init - fill pack options with defaults
    pub fn flashinfer_pack_options_init(options: *mut flashinfer_pack_options, size: usize);

    /// flashinfer_pack - write a checkpoint as a model file in flash layout
    ///
    /// - `checkpoint`: Hugging Face directory: config.json, model.safetensors or its shards with
    ///   model.safetensors.index.json, and tokenizer.model, tokenizer.json, or vocab.json and
    ///   merges.txt
    /// - `path`: file to write; it appears under this name only when it is complete. What had this name, a
    ///   symbolic link too, is replaced, but never a file of the checkpoint; a directory, a FIFO or
    ///   a device is FLASHINFER_EINVAL. Until then its bytes lie beside it in .flin-\*.partial, and
    ///   what a killed process left there is removed by the next that writes the same file
    /// - `options`: NULL for defaults
    ///
    /// Streams: memory use is a few rows of a matrix and one layer's down projection in tiles, never the
    /// model; with an order also lists of what it recorded of one layer, at most 1 byte for each of its
    /// neurons and steps. NaN and infinite weights, and weights the dtype cannot hold, are refused with
    /// tensor and element.
    pub fn flashinfer_pack(
        checkpoint: *const c_char,
        path: *const c_char,
        options: *const flashinfer_pack_options,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_predictor_create - begin to make a predictor for a model
    ///
    /// - `model`: open with its weights (not FLASHINFER_OPEN_METADATA); it must outlive the predictor
    /// - `predictor`: receives the handle, every layer still without a kind; NULL on failure
    ///
    /// Memory is the predictor's own, beside the model's budget. A handle belongs to one thread at a
    /// time. A model whose neurons all fire (info.ffn_sparse is 0) is FLASHINFER_EUNSUPPORTED.
    pub fn flashinfer_predictor_create(
        model: *mut flashinfer_model,
        predictor: *mut *mut flashinfer_predictor,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_predictor_copy - take a copy of the predictor that a model runs by
    ///
    /// - `model`: as for flashinfer_predictor_create(), opened with a sketch, low-rank or mixed predictor
    ///
    /// Saved, it is the model file's own predictor as a file, or that of options.predictor_path changed.
    pub fn flashinfer_predictor_copy(
        model: *mut flashinfer_model,
        predictor: *mut *mut flashinfer_predictor,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_predictor_set_sketch - a low-bit copy of a layer's deciding matrix
    ///
    /// - `bits`: 1 to 4
    /// - `margin`: standard deviations of the sketch's expected error that biases are raised by; negative:
    ///   the default for these bits
    ///
    /// Made from the model's weights alone, of the gate matrix with info.ffn_gated, else of the up
    /// matrix. Replaces what the layer had.
    pub fn flashinfer_predictor_set_sketch(
        predictor: *mut flashinfer_predictor,
        layer: u32,
        bits: u32,
        margin: f32,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_predictor_set_lowrank - two factors for a layer: score = up . (down . x), named if
    /// score \> -bias
    ///
    /// - `rank`: at most 16384
    /// - `relu`: 1: only the positive part of down . x counts. The same for all layers of a file
    /// - `down`: (rank, embedding_length)
    /// - `up`: (ffn_length, rank)
    /// - `bias`: (ffn_length)
    ///
    /// Factors are kept as float16; numbers it cannot hold are FLASHINFER_EINVAL naming the neuron.
    /// Replaces what the layer had. Source: the paper, section 3.1.
    pub fn flashinfer_predictor_set_lowrank(
        predictor: *mut flashinfer_predictor,
        layer: u32,
        rank: u32,
        relu: u32,
        down: *const f32,
        up: *const f32,
        bias: *const f32,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_predictor_import - every layer's factors from a GGUF of PowerInfer's, in place of what
    /// the layers had
    ///
    /// - `path`: a GGUF v2 or v3 with tensors blk.N.fc1.weight \[embedding_length, rank\] and
    ///   blk.N.fc2.weight \[rank, ffn_length\] in F16, BF16 or F32; others, such as those of the
    ///   whole model, are not looked at
    ///
    /// As there, a neuron is named if fc2 . relu(fc1 . x) is at least the file's
    /// powerinfer.sparse_threshold (0 without): biases are the opposite of the largest float below it. x
    /// is the FFN's input, which is the output of a norm; PowerInfer runs some predictors on what goes
    /// into that norm, and those name other neurons here (docs/predictors.md).
    ///
    /// A layer that is missing, one too many or of other sizes, and numbers that are none are
    /// FLASHINFER_EFORMAT, quantised factors and numbers that float16 cannot hold
    /// FLASHINFER_EUNSUPPORTED, naming the tensor. Nothing is changed then.
    pub fn flashinfer_predictor_import(
        predictor: *mut flashinfer_predictor,
        path: *const c_char,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_predictor_bias - read a layer's biases
    ///
    /// - `bias`: receives (ffn_length) floats
    pub fn flashinfer_predictor_bias(
        predictor: *const flashinfer_predictor,
        layer: u32,
        bias: *mut f32,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_predictor_set_bias - set a layer's thresholds: neuron i is named if its score is above
    /// -bias\[i\]
    ///
    /// - `bias`: (ffn_length) finite floats
    pub fn flashinfer_predictor_set_bias(
        predictor: *mut flashinfer_predictor,
        layer: u32,
        bias: *const f32,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_predictor_scores - what a layer's predictor thinks of an FFN input, biases left out
    ///
    /// - `x`: (embedding_length)
    /// - `scores`: receives (ffn_length) floats
    ///
    /// The numbers, and so the names, are those a model running on the same CPU gets.
    pub fn flashinfer_predictor_scores(
        predictor: *const flashinfer_predictor,
        layer: u32,
        x: *const f32,
        scores: *mut f32,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_predictor_bytes - memory that a layer's predictor takes in an open model; 0 without
    /// one
    pub fn flashinfer_predictor_bytes(predictor: *const flashinfer_predictor, layer: u32) -> u64;

    /// flashinfer_predictor_save - write a predictor file
    ///
    /// - `path`: a small GGUF file for options.predictor_path; it appears under this name only when it is
    ///   complete
    ///
    /// The file says which model's neurons it names and is refused with any other. Every layer needs a
    /// kind.
    pub fn flashinfer_predictor_save(
        predictor: *const flashinfer_predictor,
        path: *const c_char,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_predictor_destroy - forget a predictor; NULL is fine
    pub fn flashinfer_predictor_destroy(predictor: *mut flashinfer_predictor);

    /// flashinfer_order_create - begin to learn in which order a model's bundles should lie
    ///
    /// - `layers`, `neurons`: of the model, as in flashinfer_info
    /// - `order`: receives the handle; NULL on failure
    ///
    /// Bundles wanted by the same tokens are read together if they are neighbours in the file. Run the
    /// model over typical text with a trace callback that hands every call to flashinfer_order_add(),
    /// then pack the checkpoint again with the order. The order changes which bytes a read covers, never
    /// a logit. A handle belongs to one thread at a time.
    pub fn flashinfer_order_create(
        layers: u32,
        neurons: u32,
        order: *mut *mut flashinfer_order,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_order_add - what one layer of one step asked for
    ///
    /// - `trace`: as the trace callback got it
    ///
    /// The first 4096 steps of a layer count, later ones are accepted and change nothing. Keeps a bit
    /// per neuron and step.
    pub fn flashinfer_order_add(
        order: *mut flashinfer_order,
        trace: *const flashinfer_trace,
        error: *mut flashinfer_error,
    ) -> c_int;

    /// flashinfer_order_destroy - forget an order; NULL is fine
    pub fn flashinfer_order_destroy(order: *mut flashinfer_order);
}
