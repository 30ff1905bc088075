"""Option structs filled from keywords, their callbacks included."""
from __future__ import annotations

import ctypes
import os
from typing import Any, Mapping

from ._calls import Callbacks
from ._library import PREFIX, library
from ._records import converters

FUNCTIONS = ("log", "progress", "trace", "ffn_input", "audit")


def options(struct: Any, keywords: Any, given: Mapping[str, Any]) -> tuple[Any, Callbacks]:
    """The struct with the given keywords set. It keeps its callbacks alive, so it must live as long as they may be called."""
    known = keywords.__annotations__
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise TypeError(f"no such option: {', '.join(unknown)}; there are {', '.join(known)}")
    filled = struct()
    getattr(library(), struct.__name__[len(PREFIX):] + "_init")(filled, ctypes.sizeof(filled))
    callbacks = Callbacks(**{name: given.get(name) for name in FUNCTIONS})
    for name, value in given.items():
        if name not in FUNCTIONS and value is not None:
            setattr(filled, name, native(name, value))
    if hasattr(struct, "progress"):
        callbacks.fill(filled, converters(lambda: callbacks.owner()))
    return filled, callbacks


def native(name: str, value: Any) -> Any:
    if name == "predictor_path":
        return os.fsencode(value)
    if name == "probe":
        return ctypes.pointer(value.struct)
    if name == "order":
        return value._use().pointer
    return value
