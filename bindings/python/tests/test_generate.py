"""A generation ends whenever it is wanted to, stops the call that runs, and gives its session back: threads and asyncio."""
import asyncio
import copy
import gc
import re
import textwrap
import threading
import time

import pytest
from conftest import BINDING, BUDGET, MODEL, SOON, Slow

import libflashinfer as f

PROMPT = "Once upon a time"


@pytest.fixture
def model():
    """One session at a time: a place that is not given back is missed."""
    with f.Model(MODEL, memory_budget=BUDGET) as opened:
        yield opened


@pytest.fixture
def expected(model):
    return "".join(model.generate(PROMPT, tokens=20))


@pytest.fixture
def slow():
    """A model whose steps take 20 seconds once told so, and its storage."""
    storage = Slow()
    with f.Model.open_storage(storage, memory_budget=BUDGET, io_lanes=1, threads=1) as opened:
        yield opened, storage
        storage.late = False


NO_PLACE = "EBUDGET|ESESSIONS"  # what a library says whose sessions all exist


def is_free(model):
    try:
        model.session().close()
    except f.Error as error:
        assert re.search(NO_PLACE, error.name)
        return False
    return True


def begun(model, **options):
    """A generation that holds the only session, and its first piece."""
    pieces = model.generate(PROMPT, **options)
    first = next(pieces)
    assert first and not is_free(model)
    return pieces


# ------------------------------------------------------------------------------------------------- how it is begun


def test_mistakes_fail_at_the_call(model):
    with model.session() as session:
        for generate in (model.generate, session.generate, model.agenerate, session.agenerate):
            with pytest.raises(TypeError, match="no such option: temprature; did you mean temperature?"):
                generate(PROMPT, temprature=0.8)
            with pytest.raises(TypeError, match=r"option: max_tokens; did you mean tokens\? there are top_k,.*, sampler$"):
                generate(PROMPT, max_tokens=5)
            with pytest.raises(TypeError, match="no such option: verbosity; there are"):
                generate(PROMPT, verbosity=5)
            with pytest.raises(f.Error, match="EINVAL.*temperature"):
                generate(PROMPT, temperature=-1.0)
            with f.Sampler(4096) as sampler, pytest.raises(TypeError, match="not both"):
                generate(PROMPT, sampler=sampler, top_k=3)
            with pytest.raises(ValueError, match="Sampler is closed"):
                generate(PROMPT, sampler=sampler)
            with pytest.raises(ValueError, match="tokens must be from 0"):
                generate(PROMPT, tokens=-1)


def test_bytes_are_text(model):
    assert "".join(model.generate(PROMPT.encode(), tokens=5)) == "".join(model.generate(PROMPT, tokens=5))


# -------------------------------------------------------------------------------------------------- how it is ended


def test_it_takes_no_place_before_it_begins(model):
    pieces = model.generate(PROMPT, tokens=3)
    assert is_free(model)
    pieces.close()
    assert list(pieces) == []


@pytest.mark.parametrize("end", [
    lambda pieces: pieces.close(), lambda pieces: pieces.cancel(), lambda pieces: list(pieces),
    lambda pieces: pytest.raises(KeyError, pieces.throw, KeyError("x")),
    lambda pieces: pytest.raises(GeneratorExit, pieces.throw, GeneratorExit)])
def test_the_session_is_free_afterwards(model, end):
    pieces = begun(model, tokens=5)
    end(pieces)
    assert is_free(model)
    pieces.close()


def test_dropping_it_frees_the_session_at_once(model):
    gc.disable()
    try:
        pieces = begun(model)
        del pieces
        assert is_free(model)
        for piece in model.generate(PROMPT):
            assert piece
            break
        assert is_free(model)
    finally:
        gc.enable()


def test_an_exception_of_a_callback_frees_the_session():
    def trace(_trace):
        if armed:
            raise KeyError("trace")
    armed = []
    with f.Model(MODEL, memory_budget=BUDGET, trace=trace) as model:
        pieces = begun(model)
        armed.append(1)
        with pytest.raises(KeyError):
            list(pieces)
        assert is_free(model) and list(pieces) == []


def test_cancelled_is_not_the_end_of_the_text(model):
    for pieces in (begun(model), model.generate(PROMPT)):
        pieces.cancel()
        with pytest.raises(f.Error) as caught:
            next(pieces)
        assert caught.value.code is f.ErrorCode.ECANCELED and is_free(model)
        assert list(pieces) == []


def test_a_session_that_was_given_goes_on(model, expected):
    with model.session() as session:
        pieces = session.generate(PROMPT, tokens=20)
        text = next(pieces)
        pieces.cancel()
        with pytest.raises(f.Error, match="ECANCELED"):
            next(pieces)
        left = 20 - len(model.tokenize(text, bos=False))
        assert text + "".join(session.generate(tokens=left)) == expected


def test_a_late_cancel_stops_nobody_else(model, expected):
    with model.session() as session:
        pieces = session.generate(PROMPT, tokens=3)
        text = "".join(pieces)
        pieces.cancel()
        pieces.close()
        assert text + "".join(session.generate(tokens=17)) == expected


# ------------------------------------------------------------------------------------------------------ from outside


@pytest.mark.parametrize("end", ["cancel", "close"])
def test_another_thread_ends_a_running_call(slow, end):
    model, storage = slow
    pieces, seen = model.generate("Once"), []

    def iterate():
        try:
            seen.extend(pieces)
        except f.Error as error:
            seen.append(error.code)

    storage.late = True
    thread = threading.Thread(target=iterate)
    thread.start()
    while pieces._iterator is None:
        time.sleep(0.01)
    time.sleep(0.3)  # in a call by now, most likely; if not, the call is not begun
    started = time.monotonic()
    with pytest.raises(ValueError, match="iterated already"):
        next(pieces)
    getattr(pieces, end)()
    if end == "close":
        storage.late = False  # it has waited: nothing is left to do
        assert is_free(model)
    thread.join()
    storage.late = False
    assert time.monotonic() - started < SOON and seen == [f.ErrorCode.ECANCELED] and is_free(model)


@pytest.mark.parametrize("end", ["cancel", "close"])
def test_a_callback_of_its_own_ends_it(end):
    pieces = None

    def trace(given):
        if pieces is not None and given.step > 8:
            getattr(pieces, end)()
    with f.Model(MODEL, memory_budget=BUDGET, trace=trace) as model:
        pieces = model.generate(PROMPT)
        with pytest.raises(f.Error, match="ECANCELED"):
            list(pieces)
        assert model.stats.tokens < 10 and is_free(model)
        pieces = None


def test_ended_at_any_moment(model, expected):
    """Wherever the cancel comes, the session is free afterwards and the next generation is whole."""
    for number in range(40):
        pieces = model.generate(PROMPT)
        timer = threading.Timer(0.0003 * number, pieces.cancel)
        timer.start()
        with pytest.raises(f.Error, match="ECANCELED"):
            for _ in pieces:
                pass
        timer.join()
        assert is_free(model)
    assert "".join(model.generate(PROMPT, tokens=20)) == expected


# ----------------------------------------------------------------------------------------------------------- asyncio


async def text_of(pieces):
    return "".join([piece async for piece in pieces])


def test_the_same_text_with_asyncio(model, expected):
    async def main():
        with model.session() as session:
            assert await text_of(session.agenerate(PROMPT, tokens=20)) == expected
        return await text_of(model.agenerate(PROMPT, tokens=20, temperature=0))
    assert asyncio.run(main()) == expected and is_free(model)
    assert not [one for one in threading.enumerate() if one.name.startswith("libflashinfer generation") and alive(one)]


def alive(thread):
    thread.join(SOON)
    return thread.is_alive()


def test_a_cancelled_task_stops_the_call_and_frees_the_session(slow):
    model, storage = slow

    async def main():
        storage.late = True
        task = asyncio.ensure_future(text_of(model.agenerate("Once")))
        ticks = 0
        while ticks < 30:  # the loop runs on
            await asyncio.sleep(0.01)
            ticks += 1
        assert not task.done()
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        storage.late = False
        assert time.monotonic() - started < SOON and is_free(model)  # at once: the task has waited for it
    asyncio.run(main())


def test_a_task_with_a_time_limit(slow):
    model, storage = slow

    async def main():
        storage.late = True
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(text_of(model.agenerate("Once")), 0.2)
        storage.late = False
        assert is_free(model)
        assert len(await text_of(model.agenerate("Once", tokens=4))) > 4
    asyncio.run(main())


def test_leaving_the_loop_frees_the_session(model, expected):
    async def main():
        async with model.agenerate(PROMPT) as pieces:
            async for piece in pieces:
                assert expected.startswith(piece) and not is_free(model)
                break
        assert is_free(model)
        assert await text_of(pieces) == ""
        async for piece in model.agenerate(PROMPT):
            break  # dropped: its own thread frees it
        for _ in range(1000):
            if is_free(model):
                return
            await asyncio.sleep(0.01)
        pytest.fail("the session is held")
    asyncio.run(main())


def test_errors_come_to_the_task(model):
    async def main():
        with model.session():
            with pytest.raises(f.Error, match=NO_PLACE):
                await text_of(model.agenerate(PROMPT))
        pieces = model.agenerate(PROMPT)
        await pieces.__anext__()
        pieces.cancel()
        with pytest.raises(f.Error, match="ECANCELED"):
            await text_of(pieces)
        assert is_free(model)
        never_begun = model.agenerate(PROMPT)
        await never_begun.aclose()
        await never_begun.aclose()
    asyncio.run(main())


def test_several_at_once():
    with f.Model(MODEL, context_tokens=64, session_count=3) as model:
        prompts = ("Once", "There", "A little")
        alone = ["".join(model.generate(prompt, tokens=8)) for prompt in prompts]

        async def main():
            return await asyncio.gather(*[text_of(model.agenerate(prompt, tokens=8)) for prompt in prompts])
        assert asyncio.run(main()) == alone


def test_the_recipe_of_the_readme(tmp_path, monkeypatch, capsys):
    """As it stands there; tests/docs runs it as well."""
    text = (BINDING / "README.md").read_text(encoding="utf8")
    recipe = next(block for block in re.findall(r"```python\n(.*?)```", text, flags=re.S) if "agenerate" in block)
    (tmp_path / "model.gguf").symlink_to(MODEL)
    monkeypatch.chdir(tmp_path)
    exec(textwrap.dedent(recipe), {"__name__": "__main__"})
    assert len(capsys.readouterr().out) > 20


# ------------------------------------------------------------------------------------------------------------ copies


def test_nothing_that_is_one_thing_is_copied(model):
    import pickle
    with model.session() as session, model.decoder() as decoder, f.Sampler(4) as sampler, f.Order(1, 2) as order:
        things = [model, session, decoder, sampler, order, f.PredictorMaker(model), model.generate("x"), model.agenerate("x")]
        closed = f.Sampler(4)
        closed.close()
        for thing in [*things, closed]:
            for copier in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(TypeError, match=f"a {type(thing).__name__} cannot be copied or pickled: share"):
                    copier(thing)
        assert pickle.loads(pickle.dumps(model.info)) == copy.deepcopy(model.info) == model.info
        assert copy.copy(model.plan) == model.plan
    try:
        model.verify()
        raise f.Error(-7, "text", 3, None, 5)
    except f.Error as error:
        again = pickle.loads(pickle.dumps(error))
        assert (again.code, again.text, again.layer, again.offset) == (f.ErrorCode.EBUDGET, "text", 3, 5)
