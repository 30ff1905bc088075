#!/usr/bin/env python3
"""The binary interface: what it is today, what it was when last agreed on, what the first header promised.

usage: abi.py check|update ROOT      ROOT: the repository, or a copy of its include, lib and tests/abi

Two committed files say what was agreed on, tests/abi/baseline.abi (abidw's: functions, parameters, structs) and
tests/abi/baseline.txt (every constant's number, every field's place, for people to read in a diff). `check` fails on any
difference, additions too, so that nothing enters by accident; `update` writes both anew (`make abi-baseline`). Neither
accepts what breaks a program that was compiled against tests/abi/first/include: a function gone, a number or a field's
place changed, a struct shortened.

Public functions live in lib/api*.c alone, so these files with debug information are enough to see all of them.
"""
import glob
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile

HEADERS = ["flashinfer.h", "flashinfer_backend.h"]
BASELINE = "tests/abi/baseline"
FIRST = "tests/abi/first/include"
ABIDW = ["abidw", "--drop-private-types", "--no-corpus-path", "--no-comp-dir-path", "--no-show-locs", "--no-elf-needed",
         "--exported-interfaces-only", "--drop-undefined-syms", "--type-id-style", "hash"]
MAY_CHANGE = re.compile(r"FLASHINFER_(VERSION_\w+|\w+_COUNT_)$")  # of the first header's constants


class Problem(Exception):
    """One text of one or more lines."""


def output(*command):
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise Problem(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


# ---- from headers: constants, structs, functions


def text_of(include):
    """Both headers without comments, system headers left out."""
    source = "".join(f"#include <{name}>\n" for name in HEADERS)
    with tempfile.NamedTemporaryFile("w", suffix=".c") as file:
        file.write(source)
        file.flush()
        text = output("gcc", "-E", f"-I{include}", file.name)
    kept, ours = [], False
    for line in text.splitlines():
        marker = re.match(r'# \d+ "([^"]*)"', line)
        if marker:
            ours = os.path.basename(marker[1]) in HEADERS
        elif ours:
            kept.append(line)
    return "\n".join(kept)


def constants_of(include, text):
    names = []
    for body in re.findall(r"\benum\s*\w*\s*\{(.*?)\}", text, flags=re.S):
        names += re.findall(r"(?:^|,)\s*(\w+)", body)
    for header in HEADERS:
        with open(f"{include}/{header}", encoding="utf8") as file:
            names += re.findall(r"^#define (FLASHINFER_\w+) +\d", file.read(), flags=re.M)
    return names


def structs_of(text):
    """Name -> its fields in order."""
    structs = {}
    for name, body in re.findall(r"\bstruct (\w+)\s*\{(.*?)\n\}", text, flags=re.S):
        fields = []
        for field in filter(None, (part.strip() for part in body.split(";"))):
            function = re.search(r"\(\*\s*(\w+)\)\s*\(", field)
            fields.append(function[1] if function else re.search(r"(\w+)\s*(?:\[[^;]*\])*$", field)[1])
        structs[name] = fields
    return structs


def declarations_of(text):
    """Name -> declaration, of functions and of callbacks' types."""
    found = {}
    for part in re.sub(r"\{.*?\n\}", "", text, flags=re.S).split(";"):
        match = re.search(r"\b(flashinfer_\w+)\s*\(|\(\*(flashinfer_\w+)\)\s*\(", part)
        if match:
            found[match[1] or match[2]] = " ".join(part.split()) + ";"
    return found


def facts_of(include):
    """Lines such as "constant NAME 1" and "field struct.name offset 8 bytes 4", asked of the compiler."""
    text = text_of(include)
    constants, structs = constants_of(include, text), structs_of(text)
    if len(constants) < 60 or len(structs) < 18 or len(declarations_of(text)) < 50:
        raise Problem(f"{include}: only {len(constants)} constants, {len(structs)} structs found: this test no longer "
                      "reads the headers")
    lines = [f'printf("constant {name} %lld\\n", (long long){name});' for name in constants]
    for name, fields in structs.items():
        lines.append(f'printf("struct {name} bytes %zu\\n", sizeof(struct {name}));')
        lines += [f'printf("field {name}.{field} offset %zu bytes %zu\\n", offsetof(struct {name}, {field}), '
                  f'sizeof(((struct {name} *)0)->{field}));' for field in fields]
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/facts.c", "w", encoding="utf8") as file:
            file.write("#include <stdio.h>\n" + "".join(f"#include <{name}>\n" for name in HEADERS))
            file.write("int main(void)\n{\n" + "\n".join(lines) + "\nreturn 0;\n}\n")
        output("gcc", "-std=c11", f"-I{include}", "-o", f"{folder}/facts", f"{folder}/facts.c")
        facts = output(f"{folder}/facts").splitlines()
    functions = [name for name, what in declarations_of(text).items() if not what.startswith("typedef")]
    return facts + [f"function {name}" for name in sorted(functions)]


# ---- what the first header promised


def broken_promises(root):
    first, today = facts_of(f"{root}/{FIRST}"), facts_of(f"{root}/include")
    today_of = {tuple(fact.split()[:2]): fact for fact in today}
    problems = []
    for fact in first:
        kind, name = fact.split()[:2]
        now = today_of.get((kind, name))
        if now == fact or (kind == "constant" and MAY_CHANGE.match(name)):
            continue
        if kind == "struct" and now is not None and int(now.split()[-1]) > int(fact.split()[-1]):
            continue  # grown at its end: every older field is looked at on its own
        if kind == "field" and now is None and name.endswith(".reserved"):
            continue  # came into use
        problems.append(f"the first header has \"{fact}\", today's has {now and repr(now)}")
    return problems or other_types(f"{root}/{FIRST}", f"{root}/include")


def other_types(first, today):
    """The compiler refuses a second declaration that differs from the one before it."""
    with tempfile.NamedTemporaryFile("w", suffix=".c") as file:
        file.write("".join(f"#include <{name}>\n" for name in HEADERS))
        file.write("\n".join(declarations_of(text_of(first)).values()) + "\n")
        file.flush()
        done = subprocess.run(["gcc", "-std=c11", "-fsyntax-only", f"-I{today}", file.name], check=False,
                              capture_output=True, text=True)
    return [] if done.returncode == 0 else ["declared otherwise than in the first header:\n" + done.stderr]


# ---- abidw


def exported(map_file):
    with open(map_file, encoding="utf8") as file:
        return set(re.findall(r"(flashinfer_\w+);", re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)))


def describe(root, out):
    """abidw's description of the public functions, from the root's sources."""
    map_file = f"{root}/lib/flashinfer.map"
    with tempfile.TemporaryDirectory() as folder:
        image = f"{folder}/libflashinfer.so"
        output("gcc", "-std=c11", "-g", "-O0", "-fPIC", "-shared", "-fvisibility=hidden", "-DFLIN_PLAIN=1", f"-I{root}/include",
               f"-I{root}/lib", f"-Wl,--version-script={map_file}", "-Wl,-soname,libflashinfer.so.0", "-o", image,
               f"-ffile-prefix-map={root}/=", *sorted(glob.glob(f"{root}/lib/api*.c")))
        shown = {line.split()[2].split("@")[0] for line in output("nm", "-D", "--defined-only", image).splitlines()
                 if line.split()[1] == "T"}
        if shown != exported(map_file):
            raise Problem(f"lib/api*.c and lib/flashinfer.map differ: {sorted(shown ^ exported(map_file))}")
        output(*ABIDW, "--headers-dir", f"{root}/include", "--out-file", out, image)


# ---- commands


def check(root):
    """A list of what is wrong."""
    facts = facts_of(f"{root}/include")
    problems = broken_promises(root)
    with open(f"{root}/{BASELINE}.txt", encoding="utf8") as file:
        agreed = file.read().splitlines()
    problems += [f"no longer: {fact}" for fact in agreed if fact not in set(facts)]
    problems += [f"new: {fact}" for fact in facts if fact not in set(agreed)]
    with tempfile.TemporaryDirectory() as folder:
        now = f"{folder}/today.abi"
        describe(root, now)
        done = subprocess.run(["abidiff", "--harmless", f"{root}/{BASELINE}.abi", now], check=False, capture_output=True,
                              text=True)
        if done.returncode != 0:
            problems.append(f"abidiff (exit {done.returncode}):\n{done.stdout}{done.stderr}")
    return problems


def update(root):
    facts = facts_of(f"{root}/include")
    problems = broken_promises(root)
    if problems:
        return problems
    describe(root, f"{root}/{BASELINE}.abi")
    with open(f"{root}/{BASELINE}.txt", "w", encoding="utf8") as file:
        file.write("\n".join(facts) + "\n")
    return []


def main():
    command, root = sys.argv[1:]
    if platform.machine() != "x86_64" or shutil.which("abidw") is None:
        print("the baseline is of x86-64 and needs abidw (Debian: abigail-tools)")
        return 77
    try:
        problems = {"check": check, "update": update}[command](os.path.abspath(root))
    except Problem as problem:
        problems = [str(problem)]
    if problems:
        print("\n".join(problems))
        if command == "check":
            print("\nIf this is meant and breaks nobody (docs/abi.md): make abi-baseline, and a line abi: in CHANGELOG.md")
        return 1
    print("the binary interface is as agreed on" if command == "check" else f"written: {BASELINE}.abi, {BASELINE}.txt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
