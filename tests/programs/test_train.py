#!/usr/bin/env python3
"""bindings/python/train_predictor.py on a few hundred tokens: a file that opens and finds much more than chance.

usage: test_train.py PROGRAMS_DIR MODEL.gguf LIBRARY.so GATED.gguf     exits 77 (skipped) where torch or numpy is not installed
"""
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest

PROGRAMS, MODEL, LIBRARY, GATED = sys.argv[1:5]
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bindings", "python"))
import train_predictor  # noqa: E402

if train_predictor.MISSING is not None:
    print(f"skipped: {train_predictor.MISSING} is not installed")
    sys.exit(77)


def run(*command, **environment):
    return subprocess.run([*map(str, command)], capture_output=True, check=False, text=True, timeout=300,
                          env={**os.environ, **environment})


def run_here(arguments):
    """The trainer's main(): importing torch once is long enough."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = train_predictor.main([*map(str, arguments)])
        except SystemExit as end:
            code = end.code
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def write_text(path, seed):
    """What the model itself writes: a few hundred tokens."""
    with open(path, "w", encoding="utf8") as file:
        for prompt in ("Once upon a time", "The captain looked out"):
            done = run(f"{PROGRAMS}/generate", MODEL, "--prompt", prompt, "--tokens", 400, "--temperature", 0.9,
                       "--seed", seed, "--budget", "100%", "--json")
            assert done.returncode == 0, done.stderr
            file.write(json.loads(done.stdout)["text"] + "\n\n")


class Train(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.text, cls.other = cls.path("text"), cls.path("other")
        write_text(cls.text, 1)
        write_text(cls.other, 2)

    @classmethod
    def path(cls, name):
        return os.path.join(cls.folder.name, name)

    def train(self, *arguments, model=MODEL):
        return run_here([model, self.path("out.gguf"), "--library", LIBRARY, "--device", "cpu", "--threads", 1,
                         "--tokens", 640, "--window-tokens", 64, "--batch", 8, *arguments])

    def assert_fails(self, done, *words):
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual((done.stderr.count("\n"), done.stdout), (1, ""), done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    def test_finds_what_fires(self):
        done = self.train("--text", self.text, "--recall", 0.9)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("10.7% of the FFN", done.stdout)
        layers = [[float(cell.rstrip("%")) for cell in line.split()] for line in done.stdout.splitlines()[1:-1]]
        self.assertEqual([int(line[0]) for line in layers], [0, 1, 2, 3, 4, 5])
        for line in layers:
            self.assertTrue(90 <= line[-1] < 91, line)
        self.assertEqual(sorted(os.listdir(self.folder.name)), ["other", "out.gguf", "text"])
        done = run(f"{PROGRAMS}/perplexity", MODEL, "--predictor-file", self.path("out.gguf"), "--text", self.other,
                   "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(done.stdout)
        self.assertGreater(result["recall"], 0.8, result)
        self.assertLess(result["predicted_share"], 0.6, result)

    def test_ranks_by_layer_and_relu(self):
        done = self.train("--text", self.text, "--rank", 8, "--last-rank", 24, "--last-layers", 2, "--relu",
                          "--epochs", 1)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([line.split()[1] for line in done.stdout.splitlines()[1:-1]], ["8"] * 4 + ["24"] * 2)
        done = run(f"{PROGRAMS}/generate", MODEL, "--prompt", "x", "--tokens", 2, "--predictor-file",
                   self.path("out.gguf"))
        self.assertEqual(done.returncode, 0, done.stderr)

    @unittest.skipUnless(os.path.exists(GATED), f"{GATED} is not here")
    def test_gates_decide(self):
        """Truths of the up matrix would find half of all neurons firing, and the model would run without most that do."""
        done = self.train("--text", self.text, "--recall", 0.9, "--epochs", 1, model=GATED)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("10.6% of the FFN", done.stdout)
        for line in done.stdout.splitlines()[1:-1]:
            self.assertTrue(0.5 < float(line.split()[2].rstrip("%")) < 20, line)
        done = run(f"{PROGRAMS}/perplexity", GATED, "--predictor-file", self.path("out.gguf"), "--text", self.other, "--json",
                   "--limit", 1, "--window-tokens", 128, "--audit", 1)
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(done.stdout)
        self.assertGreater(result["recall"], 0.8, result)
        self.assertLess(result["predicted_share"], 0.75, result)

    def test_failures(self):
        self.assert_fails(self.train("--text", "/nowhere"), "/nowhere", "No such file")
        self.assert_fails(self.train("--text", self.text, "--tokens", 100), "too few")
        self.assert_fails(self.train("--text", self.text, "--size", "0.01%"), "too small")
        self.assert_fails(self.train("--text", self.text, "--window-tokens", 100000), "FLASHINFER_EINVAL", "context")
        self.assert_fails(self.train("--text", self.text, model="/nowhere"), "FLASHINFER_EIO", "/nowhere")
        self.assert_fails(self.train("--text", self.text, "--library", "/nowhere"), "cannot use the library")
        with open(self.path("torch.py"), "w", encoding="utf8") as file:
            file.write("raise ModuleNotFoundError('none', name='torch')")
        done = run(sys.executable, train_predictor.__file__, MODEL, "out", "--text", self.text,
                   PYTHONPATH=self.folder.name)
        self.assert_fails(done, "pip install torch")
        os.remove(self.path("torch.py"))

    def test_wrong_usage(self):
        for arguments in ([], ["--text"], ["--text", "x", "--rank", "0"], ["--text", "x", "--recall", "1.5"],
                          ["--text", "x", "--rank", "8", "--size", "5"], ["--text", "x", "--last-rank", "8"]):
            done = self.train(*arguments)
            self.assertEqual((done.returncode, done.stdout), (2, ""), arguments)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[5:], verbosity=2)
