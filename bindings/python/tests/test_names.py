"""docs/bindings.md lists every call of the C interface and of both bindings, with one name for one thing."""
import inspect
import re

from conftest import CHECKOUT

import libflashinfer as f
from libflashinfer import _ffi

PAGE = (CHECKOUT / "docs" / "bindings.md").read_text(encoding="utf8")
RUST = {path.name: path.read_text(encoding="utf8") for path in (CHECKOUT / "bindings/rust/libflashinfer/src").glob("*.rs")}
NOT_CALLED = {name for name in _ffi.FUNCTIONS if name.endswith("_init")}  # what a host in C does with its structs
OPTIONS = re.compile(r"Options$|^TokenizeFlags$")
INSIDE = {"Host", "Callbacks", "Inner", "Outcome"}  # not public, whatever their methods are
FIELDS = {"Trace", "ProbeResult"}  # Rust's methods for what is an attribute in Python


def rows(title):
    """Of a section's table: the names between backticks in each cell, and the cells as text."""
    section = PAGE.split(f"## {title}\n", 1)[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    for line in lines[2:]:
        cells = [cell.strip() for cell in line[1:-1].split("|")]
        yield [re.findall(r"`([^`]+)`", cell) for cell in cells], cells


CALLS = list(rows("Calls"))
OLD = list(rows("Old names"))


def of(column):
    found = [name for names, _ in CALLS for name in names[column]]
    assert len(found) == len(set(found)), "named twice"
    return set(found)


def of_python():
    """Public functions, and what is public in classes; old names left out."""
    old = {name for names, _ in OLD for name in names[0]} | {"PredictorMaker.copy"}
    for name in f.__all__:
        one = getattr(f, name)
        if inspect.isfunction(one):
            yield name
        elif inspect.isclass(one) and not issubclass(one, (int, dict, f.Storage)):
            for base in one.__mro__:
                for method, value in vars(base).items() if base.__module__.startswith("libflashinfer") else ():
                    public = not method.startswith("_") and (callable(value) or isinstance(value, (property, classmethod)))
                    if public and method != "closed" and f"{name}.{method}" not in old:
                        yield f"{name}.{method}"


def of_rust():
    """Public functions and methods, those of options left out, and deprecated ones."""
    for text in RUST.values():
        text = re.split(r"#\[cfg\(test\)\]\nmod tests", text)[0]
        owner, deprecated = None, False
        for line in text.splitlines():
            begun = re.match(r"impl(?:<[^>]*>)? (\w+)(?:<[^>]*>)? \{", line)
            if begun or line == "}":
                owner = begun[1] if begun else None
            made = re.match(r"( *)pub (?:unsafe )?fn (\w+)", line)
            if made and not deprecated and (owner or not made[1]) and not (owner and OPTIONS.search(owner)):
                yield f"{owner}::{made[2]}" if owner else made[2]
            deprecated = "#[deprecated" in line or deprecated and line.strip().startswith("#")


def test_every_call_of_c_is_in_the_table():
    assert of(0) == {name[len("flashinfer_"):] for name in set(_ffi.FUNCTIONS) - NOT_CALLED}


def test_every_call_of_python_is_in_the_table():
    classes = {name for name in of(1) if "." not in name and inspect.isclass(getattr(f, name))}
    assert classes == {"Error", "Model", "Sampler", "PredictorMaker", "Order"}
    assert of(1) - classes - {"Budget"} == set(of_python())


def test_every_call_of_rust_is_in_the_table():
    found = {name for name in of_rust() if name.split("::")[0] not in FIELDS | INSIDE}
    assert of(2) == found | {"ProbeResult::save", "ProbeResult::load", "Budget"}
    assert len(found) > 45


def test_one_thing_has_one_name():
    """Unless the table says why."""
    for names, cells in CALLS:
        if not cells[3]:
            assert [name.replace(".", "::") for name in names[1]] == names[2] and names[1], cells
    assert sum(not cells[3] for _, cells in CALLS) > 35


def test_old_names_are_marked():
    text = "\n".join(RUST.values())
    for names, cells in OLD:
        old = names[0][0].split("::")[-1]
        if cells[0].startswith("Rust"):
            assert re.search(rf"#\[deprecated\(note = .*\n(?:#\[.*\n)*\s*pub (?:fn|type|struct) {old}\b", text), old
        new = names[1][0]
        assert new in of(1) | of(2) | set(f.__all__) | {"TokenizeOptions"}, new
    assert len(OLD) == 11
