"""What the library tells, as plain records, and what it can be told. The C header says what every field means.

Records are copies: they outlive the model. tests/test_layout.py compares their fields with the structs'.
"""
from __future__ import annotations

import ctypes
import inspect
import os
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Callable, Iterable, Mapping, NamedTuple, Tuple, TypedDict, TypeVar, Union

from . import _ffi
from ._arrays import view
from ._budget import Budget
from ._ffi import Activation, CachePolicy, Dtype, Kernels, KvType, LogLevel, PredictorKind, StorageKind, Verify
from ._library import known

if TYPE_CHECKING:
    from ._arrays import Floats, Ids
    from ._make import Order

Path = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]
Record = TypeVar("Record")

MEMBERS = {"predictor": PredictorKind, "cache_policy": CachePolicy, "storage": StorageKind, "kernels": Kernels,
           "dtype_resident": Dtype, "dtype_ffn": Dtype, "ffn_activation": Activation}


def plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return tuple(map(plain, value)) if isinstance(value, ctypes.Array) else value


def record(kind: type[Record], struct: Any) -> Record:
    """A record of a struct's fields, those that have an enumeration as its members."""
    values = {}
    for one in fields(kind):  # type: ignore[arg-type]
        value = struct if one.name == "struct" else plain(getattr(struct, one.name))
        values[one.name] = known(MEMBERS[one.name], value) if one.name in MEMBERS else value
    return kind(**values)


# ------------------------------------------------------------------------------------------------ what a model tells


@dataclass(frozen=True)
class Info:
    layer_count: int
    embedding_length: int
    ffn_length: int
    head_count: int
    vocab_count: int
    context_tokens: int
    tensor_count: int
    metadata_count: int
    bundle_bytes: int
    bundle_stride_bytes: int
    bos_token: int
    eos_token: int
    add_bos: int
    parameter_count: int
    file_bytes: int
    ffn_bytes: int
    architecture: str
    name: str
    predictors: str
    ordered: int
    dtype_resident: Dtype
    dtype_ffn: Dtype
    ffn_gated: int
    ffn_activation: Activation
    ffn_sparse: int
    ffn_threshold: float
    kv_head_count: int
    head_length: int


@dataclass(frozen=True)
class TensorInfo:
    type: int
    dimension_count: int
    dimensions: tuple[int, ...]
    offset: int
    bytes: int
    xxh3: int
    name: str


@dataclass(frozen=True)
class Plan:
    predictor: PredictorKind
    budget_bytes: int
    planned_bytes: int
    minimum_bytes: int
    maximum_bytes: int
    metadata_bytes: int
    resident_bytes: int
    predictor_bytes: int
    cache_bytes: int
    kv_bytes: int
    scratch_bytes: int
    io_bytes: int
    thread_bytes: int
    file_bytes: int
    slots_per_layer: int
    slot_bytes: int
    resident_rows: int
    cache_policy: CachePolicy
    slots: int
    page_table_bytes: int
    streamed_bytes: int


@dataclass(frozen=True)
class Stats:
    tokens: int
    neurons: int
    predicted: int
    active: int
    resident: int
    missing: int
    streamed: int
    waves: int
    audited_active: int
    audited_missed: int
    flash_bytes: int
    flash_reads: int
    audit_bytes: int
    read_retries: int
    predict_ns: int
    io_wait_ns: int
    memory_ns: int
    compute_ns: int
    total_ns: int
    io_submit_ns: int
    prefill_tokens: int
    prefill_ns: int
    prefill_wait_ns: int
    prefill_bytes: int


@dataclass(frozen=True)
class ProbeRecord:
    storage: StorageKind
    alignment: int
    threads: int
    kernels: Kernels
    io_depth: int
    io_lanes: int
    io_gap_bytes: int
    read_bytes: tuple[int, ...]
    depths: tuple[int, ...]
    read_bytes_per_s: tuple[tuple[int, ...], ...]
    kind_bytes_per_s: tuple[tuple[int, ...], ...]
    latency_ns: int
    latency_p99_ns: int
    dram_bytes_per_s: int
    matvec_bytes_per_s: int
    file_bytes: int
    elapsed_ns: int
    struct: _ffi.flashinfer_probe_result = field(repr=False, compare=False)


# --------------------------------------------------------------------------------------------- what callbacks are told


@dataclass(frozen=True)
class Progress:
    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Trace:
    """`ids` looks into the library's memory and says this during the callback only: copy what you keep."""
    layer: int
    layer_count: int
    ffn_length: int
    bundle_stride_bytes: int
    count: int
    bundle_offset: int
    step: int
    ids: Ids
    struct: _ffi.flashinfer_trace = field(repr=False, compare=False)


@dataclass(frozen=True)
class FfnInput:
    """`x` looks into the library's memory and says this during the callback only: copy what you keep."""
    layer: int
    layer_count: int
    width: int
    step: int
    x: Floats


@dataclass(frozen=True)
class Audit:
    layer: int
    layer_count: int
    ffn_length: int
    step: int
    predicted: int
    active: int
    missed: int
    output_norm: float
    missed_norm: float


class Logprob(NamedTuple):
    """A token and the natural logarithm of its probability; -inf: it has none."""
    token: int
    logprob: float


def converters(owner: Callable[[], Any]) -> dict[str, Callable[..., Any]]:
    """What callbacks get, made of what the library gives. owner(): the handle whose memory arrays look into."""
    def trace(given: Any) -> tuple[Trace]:
        one = given.contents
        ids = view(one.ids, one.count, owner())
        return (Trace(one.layer, one.layer_count, one.ffn_length, one.bundle_stride_bytes, one.count, one.bundle_offset,
                      one.step, ids, one),)

    def ffn_input(given: Any) -> tuple[FfnInput]:
        one = given.contents
        return (FfnInput(one.layer, one.layer_count, one.width, one.step, view(one.x, one.width, owner())),)

    return {
        "log": lambda level, text: (known(LogLevel, level), plain(text)),
        "progress": lambda given: record(Progress, given),
        "trace": trace,
        "ffn_input": ffn_input,
        "audit": lambda given: (record(Audit, given.contents),),
    }


# ------------------------------------------------------------------------------------------- what the library is told

LogFunction = Callable[[LogLevel, str], object]
ProgressFunction = Callable[[Progress], object]  # what is true cancels


class ModelOptions(TypedDict, total=False):
    """Keywords of everything that opens a model, the fields of flashinfer_options. Left out or None: the default.

    flags (OpenFlags, 0): METADATA reads header and tokenizer only: no sessions, no budget. NO_TOKENIZER takes an unknown
        tokenizer: no text calls.
    memory_budget (int or str, 0): ceiling in bytes, sessions included; 0: everything in memory. Or a text: a share of the
        file's size such as "50%", or bytes with a unit of 1024 (K, M, G, T), such as "64M" or "1.5G".
    threads (int, 0): compute threads, the caller's included; 0: one per CPU, at most 16 and one for 8 MiB of FFN.
    context_tokens (int, 0): positions of a session, in tokens; 0: all the model has, at most 8192.
    session_count (int, 0): sessions that may exist at once; 0: 1.
    kv_type (KvType, DEFAULT): what keys and values are kept as; F32.
    predictor (PredictorKind, DEFAULT): which neurons are computed; what the file has for every layer, else EXACT.
    window_tokens (int, 0): neurons unused for so many tokens leave the cache; 0: as its slots last.
    storage (StorageKind, DEFAULT): how bundles are read; the first of LIBAIO, URING, PREAD, BUFFERED that works.
    verify (Verify, DEFAULT): which checksums are compared; header and resident tensors at open, bundles when read.
    kernels (Kernels, DEFAULT): which instructions compute; the best this CPU has.
    io_depth (int, 0): reads in flight with LIBAIO and URING; 0: the probe's, else 64.
    io_lanes (int, 0): reading threads with PREAD, BUFFERED and a Storage of your own; 0: the probe's, else 4.
    io_timeout_ms (int, 0): longest wait for one read, in milliseconds; 0: 30000.
    audit_interval (int, 0): every so many tokens some layers are also computed densely; 0: never.
    io_gap_bytes (int, 0): reads at most so many bytes apart become one; 1: none; 0: the probe's, else 4096.
    log (function of LogLevel and str, None): called with what the library has to say.
    progress (function of Progress, None): called during long calls; a true result cancels them.
    probe (ProbeResult, None): what this machine was measured to give.
    cache_policy (CachePolicy, DEFAULT): which neurons leave the cache; WINDOW with window_tokens, else BALANCED.
    audit_layers (int, 0): how many layers an audit looks at, in turn; 0: 1.
    trace (function of Trace, None): called for every layer of every step with the neurons it asks for.
    predictor_path (path, None): a predictor file made for this model, in place of the model file's own.
    ffn_input (function of FfnInput, None): called for every layer of every step with what goes into its FFN.
    audit (function of Audit, None): called for every audited layer.
    ffn_activation (Activation, None): the FFN's, for GGUF files not in flash layout that do not say theirs; None: the file's.
    ffn_threshold (float, 0): the threshold of Activation.FATRELU.
    """
    flags: int
    memory_budget: Budget
    threads: int
    context_tokens: int
    session_count: int
    kv_type: KvType
    predictor: PredictorKind
    window_tokens: int
    storage: StorageKind
    verify: Verify
    kernels: Kernels
    io_depth: int
    io_lanes: int
    io_timeout_ms: int
    audit_interval: int
    io_gap_bytes: int
    log: LogFunction
    progress: ProgressFunction
    probe: ProbeRecord
    cache_policy: CachePolicy
    audit_layers: int
    trace: Callable[[Trace], object]
    predictor_path: Path
    ffn_input: Callable[[FfnInput], object]
    audit: Callable[[Audit], object]
    ffn_activation: Activation
    ffn_threshold: float


# The order of pairs means nothing; a token has one bias at most.
LogitBiases = Union[Mapping[int, float], Iterable[Tuple[int, float]]]


class SamplerOptions(TypedDict, total=False):
    """Keywords of Sampler() and generate(), the fields of flashinfer_sampler_options. Left out or None: the default.

    top_k (int, 0): keep the k most likely tokens; 0: all.
    seed (int, 0): the same seed and logits give the same tokens on every machine.
    temperature (float, 0): 0: greedy, the lowest id among equals.
    top_p (float, 0): nucleus, a share of probability; 0 or 1: off.
    min_p (float, 0): drop what is less likely than min_p times the likeliest; 0: off.
    repetition_penalty (float, 0): divides positive and multiplies negative logits of recent tokens; 0 or 1: off.
    repetition_tokens (int, 0): how many recent tokens count for it; 0: 64.
    logit_biases (dict or pairs, None): what is added to tokens' logits before all else, {token: bias}; -inf: never chosen.
    """
    top_k: int
    seed: int
    temperature: float
    top_p: float
    min_p: float
    repetition_penalty: float
    repetition_tokens: int
    logit_biases: LogitBiases


class PackOptions(TypedDict, total=False):
    """Keywords of pack(), the fields of flashinfer_pack_options. Left out or None: the default.

    dtype (Dtype, DEFAULT): of all matrices, unless the two below say otherwise; F16.
    dtype_resident (Dtype, DEFAULT): of token embeddings, attention and head, which stay in memory; as dtype.
    dtype_ffn (Dtype, DEFAULT): of bundles, which are read from flash; as dtype.
    sketch_bits (int, 0): 1 to 4 bits of the deciding matrix, for the sketch predictor; 0: 3.
    no_sketch (bool, False): write no predictor; the file runs in exact and all mode only.
    activation (Activation, None): the FFN's, where config.json says another than its authors' code; None: as it says.
    activation_threshold (float, 0): the threshold of Activation.FATRELU.
    log (function of LogLevel and str, None): called with what the library has to say.
    progress (function of Progress, None): called while packing; a true result cancels.
    order (Order, None): bundles wanted by the same tokens lie together.
    """
    dtype: Dtype
    dtype_resident: Dtype
    dtype_ffn: Dtype
    sketch_bits: int
    no_sketch: bool
    activation: Activation
    activation_threshold: float
    log: LogFunction
    progress: ProgressFunction
    order: Order


class ProbeOptions(TypedDict, total=False):
    """Keywords of probe(), the fields of flashinfer_probe_options. Left out or None: the default.

    time_ms (int, 0): for everything, in milliseconds; 0: 5000.
    threads (int, 0): of memory and kernel rates; 0: as Model().
    storage (StorageKind, DEFAULT): what is measured; every kind there is, the table of the fastest.
    file_bytes (int, 0): of the file written into a directory; 0: 256 MiB.
    progress (function of Progress, None): called during the measurement; a true result cancels it.
    """
    time_ms: int
    threads: int
    storage: StorageKind
    file_bytes: int
    progress: ProgressFunction


Documented = TypeVar("Documented")


def lists(keywords: Any) -> Callable[[Documented], Documented]:
    """For help(): what takes these keywords lists them."""
    def add(taker: Documented) -> Documented:
        if taker.__doc__ and keywords.__doc__:  # neither is there with python -OO
            about = inspect.cleandoc(keywords.__doc__).split("\n\n", 1)[1]
            taker.__doc__ = f"{inspect.cleandoc(taker.__doc__)}\n\nOptions, with type and default:\n\n{about}\n"
        return taker
    return add
