"""Run language models that do not fit in memory, from flash. A binding of libflashinfer's C interface.

    from libflashinfer import Model

    with Model("model.gguf", memory_budget=20 << 20) as model:
        for piece in model.generate("Once upon a time", tokens=64):
            print(piece, end="", flush=True)
"""
from typing import TYPE_CHECKING

from ._budget import Budget
from ._ffi import (Activation, CachePolicy, Dtype, ErrorCode, Kernels, KvType, LogLevel, OpenFlags, Part, PredictorKind,
                   StorageKind, Verify)
from ._generate import AsyncGeneration, Generation
from ._library import Error, LibraryNotFound, load, renamed, version
from ._make import Order, PredictorMaker, ProbeResult, pack, probe
from ._model import Model, Session, plan_file
from ._records import (Audit, FfnInput, Info, Logprob, ModelOptions, PackOptions, Plan, ProbeOptions, Progress, SamplerOptions,
                       Stats, TensorInfo, Trace)
from ._storage import Storage
from ._text import Decoder, Sampler

__all__ = [
    "Activation", "AsyncGeneration", "Audit", "Budget", "CachePolicy", "Decoder", "Dtype", "Error", "ErrorCode", "FfnInput",
    "Generation", "Info", "Kernels", "KvType", "LibraryNotFound", "LogLevel", "Logprob", "Model", "ModelOptions", "OpenFlags",
    "Order", "PackOptions", "Part", "Plan", "PredictorKind", "PredictorMaker", "ProbeOptions", "ProbeResult", "Progress", "Sampler",
    "SamplerOptions", "Session", "Stats", "Storage", "StorageKind", "TensorInfo", "Trace", "Verify", "load", "pack",
    "plan_file", "probe", "version",
]

if TYPE_CHECKING:
    Predictor, Predictors, Tensor = PredictorMaker, PredictorKind, TensorInfo
else:
    RENAMED = {"Predictor": PredictorMaker, "Predictors": PredictorKind, "Tensor": TensorInfo}

    def __getattr__(name):
        """Old names, deprecated."""
        if name not in RENAMED:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        renamed(f"libflashinfer.{name}", f"libflashinfer.{RENAMED[name].__name__}")
        return RENAMED[name]
