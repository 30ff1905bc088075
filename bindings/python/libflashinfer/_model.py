"""Models and sessions."""
from __future__ import annotations

import ctypes
import os
import weakref
from typing import TYPE_CHECKING, Any, Callable, Iterator, Optional, SupportsIndex, Union

from . import _ffi
from ._arrays import Tokens, ids, room, view
from ._budget import Budget, budget_bytes
from ._calls import Handle, Owner, SessionHandle, Stop, cancelled
from ._ffi import ErrorCode, OpenFlags, Part, TokenizeFlags
from ._generate import AsyncGeneration, Generation
from ._library import Error, checked, library, renamed
from ._numbers import limits, whole
from ._options import options as filled
from ._records import Info, Logprob, ModelOptions, Path, Plan, SamplerOptions, Stats, TensorInfo, lists, record
from ._storage import HostStorage, Storage
from ._text import Decoder, Sampler, Stops, stop_texts

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._arrays import Floats

VALUE_BYTES = 4096  # of a metadata entry's text
BESIDE_SAMPLING = ("tokens", "stop", "sampler")  # what generate() takes besides the sampler's options
HEADER = OpenFlags.METADATA | OpenFlags.NO_TOKENIZER  # all that a file's size is asked with


Prompt = Union[str, bytes, Tokens]


def quiet(code: int) -> None:
    """For calls without an error record."""
    if code != 0:
        raise Error(code, library().error_describe(code).decode())


def answer(kind: Any, struct: Any, call: Callable[[Any], int]) -> Any:
    result = struct(size=ctypes.sizeof(struct))
    quiet(call(result))
    return record(kind, result)


def plan_file(path: Path, **options: Unpack[ModelOptions]) -> Plan:
    """What a budget would give, without opening the model. The options are Model()'s; a budget too small is no error here."""
    name = os.fsencode(path)
    struct, callbacks = filled(_ffi.flashinfer_options, ModelOptions, options, file_bytes=lambda: file_bytes(name))
    plan = _ffi.flashinfer_plan(size=ctypes.sizeof(_ffi.flashinfer_plan))
    callbacks.run(lambda error: library().plan_file(name, struct, plan, error))
    return record(Plan, plan)


def file_bytes(path: bytes) -> int:
    """What a budget is a share of."""
    return plan_file(path, flags=OpenFlags.NO_TOKENIZER).file_bytes


@lists(ModelOptions)
class Model(Owner):
    """An open model file within a memory budget. Use it in a with statement, or close() it.

    All its methods may be called from any thread; the library runs one after the other, without Python's lock.
    """

    def __init__(self, path: Path, **options: Unpack[ModelOptions]) -> None:
        """Open a model file. A memory_budget that cannot work is an Error that names one that can."""
        name = os.fsencode(path)
        self._open(lambda *rest: library().model_open(name, *rest), options, lambda: file_bytes(name))

    @classmethod
    def open_fd(cls, fd: SupportsIndex, offset: SupportsIndex = 0, length: SupportsIndex = 0,
                **options: Unpack[ModelOptions]) -> Model:
        """Open a model that is part of an open file; length 0: up to its end. The descriptor stays yours and may be closed."""
        def length_bytes() -> int:
            with Model.open_fd(fd, offset, length, flags=HEADER) as header:
                return header.info.file_bytes
        model = cls.__new__(cls)
        model._open(lambda *rest: library().model_open_fd(fd, offset, length, *rest), options, length_bytes)
        return model

    @classmethod
    def open_storage(cls, storage: Storage, /, **options: Unpack[ModelOptions]) -> Model:
        """Open a model whose bytes you deliver yourself."""
        host = HostStorage(storage)
        model = cls.__new__(cls)
        model._open(lambda *rest: library().model_open_storage(host.ops, *rest), options, lambda: storage.length_bytes, host)
        return model

    def _open(self, call: Callable[..., int], options: Any, size: Callable[[], int],
              host: Optional[HostStorage] = None) -> None:
        """size(): what a budget may be a share of."""
        struct, callbacks = filled(_ffi.flashinfer_options, ModelOptions, options, file_bytes=size)
        pointer = ctypes.POINTER(_ffi.flashinfer_model)()
        if host is not None:
            host.callbacks = callbacks
        try:
            callbacks.run(lambda error: call(struct, pointer, error))
        except BaseException:
            if pointer:  # a callback's exception came too late to stop it
                library().model_close(pointer)
            raise
        self._callbacks, self._host = callbacks, host
        self._handle = Handle(pointer, library().model_close, struct, host)
        self._dependents: weakref.WeakSet[Owner] = weakref.WeakSet()
        callbacks.owner = weakref.ref(self._handle)

    def close(self) -> None:
        """Release everything, sessions included; arrays that still look into the model keep its memory."""
        if self._handle is not None:
            for dependent in list(self._dependents):
                dependent.close()
        super().close()

    def _adopt(self, dependent: Any) -> Any:
        self._dependents.add(dependent)
        return dependent

    def _run(self, call: Callable[..., int], *arguments: Any) -> None:
        handle = self._use()
        try:
            self._callbacks.run(lambda error: call(handle.pointer, *arguments, error))
        finally:
            del handle

    # ----------------------------------------------------------------------------------------------- what is in it

    @property
    def info(self) -> Info:
        handle = self._use()
        return answer(Info, _ffi.flashinfer_info, lambda info: library().model_info(handle.pointer, info))

    @property
    def metadata(self) -> dict[str, str]:
        """All entries of the file as text, long arrays shortened."""
        handle, key, value = self._use(), ctypes.c_char_p(), ctypes.create_string_buffer(VALUE_BYTES)
        found = {}
        for index in range(self.info.metadata_count):
            quiet(library().model_metadata(handle.pointer, index, key, value, VALUE_BYTES))
            found[(key.value or b"").decode("utf-8", "replace")] = value.value.decode("utf-8", "replace")
        return found

    @property
    def tensors(self) -> list[TensorInfo]:
        handle = self._use()

        def one(index: int) -> TensorInfo:
            return answer(TensorInfo, _ffi.flashinfer_tensor_info,
                          lambda tensor: library().model_tensor(handle.pointer, index, tensor))
        return [one(index) for index in range(self.info.tensor_count)]

    def verify(self) -> None:
        """Read the whole file and compare every checksum; the first that differs is an Error."""
        self._run(library().model_verify)

    def ffn_rows(self, layer: SupportsIndex, part: Optional[Part] = None, first: SupportsIndex = 0,
                 count: Optional[SupportsIndex] = None) -> Floats:
        """(count, embedding_length) weights of a layer's neurons, all of them from `first` on if count is left out.

        Without a part those that decide which neurons fire: gate with info.ffn_gated, else up.
        """
        info = self.info
        if part is None:
            part = Part.GATE if info.ffn_gated else Part.UP
        first = whole("first", first, *limits(ctypes.c_uint32))
        left = max(info.ffn_length - first, 1)  # past the last neuron: for the library to refuse
        count = left if count is None else whole("count", count, 0, info.ffn_length)
        values, array = room(count, info.embedding_length)
        self._run(library().model_ffn_rows, layer, part, first, count, values)
        return array

    def ffn_bias(self, layer: SupportsIndex) -> Floats:
        """(ffn_length) biases of the deciding sums: a neuron may fire if row . x + bias is above info.ffn_threshold."""
        values, array = room(self.info.ffn_length)
        self._run(library().model_ffn_bias, layer, values)
        return array

    # -------------------------------------------------------------------------------------------- budget and counters

    @property
    def plan(self) -> Plan:
        """How the budget is divided."""
        handle = self._use()
        return answer(Plan, _ffi.flashinfer_plan, lambda plan: library().model_plan(handle.pointer, plan))

    def set_budget(self, budget: Budget) -> None:
        """Change the budget of a live model, in bytes or as a text like memory_budget; the output does not change."""
        info = self.info
        self._run(library().model_set_budget, budget_bytes("budget", budget, lambda: info.file_bytes))

    @property
    def stats(self) -> Stats:
        """Sums since open or the last reset_stats(), over all sessions."""
        handle = self._use()
        return answer(Stats, _ffi.flashinfer_stats, lambda stats: library().model_stats(handle.pointer, stats))

    def reset_stats(self) -> None:
        handle = self._use()
        quiet(library().model_reset_stats(handle.pointer))

    # ------------------------------------------------------------------------------------------------------------ text

    def tokenize(self, text: Union[str, bytes], *, bos: bool = True, special: bool = False) -> list[int]:
        """Text to token ids. bos: begin with the model's bos token if it wants one; special: "</s>" becomes that token."""
        handle, count = self._use(), ctypes.c_size_t()
        data = text.encode() if isinstance(text, str) else memoryview(text).tobytes()
        flags = (TokenizeFlags.BOS if bos else 0) | (TokenizeFlags.SPECIAL if special else 0)
        tokens = (ctypes.c_int32 * (len(data) + 1))()
        try:
            checked(lambda error: library().tokenize(handle.pointer, data, len(data), flags, tokens, len(tokens), count, error))
        except Error as error:
            if error.code != ErrorCode.EBUFFER:
                raise
            tokens = (ctypes.c_int32 * count.value)()  # a text may have more tokens than bytes
            checked(lambda error: library().tokenize(handle.pointer, data, len(data), flags, tokens, len(tokens), count, error))
        return tokens[:count.value]

    def detokenize_bytes(self, tokens: Tokens) -> bytes:
        """Token ids to bytes, which may begin or end inside a character."""
        handle, given, count = self._use(), ids(tokens), ctypes.c_size_t()
        try:
            checked(lambda error: library().detokenize(handle.pointer, given, len(given), None, 0, count, error))
        except Error as error:
            if error.code != ErrorCode.EBUFFER:
                raise
        text = ctypes.create_string_buffer(count.value + 1)
        checked(lambda error: library().detokenize(handle.pointer, given, len(given), text, count.value, count, error))
        return text.raw[:count.value]

    def detokenize(self, tokens: Tokens) -> str:
        """Token ids to text, with U+FFFD for what is no character. Use a decoder() for text that comes token by token."""
        return self.detokenize_bytes(tokens).decode("utf-8", "replace")

    def decoder(self) -> Decoder:
        """Token ids to text, one by one."""
        return self._adopt(Decoder(self))

    # -------------------------------------------------------------------------------------------------------- sessions

    def session(self) -> Session:
        """Begin a sequence, in one of the session_count places that were planned when the model was opened."""
        return self._adopt(Session(self))

    def generate(self, prompt: Prompt, *, tokens: Optional[SupportsIndex] = None, stop: Optional[Stops] = None,
                 sampler: Optional[Sampler] = None, **sampling: Unpack[SamplerOptions]) -> Generation:
        """The text that follows a prompt, piece by piece, in a session of its own. See Session.generate().

        The session takes its place at the first piece, and gives it back when the generation ends, however that is.
        """
        run = self._generating(prompt, tokens, stop, sampler, sampling)

        def pieces(cancel: Stop) -> Iterator[str]:
            with self.session() as session:
                yield from run(session, cancel)
        return Generation(pieces)

    def agenerate(self, prompt: Prompt, *, tokens: Optional[SupportsIndex] = None, stop: Optional[Stops] = None,
                  sampler: Optional[Sampler] = None, **sampling: Unpack[SamplerOptions]) -> AsyncGeneration:
        """The same for asyncio: `async for piece in model.agenerate(...)`. See AsyncGeneration for how it is stopped."""
        return AsyncGeneration(self.generate(prompt, tokens=tokens, stop=stop, sampler=sampler, **sampling))

    def _generating(self, prompt: Prompt, tokens: Optional[SupportsIndex], stop: Optional[Stops],
                    sampler: Optional[Sampler], sampling: Any) -> Callable[[Session, Stop], Iterator[str]]:
        """What generates by these arguments, which are checked now. A sampler made of them is closed at the end."""
        given = prompt if isinstance(prompt, (str, bytes)) else list(ids(prompt, "prompt"))
        most = None if tokens is None else whole("tokens", tokens, 0, limits(ctypes.c_uint64)[1])
        stops = stop_texts(stop)
        if stops:
            with self.decoder() as judge:
                judge._set_stops(stops)
        if sampler is not None and sampling:
            raise TypeError("give a sampler or its options, not both")
        own = sampler is None
        chosen = Sampler._beside(BESIDE_SAMPLING, self.info.vocab_count, sampling) if sampler is None else sampler
        chosen._use()

        def run(session: Session, cancel: Stop) -> Iterator[str]:
            try:
                with self.decoder() as decoder:
                    yield from session._pieces(session._prompt(given), most, stops, chosen, decoder, cancel)
            finally:
                if own:
                    chosen.close()
        return run


class Session(Owner):
    """One sequence: its position, and the logits of its last step. Make one with Model.session()."""

    def __init__(self, model: Model) -> None:
        pointer = ctypes.POINTER(_ffi.flashinfer_session)()
        model._run(library().session_create, pointer)
        self.model, self._callbacks = model, model._callbacks
        self._handle = SessionHandle(pointer, model._use(), model._callbacks)
        self._sampled: Optional[tuple[int, int]] = None  # position and token: chosen by generate(), not run yet

    def _run(self, call: Callable[..., int], *arguments: Any) -> None:
        handle = self._use()
        self._sampled = None
        try:
            self._callbacks.run(lambda error: call(handle.pointer, *arguments, error), handle)
        finally:
            del handle

    def step(self, token: SupportsIndex) -> None:
        """Run one token. If it fails or is cancelled, position and logits stay as they were."""
        self._run(library().step, token)

    def eval(self, tokens: Tokens) -> None:
        """Run tokens, such as a prompt. If it fails or is cancelled, `position` tells how far it came."""
        given = ids(tokens)
        self._run(library().eval, given, len(given))

    @property
    def logits(self) -> Optional[Floats]:
        """(vocab_count) logits of the last step as a read-only view, None before the first.

        Not a copy: the numbers are those of this session until its next call, after that whatever the library puts there.
        The memory stays valid as long as the view, even if session and model are closed: they give it back after that.
        """
        handle, count = self._use(), ctypes.c_size_t()
        pointer = library().logits(handle.pointer, count)
        return view(pointer, count.value, handle.needs[0]) if pointer else None

    def logprobs(self, *tokens: SupportsIndex, top: SupportsIndex = 0) -> list[Logprob]:
        """Log probabilities after the last step: of these tokens, then of the `top` likeliest, the likeliest first.

        Of the model's own distribution: what a sampler does to logits does not count.
        """
        handle, asked, count = self._use(), ids(tokens), ctypes.c_size_t()
        most = whole("top", top, 0, self.model.info.vocab_count)
        logits = library().logits(handle.pointer, count)
        if not logits:
            raise ValueError("the session has no logits: run a token first")
        chosen, likeliest = (_ffi.flashinfer_logprob * len(asked))(), (_ffi.flashinfer_logprob * most)()
        for one, token in zip(chosen, asked):
            one.token = token
        checked(lambda error: library().logprobs(logits, count.value, chosen, len(chosen), likeliest, most, error))
        return [Logprob(one.token, one.logprob) for one in (*chosen, *likeliest)]

    @property
    def position(self) -> int:
        """Tokens in the session's context; during eval() in another thread, how far that is."""
        return library().session_position(self._use().pointer)

    def rewind(self, position: SupportsIndex = 0) -> None:
        """Forget everything from `position` on; the logits too."""
        self._run(library().session_rewind, position)

    def cancel(self) -> None:
        """Stop the session's running call with ECANCELED; does nothing if none runs. From any thread, or a callback."""
        handle = self._use()
        library().session_cancel(handle.pointer)

    def save_state(self) -> bytes:
        """Position, logits and KV cache, for load_state() by the same model file."""
        handle = self._use()
        state, written = ctypes.create_string_buffer(library().state_bytes(handle.pointer)), ctypes.c_size_t()
        checked(lambda error: library().state_save(handle.pointer, state, len(state), written, error))
        return state.raw[:written.value]

    def load_state(self, state: Union[bytes, bytearray, memoryview]) -> None:
        """Go back to a saved state; one of another model file or KV type is an Error."""
        data = (ctypes.c_char * len(state)).from_buffer_copy(state) if not isinstance(state, bytes) else state
        self._run(library().state_load, data, len(data))

    def save(self) -> bytes:
        """Deprecated: save_state()."""
        renamed("Session.save()", "Session.save_state()")
        return self.save_state()

    def load(self, state: Union[bytes, bytearray, memoryview]) -> None:
        """Deprecated: load_state()."""
        renamed("Session.load()", "Session.load_state()")
        self.load_state(state)

    def generate(self, prompt: Prompt = "", *, tokens: Optional[SupportsIndex] = None, stop: Optional[Stops] = None,
                 sampler: Optional[Sampler] = None, **sampling: Unpack[SamplerOptions]) -> Generation:
        """The text that follows what is in the session and the prompt, piece by piece, without the prompt.

        Ends after `tokens` tokens, before the first text of `stop` (one or several), at the model's end of text, or when
        the context is full. No part of a stop text is given, wherever tokens begin and end. `sampling` are keywords of
        Sampler(), greedy without any; or give a sampler. You may break off and go on with another generate() or step().
        """
        run = self.model._generating(prompt, tokens, stop, sampler, sampling)
        return Generation(lambda cancel: run(self, cancel))

    def agenerate(self, prompt: Prompt = "", *, tokens: Optional[SupportsIndex] = None, stop: Optional[Stops] = None,
                  sampler: Optional[Sampler] = None, **sampling: Unpack[SamplerOptions]) -> AsyncGeneration:
        """The same for asyncio: `async for piece in session.agenerate(...)`."""
        return AsyncGeneration(self.generate(prompt, tokens=tokens, stop=stop, sampler=sampler, **sampling))

    def _prompt(self, prompt: Union[str, bytes, list[int]]) -> list[int]:
        """The prompt's ids, after what generate() has given out but not run."""
        position, sampled = self.position, self._sampled
        left = [sampled[1]] if sampled is not None and sampled[0] == position else []
        if isinstance(prompt, (str, bytes)):
            return [*left, *self.model.tokenize(prompt, bos=position == 0 and not left)]
        return [*left, *prompt]

    def _pieces(self, prompt: list[int], tokens: Optional[int], stops: list[bytes], sampler: Sampler, decoder: Decoder,
                cancel: Stop) -> Iterator[str]:
        eos = self.model.info.eos_token
        for token in prompt:
            sampler.accept(token)
            decoder.push(token)
        if stops:
            decoder._set_stops(stops)  # only now: the prompt may hold one
        if prompt:
            self._under(cancel, self.eval, prompt)
        count = 0
        while tokens is None or count < tokens:
            token = sampler.sample(self._last_logits())
            if token == eos:
                break
            count += 1
            self._sampled = (self.position, token)
            piece = decoder.push(token)
            if piece:
                yield piece
            if self._sampled is None or count == tokens or decoder.stopped is not None:
                break  # the host ran something else meanwhile; enough; a stop text has come
            if not self._step_if_room(token, cancel):
                break  # no room for more
        rest = decoder.finish()
        if rest:
            yield rest

    def _under(self, stop: Stop, call: Callable[[Any], None], argument: Any) -> None:
        """call(argument), unless and until the generation is cancelled."""
        if stop.cancelled:
            raise cancelled()
        handle = self._use()
        handle.stop = stop
        try:
            call(argument)
        finally:
            handle.stop = None
            del handle

    def _step_if_room(self, token: int, stop: Stop) -> bool:
        try:
            self._under(stop, self.step, token)
        except Error as error:
            if error.code != ErrorCode.ECONTEXT:
                raise
            return False
        return True

    def _last_logits(self) -> Floats:
        logits = self.logits
        if logits is None:
            raise ValueError("the session has no logits to go on from: give a prompt")
        return logits
