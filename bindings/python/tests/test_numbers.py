"""No number is wrapped, cut or taken for another: all that takes one is walked, so that a new call or option is as well."""
import ctypes
import inspect
import json
import os
import re
import subprocess

import numpy
import pytest
from conftest import BUDGET, CHECKPOINT, MODEL, PROGRAMS

import libflashinfer as f
from libflashinfer import _ffi, _library, _numbers
from libflashinfer._budget import budget_bytes

TOO_MUCH = 1 << 70  # for every type
NO_WHOLE_NUMBERS = [1.0, "1", b"1", True, numpy.float64(1), numpy.bool_(True), [1], -TOO_MUCH, TOO_MUCH, 10 ** 5000]
NO_NUMBERS = ["1", b"1", True, [1.0], 1j]
NO_BUDGETS = [1.5, True, b"50%", -1, TOO_MUCH, "", "%", "0", "0%", "0G", "-5%", "50 %", "64m", "1e9", "nan", "1K%",
              "5%%", "1.5", "5.", ".5G", "5.G", "1.2.3G", "50%\n", "5\0", "٣%", "1" * 5000, "18446744073709551615", "16777216T"]
NO_BIASES = [5, "5", b"5", True, [5], [(5,)], [(5, 1.0, 2)], ["51"], {"5": 1.0}, {5: "1"}, {5: True}, {True: 1.0}, {5.0: 1.0},
             {1 << 31: 1.0}, {5: 1e300}, [(5, 1.0), (6, None)]]
NO_TOKENS = [5, "Once", b"1234", [1, 2.0], [1, "2"], [True], [1, 1 << 31], [-TOO_MUCH], numpy.array([1.0])]


def refused(name, call, *arguments, **keywords):
    """By this module, before the library is asked, and by name."""
    with pytest.raises((TypeError, ValueError), match=rf"^{name}(\[\d+\](\.\w+)?)? (must be|takes) ") as caught:
        call(*arguments, **keywords)
    return str(caught.value)


# ------------------------------------------------------------------------------------------ what _ffi.py declares


def numbers_of(function):
    return [(at, *one) for at, one in enumerate(_ffi.FUNCTIONS[function][1]) if isinstance(one, tuple)]


def bad_values(kind):
    if _numbers.is_number(kind) and kind in (ctypes.c_float, ctypes.c_double):
        return NO_NUMBERS + [1e300] * (kind is ctypes.c_float)
    least, most = _numbers.limits(kind)
    return [*NO_WHOLE_NUMBERS, None, least - 1, most + 1]


@pytest.mark.parametrize("function", [name for name in _ffi.FUNCTIONS if numbers_of(name)])
def test_every_number_that_a_function_takes(function):
    taken = _ffi.FUNCTIONS[function][1]
    call = getattr(_library.library(), function[len("flashinfer_"):])
    assert inspect.isfunction(call), "ctypes would be called with NULL"
    for at, name, kind in numbers_of(function):
        for bad in bad_values(kind):
            refused(name, call, *[bad if place == at else 0 if isinstance(one, tuple) else None
                                  for place, one in enumerate(taken)])


def test_no_number_is_without_a_name():
    for function, (_, taken) in _ffi.FUNCTIONS.items():
        assert not any(_numbers.is_number(one) for one in taken), function


@pytest.mark.parametrize("struct", _ffi.STRUCTS)
def test_every_number_of_a_struct(struct):
    filled = struct()
    for name, kind in struct._fields_:
        if not _numbers.is_number(kind):
            continue
        for bad in bad_values(kind):
            refused(name, setattr, filled, name, bad)
            refused(name, struct, **{name: bad})
        assert getattr(filled, name) == 0
        for good in (0.5, numpy.float32(2), 3) if kind in (ctypes.c_float, ctypes.c_double) else _numbers.limits(kind):
            setattr(filled, name, good)
            assert getattr(filled, name) == good


def test_what_numbers_are():
    class Index:
        def __index__(self):
            return 7

    for good in (7, numpy.int8(7), numpy.uint64(7), numpy.array(7), Index()):
        assert _numbers.number("n", good, ctypes.c_uint32) == 7 and type(_numbers.number("n", good, ctypes.c_uint32)) is int
    assert _numbers.number("n", f.KvType.Q8_0, ctypes.c_uint32) == 3
    assert _numbers.limits(ctypes.c_int32) == (-1 << 31, (1 << 31) - 1) and _numbers.limits(ctypes.c_size_t) == (0, 2 ** 64 - 1)
    assert refused("n", _numbers.number, "n", -1, ctypes.c_uint32) == "n must be from 0 to 4294967295, not -1"
    assert refused("n", _numbers.number, "n", 1.0, ctypes.c_uint32) == "n must be a whole number, not 1.0 (float)"
    assert len(refused("n", _numbers.number, "n", "x" * 10000, ctypes.c_uint32)) < 150


# --------------------------------------------------------------------------------------------- what a program calls

# Arguments that let a call come as far as the number under test.
GOOD = {"path": MODEL, "checkpoint": CHECKPOINT, "storage": None, "fd": 0, "layers": 6, "neurons": 2560, "vocab_count": 4096,
        "layer": 0, "bits": 2, "down": [0.0] * 320, "up": [0.0] * 2560, "bias": [0.0] * 2560, "x": [0.0] * 320, "token": 5,
        "tokens": [5], "logits": [0.0] * 4096, "budget": 0, "text": "x", "state": b"", "prompt": "x", "trace": None}
KINDS = {r"SupportsIndex|\bint\b": NO_WHOLE_NUMBERS, r"\bfloat\b": [*NO_NUMBERS, 1e300], r"\bBudget\b": NO_BUDGETS,
         r"\bLogitBiases\b": NO_BIASES, r"\bTokens\b": NO_TOKENS,
         r"\bPrompt\b": [bad for bad in NO_TOKENS if not isinstance(bad, (str, bytes))]}
HANDLES = {"Model", "Session", "Decoder", "Sampler", "Order", "PredictorMaker"}
NO_CALLS = {"Error"}  # which an application does not make


def bad_for(annotation):
    for pattern, values in KINDS.items():
        if re.search(pattern, str(annotation)):
            return values
    return []


def calls():
    """(class or None, name, parameters that are numbers) of all that is public."""
    for name in f.__all__:
        one = getattr(f, name)
        if inspect.isfunction(one):
            yield None, name, one
        elif inspect.isclass(one) and not issubclass(one, (int, dict)) and name not in NO_CALLS:
            for method, function in inspect.getmembers(one, inspect.isroutine):
                if inspect.isbuiltin(function) or inspect.ismethoddescriptor(function):
                    continue
                if not method.startswith("_") or method == "__init__" and name in HANDLES:
                    yield name, method, function


def numeric(function):
    return [name for name, one in inspect.signature(function).parameters.items()
            if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL) and bad_for(one.annotation)]


NUMERIC = [(kind, name, parameter) for kind, name, function in calls() for parameter in numeric(function)
           if (kind, name) not in {("Storage", "read")}]  # which the library calls; see below


@pytest.fixture(scope="module")
def objects():
    with f.Model(MODEL, memory_budget=BUDGET, session_count=2) as model, model.session() as session, \
            model.decoder() as decoder, f.Sampler(4096) as sampler, f.PredictorMaker(model) as maker, \
            f.Order(6, 2560) as order:
        yield {"Model": model, "Session": session, "Decoder": decoder, "Sampler": sampler, "PredictorMaker": maker,
               "Order": order}


@pytest.mark.parametrize("kind, name, parameter", NUMERIC)
def test_every_number_of_a_public_call(objects, kind, name, parameter):
    owner = f if kind is None else objects[kind] if name != "__init__" else None
    call = getattr(owner, name) if owner is not None else getattr(f, kind)
    signature = inspect.signature(call)
    needed = {one.name: GOOD[one.name] for one in signature.parameters.values()
              if one.default is one.empty and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)}
    bad = bad_for(signature.parameters[parameter].annotation)
    assert bad
    for value in bad:
        refused(parameter, call, **{**needed, parameter: value})


def test_enough_is_walked():
    """The list above is not empty for a reason of its own: what the issue of numbers began with is in it."""
    for one in [("Model", "set_budget", "budget"), ("Session", "step", "token"), ("Decoder", "push", "token"),
                ("Session", "rewind", "position"), ("Session", "eval", "tokens"), ("Model", "generate", "tokens"),
                ("Model", "generate", "prompt"), ("Order", "__init__", "layers"), ("Sampler", "__init__", "vocab_count"),
                ("PredictorMaker", "set_sketch", "margin"), ("Model", "open_fd", "fd"), ("Model", "ffn_rows", "count")]:
        assert one in NUMERIC
    assert len(NUMERIC) >= 34


TAKERS = {"ModelOptions": [lambda **given: f.Model(MODEL, **given), lambda **given: f.plan_file(MODEL, **given),
                           lambda **given: f.Model.open_fd(0, **given),
                           lambda **given: f.Model.open_storage(f.Storage(), **given)],
          "SamplerOptions": [lambda **given: f.Sampler(4, **given)],
          "PackOptions": [lambda **given: f.pack(CHECKPOINT, "/nowhere/x", **given)],
          "ProbeOptions": [lambda **given: f.probe(MODEL, **given)]}
OPTIONS = [(keywords, name) for keywords in TAKERS for name in getattr(f, keywords).__annotations__]


@pytest.mark.parametrize("keywords, name", OPTIONS)
def test_every_option(objects, keywords, name):
    """Numbers, enumerations, and what is neither."""
    annotation = getattr(f, keywords).__annotations__[name].__forward_arg__
    bad = bad_for(annotation) or [value for value in NO_WHOLE_NUMBERS if annotation != "bool" or value is not True and
                                  not isinstance(value, numpy.bool_)]
    takers = TAKERS[keywords]
    if keywords == "SamplerOptions":
        takers = [*takers, lambda **given: objects["Model"].generate("x", **given),
                  lambda **given: objects["Session"].generate("x", **given)]
    for taker in takers:
        for value in bad:
            if annotation != "Path" or not isinstance(value, (str, bytes)):
                refused(name, taker, **{name: value})


def test_every_keyword_has_options_here():
    assert set(TAKERS) == {name for name in f.__all__ if name.endswith("Options")}
    assert {name for name in vars(_ffi) if re.fullmatch("flashinfer_.*options", name)} == {
        "flashinfer_options", "flashinfer_sampler_options", "flashinfer_pack_options", "flashinfer_probe_options"}


def test_an_enumeration_of_something_else():
    assert "dtype must be a Dtype, not <KvType.F16: 2>" in refused("dtype", f.pack, CHECKPOINT, "/x", dtype=f.KvType.F16)
    assert f.plan_file(MODEL, kv_type=2).kv_bytes == f.plan_file(MODEL, kv_type=f.KvType.F16).kv_bytes


def test_what_a_storage_says():
    """Its numbers cross as well, from inside a callback."""
    class Wrong(f.Storage):
        length_bytes, alignment, count = os.path.getsize(MODEL), 1, 0

        def read(self, offset, into):
            return self.count

    for name, bad in [("alignment", (1 << 32) + 1), ("alignment", 1.0), ("length_bytes", -1), ("length_bytes", "5")]:
        storage = Wrong()
        setattr(storage, name, bad)
        refused(name, f.Model.open_storage, storage, memory_budget=BUDGET)
    for bad in (None, 1.0, True, 1 << 70, 1 << 40):
        storage = Wrong()
        storage.count = bad
        refused(r"what read\(\) returns", f.Model.open_storage, storage, memory_budget=BUDGET)


def test_numpy_s_numbers_are_numbers(objects):
    model, session = objects["Model"], objects["Session"]
    session.rewind()
    session.eval(numpy.array([5, 6], dtype=numpy.int64))
    session.step(numpy.int32(7))
    session.step(session.logits.argmax())
    assert session.position == 4
    session.rewind(numpy.uint8(1))
    model.set_budget(numpy.uint64(BUDGET))
    assert model.detokenize(iter([numpy.int16(300)])) == model.detokenize([300])


# --------------------------------------------------------------------------------------------------------- budgets


def of_program(budget):
    done = subprocess.run([PROGRAMS / "generate", MODEL, "--json", "--prompt", "x", "--tokens", "1", "--budget", budget],
                          check=False, capture_output=True, timeout=120)
    return json.loads(done.stdout)["budget_bytes"] if done.returncode == 0 else done.returncode


@pytest.mark.parametrize("text", ["100%", "77.7%", "150%", "26000000", "32M", "1.5G", "30000K", "28.5M"])
def test_a_budget_is_what_the_programs_take_it_for(text):
    assert f.plan_file(MODEL, memory_budget=text).budget_bytes == of_program(text)


@pytest.mark.parametrize("text", ["", "%", "-5%", "64m", "1K%", "half"])
def test_what_no_program_takes(text):
    assert of_program(text) == 2
    refused("memory_budget", f.plan_file, MODEL, memory_budget=text)


def test_to_the_byte():
    """Where binary floating point is not exact, and rounded down once however many digits there are."""
    def of(text, file_bytes=0):
        return budget_bytes("budget", text, lambda: file_bytes)
    assert [of(f"{number // 10}.{number % 10}%", 1000000) for number in range(1, 1000)] == list(range(1000, 1000000, 1000))
    assert of("0.3G") == 322122547 and of("0.1K") == 102 and of("2T") == 2 << 40 and of("0.0009765625K") == 1
    assert of("1.9990234374999999999999999999999999999999K") == 2046 and of("1.999023437500000000000000000000000K") == 2047
    assert of("33.333333333333333333333333333333%", 2 ** 63 - 1) == 3074457345618258602
    assert of("20000%", 1000) == 200000 and of("18446744073709551614") == 2 ** 64 - 2
    with pytest.raises(ValueError, match="budget takes"):
        of("0.05%", 1000)


def test_a_share_of_whatever_the_model_is(tmp_path):
    share = os.path.getsize(MODEL) * 3 // 4
    with f.Model(MODEL, memory_budget="75%") as model:
        assert model.plan.budget_bytes == share
        model.set_budget("80%")
        assert model.plan.budget_bytes == os.path.getsize(MODEL) * 8 // 10
        model.set_budget("1G")
        assert model.plan.budget_bytes == 1 << 30
        with pytest.raises(f.Error, match="EBUDGET"):
            model.set_budget("1%")
        assert model.plan.budget_bytes == 1 << 30
    larger = tmp_path / "asset"
    larger.write_bytes(b"\0" * 8192 + MODEL.read_bytes() + b"\0" * 100000)
    with open(larger, "rb") as file, f.Model.open_fd(file.fileno(), 8192, os.path.getsize(MODEL), memory_budget="75%") as model:
        assert model.plan.budget_bytes == share

    class File(f.Storage):
        length_bytes = os.path.getsize(MODEL)

        def read(self, offset, into):
            with open(MODEL, "rb") as file:
                return os.preadv(file.fileno(), [into], offset)
    with f.Model.open_storage(File(), memory_budget="75%") as model:
        assert model.plan.budget_bytes == share
    with pytest.raises(f.Error, match="EIO"):
        f.Model("/nowhere", memory_budget="75%")
