"""Callbacks: what they are told, what their exceptions do, the host's own storage."""
import os
import threading
import time

import pytest
from conftest import BUDGET, CHECKPOINT, MODEL, run_python

import libflashinfer as f


class Trouble(Exception):
    pass


def raiser(after=0):
    """A callback that raises, and says how often it was called."""
    def call(*_arguments):
        call.count += 1
        if call.count > after:
            raise Trouble(call.count)
    call.count = 0
    return call


def test_what_callbacks_are_told():
    seen = {"log": [], "progress": [], "trace": [], "ffn_input": [], "audit": []}
    with f.Model(MODEL, memory_budget=BUDGET, audit_interval=1, log=lambda *given: seen["log"].append(given),
                 progress=seen["progress"].append, trace=lambda trace: seen["trace"].append((trace, trace.ids.copy())),
                 ffn_input=lambda given: seen["ffn_input"].append((given, given.x.copy())),
                 audit=seen["audit"].append) as model, model.session() as session:
        session.eval([5, 6])
        assert seen["progress"][-1] == f.Progress("eval", 1, 2)
    assert seen["log"][0][0] is f.LogLevel.INFO and "6 layers" in seen["log"][0][1]
    assert [trace.layer for trace, _ in seen["trace"]] == [0, 1, 2, 3, 4, 5] * 2
    assert all(len(ids) == trace.count > 0 and list(ids) == sorted(ids) for trace, ids in seen["trace"])
    assert [(given.layer, given.step) for given, _ in seen["ffn_input"][6:8]] == [(0, 2), (1, 2)]
    assert all(len(x) == given.width == 320 and x.any() for given, x in seen["ffn_input"])
    assert len(seen["audit"]) == 2 and seen["audit"][0].ffn_length == 2560 and seen["audit"][0].output_norm > 0


@pytest.mark.parametrize("name", ["log", "progress"])
def test_an_exception_stops_opening(name):
    callback = raiser()
    with pytest.raises(Trouble):
        f.Model(MODEL, memory_budget=BUDGET, **{name: callback})
    assert callback.count == 1
    with f.Model(MODEL, memory_budget=BUDGET) as model:  # nothing is left behind
        assert "".join(model.generate("Once", tokens=3))


@pytest.mark.parametrize("name", ["trace", "ffn_input", "audit"])
@pytest.mark.parametrize("after", [0, 3, 5])
def test_an_exception_stops_a_step(name, after):
    """After 5 it comes in the last layer; the next call is not stopped by what is left of it."""
    callback = raiser(after)
    with f.Model(MODEL, memory_budget=BUDGET, audit_interval=1, audit_layers=6, **{name: callback}) as model:
        with model.session() as session, pytest.raises(Trouble) as caught:
            session.eval([5, 6, 7])
        assert callback.count == after + 1 and caught.value.args == (after + 1,)
        callback.count = -1000
        with model.session() as session:
            session.step(5)
            callback.count = after - 5
            with pytest.raises(Trouble):
                session.step(6)
            position = session.position
            callback.count = -1000
            session.step(7)  # not cancelled
            assert session.position == position + 1 and callback.count > -1000


def test_a_late_exception_stops_no_later_call():
    callback = raiser(5)  # of six layers
    with f.Model(MODEL, memory_budget=BUDGET, audit_interval=1, audit_layers=6, audit=callback) as model:
        with model.session() as session:
            with pytest.raises(Trouble):
                session.step(5)
            assert session.position == 1  # too late to stop anything
            callback.count = -1000
            session.rewind(1)  # nothing that could be stopped
            session.step(6)
            assert session.position == 2
            session.cancel()  # no call runs
            session.step(7)
            assert session.position == 3


def test_progress_cancels():
    calls = []
    with f.Model(MODEL, memory_budget=BUDGET, progress=lambda progress: calls.append(progress) or len(calls) > 3 and
                 progress.stage == "eval") as model, model.session() as session:
        calls.clear()
        with pytest.raises(f.Error) as caught:
            session.eval([5, 6, 7, 8, 9])
        assert caught.value.code is f.ErrorCode.ECANCELED and session.position == 3 == len(calls) - 1
        session.step(5)


def test_calls_from_a_callback():
    """Counters may be asked for; what would run the model is refused, and a session dropped there is destroyed later."""
    found = {}

    def trace(_trace):
        if found:
            return
        found.update(tokens=model.stats.tokens, plan=model.plan.slots, position=session.position)
        with pytest.raises(f.Error) as caught:
            session.step(5)
        found["code"] = caught.value.code
        other.append(None)
        other[0].close()
        other.clear()

    with f.Model(MODEL, memory_budget=BUDGET, session_count=2, trace=trace) as model, model.session() as session:
        other = [model.session()]
        session.step(5)
        assert found["code"] is f.ErrorCode.EBUSY and found["position"] == 0 and found["plan"] > 0
        model.session().step(6)  # its place is free


def test_cancel_from_another_thread():
    with f.Model(MODEL, memory_budget=BUDGET, trace=lambda _trace: time.sleep(0.05)) as model, model.session() as session:
        timer = threading.Timer(0.3, session.cancel)
        timer.start()
        started = time.monotonic()
        with pytest.raises(f.Error) as caught:
            session.eval([5] * 100)
        assert caught.value.code is f.ErrorCode.ECANCELED and time.monotonic() - started < 5
        timer.join()
        assert session.position < 90
        session.step(5)


# --------------------------------------------------------------------------------------------------------- storage


class File(f.Storage):
    def __init__(self, trouble=None):
        self.file, self.trouble, self.reads, self.closed = os.open(MODEL, os.O_RDONLY), trouble, 0, 0
        self.length_bytes = os.path.getsize(MODEL)

    def read(self, offset, into):
        self.reads += 1
        if self.trouble is not None:
            raise self.trouble
        return os.preadv(self.file, [into], offset)

    def close(self):
        os.close(self.file)
        self.closed += 1


def test_storage_of_the_host():
    storage = File()
    with f.Model(MODEL, memory_budget=BUDGET) as model:
        expected = "".join(model.generate("Once upon a time", tokens=8))
    with f.Model.open_storage(storage, memory_budget=BUDGET) as model:
        assert "".join(model.generate("Once upon a time", tokens=8)) == expected
        assert storage.reads > 100 and storage.closed == 0
    assert storage.closed == 1


def test_an_exception_of_the_host_s_storage():
    storage = File(Trouble())
    with pytest.raises(Trouble):
        f.Model.open_storage(storage, memory_budget=BUDGET)
    assert storage.closed == 0
    storage.trouble = None
    with f.Model.open_storage(storage, memory_budget=BUDGET) as model, model.session() as session:
        storage.trouble = PermissionError(13, "none")
        with pytest.raises(PermissionError):
            session.step(5)
        storage.trouble = None
        with pytest.raises(f.Error, match="ETOKEN"):  # not blamed on what was before
            session.step(-1)
        session.step(5)


def test_a_file_in_a_file(tmp_path):
    larger = tmp_path / "asset"
    larger.write_bytes(b"\0" * 8192 + MODEL.read_bytes() + b"\0" * 100)
    with open(larger, "rb") as file:
        model = f.Model.open_fd(file.fileno(), 8192, os.path.getsize(MODEL), memory_budget=BUDGET)
    with model:
        assert "".join(model.generate("Once upon a time", tokens=4)) == ", I was a"


# ---------------------------------------------------------------------------------------------- what makes things


def test_pack(tmp_path):
    seen = []
    f.pack(CHECKPOINT, tmp_path / "model.gguf", progress=seen.append)
    assert (tmp_path / "model.gguf").read_bytes() == MODEL.read_bytes()
    assert seen[-1].stage == "pack" and seen[-1].done <= seen[-1].total
    with pytest.raises(Trouble):
        f.pack(CHECKPOINT, tmp_path / "other.gguf", progress=raiser(3))
    with pytest.raises(f.Error, match="ECHECKPOINT|EIO"):
        f.pack(tmp_path, tmp_path / "other.gguf")
    assert os.listdir(tmp_path) == ["model.gguf"]


def test_pack_with_an_order(tmp_path):
    with f.Model(MODEL) as model, f.Order(6, 2560) as order:
        with f.Model(MODEL, trace=order.add) as traced:
            expected = "".join(traced.generate("Once upon a time", tokens=20))
        assert not model.info.ordered
        f.pack(CHECKPOINT, tmp_path / "ordered.gguf", order=order)
    with f.Model(tmp_path / "ordered.gguf") as model:
        assert model.info.ordered and "".join(model.generate("Once upon a time", tokens=20)) == expected


def test_predictors(tmp_path):
    with f.Model(MODEL) as model:
        with f.PredictorMaker.copy_of(model) as predictor:
            predictor.save(tmp_path / "copy.gguf")
            scores, bias = predictor.scores(2, [0.5] * 320), predictor.bias(2)
            assert scores.shape == bias.shape == (2560,) and scores.any()
            predictor.set_bias(2, bias + 1)
            assert abs(predictor.bias(2) - bias - 1).max() < 1e-5
        with f.PredictorMaker(model) as made:
            with pytest.raises(f.Error, match="EINVAL"):
                made.save(tmp_path / "none.gguf")
            for layer in range(6):
                made.set_sketch(layer, 2)
            ones = [1.0] * (2 * 320)
            made.set_lowrank(5, ones, [1.0] * (2560 * 2), [-1.0] * 2560)
            assert made.bytes(5) > 2 * 2 * (320 + 2560) and abs(made.scores(5, [0.25] * 320)[7] - 160) < 0.01
            made.save(tmp_path / "mixed.gguf")
            with pytest.raises(ValueError, match="rank 2 needs"):
                made.set_lowrank(5, ones, ones, [0.0] * 2560)
            with pytest.raises(ValueError, match="319 floats where 320"):
                made.scores(0, [0.0] * 319)
            with pytest.raises(f.Error, match="EFORMAT|EIO"):
                made.import_powerinfer(CHECKPOINT / "config.json")
        expected = "".join(model.generate("Once upon a time", tokens=6))
    with pytest.raises(ValueError, match="closed"):
        made.bias(0)
    with f.Model(MODEL, predictor_path=tmp_path / "copy.gguf") as model:
        assert "".join(model.generate("Once upon a time", tokens=6)) == expected
    with f.Model(MODEL, predictor_path=tmp_path / "mixed.gguf") as model:
        assert model.plan.predictor is f.PredictorKind.MIXED


def test_probe(tmp_path):
    stages = []
    result = f.probe(MODEL, time_ms=300, threads=1, progress=stages.append)
    assert result.read_bytes[0] == 4096 and len(result.read_bytes_per_s) == 6 and len(result.kind_bytes_per_s[0]) == 4
    assert result.io_depth > 0 and result.dram_bytes_per_s > 0 and {stage.stage for stage in stages} == {"probe"}
    result.save(tmp_path / "probe")
    assert f.ProbeResult.load(tmp_path / "probe") == result
    with f.Model(MODEL, memory_budget=BUDGET, probe=result) as model:
        assert "".join(model.generate("Once", tokens=2))
    with pytest.raises(Trouble):
        f.probe(MODEL, time_ms=300, progress=raiser(1))
    with pytest.raises(f.Error, match="EFORMAT"):
        f.ProbeResult.load(CHECKPOINT / "config.json")


def test_nothing_is_printed():
    """Exceptions in callbacks go to the caller, not to stderr."""
    assert run_python("""
        def trouble(*given):
            raise ValueError("trouble")
        for name in "log", "progress", "trace", "ffn_input", "audit":
            try:
                with f.Model(model, memory_budget=budget, audit_interval=1, **{name: trouble}) as m, m.session() as s:
                    s.step(5)
            except ValueError as error:
                print(name, error)
    """) == "".join(f"{name} trouble\n" for name in ("log", "progress", "trace", "ffn_input", "audit"))
