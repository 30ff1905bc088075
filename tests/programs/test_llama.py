#!/usr/bin/env python3
"""The programs on a gated model: packed in every type and in a learned order, calibrated, judged and run by a predictor file.

usage: test_llama.py PROGRAMS_DIR MODEL.gguf CHECKPOINT     exits 77 (skipped) where the model is not
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest

PROGRAMS, MODEL, CHECKPOINT = sys.argv[1:4]
LAYERS, NEURONS, WIDTH = 6, 2560, 320
PROMPT = "Once upon a time"
if not os.path.exists(MODEL):
    print(f"skipped: {MODEL} is not here")
    sys.exit(77)


def run(program, *arguments):
    return subprocess.run([os.path.join(PROGRAMS, program), *map(str, arguments)], capture_output=True, check=False,
                          text=True, timeout=300)


def good(program, *arguments):
    done = run(program, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def generate(model, *arguments):
    return good("generate", model, "--prompt", PROMPT, *arguments)


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)

    @classmethod
    def path(cls, name):
        return os.path.join(cls.folder.name, name)


class Texts(Case):
    def test_a_text_may_have_more_tokens_than_bytes(self):
        for prompt in ("x", "\u0394", " ", ""):
            ids = good("generate", MODEL, "--prompt", prompt, "--tokens", 2)["token_ids"]
            self.assertGreaterEqual(len(ids), 3, prompt)
        self.assertGreater(len(good("generate", MODEL, "--prompt", "\u0394", "--tokens", 1)["token_ids"]), 4)
        with open(self.path("short"), "w", encoding="utf8") as file:
            file.write("\u0394")
        self.assertGreaterEqual(good("perplexity", MODEL, "--text", self.path("short"))["tokens"], 3)


class Files(Case):
    def test_inspect_says_what_decides(self):
        told = good("inspect", MODEL, "--verify")
        self.assertEqual((told["architecture"], told["layers"], told["ffn"], told["gated"]), ("llama", LAYERS, NEURONS, True))
        self.assertEqual((told["activation"], told["sparse"], told["threshold"]), ("relu", True, 0))
        self.assertEqual((told["heads"], told["kv_heads"], told["head_width"]), (10, 2, 32))
        self.assertEqual(told["bundle_bytes"], 3 * 2 * WIDTH)
        self.assertTrue(told["verified"])
        done = run("inspect", MODEL)
        self.assertIn("2560 neurons with gates, width 320, 10 heads of 32 (2 of keys and values)", done.stdout)
        self.assertIn("activation relu; predictors: exact,sketch,all", done.stdout)

    def test_every_type_runs(self):
        for dtype, bundle in (("f32", 3 * 4 * WIDTH), ("bf16", 3 * 2 * WIDTH), ("q8_0", 3 * 34 * WIDTH // 32),
                              ("q4_0", 3 * 18 * WIDTH // 32)):
            path = self.path(dtype)
            good("pack", CHECKPOINT, path, "--dtype", dtype)
            self.assertEqual(good("inspect", path, "--verify")["bundle_bytes"], bundle)
            said = [generate(path, "--tokens", 12, "--budget", budget, "--predictor", predictor)["token_ids"]
                    for budget, predictor in (("100%", "all"), ("60%", "exact"))]
            self.assertEqual(*said)
            self.assertLess(0.02, generate(path, "--tokens", 4, "--budget", "60%")["predicted_share"])
            os.remove(path)

    def test_a_learned_order_changes_no_token(self):
        trace, path = self.path("trace"), self.path("ordered")
        first = generate(MODEL, "--tokens", 40, "--trace", trace)
        good("pack", CHECKPOINT, path, "--order", trace)
        self.assertTrue(good("inspect", path, "--verify")["ordered"])
        again = generate(path, "--tokens", 40, "--trace", self.path("again"))
        self.assertEqual((first["token_ids"], first["predicted_share"]), (again["token_ids"], again["predicted_share"]))


@unittest.skipUnless(os.path.exists(os.path.join(PROGRAMS, "calibrate")), "calibrate was not built: no BLIS or LAPACK")
class Predictors(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.text, cls.other = cls.path("text"), cls.path("other")
        for path, prompts in ((cls.text, ("Once upon a time", "The captain")), (cls.other, ("It was late",))):
            with open(path, "w", encoding="utf8") as file:
                for prompt in prompts:
                    file.write(good("generate", MODEL, "--prompt", prompt, "--tokens", 250, "--temperature", 0.9,
                                    "--budget", "100%")["text"] + "\n\n")

    def calibrate(self, *arguments):
        made = good("calibrate", MODEL, self.path("made.gguf"), "--text", self.text, "--tokens", 384, "--window-tokens", 64,
                    "--threads", 2, *arguments)
        self.assertEqual(len(made["layers"]), LAYERS)
        return made["layers"]

    def fidelity(self, *arguments):
        return good("fidelity", MODEL, *arguments, "--text", self.other, "--window-tokens", 96, "--audit", 4, "--limit", 2)

    def nll(self, windows, *arguments):
        return good("perplexity", MODEL, "--text", self.other, "--window-tokens", 96, "--limit", windows, *arguments)["nll"]

    def test_thresholds_are_the_gates(self):
        """From calibrating to a text written by the predictor file, and what every report says of it on the way."""
        for layer in self.calibrate("--kinds", "sketch", "--bits", 3, "--recall", 0.99):
            self.assertTrue(0.99 <= layer["recall"] < 0.993, layer["recall"])
            self.assertTrue(layer["active"] <= layer["predicted"] < 2 * layer["active"], layer)
            self.assertTrue(0.01 < layer["active"] < 0.15, layer)
        report = self.fidelity("own", self.path("made.gguf"))
        own, made = report["predictors"]
        for one, recall in ((own, 0.985), (made, 0.96)):  # the second: thresholds of other, very short, text
            self.assertTrue(recall < one["recall"] <= 1 and one["active"] < one["predicted"] < 2 * one["active"], one)
            self.assertTrue(0 < one["missed_weight"] < 0.06 and 0 <= one["kl"] < 0.01, one)
            self.assertTrue(abs(one["perplexity_ratio"] - 1) < 0.02, one)
            self.assertAlmostEqual(one["share_of_ffn_bytes"], 359680 / (NEURONS * 3 * 2 * WIDTH), places=3)
        self.assertLess(made["predicted"], own["predicted"])
        said = generate(MODEL, "--tokens", 24, "--predictor-file", self.path("made.gguf"), "--budget", "50%")
        exact = generate(MODEL, "--tokens", 24, "--predictor", "exact")
        self.assertGreater(sum(map(int.__eq__, said["token_ids"], exact["token_ids"])), 12)
        self.assertTrue(0.01 < said["predicted_share"] < 0.15, said)
        self.assertEqual(self.nll(1, "--predictor", "exact"), self.nll(1, "--predictor", "all"))
        self.assertAlmostEqual(self.nll(2, "--predictor", "exact"), report["exact"]["nll"], places=5)
        self.assertAlmostEqual(self.nll(2, "--predictor-file", self.path("made.gguf")), made["nll"], places=5)

    def test_full_rank_is_the_gate_matrix(self):
        """Factors of it name what fires and next to nothing else; those of the up matrix would name half of the layer."""
        for layer in self.calibrate("--kinds", "lowrank", "--rank", WIDTH, "--recall", 0.99):
            self.assertTrue(0.97 * layer["active"] < layer["predicted"] < 1.02 * layer["active"], layer)
        done = run("perplexity", MODEL, "--text", self.other, "--window-tokens", 96, "--limit", 1, "--predictor-file",
                   self.path("made.gguf"), "--audit", 1, "--json")
        told = json.loads(done.stdout)
        self.assertTrue(0.95 < told["recall"] <= 1, told)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
