"""Samplers and decoders: logits to a token, tokens to text."""
from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, SupportsIndex

from . import _ffi
from ._arrays import floats
from ._calls import Handle, Owner
from ._library import checked, library, renamed
from ._numbers import number
from ._options import options
from ._records import SamplerOptions, lists

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._arrays import FloatsGiven


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

    def _push(self, token: SupportsIndex) -> str:
        handle, text, count = self._use(), ctypes.c_char_p(), ctypes.c_size_t()
        checked(lambda error: library().decoder_push(handle.pointer, token, text, count, error))
        return ctypes.string_at(text, count.value).decode("utf-8")
