#!/usr/bin/env python3
"""Builds the fuzzers of the tokenizers with clang's libFuzzer, and runs each for a while.

usage: run_fuzzers.py BUILD_FOLDER [--runs N] [--only NAME] [--keep CORPUS]

Exits 77 (skipped) where clang or its libFuzzer is missing. A run that crashes, leaks, reads out of bounds, takes more than
10 seconds for an input, or does not hold what a fuzzer demands, fails, and leaves the input in BUILD_FOLDER. To look for
more, give many runs, and a folder that keeps what was found interesting.
"""
import argparse
import glob
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

SOURCE = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
sys.path[:0] = [f"{SOURCE}/tests/tools"]
import splitters  # noqa: E402

FLAGS = ["-std=c11", "-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
         "-DFLIN_PLAIN=1", f"-I{SOURCE}/include", f"-I{SOURCE}/lib", f"-I{SOURCE}/tests/unit"]
FILES = glob.glob(f"{SOURCE}/lib/pack/tokenizer_*.c") + [f"{SOURCE}/lib/text/{name}.c" for name in (
    "bpe", "keys", "normal", "normal_tables", "pattern", "pieces", "scratch", "split", "split_rules", "spm", "tokenizer",
    "unicode_tables", "vocabulary")]
FILES += [f"{SOURCE}/lib/{name}.c" for name in (
    "kernels/types", "model/gguf", "model/gguf_values", "pack/gguf_write", "pack/json", "storage/memory", "storage/storage",
    "util/arena", "util/clock", "util/error", "util/hash", "util/partial_file", "util/structs")]
FILES.append(f"{SOURCE}/tests/fuzz/stubs.c")
SENTENCES = ["it's I'LL 12345  x\n\n y", "HelloWORLD A/b//", "e\u0301 \u1100\u1161\u11a8 \u212b", "人人 ひら、각", "\x01\x02 \t\r\n",
             "   ", "мир 1½2", "'\u017f", "😀👍🏽 <s></s>"]


def flags_of(what):
    return subprocess.run(["pkg-config", what, "libcjson"], capture_output=True, text=True, check=True).stdout.split()


def has_fuzzer(folder):
    with open(f"{folder}/try.c", "w", encoding="utf8") as file:
        file.write("int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return 0 * (int)n * (d == 0); }\n")
    return shutil.which("clang") is not None and subprocess.run(
        ["clang", "-fsanitize=fuzzer,address,undefined", f"{folder}/try.c", "-o", f"{folder}/try"], capture_output=True,
        check=False).returncode == 0


def build(folder):
    """The library's files once, then a program for each fuzzer."""
    objects = []
    for path in FILES:
        made = f"{folder}/{os.path.relpath(path, SOURCE).replace('/', '-')}.o"
        subprocess.run(["clang", "-c", *FLAGS, "-fsanitize=fuzzer-no-link", *flags_of("--cflags"), path, "-o", made],
                       check=True)
        objects.append(made)
    programs = {}
    for path in sorted(glob.glob(f"{SOURCE}/tests/fuzz/fuzz_*.c")):
        name = os.path.basename(path)[:-len(".c")]
        programs[name] = f"{folder}/{name}"
        subprocess.run(["clang", *FLAGS, "-fsanitize=fuzzer", path, *objects, *flags_of("--cflags"), *flags_of("--libs"), "-lcmocka", "-lpthread",
                        "-lm", "-o", programs[name]], check=True)
    return programs


# ------------------------------------------------------------------------------------------------------------ beginnings

def gguf_string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_file(entries):
    """A file without tensors: [(key after tokenizer.ggml., value)]."""
    out = struct.pack("<IIQQ", 0x46554747, 3, 0, len(entries))
    for key, value in entries:
        out += gguf_string("tokenizer.ggml." + key)
        if isinstance(value, bool):
            out += struct.pack("<I?", 7, value)
        elif isinstance(value, int):
            out += struct.pack("<II", 4, value)
        elif isinstance(value, str):
            out += struct.pack("<I", 8) + gguf_string(value)
        else:
            kind = 8 if isinstance(value[0], str) else 6 if isinstance(value[0], float) else 5
            out += struct.pack("<IIQ", 9, kind, len(value))
            out += b"".join(gguf_string(v) if kind == 8 else struct.pack("<f" if kind == 6 else "<i", v) for v in value)
    return out


LETTERS = ["<s>", "a", "b", "ab", "abab", "Ġ", "Ġa", "1", "12", "é", "'s", "<tool>"]
TYPES = [3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4]
MERGES = ["a b", "ab ab", "Ġ a", "1 2"]
PIECES = ["<unk>", "<s>", "</s>", "\u2581", "a", "b", "ab", "\u2581a"]


def vocabularies():
    for pre in splitters.SPLITTERS:
        yield gguf_file([("model", "gpt2"), ("pre", pre), ("tokens", LETTERS), ("token_type", TYPES), ("merges", MERGES),
                         ("bos_token_id", 0)])
    byte = [f"<0x{number:02X}>" for number in range(256)]
    types = [2, 3, 3] + [1] * 5 + [6] * 256
    yield gguf_file([("model", "llama"), ("tokens", PIECES + byte), ("token_type", types),
                     ("scores", [float(-i) for i in range(len(types))])])
    yield gguf_file([("model", "gemma4"), ("tokens", PIECES + byte), ("token_type", types), ("merges", ["a b", "\u2581 a"])])


def field(number, wire, data):
    return bytes([number << 3 | wire]) + data


def files():
    vocab = {text: number for number, text in enumerate(LETTERS[:-1])}
    pairs = [tuple(merge.split(" ")) for merge in MERGES]
    for name in splitters.SPLITTERS:
        yield b"\x01" + splitters.tokenizer_json(name, vocab, pairs, [(11, "<tool>", False), (0, "<s>", True)]).encode()
    yield b"\x02" + json.dumps(vocab).encode() + b"\0#version: 0.2\n" + "\n".join(MERGES).encode()
    yield b"\x80" + b'{"bos_token":"<s>","add_bos_token":true}\0' + json.dumps(vocab).encode()
    pieces = b""
    for text, kind in zip(PIECES, [2, 3, 3] + [1] * 5):
        data = text.encode()
        piece = field(1, 2, bytes([len(data)]) + data) + field(2, 5, struct.pack("<f", -1.5)) + field(3, 0, bytes([kind]))
        pieces += field(1, 2, bytes([len(piece)]) + piece)
    pieces += field(2, 2, b"\x02" + field(3, 0, b"\x02")) + field(3, 2, b"\x04" + field(4, 0, b"\0") + field(3, 0, b"\x01"))
    yield b"\x03" + pieces


def write_beginnings(name, folder):
    texts = [text.encode() for text in SENTENCES] + [b"\xff\xe2\x82", b"a" * 200, b" " * 200]
    if name == "fuzz_vocabulary":
        found = [bytes([len(text)]) + text + file for file in vocabularies() for text in texts[:1]]
    else:
        found = files() if name == "fuzz_files" else texts
    for number, data in enumerate(found):
        with open(f"{folder}/{number}", "wb") as file:
            file.write(data)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--runs", type=int, default=3000)
    parser.add_argument("--only")
    parser.add_argument("--keep")
    options = parser.parse_args()
    folder = os.path.abspath(options.folder)
    os.makedirs(folder, exist_ok=True)
    if not has_fuzzer(folder):
        print("skipped: no clang with libFuzzer here (Debian: clang and libclang-rt-14-dev)")
        sys.exit(77)
    failed = 0
    for name, program in build(folder).items():
        if options.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory() as beginnings:
            write_beginnings(name, beginnings)
            kept = [options.keep] if options.keep else []
            done = subprocess.run([program, f"-runs={options.runs}", "-seed=1", "-timeout=10", "-max_len=8192", "-rss_limit_mb=1500",
                                   "-print_final_stats=1", f"-artifact_prefix={folder}/{name}-", *kept, beginnings],
                                  env={**os.environ, "FLASHINFER_TEST_DATA": f"{SOURCE}/tests/data",
                                       "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1"},
                                  capture_output=True, text=True, errors="replace", check=False)
        lines = done.stderr.splitlines()
        print(f"{name}: " + ", ".join(line[len("stat::"):] for line in lines if line.startswith("stat::number")),
              [line for line in lines if " cov: " in line][-1:], flush=True)
        if done.returncode != 0:
            print("\n".join(lines[-60:]))
            failed += 1
    sys.exit(failed != 0)


if __name__ == "__main__":
    main()
