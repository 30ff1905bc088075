#!/usr/bin/env python3
"""Fetches llama.cpp from PyPI, with its vocabulary files of real models, builds its library, and compares all of them
(compare_vocabularies.py says what).

usage: fetch_vocabularies.py BUILD_FOLDER [FOLDER]      (BUILD_FOLDER: built with -Dtests=true; about 12 minutes with two cores)

FOLDER, build-vocabularies if not given, keeps what was fetched and built. It needs cmake, ninja, a C++ compiler and the
packages tokenizers and sentencepiece.
"""
import glob
import os
import subprocess
import sys
import tarfile

LLAMA = "llama-cpp-python==0.3.36"  # its source distribution has all of llama.cpp
OPTIONS = ["-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DGGML_OPENMP=OFF", "-DGGML_NATIVE=OFF",
           "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_SERVER=OFF", "-DLLAMA_BUILD_TOOLS=OFF",
           "-DCMAKE_SUPPRESS_REGENERATION=ON"]


def source_of(folder):
    found = glob.glob(f"{folder}/llama_cpp_python-*/vendor/llama.cpp")
    if not found:
        subprocess.run([sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "llama-cpp-python", "-d", folder,
                        LLAMA], check=True)
        with tarfile.open(glob.glob(f"{folder}/llama_cpp_python-*.tar.gz")[0]) as archive:
            archive.extractall(folder, filter="data")
        found = glob.glob(f"{folder}/llama_cpp_python-*/vendor/llama.cpp")
    return found[0]


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    folder = os.path.abspath(sys.argv[2] if len(sys.argv) == 3 else "build-vocabularies")
    os.makedirs(folder, exist_ok=True)
    source, build = source_of(folder), f"{folder}/build"
    if not glob.glob(f"{build}/src/libllama.a"):
        subprocess.run(["nice", "cmake", "-G", "Ninja", "-S", source, "-B", build, *OPTIONS], check=True)
        subprocess.run(["nice", "cmake", "--build", build, "--target", "llama"], check=True)
    here = os.path.dirname(os.path.abspath(__file__))
    sys.exit(subprocess.run([sys.executable, f"{here}/compare_vocabularies.py",
                             f"{sys.argv[1]}/tests/programs/tokenise_file", f"{source}/models", "--llama", source, build],
                            check=False).returncode)


if __name__ == "__main__":
    main()
