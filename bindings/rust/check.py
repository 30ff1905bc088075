#!/usr/bin/env python3
"""Everything the Rust crates promise, against a library that is built: tests, warnings, documentation, examples.

usage: check.py BUILD_FOLDER MODEL.gguf      BUILD_FOLDER: has libflashinfer.so, libflashinfer.a and examples/generate

Ends with 77 (skipped) without cargo. What is built lands in BUILD_FOLDER/bindings/rust; nothing is fetched.
"""
import filecmp
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PROMPT = "Once upon a time there was a little girl who"


class Check:
    def __init__(self, build, model):
        self.build, self.model = os.path.abspath(build), os.path.abspath(model)
        self.target = os.path.join(self.build, "bindings", "rust")
        self.environment = dict(os.environ, CARGO_TARGET_DIR=self.target, FLASHINFER_TEST_MODEL=self.model,
                                FLASHINFER_LIB_DIR=self.build, RUSTFLAGS="-D warnings", RUSTDOCFLAGS="-D warnings",
                                RUST_BACKTRACE="0")
        for name in ("FLASHINFER_STATIC", "LD_LIBRARY_PATH"):
            self.environment.pop(name, None)  # the crates find the library themselves

    def cargo(self, *arguments, **changes):
        """Runs cargo; a value of None takes a variable out of its environment. Returns what it printed."""
        environment = {name: text for name, text in {**self.environment, **changes}.items() if text is not None}
        out = subprocess.run(["cargo", arguments[0], "--offline", *arguments[1:]], cwd=HERE, env=environment, check=False,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf8")
        if out.returncode != 0:
            sys.exit(f"cargo {' '.join(arguments)} failed:\n{out.stdout}")
        return out.stdout

    def tests(self):
        out = self.cargo("test", "--workspace")
        passed = sum(map(int, re.findall(r"test result: ok. (\d+) passed", out)))
        if passed < 25:
            sys.exit(f"only {passed} tests ran:\n{out}")
        print(f"{passed} tests passed")

    def clippy(self):
        if subprocess.run(["cargo", "clippy", "--version"], check=False, capture_output=True).returncode != 0:
            print("no clippy here: lints not checked")
            return
        self.cargo("clippy", "--workspace", "--all-targets", "--", "-D", "warnings")
        print("clippy has nothing to say")

    def documentation(self):
        self.cargo("doc", "--workspace", "--no-deps")
        self.cargo("check", "--package", "libflashinfer", DOCS_RS="1", FLASHINFER_LIB_DIR=None, PKG_CONFIG="false")
        print("documented without a warning, and without a library")

    def example(self, name, *arguments, features="", **changes):
        return self.cargo("run", "--quiet", "--package", "libflashinfer", "--features", features, "--example", name, "--",
                          self.model, *arguments, **changes)

    def pack(self):
        """Packed by Rust, the bundled checkpoint is the file that the C program made of it."""
        path = os.path.join(self.target, "packed.gguf")
        checkpoint = os.path.join(HERE, "..", "..", "examples", "models", "fable-14m")
        self.cargo("run", "--quiet", "--example", "pack", "--", checkpoint, path)
        if not filecmp.cmp(path, self.model, shallow=False):
            sys.exit("the example pack writes another file than the C program")
        os.remove(path)
        print("packed the same file as the C program")

    def examples(self):
        """The library comes by pkg-config here, as after an install, then as an archive, then from the source tree."""
        arguments = ["--prompt", PROMPT, "--tokens", "40"]
        program = os.path.join(self.build, "examples", "generate")
        expected = subprocess.run([program, self.model, *arguments], check=True, capture_output=True,
                                  encoding="utf8").stdout.split("\n\n  tokens/s")[0]
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(self.build, "meson-private", "flashinfer.pc"), encoding="utf8") as file:
                text = re.sub(r"(?m)^libdir=.*$", f"libdir={self.build}", file.read())
            with open(os.path.join(folder, "flashinfer.pc"), "w", encoding="utf8") as file:
                file.write(text)
            installed = {"FLASHINFER_LIB_DIR": None, "PKG_CONFIG_PATH": folder}
            for name, features, static in (("shared", "", None), ("static", "", "1"), ("vendored", "vendored", None)):
                text = self.example("generate", *arguments, features=features, FLASHINFER_LIB_DIR=None,
                                    PKG_CONFIG_PATH=folder, FLASHINFER_STATIC=static)
                if not text.startswith(PROMPT) or text != expected + "\n":
                    sys.exit(f"{name}: the example says\n{text}\nthe C program says\n{expected}")
                linked = subprocess.run(["ldd", os.path.join(self.target, "debug", "examples", "generate")], check=True,
                                        capture_output=True, encoding="utf8").stdout
                if ("libflashinfer.so" in linked) != (name == "shared"):
                    sys.exit(f"{name}: linked is\n{linked}")
        print("the same text as the C program, linked in three ways")
        for name, pattern in (("cancel", r"cancelled: .*\nstands at token \d+ of 512\nwent on to token 512\n"),
                              ("storage", r"Once upon a time.+\n\n[1-9]\d* reads of the host, [1-9]\d* bytes\n")):
            text = self.example(name)
            if not re.search(pattern, text, flags=re.S):
                sys.exit(f"the example {name} says\n{text}")
        print("examples cancel and storage ran")


def main():
    if shutil.which("cargo") is None:
        print("cargo is not installed")
        return 77
    check = Check(*sys.argv[1:])
    check.tests()
    check.clippy()
    check.documentation()
    check.pack()
    check.examples()
    return 0


if __name__ == "__main__":
    sys.exit(main())
