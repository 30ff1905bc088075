"""A text's continuation, piece by piece: an iterator that any thread can stop, and its asyncio form.

Owns what a generation made for itself, its session, sampler and decoder, and frees it when the generation ends: used up,
failed, closed, cancelled or dropped.
"""
from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, AsyncIterator, Callable, Iterator, Optional

from ._calls import Stop, Unique, cancelled


class Generation(Unique, Generator[str, None, None]):
    """Pieces of text: what Model.generate() and Session.generate() return. One thread at a time iterates.

    It ends when the text does, when a call fails, with close(), with cancel() from any thread, and when it is dropped. A
    session of its own is free again after that; one that was given stays usable.
    """

    def __init__(self, pieces: Callable[[Stop], Iterator[str]]) -> None:
        """pieces: a generator function. It knows the Stop, not this object: a circle would be dropped late."""
        self._stop = Stop()
        self._pieces: Any = pieces(self._stop)
        self._iterating = threading.Lock()
        self._iterator: Optional[int] = None  # the thread that is at it
        self._ended = False

    def __iter__(self) -> Generation:
        return self

    def send(self, value: None) -> str:
        return self._run(self._pieces.send, value)

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> str:
        return self._run(self._pieces.throw, *([typ] if val is None and tb is None else [typ, val, tb]))

    def _run(self, function: Callable[..., str], *arguments: Any) -> str:
        if not self._iterating.acquire(blocking=False):
            if not self._stop.cancelled or self._iterator == threading.get_ident():
                raise ValueError("this generation is being iterated already, by a callback's call or another thread")
            self._iterating.acquire()  # whoever has it is about to end
        try:
            self._iterator = threading.get_ident()
            if self._ended:
                raise StopIteration
            if self._stop.cancelled:
                self._ended = True
                raise cancelled()
            return function(*arguments)
        except BaseException:
            self._ended = True
            raise
        finally:
            self._iterator = None
            self._iterating.release()
            if self._stop.cancelled:
                self._free()

    def _free(self) -> None:
        """Close the generator, unless somebody iterates: who does sees the Stop and closes it afterwards."""
        if self._iterating.acquire(blocking=False):
            try:
                self._pieces.close()
            finally:
                self._iterating.release()

    def cancel(self) -> None:
        """End it, from any thread and without waiting for a running call: that stops soon, with Error ECANCELED.

        So does the next iteration if none is running.
        """
        self._stop.cancel()
        self._free()

    def close(self) -> None:
        """End it and wait until a call that runs in another thread has stopped. Then what it held is free."""
        self._stop.cancel()
        if self._iterator == threading.get_ident():
            return  # a callback of its own call: the call stops, and then the rest is freed
        while not self._iterating.acquire(timeout=0.05):
            self._stop.cancel()  # once more if the first came a moment before the call
        try:
            self._ended = True
            self._pieces.close()
        finally:
            self._iterating.release()


class AsyncGeneration(Unique, AsyncIterator[str]):
    """Pieces of text for asyncio: what Model.agenerate() and Session.agenerate() return. The loop is never blocked.

    Calls run in a thread of its own. When the task that waits for a piece is cancelled, the running call is stopped, and the
    task ends when it has stopped and the session is free again. `async with` or aclose() see to the same where the task
    is elsewhere; dropping it does so without waiting.
    """

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._thread: Optional[ThreadPoolExecutor] = ThreadPoolExecutor(1, "libflashinfer generation")

    async def __anext__(self) -> str:
        if self._thread is None:
            raise StopAsyncIteration
        try:
            piece: Optional[str] = await asyncio.wrap_future(self._thread.submit(next, self._generation, None))
        except BaseException:
            await self.aclose()
            raise
        if piece is None:
            await self.aclose()
            raise StopAsyncIteration
        return piece

    def _end(self) -> Any:
        """Stop the running call. Returns the future of everything being free, None if that was asked for already."""
        thread, self._thread = self._thread, None
        if thread is None:
            return None
        self._generation._stop.cancel()
        closed = thread.submit(self._generation.close)
        thread.shutdown(wait=False)
        return closed

    async def aclose(self) -> None:
        """Stop it and wait until what it held is free. Calling it again does nothing."""
        closed = self._end()
        if closed is None:
            return
        waiting = asyncio.wrap_future(closed)
        while not (await asyncio.wait([waiting], timeout=0.05))[0]:  # which leaves `waiting` alone if this is cancelled
            self._generation._stop.cancel()  # once more if the first came a moment before the call
        waiting.result()

    def cancel(self) -> None:
        """Stop it from any thread, without waiting."""
        self._generation.cancel()

    async def __aenter__(self) -> AsyncGeneration:
        return self

    async def __aexit__(self, *_exception: Any) -> None:
        await self.aclose()

    def __del__(self) -> None:
        try:
            self._end()
        except (RuntimeError, AttributeError):
            pass  # Python is ending, or this never began
