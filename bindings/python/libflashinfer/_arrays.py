"""Numbers in and out without copying where that can be: numpy arrays if numpy is there, else memoryviews and lists."""
from __future__ import annotations

import array
import ctypes
import functools
from typing import TYPE_CHECKING, Any, Iterable, Optional, Sequence, SupportsIndex, Union

from ._numbers import BOOLEANS, number, shown

if TYPE_CHECKING:
    import numpy

    # What they are where numpy is; a program that runs without it gets memoryviews, and treats them as such.
    Floats = numpy.ndarray[Any, numpy.dtype[numpy.float32]]
    Ids = numpy.ndarray[Any, numpy.dtype[numpy.uint32]]
    FloatsGiven = Union[numpy.ndarray[Any, Any], Sequence[float], memoryview]

Tokens = Iterable[SupportsIndex]

FORMATS = {ctypes.c_float: "f", ctypes.c_uint32: "I"}


@functools.lru_cache(maxsize=None)
def numpy_module() -> Any:
    """numpy, or None. Looked for when the first array is wanted: importing it takes longer than all of this module."""
    try:
        import numpy
    except ImportError:
        return None
    return numpy


@functools.lru_cache(maxsize=64)
def array_type(kind: Any, count: int) -> Any:
    return type("Array", (kind * count,), {})  # a class of its own, whose objects take attributes


def wrap(values: Any, kind: Any, shape: Optional[tuple[int, ...]] = None) -> Any:
    """A ctypes array as what the host gets."""
    numpy, form = numpy_module(), FORMATS[kind]
    shape = (len(values),) if shape is None else shape
    if len(values) == 0:  # neither can look into nothing
        return memoryview(array.array(form)) if numpy is None else numpy.empty(shape, form)
    if numpy is not None:
        return numpy.frombuffer(values, dtype=form).reshape(shape)
    return memoryview(values).cast("B").cast(form, shape)  # type: ignore[call-overload]


def view(pointer: Any, count: int, owner: Any) -> Any:
    """A read-only array over memory of the library's, which stays mapped as long as the array: owner is a handle."""
    kind = pointer._type_
    if count == 0:
        return wrap((kind * 0)(), kind)
    values = array_type(kind, count).from_address(ctypes.addressof(pointer.contents))
    values.owner = owner
    found = wrap(values, kind)
    if isinstance(found, memoryview):
        return found.toreadonly()
    found.flags.writeable = False
    return found


def room(*shape: int) -> tuple[Any, Any]:
    """Floats for the library to write: as it takes them, and as the host gets them."""
    count = 1
    for length in shape:
        count *= length
    values = (ctypes.c_float * count)()
    return values, wrap(values, ctypes.c_float, shape)


def floats(given: Any) -> Any:
    """Floats for the library to read: a numpy array or buffer of float32 as it is, anything else copied."""
    address = getattr(getattr(given, "ctypes", None), "data", None)
    if address is not None:  # numpy's
        if given.dtype != "float32" or not given.flags.c_contiguous:
            given = given.astype("float32", order="C")
            address = given.ctypes.data
        values = array_type(ctypes.c_float, given.size).from_address(address)
        values.owner = given
        return values
    if isinstance(given, ctypes.Array) and given._type_ is ctypes.c_float:
        return given
    try:
        buffer = memoryview(given)
    except TypeError:
        buffer = None
    if buffer is None or buffer.format != "f" or not buffer.c_contiguous:
        return (ctypes.c_float * len(given))(*given)
    if not buffer.readonly:
        return (ctypes.c_float * (buffer.nbytes // 4)).from_buffer(buffer)
    exporter = buffer.obj
    if isinstance(exporter, ctypes.Array) and ctypes.sizeof(exporter) == buffer.nbytes:  # a view() of ours
        return exporter
    return (ctypes.c_float * (buffer.nbytes // 4)).from_buffer_copy(buffer)


def ids(tokens: Tokens, name: str = "tokens") -> Any:
    """Token ids for the library to read. One that is none is refused with its place."""
    if isinstance(tokens, (str, bytes, bytearray)):
        raise TypeError(f"{name} must be whole numbers, not {shown(tokens)}: tokenize() makes them of a text")
    if not hasattr(tokens, "__iter__"):
        raise TypeError(f"{name} must be several whole numbers, not {shown(tokens)}")
    given: list[Any] = list(tokens)
    values: Optional[array.array[int]] = None
    try:
        values = array.array("i", given)
    except (TypeError, OverflowError):
        pass
    if values is None or any(kind.__name__ in BOOLEANS for kind in set(map(type, given))):
        values = array.array("i", [number(f"{name}[{at}]", token, ctypes.c_int32) for at, token in enumerate(given)])
    assert values.itemsize == 4
    return (ctypes.c_int32 * len(values)).from_buffer(values) if values else (ctypes.c_int32 * 0)()
