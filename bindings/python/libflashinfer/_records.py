"""What the library tells, as plain records, and what it can be told. The C header says what every field means.

Records are copies: they outlive the model. tests/test_layout.py compares their fields with the structs'.
"""
from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Callable, TypedDict, TypeVar, Union

from . import _ffi
from ._arrays import view
from ._ffi import Activation, CachePolicy, Dtype, Kernels, KvType, LogLevel, Predictors, StorageKind, Verify
from ._library import known

if TYPE_CHECKING:
    from ._arrays import Floats, Ids
    from ._make import Order

Path = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]
Record = TypeVar("Record")

MEMBERS = {"predictor": Predictors, "cache_policy": CachePolicy, "storage": StorageKind, "kernels": Kernels,
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
class Tensor:
    type: int
    dimension_count: int
    dimensions: tuple[int, ...]
    offset: int
    bytes: int
    xxh3: int
    name: str


@dataclass(frozen=True)
class Plan:
    predictor: Predictors
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

LogFunction = Callable[[LogLevel, str], None]
ProgressFunction = Callable[[Progress], object]  # what is true cancels


class ModelOptions(TypedDict, total=False):
    """Keywords of everything that opens a model, those of flashinfer_options; what is left out is the library's default."""
    flags: int
    memory_budget: int
    threads: int
    context_tokens: int
    session_count: int
    kv_type: KvType
    predictor: Predictors
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
    trace: Callable[[Trace], None]
    predictor_path: Path
    ffn_input: Callable[[FfnInput], None]
    audit: Callable[[Audit], None]


class SamplerOptions(TypedDict, total=False):
    """Keywords of Sampler() and generate(), those of flashinfer_sampler_options."""
    top_k: int
    seed: int
    temperature: float
    top_p: float
    min_p: float
    repetition_penalty: float
    repetition_tokens: int


class PackOptions(TypedDict, total=False):
    """Keywords of pack(), those of flashinfer_pack_options."""
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
    """Keywords of probe(), those of flashinfer_probe_options."""
    time_ms: int
    threads: int
    storage: StorageKind
    file_bytes: int
    progress: ProgressFunction
