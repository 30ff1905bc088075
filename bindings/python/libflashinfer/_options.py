"""Option structs filled from keywords, their callbacks included. Refuses unknown names at once, with the one they are near."""
from __future__ import annotations

import ctypes
import difflib
import enum
import os
from typing import Any, Callable, Iterable, Mapping, Optional

from . import _ffi
from ._budget import budget_bytes
from ._calls import Callbacks
from ._library import PREFIX, library
from ._numbers import BOOLEANS, number, shown
from ._records import converters

FUNCTIONS = ("log", "progress", "trace", "ffn_input", "audit")


def options(struct: Any, keywords: Any, given: Mapping[str, Any], beside: Iterable[str] = (),
            file_bytes: Optional[Callable[[], int]] = None) -> tuple[Any, Callbacks]:
    """The struct with the given keywords set. It keeps its callbacks alive, so it must live as long as they may be called.

    keywords: their TypedDict. beside: others that the caller takes, for advice. file_bytes(): for a budget that is a share.
    """
    kinds = {name: kind.__forward_arg__ for name, kind in keywords.__annotations__.items()}
    refuse_unknown(given, [*kinds, *beside])
    filled = struct()
    getattr(library(), struct.__name__[len(PREFIX):] + "_init")(filled, ctypes.sizeof(filled))
    callbacks = Callbacks(**{name: function(name, given.get(name)) for name in FUNCTIONS})
    for name, value in given.items():
        if name not in FUNCTIONS and value is not None:
            if name == "memory_budget" and file_bytes is not None:
                value = budget_bytes(name, value, file_bytes)
            taken = native(name, value, kinds[name])
            setattr(filled, name, taken)
            if name == "logit_biases":
                filled.logit_bias_count = len(taken)
    if hasattr(struct, "progress"):
        callbacks.fill(filled, converters(lambda: callbacks.owner()))
    return filled, callbacks


def refuse_unknown(given: Iterable[str], known: list[str]) -> None:
    unknown = sorted(set(given) - set(known))
    if not unknown:
        return
    near = [f"did you mean {match[0]}? " for name in unknown if (match := difflib.get_close_matches(name, known, 1))]
    raise TypeError(f"no such option: {', '.join(unknown)}; {''.join(near)}there are {', '.join(known)}")


def function(name: str, given: Any) -> Any:
    if given is not None and not callable(given):
        raise TypeError(f"{name} must be a function, not {shown(given)}")
    return given


def native(name: str, value: Any, kind: str) -> Any:
    """The value as the struct's field takes it, which checks numbers itself. kind: how the keyword is annotated."""
    if kind == "Path":
        if not isinstance(value, (str, bytes, os.PathLike)):
            raise TypeError(f"{name} must be a path, not {shown(value)}")
        return os.fsencode(value)
    if kind in ("ProbeRecord", "Order") and kind not in [one.__name__ for one in type(value).__mro__]:
        raise TypeError(f"{name} must be a {kind}, not {shown(value)}")
    if kind == "ProbeRecord":
        return ctypes.pointer(value.struct)
    if kind == "Order":
        return value._use().pointer
    if kind == "LogitBiases":
        return logit_biases(name, value)
    if kind == "bool":
        return int(value) if type(value).__name__ in BOOLEANS else value
    if isinstance(value, enum.Enum) and kind != "int" and type(value).__name__ != kind:
        raise TypeError(f"{name} must be a {kind}, not {shown(value)}")
    return value


def logit_biases(name: str, value: Any) -> Any:
    """The array of a dict or of pairs; the struct keeps it alive."""
    if isinstance(value, (str, bytes, bytearray)) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name} must be a dict or pairs of a token and its bias, not {shown(value)}")
    pairs = []
    for at, pair in enumerate(value.items() if isinstance(value, Mapping) else value):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"{name}[{at}] must be a pair of a token and its bias, not {shown(pair)}")
        token = number(f"{name}[{at}].token", pair[0], ctypes.c_int32)
        pairs.append(_ffi.flashinfer_logit_bias(token, number(f"{name}[{at}].bias", pair[1], ctypes.c_float)))
    return (_ffi.flashinfer_logit_bias * len(pairs))(*pairs)
