"""Calls into the library: who owns a handle, what a callback's exception and Ctrl-C do to the call they come in.

A handle is destroyed when the last thing that needs it lets go: its object, a running call, an array that looks into it.
An exception cannot pass through the library. It cancels the call, waits, and is raised when the call has returned.
"""
from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading
from typing import Any, Callable, Optional, TypeVar

from . import _ffi
from ._ffi import ErrorCode
from ._library import Error, attempt, library

# --------------------------------------------------------------------------------------------------------- handles


class Handle:
    """A C handle. `needs` are handles that must outlive it, and what the library may call back into."""

    def __init__(self, pointer: Any, destroy: Callable[[Any], Any], *needs: Any) -> None:
        self.pointer, self.destroy, self.needs = pointer, destroy, needs

    def __del__(self) -> None:
        self.destroy(self.pointer)


class SessionHandle(Handle):
    """The library keeps a session that is destroyed by a callback of a call on its model: that waits for the call's end."""

    def __init__(self, pointer: Any, model: Handle, callbacks: Callbacks) -> None:
        super().__init__(pointer, library().session_destroy, model, callbacks)
        self.callbacks = callbacks
        self.stop: Optional[Stop] = None  # of the generation that makes the next call

    def __del__(self) -> None:
        call = self.callbacks.current()
        if call is None:
            super().__del__()
        else:
            call.afterwards.append(Handle(self.pointer, self.destroy, *self.needs))


Owned = TypeVar("Owned", bound="Owner")


class Unique:
    """What stands for one thing in the library's memory. A copy would be a second name that looks like a second thing."""

    def __reduce_ex__(self, _protocol: Any) -> Any:
        """For copy and pickle."""
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled: share the object itself, or make another one")


class Owner(Unique):
    """An object around a handle: usable in a with statement, unusable once closed."""

    _handle: Optional[Handle] = None

    def _use(self) -> Any:
        """The handle, which the caller holds while it uses the pointer."""
        handle = self._handle
        if handle is None:
            raise ValueError(f"this {type(self).__name__} is closed")
        return handle

    def close(self) -> None:
        """Let go of everything. Calling it again does nothing; a call that is running in another thread ends first."""
        self._handle = None

    @property
    def closed(self) -> bool:
        return self._handle is None

    def __enter__(self: Owned) -> Owned:
        self._use()
        return self

    def __exit__(self, *_exception: Any) -> None:
        self.close()


# ----------------------------------------------------------------------------------------------------------- calls


class Call:
    """A call that is running, seen from its callbacks and from Ctrl-C."""

    def __init__(self, session: Optional[SessionHandle] = None) -> None:
        self.session = session
        self.lock = threading.RLock()  # a signal's handler may take it while its thread holds it
        self.running, self.stopped = True, False
        self.declined = False  # by the host's progress function
        self.inside = 0  # depth of the host's own code
        self.failure: Optional[BaseException] = None
        self.afterwards: list[Handle] = []

    def stop(self) -> None:
        """Cancel: the next progress callback does it where there is no session. Once more does no harm, nor too late."""
        with self.lock:
            if self.running:
                self.stopped = True
                if self.session is not None:
                    library().session_cancel(self.session.pointer)

    def end(self) -> None:
        with self.lock:
            self.running = False

    def host(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """function(*arguments), None if it raises: then the call is cancelled."""
        try:
            self.inside += 1
            return function(*arguments)
        except BaseException as error:  # noqa: BLE001 - raised again by Callbacks.run()
            self.failure = self.failure or error
            self.stop()
        finally:
            self.inside -= 1


class Stop:
    """What calls that belong together share with whoever cancels them: none of them begins or goes on afterwards."""

    def __init__(self) -> None:
        self.cancelled = False
        self.call: Optional[Call] = None  # the one that is running

    def cancel(self) -> None:
        """From any thread, without waiting."""
        self.cancelled = True
        call = self.call
        if call is not None:
            call.stop()

    def begin(self, call: Call) -> None:
        """The order of lines here and in cancel() is such that one of the two sees the other."""
        self.call = call
        if self.cancelled:
            call.stop()


class Callbacks:
    """The host's functions as the library calls them. Every call is run() here, if only for Ctrl-C."""

    def __init__(self, **functions: Optional[Callable[..., Any]]) -> None:
        self.functions = {name: function for name, function in functions.items() if function is not None}
        self.owner: Callable[[], Any] = lambda: None  # a weak reference to the handle that arrays look into
        self.threads = threading.local()
        self.storage_failure: Optional[BaseException] = None  # of the host's storage, in a thread of the library's

    def current(self) -> Optional[Call]:
        """This thread's call, if this is one of its callbacks."""
        return getattr(self.threads, "call", None)

    def fill(self, options: Any, convert: dict[str, Callable[..., Any]]) -> None:
        """Set the struct's callbacks, which it keeps alive. convert: what makes the host's arguments of the library's."""
        options.progress = _ffi.flashinfer_progress_callback(self.on_progress(convert["progress"]))
        for name, function in self.functions.items():
            if name != "progress":
                kind = getattr(_ffi, f"flashinfer_{name}_callback")
                setattr(options, name, kind(self.on_other(function, convert[name])))

    def on_progress(self, convert: Callable[..., Any]) -> Callable[..., int]:
        """Always there: it is how calls without a session are cancelled."""
        function = self.functions.get("progress")

        def progress(given: Any, _user: Any) -> int:
            call = self.current()
            if call is None:
                return 0
            if function is not None and call.host(lambda: function(convert(given.contents))):
                call.declined = True
            return 1 if call.declined or call.stopped else 0
        return progress

    def on_other(self, function: Callable[..., Any], convert: Callable[..., Any]) -> Callable[..., None]:
        def other(*given: Any) -> None:
            call = self.current()
            if call is not None and call.failure is None:
                call.host(lambda: function(*convert(*given[:-1])))
        return other

    def run(self, function: Callable[[Any], int], session: Optional[SessionHandle] = None) -> None:
        """function(error record) with Ctrl-C and callbacks at work; raises what went wrong.

        An exception that the host keeps knows the frames it went through and those below it: none of them may know a handle
        afterwards.
        """
        call, outer, stop = Call(session), self.current(), None
        if session is not None:
            stop, session.stop = session.stop, None
        del session
        self.threads.call = call
        try:
            if stop is not None:
                stop.begin(call)
            with Interrupts(call):
                error = self.attempt(function, call)
                call.end()
        finally:
            if stop is not None:
                stop.call = None
            del function, stop
            call.session, self.threads.call = None, outer
            if outer is not None:
                outer.afterwards += call.afterwards
            call.afterwards.clear()
        try:
            failure = call.failure or self.blamed(error)
            call.failure = self.storage_failure = None
            if failure is not None:
                raise failure
            if error is not None:
                raise error
        finally:
            del call, error, failure  # they know this frame: a circle

    @staticmethod
    def attempt(function: Callable[[Any], int], call: Call) -> Optional[Error]:
        """What was stopped before it began is not begun: the library would know of no cancel."""
        if call.stopped:
            return cancelled()
        return attempt(function)[1]

    def blamed(self, error: Optional[Error]) -> Optional[BaseException]:
        """The exception of the host's storage, if that is why a read failed."""
        return self.storage_failure if error is not None and error.code == ErrorCode.EIO else None


def cancelled() -> Error:
    """As the library's own, for what is stopped between two calls."""
    return Error(ErrorCode.ECANCELED, library().error_describe(ErrorCode.ECANCELED).decode())


# ---------------------------------------------------------------------------------------------------------- Ctrl-C


class Interrupts:
    """Ctrl-C while the main thread is in a call.

    Python runs signal handlers between two bytecodes of the main thread: in a long call that is too late, and at the
    beginning of a callback what they raise is lost. So during a call SIGINT has a handler that cancels and raises
    nothing, the watcher does so at once, and the handler that was there runs when the call has returned. The host's own
    callbacks are interrupted as ever.
    """

    def __init__(self, call: Call) -> None:
        self.call, self.noted = call, False
        self.handler: Any = None

    def __enter__(self) -> None:
        handler = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(handler):
            return  # another thread's Ctrl-C is not ours; ignored or deadly, it is as the host wants
        try:
            signal.signal(signal.SIGINT, self.note)
        except ValueError:  # not the main interpreter
            return
        self.handler = handler
        self.before = WATCHER.begin(self.call)

    def note(self, number: int, frame: Any) -> None:
        if self.call.inside:
            self.handler(number, frame)
        else:
            self.noted = True
            self.call.stop()

    def __exit__(self, *_exception: Any) -> None:
        if self.handler is None:
            return
        WATCHER.end(self.before)
        signal.signal(signal.SIGINT, self.handler)
        if self.noted:
            self.handler(signal.SIGINT, sys._getframe())


class Watcher:
    """A thread that Python's own signal handler wakes, and which cancels the main thread's call.

    The wake-up descriptor that the host has set, asyncio's for instance, gets every signal too. The library forgets a
    cancel that finds no call, so one that comes just before its call has entered the library is given again.
    """

    AGAIN_MS = 10

    def __init__(self) -> None:
        self.process, self.reader, self.writer, self.host = 0, -1, -1, -1
        self.call: Optional[Call] = None

    def start(self) -> None:
        self.lock = threading.Lock()
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self.writer, False)
        threading.Thread(target=self.watch, args=(self.reader,), name="libflashinfer Ctrl-C", daemon=True).start()
        self.process = os.getpid()

    def begin(self, call: Call) -> tuple[int, Optional[Call]]:
        if self.process != os.getpid():  # the first call, also of a forked process
            self.start()
        with self.lock:
            self.take()  # a signal of an earlier call, which has been handled: it is not this one's
            descriptor, outer = signal.set_wakeup_fd(self.writer, warn_on_full_buffer=False), self.call
            if descriptor != self.writer:
                self.host = descriptor
            self.call = call
        return descriptor, outer

    def end(self, before: tuple[int, Optional[Call]]) -> None:
        descriptor, self.call = before
        signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)

    def take(self) -> bytes:
        """The signals there are, told to the host."""
        try:
            numbers = os.read(self.reader, 64)
        except BlockingIOError:
            return b""
        if self.host >= 0:
            try:
                os.write(self.host, numbers)
            except OSError:
                pass  # full or gone: as if Python had written it
        return numbers

    def watch(self, reader: int) -> None:
        ready = select.poll()
        ready.register(reader, select.POLLIN)
        stopped: Optional[Call] = None  # and not known to have ended
        while True:
            ready.poll(None if stopped is None else self.AGAIN_MS)
            with self.lock:
                if signal.SIGINT in self.take():
                    stopped = self.call
                elif stopped is not self.call:
                    stopped = None
                if stopped is not None:
                    stopped.stop()


WATCHER = Watcher()
