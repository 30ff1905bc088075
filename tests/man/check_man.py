#!/usr/bin/env python3
"""There is a page for every function and program and for nothing else, each clean by mandoc, and programs' pages tell what
the programs themselves do. usage: check_man.py ROOT MAN_DIR PROGRAMS_DIR MAP_FILE

That header, version script and exported symbols agree is looked at by tests/abi/check_library.py.
"""
import glob
import os
import re
import shutil
import subprocess
import sys


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
    wanted = {"1": programs(folder), "3": functions | {"libflashinfer"}, "5": {"flashinfer_model_file"}}
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
    problems += check_references(man, pages) + lint(man)
    if len(functions) < 50 or len(pages["1"]) < 5 or len(keys) < 3:
        problems.append("hardly any functions, programs or keys: this test no longer reads them")
    print("\n".join(problems) if problems else f"{sum(map(len, pages.values()))} pages, all wanted, all clean")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
