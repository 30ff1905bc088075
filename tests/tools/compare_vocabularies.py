#!/usr/bin/env python3
"""Tokenizers of real models, from llama.cpp's vocabulary files, against those the files expect, llama.cpp, Hugging Face
tokenizers and SentencePiece.

usage: compare_vocabularies.py TOKENISE_FILE FOLDER [--packages FOLDER] [--llama SOURCE BUILD] [--only NAME]

TOKENISE_FILE is tests/tools/tokenise_file.c, built. FOLDER has ggml-vocab-*.gguf and, beside most, .inp and .out: it is
`models` of llama.cpp's source. SOURCE and BUILD are that source, and where its target llama was built, without shared
libraries. fetch_vocabularies.py beside this gets all of it. What is compared, for each file:

- ids of the texts of .inp with .out;
- ids of more than 5,000 lines, with and without special tokens, with tokenizers (or SentencePiece) rebuilt from the
  file's arrays as the model's own files have it: no difference is allowed, but for falcon's of newer punctuation;
- the same with llama.cpp: differences are counted by their reason, and one without a known reason fails;
- the text that ids give back: the line, normalised where the model asks for it.

A file of another kind must be refused by name.
"""
import argparse
import glob
import io
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import unicodedata

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__))]
if "--packages" in sys.argv:
    sys.path[:0] = [sys.argv[sys.argv.index("--packages") + 1]]
import make_tokenizer_cases  # noqa: E402
import splitters  # noqa: E402

try:
    import sentencepiece
    import tokenizers
except ImportError as missing:
    print(f"skipped: {missing}; .ci/setup check installs it where PyPI can be reached")
    sys.exit(77)

REFUSED = {  # what the refusal must say
    "aquila": "a GGUF file of an old version",
    "bert-bge": 'tokenizer.ggml.model is "bert"',
    "gpt-neox": "tokenizer.ggml.pre is missing",
    "nomic-bert-moe": 'tokenizer.ggml.model is "t5"'}
FORMS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
# GPT-2's: a character for every byte
SHOWN = [*range(33, 127), *range(161, 173), *range(174, 256)]
ALPHABET = {byte: chr(byte if byte in SHOWN else 256 + sum(other not in SHOWN for other in range(byte))) for byte in range(256)}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


def read_metadata(path):
    """Keys of a GGUF file; texts as bytes."""
    with open(path, "rb") as file:
        data = file.read()
    at = 8 + 8

    def number(form):
        nonlocal at
        value = struct.unpack_from(form, data, at)[0]
        at += struct.calcsize(form)
        return value

    def text():
        nonlocal at
        length = number("<Q")
        at += length
        return data[at - length:at]

    def value(kind):
        if kind == 8:
            return text()
        if kind == 9:
            kind = number("<I")
            return [value(kind) for _ in range(number("<Q"))]
        return number(FORMS[kind])

    keys = {}
    for _ in range(number("<Q")):
        key = text().decode()
        keys[key] = value(number("<I"))
    return keys


def make_lines():
    """Thousands of difficult lines: scripts, emoji, code, controls, runs of spaces, what looks like special tokens."""
    rng = random.Random(6)
    lines = make_tokenizer_cases.make_lines(rng)
    for folder in ("lib/text", "tests/tools"):
        for path in sorted(glob.glob(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..", folder, "*.[cp]*"))):
            with open(path, encoding="utf8") as file:
                text = file.read()
            lines += [text[at:at + 400] for at in range(0, min(len(text), 20000), 400)]
    names = ["<s>", "</s>", "<unk>", "<|endoftext|>", "<|eot_id|>", "<|im_start|>", "<bos>", "<|tool_call>", "<0x0A>", "\u2581",
             "<fim_prefix>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "\n", " ", "a", " the", "e\u0301", "12", "  "]
    for _ in range(500):
        lines.append("".join(rng.choice(names) for _ in range(rng.randint(1, 8))))
    for count in (1, 2, 3, 7, 31, 32, 33, 64, 100, 500):
        for piece in (" ", "\n", "\t", "\r\n", "a", "0", "\u3000", "\u0301", "é", "e\u0301", "A", "Ab"):
            lines += [piece * count, "x" + piece * count + "x", " " + piece * count]
    newer = re.compile("[\U00011de0-\U00011de9\U00016ff4-\U00016ff6]")  # numbers to one part of tokenizers alone: Unicode 17
    return [newer.sub("", line) for line in dict.fromkeys(lines) if line]


LINES = make_lines()


def run(program, path, texts, *flags):
    """Ids of every text and the text they give; or the refusal."""
    data = b"".join(b"%d\n%s" % (len(text), text) for text in texts)
    done = subprocess.run([program, path, *flags], input=data, capture_output=True, check=False)
    if done.returncode != 0:
        return done.stderr.decode().strip()
    out, found = io.BytesIO(done.stdout), []
    for _ in texts:
        ids = [int(number) for number in out.readline().split()]
        text = out.read(int(out.readline()))
        assert out.read(1) == b"\n"
        found.append((ids, text))
    assert out.read() == b""
    return found


# ------------------------------------------------------------------------------------------------- the models' own

def varint(number):
    return make_tokenizer_cases.varint(number)


def field(number, wire, data):
    return varint(number << 3 | wire) + data


def sentencepiece_model(keys):
    """The protobuf message that SentencePiece reads."""
    tokens, scores, types = (keys["tokenizer.ggml." + name] for name in ("tokens", "scores", "token_type"))
    out, unknowns = b"", 0
    for text, score, kind in zip(tokens, scores, types):
        unknowns += kind == UNKNOWN
        kind = CONTROL if kind == UNKNOWN and unknowns > 1 else kind  # it allows one; phi-3 has placeholders
        piece = field(1, 2, make_tokenizer_cases.blob(text)) + field(2, 5, struct.pack("<f", score)) + field(3, 0, varint(kind))
        out += field(1, 2, make_tokenizer_cases.blob(piece))
    trainer = field(3, 0, varint(2)) + field(35, 0, varint(1))  # BPE, bytes for what has no token
    spaces = keys.get("tokenizer.ggml.add_space_prefix", True)
    normalizer = field(3, 0, varint(spaces)) + field(4, 0, varint(0)) + field(5, 0, varint(1))
    return out + field(2, 2, make_tokenizer_cases.blob(trainer)) + field(3, 2, make_tokenizer_cases.blob(normalizer))


def own_pieces(keys):
    model = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model(keys))
    return model.encode(LINES), None


def own_merges(keys):
    tokens = [text.decode() for text in keys["tokenizer.ggml.tokens"]]
    merges = [tuple(merge.decode().split(" ")) for merge in keys["tokenizer.ggml.merges"]]
    added = [(number, tokens[number], kind == CONTROL) for number, kind in enumerate(keys["tokenizer.ggml.token_type"])
             if kind in (CONTROL, USER_DEFINED)]
    made = tokenizers.Tokenizer.from_str(splitters.tokenizer_json(
        keys.get("tokenizer.ggml.pre", b"").decode(), {text: number for number, text in enumerate(tokens)}, merges, added,
        pieces=keys["tokenizer.ggml.model"] == b"gemma4"))
    made.encode_special_tokens = True  # texts of special tokens are plain text
    plain = [made.encode(line, add_special_tokens=False).ids for line in LINES]
    made.encode_special_tokens = False
    return plain, [made.encode(line, add_special_tokens=False).ids for line in LINES]


# ---------------------------------------------------------------------------------------------------------- comparing

def is_normalised(keys):
    pre = keys.get("tokenizer.ggml.pre", b"").decode()
    return pre in splitters.SPLITTERS and splitters.SPLITTERS[pre][1] is not None


def given_back(keys, line):
    """The text that the ids of a line give, as bytes: without those that no token of the vocabulary stands for."""
    if keys["tokenizer.ggml.model"] != b"gpt2":
        return line.replace("\u2581", " ").encode()
    if is_normalised(keys):
        line = tokenizers.normalizers.NFC().normalize_str(line)
    if "known" not in keys:
        characters = {text.decode() for text in keys["tokenizer.ggml.tokens"]}
        keys["known"] = [ALPHABET[byte] in characters for byte in range(256)]
    return bytes(byte for byte in line.encode() if keys["known"][byte])


WIDE_SPACES = re.compile("[\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")


def reason_of(keys, line):
    """Why llama.cpp's ids may differ from those of the model's own tokenizer."""
    pre = keys.get("tokenizer.ggml.pre", b"").decode()
    if is_normalised(keys) and tokenizers.normalizers.NFC().normalize_str(line) != line:
        return "it does not normalise"
    if re.search("'\u017f", line):
        return "a long s is no s to it"
    if pre.startswith("deepseek") and WIDE_SPACES.search(line):
        return "white space beyond ASCII is another character to it"
    if keys["tokenizer.ggml.model"] == b"gpt2" and given_back(keys, line) != line.encode():
        return "nothing merges across a byte without token"
    if keys["general.name"] == b"Phi3" and any(text in line.encode() for text in special_texts(keys)):
        return "it changes what phi-3's file says of special tokens, by the model's name"
    if any(text in line.encode() for text in normal_but_listed(keys)):
        return "it takes a token that the file calls normal for a special one, by its text"
    if any(unicodedata.category(c) == "Cn" for c in line):
        return "characters that are new to its Unicode, or to this Python's"
    return None


def normal_but_listed(keys):
    """Texts that llama.cpp makes control tokens wherever they are in a vocabulary."""
    listed = {b"</s>", b"<|endoftext|>", b"<|im_end|>", b"<|end|>", b"<|eot_id|>", b"<eos>"}
    if "listed" not in keys:
        keys["listed"] = [text for text, kind in zip(keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"])
                          if kind == NORMAL and text in listed]
    return keys["listed"]


def special_texts(keys):
    if "special" not in keys:
        keys["special"] = [text for text, kind in zip(keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"])
                           if kind in (UNKNOWN, CONTROL, USER_DEFINED)]
    return keys["special"]


def has_newer_punctuation(line):
    """Punctuation by Unicode 16 that Punctuation of tokenizers does not know, which stopped at Unicode 8: falcon asks it."""
    punctuation = tokenizers.pre_tokenizers.Punctuation("isolated")
    return any(unicodedata.category(c)[0] in "PC" and c > "\u0600" and len(punctuation.pre_tokenize_str(f"a{c}a")) == 1
               for c in line)


class Comparison:
    def __init__(self, options):
        self.options, self.failed = options, 0

    def complain(self, name, what):
        print(f"{name}: FAILED: {what}")
        self.failed += 1

    def same(self, name, against, found, wanted):
        differ = [i for i, ids in enumerate(wanted) if found[i][0] != ids]
        newer = [i for i in differ if name == "falcon" and has_newer_punctuation(LINES[i])]
        differ = [i for i in differ if i not in newer]
        for i in differ[:3]:
            print(f"  {LINES[i][:80]!r}: {found[i][0][:24]} and not {wanted[i][:24]}")
        if differ:
            self.complain(name, f"{len(differ)} of {len(wanted)} lines have other ids than {against} gives")
        return f"{len(wanted) - len(differ) - len(newer)} lines as {against}" + (
            f" (not {len(newer)} with punctuation newer than it)" if newer else "")

    def against_llama(self, name, keys, path, found, *flags):
        wanted = run(self.options.program_llama, path, [line.encode() for line in LINES], *flags)
        if isinstance(wanted, str):
            return f"llama.cpp: {wanted[-100:]}"
        reasons, unexplained = {}, []
        for line, (ids, _), (theirs, _) in zip(LINES, found, wanted):
            if ids != theirs:
                reason = reason_of(keys, line)
                reasons[reason] = reasons.get(reason, 0) + 1
                if reason is None:
                    unexplained.append((line, ids, theirs))
        for line, ids, theirs in unexplained[:3]:
            print(f"  {line[:80]!r}: {ids[:24]}, llama.cpp {theirs[:24]}")
        if unexplained:
            self.complain(name, f"{len(unexplained)} lines differ from llama.cpp for no known reason")
        same = len(LINES) - sum(reasons.values())
        return f"{same} as llama.cpp, " + (", ".join(f"{count} not: {why}" for why, count in reasons.items()) or "none not")

    def expected(self, name, keys, path):
        if not os.path.exists(path + ".inp"):
            return "no expected ids"
        with open(path + ".inp", "rb") as file:
            texts = file.read().split(b"\n__ggml_vocab_test__\n")
        with open(path + ".out", encoding="utf8") as file:
            wanted = [[int(number) for number in line.split()] for line in file]
        texts = texts[:len(wanted)]
        found = run(self.options.program, path, texts)
        bad = [text for text, (ids, _), own in zip(texts, found, wanted) if ids != own]
        unexplained = [text for text in bad if reason_of(keys, text.decode()) is None]
        if unexplained:
            self.complain(name, f"expected ids differ: {unexplained[:3]}")
        return f"{len(texts) - len(bad)} of {len(texts)} as expected" + (" (the others: NFC)" if bad else "")

    def file(self, path):
        name = os.path.basename(path)[len("ggml-vocab-"):-len(".gguf")]
        lines = [line.encode() for line in LINES]
        plain = run(self.options.program, path, lines)
        if name in REFUSED:
            if not isinstance(plain, str) or REFUSED[name] not in plain:
                self.complain(name, f"should be refused: {plain[:200]}")
            return print(f"{name}: refused: {plain[:100]}")
        if isinstance(plain, str):
            return self.complain(name, plain)
        special = run(self.options.program, path, lines, "special")
        keys = read_metadata(path)
        words = [self.expected(name, keys, path)]
        pieces = keys["tokenizer.ggml.model"] == b"llama"
        own, own_special = own_pieces(keys) if pieces else own_merges(keys)
        against = "SentencePiece" if pieces else "tokenizers"
        words.append(self.same(name, against, plain, own))
        if own_special is not None:
            words.append(self.same(name, against + " with special tokens", special, own_special))
        lost = [line for line, (_, text) in zip(LINES, plain) if text != given_back(keys, line)]
        if lost:
            self.complain(name, f"{len(lost)} lines do not come back, such as {lost[0][:80]!r}")
        if self.options.llama:
            words.append(self.against_llama(name, keys, path, plain))
            words.append("with special tokens " + self.against_llama(name, keys, path, special, "special"))
        print(f"{name}: " + "; ".join(words), flush=True)
        return None


def build_llama(source, build, place):
    """tokenise_llama.c with the static libraries of a build."""
    here = os.path.dirname(os.path.abspath(__file__))
    program = os.path.join(place, "tokenise_llama")
    subprocess.run(["cc", "-O1", "-c", f"{here}/tokenise_llama.c", "-o", f"{program}.o", f"-I{source}/include",
                    f"-I{source}/ggml/include"], check=True)
    libraries = [path for path in glob.glob(f"{build}/**/lib*.a", recursive=True) if re.search("lib(llama|ggml[a-z-]*)\\.a$", path)]
    subprocess.run(["c++", "-o", program, f"{program}.o", "-Wl,--start-group", *libraries, "-Wl,--end-group", "-lpthread", "-ldl",
                    "-lm"], check=True)
    return program


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("program")
    parser.add_argument("folder")
    parser.add_argument("--llama", nargs=2)
    parser.add_argument("--packages", help="where tokenizers and sentencepiece are, if not installed")
    parser.add_argument("--only")
    options = parser.parse_args()
    paths = sorted(glob.glob(f"{options.folder}/ggml-vocab-*.gguf"))
    if not paths:
        print(f"skipped: no ggml-vocab-*.gguf in {options.folder}: tests/tools/fetch_vocabularies.py gets them")
        sys.exit(77)
    print(f"{len(LINES)} lines")
    with tempfile.TemporaryDirectory() as place:
        if options.llama:
            options.program_llama = build_llama(*options.llama, place)
        comparison = Comparison(options)
        for path in paths:
            if options.only is None or f"ggml-vocab-{options.only}.gguf" == os.path.basename(path):
                comparison.file(path)
    sys.exit(comparison.failed != 0)


if __name__ == "__main__":
    main()
