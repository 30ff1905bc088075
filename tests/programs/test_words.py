#!/usr/bin/env python3
"""Errors speak the program's words: every option's field, and every function a text of the library may name.

usage: test_words.py PROGRAMS_DIR SPEAK MODEL.gguf SOURCE_DIR     SPEAK: says lines as a program with given options would
"""
import glob
import os
import re
import subprocess
import sys
import tempfile
import unittest

PROGRAMS, SPEAK, MODEL, SOURCE = sys.argv[1:5]

# By field of the library's option structs: the options it is set by, the first that a program has.
SET_BY = {
    "memory_budget": ["--budget", "--exact-budget"], "threads": ["--threads"], "context_tokens": ["--context", "--window-tokens"],
    "kv_type": ["--kv"], "predictor": ["--predictor"], "window_tokens": ["--window"], "storage": ["--storage"],
    "audit_interval": ["--audit"], "probe": ["--probe"], "cache_policy": ["--policy"], "trace": ["--trace"],
    "predictor_path": ["--predictor-file"],
    "dtype": ["--dtype"], "dtype_resident": ["--dtype-resident"], "dtype_ffn": ["--dtype-ffn"],
    "sketch_bits": ["--sketch-bits"], "no_sketch": ["--no-sketch"], "order": ["--order"], "activation": ["--activation"], "activation_threshold": ["--activation"],
    "ffn_activation": ["--activation"], "ffn_threshold": ["--activation"],
    "time_ms": ["--seconds"], "file_bytes": ["--size"],
    "top_k": ["--top-k"], "seed": ["--seed"], "temperature": ["--temperature"], "top_p": ["--top-p"],
}
# Fields that no program sets, and so no error of a program's is about.
NOT_SET = {"size", "reserved", "flags", "session_count", "verify", "kernels", "io_depth", "io_lanes", "io_timeout_ms",
           "io_gap_bytes", "audit_layers", "min_p", "repetition_penalty", "repetition_tokens", "reserved0", "reserved1",
           "log", "log_user", "progress", "progress_user", "trace_user", "ffn_input", "ffn_input_user", "audit",
           "logit_bias_count", "logit_biases",
           "audit_user"}
STRUCTS = ["flashinfer_options", "flashinfer_pack_options", "flashinfer_probe_options", "flashinfer_sampler_options"]
# Options that are the programs' own, for which the library has no field.
OWN = {"--prompt", "--tokens", "--json", "--text", "--ids", "--limit", "--verify", "--save", "--recall", "--size", "--kinds",
       "--bits", "--rank", "--plot", "--window-tokens", "--help", "--version"}
CALLED = {"flashinfer_pack()": "pack", "flashinfer_predictor_save()": "calibrate", "flashinfer_probe_save()": "probe --save",
          "FLASHINFER_OPEN_NO_TOKENIZER": "inspect"}
# What is left of the library in texts that no program's command line leads to.
LEFT = re.compile(r"%s_init\(\)|flashinfer_\w+\.size|sizeof\(flashinfer_\w+\)|flashinfer_state_(load|bytes)\(\)|"
                  r"FLASHINFER_OPEN_METADATA|FLASHINFER_PART_|FLASHINFER_DTYPE_|FLASHINFER_ACTIVATION_|options\.%s|"
                  r"options\.(flags|io_gap_bytes|session_count|kernels)\b|"
                  r"flashinfer_model_close\(\)|flashinfer_session_\w+\(\)")
LIBRARY = re.compile(r"\boptions\.[\w%]+|\bflashinfer_\w+\(\)|\bFLASHINFER_(?!E[A-Z]+\b)\w+")


def names():
    found = [os.path.basename(path) for path in glob.glob(f"{PROGRAMS}/*") if os.path.isfile(path) and os.access(path, os.X_OK)]
    return sorted(name for name in found if not name.startswith("flashinfer-"))


def run(program, *arguments):
    return subprocess.run([f"{PROGRAMS}/{program}", *map(str, arguments)], capture_output=True, check=False, text=True,
                          timeout=300)


def options_of(program):
    return re.findall(r"^  (?:-h, )?(--[a-z-]+)", run(program, "--help").stdout, flags=re.M)


def say(lines, options, name="generate"):
    done = subprocess.run([SPEAK, name, *options], input="\n".join(lines) + "\n", capture_output=True, check=True, text=True)
    return done.stdout.splitlines()


def fields():
    """(struct, field) of every option struct in the header."""
    with open(f"{SOURCE}/include/flashinfer.h", encoding="utf8") as file:
        header = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
    for struct in STRUCTS:
        body = re.search(rf"typedef struct {struct} \{{(.*?)\}} {struct};", header, flags=re.S)[1]
        for declaration in filter(str.strip, body.split(";")):
            yield struct, re.search(r"(\w+)(?:\[\w+\])?$", declaration.strip())[1]


def texts():
    """Every text that the library fails or warns with."""
    for path in glob.glob(f"{SOURCE}/lib/**/*.[ch]", recursive=True):
        with open(path, encoding="utf8") as file:
            source = file.read()
        if path.endswith("stranger.c"):
            yield from re.findall(r'"((?:[^"\\\n]|\\.)*)"', source)  # made of pieces
        for call in re.findall(r"\b(?:flin_fail\w*|tell|bad_entry)\s*\((.*?)\);", source, flags=re.S):
            yield "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', call))


class Fields(unittest.TestCase):
    def test_every_field_is_known_here(self):
        found = list(fields())
        self.assertGreater(len(found), 40)
        self.assertEqual({field for _, field in found}, set(SET_BY) | (NOT_SET & {field for _, field in found}))

    def test_every_option_is_known_here(self):
        known = {option for options in SET_BY.values() for option in options}
        for program in names():
            options = options_of(program)
            self.assertGreater(len(options), 3, program)
            self.assertLessEqual(set(options), known | OWN, program)

    def test_every_field_becomes_the_option(self):
        done = 0
        for program in names():
            options = options_of(program)
            for field, candidates in SET_BY.items():
                option = next((name for name in candidates if name in options), None)
                if option is None or option == "--window-tokens" and "--window" in options:
                    continue
                done += 1
                self.assertEqual(say([f"options.{field} is 7, so (options.{field})", f"see options.{field}: it"], options),
                                 [f"{option} is 7, so ({option})", f"see {option}: it"], (program, field))
                if "_" in field:
                    self.assertEqual(say([f"a larger {field}"], options), [f"a larger {option}"], (program, field))
        self.assertGreater(done, 40)

    def test_what_is_meant_is_what_was_given(self):
        self.assertEqual(say(["context_tokens"], ["--context", "--window-tokens"]), ["--context"])
        self.assertEqual(say(["context_tokens"], ["--window-tokens"]), ["--window-tokens"])
        self.assertEqual(say(["options.predictor_path"], []), ["--predictor-file of generate"])


class Texts(unittest.TestCase):
    def test_nothing_of_the_library_is_left(self):
        every = sorted({option for program in names() for option in options_of(program)})
        lines = sorted({text.replace("\\n", " ").replace('\\"', '"') for text in texts() if LIBRARY.search(text)})
        self.assertGreater(len(lines), 30)
        for line, said in zip(lines, say(lines, every), strict=True):
            for word in LIBRARY.finditer(said):
                self.assertRegex(said[word.start():], rf"^({LEFT.pattern})", f"{line!r} is said as {said!r}")

    def test_programs_go_by_the_names_of_those_beside_them(self):
        for word, program in CALLED.items():
            self.assertEqual(say([f"made with {word}; or"], []), [f"made with {program}; or"])
            self.assertEqual(say([f"({word})"], [], "/usr/bin/flashinfer-inspect"), [f"(flashinfer-{program})"])

    def test_other_words_stay(self):
        lines = ["cannot open /tmp/context_tokens/memory_budget.gguf", "my_context_tokens_too", "options.context_tokens_too",
                 "dtypes", "the temperatures of storage bufferedness", "flashinfer_packing", "x.dtype", "50% of it"]
        self.assertEqual(say(lines, ["--context", "--budget", "--dtype", "--storage", "--temperature"]), lines)


class Errors(unittest.TestCase):
    """As they come out of the programs."""

    def assert_says(self, done, *words):
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)
        self.assertIsNone(LIBRARY.search(done.stderr), done.stderr)

    def generate(self, *arguments):
        return run("generate", MODEL, "--prompt", "x", *arguments)

    def test_generate(self):
        self.assert_says(self.generate("--context", 900), "--context is 900; the model has 512 positions")
        self.assert_says(self.generate("--budget", 1000), "a --budget of 1000 bytes is too small",
                         "a shorter --context or --kv f16 needs less")
        self.assert_says(self.generate("--window", 3, "--policy", "balanced"),
                         "--window is 3, but --policy is not the window")
        self.assert_says(self.generate("--predictor", "lowrank"), "use --predictor exact")

    def test_perplexity(self):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("Once upon a time there was a little girl. " * 50)
            file.flush()
            self.assert_says(run("perplexity", MODEL, "--text", file.name, "--window-tokens", 600),
                             "--window-tokens is 600; the model has 512 positions")
            self.assert_says(run("perplexity", MODEL, "--text", file.name, "--context", 700),
                             "--context is 700; the model has 512 positions")
            self.assert_says(run("perplexity", MODEL, "--text", file.name, "--budget", 1000), "a --budget of 1000 bytes")
            if "calibrate" in names():
                self.assert_says(run("calibrate", MODEL, file.name + ".out", "--text", file.name, "--window-tokens", 600,
                                     "--tokens", 1200), "--window-tokens is 600; the model has 512 positions")
                self.assert_says(run("fidelity", MODEL, "--text", file.name, "--window-tokens", 600),
                                 "--window-tokens is 600; the model has 512 positions")
                self.assert_says(run("fidelity", MODEL, "--text", file.name, "--exact-budget", 1000), "--exact-budget of 1000 bytes")

    def test_probe(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assert_says(run("probe", folder, "--size", 1), "--size is 1; it may be")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[5:], verbosity=2)
