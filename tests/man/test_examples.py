#!/usr/bin/env python3
"""The programs under EXAMPLES in the man pages, taken from the pages as a reader sees them, are compiled and do what they say.

Each runs on the bundled model, most with its path alone (ARGUMENTS has the others), and once more on a file that is not
there: then it ends with 1 and prints the library's error.

usage: test_examples.py ROOT BUILD_DIR MAN_DIR MODEL.gguf CHECKPOINT
"""
import glob
import os
import re
import subprocess
import sys
import tempfile
import unittest

ROOT, BUILD, MAN, MODEL, CHECKPOINT = map(os.path.abspath, sys.argv[1:6])
# Arguments, if they are others than the model's path. OUT is a file that the program makes.
ARGUMENTS = {
    "flashinfer_model_open_fd": ["{ARCHIVE}"],
    "flashinfer_order_create": ["{MODEL}", "{CHECKPOINT}", "{OUT}"],
    "flashinfer_pack": ["{CHECKPOINT}", "{OUT}"],
    "flashinfer_predictor_create": ["{MODEL}", "{OUT}"],
    "flashinfer_probe": ["{MODEL}", "{OUT}"],
}
# What they print, as a regular expression. Of those that are not here: anything.
PRINTED = {
    "flashinfer_audit_callback": r"\d+ of [1-9]\d+ firing neurons were not named\n",
    "flashinfer_error": r"opened\n",
    "flashinfer_eval": r"Once upon a time there was a little: [a-z]+\n",
    "flashinfer_model_info": r"opt: \d+ parameters, runs with exact,sketch,all\n(.* = .*\n)+(.*: \d+ bytes\n)+",
    "flashinfer_model_open": r"(\d+) of \d+ bytes, \d+ of them for [1-9]\d+ neurons in memory\n",
    "flashinfer_model_open_fd": r"\d+ layers of \d+ neurons\n",
    "flashinfer_model_open_storage": r"opened\n",
    "flashinfer_model_set_budget": r"(\d+ bytes): logit (\S+)\n\d+ bytes: logit \2\n\1: logit \2\n",
    "flashinfer_model_stats": r"8 tokens: .* % of the neurons named, .* % of those in memory, \d+ bytes read, .* ms a token\n",
    "flashinfer_order_create": r"packed .* in order\n",
    "flashinfer_pack": r"(.*\n)*packed .*\n",
    "flashinfer_predictor_create": r"[1-9]\d+ bytes in memory\nopened with it\n",
    "flashinfer_probe": r"( *\d+ bytes, 16 in flight: \d+ MB/s\n){6}",
    "flashinfer_sampler_create": r"Once upon a time[^\n]{20,}.*\n",
    "flashinfer_session_cancel": r"stopped after \d+ tokens\n",
    "flashinfer_state_save": r"\d+ bytes hold 4 tokens; the same logits\n",
    "flashinfer_tokenize": r"[1-9] ids: The bear went home\.\n",
}
LEAST = {"flashinfer_model_open", "flashinfer_eval", "flashinfer_sampler_create", "flashinfer_state_save",
         "flashinfer_session_cancel", "flashinfer_predictor_create", "flashinfer_error"}


def seen(path):
    """A page as it stands on a terminal."""
    text = subprocess.run(["mandoc", "-T", "utf8", path], check=True, capture_output=True, text=True).stdout
    return re.sub(".\b", "", text)


def program_of(page):
    """The program under EXAMPLES, or None."""
    section = re.search(r"^EXAMPLES\n(.*?)^(?=\S)", page, flags=re.M | re.S)
    program = re.search(r"^ {5}#.*", section[1], flags=re.M | re.S) if section else None
    return re.sub(r"^ {5}", "", program[0], flags=re.M) if program else None


class Examples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = folder.name
        cls.programs = {}
        for path in sorted(glob.glob(f"{MAN}/man3/*.3")):
            program = program_of(seen(path))
            if program is not None:
                cls.programs[os.path.basename(path)[:-2]] = program
        with open(f"{cls.folder}/archive", "wb") as archive, open(MODEL, "rb") as model:
            archive.write(bytes(4096) + model.read())

    def compiled(self, name, text):
        with open(f"{self.folder}/{name}.c", "w", encoding="utf8") as file:
            file.write(text)
        done = subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-pedantic", "-Werror", "-pthread",
                               f"-I{ROOT}/include", f"{self.folder}/{name}.c", "-o", f"{self.folder}/{name}", f"-L{BUILD}",
                               "-lflashinfer", f"-Wl,-rpath,{BUILD}"], check=False, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return f"{self.folder}/{name}"

    def run_one(self, name, program, **places):
        arguments = [text.format(OUT=f"{self.folder}/{name}.out", **places) for text in ARGUMENTS.get(name, ["{MODEL}"])]
        return subprocess.run([program, *arguments], check=False, capture_output=True, text=True, timeout=200)

    def test_there_are_some(self):
        self.assertEqual(LEAST - self.programs.keys(), set())
        self.assertEqual(PRINTED.keys() - self.programs.keys(), set(), "expected of programs that are on no page")

    def test_each(self):
        for name, text in self.programs.items():
            with self.subTest(name):
                program = self.compiled(name, text)
                done = self.run_one(name, program, MODEL=MODEL, CHECKPOINT=CHECKPOINT, ARCHIVE=f"{self.folder}/archive")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertRegex(done.stdout, rf"\A(?:{PRINTED.get(name, '(?s:.+)')})\Z")
                nowhere = f"{self.folder}/nowhere"
                done = self.run_one(f"{name}", program, MODEL=nowhere, CHECKPOINT=nowhere, ARCHIVE=nowhere)
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertIn("nowhere", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[6:], verbosity=2)
