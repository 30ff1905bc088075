"""What flashinfer.h and flashinfer_backend.h declare: constants, structs, callbacks, functions.

Names are the headers' own; a number among a function's parameters has its name beside its type, for errors. Owns nothing
and does nothing but refuse numbers that a field cannot hold; tests/test_layout.py compares every line of it with the headers,
and says what to write here where they differ.
"""
from __future__ import annotations

from ctypes import (CFUNCTYPE, POINTER, Structure, c_char, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_size_t,
                    c_uint32, c_uint64, c_void_p)
from enum import IntEnum, IntFlag
from functools import lru_cache
from typing import Any

from ._numbers import is_number, number

# ------------------------------------------------------------------------------------------------------- constants

FLASHINFER_VERSION_MAJOR = 0
FLASHINFER_VERSION_MINOR = 1
FLASHINFER_VERSION_PATCH = 0
FLASHINFER_ERROR_TEXT_BYTES = 512
FLASHINFER_ERROR_COUNT_ = 18
FLASHINFER_PROBE_SIZES = 6
FLASHINFER_PROBE_DEPTHS = 4
FLASHINFER_PROBE_KINDS = 8


class ErrorCode(IntEnum):
    OK = 0
    EINVAL = -1
    ENOMEM = -2
    EIO = -3
    EFORMAT = -4
    ECORRUPT = -5
    EUNSUPPORTED = -6
    EBUDGET = -7
    ETOKEN = -8
    ECONTEXT = -9
    ECANCELED = -10
    ETIMEDOUT = -11
    ECHECKPOINT = -12
    EBUFFER = -13
    ESTATE = -14
    ETHREAD = -15
    EBUSY = -16
    ESESSIONS = -17


class PredictorKind(IntEnum):
    DEFAULT = 0
    EXACT = 1
    SKETCH = 2
    LOWRANK = 3
    ALL = 4
    MIXED = 5


class StorageKind(IntEnum):
    DEFAULT = 0
    LIBAIO = 1
    PREAD = 2
    BUFFERED = 3
    URING = 4


class CachePolicy(IntEnum):
    DEFAULT = 0
    WINDOW = 1
    FREQUENCY = 2
    BALANCED = 3


class Verify(IntEnum):
    DEFAULT = 0
    NONE = 1
    OPEN = 2


class Kernels(IntEnum):
    DEFAULT = 0
    REF = 1
    AVX2 = 2
    AVX512 = 3
    NEON = 4


class KvType(IntEnum):
    DEFAULT = 0
    F32 = 1
    F16 = 2
    Q8_0 = 3


class OpenFlags(IntFlag):
    METADATA = 1 << 0
    NO_TOKENIZER = 1 << 1


class LogLevel(IntEnum):
    ERROR = 0
    WARNING = 1
    INFO = 2


class Activation(IntEnum):
    RELU = 1
    RELU2 = 2
    FATRELU = 3
    DRELU = 4
    SILU = 5
    GELU = 6
    GELU_TANH = 7


class Part(IntEnum):
    UP = 0
    DOWN = 1
    GATE = 2


class TokenizeFlags(IntFlag):
    BOS = 1 << 0
    SPECIAL = 1 << 1


class Dtype(IntEnum):
    DEFAULT = 0
    F32 = 1
    F16 = 2
    BF16 = 3
    Q8_0 = 4
    Q4_0 = 5


# What the headers put before the members' names.
PREFIXES: dict[str, Any] = {
    "FLASHINFER_": ErrorCode,
    "FLASHINFER_PREDICTOR_": PredictorKind,
    "FLASHINFER_STORAGE_": StorageKind,
    "FLASHINFER_CACHE_": CachePolicy,
    "FLASHINFER_VERIFY_": Verify,
    "FLASHINFER_KERNELS_": Kernels,
    "FLASHINFER_KV_": KvType,
    "FLASHINFER_OPEN_": OpenFlags,
    "FLASHINFER_LOG_": LogLevel,
    "FLASHINFER_ACTIVATION_": Activation,
    "FLASHINFER_PART_": Part,
    "FLASHINFER_TOKENIZE_": TokenizeFlags,
    "FLASHINFER_DTYPE_": Dtype,
}

# --------------------------------------------------------------------------------------------------------- handles


class flashinfer_model(Structure):
    pass


class flashinfer_session(Structure):
    pass


class flashinfer_decoder(Structure):
    pass


class flashinfer_sampler(Structure):
    pass


class flashinfer_order(Structure):
    pass


class flashinfer_predictor(Structure):
    pass


HANDLES = (flashinfer_model, flashinfer_session, flashinfer_decoder, flashinfer_sampler, flashinfer_order,
           flashinfer_predictor)

# --------------------------------------------------------------------------------------------------------- structs


def fields(kind: Any, names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names.split()]


class Struct(Structure):
    """A struct whose fields take no number that they cannot hold: ctypes would cut it."""

    def __setattr__(self, name: str, value: Any) -> None:
        kind = numbers(type(self)).get(name)
        super().__setattr__(name, value if kind is None else number(name, value, kind))


@lru_cache(maxsize=None)
def numbers(struct: Any) -> dict[str, Any]:
    """The struct's fields that are numbers, and their C types."""
    return {name: kind for name, kind in struct._fields_ if is_number(kind)}


class flashinfer_error(Struct):
    _fields_ = [*fields(c_uint32, "size"), *fields(c_int32, "code sys_errno layer"), *fields(c_int64, "neuron offset"),
                ("text", c_char * FLASHINFER_ERROR_TEXT_BYTES)]


class flashinfer_progress(Struct):
    _fields_ = [*fields(c_uint32, "size reserved"), ("stage", c_char_p), *fields(c_uint64, "done total")]


class flashinfer_trace(Struct):
    _fields_ = [*fields(c_uint32, "size layer layer_count ffn_length bundle_stride_bytes count"),
                *fields(c_uint64, "bundle_offset step"), ("ids", POINTER(c_uint32))]


class flashinfer_ffn_input(Struct):
    _fields_ = [*fields(c_uint32, "size layer layer_count width"), ("step", c_uint64), ("x", POINTER(c_float))]


class flashinfer_audit(Struct):
    _fields_ = [*fields(c_uint32, "size layer layer_count ffn_length"), ("step", c_uint64),
                *fields(c_uint32, "predicted active missed reserved"), *fields(c_double, "output_norm missed_norm")]


class flashinfer_probe_result(Struct):
    _fields_ = [*fields(c_uint32, "size storage alignment threads kernels io_depth io_lanes io_gap_bytes"),
                ("read_bytes", c_uint32 * FLASHINFER_PROBE_SIZES), ("depths", c_uint32 * FLASHINFER_PROBE_DEPTHS),
                ("read_bytes_per_s", c_uint64 * FLASHINFER_PROBE_DEPTHS * FLASHINFER_PROBE_SIZES),
                ("kind_bytes_per_s", c_uint64 * FLASHINFER_PROBE_DEPTHS * FLASHINFER_PROBE_KINDS),
                *fields(c_uint64, "latency_ns latency_p99_ns dram_bytes_per_s matvec_bytes_per_s file_bytes elapsed_ns")]


flashinfer_log_callback = CFUNCTYPE(None, c_int, c_char_p, c_void_p)
flashinfer_progress_callback = CFUNCTYPE(c_int, POINTER(flashinfer_progress), c_void_p)
flashinfer_trace_callback = CFUNCTYPE(None, POINTER(flashinfer_trace), c_void_p)
flashinfer_ffn_input_callback = CFUNCTYPE(None, POINTER(flashinfer_ffn_input), c_void_p)
flashinfer_audit_callback = CFUNCTYPE(None, POINTER(flashinfer_audit), c_void_p)

CALLBACKS = ("flashinfer_log_callback", "flashinfer_progress_callback", "flashinfer_trace_callback",
             "flashinfer_ffn_input_callback", "flashinfer_audit_callback")


class flashinfer_options(Struct):
    _fields_ = [*fields(c_uint32, "size flags"), ("memory_budget", c_uint64),
                *fields(c_uint32, "threads context_tokens session_count kv_type predictor window_tokens storage verify"),
                *fields(c_uint32, "kernels io_depth io_lanes io_timeout_ms audit_interval io_gap_bytes"),
                ("log", flashinfer_log_callback), ("log_user", c_void_p),
                ("progress", flashinfer_progress_callback), ("progress_user", c_void_p),
                ("probe", POINTER(flashinfer_probe_result)), *fields(c_uint32, "cache_policy audit_layers"),
                ("trace", flashinfer_trace_callback), ("trace_user", c_void_p), ("predictor_path", c_char_p),
                ("ffn_input", flashinfer_ffn_input_callback), ("ffn_input_user", c_void_p),
                ("audit", flashinfer_audit_callback), ("audit_user", c_void_p),
                ("ffn_activation", c_uint32), ("ffn_threshold", c_float)]


class flashinfer_info(Struct):
    _fields_ = [*fields(c_uint32, "size layer_count embedding_length ffn_length head_count vocab_count context_tokens"),
                *fields(c_uint32, "tensor_count metadata_count bundle_bytes bundle_stride_bytes"),
                *fields(c_int32, "bos_token eos_token"), *fields(c_uint32, "add_bos"),
                *fields(c_uint64, "parameter_count file_bytes ffn_bytes"),
                *fields(c_char_p, "architecture name predictors"), *fields(c_uint32, "ordered reserved dtype_resident dtype_ffn"),
                *fields(c_uint32, "ffn_gated ffn_activation ffn_sparse"), ("ffn_threshold", c_float),
                *fields(c_uint32, "kv_head_count head_length")]


class flashinfer_tensor_info(Struct):
    _fields_ = [*fields(c_uint32, "size type dimension_count reserved"), ("dimensions", c_uint64 * 4),
                *fields(c_uint64, "offset bytes xxh3"), ("name", c_char_p)]


class flashinfer_plan(Struct):
    _fields_ = [*fields(c_uint32, "size predictor"),
                *fields(c_uint64, "budget_bytes planned_bytes minimum_bytes maximum_bytes metadata_bytes resident_bytes"),
                *fields(c_uint64, "predictor_bytes cache_bytes kv_bytes scratch_bytes io_bytes thread_bytes file_bytes"),
                *fields(c_uint32, "slots_per_layer slot_bytes resident_rows cache_policy slots reserved"),
                ("page_table_bytes", c_uint64), ("streamed_bytes", c_uint64)]


class flashinfer_stats(Struct):
    _fields_ = [*fields(c_uint32, "size reserved"),
                *fields(c_uint64, "tokens neurons predicted active resident missing streamed waves"),
                *fields(c_uint64, "audited_active audited_missed flash_bytes flash_reads audit_bytes read_retries"),
                *fields(c_uint64, "predict_ns io_wait_ns memory_ns compute_ns total_ns io_submit_ns"),
                *fields(c_uint64, "prefill_tokens prefill_ns prefill_wait_ns prefill_bytes")]


class flashinfer_logit_bias(Struct):
    _fields_ = [("token", c_int32), ("bias", c_float)]


class flashinfer_logprob(Struct):
    _fields_ = [("token", c_int32), ("logprob", c_float)]


class flashinfer_sampler_options(Struct):
    _fields_ = [*fields(c_uint32, "size top_k"), ("seed", c_uint64),
                *fields(c_float, "temperature top_p min_p repetition_penalty"),
                *fields(c_uint32, "repetition_tokens logit_bias_count"),
                ("logit_biases", POINTER(flashinfer_logit_bias))]


class flashinfer_probe_options(Struct):
    _fields_ = [*fields(c_uint32, "size time_ms threads storage"), ("file_bytes", c_uint64),
                ("progress", flashinfer_progress_callback), ("progress_user", c_void_p)]


class flashinfer_pack_options(Struct):
    _fields_ = [*fields(c_uint32, "size dtype sketch_bits no_sketch"), ("log", flashinfer_log_callback),
                ("log_user", c_void_p), ("progress", flashinfer_progress_callback), ("progress_user", c_void_p),
                ("order", POINTER(flashinfer_order)), *fields(c_uint32, "dtype_resident dtype_ffn activation"),
                ("activation_threshold", c_float)]


class flashinfer_storage_segment(Struct):
    _fields_ = [("data", c_void_p), ("bytes", c_size_t)]


class flashinfer_storage_read(Struct):
    _fields_ = [*fields(c_uint64, "offset tag"), ("segments", POINTER(flashinfer_storage_segment)),
                *fields(c_uint32, "segment_count reserved")]


class flashinfer_storage_completion(Struct):
    _fields_ = [("tag", c_uint64), ("result", c_int64)]


class flashinfer_storage_caps(Struct):
    _fields_ = [*fields(c_uint32, "size alignment depth segments_max"), ("length_bytes", c_uint64)]


class flashinfer_storage_ops(Struct):
    _fields_ = [*fields(c_uint32, "size reserved"), ("user", c_void_p),
                ("caps", CFUNCTYPE(c_int, c_void_p, POINTER(flashinfer_storage_caps))),
                ("submit", CFUNCTYPE(c_int, c_void_p, POINTER(flashinfer_storage_read), c_uint32)),
                ("wait", CFUNCTYPE(c_int, c_void_p, c_uint32, c_uint64, POINTER(flashinfer_storage_completion), c_uint32)),
                ("read", CFUNCTYPE(c_int64, c_void_p, c_uint64, c_void_p, c_size_t)),
                ("close", CFUNCTYPE(None, c_void_p))]


STRUCTS = (flashinfer_error, flashinfer_progress, flashinfer_trace, flashinfer_ffn_input, flashinfer_audit,
           flashinfer_options, flashinfer_info, flashinfer_tensor_info, flashinfer_plan, flashinfer_stats,
           flashinfer_logit_bias, flashinfer_sampler_options, flashinfer_logprob, flashinfer_probe_result, flashinfer_probe_options, flashinfer_pack_options,
           flashinfer_storage_segment, flashinfer_storage_read, flashinfer_storage_completion, flashinfer_storage_caps,
           flashinfer_storage_ops)

# ------------------------------------------------------------------------------------------------------- functions

_model, _session = POINTER(flashinfer_model), POINTER(flashinfer_session)
_decoder, _sampler = POINTER(flashinfer_decoder), POINTER(flashinfer_sampler)
_order, _predictor = POINTER(flashinfer_order), POINTER(flashinfer_predictor)
_options, _error = POINTER(flashinfer_options), POINTER(flashinfer_error)
_plan, _probe = POINTER(flashinfer_plan), POINTER(flashinfer_probe_result)
_tokens, _floats, _count = POINTER(c_int32), POINTER(c_float), POINTER(c_size_t)

# name: (what it returns, what it takes: numbers with their names)
FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "flashinfer_error_init": (None, [_error, ("size", c_size_t)]),
    "flashinfer_error_name": (c_char_p, [("code", c_int)]),
    "flashinfer_error_describe": (c_char_p, [("code", c_int)]),
    "flashinfer_version": (c_char_p, []),
    "flashinfer_options_init": (None, [_options, ("size", c_size_t)]),
    "flashinfer_model_open": (c_int, [c_char_p, _options, POINTER(_model), _error]),
    "flashinfer_model_open_fd": (c_int, [("fd", c_int), ("offset", c_uint64), ("length", c_uint64), _options, POINTER(_model),
                                         _error]),
    "flashinfer_model_open_storage": (c_int, [POINTER(flashinfer_storage_ops), _options, POINTER(_model), _error]),
    "flashinfer_model_close": (c_int, [_model]),
    "flashinfer_model_info": (c_int, [_model, POINTER(flashinfer_info)]),
    "flashinfer_model_tensor": (c_int, [_model, ("index", c_uint32), POINTER(flashinfer_tensor_info)]),
    "flashinfer_model_metadata": (c_int, [_model, ("index", c_uint32), POINTER(c_char_p), c_char_p, ("capacity", c_size_t)]),
    "flashinfer_model_verify": (c_int, [_model, _error]),
    "flashinfer_model_ffn_rows": (c_int, [_model, ("layer", c_uint32), ("part", c_uint32), ("first", c_uint32),
                                          ("count", c_uint32), _floats, _error]),
    "flashinfer_model_ffn_bias": (c_int, [_model, ("layer", c_uint32), _floats, _error]),
    "flashinfer_plan_file": (c_int, [c_char_p, _options, _plan, _error]),
    "flashinfer_model_plan": (c_int, [_model, _plan]),
    "flashinfer_budget_parse": (c_int, [c_char_p, ("file_bytes", c_uint64), POINTER(c_uint64), _error]),
    "flashinfer_model_set_budget": (c_int, [_model, ("budget_bytes", c_uint64), _error]),
    "flashinfer_model_stats": (c_int, [_model, POINTER(flashinfer_stats)]),
    "flashinfer_model_reset_stats": (c_int, [_model]),
    "flashinfer_session_create": (c_int, [_model, POINTER(_session), _error]),
    "flashinfer_session_destroy": (None, [_session]),
    "flashinfer_step": (c_int, [_session, ("token", c_int32), _error]),
    "flashinfer_eval": (c_int, [_session, _tokens, ("count", c_size_t), _error]),
    "flashinfer_logits": (_floats, [_session, _count]),
    "flashinfer_session_position": (c_uint32, [_session]),
    "flashinfer_session_rewind": (c_int, [_session, ("position", c_uint32), _error]),
    "flashinfer_session_cancel": (None, [_session]),
    "flashinfer_state_bytes": (c_size_t, [_session]),
    "flashinfer_state_save": (c_int, [_session, c_void_p, ("capacity", c_size_t), _count, _error]),
    "flashinfer_state_load": (c_int, [_session, c_void_p, ("bytes", c_size_t), _error]),
    "flashinfer_tokenize": (c_int, [_model, c_char_p, ("text_bytes", c_size_t), ("flags", c_uint32), _tokens,
                                    ("capacity", c_size_t), _count, _error]),
    "flashinfer_detokenize": (c_int, [_model, _tokens, ("count", c_size_t), c_char_p, ("capacity", c_size_t), _count, _error]),
    "flashinfer_decoder_create": (c_int, [_model, POINTER(_decoder), _error]),
    "flashinfer_decoder_push": (c_int, [_decoder, ("token", c_int32), POINTER(c_char_p), _count, _error]),
    "flashinfer_decoder_set_stops": (c_int, [_decoder, POINTER(c_char_p), _count, ("count", c_size_t), _error]),
    "flashinfer_decoder_stopped": (c_int32, [_decoder]),
    "flashinfer_decoder_destroy": (None, [_decoder]),
    "flashinfer_sampler_options_init": (None, [POINTER(flashinfer_sampler_options), ("size", c_size_t)]),
    "flashinfer_sampler_create": (c_int, [POINTER(flashinfer_sampler_options), ("vocab_count", c_size_t), POINTER(_sampler),
                                          _error]),
    "flashinfer_sampler_sample": (c_int, [_sampler, _floats, ("count", c_size_t), _tokens, _error]),
    "flashinfer_sampler_accept": (c_int, [_sampler, ("token", c_int32), _error]),
    "flashinfer_sampler_copy": (c_int, [_sampler, POINTER(_sampler), _error]),
    "flashinfer_sampler_state_save": (c_int, [_sampler, c_void_p, ("capacity", c_size_t), _count, _error]),
    "flashinfer_sampler_state_load": (c_int, [_sampler, c_void_p, ("bytes", c_size_t), _error]),
    "flashinfer_sampler_destroy": (None, [_sampler]),
    "flashinfer_logprobs": (c_int, [_floats, ("count", c_size_t), POINTER(flashinfer_logprob), ("asked_count", c_size_t),
                                    POINTER(flashinfer_logprob), ("top_count", c_size_t), _error]),
    "flashinfer_probe_options_init": (None, [POINTER(flashinfer_probe_options), ("size", c_size_t)]),
    "flashinfer_probe": (c_int, [c_char_p, POINTER(flashinfer_probe_options), _probe, _error]),
    "flashinfer_probe_save": (c_int, [_probe, c_char_p, _error]),
    "flashinfer_probe_load": (c_int, [c_char_p, _probe, _error]),
    "flashinfer_pack_options_init": (None, [POINTER(flashinfer_pack_options), ("size", c_size_t)]),
    "flashinfer_pack": (c_int, [c_char_p, c_char_p, POINTER(flashinfer_pack_options), _error]),
    "flashinfer_predictor_create": (c_int, [_model, POINTER(_predictor), _error]),
    "flashinfer_predictor_copy": (c_int, [_model, POINTER(_predictor), _error]),
    "flashinfer_predictor_set_sketch": (c_int, [_predictor, ("layer", c_uint32), ("bits", c_uint32), ("margin", c_float),
                                                _error]),
    "flashinfer_predictor_set_lowrank": (c_int, [_predictor, ("layer", c_uint32), ("rank", c_uint32), ("relu", c_uint32),
                                                 _floats, _floats, _floats, _error]),
    "flashinfer_predictor_import": (c_int, [_predictor, c_char_p, _error]),
    "flashinfer_predictor_bias": (c_int, [_predictor, ("layer", c_uint32), _floats, _error]),
    "flashinfer_predictor_set_bias": (c_int, [_predictor, ("layer", c_uint32), _floats, _error]),
    "flashinfer_predictor_scores": (c_int, [_predictor, ("layer", c_uint32), _floats, _floats, _error]),
    "flashinfer_predictor_bytes": (c_uint64, [_predictor, ("layer", c_uint32)]),
    "flashinfer_predictor_save": (c_int, [_predictor, c_char_p, _error]),
    "flashinfer_predictor_destroy": (None, [_predictor]),
    "flashinfer_order_create": (c_int, [("layers", c_uint32), ("neurons", c_uint32), POINTER(_order), _error]),
    "flashinfer_order_add": (c_int, [_order, POINTER(flashinfer_trace), _error]),
    "flashinfer_order_destroy": (None, [_order]),
}
