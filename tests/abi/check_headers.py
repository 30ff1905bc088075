#!/usr/bin/env python3
"""The public headers compile alone, in any order, in every language standard users have.

usage: check_headers.py INCLUDE_DIR COMPILER...      each a C compiler (gcc, clang); the C++ one is found beside it
"""
import itertools
import shutil
import subprocess
import sys
import tempfile

WARNINGS = ["-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wpadded", "-Werror", "-fsyntax-only"]
HEADERS = ["flashinfer.h", "flashinfer_backend.h"]
STANDARDS = [("c", "c99"), ("c", "c11"), ("c++", "c++11"), ("c++", "c++17")]


def main():
    include, compilers = sys.argv[1], [c for c in sys.argv[2:] if shutil.which(c)]
    orders = [[h] for h in HEADERS] + [list(order) for order in itertools.permutations(HEADERS)]
    failed = count = 0
    with tempfile.TemporaryDirectory() as folder:
        for compiler, (language, standard), order in itertools.product(compilers, STANDARDS, orders):
            source = f"{folder}/use.{'c' if language == 'c' else 'cpp'}"
            with open(source, "w", encoding="utf8") as file:
                file.write("".join(f"#include <{h}>\n" for h in order + order) + "int main(void) { return 0; }\n")
            driver = compiler if language == "c" else {"gcc": "g++", "clang": "clang++"}.get(compiler, compiler)
            command = [driver, f"-std={standard}", *WARNINGS, "-I", include, source]
            count += 1
            if subprocess.run(command, check=False).returncode != 0:
                failed += 1
                print("FAILED:", " ".join(command), order)
    print(f"{count - failed} of {count} compilations without a warning")
    return 1 if failed or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
