#!/usr/bin/env python3
"""Checks the parts of tests/bench/peer.py that need no llama.cpp: the dense file it writes, the library's side, and how it reads
what processes print.

usage: test_peer.py PEER_PROGRAM MODEL.gguf
"""
import os
import struct
import subprocess
import sys
import tempfile
import unittest

TESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path[:0] = [os.path.join(TESTS, "bench"), os.path.join(TESTS, "tools")]
import check_gguf  # noqa: E402
import peer  # noqa: E402
import peer_model  # noqa: E402

SHAPE = {"layers": 2, "d": 64, "heads": 4, "ffn": 256, "vocab": 300, "context": 32}
PROGRAM, MODEL = sys.argv[1:3]


class DenseFile(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "dense.gguf")

    def test_reads_back(self):
        peer_model.write(self.path, SHAPE)
        model = check_gguf.Gguf(self.path)
        self.addCleanup(model.file.close)
        self.assertEqual(model.values["general.architecture"], "gpt2")
        self.assertEqual(model.values["gpt2.feed_forward_length"], 256)
        self.assertEqual(model.tensors["blk.1.ffn_down.weight"][:2], (check_gguf.F16, [256, 64]))
        self.assertEqual(model.tensors["blk.0.attn_qkv.bias"][:2], (check_gguf.F32, [192]))
        self.assertEqual(model.data("output_norm.weight"), struct.pack("<f", 1) * 64)
        for name in model.order:
            self.assertEqual(len(model.data(name)), model.size(name))
        numbers = struct.unpack("<16384e", model.data("blk.0.ffn_up.weight"))
        self.assertTrue(all(1 / 16 <= abs(number) < 1 / 8 for number in numbers))  # 1 / sqrt(64) and its half
        self.assertLess(abs(sum(numbers)) / len(numbers), 0.01)
        self.assertGreater(len(set(numbers)), 1000)

    def test_blocks(self):
        sizes, wide = {}, dict(SHAPE, d=256, ffn=1024)
        for kind in peer_model.TYPES:
            peer_model.write(self.path, wide, kind)
            sizes[kind] = os.path.getsize(self.path)
        self.assertLess(sizes["q4_0"], 0.6 * sizes["q8_0"])
        self.assertLess(sizes["q8_0"], 0.7 * sizes["f16"])
        with self.assertRaises(ValueError):
            peer_model.write(self.path, dict(SHAPE, d=40), "q4_0")


def printed(*events):
    return "".join('{"event": "%s", "seconds": %g, "read_bytes": %d, "logit": 0}\n' % event for event in events)


class Figures(unittest.TestCase):
    def test_decoding_is_counted_after_the_warm_up(self):
        begin = [("begun", 0, 0), ("opened", 1, 50), ("prompt", 2, 1000)]
        slow = [("token", 2 + i, 1000 + 100 * i) for i in range(1, 17)]
        fast = [("token", 18 + i / 10, 2600 + 10 * i) for i in range(1, 11)]
        figures = peer.figures_of(peer.events_of(printed(*begin, *slow, *fast)))
        self.assertEqual((figures["tokens"], figures["first_token_seconds"]), (26, 2))
        self.assertAlmostEqual(figures["tokens_per_second"], 10)
        self.assertAlmostEqual(figures["bytes_per_token"], 10)

    def test_a_run_that_was_ended(self):
        cut = printed(("begun", 0, 0), ("opened", 1, 0), ("prompt", 2, 0), ("token", 42, 0), ("token", 62, 0)) + '{"eve'
        figures = peer.figures_of(peer.events_of(cut.encode()))
        self.assertAlmostEqual(figures["tokens_per_second"], 1 / 20)
        self.assertEqual(peer.outcome_of(None, "", figures["tokens"], 64), "time over, 2 of 64 tokens")
        none = peer.figures_of(peer.events_of(printed(("begun", 0, 0))))
        self.assertIsNone(none["first_token_seconds"])
        self.assertEqual(peer.outcome_of(-9, "", 0, 64), "killed by its memory limit")
        self.assertEqual(peer.outcome_of(1, "a\nb\n", 0, 64), "failed: b")

    def test_numbers_are_short_but_whole(self):
        self.assertEqual([peer.short(number) for number in (12922.6, 99.96, 0.08567, 0.0)], ["12923", "100", "0.0857", "0"])

    def test_ratios_are_of_pairs(self):
        runs = [{"way": way, "round": number, "prompt_tokens": 128, "tokens_per_second": rate, "disturbed": disturbed}
                for way, number, rate, disturbed in (("a", 0, 6.0, False), ("b", 0, 2.0, False), ("a", 1, 9.0, False),
                                                     ("b", 1, 0.1, True))]
        self.assertEqual(peer.ratios_of(runs, "tokens_per_second", 128, "a", "b"), [(3.0, False), (9 / 0.1, True)])
        self.assertEqual(peer.ratios_of(runs[:3], "tokens_per_second", 128, "a", "b"), [(3.0, False)])
        self.assertEqual(peer.ratios_of(runs, "tokens_per_second", 512, "a", "b"), [])


class Arguments(unittest.TestCase):
    def test_lists(self):
        options = peer.read_arguments(["--limits", "50,110", "--prompts", "16", "--shape", "opt-6.7b"])
        self.assertEqual((options.limits, options.prompts), ([50, 110], [16]))

    def test_refusals(self):
        for words in (["--limits", "0"], ["--limits", "half"], ["--shape", "other"]):
            done = subprocess.run([sys.executable, peer.__file__, *words], capture_output=True, check=False)
            self.assertEqual(done.returncode, 2)


class Program(unittest.TestCase):
    def run_side(self, budget):
        return subprocess.run([PROGRAM, MODEL, budget, "2", "8", "20", "64", "60"], capture_output=True, text=True, check=False)

    def test_tells_every_token(self):
        done = self.run_side(f"{os.path.getsize(MODEL) // 2}:exact")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        events = peer.events_of(done.stdout)
        self.assertEqual([event["event"] for event in events], ["begun", "opened", "prompt"] + 20 * ["token"])
        self.assertEqual(len({event["logit"] for event in events[2:]}), 21)
        self.assertGreater(peer.figures_of(events)["tokens_per_second"], 0)

    def test_refusals(self):
        self.assertIn("EBUDGET", self.run_side("1000").stderr)
        self.assertEqual(self.run_side("20000000:no").returncode, 1)
        self.assertEqual(subprocess.run([PROGRAM, MODEL], capture_output=True, check=False).returncode, 2)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
