#!/usr/bin/env python3
"""What `make install` leaves behind is enough for a program that knows nothing else: built by make, meson and CMake, run.

usage: check_install.py BUILD MODEL.gguf
"""
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TEXT = "Once upon a time there was a little girl who"
PROGRAMS = ["generate", "inspect", "pack", "perplexity", "probe"]  # and two more where BLIS and LAPACK are
WAYS = {
    "make": [["make"]],
    "meson": [["meson", "setup", "out"], ["ninja", "-C", "out"]],
    "cmake": [["cmake", "-S", ".", "-B", "out"], ["cmake", "--build", "out"]],
}


class Failed(Exception):
    pass


def output(command, **more):
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-3000:]}")
    return done.stdout


def installed(stage):
    """Path below the prefix, of every file and link."""
    paths = [os.path.relpath(os.path.join(place, name), stage) for place, _, names in os.walk(stage) for name in names]
    prefix = os.path.commonpath([os.path.dirname(path) for path in paths])
    return prefix, {os.path.relpath(path, prefix) for path in paths}


def check_files(names):
    base = {os.path.basename(name) for name in names}
    wanted = {"flashinfer.h", "flashinfer_backend.h", "flashinfer.pc", "libflashinfer.so", "libflashinfer.so.0",
              "libflashinfer.a", "libflashinfer.3", "flashinfer_eval.3", "flashinfer-pack.1", "flashinfer_model_file.5"} | {f"flashinfer-{name}" for name in PROGRAMS}
    if wanted - base:
        raise Failed(f"not installed: {sorted(wanted - base)}")
    foreign = {name for name in base if "flashinfer" not in name}
    if foreign:
        raise Failed(f"installed under names that are not ours: {sorted(foreign)}")


def check_text(program, model, expected, environment):
    written = output([program, model, TEXT, "24"], env=environment)
    if written != expected:
        raise Failed(f"{program} wrote {written!r}, not {expected!r}")


def check(build, model, temporary):
    stage = f"{temporary}/stage"
    output(["meson", "install", "-C", build, "--no-rebuild", "--destdir", stage])
    prefix, names = installed(stage)
    check_files(names)
    pc = next(name for name in names if name.endswith("flashinfer.pc"))
    libdir = os.path.join(stage, prefix, os.path.dirname(os.path.dirname(pc)))
    environment = dict(os.environ, PKG_CONFIG_PATH=f"{libdir}/pkgconfig", PKG_CONFIG_SYSROOT_DIR=stage,
                       LD_LIBRARY_PATH=libdir, CC="gcc")
    generated = output([f"{stage}/{prefix}/bin/flashinfer-generate", model, "--prompt", TEXT, "--tokens", "24",
                        "--predictor", "exact", "--budget", "100%"], env=environment)
    expected = generated[:generated.index("\n\n  tokens/s")]
    if not expected.startswith(TEXT) or len(expected) < len(TEXT) + 30:
        raise Failed(f"flashinfer-generate wrote {expected!r}")
    for way, commands in WAYS.items():
        source = f"{temporary}/{way}"
        shutil.copytree(HERE, source)
        for command in commands:
            output(command, cwd=source, env=environment)
        check_text(f"{source}/app" if way == "make" else f"{source}/out/app", model, expected, environment)
    print(f"{len(names)} files installed; make, meson and cmake built a program that goes on as flashinfer-generate does:")
    print(expected)


def main():
    build, model = map(os.path.abspath, sys.argv[1:])
    try:
        with tempfile.TemporaryDirectory() as temporary:
            check(build, model, temporary)
    except Failed as problem:
        print(problem)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
