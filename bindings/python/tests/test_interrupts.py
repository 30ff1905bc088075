"""Ctrl-C: it ends a call at once, is raised where it should be, and leaves everything usable and as it was."""
import os
import select
import signal
import threading
import time

import pytest
from conftest import BUDGET, MODEL, SOON, Slow

import libflashinfer as f
from libflashinfer import _calls

class CtrlC:
    """Sends SIGINT a while after the with statement has begun, and says how long after that it ended."""

    def __enter__(self):
        self.sent = None
        self.timer = threading.Timer(0.3, self.send)
        self.timer.start()
        return self

    def send(self):
        self.sent = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)

    def __exit__(self, *_exception):
        self.seconds = time.monotonic() - self.sent if self.sent is not None else None
        self.timer.cancel()
        self.timer.join()


@pytest.fixture(autouse=True)
def handler():
    """Sets SIGINT's handler, Python's own to begin with: a shell may have started the tests with one that ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda new: signal.signal(signal.SIGINT, new)
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def slow():
    """A model in slow storage that has nothing cached, its session, and the storage."""
    storage = Slow()
    with f.Model.open_storage(storage, memory_budget=BUDGET, io_lanes=1, threads=1) as model, model.session() as session:
        storage.late = True
        yield storage, session
        storage.late = False


@pytest.fixture
def expected():
    with f.Model(MODEL, memory_budget=BUDGET) as model, model.session() as session:
        session.step(5)
        return bytes(session.logits)


def test_a_step_ends_at_once(slow, expected):
    storage, session = slow
    with CtrlC() as ctrl_c, pytest.raises(KeyboardInterrupt):
        session.step(5)
    assert ctrl_c.seconds < SOON, ctrl_c.seconds
    assert session.position == 0 and session.logits is None
    storage.late = False
    session.step(5)  # what is left of it stops nothing
    assert (session.position, bytes(session.logits)) == (1, expected)


def test_a_prompt_ends_at_once(slow):
    storage, session = slow
    with CtrlC() as ctrl_c, pytest.raises(KeyboardInterrupt):
        session.eval([5] * 200)
    assert ctrl_c.seconds < SOON, ctrl_c.seconds
    storage.late = False
    session.rewind()
    session.eval([5] * 40)
    assert session.position == 40


@pytest.mark.parametrize("late", [False, True])
def test_a_signal_just_before_a_call(slow, monkeypatch, late):
    """Before a call is begun it is not begun; as it enters the library, which knows of no call yet, it ends all the same."""
    def interrupted(*arguments):
        begun = begin(*arguments) if not late else None
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)  # whoever cancels at once has done so, too early
        return begin(*arguments) if late else begun

    place, name = (_calls, "attempt") if late else (_calls.WATCHER, "begin")
    begin = getattr(place, name)
    monkeypatch.setattr(place, name, interrupted)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        slow[1].step(5)
    assert slow[1].position == 0 and time.monotonic() - started < SOON
    monkeypatch.undo()
    slow[0].late = False
    slow[1].step(5)


def test_opening_and_packing_end(tmp_path):
    storage = Slow()
    storage.late = True
    with CtrlC() as ctrl_c, pytest.raises(KeyboardInterrupt):
        f.Model.open_storage(storage, memory_budget=BUDGET, io_lanes=1)
    assert ctrl_c.seconds < SOON, ctrl_c.seconds
    storage.close()
    with CtrlC(), pytest.raises(KeyboardInterrupt):
        while True:
            f.plan_file(MODEL)
    assert f.plan_file(MODEL).slots > 0


def test_a_callback_is_interrupted(expected):
    """As any Python code is, even if it would never return to the library."""
    def wait(_trace):
        if not done:
            done.append(True)
            time.sleep(60)

    done = []
    with f.Model(MODEL, memory_budget=BUDGET, trace=wait) as model, model.session() as session:
        with CtrlC() as ctrl_c, pytest.raises(KeyboardInterrupt):
            session.step(5)
        assert ctrl_c.seconds < SOON and session.position == 0
        session.step(5)
        assert bytes(session.logits) == expected


def test_generate_can_go_on():
    with f.Model(MODEL, memory_budget=BUDGET) as model:
        whole, pieces = "".join(model.generate("Once upon a time", tokens=30)), []
        with model.session() as session:
            pause, steps = session.step, []

            def step(token):
                steps.append(token)
                if len(steps) == 10:
                    raise KeyboardInterrupt
                pause(token)
            session.step = step
            with pytest.raises(KeyboardInterrupt):
                for piece in session.generate("Once upon a time", tokens=30):
                    pieces.append(piece)
            pieces += session.generate(tokens=20)
        assert "".join(pieces) == whole


def test_a_handler_of_the_host_s_runs(slow, handler):
    seen = []
    handler(lambda number, _frame: seen.append(number))
    _, session = slow
    with CtrlC() as ctrl_c, pytest.raises(f.Error) as caught:
        session.step(5)
    assert caught.value.code is f.ErrorCode.ECANCELED and seen == [signal.SIGINT] and ctrl_c.seconds < SOON


def test_ignored_is_ignored(slow, handler):
    handler(signal.SIG_IGN)
    storage, session = slow
    threading.Timer(0.8, lambda: setattr(storage, "late", False)).start()
    with CtrlC() as ctrl_c:
        session.step(5)
    assert session.position == 1 and ctrl_c.seconds > 0.3


def test_everything_is_put_back(slow):
    """The handler, and the host's wake-up descriptor, which hears of the signal too: asyncio needs it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before, descriptor = signal.getsignal(signal.SIGINT), signal.set_wakeup_fd(writer)
    try:
        with CtrlC(), pytest.raises(KeyboardInterrupt):
            slow[1].step(5)
        assert signal.getsignal(signal.SIGINT) is before
        assert signal.set_wakeup_fd(writer) == writer
        assert select.select([reader], [], [], 5)[0] and os.read(reader, 9) == bytes([signal.SIGINT])
    finally:
        signal.set_wakeup_fd(descriptor)
        os.close(reader)
        os.close(writer)


def test_another_thread_s_call_goes_on(slow):
    storage, session = slow
    done = threading.Event()
    threading.Thread(target=lambda: (session.step(5), done.set())).start()
    with CtrlC(), pytest.raises(KeyboardInterrupt):
        done.wait()
    assert not done.is_set()
    storage.late = False
    assert done.wait(60) and session.position == 1


def test_after_a_fork(slow):
    """A forked process has no watcher of its own yet; its model is opened there."""
    slow[0].late = False
    slow[1].step(5)  # so that there is a watcher here
    child = os.fork()
    if child == 0:
        code = 1
        try:
            storage = Slow()
            model = f.Model.open_storage(storage, memory_budget=BUDGET, io_lanes=1, threads=1)
            session, storage.late = model.session(), True
            with CtrlC() as ctrl_c, pytest.raises(KeyboardInterrupt):
                session.step(5)
            code = 0 if ctrl_c.seconds < SOON else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_at_any_moment(expected):
    """Wherever Ctrl-C comes, in a call or between two, it is raised once and stops nothing that comes later."""
    with f.Model(MODEL, memory_budget=BUDGET) as model, model.session() as session:
        for number in range(25):
            timer = threading.Timer(0.002 + number * 0.0007, os.kill, (os.getpid(), signal.SIGINT))
            with pytest.raises(KeyboardInterrupt):
                timer.start()
                while True:
                    session.rewind()
                    session.step(7)
                    session.eval([7] * 40)
            timer.join()
            session.rewind()
            session.step(5)
            assert bytes(session.logits) == expected
