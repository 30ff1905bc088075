#!/usr/bin/env python3
"""Every program and every option of it, on the command line: help, version, typos, missing and impossible values.

usage: test_command_lines.py PROGRAMS_DIR MODEL.gguf CHECKPOINT HEADER
"""
import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

PROGRAMS, MODEL, CHECKPOINT, HEADER = sys.argv[1:5]
TEXT = os.path.join(CHECKPOINT, "MODEL_CARD.md")
COLUMNS = 100

# What a program needs before anything else is looked at; OUT: a file that may be written.
NEEDED = {
    "generate": [MODEL, "--prompt", "x"], "perplexity": [MODEL, "--text", TEXT], "inspect": [MODEL],
    "pack": [CHECKPOINT, "OUT"], "probe": ["OUT"], "calibrate": [MODEL, "OUT", "--text", TEXT],
    "fidelity": [MODEL, "--text", TEXT],
}
# Those in tests/bench have their own options and the same command line.
LABORATORY = ["ablation", "activity", "cache_replay", "decode", "prefill", "reads", "rows", "synth"]
EMBED = {"asset": 3, "cancel": 2, "pressure": 2, "storage": 1, "token_ids": 3, "raii": 2}  # least arguments

WHOLE = ["0x", "2x", "-3", "", "1.5"]
BYTES = ["half", "-1M", "1P", "1MB", "nan", ""]
# Values that no program takes, by option; of the others any text may be one.
IMPOSSIBLE = {
    "--tokens": ["0", *WHOLE], "--temperature": ["warm", "-1", ""], "--top-k": WHOLE, "--top-p": ["1.5", "some"],
    "--seed": WHOLE, "--budget": ["0%", "nan%", "-5%", *BYTES], "--exact-budget": ["0%", "nan%", *BYTES],
    "--predictor": ["psychic", ""], "--context": ["0", *WHOLE], "--kv": ["f8"], "--policy": ["best"], "--window": WHOLE,
    "--threads": ["0", "65", *WHOLE], "--storage": ["tape", "STORAGE"], "--window-tokens": ["1", *WHOLE], "--audit": WHOLE,
    "--limit": ["0", *WHOLE], "--dtype": ["f8"], "--dtype-resident": ["f8"], "--dtype-ffn": ["q2_k"],
    "--sketch-bits": ["5", "0", *WHOLE], "--seconds": ["0", "fast"], "--size": ["0%", *BYTES],
    "--recall": ["2", "0.1", "all"], "--kinds": ["some"], "--bits": ["5", *WHOLE], "--rank": ["0", *WHOLE],
    "--activation": ["swish", "fatrelu", "fatrelu:", "fatrelu:x", "fatrelu:-1", "fatrelu:nan", "fatrelu:1e6", "fatrelu:THRESHOLD", ""],
}
ANY_TEXT = ["--prompt", "--text", "--ids", "--predictor-file", "--probe", "--trace", "--order", "--save", "--plot"]


def path_of(program):
    for folder in (PROGRAMS, f"{PROGRAMS}/embed", f"{PROGRAMS}/../tests/bench"):
        if os.path.isfile(f"{folder}/{program}"):
            return f"{folder}/{program}"
    return None


def run(program, *arguments, **more):
    return subprocess.run([path_of(program), *map(str, arguments)], capture_output=True, check=False, text=True, timeout=300,
                          **more)


def built(programs):
    return [program for program in programs if path_of(program) is not None]


class Help:
    """--help, read."""

    def __init__(self, program):
        self.done = run(program, "--help")
        self.text = self.done.stdout
        self.lines = self.text.splitlines()
        self.sentence, body = self.text.split("\n\nusage: ", 1)
        call, told = body.split("\n  ", 1) if "\n  -" not in body[:body.find("\n")] else (body, "")
        call = re.split(r"\n  \S", body, maxsplit=1)[0]
        told = body[len(call):]
        self.call = " ".join(call.split())
        self.words = {}  # by option, or argument
        for block in re.split(r"\n(?=  \S)", told):
            match = re.match(r"\s*([^\s,]+(?:, --\S+)*) +(\S.*)", " ".join(block.split()))
            if match:
                for name in match[1].split(", "):
                    self.words[name] = match[2]
        # "--tokens N" or "--kv f32|f16|q8_0"; a switch stands alone in its brackets
        self.values = dict(re.findall(r"(--[a-z-]+) ([^\]\s|)][^\]\s)]*)", self.call))
        self.switches = re.findall(r"\[(--[a-z-]+)\]", self.call)
        self.options = [*self.values, *self.switches]


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def needed(self, program):
        return [os.path.join(self.folder.name, "out") if word == "OUT" else word for word in NEEDED.get(program, [])]

    def assert_refused(self, program, arguments, *words):
        """One line that has the words, the word that is wrong first of all, and says where help is."""
        done = run(program, *arguments)
        self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (2, "", 1),
                         (program, arguments, done.stderr))
        for word in words:
            self.assertIn(word, done.stderr, (program, arguments))
        self.assertTrue(done.stderr.endswith(f". See {path_of(program)} --help\n"), done.stderr)
        return done.stderr


class EveryProgram(Case):
    programs = built([*NEEDED, *EMBED, *LABORATORY])

    def test_none_is_forgotten(self):
        there = {os.path.basename(path) for path in glob.glob(f"{PROGRAMS}/*") + glob.glob(f"{PROGRAMS}/embed/*")
                 if os.path.isfile(path) and os.access(path, os.X_OK)}
        there = {name for name in there if not name.startswith(("flashinfer-", "lib"))}
        self.assertLessEqual(there, set(self.programs))
        self.assertGreaterEqual(len(there), 10)

    def test_help(self):
        for program in self.programs:
            with self.subTest(program):
                told = Help(program)
                self.assertEqual((told.done.returncode, told.done.stderr), (0, ""))
                self.assertRegex(told.sentence, r"^[A-Z][^\n]*(\n[^\n]+)?\.$")
                self.assertTrue(told.call.startswith(program), told.call)
                self.assertLessEqual(max(map(len, told.lines)), COLUMNS)
                for option in ("-h", "--help", "--version"):
                    self.assertIn(option, told.words)
                self.assertEqual(run(program, "-h").stdout, told.text)
                self.assertEqual(run(program, "--halp", "x", "-h").stdout, told.text)
                with open("/dev/full", "w", encoding="utf8") as full:
                    done = subprocess.run([path_of(program), "--help"], stdout=full, stderr=subprocess.PIPE, check=False)
                    self.assertEqual((done.returncode, done.stderr.count(b"\n")), (1, 1))

    def test_version(self):
        with open(HEADER, encoding="utf8") as file:
            numbers = re.findall(r"#define FLASHINFER_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", file.read())
        self.assertEqual(len(numbers), 3)
        for program in self.programs:
            done = run(program, "--version")
            self.assertEqual((done.returncode, done.stdout), (0, f"{program} (libflashinfer) {'.'.join(numbers)}\n"))

    def test_typos(self):
        for program in self.programs:
            with self.subTest(program):
                for word, meant in (("--hlep", "--help"), ("--versoin", "--version"), ("-help", "--help")):
                    self.assert_refused(program, [word], f"{word} is not an option, perhaps {meant} is meant")
                line = self.assert_refused(program, ["--qqqqqqqqqqq=5"], "--qqqqqqqqqqq is not an option")
                self.assertNotIn("perhaps", line)

    def test_what_is_missing_is_named(self):
        for program, words in (("generate", "MODEL.gguf"), ("perplexity", "MODEL.gguf"), ("inspect", "MODEL.gguf"),
                               ("pack", "CHECKPOINT"), ("probe", "DIRECTORY|FILE"), ("calibrate", "MODEL.gguf"),
                               ("fidelity", "MODEL.gguf"), ("asset", "CONTAINER"), ("token_ids", "MODEL.gguf"),
                               ("synth", "OUT.gguf"), ("reads", "FILE"), ("cache_replay", "TRACE..."), ("decode", "--model"),
                               ("cancel", "MODEL.gguf"), ("pressure", "MODEL.gguf"), ("storage", "PART...")):
            if path_of(program):
                self.assert_refused(program, [], words + " is missing")
        self.assert_refused("pack", ["a"], "OUT.gguf is missing")
        self.assert_refused("generate", [MODEL], "--prompt is missing")
        self.assert_refused("perplexity", [MODEL], "--text or --ids is missing")
        self.assert_refused("perplexity", [MODEL, "--text", "a", "--ids", "b"], "--text and --ids")
        self.assert_refused("asset", ["a", "1"], "LENGTH is missing")

    def test_what_is_too_much_is_named(self):
        for program, needed in NEEDED.items():
            if program not in ("fidelity",) and path_of(program):
                self.assert_refused(program, [*self.needed(program), "surplus"], "surplus is one argument too many")
        self.assert_refused("cancel", [MODEL, 5, "surplus"], "surplus")

    def test_values_of_embedding_programs(self):
        for program, *arguments in (["cancel", MODEL, "soon"], ["cancel", MODEL, "-3"], ["asset", "a", "x", "1"],
                                    ["asset", "a", "0", "-1"], ["asset", "a", "0", "5", "fast"], ["raii", MODEL, "2x"],
                                    ["token_ids", MODEL, "3", "2", "two"], ["token_ids", MODEL, "3x", "2"],
                                    ["pressure", MODEL, "-", "long"]):
            if path_of(program):
                wrong = next(word for word in arguments if word in ("soon", "-3", "x", "-1", "fast", "2x", "two", "3x", "long"))
                self.assert_refused(program, arguments, f'"{wrong}"')


class EveryOption(Case):
    @classmethod
    def each(cls):
        helps = {program: Help(program) for program in built(NEEDED)}
        return [(program, told, option) for program, told in helps.items() for option in told.options]

    def test_each_is_explained_with_its_default(self):
        self.assertGreater(len(self.each()), 60)
        for _, told, option in self.each():
            self.assertIn(option, told.words)
            if option in told.values:
                self.assertRegex(told.words[option], r"\(default: .+\)|needed\)")
        for program in built(NEEDED):
            self.assertEqual({word for word in Help(program).words if word.startswith("--")} - {"--help", "--version"},
                             set(Help(program).options))

    def test_each_is_known_to_this_test(self):
        for _, told, option in self.each():
            if option in told.values:
                self.assertTrue((option in IMPOSSIBLE) != (option in ANY_TEXT), option)

    def test_a_typo_names_the_option(self):
        for program, _, option in self.each():
            at = 2 + len(option[2:]) // 2
            for wrong in {option[:at - 1] + option[at] + option[at - 1] + option[at + 1:], option[1:],
                          option.replace("-", "_").replace("__", "--", 1) + "x"} - {option}:
                self.assert_refused(program, [*self.needed(program), wrong, "1"],
                                    f"{wrong} is not an option, perhaps {option} is meant")

    def test_a_missing_value_is_said(self):
        for program, told, option in self.each():
            if option in told.values:
                self.assert_refused(program, [*self.needed(program), option], f"{option} lacks its value")
                self.assert_refused(program, [*self.needed(program), option, "--json"], f"{option} lacks its value")
            else:
                self.assert_refused(program, [*self.needed(program), option + "=yes"], f"{option} takes no value")

    def test_an_impossible_value_is_said(self):
        for program, told, option in self.each():
            for value in IMPOSSIBLE.get(option, []) if option in told.values else []:
                self.assert_refused(program, [*self.needed(program), option, value], option, f'"{value}"')
                self.assert_refused(program, [*self.needed(program), f"{option}={value}"], option, f'"{value}"')
        self.assertEqual(os.listdir(self.folder.name), [])

    def test_numbers_that_contradict_each_other(self):
        self.assert_refused("perplexity", [MODEL, "--text", TEXT, "--context", 64], "--context 64", "--window-tokens 512")
        if path_of("calibrate"):
            self.assert_refused("calibrate", [*self.needed("calibrate"), "--tokens", 300], "--tokens 300",
                                "--window-tokens 256")

    def test_documented_defaults_are_what_is_taken(self):
        def defaults(program, leave=()):
            told = Help(program)
            for option in told.values:
                match = re.search(r"\(default: ([\w.%]+)(?:[,;] [^)]*)?\)", told.words[option])
                if match and match[1] not in ("none", "the", "every", "what", "one", "all", "at") and option not in leave:
                    yield from (option, match[1])

        def figures(program, *arguments):
            done = run(program, *self.needed(program), *arguments, "--json")
            self.assertEqual(done.returncode, 0, (arguments, done.stderr))
            return {key: value for key, value in json.loads(done.stdout).items()
                    if key in ("token_ids", "budget_bytes", "planned_bytes", "nll", "tokens", "recall", "kv", "bytes")}
        for program, least in (("generate", 9), ("perplexity", 3), ("pack", 2)):
            given = list(defaults(program))
            self.assertGreaterEqual(len(given), 2 * least, given)
            more = ["--limit", 1] if program == "perplexity" else []
            self.assertEqual(figures(program, *given, *more), figures(program, *more), given)


class Values(Case):
    def test_forms(self):
        one = run("generate", MODEL, "--prompt=Once upon a time", "--tokens=4", "--json")
        two = run("generate", "--tokens", "4", "--json", "--prompt", "Once upon a time", "--", MODEL)
        self.assertEqual((one.returncode, two.returncode), (0, 0), one.stderr + two.stderr)
        self.assertEqual(json.loads(one.stdout)["token_ids"], json.loads(two.stdout)["token_ids"])
        dashed = run("generate", MODEL, "--prompt", "-h", "--tokens", "1", "--json")
        self.assertIn("-h", json.loads(dashed.stdout)["text"])
        named = run("generate", MODEL, "--prompt=--tokens", "--tokens", "1", "--json")
        self.assertIn("--tokens", json.loads(named.stdout)["text"])
        self.assertEqual(run("inspect", "--", "--help").returncode, 1)  # a file's name


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[5:], verbosity=2)
