"""What a programmer's tools see: help() and type checkers; and the names that were."""
import array
import inspect
import os
import pydoc
import re
import shutil
import subprocess
import sys
import textwrap

import pytest
from conftest import BINDING, BUDGET, MODEL

import libflashinfer as f

OPTIONS = [name for name in f.__all__ if name.endswith("Options")]
LISTED = re.compile(r"^(\w+) \((.+), (\w+)\): (.+)$", flags=re.M)
TYPES = {"Budget": "int or str", "LogFunction": "function of LogLevel and str", "ProgressFunction": "function of Progress",
         "ProbeRecord": "ProbeResult", "Path": "path", "LogitBiases": "dict or pairs"}
UNITS = {"_ms": "milliseconds", "_bytes": "bytes|file", "_tokens": "tokens", "memory_budget": "bytes"}

# ------------------------------------------------------------------------------------------------------------- help


def listed(keywords):
    """name: (type, default, text) as the docstring has them."""
    return {name: (kind, default, text) for name, kind, default, text in LISTED.findall(inspect.cleandoc(keywords.__doc__))}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_documented(name):
    keywords = getattr(f, name)
    about = listed(keywords)
    assert list(about) == list(keywords.__annotations__)
    for option, (kind, default, text) in about.items():
        annotation = keywords.__annotations__[option].__forward_arg__
        called = re.fullmatch(r"Callable\[\[(\w+)\], object\]", annotation)
        expected = f"function of {called[1]}" if called else TYPES.get(annotation, annotation)
        assert kind == ("OpenFlags" if option == "flags" else expected)
        assert default == {"bool": "False", "int": "0", "float": "0", "Budget": "0"}.get(
            annotation, "DEFAULT" if annotation[0].isupper() and hasattr(getattr(f, annotation, None), "DEFAULT") else "None")
        for unit, words in UNITS.items():
            assert not option.endswith(unit) or re.search(words, text), option


@pytest.mark.parametrize("taker, name", [(f.Model, "ModelOptions"), (f.Sampler, "SamplerOptions"), (f.pack, "PackOptions"),
                                         (f.probe, "ProbeOptions")])
def test_help_lists_the_options(taker, name):
    text = pydoc.render_doc(taker, renderer=pydoc.plaintext)
    for option, (kind, default, about) in listed(getattr(f, name)).items():
        assert f"{option} ({kind}, {default}): {about}" in text


def test_all_that_is_public_says_what_it_is():
    for name in f.__all__:
        one = getattr(f, name)
        simple = inspect.isclass(one) and (issubclass(one, int) or hasattr(one, "__dataclass_fields__"))
        assert simple or name == "Budget" or one.__doc__, name
    for option in ("ModelOptions", "SamplerOptions"):
        assert option in f.__all__


# ------------------------------------------------------------------------------------------------------------ mypy


def mypy():
    """The command, with the mypy that .ci/setup has installed or one that is there."""
    found = os.environ.get("FLASHINFER_MYPY", str(BINDING.parents[1] / "build-check-mypy"))
    environment = {**os.environ, "PYTHONPATH": found}
    for python in ("/usr/bin/python3", sys.executable):
        tried = subprocess.run([python, "-m", "mypy", "--version"], env=environment, capture_output=True, check=False)
        if tried.returncode == 0:
            return [python, "-m", "mypy", "--no-error-summary"], environment
    return pytest.skip(f"no mypy in {found}: .ci/setup check installs it")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("mypy")


def complaints(cache, *arguments, **keywords):
    command, environment = mypy()
    done = subprocess.run([*command, "--cache-dir", cache, *arguments], env=environment, capture_output=True, text=True,
                          check=False, timeout=300, **keywords)
    assert not done.stderr, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module", params=["with numpy", "without numpy"])
def installed(request, tmp_path_factory):
    """The Python of an environment that the package is installed into, as a user has it."""
    folder = tmp_path_factory.mktemp("venv")
    site = ["--system-site-packages"] if request.param == "with numpy" else []
    subprocess.run([mypy()[0][0], "-m", "venv", "--without-pip", *site, folder], check=True)
    shutil.copytree(BINDING / "libflashinfer", next((folder / "lib").glob("python3*")) / "site-packages" / "libflashinfer",
                    ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    return folder / "bin" / "python"


def test_the_module_itself(cache):
    assert complaints(cache, "--config-file", "pyproject.toml", cwd=BINDING) == []


USER = '''
from __future__ import annotations

import array
import asyncio

import libflashinfer as f


def tell(model: f.Model, prompt: str, **options: object) -> str:
    pieces: list[str] = []
    with model.session() as session, model.decoder() as decoder, f.Sampler(model.info.vocab_count, seed=7) as sampler:
        session.eval(model.tokenize(prompt))
        state: bytes = session.save_state()
        session.load_state(bytearray(state))
        logits = session.logits
        if logits is not None:
            best = int(logits.argmax())
            session.step(logits.argmax())
            largest: float = float(logits.max())
            chosen: int = sampler.sample(logits)
            chosen = sampler.sample(logits[::2].copy())
            again = sampler.copy()
            again.load_state(sampler.save_state())
            likeliest: list[tuple[int, float]] = [(token, value) for token, value in session.logprobs(best, chosen, top=3)]
            largest = max(largest, session.logprobs(top=1)[0].logprob, likeliest[0][1])
            chosen = sampler.sample(array.array("f", [1.0, largest]))
            pieces.append(decoder.push(best) + decoder.push(chosen) + decoder.finish())
        session.eval(array.array("i", [5]))
    generation = model.generate(prompt, tokens=5, temperature=0.5, stop=["\\n", "."], logit_biases={5: -1.0, 6: float("-inf")})
    pieces += generation
    generation.cancel()
    return "".join(pieces)


async def stream(model: f.Model) -> str:
    async with model.agenerate("Once", tokens=3, seed=1) as pieces:
        return "".join([piece async for piece in pieces])


def watch(trace: f.Trace) -> None:
    print(trace.layer, int(trace.ids.sum()))


options: f.ModelOptions = {"memory_budget": "50%", "kv_type": f.KvType.F16, "trace": watch}
options["threads"] = 2
with f.Model("model.gguf", **options) as model:
    print(tell(model, "Once"), asyncio.run(stream(model)), model.plan.predictor is f.PredictorKind.EXACT)
    model.set_budget("1.5G")
    model.set_budget(1 << 30)
    model.generate("x", stop="END", logit_biases=[(5, 1.5)])
    model.generate("x", tokens="5")  # type: ignore[arg-type]
    model.generate("x", stop=b"END")  # type: ignore[arg-type]
    model.generate("x", logit_biases=[5])  # type: ignore[list-item]
    model.generate("x", temprature=0.5)  # type: ignore[call-arg]
    model.set_budget(0.5)  # type: ignore[arg-type]
f.Model("model.gguf", memory_budget=0.5)  # type: ignore[arg-type]
f.Model("model.gguf", budget=5)  # type: ignore[call-arg]
f.Model("model.gguf", kv_type=f.Dtype.F16)  # type: ignore[arg-type]
f.nothing_of_this_name  # type: ignore[attr-defined]
'''


def test_a_user_s_program(cache, installed, tmp_path):
    """Strict: an ignore[] that nothing needs is an error, so what is wrong there is found to be."""
    (tmp_path / "user.py").write_text(USER, encoding="utf8")
    assert complaints(cache, "--strict", "--python-executable", installed, "user.py", cwd=tmp_path) == []


def test_the_readme_s_programs(cache, installed, tmp_path):
    text = (BINDING / "README.md").read_text(encoding="utf8")
    whole = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    rest = re.sub(r"```.*?```", "", text, flags=re.S)
    for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", rest, flags=re.M):
        if "import Error" in block:
            whole.append(textwrap.dedent(block))
        elif "model.session()" in block:
            whole.append("from libflashinfer import Model\ndef use(model: Model) -> None:\n" + block)
    assert len(whole) == 3
    for number, program in enumerate(whole):
        (tmp_path / f"program{number}.py").write_text(program, encoding="utf8")
        assert complaints(cache, "--strict", "--python-executable", installed, f"program{number}.py", cwd=tmp_path) == []


# ------------------------------------------------------------------------------------------------------- old names


def test_old_names_work_and_say_so():
    with pytest.warns(DeprecationWarning, match="libflashinfer.Predictors is now called libflashinfer.PredictorKind"):
        assert f.Predictors is f.PredictorKind
    with pytest.warns(DeprecationWarning, match="PredictorMaker"):
        assert f.Predictor is f.PredictorMaker
    with pytest.warns(DeprecationWarning, match="TensorInfo"):
        assert f.Tensor is f.TensorInfo
    with pytest.raises(AttributeError, match="no attribute 'Tensors'"):
        f.Tensors
    with f.Model(MODEL, memory_budget=BUDGET) as model, model.session() as session, model.decoder() as decoder:
        session.step(5)
        with pytest.warns(DeprecationWarning, match="save_state"):
            state = session.save()
        with pytest.warns(DeprecationWarning, match="load_state"):
            session.load(state)
        assert session.position == 1 and array.array("b", state) == array.array("b", session.save_state())
        text = model.tokenize("é🌍", bos=False)
        for end, words in ((decoder.end, r"Decoder\.finish"), (lambda: decoder.push(-1), r"Decoder\.finish")):
            decoder.push(text[0])
            with pytest.warns(DeprecationWarning, match=words) as caught:
                end()
            assert caught[0].filename == __file__
        with pytest.warns(DeprecationWarning, match="copy_of"):
            f.PredictorMaker.copy(model).close()
