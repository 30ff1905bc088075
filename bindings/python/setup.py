"""Builds the C library with meson and puts it into the wheel; pyproject.toml says the rest.

FLASHINFER_MESON_ARGS: more options for `meson setup`, such as -Dblis=disabled. The compiler is that of CC, as with meson.
"""
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # before setuptools 70.1
    from wheel.bdist_wheel import bdist_wheel

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
NEEDED = ("meson.build", "meson_options.txt", "include/flashinfer.h", "lib/flashinfer.map")
LIBRARY = "libflashinfer.dylib" if sys.platform == "darwin" else "libflashinfer.so"


def version():
    """That of the header which the module was written against; a test keeps the two the same."""
    text = (HERE / "libflashinfer" / "_ffi.py").read_text(encoding="utf8")
    return ".".join(re.search(rf"^FLASHINFER_VERSION_{part} = (\d+)$", text, flags=re.M)[1]
                    for part in ("MAJOR", "MINOR", "PATCH"))


def check_checkout():
    missing = [name for name in NEEDED if not (CHECKOUT / name).exists()]
    if missing:
        raise SystemExit(
            f"libflashinfer's C sources are missing: there is no {', '.join(missing)} in {CHECKOUT}.\n"
            "This folder builds the C library that it is part of. Install it from a whole checkout of libflashinfer:\n"
            "    pip install CHECKOUT/bindings/python\n"
            "or install the C library on its own (make install) and put this folder on PYTHONPATH.")


def run(*command):
    print(*command, flush=True)
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        raise SystemExit(f"{command[0]} is missing: pip install meson ninja, or your system's packages") from None
    except subprocess.CalledProcessError:
        raise SystemExit(f"the C library was not built; it needs a C compiler, ninja and the packages that "
                         f"{CHECKOUT / '.ci/setup'} names") from None


def build_library(folder):
    """The shared library. Its folder is made anew: the meson that made the last one may be another, or gone."""
    shutil.rmtree(folder, ignore_errors=True)
    run("meson", "setup", str(folder), str(CHECKOUT), "-Ddefault_library=shared", "-Dbuildtype=release", "-Dprograms=false",
        *shlex.split(os.environ.get("FLASHINFER_MESON_ARGS", "")))
    run("meson", "compile", "-C", str(folder), "flashinfer")
    return folder / LIBRARY


class BuildWithLibrary(build_py):
    def run(self):
        check_checkout()
        super().run()
        build = self.get_finalized_command("build")
        library = build_library(Path(build.build_temp).resolve().with_name("meson"))
        package = HERE if self.editable_mode else Path(self.build_lib)
        shutil.copy(library, package / "libflashinfer" / LIBRARY)


class PlatformWheel(bdist_wheel):
    """For any Python 3 of this platform: the library is C, but no extension module."""

    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


class WithLibrary(Distribution):
    def has_ext_modules(self):
        return True


setup(version=version(), license="MIT", cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": PlatformWheel},
      distclass=WithLibrary)
