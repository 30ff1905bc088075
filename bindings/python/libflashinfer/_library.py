"""Finding and loading the C library, and turning its codes into exceptions.

In this order: the path in FLASHINFER_LIBRARY, the library inside this package, the system's loader.
"""
from __future__ import annotations

import ctypes
import os
import sys
import threading
import warnings
from pathlib import Path
from typing import Any, Callable, Optional, Union

from . import _ffi
from ._ffi import ErrorCode
from ._numbers import number

SYSTEM_NAME = "libflashinfer.0.dylib" if sys.platform == "darwin" else "libflashinfer.so.0"
PACKED_NAME = "libflashinfer.dylib" if sys.platform == "darwin" else "libflashinfer.so"
PREFIX = "flashinfer_"


class LibraryNotFound(ImportError):
    """The C library cannot be loaded, or is too old for this module."""


class Error(Exception):
    """A call failed. `layer`, `neuron`, `offset` and `sys_errno` are None where the failure has none."""

    def __init__(self, code: int, text: str, layer: Optional[int] = None, neuron: Optional[int] = None,
                 offset: Optional[int] = None, sys_errno: Optional[int] = None) -> None:
        super().__init__(code, text, layer, neuron, offset, sys_errno)
        self.code = known(ErrorCode, code)
        self.name = library().error_name(code).decode()
        self.text = text
        self.layer, self.neuron, self.offset, self.sys_errno = layer, neuron, offset, sys_errno

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


def renamed(old: str, new: str) -> None:
    """Say so to whoever calls the function that calls this one."""
    warnings.warn(f"{old} is now called {new}", DeprecationWarning, stacklevel=3)


def known(kind: Any, value: int) -> Any:
    """The enumeration's member, or the number where a newer library has more members."""
    try:
        return kind(value)
    except ValueError:
        return value


class Library:
    """The functions, without their prefix."""

    def __init__(self, path: Union[str, Path]) -> None:
        self.path = str(path)
        try:
            shared = ctypes.CDLL(self.path)  # which lets other threads run during every call
        except OSError as error:
            raise LibraryNotFound(f"cannot load {self.path}: {error}", path=self.path) from None
        for name, (returned, taken) in _ffi.FUNCTIONS.items():
            try:
                function = getattr(shared, name)
            except AttributeError:
                raise LibraryNotFound(f"{self.path} has no {name}(): this module needs libflashinfer "
                                      f"{_ffi.FLASHINFER_VERSION_MAJOR}.{_ffi.FLASHINFER_VERSION_MINOR}."
                                      f"{_ffi.FLASHINFER_VERSION_PATCH} or newer", path=self.path) from None
            function.restype = returned
            function.argtypes = [one[1] if isinstance(one, tuple) else one for one in taken]
            setattr(self, name[len(PREFIX):], checking(function, taken))

    def __getattr__(self, name: str) -> Any:  # for type checkers: all of them are set above
        raise AttributeError(name)


def checking(function: Any, taken: list[Any]) -> Callable[..., Any]:
    """The function, refusing numbers that its parameters cannot hold: ctypes would cut them."""
    numbers = [(at, *one) for at, one in enumerate(taken) if isinstance(one, tuple)]
    if not numbers:
        return function

    def call(*arguments: Any) -> Any:
        given = list(arguments)
        for at, name, kind in numbers:
            given[at] = number(name, given[at], kind)
        return function(*given)
    return call


_loaded: Optional[Library] = None
_loading = threading.Lock()


def candidate() -> Union[str, Path]:
    packed = Path(__file__).resolve().parent / PACKED_NAME
    return os.environ.get("FLASHINFER_LIBRARY") or (packed if packed.exists() else SYSTEM_NAME)


def load(path: Union[str, Path, None] = None) -> str:
    """Load the C library now, from a path of your own if you like, and return where it is from.

    The first use of the module does it otherwise. All that exists keeps the library it was made with.
    """
    global _loaded
    with _loading:
        if path is not None or _loaded is None:
            _loaded = Library(path if path is not None else candidate())
        return _loaded.path


def library() -> Library:
    if _loaded is None:
        load()
    assert _loaded is not None
    return _loaded


def version() -> str:
    """The C library's version."""
    return library().version().decode()


def checked(call: Callable[[Any], int]) -> int:
    """call(error record), turned into an exception if it fails."""
    code, error = attempt(call)
    if error is not None:
        raise error
    return code


def attempt(call: Callable[[Any], int]) -> tuple[int, Optional[Error]]:
    record = _ffi.flashinfer_error()
    library().error_init(record, ctypes.sizeof(record))
    code = call(record)
    return code, error_of(code, record) if code != 0 else None


def error_of(code: int, record: _ffi.flashinfer_error) -> Error:
    def given(value: int) -> Optional[int]:
        return value if value >= 0 else None

    text = record.text.decode("utf-8", "replace") or library().error_describe(code).decode()
    return Error(code, text, given(record.layer), given(record.neuron), given(record.offset), record.sys_errno or None)
