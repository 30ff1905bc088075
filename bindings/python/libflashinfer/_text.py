"""Samplers and decoders: logits to a token, tokens to text."""
from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Iterable, Optional, SupportsIndex, Union

from . import _ffi
from ._arrays import floats
from ._calls import Handle, Owner
from ._ffi import ErrorCode
from ._library import Error, checked, library, renamed
from ._numbers import number, shown
from ._options import options
from ._records import SamplerOptions, lists

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._arrays import FloatsGiven

Stops = Union[str, Iterable[str]]


def stop_texts(given: Optional[Stops], name: str = "stop") -> list[bytes]:
    """The texts as the library takes them, which judges them. A text that comes alone is one, not its characters."""
    if given is None:
        return []
    if isinstance(given, (bytes, bytearray)) or not hasattr(given, "__iter__"):
        raise TypeError(f"{name} must be a text or several, not {shown(given)}")
    texts = [given] if isinstance(given, str) else list(given)
    for at, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"{name}[{at}] must be a text, not {shown(text)}")
    return [text.encode("utf-8", "surrogatepass") for text in texts]


@lists(SamplerOptions)
class Sampler(Owner):
    """Logits to a token id; greedy without options. One thread at a time."""

    def __init__(self, vocab_count: SupportsIndex, **sampling: Unpack[SamplerOptions]) -> None:
        """vocab_count: of the longest logits it will be given."""
        self._make(vocab_count, sampling)

    @classmethod
    def _beside(cls, others: tuple[str, ...], vocab_count: int, sampling: Any) -> Sampler:
        """One whose options come together with others, which an unknown one may have been meant for."""
        sampler = cls.__new__(cls)
        sampler._make(vocab_count, sampling, others)
        return sampler

    def _make(self, vocab_count: SupportsIndex, sampling: Any, others: tuple[str, ...] = ()) -> None:
        struct, _ = options(_ffi.flashinfer_sampler_options, SamplerOptions, sampling, others)
        pointer = ctypes.POINTER(_ffi.flashinfer_sampler)()
        checked(lambda error: library().sampler_create(struct, vocab_count, pointer, error))
        self._handle = Handle(pointer, library().sampler_destroy)

    def sample(self, logits: FloatsGiven) -> int:
        """Choose a token, and remember it for the repetition penalty. Arrays of float32 are not copied."""
        handle, values, token = self._use(), floats(logits), ctypes.c_int32()
        checked(lambda error: library().sampler_sample(handle.pointer, values, len(values), token, error))
        return token.value

    def accept(self, token: SupportsIndex) -> None:
        """Let a token that was not sampled, such as a prompt's, count for the repetition penalty."""
        handle = self._use()
        checked(lambda error: library().sampler_accept(handle.pointer, token, error))

    def copy(self) -> Sampler:
        """A second sampler that goes on as this one would: options, next random numbers, recent tokens."""
        handle, pointer = self._use(), ctypes.POINTER(_ffi.flashinfer_sampler)()
        checked(lambda error: library().sampler_copy(handle.pointer, pointer, error))
        sampler = Sampler.__new__(Sampler)
        sampler._handle = Handle(pointer, library().sampler_destroy)
        return sampler

    def save_state(self) -> bytes:
        """Random numbers and recent tokens, for load_state() by a sampler with the same options. Options are not in it."""
        handle, written = self._use(), ctypes.c_size_t()
        try:
            checked(lambda error: library().sampler_state_save(handle.pointer, None, 0, written, error))
        except Error as error:
            if error.code != ErrorCode.EBUFFER:
                raise
        state = ctypes.create_string_buffer(written.value)
        checked(lambda error: library().sampler_state_save(handle.pointer, state, len(state), written, error))
        return state.raw[:written.value]

    def load_state(self, state: Union[bytes, bytearray, memoryview]) -> None:
        """Go on as the sampler would that the state was saved from; one made otherwise is an Error."""
        handle, data = self._use(), bytes(state)
        checked(lambda error: library().sampler_state_load(handle.pointer, data, len(data), error))


class Decoder(Owner):
    """Token ids to text that never splits a character. Make one with Model.decoder()."""

    def __init__(self, model: Any) -> None:
        handle = model._use()
        pointer = ctypes.POINTER(_ffi.flashinfer_decoder)()
        checked(lambda error: library().decoder_create(handle.pointer, pointer, error))
        self._handle = Handle(pointer, library().decoder_destroy, handle)

    def push(self, token: SupportsIndex) -> str:
        """Add a token; returns the text that is complete now, often none."""
        if number("token", token, ctypes.c_int32) == -1:
            renamed("Decoder.push(-1)", "Decoder.finish()")
        return self._push(token)

    def finish(self) -> str:
        """End the stream; returns what is left. The decoder can begin another one."""
        return self._push(-1)

    def end(self) -> str:
        """Deprecated: finish()."""
        renamed("Decoder.end()", "Decoder.finish()")
        return self.finish()

    def set_stops(self, stops: Optional[Stops]) -> None:
        """End the text before the first of these that comes, in place of those set before; none: nothing ends it.

        No part of one is given: what may be the beginning of one is held back until later tokens tell. Set them after a
        prompt's tokens, whose text may hold one.
        """
        self._set_stops(stop_texts(stops, "stops"))

    def _set_stops(self, texts: list[bytes]) -> None:
        handle, count = self._use(), len(texts)
        given, lengths = (ctypes.c_char_p * count)(*texts), (ctypes.c_size_t * count)(*map(len, texts))
        checked(lambda error: library().decoder_set_stops(handle.pointer, given, lengths, count, error))

    @property
    def stopped(self) -> Optional[int]:
        """Which of the stops has ended the text, from 0; None so far. It stands until another text begins."""
        handle = self._use()
        found = int(library().decoder_stopped(handle.pointer))
        return found if found >= 0 else None

    def _push(self, token: SupportsIndex) -> str:
        handle, text, count = self._use(), ctypes.c_char_p(), ctypes.c_size_t()
        checked(lambda error: library().decoder_push(handle.pointer, token, text, count, error))
        return ctypes.string_at(text, count.value).decode("utf-8")
