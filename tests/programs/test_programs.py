#!/usr/bin/env python3
"""The example programs, as scripts use them: JSON keys, texts, exit codes, one line on stderr per failure.

usage: test_programs.py PROGRAMS_DIR MODEL.gguf CHECKPOINT
"""
import array
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAMS, MODEL, CHECKPOINT = sys.argv[1:4]


def content(path):
    with open(path, "rb") as file:
        return file.read()


CARD = json.loads(content(os.path.join(CHECKPOINT, "card.json")))
PROMPT = next(iter(CARD["greedy"]))
FILE_BYTES = os.path.getsize(MODEL)
GENERATE_KEYS = {
    "text": str, "token_ids": list, "tokens_per_second": float, "time_to_first_token_s": float,
    "flash_bytes_per_token": float, "hit_rate": float, "predicted_share": float, "budget_bytes": int,
    "planned_bytes": int, "peak_rss_bytes": int,
}
PERPLEXITY_KEYS = {"nll": float, "perplexity": float, "tokens": int, "recall": float, "predicted_share": float}


def run(program, *arguments):
    done = subprocess.run([os.path.join(PROGRAMS, program), *map(str, arguments)], capture_output=True, check=False,
                          timeout=300)
    done.stdout = done.stdout.decode()
    done.stderr = done.stderr.decode()
    return done


def generate(*arguments):
    done = run("generate", MODEL, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Case(unittest.TestCase):
    def assert_fails(self, done, *words):
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertEqual(len(done.stdout), 0)
        for word in words:
            self.assertIn(word, done.stderr)

    def assert_usage(self, program, *arguments):
        done = run(program, *arguments)
        self.assertEqual(done.returncode, 2, (arguments, done.stderr))
        self.assertEqual(done.stdout, "")
        self.assertNotEqual(done.stderr, "")

    def assert_keys(self, result, keys):
        for key, kind in keys.items():
            self.assertIn(key, result)
            self.assertIsInstance(result[key], kind, key)


class Generate(Case):
    def test_json_has_the_documented_keys(self):
        result = generate("--prompt", PROMPT, "--tokens", 24)
        self.assert_keys(result, GENERATE_KEYS)
        self.assertTrue(result["text"].startswith("</s>" + PROMPT) or result["text"].startswith(PROMPT), result["text"])
        self.assertEqual(result["token_ids"][0], 2)
        self.assertEqual(result["budget_bytes"], FILE_BYTES // 2)
        self.assertLessEqual(result["planned_bytes"], result["budget_bytes"])
        self.assertLessEqual(result["peak_rss_bytes"], result["budget_bytes"] + 8 * 2**20)
        self.assertTrue(0 < result["hit_rate"] < 1 and 0 < result["predicted_share"] < 0.2, result)
        self.assertTrue(result["tokens_per_second"] > 0 and result["flash_bytes_per_token"] > 0, result)

    def test_exact_mode_writes_what_transformers_wrote(self):
        result = generate("--prompt", PROMPT, "--tokens", 64, "--predictor", "exact", "--temperature", 0)
        expected = CARD["greedy"][PROMPT]
        self.assertEqual(result["text"].removeprefix("</s>"), expected.removeprefix("</s>"))

    def test_tokens_do_not_depend_on_how_it_runs(self):
        first = generate("--prompt", PROMPT, "--tokens", 24)["token_ids"]
        ways = [["--storage", "libaio"], ["--storage", "pread"], ["--storage", "buffered"], ["--threads", 1],
                ["--threads", 3], ["--window", 2], ["--policy", "frequency"], ["--budget", "100%"], ["--budget", "30M"], ["--context", 280]]
        uring = run("generate", MODEL, "--prompt", PROMPT, "--tokens", 1, "--storage", "io_uring")
        if uring.returncode == 0:
            ways.append(["--storage", "io_uring"])
        else:
            self.assert_fails(uring, "FLASHINFER_EUNSUPPORTED", "io_uring")
            print("not here:", uring.stderr)
        for way in ways:
            self.assertEqual(generate("--prompt", PROMPT, "--tokens", 24, *way)["token_ids"], first, way)

    def test_seed_decides_what_is_drawn(self):
        warm = ["--prompt", PROMPT, "--tokens", 24, "--temperature", 1, "--top-k", 50]
        one, again, two = (generate(*warm, "--seed", seed)["token_ids"] for seed in (1, 1, 2))
        self.assertEqual(one, again)
        self.assertNotEqual(one, two)

    def test_text_and_table(self):
        done = run("generate", MODEL, "--prompt", PROMPT, "--tokens", 16)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(PROMPT, done.stdout)
        for words in ("tokens/s", "flash bytes/token", "hit rate", "missed neurons", "memory budget", "peak process"):
            self.assertIn(words, done.stdout)

    def test_prompt_of_any_bytes_makes_valid_json(self):
        done = subprocess.run([os.path.join(PROGRAMS, "generate"), MODEL, "--prompt", b'\xff\xc3"\x01 \xed\xa0\x80',
                               "--tokens", "2", "--json"], capture_output=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        json.loads(done.stdout.decode("utf8"))

    def test_too_small_a_budget_names_one_that_works(self):
        done = run("generate", MODEL, "--prompt", PROMPT, "--tokens", 8, "--budget", 1000000)
        self.assert_fails(done, "FLASHINFER_EBUDGET", "1000000")
        smallest = int(done.stderr.split("smallest that works with these options is ")[1].split()[0])
        result = generate("--prompt", PROMPT, "--tokens", 8, "--budget", smallest)
        self.assertEqual(result["planned_bytes"], smallest)
        self.assertLessEqual(result["peak_rss_bytes"], smallest + 8 * 2**20)
        self.assert_fails(run("generate", MODEL, "--prompt", PROMPT, "--tokens", 8, "--budget", smallest - 1),
                          str(smallest))

    def test_failures(self):
        self.assert_fails(run("generate", "/nowhere/model.gguf", "--prompt", "x"), "/nowhere/model.gguf")
        self.assert_fails(run("generate", CHECKPOINT + "/config.json", "--prompt", "x"), "FLASHINFER_EFORMAT")
        self.assert_fails(run("generate", MODEL, "--prompt", "x", "--context", 1000), "FLASHINFER_E")
        self.assert_fails(run("generate", MODEL, "--prompt", "x", "--tokens", 900), "FLASHINFER_E")

    def test_wrong_usage(self):
        for arguments in ([], [MODEL], [MODEL, "--prompt"], [MODEL, MODEL, "--prompt", "x"],
                          [MODEL, "--prompt", "x", "--color"], [MODEL, "--prompt", "x", "--tokens", "0"],
                          [MODEL, "--prompt", "x", "--tokens", "-3"], [MODEL, "--prompt", "x", "--tokens", "2x"],
                          [MODEL, "--prompt", "x", "--budget", "half"], [MODEL, "--prompt", "x", "--budget", "-5%"],
                          [MODEL, "--prompt", "x", "--budget", "nan%"], [MODEL, "--prompt", "x", "--budget", ""],
                          [MODEL, "--prompt", "x", "--predictor", "psychic"], [MODEL, "--prompt", "x", "--seed", "x"],
                          [MODEL, "--prompt", "x", "--storage", "tape"], [MODEL, "--prompt", "x", "--threads", "0"],
                          [MODEL, "--prompt", "x", "--temperature", "warm"],
                          [MODEL, "--prompt", "x", "--top-p", "1.5"], [MODEL, "--prompt", "x", "--window", "-1"],
                          [MODEL, "--prompt", "x", "--policy", "best"]):
            self.assert_usage("generate", *arguments)

    def test_output_that_does_not_arrive(self):
        for program, *arguments in (["generate", MODEL, "--prompt", "x", "--tokens", 2],
                                    ["generate", MODEL, "--prompt", "x", "--tokens", 2, "--json"], ["inspect", MODEL],
                                    ["perplexity", MODEL, "--text", os.path.join(CHECKPOINT, "MODEL_CARD.md"),
                                     "--window-tokens", 8, "--limit", 1]):
            with open("/dev/full", "w", encoding="utf8") as full:
                done = subprocess.run([os.path.join(PROGRAMS, program), *map(str, arguments)], stdout=full, timeout=300,
                                      stderr=subprocess.PIPE, check=False)
            self.assertEqual(done.returncode, 1, program)
            self.assertEqual(done.stderr.decode().count("\n"), 1)

    def test_help(self):
        for program in ("generate", "perplexity", "inspect", "pack", "probe"):
            done = run(program, "--help")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("usage: " + program, done.stdout)


class Perplexity(Case):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.text = os.path.join(self.folder.name, "text")
        with open(self.text, "w", encoding="utf8") as file:
            file.write(PROMPT + " went out into the world to seek her fortune.\n")

    def tearDown(self):
        self.folder.cleanup()

    def ids_file(self, ids):
        path = os.path.join(self.folder.name, "ids")
        with open(path, "wb") as file:
            array.array("i", ids).tofile(file)
        return path

    def measure(self, *arguments):
        done = run("perplexity", MODEL, "--json", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(done.stdout)
        self.assert_keys(result, PERPLEXITY_KEYS)
        return result

    def test_text_and_its_ids_score_the_same(self):
        words = content(self.text).decode()
        ids = generate("--prompt", words, "--tokens", 1)["token_ids"][:-1]
        by_text = self.measure("--text", self.text)
        by_ids = self.measure("--ids", self.ids_file(ids), "--window-tokens", 512)
        self.assertEqual(by_text["nll"], by_ids["nll"])
        self.assertEqual(by_text["tokens"], len(ids) - 1)

    def test_predictors(self):
        exact, everything, sketch = (self.measure("--text", self.text, "--predictor", kind, "--audit", 1)
                                     for kind in ("exact", "all", "sketch"))
        self.assertEqual(exact["nll"], everything["nll"])
        self.assertEqual((exact["recall"], everything["recall"]), (1, 1))
        self.assertEqual(everything["predicted_share"], 1)
        self.assertTrue(0.9 < sketch["recall"] <= 1, sketch)
        self.assertTrue(exact["predicted_share"] < sketch["predicted_share"] < 0.2, sketch)

    def test_half_of_the_file_is_enough_for_long_windows(self):
        result = self.measure("--ids", self.ids_file([2, 300, 301, 302] * 8), "--window-tokens", 512, "--budget", "50%")
        self.assertEqual(result["kv"], "f16")
        roomy = self.measure("--ids", self.ids_file([2, 300, 301, 302] * 8), "--window-tokens", 512)
        self.assertEqual(roomy["kv"], "f32")
        self.assertAlmostEqual(result["nll"], roomy["nll"], delta=0.005)

    def test_windows_of_ids(self):
        result = self.measure("--ids", self.ids_file([2, 300, 301, 302] * 4), "--window-tokens", 4)
        self.assertEqual(result["tokens"], 12)

    def test_failures(self):
        odd = os.path.join(self.folder.name, "odd")
        with open(odd, "wb") as file:
            file.write(b"12345")
        self.assert_fails(run("perplexity", MODEL, "--ids", odd), "odd")
        self.assert_fails(run("perplexity", MODEL, "--ids", self.ids_file([2])), "fewer than two")
        self.assert_fails(run("perplexity", MODEL, "--ids", self.ids_file([2, 4096])), "FLASHINFER_ETOKEN", "4096")
        self.assert_fails(run("perplexity", MODEL, "--ids", self.ids_file([-1, 7])), "FLASHINFER_ETOKEN")
        self.assert_fails(run("perplexity", MODEL, "--text", "/nowhere"), "/nowhere")

    def test_wrong_usage(self):
        for arguments in ([], [MODEL], [MODEL, "--text", "a", "--ids", "b"],
                          [MODEL, "--ids", "a", "--window-tokens", "1"]):
            self.assert_usage("perplexity", *arguments)


def gguf_of_others(architecture, tensor_type, alignment):
    """A header as llama.cpp writes it: one tensor, no checksums."""
    def text(words):
        return struct.pack("<Q", len(words)) + words.encode()
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 2)
    head += text("general.architecture") + struct.pack("<I", 8) + text(architecture)
    head += text("general.alignment") + struct.pack("<II", 4, alignment)
    return head + text("token_embd.weight") + struct.pack("<IQIQ", 1, 256, tensor_type, 16) + bytes(4096)


class Inspect(Case):
    def test_a_file_of_others_says_what_it_is(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "downloaded.gguf")
            for tensor_type in (0, 12):  # F32, Q4_K
                for alignment in (32, 33):
                    for architecture, words in (("llama", ("not in flash layout", "Hugging Face", "llama, minicpm")),
                                                ("mamba", ("\"mamba\" is not supported", "llama, minicpm"))):
                        with open(path, "wb") as file:
                            file.write(gguf_of_others(architecture, tensor_type, alignment))
                        self.assert_fails(run("inspect", path), *words)

    def test_json(self):
        done = run("inspect", MODEL, "--json", "--verify")
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(done.stdout)
        self.assertEqual((result["architecture"], result["layers"], result["ffn"]), ("opt", 6, 2560))
        # the checkpoint has 13,796,480, of them two rows of positions that no token ever uses
        self.assertEqual(result["parameters"], 13796480 - 2 * 320)
        self.assertEqual(result["file_bytes"], FILE_BYTES)
        self.assertTrue(result["verified"])
        self.assertIn("blk.0.ffn_bundle.weight", [tensor["name"] for tensor in result["tensors"]])
        self.assertEqual(result["metadata"]["general.architecture"], "opt")

    def test_text(self):
        done = run("inspect", MODEL)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("blk.5.ffn_bundle.weight", done.stdout)

    def test_verify_finds_one_wrong_bit(self):
        with tempfile.TemporaryDirectory() as folder:
            copy = os.path.join(folder, "copy.gguf")
            data = bytearray(content(MODEL))
            data[len(data) * 3 // 4] ^= 4
            with open(copy, "wb") as file:
                file.write(data)
            self.assertEqual(run("inspect", copy).returncode, 0)
            self.assert_fails(run("inspect", copy, "--verify"), "FLASHINFER_ECORRUPT")

    def test_wrong_usage(self):
        self.assert_usage("inspect")
        self.assert_usage("inspect", MODEL, "--verbose")


class Probe(Case):
    def probe(self, *arguments):
        done = run("probe", *arguments, "--seconds", "0.2", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_json_has_the_documented_keys(self):
        with tempfile.TemporaryDirectory() as folder:
            result = self.probe(folder, "--size", "8M")
            self.assertEqual(os.listdir(folder), [])
        device, recommended = result["device"], result["recommended"]
        self.assertEqual(list(device["read_gbps"]), ["4096", "16384", "32768", "65536", "262144", "1048576"])
        for row in device["read_gbps"].values():
            self.assertEqual(list(row), ["1", "4", "16", "64"])
            self.assertTrue(all(rate is None or rate > 0 for rate in row.values()), row)
        # On a slow disk the file ends where its share of the time does.
        self.assertTrue(0 < device["file_bytes"] <= 8 * 2**20, device)
        self.assertTrue(device["latency_us"] > 0 and device["dram_gbps"] > 0, device)
        self.assertTrue(result["kernels"]["matvec_f16_gbps"] > 0, result)
        for key in ("lanes", "depth", "gap_bytes"):
            self.assertIsInstance(recommended[key], int)
        self.assertTrue(1 <= recommended["depth"] <= 64 and 1 <= recommended["gap_bytes"] <= 65536, recommended)

    def test_saved_result_changes_no_token(self):
        with tempfile.TemporaryDirectory() as folder:
            saved = os.path.join(folder, "probe")
            result = self.probe(MODEL, "--save", saved, "--threads", 1)
            self.assertEqual(result["device"]["file_bytes"], FILE_BYTES)
            plain = generate("--prompt", PROMPT, "--tokens", 12)
            probed = generate("--prompt", PROMPT, "--tokens", 12, "--probe", saved)
            self.assertEqual(plain["token_ids"], probed["token_ids"])
            with open(saved, "ab") as file:
                file.write(b" ")
            self.assert_fails(run("generate", MODEL, "--prompt", "x", "--probe", saved), "FLASHINFER_E", saved)

    def test_table(self):
        done = run("probe", MODEL, "--seconds", "0.2", "--storage", "buffered")
        self.assertEqual(done.returncode, 0, done.stderr)
        for words in ("random reads by buffered", "1024 KiB", "latency", "memory read", "recommended:"):
            self.assertIn(words, done.stdout)

    def test_failures(self):
        self.assert_fails(run("probe", "/nowhere"), "FLASHINFER_EIO", "/nowhere")
        self.assert_fails(run("probe", "/proc"), "FLASHINFER_EIO", "/proc")
        self.assert_fails(run("probe", CHECKPOINT + "/config.json"), "FLASHINFER_EINVAL", "at least")
        self.assert_fails(run("probe", MODEL, "--seconds", "0.1", "--save", "/nowhere/file"), "/nowhere/file")
        self.assert_fails(run("generate", MODEL, "--prompt", "x", "--probe", "/nowhere"), "/nowhere")

    def test_wrong_usage(self):
        for arguments in ([], [MODEL, MODEL], [MODEL, "--seconds", "0"], [MODEL, "--seconds", "fast"],
                          [MODEL, "--size", "big"], [MODEL, "--size", "-1M"], [MODEL, "--size", "1P"],
                          [MODEL, "--size", "1MB"], [MODEL, "--threads", "0"], [MODEL, "--storage", "tape"],
                          [MODEL, "--save"]):
            self.assert_usage("probe", *arguments)


class Trace(Case):
    def replay(self, *arguments):
        return run(os.path.join("..", "tests", "bench", "cache_replay"), *arguments)

    def test_replay_holds_policies_against_the_optimum(self):
        with tempfile.TemporaryDirectory() as folder:
            trace = os.path.join(folder, "trace")
            stats = generate("--prompt", PROMPT, "--tokens", 40, "--trace", trace)
            done = self.replay(trace, "--skip", 8, "--read", 4, "--context", 64, "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            result, = json.loads(done.stdout)["traces"]
            self.assertEqual(result["tokens"], len(stats["token_ids"]) - 1)
            rows = {row["name"]: row for row in result["rows"]}
            best = rows["Belady"]["missing_per_token"]
            for row in rows.values():
                if row["missing_per_token"] is not None: # the paper's window may not fit
                    self.assertGreaterEqual(row["missing_per_token"], best, row)
                    self.assertGreater(row["io_ms"], 0, row)
            self.assertGreater(rows["window, filled"]["missing_per_token"], best)

    def test_replay_misses_what_the_engine_missed(self):
        with tempfile.TemporaryDirectory() as folder:
            trace = os.path.join(folder, "trace")
            for policy, name in (("window", "window, filled"), ("frequency", "frequency"), ("balanced", "balanced")):
                stats = generate("--prompt", PROMPT, "--tokens", 24, "--trace", trace, "--policy", policy, "--context",
                                 64)
                done = self.replay(trace, "--skip", 0, "--read", 0, "--context", 64, "--json")
                rows = {row["name"]: row for row in json.loads(done.stdout)["traces"][0]["rows"]}
                self.assertAlmostEqual(rows[name]["hit_rate"], stats["hit_rate"], 5)

    def test_damaged_traces(self):
        with tempfile.TemporaryDirectory() as folder:
            trace = os.path.join(folder, "trace")
            generate("--prompt", PROMPT, "--tokens", 4, "--trace", trace)
            data = content(trace)
            for damaged in (b"", data[:7], data[:30], data[:-1], b"X" + data[1:], data[:12] + b"\0" * 4 + data[16:]):
                with open(trace, "wb") as file:
                    file.write(damaged)
                self.assert_fails(self.replay(trace), trace)
            self.assert_fails(self.replay("/nowhere"), "/nowhere")
            done = run("generate", MODEL, "--prompt", "x", "--tokens", 4, "--trace", "/dev/full")
            self.assertEqual(done.returncode, 1)
            self.assertIn("/dev/full", done.stderr)


class Pack(Case):
    def test_packs_the_same_bytes_every_time(self):
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "out.gguf")
            done = run("pack", CHECKPOINT, out, "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            result = json.loads(done.stdout)
            self.assertEqual((result["path"], result["bytes"]), (out, FILE_BYTES))
            self.assertTrue(content(out) == content(MODEL))
            self.assertEqual(os.listdir(folder), ["out.gguf"])

    def test_f32_and_no_sketch(self):
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "out.gguf")
            self.assertEqual(run("pack", CHECKPOINT, out, "--dtype", "f32", "--no-sketch").returncode, 0)
            self.assertGreater(os.path.getsize(out), 1.5 * FILE_BYTES)
            done = run("generate", out, "--prompt", PROMPT, "--tokens", 64, "--predictor", "exact", "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(json.loads(done.stdout)["text"].removeprefix("</s>"),
                             CARD["greedy"][PROMPT].removeprefix("</s>"))
            self.assert_fails(run("generate", out, "--prompt", "x", "--predictor", "sketch"), "sketch")

    def test_order_of_a_trace_changes_no_token(self):
        with tempfile.TemporaryDirectory() as folder:
            trace, out = os.path.join(folder, "trace"), os.path.join(folder, "out.gguf")
            plain = generate("--prompt", PROMPT, "--tokens", 24, "--trace", trace)
            self.assertEqual(run("pack", CHECKPOINT, out, "--order", trace).returncode, 0)
            self.assertIn("bundles in a learned order", run("inspect", out).stdout)
            done = run("generate", out, "--json", "--prompt", PROMPT, "--tokens", 24)
            self.assertEqual(json.loads(done.stdout)["token_ids"], plain["token_ids"])
            with open(trace, "r+b") as file:
                file.truncate(os.path.getsize(trace) - 1)
            os.remove(out)
            self.assert_fails(run("pack", CHECKPOINT, out, "--order", trace), "not a whole trace")
            with open(trace, "r+b") as file:
                file.seek(12)
                file.write(b"\0\x10\0\0")  # more neurons than the model has
                file.truncate(24 + len(MODEL))
                file.seek(0, os.SEEK_END)
                layers = json.loads(run("inspect", MODEL, "--json").stdout)["layers"]
                file.write(b"".join(struct.pack("<IIQ", layer, 0, 0) for layer in range(layers)))
            self.assert_fails(run("pack", CHECKPOINT, out, "--order", trace), "other dimensions")
            self.assertEqual(os.listdir(folder), ["trace"])

    def test_a_limit_on_file_sizes_is_an_error(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        with tempfile.TemporaryDirectory() as folder:
            for words, program, *arguments in (
                    ("RLIMIT_FSIZE", "pack", CHECKPOINT, os.path.join(folder, "out.gguf")),
                    ("cannot write", "generate", MODEL, "--prompt", PROMPT, "--tokens", "8", "--trace",
                     os.path.join(folder, "trace"))):
                done = subprocess.run([os.path.join(PROGRAMS, program), *arguments], capture_output=True, check=False,
                                      timeout=300, preexec_fn=limit)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn(words, done.stderr.decode())
            self.assertNotIn("out.gguf", os.listdir(folder))

    def test_a_signal_leaves_nothing(self):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            with tempfile.TemporaryDirectory() as folder:
                with subprocess.Popen([os.path.join(PROGRAMS, "pack"), CHECKPOINT, os.path.join(folder, "out.gguf")],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                      preexec_fn=lambda number=number: signal.signal(number, signal.SIG_DFL)) as packing:
                    while not os.listdir(folder) and packing.poll() is None:
                        time.sleep(0.001)
                    packing.send_signal(number)
                    self.assertEqual(packing.wait(60), -number)
                self.assertEqual(os.listdir(folder), [])

    def test_failures(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assert_fails(run("pack", folder, os.path.join(folder, "out.gguf")), "config.json")
            self.assert_fails(run("pack", CHECKPOINT, "/nowhere/out.gguf"), "/nowhere")
            self.assertEqual(os.listdir(folder), [])

    def test_wrong_usage(self):
        for arguments in ([], [CHECKPOINT], [CHECKPOINT, "a", "b"], [CHECKPOINT, "a", "--dtype", "f8"],
                          [CHECKPOINT, "a", "--sketch-bits", "5"], [CHECKPOINT, "a", "--order"]):
            self.assert_usage("pack", *arguments)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
