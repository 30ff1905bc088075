"""What the tests share: the bundled model, packed, and programs of a child Python.

FLASHINFER_LIBRARY, FLASHINFER_TEST_MODEL and FLASHINFER_TEST_PROGRAMS are set by meson; without meson they are those in
build/, and `make demo` makes them.
"""
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

BINDING = Path(__file__).resolve().parents[1]
CHECKOUT = BINDING.parents[1]
BUILD = CHECKOUT / "build"
sys.path.insert(0, str(BINDING))
os.environ.setdefault("FLASHINFER_LIBRARY", str(BUILD / "libflashinfer.so"))
os.environ["PYTHONPATH"] = str(BINDING)
PROGRAMS = Path(os.environ.get("FLASHINFER_TEST_PROGRAMS", BUILD / "examples"))
CHECKPOINT = CHECKOUT / "examples/models/fable-14m"
MODEL = Path(os.environ.get("FLASHINFER_TEST_MODEL", BUILD / "fable-14m.gguf"))
BUDGET = 32 << 20

import libflashinfer  # noqa: E402


@pytest.fixture
def model_path():
    return str(MODEL)


@pytest.fixture(scope="module")
def model():
    with libflashinfer.Model(MODEL, memory_budget=BUDGET, session_count=2) as opened:
        yield opened


@pytest.fixture
def session(model):
    with model.session() as opened:
        yield opened


def start_python(text, *arguments, **environment):
    """A Python of its own that runs a text, in which `model` is the bundled model's path."""
    program = f"import sys\nmodel, budget = {str(MODEL)!r}, {BUDGET}\nimport libflashinfer as f\n" + textwrap.dedent(text)
    return subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})


def run_python(text, *arguments, **environment):
    """What it printed; anything on stderr is a failure."""
    process = start_python(text, *arguments, **environment)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, ""), err
    return out


SOON = 5  # seconds, on a busy machine


class Slow(libflashinfer.Storage):
    """The model's bytes, 5 ms late once told so: the reads of one step take 20 seconds, those in flight a third of one."""

    def __init__(self):
        self.file, self.length_bytes, self.late = os.open(MODEL, os.O_RDONLY), os.path.getsize(MODEL), False

    def read(self, offset, into):
        if self.late:
            time.sleep(0.005)
        return os.preadv(self.file, [into], offset)

    def close(self):
        os.close(self.file)
