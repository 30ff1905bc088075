#!/usr/bin/env python3
"""SentencePiece tokenizers, packed and read back, against SentencePiece itself and Hugging Face tokenizers.

usage: test_spm.py TOKENISE_LINES PACKAGES_FOLDER

TOKENISE_LINES is tests/tools/tokenise_lines.c; PACKAGES_FOLDER is where `.ci/setup check` puts sentencepiece and
tokenizers. The model is fable-llama-18m in the folder FLASHINFER_TEST_MODELS names. What cannot be compared because a
package or the model is missing is skipped and said; exits 77 (skipped) when nothing is left.
"""
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

PROGRAM, PACKAGES = sys.argv[1:3]
sys.path[:0] = [PACKAGES, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools")]
import make_tokenizer_cases  # noqa: E402

try:
    import sentencepiece
except ImportError:
    sentencepiece = None
try:
    import tokenizers
except ImportError:
    tokenizers = None

CHECKPOINT = os.path.join(os.environ.get("FLASHINFER_TEST_MODELS", ""), "fable-llama-18m")
HAS_MODEL = os.path.exists(f"{CHECKPOINT}/tokenizer.model")
FILES = ["tokenizer.model", "tokenizer.json", "tokenizer_config.json"]
VOCAB = 4096
MISSING = ".ci/setup check installs it where PyPI can be reached"


def make_lines():
    """Some thousand difficult lines, each once; U+2581 and names of bytes and special tokens among them."""
    rng = random.Random(20)
    lines = make_tokenizer_cases.make_lines(rng)
    odd = ["\u2581", "\u2581\u2581a", "<0x0A>", "<0x0a>", "<s>", "</s>", "<unk>", "<pad>", "the", " ", "\n", "\0", "a b"]
    for _ in range(400):
        lines.append("".join(rng.choice(odd + ["", " "]) for _ in range(rng.randint(1, 9))))
    for _ in range(300):
        lines.append(" " * rng.randint(0, 300) + rng.choice(odd) + " " * rng.randint(0, 40))
    lines.append("It was the best of times, it was the worst of times. " * 4000)
    return list(dict.fromkeys(lines))


LINES = make_lines()


def run(folder, vocab, texts, *flags):
    """Ids of every text, and the text that they give."""
    data = b"".join(b"%d\n%s" % (len(text), text) for text in (t.encode() for t in texts))
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run([PROGRAM, folder, str(vocab), f"{place}/tokenizer.gguf", *flags], input=data,
                              capture_output=True, timeout=300, check=False)
    if done.returncode != 0:
        raise AssertionError(done.stderr.decode())
    out, found = io.BytesIO(done.stdout), []
    for _ in texts:
        ids = [int(number) for number in out.readline().split()]
        text = out.read(int(out.readline()))
        assert out.read(1) == b"\n"
        found.append((ids, text.decode()))
    assert out.read() == b""
    return found


def directory(place, names, changes=()):
    """A checkpoint with only these files of the model, and some keys of tokenizer_config.json changed."""
    for name in names:
        shutil.copy(f"{CHECKPOINT}/{name}", place)
    if changes:
        with open(f"{CHECKPOINT}/tokenizer_config.json", encoding="utf8") as file:
            settings = {**json.load(file), **dict(changes)}
        with open(f"{place}/tokenizer_config.json", "w", encoding="utf8") as file:
            json.dump(settings, file)
    return place


class Spm(unittest.TestCase):
    def compare(self, found, wanted, comes_back=True):
        for line, (ids, text), expected in zip(LINES, found, wanted):
            self.assertEqual(ids, expected, repr(line[:200]))
            if comes_back:
                self.assertEqual(text, line.replace("\u2581", " "))

    def cuts(self):
        """The model's files: both, and either."""
        for names in (FILES, ["tokenizer.model"], ["tokenizer.json"]):
            with self.subTest(files=names), tempfile.TemporaryDirectory() as place:
                yield directory(place, names)

    @unittest.skipUnless(HAS_MODEL, "fable-llama-18m is not in FLASHINFER_TEST_MODELS")
    def test_cases_of_the_model(self):
        with open(f"{CHECKPOINT}/tokenizer_cases.json", encoding="utf8") as file:
            cases = json.load(file)
        self.assertGreater(len(cases), 20)
        for place in self.cuts():
            found = run(place, VOCAB, [case["text"] for case in cases])
            for case, (ids, text) in zip(cases, found):
                self.assertEqual(ids, case["ids"], case["text"])
                self.assertEqual(text, case["text"])

    @unittest.skipUnless(HAS_MODEL, "fable-llama-18m is not in FLASHINFER_TEST_MODELS")
    @unittest.skipUnless(sentencepiece, f"no package sentencepiece: {MISSING}")
    def test_against_sentencepiece(self):
        model = sentencepiece.SentencePieceProcessor(model_file=f"{CHECKPOINT}/tokenizer.model")
        wanted = [model.encode(line) for line in LINES]
        self.assertGreater(len(LINES), 5000)
        for place in self.cuts():
            self.compare(run(place, VOCAB, LINES), wanted)

    @unittest.skipUnless(HAS_MODEL, "fable-llama-18m is not in FLASHINFER_TEST_MODELS")
    @unittest.skipUnless(tokenizers, f"no package tokenizers: {MISSING}")
    def test_against_tokenizers(self):
        model = tokenizers.Tokenizer.from_file(f"{CHECKPOINT}/tokenizer.json")
        model.encode_special_tokens = True  # texts of special tokens are plain text
        wanted = [model.encode(line, add_special_tokens=False).ids for line in LINES]
        model.encode_special_tokens = False
        special = [model.encode(line, add_special_tokens=False).ids for line in LINES]
        self.assertNotEqual(wanted, special)
        for place in self.cuts():
            self.compare(run(place, VOCAB, LINES), wanted)
            if os.path.exists(f"{place}/tokenizer.json"):  # there <unk> is no added token
                lines = [i for i, line in enumerate(LINES) if "<unk>" not in line]
                found = run(place, VOCAB, [LINES[i] for i in lines], "special")
                for i, (ids, _) in zip(lines, found):
                    self.assertEqual(ids, special[i], repr(LINES[i][:200]))

    @unittest.skipUnless(HAS_MODEL, "fable-llama-18m is not in FLASHINFER_TEST_MODELS")
    @unittest.skipUnless(tokenizers, f"no package tokenizers: {MISSING}")
    def test_other_forms_of_tokenizer_json(self):
        with open(f"{CHECKPOINT}/tokenizer.json", encoding="utf8") as file:
            whole = json.load(file)
        prepend, replace = whole["normalizer"]["normalizers"]
        self.assertEqual((prepend["type"], replace["type"]), ("Prepend", "Replace"))
        metaspace = {"type": "Metaspace", "replacement": "\u2581", "split": False}
        for normalizer, splitter in ((replace, None),
                                     (replace, {"type": "Split", "pattern": {"String": " "},
                                                "behavior": "MergedWithPrevious", "invert": False}),
                                     (None, {**metaspace, "prepend_scheme": "never"}),
                                     (None, {**metaspace, "prepend_scheme": "never", "split": True}),
                                     (None, {**metaspace, "prepend_scheme": "always"}),
                                     (None, {**metaspace, "prepend_scheme": "first", "split": True})):
            with self.subTest(normalizer=normalizer, pre_tokenizer=splitter), tempfile.TemporaryDirectory() as place:
                text = json.dumps({**whole, "normalizer": normalizer, "pre_tokenizer": splitter})
                with open(f"{place}/tokenizer.json", "w", encoding="utf8") as file:
                    file.write(text)
                model = tokenizers.Tokenizer.from_str(text)
                model.encode_special_tokens = True
                adds = (splitter or {}).get("prepend_scheme", "never") != "never"
                for line, (ids, back) in zip(LINES, run(place, VOCAB, LINES)):
                    self.assertEqual(back, line.replace("\u2581", " "))
                    if not (adds and line.startswith((" ", "\u2581"))):  # SentencePiece adds one here too
                        self.assertEqual(ids, model.encode(line, add_special_tokens=False).ids, repr(line[:200]))

    @unittest.skipUnless(sentencepiece, f"no package sentencepiece: {MISSING}")
    def test_other_models(self):
        """Everything a model may have or not have, trained here."""
        english = [line for line in LINES if line.isascii()] * 3 + LINES[:200]
        for settings in ({"byte_fallback": True},
                         {"byte_fallback": False},
                         {"byte_fallback": True, "add_dummy_prefix": False},
                         {"byte_fallback": True, "split_by_whitespace": False},
                         {"byte_fallback": False, "split_by_whitespace": False, "character_coverage": 0.98},
                         {"byte_fallback": True, "allow_whitespace_only_pieces": True},
                         {"byte_fallback": True, "control_symbols": ["<|end|>", "\u2192"], "pad_id": 3},
                         {"byte_fallback": True, "user_defined_symbols": ["<s", "\u2192", "\n\n", "<|end|>", "\u2581\u2581",
                                                                          "\u2581the", "\u00e9\u5b57"]},
                         {"byte_fallback": False, "add_dummy_prefix": False,
                          "user_defined_symbols": ["\u2581\u2581\u2581", "1", "'s"]}):
            with self.subTest(**settings), tempfile.TemporaryDirectory() as place:
                written = io.BytesIO()
                sentencepiece.SentencePieceTrainer.train(
                    sentence_iterator=iter(english), model_writer=written, model_type="bpe", vocab_size=1200,
                    normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
                    hard_vocab_limit=False, **{"character_coverage": 0.99, **settings})
                with open(f"{place}/tokenizer.model", "wb") as file:
                    file.write(written.getvalue())
                model = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
                self.compare(run(place, model.vocab_size() + 3, LINES), [model.encode(line) for line in LINES],
                             settings["byte_fallback"])

    @unittest.skipUnless(HAS_MODEL, "fable-llama-18m is not in FLASHINFER_TEST_MODELS")
    def test_settings(self):
        with tempfile.TemporaryDirectory() as place:
            directory(place, ["tokenizer.model"], [("add_prefix_space", False)])
            for (_, text), line in zip(run(place, VOCAB, LINES), LINES):
                self.assertEqual(text, line.replace("\u2581", " "))
            (with_space, _), = run(CHECKPOINT, VOCAB, ["the"])
            (without, _), = run(place, VOCAB, [" the"])
            self.assertEqual(with_space, without)


if __name__ == "__main__":
    result = unittest.main(argv=sys.argv[:1], exit=False).result
    sys.exit(77 if result.wasSuccessful() and len(result.skipped) == result.testsRun else not result.wasSuccessful())
