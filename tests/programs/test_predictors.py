#!/usr/bin/env python3
"""calibrate and fidelity: predictors made from a text, and reports that tell good ones from bad ones.

usage: test_predictors.py PROGRAMS_DIR MODEL.gguf     exits 77 (skipped) where they were not built (no BLIS or LAPACK)
"""
import array
import json
import os
import struct
import subprocess
import sys
import tempfile
import unittest

PROGRAMS, MODEL = sys.argv[1:3]
LAYERS = 6
if not os.path.exists(os.path.join(PROGRAMS, "calibrate")):
    print("skipped: calibrate was not built, which needs BLIS and LAPACK")
    sys.exit(77)


def run(program, *arguments):
    return subprocess.run([os.path.join(PROGRAMS, program), *map(str, arguments)], capture_output=True, check=False,
                          text=True, timeout=300)


def write_text(path, seed, pieces):
    """What the model itself writes."""
    prompts = ("Once upon a time", "The captain looked out", "It was late in the evening when")
    with open(path, "w", encoding="utf8") as file:
        for prompt in prompts[:pieces]:
            done = run("generate", MODEL, "--prompt", prompt, "--tokens", 250, "--temperature", 0.9, "--seed", seed,
                       "--budget", "100%", "--json")
            assert done.returncode == 0, done.stderr
            file.write(json.loads(done.stdout)["text"] + "\n\n")


def setUpModule():
    """Texts for all tests."""
    Case.folder = tempfile.TemporaryDirectory()
    unittest.addModuleCleanup(Case.folder.cleanup)
    Case.text, Case.other = Case.path("text"), Case.path("other")
    write_text(Case.text, 1, 3)
    write_text(Case.other, 2, 1)


class Case(unittest.TestCase):
    @classmethod
    def path(cls, name):
        return os.path.join(cls.folder.name, name)

    def good(self, done):
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout) if done.stdout.startswith("{") else done.stdout

    def assert_fails(self, done, *words):
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual((done.stderr.splitlines()[-1:] == [], done.stdout), (False, ""), done.stderr)
        for word in words:
            self.assertIn(word, done.stderr.splitlines()[-1])

    def calibrate(self, out, *arguments):
        return run("calibrate", MODEL, self.path(out), "--text", self.text, "--tokens", 640, "--window-tokens", 64,
                   "--threads", 2, "--json", *arguments)

    def fidelity(self, *arguments):
        return run("fidelity", MODEL, *arguments, "--text", self.other, "--window-tokens", 96, "--audit", 4,
                   "--limit", 2, "--json")


class Calibrate(Case):
    def test_kinds_and_sizes_are_chosen_under_a_budget(self):
        made = self.good(self.calibrate("mixed.gguf", "--size", "8%", "--recall", 0.99))
        layers = made["layers"]
        self.assertEqual(len(layers), LAYERS)
        ffn_bytes = 6 * 2560 * 2 * 320 * 2
        self.assertLessEqual(sum(layer["bytes"] for layer in layers), 0.08 * ffn_bytes)
        self.assertGreater(len({(layer["kind"], layer["size"]) for layer in layers}), 1)  # layers differ
        for layer in layers:
            self.assertEqual(len(layer["candidates"]), 10)
            self.assertTrue(0.99 <= layer["recall"] < 0.993, layer["recall"])
            for candidate in layer["candidates"]:
                shares = [share for _, share in candidate["points"]]
                self.assertEqual(shares, sorted(shares))
                self.assertGreaterEqual(shares[-1], 0.9 * layer["active"])
            sketches = [c["predicted"] for c in layer["candidates"] if c["kind"] == "sketch"]
            ranks = [c["predicted"] for c in layer["candidates"] if c["kind"] == "lowrank"]
            self.assertEqual(sketches, sorted(sketches, reverse=True))
            self.assertEqual(ranks, sorted(ranks, reverse=True))
            self.assertLess(ranks[-1], 1.1 * layer["active"])  # full rank is the up matrix itself
        self.assertFalse(os.path.exists(self.path("mixed.gguf.samples")))
        report = self.good(self.fidelity(self.path("mixed.gguf")))["predictors"][0]
        self.assertGreater(report["recall"], 0.97, report)  # other text
        self.assertLess(report["predicted"], 0.2, report)
        self.assertLessEqual(report["share_of_ffn_bytes"], 0.08)

    def test_an_interrupted_run_goes_on(self):
        whole = self.good(self.calibrate("whole.gguf", "--bits", 2, "--kinds", "sketch"))
        command = [os.path.join(PROGRAMS, "calibrate"), MODEL, self.path("halves.gguf"), "--text", self.text, "--tokens",
                   "640", "--window-tokens", "64", "--threads", "2", "--json", "--bits", "2", "--kinds", "sketch"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as first:
            seen = b""
            while b"128 of 640" not in seen:
                piece = os.read(first.stderr.fileno(), 4096)
                self.assertNotEqual(piece, b"", seen)
                seen += piece
            first.kill()
        self.assertTrue(os.path.exists(self.path("halves.gguf.samples")))
        self.assertFalse(os.path.exists(self.path("halves.gguf")))
        done = self.calibrate("halves.gguf", "--bits", 2, "--kinds", "sketch")
        self.assertIn("going on after", done.stderr)
        self.assertEqual(self.good(done)["layers"], whole["layers"])
        with open(self.path("whole.gguf"), "rb") as one, open(self.path("halves.gguf"), "rb") as other:
            self.assertEqual(one.read(), other.read())

    def test_failures(self):
        self.assert_fails(self.calibrate("x.gguf", "--size", "100", "--kinds", "sketch"), "larger --size")
        self.assert_fails(self.calibrate("x.gguf", "--window-tokens", 512, "--tokens", 40000, "--text", "/dev/null"),
                          "too few")
        self.assert_fails(self.calibrate("no/such/x.gguf"), "no/such/x.gguf")
        self.assert_fails(self.calibrate("x.gguf", "--text", "/nowhere"), "/nowhere")
        for wrong in (["--bits", 5], ["--recall", 2], ["--tokens", 100], ["--kinds", "exact"]):
            self.assertEqual(self.calibrate("x.gguf", *wrong).returncode, 2, wrong)
        self.assertFalse(os.path.exists(self.path("x.gguf")))


class Fidelity(Case):
    def test_own_sketch_and_a_curve(self):
        plot = self.path("curve.svg")
        report = self.good(self.fidelity("own", "--plot", plot))
        own = report["predictors"][0]
        self.assertEqual(report["tokens"], 190)
        self.assertEqual((own["name"], own["kind"], len(own["layers"])), ("own", "sketch", LAYERS))
        self.assertTrue(0.98 < own["recall"] <= 1 and 0.02 < own["active"] < own["predicted"] < 0.1, own)
        self.assertTrue(0 <= own["missed_weight"] < 0.05 and 0 <= own["kl"] < 0.01, own)
        self.assertGreater(own["top1_agreement"], 0.95)
        self.assertTrue(abs(own["perplexity"] / report["exact"]["perplexity"] - own["perplexity_ratio"]) < 1e-4)
        self.assertTrue(abs(own["perplexity_ratio"] - 1) < 0.02)
        self.assertEqual(sum(layer["false_negatives"] for layer in own["layers"]), own["false_negatives"])
        self.assertEqual([round(recall, 2) for recall, _ in own["curve"][:5]], [0.9, 0.95, 0.97, 0.98, 0.99])
        with open(plot, encoding="utf8") as file:
            self.assertTrue(file.read().startswith("<svg"))
        self.assertFalse(os.path.exists(plot + ".samples"))
        nll = json.loads(run("perplexity", MODEL, "--text", self.other, "--window-tokens", 96, "--limit", 2,
                             "--predictor", "sketch", "--json").stdout)["nll"]
        self.assertAlmostEqual(nll, own["nll"], places=5)

    def biases(self, path):
        """(offset, count) of every layer's thresholds in a predictor file."""
        with open(path, "rb") as file:
            data = file.read()
        found, alignment = [], 4096
        for layer in range(LAYERS):
            name = f"blk.{layer}.ffn_sketch.bias".encode()
            at = data.index(struct.pack("<Q", len(name)) + name) + 8 + len(name)
            dimensions, = struct.unpack_from("<I", data, at)
            count, = struct.unpack_from("<Q", data, at + 4)
            offset, = struct.unpack_from("<Q", data, at + 4 + 8 * dimensions + 4)
            found.append((offset, count))
        table = data.index(b"flashinfer.xxh3")
        end = table + len(b"flashinfer.xxh3") + 4 + 8 + 4 + 8
        return data, (end + alignment - 1) // alignment * alignment, found

    def test_a_ruined_predictor_is_refused_or_shows(self):
        made = self.path("ruined.gguf")
        self.good(self.calibrate("ruined.gguf", "--bits", 1, "--kinds", "sketch", "--tokens", 512))
        good = self.good(self.fidelity(made))["predictors"][0]
        data, base, found = self.biases(made)
        offset, count = found[2]
        changed = bytearray(data)
        changed[base + offset:base + offset + 4 * count] = array.array("f", [float("nan")] * count).tobytes()
        with open(made, "wb") as file:
            file.write(changed)
        self.assert_fails(self.fidelity(made), "FLASHINFER_ECORRUPT")
        self.assertGreater(good["recall"], 0.9)
        # thresholds of other text find less, and the report says so
        done = self.calibrate("loose.gguf", "--bits", 1, "--kinds", "sketch", "--recall", 0.6)
        self.good(done)
        loose = self.good(self.fidelity(self.path("loose.gguf")))["predictors"][0]
        self.assertTrue(0.4 < loose["recall"] < 0.8, loose["recall"])
        self.assertGreater(loose["missed_weight"], 3 * good["missed_weight"])
        self.assertGreater(loose["kl"], good["kl"])

    def test_failures(self):
        self.assert_fails(self.fidelity("/nowhere"), "/nowhere")
        self.assert_fails(self.fidelity(MODEL), "FLASHINFER_E")
        self.assert_fails(self.fidelity("--plot", "/no/such/place.svg"), "/no/such/place.svg")
        self.assertEqual(run("fidelity", MODEL).returncode, 2)
        self.assertEqual(run("fidelity", MODEL, "--text", "a", "--ids", "b").returncode, 2)
        self.assertEqual(run("fidelity", MODEL, "--text", self.other, "--audit", 0).returncode, 2)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
