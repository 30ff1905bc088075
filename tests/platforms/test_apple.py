#!/usr/bin/env python3
"""The Swift package in bindings/apple, as far as it can be shown without Apple's tools: its files have Swift's form, name what
is there, and call the library with as many arguments, and fields of its structs, as the headers have. The library itself is
compiled for such systems by test_cross.py, through the package's own script.

usage: test_apple.py SOURCE_DIR
"""
import glob
import os
import re
import subprocess
import sys
import unittest

SOURCE = os.path.abspath(sys.argv[1])
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, f"{SOURCE}/docs/man")
from header import read_headers  # noqa: E402
from syntax import bracket_errors, errors_in  # noqa: E402

PROJECT = f"{SOURCE}/bindings/apple"
STRUCTS = {"options": "flashinfer_options", "sampling": "flashinfer_sampler_options", "plan": "flashinfer_plan",
           "info": "flashinfer_info", "error": "flashinfer_error"}


def text_of(path):
    with open(path, encoding="utf8") as file:
        return file.read()


def without_comments(text):
    return re.sub(r"//.*", "", text)


def arguments_at(text, at):
    """How many stand in the brackets that open at a place."""
    depth, count = 0, 1
    for place in range(at, len(text)):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(text[place], 0)
        count += text[place] == "," and depth == 1
        if depth == 0:
            return count if text[at + 1:place].strip() else 0
    return None


class Apple(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sources = {path: text_of(path) for path in sorted(glob.glob(f"{PROJECT}/Sources/*/*.swift"))}
        cls.header = read_headers(f"{SOURCE}/include")

    def test_form(self):
        self.assertGreaterEqual(len(self.sources), 3)
        for path, text in {**self.sources, "Package.swift": text_of(f"{PROJECT}/Package.swift")}.items():
            self.assertEqual(errors_in("swift", text), [], path)
            self.assertNotEqual(bracket_errors(without_comments(text).replace("(", "", 1)), [])
        subprocess.run(["sh", "-n", f"{PROJECT}/make_xcframework.sh"], check=True)

    def test_package(self):
        package, script = text_of(f"{PROJECT}/Package.swift"), text_of(f"{PROJECT}/make_xcframework.sh")
        self.assertTrue(re.match(r"// swift-tools-version:\d\.\d+\n", package))
        targets = re.findall(r'\.target\(name: "(\w+)"', package)
        self.assertEqual(targets, [os.path.basename(folder) for folder in glob.glob(f"{PROJECT}/Sources/*")])
        framework = re.search(r'\.binaryTarget\(name: "(\w+)", path: "([\w.]+)"\)', package)
        self.assertIn(f"out=${{OUT:-$here}}/{framework[2]}\n", script)
        self.assertIn(f"module {framework[1]} {{", text_of(f"{SOURCE}/include/module.modulemap"))
        ios = re.search(r"\.iOS\(\.v(\d+)\)", package)[1]
        self.assertEqual({"ios" + ios, "macos" + re.search(r"\.macOS\(\.v(\d+)\)", package)[1]},
                         set(re.findall(r"arm64-apple-(\w+)\.0", script)))

    def test_calls(self):
        counts = {function.name: len(function.parameters) for function in self.header.functions}
        called = 0
        for path, text in self.sources.items():
            text = without_comments(text)
            for match in re.finditer(r"\b(flashinfer_\w+)(\()?", text):
                name = match[1]
                if match[2] and name in counts:
                    self.assertEqual(arguments_at(text, match.end(1)), counts[name], f"{path}: {name}()")
                    called += 1
                else:
                    self.assertIn(name, {**counts, **self.header.types}, path)
            for constant in re.findall(r"\bFLASHINFER_\w+", text):
                known = {member.name for enum in self.header.enums for member in enum.members}
                self.assertIn(constant, known | {f"FLASHINFER_{name}" for name, _, _ in self.header.errors}, path)
        self.assertGreater(called, 15)

    def test_fields(self):
        used = 0
        for path, text in self.sources.items():
            for variable, field in re.findall(r"\b(options|sampling|plan|info|error)\.(\w+)\b(?!\()", text):
                names = {member.name for member in self.header.types[STRUCTS[variable]].members}
                self.assertIn(field, names, f"{path}: {variable}.{field}")
                used += 1
        self.assertGreater(used, 10)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:], verbosity=2)
