#!/usr/bin/env python3
"""Writes splitters.bin, pieces.bin, normal.bin and rules.json of tests/data/tokenizer: what Hugging Face tokenizers makes of
difficult lines by every way to cut texts that tokenizer.ggml.pre may name.

usage: make_splitter_cases.py OUTPUT_FOLDER      (needs `pip install tokenizers==0.23.3`)

  splitters.bin  one small vocabulary whose merges know no words, so that only cutting keeps them apart; lines, and what NFC
                 makes of them; for each name whether it normalises, and ids of the lines
  pieces.bin     the same for gemma4: characters instead of bytes
  normal.bin     strings of characters that combine, and their NFC
  rules.json     for each name what its tokenizer.json says of it, without vocabulary

A file begins with its vocabulary as a GGUF metadata section: varint bytes, then u64 count and entries without
tokenizer.ggml.pre. The rest is varints and byte strings in the order the writers below give. The output depends on the
seed and on the version of tokenizers alone.
"""
import json
import random
import sys
import unicodedata
from collections import Counter
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import splitters
from make_tokenizer_cases import SENTENCES, blob, make_lines, varint, vocabulary

SEED = 20261201
WHOLE = ["Quixot", "Ġzygote", "Ġ$$$"]  # tokens that no merges make: for those who look words up first
LINES = [
    "it's they're I'LL we've'd ''s it'\u017f don'T", "a  b   c\n\n d \t", "x1 22y 333 4444 55555 -3.5%", "Hello world Hello  world",
    "HelloWORLDwide A/b//\r\n\r\n ", "camelCase CamelCASE XMLHttp ǅenan ǆ", "٣٤٥ ½ ²³ Ⅷ 1½2",
    "e\u0301 re\u0301sume\u0301 \u1100\u1161\u11a8 \u212b \u0958 a\u0323\u0307", "12345 678 9,012,345.67", "!!...?! (a) [b] {c} <d> `e` ^f^ ~g|",
    "人人生而自由，在尊严。 ひらがなカタカナ 각나다", "   leading", "trailing   ", "\t\t\ttabs\there", "\n\n", "\r\n \r\n", " \n \n a", "a\n b\n  c\n",
    "\u00a0\u2003x\u3000y\u2028z", "м и мир мё 12м3", "\x01\x02\x03 a\x1c b", "😀👍🏽 👨‍👩‍👧‍👦a", "don’t “quote” — ‘x’…", "#include <a.h>\nint x=0;//c\n",
    "if (a[i] != b->c) { return -1; }\n    }\n", "ÀÉÎ ŽÃ ΣΑΣ σας Աբգ Ⴀ ა ᏣᎳᎩ ꭰ", "नमस्ते दुनिया १२३", "สวัสดี ๑๒๓", "שָׁלוֹם עולם", "'s 't 'S'", "''''", "a'b'c'd'll",
]


def lines_of(rng):
    """The lines above, and some of every kind that there is."""
    others = [line for line in make_lines(rng) if len(line) < 60]
    return list(dict.fromkeys(["Quixot zygote $$$ Quixoty  zygotes"] + LINES + rng.sample(others, 260) + [" " * 70 + "a", "1" * 70, "Ab" * 30, "\n" * 40]))


def train(lines):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=620, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), min_frequency=3,
                                  max_token_length=8, show_progress=False)
    tokenizer.train_from_iterator(lines + SENTENCES * 2 + LINES * 2, trainer)
    spec = json.loads(tokenizer.to_str())
    for text in WHOLE:
        assert text not in spec["model"]["vocab"], text
        spec["model"]["vocab"][text] = len(spec["model"]["vocab"])
    return spec["model"]["vocab"], [tuple(merge) for merge in spec["model"]["merges"]]


def ids_of(tokenizer, lines):
    encoded = [tokenizer.encode(line, add_special_tokens=False).ids for line in lines]
    return b"".join(varint(len(ids)) + b"".join(map(varint, ids)) for ids in encoded)


def write_splitters(path, rng):
    lines = lines_of(rng)
    vocab, merges = train(lines)
    whole = Tokenizer.from_str(splitters.tokenizer_json("gpt-2", vocab, merges, []))
    out = blob(vocabulary(whole, {}, pre=None)) + varint(len(vocab)) + varint(len(splitters.SPLITTERS)) + varint(len(lines))
    out += b"".join(blob(line.encode()) + blob(normalizers.NFC().normalize_str(line).encode()) for line in lines)
    for name, (_, normalizer, _) in splitters.SPLITTERS.items():
        made = Tokenizer.from_str(splitters.tokenizer_json(name, vocab, merges, []))
        out += blob(name.encode()) + varint(normalizer is not None) + ids_of(made, lines)
    path.write_bytes(out)
    print(path.name, len(lines), "lines,", len(vocab), "tokens,", len(out), "bytes")


def write_pieces(path, rng):
    lines = [line for line in lines_of(rng) if "\u2581" not in line]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True))
    spaced = [line.replace(" ", "\u2581") for line in lines + SENTENCES]
    counts = Counter("".join(spaced))  # rare characters get no token: their bytes stand for them
    spaced = ["".join(c for c in line if counts[c] > 4) for line in spaced]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=[f"<0x{byte:02X}>" for byte in range(256)], min_frequency=2,
                                  max_token_length=8, show_progress=False)
    tokenizer.train_from_iterator(spaced, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    made = Tokenizer.from_str(splitters.tokenizer_json("", model["vocab"], merges, [], pieces=True))
    out = blob(vocabulary(made, {}, pre=None, model="gemma4", type_of=lambda text, kind: 6 if text.startswith("<0x") else kind))
    out += varint(len(model["vocab"])) + varint(len(lines))
    out += b"".join(blob(line.encode()) for line in lines) + ids_of(made, lines)
    path.write_bytes(out)
    print(path.name, len(lines), "lines,", len(model["vocab"]), "tokens,", len(out), "bytes")


def write_normal(path, rng):
    """Characters of every kind of decomposition, marks in all orders, Hangul, and what no version composes."""
    composed = [chr(code) for code in range(0x110000) if unicodedata.decomposition(chr(code))[:1] not in ("", "<")]
    parts = sorted({part for c in composed for part in unicodedata.normalize("NFD", c)})
    marks = [chr(code) for code in range(0x300, 0x110000) if unicodedata.combining(chr(code))]
    hangul = [chr(rng.choice([rng.randint(0x1100, 0x1112), rng.randint(0x1161, 0x1175), rng.randint(0x11a8, 0x11c2),
                              rng.randint(0xac00, 0xd7a3), 0x11a7, 0x1113, 0x1176])) for _ in range(400)]
    texts = ["", "abc", "\u0301", "\u0301a", *rng.sample(composed, 400)]
    texts += [unicodedata.normalize("NFD", c) for c in rng.sample(composed, 300)]
    for pool in (parts, marks, hangul, parts + marks + composed + hangul + list("aeio \n")):
        texts += ["".join(rng.choice(pool) for _ in range(rng.randint(1, 7))) for _ in range(250)]
    texts += ["a" + "\u0301\u0323" * 300, "\u0344\u0301" * 40, "e" * 50 + "\u0301"]
    out = varint(len(texts)) + b"".join(
        blob(text.encode()) + blob(normalizers.NFC().normalize_str(text).encode()) for text in texts)
    path.write_bytes(out)
    print(path.name, len(texts), "texts,", len(out), "bytes")


def write_rules(path):
    rules = {name: json.loads(splitters.tokenizer_json(name, {}, [], [])) for name in splitters.SPLITTERS}
    path.write_text(json.dumps(rules, indent=0) + "\n", encoding="utf8")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder, rng = Path(sys.argv[1]), random.Random(SEED)
    write_splitters(folder / "splitters.bin", rng)
    write_pieces(folder / "pieces.bin", rng)
    write_normal(folder / "normal.bin", rng)
    write_rules(folder / "rules.json")


if __name__ == "__main__":
    main()
