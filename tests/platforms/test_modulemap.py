#!/usr/bin/env python3
"""The module map names every public header, and clang makes a module of them that Objective-C can import.

usage: test_modulemap.py INCLUDE_DIR       skips without clang
"""
import glob
import os
import shutil
import subprocess
import sys
import tempfile

USE = """@import libflashinfer;
int main(void)
{
    flashinfer_storage_ops ops = {.size = sizeof ops};
    return flashinfer_model_open_storage(&ops, 0, 0, 0) == FLASHINFER_EINVAL ? 0 : 1;
}
"""


def main():
    include = sys.argv[1]
    if not shutil.which("clang"):
        print("no clang")
        return 77
    with open(f"{include}/module.modulemap", encoding="utf8") as file:
        text = file.read()
    missing = [path for path in glob.glob(f"{include}/*.h") if f'header "{os.path.basename(path)}"' not in text]
    if missing:
        print("not in the map:", missing)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/use.m", "w", encoding="utf8") as file:
            file.write(USE)
        return subprocess.run(["clang", "-fmodules", f"-fmodules-cache-path={folder}/cache", "-Wall", "-Werror", "-I",
                               include, "-fsyntax-only", f"{folder}/use.m"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
