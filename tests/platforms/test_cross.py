#!/usr/bin/env python3
"""The library for systems that are not here, as far as that can be shown: zig's C compiler brings macOS's headers and a C
library that is not glibc, qemu runs what comes out for ARM.

    android  built with bindings/android/arm64.ini against musl, which has as little of glibc as Android's libc, and run
             by qemu with pages of 4 and of 16 KiB; what it imports is there from the API level on that the file names
    macos    compiled and linked, not run
    apple    bindings/apple/make_xcframework.sh, with macOS's headers in the place of each of Apple's kits

usage: test_cross.py SOURCE_DIR MODEL.gguf CHECKPOINT      needs zig (`make check-platforms` installs it), skips without
"""
import glob
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import api_levels  # noqa: E402

SOURCE, MODEL, CHECKPOINT = sys.argv[1:4]
OPTIONS = ["--werror", "-Dlibaio=disabled", "-Dio_uring=disabled", "-Dblis=disabled", "-Dpack=disabled"]

# meson 1.0 does not know zig's linker, so it is told another name; zig's wants some options in other forms.
COMPILER = """#!{python}
import os, sys
arguments = sys.argv[1:]
for option in ("-target", "-isysroot"):
    if option in arguments:
        at = arguments.index(option)
        del arguments[at:at + 2]
if "-Wl,--version" in arguments:
    print("LLD 17.0.0")
    sys.exit()
if "-Wl,-v" in arguments:
    print({linker!r}, file=sys.stderr)
    sys.exit()
linking = not {{"-c", "-E", "-shared"}} & set(arguments)
out = [{zig!r}, "cc", "-target", {target!r}, *(["-static"] if linking and {static} else [])]
for argument in arguments:
    if out[-1] == "-Wl,-force_load":
        out[-1] += "," + argument
    else:
        out.append(argument)
os.execv(out[0], out)
"""
DARWIN = """[binaries]
c = 'zig-cc'
ar = 'llvm-ar'
pkgconfig = 'pkg-config'
[host_machine]
system = 'darwin'
cpu_family = 'aarch64'
cpu = 'aarch64'
endian = 'little'
"""


def find_zig():
    """In PATH, or where .ci/setup puts it."""
    return shutil.which("zig") or next(iter(glob.glob(f"{SOURCE}/build-platforms/lib/*/site-packages/ziglang/zig")), None)


ZIG = find_zig()


def script(path, text):
    with open(path, "w", encoding="utf8") as file:
        file.write(text)
    os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)


class Cross(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = folder.name
        os.mkdir(f"{cls.folder}/include")
        for name in ("xxhash.h", "xxh3.h"):  # all of it is in the headers
            shutil.copy(f"/usr/include/{name}", f"{cls.folder}/include")
        with open(f"{cls.folder}/libxxhash.pc", "w", encoding="ascii") as file:
            file.write(f"Name: xxhash\nDescription: headers\nVersion: 0.8.1\nCflags: -I{cls.folder}/include\n")
        script(f"{cls.folder}/llvm-ar", f'#!/bin/sh\nexec {ZIG} ar "$@"\n')

    def build(self, name, compiler, cross_file, *targets, **of_compiler):
        script(f"{self.folder}/{compiler}", COMPILER.format(python=sys.executable, zig=ZIG, **of_compiler))
        environment = dict(os.environ, PATH=f"{self.folder}:{os.environ['PATH']}", PKG_CONFIG_LIBDIR=self.folder)
        for key in ("CC", "CXX", "CFLAGS", "LDFLAGS"):
            environment.pop(key, None)
        build = f"{self.folder}/{name}"
        for command in (["meson", "setup", build, SOURCE, "--cross-file", cross_file, *OPTIONS,
                         *(["-Ddefault_library=static"] if of_compiler["static"] else [])],
                        ["ninja", "-C", build, *targets]):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stdout[-3000:] + done.stderr[-3000:])
        return build

    def test_android(self):
        build = self.build("android", "aarch64-linux-android24-clang", f"{SOURCE}/bindings/android/arm64.ini",
                           "examples/generate", "examples/inspect", "libflashinfer.a", linker="", target="aarch64-linux-musl", static=True)
        program = f"{build}/examples/generate"
        headers = subprocess.run(["readelf", "-lW", program], capture_output=True, text=True, check=True).stdout
        alignments = {line.split()[-1] for line in headers.splitlines() if line.split()[:1] == ["LOAD"]}
        self.assertEqual(alignments, {"0x4000"}, "laid out for other pages than the cross file says")
        with open(f"{build}/build.ninja", encoding="utf8") as file:
            rules = file.read()
        self.assertIn("file_android.c", rules)
        self.assertNotIn("uring.c", rules)
        level, names = api_levels.needed(f"{build}/libflashinfer.a")
        print(f"API level {level}, for {', '.join(names)}")
        self.assertEqual(level, 24)
        qemu = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
        if not qemu:
            self.skipTest("built, but no qemu-aarch64 to run it with")
        with open(f"{CHECKPOINT}/card.json", encoding="utf8") as file:
            prompt, expected = next(iter(json.load(file)["greedy"].items()))
        for page_bytes in (4096, 16384):
            done = subprocess.run([qemu, "-p", str(page_bytes), program, MODEL, "--prompt", prompt, "--tokens", "16",
                                   "--predictor", "exact", "--json"], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            result = json.loads(done.stdout)
            text = result["text"].removeprefix("</s>")
            self.assertGreater(len(text), len(prompt))
            self.assertTrue(expected.removeprefix("</s>").startswith(text), (text, expected))
            self.assertEqual(result["planned_bytes"] % page_bytes, 0)
            self.assertLessEqual(result["planned_bytes"], result["budget_bytes"])
            print(page_bytes, "byte pages:", result["planned_bytes"], "of", result["budget_bytes"], "bytes planned")

    def test_macos(self):
        script(f"{self.folder}/darwin.ini", DARWIN)
        build = self.build("macos", "zig-cc", f"{self.folder}/darwin.ini", linker="ld64.lld", target="aarch64-macos",
                           static=False)
        with open(f"{build}/libflashinfer.0.dylib", "rb") as file:
            self.assertEqual(file.read(4), b"\xcf\xfa\xed\xfe")
        with open(f"{build}/build.ninja", encoding="utf8") as file:
            rules = file.read()
        for name in ("file_darwin.c", "wait_darwin.c"):
            self.assertIn(name, rules)

    def test_apple(self):
        """xcrun answers with stand-ins, xcodebuild writes down what it was asked for."""
        tools = f"{self.folder}/apple"
        os.makedirs(f"{tools}/kit")
        script(f"{tools}/clang", COMPILER.format(python=sys.executable, zig=ZIG, linker="ld64.lld", target="aarch64-macos",
                                                 static=False))
        script(f"{tools}/ar", f'#!/bin/sh\nexec {ZIG} ar "$@"\n')
        script(f"{tools}/xcrun", f'#!/bin/sh\n[ "$3" = --find ] && echo {tools}/$4 || echo {tools}/kit\n')
        script(f"{tools}/strip", "#!/bin/sh\n")
        script(f"{tools}/xcodebuild", f'#!/bin/sh\nprintf "%s\\n" "$@" >{tools}/asked\n')
        environment = dict(os.environ, PATH=f"{tools}:{os.environ['PATH']}", WORK=f"{tools}/work", OUT=f"{tools}/out")
        for key in ("CC", "CXX", "CFLAGS", "LDFLAGS"):
            environment.pop(key, None)
        done = subprocess.run([f"{SOURCE}/bindings/apple/make_xcframework.sh"], env=environment, capture_output=True, text=True,
                              check=False)
        self.assertEqual(done.returncode, 0, done.stdout[-3000:] + done.stderr[-3000:])
        with open(f"{tools}/asked", encoding="utf8") as file:
            asked = file.read().split()
        libraries = [asked[place + 1] for place, word in enumerate(asked) if word == "-library"]
        self.assertEqual(len(set(libraries)), 3)
        self.assertEqual(asked[-2:], ["-output", f"{tools}/out/libflashinfer.xcframework"])
        for path in libraries:
            members = subprocess.run([ZIG, "ar", "t", path], check=True, capture_output=True, text=True).stdout
            for name in ("api.c.o", "file_darwin.c.o", "wait_darwin.c.o"):
                self.assertIn(name, members)
        headers = asked[asked.index("-headers") + 1]
        self.assertEqual(sorted(os.listdir(headers)), ["flashinfer.h", "flashinfer_backend.h", "module.modulemap"])


if __name__ == "__main__":
    if ZIG is None:
        print("no zig; `make check-platforms` installs it")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
