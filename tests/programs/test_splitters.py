#!/usr/bin/env python3
"""Byte-level BPE tokenizers of every name that tokenizer.ggml.pre may have: packed from tokenizer.json and read back,
against Hugging Face tokenizers on thousands of difficult lines.

usage: test_splitters.py TOKENISE_LINES PACKAGES_FOLDER

TOKENISE_LINES is tests/tools/tokenise_lines.c; PACKAGES_FOLDER is where `.ci/setup check` puts tokenizers. Exits 77
(skipped) without that package.
"""
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import unittest

PROGRAM, PACKAGES = sys.argv[1:3]
sys.path[:0] = [PACKAGES, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools")]

try:
    import tokenizers
except ImportError:
    print("skipped: no package tokenizers; .ci/setup check installs it where PyPI can be reached")
    sys.exit(77)
import make_splitter_cases  # noqa: E402
import make_tokenizer_cases  # noqa: E402
import splitters  # noqa: E402

# numbers to one part of tokenizers alone, which knows Unicode 17; the rest of it has 16
NEWER = [*range(0x11DE0, 0x11DEA), *range(0x16FF4, 0x16FF7)]
LINES = [line.translate({code: None for code in NEWER}) for line in make_tokenizer_cases.make_lines(random.Random(7))]
VOCAB, MERGES = make_splitter_cases.train(make_splitter_cases.lines_of(random.Random(7)))
SPECIAL = [(len(VOCAB), "<|end|>", True), (len(VOCAB) + 1, "<tool>", False)]
LINES += ["a<|end|>b<tool>c", "<tool>", "x <|end|> e\u0301<tool>\u0301"]


def run(folder, texts, *flags):
    """Ids of every text, and the text that they give; or the refusal."""
    data = b"".join(b"%d\n%s" % (len(text), text) for text in (t.encode() for t in texts))
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run([PROGRAM, folder, str(len(VOCAB) + len(SPECIAL)), f"{place}/tokenizer.gguf", *flags], input=data,
                              capture_output=True, timeout=300, check=False)
    if done.returncode != 0:
        return done.stderr.decode()
    out, found = io.BytesIO(done.stdout), []
    for _ in texts:
        ids = [int(number) for number in out.readline().split()]
        text = out.read(int(out.readline()))
        assert out.read(1) == b"\n"
        found.append((ids, text.decode()))
    return found


def write(folder, name, text):
    with open(os.path.join(folder, name), "w", encoding="utf8") as file:
        file.write(text)


def is_asked_of_falcon(line):
    """What Punctuation of tokenizers, which has another Unicode than all else, takes for none: falcon asks it."""
    return any(ord(c) > 0x600 for c in line)


class Splitters(unittest.TestCase):
    def compare(self, name, folder):
        with open(os.path.join(folder, "tokenizer.json"), encoding="utf8") as file:
            own = tokenizers.Tokenizer.from_str(file.read())
        nfc = splitters.SPLITTERS[name][1] is not None
        for special in (False, True):
            own.encode_special_tokens = not special
            found = run(folder, LINES, *(["special"] if special else []))
            self.assertNotIsInstance(found, str, found)
            for line, (ids, text) in zip(LINES, found):
                if name != "falcon" or not is_asked_of_falcon(line):
                    self.assertEqual(ids, own.encode(line, add_special_tokens=False).ids, (name, line[:100]))
                if not special and "<tool>" not in line:
                    self.assertEqual(text, tokenizers.normalizers.NFC().normalize_str(line) if nfc else line)

    def test_every_name(self):
        self.assertGreater(len(LINES), 5000)
        for name in splitters.SPLITTERS:
            with self.subTest(name=name), tempfile.TemporaryDirectory() as place:
                write(place, "tokenizer.json", splitters.tokenizer_json(name, VOCAB, MERGES, SPECIAL))
                self.compare(name, place)

    def test_tables_alone(self):
        """vocab.json and merges.txt, cut as the class of the tokenizer says."""
        for name, settings in (("gpt-2", {}), ("qwen2", {"tokenizer_class": "Qwen2Tokenizer"})):
            with self.subTest(name=name), tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as whole:
                write(place, "vocab.json", json.dumps(VOCAB))
                write(place, "merges.txt", "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in MERGES))
                write(place, "tokenizer_config.json", json.dumps(settings))
                write(whole, "tokenizer.json", splitters.tokenizer_json(name, VOCAB, MERGES, []))
                self.assertEqual(run(place, LINES), run(whole, LINES))

    def test_unknown_ways(self):
        whole = json.loads(splitters.tokenizer_json("qwen2", VOCAB, MERGES, []))
        for change, words in (({"normalizer": {"type": "NFKC"}}, "a normalizer that is not NFC"),
                              ({"normalizer": None}, "is that of qwen2, but with no normalizer"),
                              ({"pre_tokenizer": {"type": "Whitespace"}}, "Whitespace is not known")):
            with self.subTest(words=words), tempfile.TemporaryDirectory() as place:
                write(place, "tokenizer.json", json.dumps({**whole, **change}))
                self.assertIn(words, run(place, ["a"]))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
