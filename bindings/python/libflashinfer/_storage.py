"""Models whose bytes the host delivers."""
from __future__ import annotations

import ctypes
import errno
from typing import TYPE_CHECKING, Any, Callable, Optional

from . import _ffi
from ._numbers import whole

if TYPE_CHECKING:
    from ._calls import Callbacks


class Storage:
    """Where a model's bytes come from. Subclass it, set length_bytes, and give it to Model.open_storage().

    read() is called by threads of the library's, several at once (option io_lanes), which have 256 KiB of stack: keep it
    short. What it raises fails the call that wanted the bytes, and is raised there.
    """
    length_bytes: int  # of the model
    alignment: int = 1  # offsets, lengths and addresses of reads are multiples of it; a power of two up to 4096

    def read(self, offset: int, into: memoryview) -> int:
        """Fill `into`, valid during the call only, with the bytes from offset on. Returns how many: fewer at the end only."""
        raise NotImplementedError

    def close(self) -> None:
        """The model was closed. Not called when it could not be opened."""


class HostStorage:
    """The C side of a Storage."""

    def __init__(self, storage: Storage) -> None:
        self.storage, self.callbacks = storage, None  # type: tuple[Storage, Optional[Callbacks]]
        self.ops = _ffi.flashinfer_storage_ops(size=ctypes.sizeof(_ffi.flashinfer_storage_ops))
        kinds: dict[str, Any] = dict(_ffi.flashinfer_storage_ops._fields_)  # type: ignore[arg-type]
        self.ops.caps = kinds["caps"](lambda _user, caps: self.guard(self.caps, caps.contents))
        self.ops.read = kinds["read"](lambda _user, *read: self.guard(self.read, *read))
        self.ops.close = kinds["close"](lambda _user: self.guard(self.close) and None)

    def guard(self, function: Callable[..., int], *arguments: Any) -> int:
        """What the function returns, or a negative errno with the exception kept for the call that fails of it."""
        try:
            return function(*arguments)
        except BaseException as error:  # noqa: BLE001 - raised again by Callbacks.run()
            if self.callbacks is not None:
                self.callbacks.storage_failure = error
            return -(getattr(error, "errno", None) or errno.EIO)

    def caps(self, caps: Any) -> int:
        caps.alignment, caps.length_bytes = self.storage.alignment, self.storage.length_bytes
        caps.depth = caps.segments_max = 1
        return 0

    def read(self, offset: int, address: int, count: int) -> int:
        into = memoryview((ctypes.c_char * count).from_address(address)).cast("B")
        try:
            return whole("what read() returns", self.storage.read(offset, into), -(1 << 63), count)
        finally:
            into.release()

    def close(self) -> int:
        self.storage.close()
        return 0
