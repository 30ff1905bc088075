#!/usr/bin/env python3
"""The embedding examples tell what generate tells, and fail in one line with exit code 1.

usage: test_embed.py PROGRAMS_DIR MODEL.gguf
"""
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
import zipfile

PROGRAMS, MODEL = sys.argv[1:3]
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
import memory_group  # noqa: E402

PROMPT = "Once upon a time"
FILE_BYTES = os.path.getsize(MODEL)


def generate(tokens, *arguments):
    done = subprocess.run([f"{PROGRAMS}/generate", MODEL, "--json", "--prompt", PROMPT, "--tokens", str(tokens),
                           *arguments], capture_output=True, check=True, timeout=60)
    return json.loads(done.stdout)


EXPECTED = generate(24)
STORY = EXPECTED["text"].removeprefix("</s>")


def run(program, *arguments, text=""):
    return subprocess.run([f"{PROGRAMS}/embed/{program}", *map(str, arguments)], capture_output=True, text=True,
                          input=text, check=False, timeout=60)


def content(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def assert_story(self, done):
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.rstrip("\n"), STORY)

    def assert_fails(self, done, *words):
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    def assert_usage(self, program, *arguments):
        done = run(program, *arguments)
        self.assertEqual(done.returncode, 2, (arguments, done.stderr))
        self.assertEqual(done.stdout, "")


class Storage(Case):
    def parts(self, *cuts):
        data = content(MODEL)
        ends = [*cuts, len(data)]
        names = []
        for number, (begin, end) in enumerate(zip([0, *cuts], ends)):
            names.append(os.path.join(self.folder, f"part{number}"))
            write(names[-1], data[begin:end])
        return names

    def test_parts_tell_what_the_file_tells(self):
        self.assert_story(run("storage", MODEL))
        self.assert_story(run("storage", *self.parts(5000001, 5000002, 12345678)))

    def test_failures(self):
        names = self.parts(5000001, 12345678)
        self.assert_fails(run("storage", *names[:2]), "FLASHINFER_EFORMAT", "truncated")
        self.assert_fails(run("storage", *reversed(names)), "FLASHINFER_E")
        self.assert_fails(run("storage", names[0], "/nowhere"), "/nowhere")
        spoilt = bytearray(content(names[1]))
        spoilt[len(spoilt) // 2] ^= 1
        write(names[1], spoilt)
        self.assert_fails(run("storage", *names), "FLASHINFER_ECORRUPT")
        self.assert_usage("storage")


class Asset(Case):
    """The container is a package as Android's tools make it: a zip whose entry is stored, not compressed, and moved to a
    boundary by padding in its extra field."""

    def package(self, align):
        path = os.path.join(self.folder, f"app{align}.apk")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as package:
            package.writestr("classes.dex", b"x" * 4321)
            name = "assets/model.gguf"
            header = package.fp.tell() + 30 + len(name)
            entry = zipfile.ZipInfo(name)
            padding = -(header + 4) % align
            entry.extra = b"\x35\xd9" + padding.to_bytes(2, "little") + bytes(padding)
            package.writestr(entry, content(MODEL))
            package.writestr("resources.arsc", b"y" * 777)
            offset = package.getinfo(name).header_offset + 30 + len(name) + len(entry.extra)
        with open(path, "rb") as file:
            file.seek(offset)
            self.assertEqual(file.read(4), b"GGUF")
        return path, offset

    def test_aligned_asset_is_read_directly(self):
        path, offset = self.package(4096)
        self.assertEqual(offset % 4096, 0)
        self.assert_story(run("asset", path, offset, FILE_BYTES))
        direct = run("asset", path, offset, FILE_BYTES, "direct")
        if direct.returncode != 0:  # no O_DIRECT on this file system
            self.assert_fails(direct, "FLASHINFER_EUNSUPPORTED", "no direct I/O: the file system")
        else:
            self.assert_story(direct)

    def test_unaligned_asset_is_read_through_the_page_cache(self):
        path, offset = self.package(4)
        self.assertNotEqual(offset % 4096, 0)
        self.assert_story(run("asset", path, offset, FILE_BYTES))
        self.assert_fails(run("asset", path, offset, FILE_BYTES, "direct"), "FLASHINFER_EUNSUPPORTED", str(offset))

    def test_failures(self):
        path, offset = self.package(4096)
        self.assert_fails(run("asset", path, offset + 4096, FILE_BYTES - 4096), "FLASHINFER_EFORMAT")
        self.assert_fails(run("asset", path, offset, FILE_BYTES // 2), "FLASHINFER_EFORMAT", "truncated")
        self.assert_fails(run("asset", path, offset, os.path.getsize(path)), "FLASHINFER_EFORMAT", "truncated")
        self.assert_fails(run("asset", "/nowhere", 0, 1), "/nowhere")
        for arguments in ([], [path], [path, "-1", "5"], [path, "x", "5"], [path, "0", "5", "fast"]):
            self.assert_usage("asset", *arguments)


class Cancel(Case):
    def test_stops_and_goes_on(self):
        done = run("cancel", MODEL, 40)
        self.assertEqual(done.returncode, 0, done.stderr)
        first, second = done.stdout.rstrip("\n").split("\n", 1)
        words, position = first.rsplit(" ", 1)
        self.assertEqual(words, "stopped at position")
        self.assertGreaterEqual(int(position), 40)
        self.assertEqual(second, STORY)

    def test_failures(self):
        done = run("cancel", MODEL, 100000)  # the context is full before anybody presses
        self.assertEqual(done.returncode, 1)
        self.assertIn("FLASHINFER_ECONTEXT", done.stderr)
        self.assert_fails(run("cancel", "/nowhere", 5), "FLASHINFER_EIO", "/nowhere")
        self.assert_usage("cancel", MODEL)
        self.assert_usage("cancel", MODEL, "soon")


class TokenIds(Case):
    def test_ids_are_those_of_generate(self):
        ids = EXPECTED["token_ids"]
        prompt, rest = ids[:-24], ids[-24:]
        done = run("token_ids", MODEL, 24, *prompt)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(list(map(int, done.stdout.split())), rest)

    def test_failures(self):
        self.assert_fails(run("token_ids", MODEL, 3, 2, 99999), "FLASHINFER_ETOKEN", "99999")
        self.assert_fails(run("token_ids", MODEL, 3, -1), "FLASHINFER_ETOKEN")
        self.assert_fails(run("token_ids", "/nowhere", 3, 2), "/nowhere")
        for arguments in ([], [MODEL, 3], [MODEL, 0, 2], [MODEL, 3, "two"], [MODEL, 3, 1 << 40]):
            self.assert_usage("token_ids", *arguments)


@unittest.skipUnless(os.path.exists(f"{PROGRAMS}/embed/raii"), "no C++ compiler when this was built")
class Raii(Case):
    def test_tells_the_story(self):
        self.assert_story(run("raii", MODEL, 0))

    def test_failures_are_exceptions(self):
        done = run("raii", MODEL, 1000)
        self.assert_fails(done, "FLASHINFER_EBUDGET")
        smallest = done.stderr.split("smallest that works with these options is ")[1].split()[0]
        self.assert_story(run("raii", MODEL, smallest))
        self.assert_fails(run("raii", "/nowhere", 0), "FLASHINFER_EIO", "/nowhere")
        self.assert_usage("raii", MODEL)


class Pressure(Case):
    def test_gives_memory_back_when_told_and_tells_the_same(self):
        expected = generate(200)["text"].removeprefix("</s>")
        done = run("pressure", MODEL, "-", text="xxx")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.rstrip("\n"), expected)
        lines = [line.split() for line in done.stderr.splitlines()]
        lines = [line for line in lines if line[0] != "quiet:"]  # a slow machine has time for that too
        self.assertGreaterEqual(len(lines), 2, done.stderr)
        for line in lines:
            self.assertEqual(line[0], "pressure:")
            budget, held = float(line[5]), float(line[-2])
            self.assertLess(budget, float(line[2]))
            self.assertLess(held, budget + 8, "the process holds what it gave back")

    @staticmethod
    def stalled_us():
        with open("/proc/pressure/memory", encoding="ascii") as file:
            return int(file.readline().rsplit("total=", 1)[1])

    def test_the_systems_own_pressure(self):
        """A group with too little memory reads a file over and over: tasks stand still for memory, for real."""
        try:
            group = memory_group.Group()
            self.addCleanup(group.close)
            group.limit(24 << 20)
            with open("/proc/pressure/memory", "r+b", buffering=0) as source:
                source.write(b"some 100000 2000000\0")
        except OSError as problem:
            self.skipTest(f"no pressure can be made or watched here: {problem}")
        large = os.path.join(self.folder, "large")
        with open(large, "wb") as file:
            for _ in range(96):
                file.write(os.urandom(1 << 20))
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # its pages are to be the group's
        stalled = self.stalled_us()
        host = subprocess.Popen([f"{PROGRAMS}/embed/pressure", MODEL, "/proc/pressure/memory", "4"],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(0.3)
        group.run([sys.executable, "-c", "import sys, time\nend = time.time() + 3\nwhile time.time() < end:\n"
                   "    with open(sys.argv[1], 'rb', buffering=0) as file:\n"
                   "        while file.read(1 << 20) and time.time() < end: pass", large])
        out, err = host.communicate(timeout=60)
        self.assertEqual(host.returncode, 0, err)
        self.assertEqual(len(set(out.splitlines())), 1, "stories differ while the budget changes")
        stalled = self.stalled_us() - stalled
        print(f"{stalled} us of standing still; {err}")
        if "pressure:" not in err and stalled < 250000:  # with so much, some 2 s have 100 ms of it
            self.skipTest("this machine counted too little pressure")
        self.assertIn("pressure: budget", err)

    def test_failures(self):
        self.assert_fails(run("pressure", MODEL, "/nowhere"), "cannot watch /nowhere")
        self.assert_fails(run("pressure", "/nowhere", "-"), "FLASHINFER_EIO", "/nowhere")
        self.assert_usage("pressure", MODEL)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
