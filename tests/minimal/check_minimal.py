#!/usr/bin/env python3
"""A build without any optional piece: no warning, the same logits, functions that refuse, small, and linked both ways.

usage: check_minimal.py ROOT FULL_BUILD MODEL.gguf      FULL_BUILD: a build folder with everything; the small one goes into
                                                        FULL_BUILD/minimal, so that a second run has nothing to compile
"""
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT_BYTES = 400 * 1024
OPTIONS = ["-Dauto_features=disabled", "-Dtokenizer=disabled", "-Dsampling=disabled", "-Dpredictor_making=disabled",
           "-Dprobe=disabled", "-Dplain=disabled", "-Dquants=disabled", "-Darchitectures=llama,opt",
           "-Dprograms=false", "-Dman=false", "-Dpkgconfig.relocatable=true", "-Doptimization=2", "-Ddebug=false", "-Db_ndebug=true", "-Ddefault_library=both", "--werror",
           "--prefix=/usr/local"]
NEEDED = {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Werror"]


class Failed(Exception):
    pass


def output(*command, **more):
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
    if done.returncode != 0:
        text = (done.stdout + done.stderr).decode(errors="replace")
        raise Failed(f"{' '.join(command)}: exit {done.returncode}\n{text[-3000:]}")
    return done.stdout


def build(root, folder):
    """With other options than the folder was set up with, it is set up anew."""
    stamp = f"{folder}/options"
    known = None
    if os.path.exists(stamp):
        with open(stamp, encoding="utf8") as file:
            known = file.read()
    if known != " ".join(OPTIONS) or not os.path.exists(f"{folder}/build.ninja"):
        shutil.rmtree(folder, ignore_errors=True)
        output("meson", "setup", folder, root, *OPTIONS)
        with open(stamp, "w", encoding="utf8") as file:
            file.write(" ".join(OPTIONS))
    output("ninja", "-C", folder)


def install(folder, temporary):
    """Installed, then moved: the pkg-config file must speak of where it lies."""
    output("meson", "install", "-C", folder, "--no-rebuild", "--destdir", f"{temporary}/stage")
    os.rename(f"{temporary}/stage/usr/local", f"{temporary}/moved")
    for place, _, names in os.walk(f"{temporary}/moved"):
        if "flashinfer.pc" in names:
            return place
    raise Failed("no flashinfer.pc was installed")


def flags(place, *options):
    return output("pkg-config", *options, "--cflags", "--libs", "flashinfer",
                  env=dict(os.environ, PKG_CONFIG_PATH=place)).decode().split()


def compiled(name, out, *arguments):
    output("cc", *WARNINGS, f"{HERE}/{name}.c", "-o", out, *arguments)
    return out


def stripped_bytes(library, temporary):
    output("strip", "-o", f"{temporary}/stripped", library)
    return os.path.getsize(f"{temporary}/stripped")


def needed(library):
    lines = output("objdump", "-p", library).decode().splitlines()
    return {line.split()[1] for line in lines if line.strip().startswith("NEEDED")}


def static_names(archive):
    """What a static program shares a name space with."""
    lines = output("nm", "-g", "--defined-only", archive).decode().splitlines()
    names = {fields[2] for fields in map(str.split, lines) if len(fields) == 3}
    return {name for name in names if not name.startswith(("flashinfer_", "flin_"))}


def check_programs(root, full, model, place, temporary):
    libdir = os.path.dirname(place)
    here = dict(os.environ, LD_LIBRARY_PATH=libdir)
    with open(f"{full}/meson-private/flashinfer.pc", encoding="utf8") as file:
        private = next(line.split()[1:] for line in file if line.startswith("Libs.private"))
    static = compiled("logits", f"{temporary}/static", "-static", *flags(place, "--static"))
    shared = compiled("logits", f"{temporary}/shared", *flags(place))
    whole = compiled("logits", f"{temporary}/whole", f"-I{root}/include", f"{full}/libflashinfer.so", f"-Wl,-rpath,{full}")
    half = compiled("logits", f"{temporary}/half", f"-I{root}/include", f"{full}/libflashinfer.a", *private)
    logits = {name: output(path, model, env=here if name == "shared" else None)
              for name, path in (("static", static), ("shared", shared), ("whole", whole), ("half", half))}
    if len(logits["whole"]) < 26 * 4 * 1000:
        raise Failed(f"only {len(logits['whole'])} bytes of logits")
    for name in logits:
        if logits[name] != logits["whole"]:
            raise Failed(f"the {name} program's logits are not those of the full library")
    output(compiled("absent", f"{temporary}/absent", "-static", *flags(place, "--static")), model)
    print(f"{len(logits['whole']) // 4} logits, the same bits from the full and the minimal library, static and shared")


def check_library(full, small, temporary):
    sizes = {name: stripped_bytes(f"{folder}/libflashinfer.so", temporary)
             for name, folder in (("full", full), ("minimal", small))}
    for name, size in sizes.items():
        print(f"libflashinfer.so, {name}, stripped: {size} bytes ({size / 1024:.0f} KiB)")
    if sizes["minimal"] > LIMIT_BYTES:
        raise Failed(f"the minimal library has more than {LIMIT_BYTES} bytes")
    if needed(f"{small}/libflashinfer.so") - NEEDED:
        raise Failed(f"the minimal library needs {needed(f'{small}/libflashinfer.so') - NEEDED}")
    foreign = static_names(f"{small}/libflashinfer.a") | static_names(f"{full}/libflashinfer.a")
    if foreign:
        raise Failed(f"libflashinfer.a defines names that are not the library's: {sorted(foreign)}")


def main():
    root, full, model = map(os.path.abspath, sys.argv[1:])
    small = f"{full}/minimal"
    try:
        build(root, small)
        with tempfile.TemporaryDirectory() as temporary:
            place = install(small, temporary)
            check_library(full, small, temporary)
            check_programs(root, full, model, place, temporary)
    except Failed as problem:
        print(problem)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
