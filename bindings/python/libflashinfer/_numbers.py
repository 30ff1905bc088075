"""Numbers on their way into the library: what C would wrap, cut or take for another is refused by its name.

Every number that crosses passes number(): arguments of functions in _library.py, fields of structs in _ffi.py. Neither
knows a name of its own, so that a new function or option is checked as soon as it is declared.
"""
from __future__ import annotations

import ctypes
import math
import operator
from typing import Any

BOOLEANS = ("bool", "bool_")  # Python's and numpy's: a truth where a number belongs is a mistake
FLOAT_MAX = 3.4028234663852886e38


def is_number(kind: Any) -> bool:
    """Is it a C type whose values are numbers? Not pointers, callbacks, arrays, texts."""
    return isinstance(kind, type) and getattr(kind, "_type_", None) in ("i", "I", "l", "L", "q", "Q", "f", "d")


def limits(kind: Any) -> tuple[int, int]:
    bits, signed = 8 * ctypes.sizeof(kind), kind(-1).value < 0
    return (-1 << bits - 1, (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def number(name: str, value: Any, kind: Any) -> Any:
    """The value for the C type: TypeError where it is no such number, ValueError where the type cannot hold it."""
    return real(name, value, kind) if kind._type_ in ("f", "d") else whole(name, value, *limits(kind))


def whole(name: str, value: Any, least: int, most: int) -> int:
    """Whatever is an integer, numpy's included; no float, even if it is a whole one."""
    try:
        if type(value).__name__ in BOOLEANS:
            raise TypeError
        found = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {shown(value)}") from None
    if not least <= found <= most:
        raise ValueError(f"{name} must be from {least} to {most}, not {shown_number(found)}")
    return found


def real(name: str, value: Any, kind: Any) -> float:
    """Floats and integers, numpy's included. What is not finite is the library's to judge."""
    if type(value).__name__ in BOOLEANS or not (hasattr(value, "__float__") or hasattr(value, "__index__")):
        raise TypeError(f"{name} must be a number, not {shown(value)}")
    try:
        found = float(value)
    except TypeError:
        raise TypeError(f"{name} must be a number, not {shown(value)}") from None
    except OverflowError:
        raise ValueError(f"{name} must be at most {FLOAT_MAX:g}") from None
    if kind is ctypes.c_float and math.isfinite(found) and abs(found) > FLOAT_MAX:
        raise ValueError(f"{name} must be from {-FLOAT_MAX:g} to {FLOAT_MAX:g}, not {shown(value)}")
    return found


def shown_number(value: int) -> str:
    """Python writes no integers of thousands of digits."""
    return str(value) if value.bit_length() <= 200 else f"a number of {value.bit_length()} bits"


def shown(value: Any) -> str:
    """For an error's text: short, whatever it is."""
    if isinstance(value, int) and value.bit_length() > 200:
        return shown_number(value)
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
