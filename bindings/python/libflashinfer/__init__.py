"""Run language models that do not fit in memory, from flash. A binding of libflashinfer's C interface.

    from libflashinfer import Model

    with Model("model.gguf", memory_budget=20 << 20) as model:
        for piece in model.generate("Once upon a time", tokens=64):
            print(piece, end="", flush=True)
"""
from ._ffi import (Activation, CachePolicy, Dtype, ErrorCode, Kernels, KvType, LogLevel, OpenFlags, Part, Predictors,
                   StorageKind, Verify)
from ._library import Error, LibraryNotFound, load, version
from ._make import Order, Predictor, ProbeResult, pack, probe
from ._model import Model, Session, plan_file
from ._records import Audit, FfnInput, Info, Plan, Progress, Stats, Tensor, Trace
from ._storage import Storage
from ._text import Decoder, Sampler

__all__ = [
    "Activation", "Audit", "CachePolicy", "Decoder", "Dtype", "Error", "ErrorCode", "FfnInput", "Info", "Kernels", "KvType",
    "LibraryNotFound", "LogLevel", "Model", "OpenFlags", "Order", "Part", "Plan", "Predictor", "Predictors", "ProbeResult",
    "Progress", "Sampler", "Session", "Stats", "Storage", "StorageKind", "Tensor", "Trace", "Verify", "load", "pack",
    "plan_file", "probe", "version",
]
