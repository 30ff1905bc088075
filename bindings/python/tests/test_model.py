"""Models, sessions, text: the same as the C programs print, and errors that say where."""
import array
import gc
import json
import os
import re
import subprocess
import textwrap
import threading
import time
import weakref

import numpy
import pytest
from conftest import BINDING, BUDGET, CHECKPOINT, MODEL, PROGRAMS, run_python

import libflashinfer as f

CARD = json.loads((CHECKPOINT / "card.json").read_text(encoding="utf8"))
PROMPT = next(iter(CARD["greedy"]))


def of_program(*arguments):
    done = subprocess.run([PROGRAMS / "generate", MODEL, "--json", "--prompt", PROMPT, *map(str, arguments)], check=True,
                          capture_output=True, timeout=120)
    return json.loads(done.stdout)


def failure(code, call, *arguments, **keywords):
    with pytest.raises(f.Error) as caught:
        call(*arguments, **keywords)
    assert caught.value.code == code, caught.value
    return caught.value


# ------------------------------------------------------------------------------------------------------------ text


def test_greedy_text_is_the_program_s(model):
    expected = of_program("--tokens", 60, "--budget", BUDGET)
    assert PROMPT + "".join(model.generate(PROMPT, tokens=60)) == expected["text"]
    assert expected["text"].startswith(PROMPT + " had been born in a little cottage")


def test_sampled_text_is_the_program_s(model):
    expected = of_program("--tokens", 40, "--temperature", 0.8, "--top-k", 40, "--top-p", 0.9, "--seed", 7)
    pieces = list(model.generate(PROMPT, tokens=40, temperature=0.8, top_k=40, top_p=0.9, seed=7))
    assert PROMPT + "".join(pieces) == expected["text"]
    assert len(pieces) > 20


def test_generate_goes_on_where_it_was_left(model, session):
    whole = "".join(model.generate(PROMPT, tokens=12))
    halves = "".join(session.generate(PROMPT, tokens=5)) + "".join(session.generate(tokens=7))
    assert halves == whole
    session.rewind()
    first = next(pieces := session.generate(PROMPT, tokens=12))
    pieces.close()
    assert whole.startswith(first)
    assert first + "".join(session.generate(tokens=11)) == whole


def test_generate_ends_when_the_context_is_full():
    with f.Model(MODEL, context_tokens=16) as model:
        ids = model.tokenize(PROMPT)
        whole = "".join(f.Model(MODEL).generate(PROMPT, tokens=17 - len(ids)))
        assert "".join(model.generate(PROMPT)) == whole


def test_generate_needs_something_to_go_on_from(session):
    with pytest.raises(ValueError, match="prompt"):
        next(session.generate([]))
    with pytest.raises(TypeError, match="not both"):
        next(session.generate("x", sampler=f.Sampler(4096), top_k=3))


def test_tokens_and_text(model):
    ids = model.tokenize("Grüße, 世界 🌍")
    assert ids[0] == model.info.bos_token and model.tokenize("x", bos=False) == model.tokenize("x")[1:]
    assert model.detokenize(ids) == "Grüße, 世界 🌍" == model.detokenize_bytes(array.array("i", ids)).decode()
    assert model.tokenize(b"\xff\x00a") and model.detokenize_bytes(model.tokenize(b"\xff\x00a")) == b"\xff\x00a"
    assert model.tokenize("") == model.tokenize("")[:1] and model.detokenize([]) == ""
    assert model.tokenize("</s>", special=True, bos=False) == [model.info.eos_token] != model.tokenize("</s>", bos=False)
    with model.decoder() as decoder:
        pieces = [decoder.push(token) for token in ids] + [decoder.finish()]
    assert "".join(pieces) == "Grüße, 世界 🌍" and "" in pieces[1:-1]
    failure(f.ErrorCode.ETOKEN, model.detokenize, [4096])


def test_sampler():
    logits = [0.0, 3.0, 2.0, float("nan")]
    with f.Sampler(4) as greedy, f.Sampler(4, repetition_penalty=100.0) as other:
        assert greedy.sample(logits) == greedy.sample(array.array("f", logits)) == 1
        other.accept(1)
        assert other.sample(logits) == 2
        assert greedy.sample(array.array("d", logits)) == 1
    with pytest.raises(ValueError, match="closed"):
        greedy.sample(logits)
    failure(f.ErrorCode.EINVAL, f.Sampler, 4, temperature=-1.0)
    with pytest.raises(TypeError, match="no such option: heat"):
        f.Sampler(4, heat=1)


# -------------------------------------------------------------------------------------------------------- sessions


def test_logits_are_a_view(model, session):
    assert session.logits is None
    session.step(5)
    logits = session.logits
    assert (logits.dtype, logits.shape, logits.flags.writeable, logits.flags.owndata) == (numpy.float32, (4096,), False, False)
    assert numpy.shares_memory(logits, session.logits)
    before = logits.copy()
    session.step(6)
    assert not numpy.array_equal(logits, before)  # not a copy
    with pytest.raises(ValueError):
        logits[0] = 1
    with f.Sampler(4096) as sampler:
        assert sampler.sample(logits) == sampler.sample(logits.astype(float)) == int(logits.argmax())
        assert sampler.sample(logits[::-1]) == 4095 - int(logits.argmax())


def test_a_view_outlives_the_model():
    with f.Model(MODEL, memory_budget=BUDGET) as model, model.session() as session:
        session.step(5)
        logits, expected, handle = session.logits, bytes(session.logits), weakref.ref(model._handle)
    assert model.closed and session.closed
    assert bytes(logits) == expected and handle() is not None
    del logits
    assert handle() is None  # and only as long


def test_without_numpy():
    assert run_python("""
        sys.modules["numpy"] = None
        with f.Model(model, memory_budget=budget) as m, m.session() as s, f.Sampler(4096) as sampler:
            s.eval(m.tokenize("Once upon a time"))
            logits = s.logits
            assert type(logits) is memoryview and logits.readonly and logits.format == "f" and len(logits) == 4096
            assert sampler.sample(logits) == max(range(4096), key=logits.__getitem__)
            assert sampler.sample(logits[:100]) == max(range(100), key=logits.__getitem__)
            rows = m.ffn_rows(1, first=7, count=3)
            assert rows.shape == (3, 320) and rows[0, 1] != 0
            print(len(logits))
    """) == "4096\n"


def test_numpy_is_not_imported_before_it_is_needed():
    assert run_python("""
        with f.Model(model, memory_budget=budget) as m:
            m.tokenize("x")
        print("numpy" in sys.modules)
    """) == "False\n"


def test_positions_and_states(model, session):
    ids = model.tokenize(PROMPT)
    session.eval(ids)
    assert session.position == len(ids)
    state, expected = session.save_state(), bytes(session.logits)
    session.step(7)
    session.load_state(bytearray(state))
    assert (session.position, bytes(session.logits)) == (len(ids), expected)
    with model.session() as other:
        other.load_state(state)
        assert bytes(other.logits) == expected
        other.rewind(3)
        assert (other.position, other.logits) == (3, None)
        failure(f.ErrorCode.EINVAL, other.rewind, 4)
        failure(f.ErrorCode.ESTATE, other.load_state, state[:-1])
        failure(f.ErrorCode.ESTATE, other.load_state, b"")


def test_budget_plan_and_counters(model, session):
    plan = model.plan
    assert plan.predictor is f.PredictorKind.SKETCH and plan.planned_bytes <= plan.budget_bytes == BUDGET
    session.eval(model.tokenize(PROMPT))
    expected = bytes(session.logits)
    logits = session.logits
    model.set_budget(plan.minimum_bytes)
    assert model.plan.budget_bytes == plan.minimum_bytes and bytes(logits) == expected
    model.reset_stats()
    session.rewind()
    session.eval(model.tokenize(PROMPT))
    assert bytes(session.logits) == expected and model.stats.tokens == session.position and model.stats.flash_bytes > 0
    failure(f.ErrorCode.EBUDGET, model.set_budget, 1000)
    model.set_budget(BUDGET)
    assert f.plan_file(MODEL, memory_budget=BUDGET, session_count=2) == plan


def test_what_is_in_the_file(model):
    info = model.info
    assert (info.architecture, info.layer_count, info.vocab_count) == ("opt", 6, 4096)
    assert (info.ffn_gated, info.ffn_activation, info.ffn_sparse, info.ffn_threshold) == (0, f.Activation.RELU, 1, 0)
    assert info.kv_head_count == info.head_count and info.head_length * info.head_count == info.embedding_length
    assert len(model.tensors) == info.tensor_count and len(model.metadata) == info.metadata_count
    assert model.metadata["general.architecture"] == "opt"
    assert model.tensors[0].name == "token_embd.weight" and len(model.tensors[0].dimensions) == 4
    assert model.ffn_rows(0).shape == (2560, 320) and model.ffn_bias(5).shape == (2560,)
    assert bytes(model.ffn_rows(2, f.Part.DOWN, 100, 2)[1]) == bytes(model.ffn_rows(2, f.Part.DOWN, 101, 1)[0])
    assert bytes(model.ffn_rows(1, first=5, count=1)) == bytes(model.ffn_rows(1, f.Part.UP, 5, 1))
    failure(f.ErrorCode.EINVAL, model.ffn_rows, 0, f.Part.GATE)
    model.verify()
    with f.Model(MODEL, flags=f.OpenFlags.METADATA) as metadata:
        assert metadata.info == info
        failure(f.ErrorCode.EINVAL, metadata.session)


# ---------------------------------------------------------------------------------------------------------- errors


def test_errors_say_where(tmp_path):
    error = failure(f.ErrorCode.EIO, f.Model, "/nowhere")
    assert error.name == "FLASHINFER_EIO" and error.sys_errno == 2 and "/nowhere" in str(error)
    assert (error.layer, error.neuron, error.offset) == (None, None, None)
    assert "20" in failure(f.ErrorCode.EBUDGET, f.Model, MODEL, memory_budget=1 << 20).text
    with f.Model(MODEL) as model:
        bundle = next(tensor for tensor in model.tensors if tensor.name == "blk.3.ffn_bundle.weight")
        stride = model.info.bundle_stride_bytes
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(MODEL.read_bytes())
    with open(damaged, "r+b") as file:
        file.seek(bundle.offset + 1234 * stride + 5)
        file.write(b"\x55\xaa")
    with f.Model(damaged, memory_budget=BUDGET) as model:
        error = failure(f.ErrorCode.ECORRUPT, model.verify)
    assert (error.layer, error.neuron) == (3, 1234) and error.offset == bundle.offset + 1234 * stride


def test_wrong_use(model, session):
    failure(f.ErrorCode.ETOKEN, session.step, 4096)
    failure(f.ErrorCode.ETOKEN, session.eval, [1, 2, -1])
    failure(f.ErrorCode.ECONTEXT, session.eval, [1] * 1000)
    assert session.position == 0
    with model.session():
        failure(f.ErrorCode.ESESSIONS, model.session)
    with pytest.raises(TypeError, match="no such option: budget"):
        f.Model(MODEL, budget=3)
    closed = f.Model(MODEL, memory_budget=BUDGET)
    left, decoder = closed.session(), closed.decoder()
    closed.close()
    closed.close()
    for call in (left.step, decoder.push, closed.tokenize, closed.ffn_bias):
        with pytest.raises(ValueError, match="is closed"):
            call(1)
    assert not pytest.raises(ValueError, closed.session).value.args[0].startswith("FLASHINFER")


def test_an_error_that_is_kept_keeps_no_memory():
    model = f.Model(MODEL, memory_budget=BUDGET)
    session, handle = model.session(), weakref.ref(model._handle)
    kept = [failure(f.ErrorCode.ETOKEN, session.step, -5), failure(f.ErrorCode.EBUDGET, model.set_budget, 1)]
    gc.disable()
    try:
        model.close()
        assert handle() is None and kept
    finally:
        gc.enable()


def test_the_library_is_found_or_missed_clearly(tmp_path):
    code = "try:\n    f.load()\nexcept ImportError as e:\n    print(type(e).__name__, e)"
    assert run_python(code, FLASHINFER_LIBRARY="/nowhere.so").startswith("LibraryNotFound cannot load /nowhere.so")
    old = tmp_path / "old.so"
    subprocess.run([os.environ.get("CC", "cc").split()[0], "-shared", "-o", old, "-xc", os.devnull], check=True)
    assert "has no flashinfer_error_init(): this module needs libflashinfer 0." in run_python(code, FLASHINFER_LIBRARY=old)
    assert run_python("print(f.load(), f.version())") == f"{os.environ['FLASHINFER_LIBRARY']} {f.version()}\n"


# --------------------------------------------------------------------------------------------------------- threads


def test_other_threads_run_during_a_call(model, session):
    """A step that takes half a second, since its storage does, and a thread that counts meanwhile."""
    slow, counted, done = threading.Event(), [0], threading.Event()

    class Slow(f.Storage):
        length_bytes = os.path.getsize(MODEL)

        def __init__(self):
            self.file = os.open(MODEL, os.O_RDONLY)

        def read(self, offset, into):
            if slow.is_set():
                slow.clear()
                time.sleep(0.5)
            return os.preadv(self.file, [into], offset)

        def close(self):
            os.close(self.file)

    def count():
        while not done.is_set():
            counted[0] += 1
            done.wait(0.001)

    with f.Model.open_storage(Slow(), memory_budget=BUDGET, io_lanes=1) as own, own.session() as one:
        thread = threading.Thread(target=count)
        slow.set()
        thread.start()
        one.step(5)
        steps = counted[0]
        done.set()
        thread.join()
        session.step(5)
        assert bytes(one.logits) == bytes(session.logits)
    assert steps > 20, steps


def test_two_models_in_two_threads():
    expected = of_program("--tokens", 30)["text"]
    texts = {}

    def tell(name):
        with f.Model(MODEL, memory_budget=BUDGET, threads=1) as model:
            texts[name] = PROMPT + "".join(model.generate(PROMPT, tokens=30))

    threads = [threading.Thread(target=tell, args=(name,)) for name in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == {0: expected, 1: expected}


def test_memory_is_flat_over_100_models():
    """Open, run, see an exception from a callback, close: 100 times, after 5 to warm up."""
    out = run_python("""
        def resident():
            with open("/proc/self/statm") as statm:
                return int(statm.read().split()[1]) * 4096
        def trouble(progress):
            raise KeyError("trouble")
        def once(i):
            with f.Model(model, memory_budget=budget, threads=1, context_tokens=64, verify=f.Verify.NONE,
                         log=lambda level, text: None) as m:
                with m.session() as s:
                    s.eval(m.tokenize("Once upon"))
                    logits = s.logits
                    list(s.generate(tokens=2))
            try:
                f.Model(model, memory_budget=budget, progress=trouble)
            except KeyError as error:
                assert error.args == ("trouble",)
        for i in range(5):
            once(i)
        before = resident()
        for i in range(100):
            once(i)
        print(resident() - before)
    """)
    assert int(out) < 2 << 20, f"{out} bytes more after 100 models"


# ------------------------------------------------------------------------------------------------------------- docs


def test_the_readme_s_examples(tmp_path, monkeypatch, capsys):
    """Both of them, with the bundled checkpoint."""
    text = (BINDING / "README.md").read_text(encoding="utf8")
    blocks = [textwrap.dedent(block) for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, flags=re.M)]
    first, second = (block for block in blocks if "import Error" in block or "model.session()" in block)
    monkeypatch.chdir(tmp_path)
    exec(first.replace("path/to/opt-checkpoint", str(CHECKPOINT)), {})
    printed = capsys.readouterr().out
    assert len(printed) > 100 and re.search(r"[1-9]\d+ bytes read\n$", printed), printed
    with f.Model("model.gguf") as model:
        exec(second, {"model": model})
        whole = "".join(model.generate("Once upon a time", tokens=100 - len(model.tokenize("Once upon a time"))))
        assert capsys.readouterr().out == whole
