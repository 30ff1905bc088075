"""The wheel: built by pip from the checkout, installed into a fresh environment, run from there."""
import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import BINDING, BUDGET, CHECKOUT, CHECKPOINT, MODEL

PROMPT, TEXT = next(iter(json.loads((CHECKPOINT / "card.json").read_text(encoding="utf8"))["greedy"].items()))
HERE = ("FLASHINFER_LIBRARY", "PYTHONPATH", "LD_LIBRARY_PATH")  # of the build that is tested
CLEAN = {name: value for name, value in os.environ.items() if name not in HERE}
PROGRAM = f"""
import libflashinfer as f
prompt = {PROMPT!r}
with f.Model({str(MODEL)!r}, memory_budget={BUDGET}) as model:
    print(f.load(), prompt + "".join(model.generate(prompt, tokens=20)), sep="\\n")
"""


def pip_wheel(source, folder):
    """With the tools that are installed here: nothing is fetched. What is built on the way goes into the folder too, and
    in a hurry: the library is tested elsewhere."""
    settings = folder / "setup.cfg"
    settings.write_text(f"[build]\nbuild_base = {folder}/build\n[egg_info]\negg_base = {folder}\n", encoding="utf8")
    return subprocess.run([sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", folder,
                           source], check=False, capture_output=True, text=True, timeout=300,
                          env={**CLEAN, "DIST_EXTRA_CONFIG": str(settings), "FLASHINFER_MESON_ARGS": "-Doptimization=1"})


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    done = pip_wheel(BINDING, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_what_is_in_it(wheel):
    assert wheel.name.startswith("libflashinfer-0.") and "-py3-none-linux_" in wheel.name
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
        metadata = opened.read(next(name for name in names if name.endswith("METADATA"))).decode()
    files = {name.split("/", 1)[1] for name in names if not name.split("/")[0].endswith(".dist-info")}
    sources = {path.name for path in (BINDING / "libflashinfer").glob("*.py")}
    assert files == sources | {"py.typed", "libflashinfer.so"}
    assert any(name.endswith("/LICENSE") for name in names)
    assert "Requires-Python: >=3.9\n" in metadata
    assert [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra" not in line] == []


def test_it_runs_in_a_fresh_environment(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "pip", "-q", "--python", python, "install", "--no-index", "--no-deps", wheel],
                   check=True, env=CLEAN)
    printed = subprocess.run([python, "-c", PROGRAM], check=True, capture_output=True, text=True, cwd=tmp_path, env=CLEAN)
    path, text = printed.stdout.rstrip("\n").split("\n", 1)
    assert path.startswith(str(tmp_path / "venv")) and TEXT.startswith(text) and len(text) > len(PROMPT) + 20
    assert printed.stderr == ""


def test_the_system_s_library_is_the_last_resort(tmp_path):
    """Without a library of its own the module asks the loader, which knows LD_LIBRARY_PATH."""
    shutil.copytree(BINDING / "libflashinfer", tmp_path / "libflashinfer", ignore=shutil.ignore_patterns("*.so"))
    built = os.path.dirname(os.environ["FLASHINFER_LIBRARY"])
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path,
                          env={**CLEAN, "LD_LIBRARY_PATH": built})
    assert done.stdout.startswith(f"libflashinfer.so.0\n{PROMPT}")
    if not any(os.path.exists(f"{folder}/libflashinfer.so.0") for folder in ("/usr/local/lib", "/usr/lib/x86_64-linux-gnu")):
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, env=CLEAN)
        assert "LibraryNotFound: cannot load libflashinfer.so.0" in done.stderr


def test_the_folder_alone_says_what_is_missing(tmp_path):
    alone = tmp_path / "some" / "where" / "python"
    shutil.copytree(BINDING, alone, symlinks=True, ignore=shutil.ignore_patterns("build", "tests", "*.egg-info", "*.so"))
    done = pip_wheel(alone, tmp_path)
    assert done.returncode != 0 and not list(tmp_path.glob("*.whl"))
    assert f"C sources are missing: there is no meson.build, meson_options.txt, include/flashinfer.h, lib/flashinfer.map in " \
           f"{tmp_path / 'some'}" in done.stdout + done.stderr
    assert "pip install CHECKOUT/bindings/python" in done.stdout + done.stderr
    assert (CHECKOUT / "meson.build").exists()
