"""What is made beside running: packed models, orders, predictors; and the probe."""
from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Any, Optional, SupportsIndex

from . import _ffi
from ._arrays import floats, room
from ._calls import Callbacks, Handle, Owner
from ._library import checked, library, renamed
from ._options import options as filled
from ._records import PackOptions, Path, ProbeOptions, ProbeRecord, Trace, lists, record

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._arrays import Floats, FloatsGiven
    from ._model import Model


@lists(PackOptions)
def pack(checkpoint: Path, path: Path, **options: Unpack[PackOptions]) -> None:
    """Write a Hugging Face checkpoint as a model file in flash layout."""
    struct, callbacks = filled(_ffi.flashinfer_pack_options, PackOptions, options)
    callbacks.run(lambda error: library().pack(os.fsencode(checkpoint), os.fsencode(path), struct, error))


class ProbeResult(ProbeRecord):
    """What a device and this machine were measured to give; Model(probe=...) takes its recommendations."""

    def save(self, path: Path) -> None:
        """Write it as a small text file."""
        checked(lambda error: library().probe_save(self.struct, os.fsencode(path), error))

    @classmethod
    def load(cls, path: Path) -> ProbeResult:
        """Read one back."""
        struct = _ffi.flashinfer_probe_result(size=ctypes.sizeof(_ffi.flashinfer_probe_result))
        checked(lambda error: library().probe_load(os.fsencode(path), struct, error))
        return record(cls, struct)


@lists(ProbeOptions)
def probe(path: Path, **options: Unpack[ProbeOptions]) -> ProbeResult:
    """Measure the device that a file or directory is on, memory and kernels: about five seconds."""
    struct, callbacks = filled(_ffi.flashinfer_probe_options, ProbeOptions, options)
    result = _ffi.flashinfer_probe_result(size=ctypes.sizeof(_ffi.flashinfer_probe_result))
    callbacks.run(lambda error: library().probe(os.fsencode(path), struct, result, error))
    return record(ProbeResult, result)


class Order(Owner):
    """Learns in which order a model's bundles should lie: give pack(order=...) one that traces were added to."""

    def __init__(self, layers: SupportsIndex, neurons: SupportsIndex) -> None:
        """layers, neurons: of the model, as in Info."""
        pointer = ctypes.POINTER(_ffi.flashinfer_order)()
        checked(lambda error: library().order_create(layers, neurons, pointer, error))
        self._handle = Handle(pointer, library().order_destroy)

    def add(self, trace: Trace) -> None:
        """What a trace callback was told, during that callback."""
        handle = self._use()
        checked(lambda error: library().order_add(handle.pointer, trace.struct, error))


class PredictorMaker(Owner):
    """A predictor being made, or a copy_of() the one a model runs by: for every layer a sketch or two low-rank factors.

    One thread at a time.
    """

    def __init__(self, model: Model) -> None:
        """Begin to make a predictor for a model, which must have its weights open."""
        self._take(model, library().predictor_create)

    @classmethod
    def copy_of(cls, model: Model) -> PredictorMaker:
        """A copy of the predictor that a model runs by."""
        predictor = cls.__new__(cls)
        predictor._take(model, library().predictor_copy)
        return predictor

    @classmethod
    def copy(cls, model: Model) -> PredictorMaker:
        """Deprecated: copy_of()."""
        renamed("Predictor.copy()", "PredictorMaker.copy_of()")
        return cls.copy_of(model)

    def _take(self, model: Model, call: Any) -> None:
        handle, pointer = model._use(), ctypes.POINTER(_ffi.flashinfer_predictor)()
        checked(lambda error: call(handle.pointer, pointer, error))
        self._info = model.info
        self._handle = Handle(pointer, library().predictor_destroy, handle)
        model._adopt(self)

    def _run(self, call: Any, *arguments: Any) -> None:
        handle = self._use()
        Callbacks().run(lambda error: call(handle.pointer, *arguments, error))

    def set_sketch(self, layer: SupportsIndex, bits: SupportsIndex, margin: Optional[float] = None) -> None:
        """A copy of the layer's deciding matrix (gate with info.ffn_gated, else up) in 1 to 4 bits.

        margin: standard deviations of its expected error that biases are raised by; None: the default for these bits.
        """
        self._run(library().predictor_set_sketch, layer, bits, -1.0 if margin is None else margin)

    def set_lowrank(self, layer: SupportsIndex, down: FloatsGiven, up: FloatsGiven, bias: FloatsGiven, *,
                    relu: bool = False) -> None:
        """Two factors, down (rank, embedding_length) and up (ffn_length, rank): score = up . (down . x), relu between them.

        A neuron is named if its score is above -bias.
        """
        info, factors = self._info, [floats(one) for one in (down, up, bias)]
        rank = len(factors[0]) // info.embedding_length
        lengths = (rank * info.embedding_length, info.ffn_length * rank, info.ffn_length)
        if tuple(map(len, factors)) != lengths:
            raise ValueError(f"factors and biases of {tuple(map(len, factors))} floats; rank {rank} needs {lengths}")
        self._run(library().predictor_set_lowrank, layer, rank, int(bool(relu)), *factors)

    def import_powerinfer(self, path: Path) -> None:
        """Every layer's factors from a GGUF of PowerInfer's."""
        self._run(library().predictor_import, os.fsencode(path))

    def bias(self, layer: SupportsIndex) -> Floats:
        values, array = room(self._info.ffn_length)
        self._run(library().predictor_bias, layer, values)
        return array

    def set_bias(self, layer: SupportsIndex, bias: FloatsGiven) -> None:
        self._run(library().predictor_set_bias, layer, self._sized(bias, self._info.ffn_length))

    def scores(self, layer: SupportsIndex, x: FloatsGiven) -> Floats:
        """What the layer's predictor thinks of an FFN input, biases left out."""
        values, array = room(self._info.ffn_length)
        self._run(library().predictor_scores, layer, self._sized(x, self._info.embedding_length), values)
        return array

    @staticmethod
    def _sized(given: Any, count: int) -> Any:
        values = floats(given)
        if len(values) != count:
            raise ValueError(f"{len(values)} floats where {count} are needed")
        return values

    def bytes(self, layer: SupportsIndex) -> int:
        """Memory that the layer's predictor takes in an open model; 0 without one."""
        return library().predictor_bytes(self._use().pointer, layer)

    def save(self, path: Path) -> None:
        """Write a predictor file for Model(predictor_path=...)."""
        self._run(library().predictor_save, os.fsencode(path))
