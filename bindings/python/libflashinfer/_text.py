"""Samplers and decoders: logits to a token, tokens to text."""
from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Sequence, Union

from . import _ffi
from ._arrays import floats
from ._calls import Handle, Owner
from ._library import checked, library
from ._options import options
from ._records import SamplerOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._arrays import Floats


class Sampler(Owner):
    """Logits to a token id; greedy without options. One thread at a time."""

    def __init__(self, vocab_count: int, **sampling: Unpack[SamplerOptions]) -> None:
        """vocab_count: of the longest logits it will be given."""
        struct, _ = options(_ffi.flashinfer_sampler_options, SamplerOptions, sampling)
        pointer = ctypes.POINTER(_ffi.flashinfer_sampler)()
        checked(lambda error: library().sampler_create(struct, vocab_count, pointer, error))
        self._handle = Handle(pointer, library().sampler_destroy)

    def sample(self, logits: Union[Floats, Sequence[float]]) -> int:
        """Choose a token, and remember it for the repetition penalty. Arrays of float32 are not copied."""
        handle, values, token = self._use(), floats(logits), ctypes.c_int32()
        checked(lambda error: library().sampler_sample(handle.pointer, values, len(values), token, error))
        return token.value

    def accept(self, token: int) -> None:
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

    def push(self, token: int) -> str:
        """Add a token; returns the text that is complete now, often none."""
        handle, text, count = self._use(), ctypes.c_char_p(), ctypes.c_size_t()
        checked(lambda error: library().decoder_push(handle.pointer, token, text, count, error))
        return ctypes.string_at(text, count.value).decode("utf-8")

    def end(self) -> str:
        """What is left at the end of the stream."""
        return self.push(-1)
