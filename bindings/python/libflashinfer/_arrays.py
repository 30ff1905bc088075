"""Numbers in and out without copying where that can be: numpy arrays if numpy is there, else memoryviews and lists."""
from __future__ import annotations

import array
import ctypes
import functools
from typing import TYPE_CHECKING, Any, Optional, Sequence, Union

if TYPE_CHECKING:
    import numpy

    Floats = Union[numpy.ndarray[Any, numpy.dtype[numpy.float32]], memoryview[float]]
    Ids = Union[numpy.ndarray[Any, numpy.dtype[numpy.uint32]], memoryview[int]]

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


def ids(tokens: Sequence[int]) -> Any:
    """Token ids for the library to read."""
    values = array.array("i", tokens)
    assert values.itemsize == 4
    return (ctypes.c_int32 * len(values)).from_buffer(values) if values else (ctypes.c_int32 * 0)()
