#!/usr/bin/env python3
"""There is a page for every function, type and program and for nothing else, each clean by mandoc; a struct's page has words for
each of its fields, libflashinfer(3) for each constant, and programs' pages tell what the programs themselves do.

What there is comes from the compiler's view of the headers, not from what the pages were made by. That header, version
script and exported symbols agree is looked at by tests/abi/check_library.py.

usage: check_man.py ROOT MAN_DIR PROGRAMS_DIR MAP_FILE
"""
import glob
import os
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "abi"))
from abi import constants_of, declarations_of, structs_of, text_of as compiled_text  # noqa: E402


def names(man, section):
    return {os.path.basename(path)[:-2] for path in glob.glob(f"{man}/man{section}/*.{section}")}


def scripted(map_file):
    with open(map_file, encoding="utf8") as file:
        return set(re.findall(r"(flashinfer_\w+);", re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)))


def text_of(path):
    with open(path, encoding="utf8") as file:
        return file.read()


def programs(folder):
    return {os.path.basename(path) for path in glob.glob(f"{folder}/flashinfer-*") if os.path.isfile(path)}


def options(text):
    return set(re.findall(r"--[a-z][a-z-]*", text))


def check_program(page, program):
    done = subprocess.run([program, "--help"], check=True, capture_output=True, text=True)
    told = options(text_of(page).replace("\\-", "-"))
    known = options(done.stdout)
    return [f"{page} and --help differ in {name}" for name in sorted(told ^ known)] + \
           ([] if known else [f"{program} --help names no option"])


class Public:
    """What the headers declare, as the compiler sees it."""

    def __init__(self, include):
        text = compiled_text(include)
        self.fields = structs_of(text)
        self.constants = [name for name in constants_of(include, text) if not name.endswith("_")]
        declared = declarations_of(text)
        self.functions = {name: what for name, what in declared.items() if not what.startswith("typedef")}
        self.callbacks = {name: what for name, what in declared.items() if what.startswith("typedef")}
        handles = re.findall(r"typedef struct (\w+) \w+;", text)
        self.types = self.fields.keys() | self.callbacks.keys() | set(handles)


def terms(page):
    """Name -> the line after it, of a list's terms."""
    return dict(re.findall(r"^\.It (?:Fa|Dv|Xr) (\S+).*\n(.*)", page, flags=re.M))


def unexplained(man, section, wanted):
    told = terms(text_of(f"{man}/man3/{section}.3"))
    return [f"{section}(3) has no words for {name}" for name in wanted
            if told.get(name, "").removeprefix("\\&").strip() == "" or told[name].startswith((".It", ".El"))]


def check_types(man, public):
    """Fields, parameters and constants have words; a function's page leads to the pages of its types."""
    problems = []
    for name, fields in public.fields.items():
        problems += unexplained(man, name, fields)
    for name, what in public.callbacks.items():
        problems += unexplained(man, name, re.findall(r"(\w+)[,)]", what.partition(")(")[2]))
    problems += unexplained(man, "libflashinfer", public.constants + sorted(public.types))
    for name, what in public.functions.items():
        page = text_of(f"{man}/man3/{name}.3")
        problems += [f"{name}(3) does not refer to {word}(3)" for word in set(re.findall(r"flashinfer_\w+", what)) & public.types
                     if f".Xr {word} 3" not in page]
    if len(public.fields) < 18 or len(public.callbacks) < 5 or len(public.types) < 30 or len(public.constants) < 60:
        problems.append("hardly any types or constants: this test no longer reads the headers")
    return problems


def check_references(man, pages):
    there = {(name, section) for section, found in pages.items() for name in found}
    there |= {(f"flashinfer-{name}", "1") for name in ("fidelity", "calibrate")}
    problems = []
    for path in glob.glob(f"{man}/man?/*"):
        for name, section in re.findall(r"^\.(?:It )?Xr (\S+) (\d)", text_of(path), flags=re.M):
            if (name, section) not in there:
                problems.append(f"{path} refers to {name}({section}), which is not there")
    return problems


def lint(man):
    """Whether other pages are installed here is none of a page's faults."""
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "style", *sorted(glob.glob(f"{man}/man?/*"))], check=False,
                          capture_output=True, text=True)
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if "referenced manual not found" not in line]


def main():
    root, man, folder, map_file = sys.argv[1:]
    if shutil.which("mandoc") is None:
        print("mandoc is not installed")
        return 77
    pages = {section: names(man, section) for section in "135"}
    functions = scripted(map_file)
    public = Public(f"{root}/include")
    wanted = {"1": programs(folder), "3": functions | public.types | {"libflashinfer"}, "5": {"flashinfer_model_file"}}
    problems = []
    for section in "135":
        problems += [f"no page {name}({section})" for name in sorted(wanted[section] - pages[section])]
        problems += [f"a page of nothing: {name}({section})" for name in sorted(pages[section] - wanted[section])]
    for name in sorted(pages["1"] & wanted["1"]):
        problems += check_program(f"{man}/man1/{name}.1", f"{folder}/{name}")
    overview = text_of(f"{man}/man3/libflashinfer.3")
    problems += [f"libflashinfer(3) does not list {name}" for name in functions if f".It Xr {name} 3" not in overview]
    keys = re.findall(r"^\.Li ([a-z]\S+)", text_of(f"{man}/man5/flashinfer_model_file.5"), flags=re.M)
    layout = text_of(f"{root}/docs/format.md")
    problems += [f"docs/format.md does not know {key}" for key in keys if key.rstrip("*") not in layout]
    problems += [] if wanted["3"] - pages["3"] else check_types(man, public)
    problems += check_references(man, pages) + lint(man)
    if len(functions) < 50 or len(pages["1"]) < 5 or len(keys) < 3:
        problems.append("hardly any functions, programs or keys: this test no longer reads them")
    print("\n".join(problems) if problems else f"{sum(map(len, pages.values()))} pages, all wanted, all clean")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
