#!/usr/bin/env python3
"""What is given to a program and is not what it wants: the error says first what it is, then what to do.

usage: test_strangers.py PROGRAMS_DIR MODEL.gguf CHECKPOINT
"""
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import zipfile

PROGRAMS, MODEL, CHECKPOINT = sys.argv[1:4]
PACK_FOLDER = "pack the directory that it lies in with pack"
PACK_ORIGINAL = "pack the Hugging Face checkpoint that it was made from with pack"
SAVE_AGAIN = "save_pretrained()"


def run(program, *arguments):
    return subprocess.run([os.path.join(PROGRAMS, program), *map(str, arguments)], capture_output=True, check=False,
                          text=True, timeout=300)


def head_of(path, count=1 << 16):
    with open(path, "rb") as file:
        return file.read(count)


def text(words):
    return struct.pack("<Q", len(words)) + words.encode()


def gguf(keys, version=3, tensors=1, tensor_type=0, order="<"):
    """A header as llama.cpp writes it, without checksums; keys: texts and whole numbers."""
    head = b"GGUF" + struct.pack(order + "IQQ", version, tensors, len(keys))
    for key, value in keys.items():
        head += text(key) + (struct.pack("<I", 8) + text(value) if isinstance(value, str) else
                             struct.pack("<IH", 2, value))
    if tensors:
        head += text("token_embd.weight") + struct.pack("<IQIQ", 1, 256, tensor_type, 0)
    return head + bytes(4096)


def safetensors():
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4)


def zipped(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    return head_of(path)


LLAMA = {"general.architecture": "llama"}

# name: bytes, what the thing is, what to do. Of these no program can run any.
FILES = {
    "headless.gguf": (gguf(LLAMA), "a GGUF file that does not open: metadata key llama.context_length is missing", "convert"),
    "mamba.gguf": (gguf({"general.architecture": "mamba"}), 'a GGUF file that does not open: architecture "mamba" is not supported',
                   "gemma2, gemma3, llama, minicpm"),
    "odd.gguf": (gguf({"general.name": "x"}), "a GGUF file without general.architecture", "convert it again"),
    "big.gguf": (gguf({}, order=">"), "a big-endian GGUF file", "little-endian"),
    "v1.gguf": (gguf(LLAMA, version=1), "a GGUF file of an old version", "version 3"),
    "v2.gguf": (gguf(LLAMA, version=2), "a GGUF file of an old version", "version 3"),
    "vocabulary.gguf": (gguf(LLAMA, tensors=0), "a GGUF file without weights", "the file of the model"),
    "lora.gguf": (gguf(LLAMA | {"general.type": "adapter"}), "a LoRA adapter", "merge"),
    "mmproj.gguf": (gguf({"general.architecture": "clip", "general.type": "mmproj"}), "the projector of a multimodal model",
                    "the language model"),
    "old-mmproj.gguf": (gguf({"general.architecture": "clip"}), "the projector of a multimodal model", "the language model"),
    "imatrix.gguf": (gguf({"general.architecture": "x", "general.type": "imatrix"}), "an importance matrix",
                     "the file of the model"),
    "part-00002-of-00003.gguf": (gguf(LLAMA | {"split.no": 1, "split.count": 3}),
                                 "part 2 of 3 of a GGUF file that was split", PACK_ORIGINAL),
    "power.gguf": (b"PWRI" + gguf(LLAMA)[4:], "a model of PowerInfer", PACK_ORIGINAL),
    "ggml-model.bin": (b"tjgg" + bytes(100), "a model file of llama.cpp from before GGUF", PACK_ORIGINAL),
    "model.safetensors": (safetensors(), "a safetensors file", PACK_FOLDER),
    "pytorch_model.bin": (None, "a zip archive, as PyTorch writes its checkpoints", SAVE_AGAIN),
    "old.pt": (pickle.dumps({"x": 1}, protocol=2), "a pickle", SAVE_AGAIN),
    "tf_model.h5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file", SAVE_AGAIN),
    "lfs.gguf": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "a Git LFS pointer", "git lfs pull"),
    "page.gguf": (b"\n<!DOCTYPE html><html>", "a web page", "fetch it again"),
    "denied.gguf": (b"<?xml version='1.0'?><Error/>", "a web page", "fetch it again"),
    "zeros.gguf": (bytes(100000), "a file of zeros", "fetch it again"),
    "config.json": (head_of(f"{CHECKPOINT}/config.json"), "the configuration of a checkpoint", PACK_FOLDER),
    "tokenizer.json": (head_of(f"{CHECKPOINT}/tokenizer.json"), "a tokenizer's file", PACK_FOLDER),
    "tokenizer_config.json": (head_of(f"{CHECKPOINT}/tokenizer_config.json"), "a tokenizer's file", PACK_FOLDER),
    "vocab.json": (head_of(f"{CHECKPOINT}/vocab.json"), "a JSON file", PACK_FOLDER),
    "model.safetensors.index.json": (b'{"metadata": {}, "weight_map": {}}', "the list of a checkpoint's weight files",
                                     PACK_FOLDER),
    "tokenizer.model": (b"\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0\x18\x02", "a tokenizer of SentencePiece", PACK_FOLDER),
    "model.gguf.gz": (b"\x1f\x8b\x08\0" + bytes(50), "a compressed file", "unpack it"),
    "model.tar": (b"model.gguf".ljust(257, b"\0") + b"ustar\00000".ljust(255, b"\0"), "a tar archive", "unpack it"),
    "notes.md": ("# Notes\n\nOn a model, in Zürich.\n".encode(), "a text file", "weights"),
    "state": (b"FLISTAT1" + bytes(64), "a session's saved state", "flashinfer_state_load()"),
}
UNKNOWN = b"\x00\x01\x02\x03" * 40


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        for name, (data, *_) in FILES.items():
            cls.write(name, zipped(cls.path(name)) if data is None else data)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def path(cls, name):
        return os.path.join(cls.folder, name)

    @classmethod
    def write(cls, name, data):
        os.makedirs(os.path.dirname(cls.path(name)), exist_ok=True)
        with open(cls.path(name), "wb") as file:
            file.write(data)
        return cls.path(name)

    def error(self, program, *arguments):
        """The one line, without the name of its code."""
        done = run(program, *arguments)
        self.assertEqual(done.returncode, 1, (program, arguments, done.stderr))
        self.assertEqual((done.stdout, done.stderr.count("\n")), ("", 1), done.stderr)
        self.assertRegex(done.stderr, r"^FLASHINFER_E\w+: ")
        return done.stderr.split(": ", 1)[1].rstrip("\n")

    def assert_says(self, line, path, what, *words):
        """First what the thing is."""
        self.assertTrue(line.startswith(f"{path} is {what}"), line)
        self.assertLess(line.find(what), 250, line)
        for word in words:
            self.assertIn(word, line)


class AsModel(Case):
    def test_every_kind(self):
        for name, (_, what, advice) in FILES.items():
            with self.subTest(name):
                path = self.path(name)
                self.assert_says(self.error("inspect", path), path, what, advice)

    def test_every_program(self):
        path = self.path("model.safetensors")
        _, what, advice = FILES["model.safetensors"]
        calls = [["inspect", path, "--verify"], ["inspect", path, "--json"], ["generate", path, "--prompt", "x"],
                 ["generate", path, "--prompt", "x", "--budget", "64M"],
                 ["perplexity", path, "--text", self.path("notes.md")],
                 ["perplexity", path, "--text", self.path("notes.md"), "--budget", "50%"]]
        if os.path.exists(f"{PROGRAMS}/calibrate"):
            calls += [["calibrate", path, self.path("out.gguf"), "--text", self.path("notes.md")],
                      ["fidelity", path, "--text", self.path("notes.md")]]
        for call in calls:
            self.assert_says(self.error(*call), path, what, advice)

    def test_own_files_of_another_kind(self):
        probe = self.path("probe")
        self.assertEqual(run("probe", MODEL, "--seconds", 0.1, "--save", probe).returncode, 0)
        self.assert_says(self.error("generate", probe, "--prompt", "x"), probe, "what probe --save wrote", "--probe")
        self.assert_says(self.error("inspect", probe), probe, "what probe --save wrote", "--probe of generate")

    def test_no_file(self):
        self.assertIn("/nowhere/x.gguf", self.error("inspect", "/nowhere/x.gguf"))
        empty = self.write("empty.gguf", b"")
        self.assert_says(self.error("inspect", empty), empty, "an empty file", "fetch it again")
        self.assert_says(self.error("inspect", CHECKPOINT), CHECKPOINT, "a directory, not a model file", "with pack")
        self.assert_says(self.error("inspect", self.folder), self.folder, "a directory, not a model file")
        unknown = self.write("unknown", UNKNOWN)
        self.assertIn("not a GGUF file: it begins with 03020100", self.error("inspect", unknown))

    def test_a_file_without_a_name(self):
        path = self.path("model.safetensors")
        line = self.error("embed/asset", path, 0, os.path.getsize(path))
        self.assert_says(line, "this", "a safetensors file", "flashinfer_pack()")

    def test_what_is_damaged_is_not_called_strange(self):
        with open(MODEL, "rb") as file:
            data = file.read()
        cut = self.write("cut.gguf", data[:len(data) // 2])
        self.assertIn("truncated", self.error("inspect", cut))
        early = self.write("early.gguf", data[:300])
        self.assertIn("truncated", self.error("inspect", early))
        at = data.find(b"fable-14m")
        changed = self.write("changed.gguf", data[:at] + b"F" + data[at + 1:])
        self.assertIn("checksum", self.error("inspect", changed))


class AsPredictor(Case):
    def refused(self, path, model=MODEL):
        return self.error("generate", model, "--prompt", "x", "--budget", "64M", "--predictor-file", path)

    def test_every_kind(self):
        for name in FILES:
            with self.subTest(name):
                line = self.refused(self.path(name))
                self.assertTrue(line.startswith(self.path(name) + " is "), line)
                self.assertTrue(line.endswith("not a predictor file: make one from this model with calibrate"), line)

    def test_models_and_directories(self):
        self.assert_says(self.refused(MODEL), MODEL, "a model file, not a predictor file", "with calibrate")
        self.assert_says(self.refused(CHECKPOINT), CHECKPOINT, "a directory")
        unknown = self.write("unknown", UNKNOWN)
        self.assertTrue(self.refused(unknown).startswith(f"{unknown}: not a GGUF file"))

    @unittest.skipUnless(os.path.exists(f"{PROGRAMS}/calibrate"), "calibrate was not built, which needs BLIS and LAPACK")
    def test_a_predictor_of_another_model(self):
        made, words = self.path("predictor.gguf"), self.write("words", head_of(f"{CHECKPOINT}/MODEL_CARD.md"))
        done = run("calibrate", MODEL, made, "--text", words, "--tokens", 64, "--window-tokens", 32, "--bits", 1)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(run("generate", MODEL, "--prompt", "x", "--tokens", 2, "--predictor-file", made).returncode, 0)
        other = self.path("other.gguf")
        self.assertEqual(run("pack", CHECKPOINT, other, "--dtype", "f32").returncode, 0)  # other bytes, so another model
        self.assertEqual(self.refused(made, other), "the predictor file was made for another model; make one from this model")
        for program, more in (("inspect", []), ("generate", ["--prompt", "x"]), ("perplexity", ["--text", words])):
            line = self.error(program, made, *more)
            self.assert_says(line, made, "a predictor file, made for the model \"fable-14m\"", "--predictor-file")
        with open(made, "r+b") as file:
            file.seek(1000)
            byte = file.read(1)[0]
            file.seek(1000)
            file.write(bytes([byte ^ 1]))
        self.assertTrue(self.refused(made).startswith(f"{made}: "), "which of two files is damaged")


class AsProbe(Case):
    def test_any(self):
        for path in (MODEL, self.path("notes.md"), self.path("zeros.gguf"), self.path("model.safetensors")):
            line = self.error("generate", MODEL, "--prompt", "x", "--probe", path)
            self.assertTrue(line.startswith(f"{path} is not a probe's result"), line)
            self.assertIn("probe again", line)
        self.assertIn(CHECKPOINT, self.error("generate", MODEL, "--prompt", "x", "--probe", CHECKPOINT))


class AsCheckpoint(Case):
    def refused(self, path):
        line = self.error("pack", path, self.path("never.gguf"))
        self.assertFalse(os.path.exists(self.path("never.gguf")))
        return line

    def directory(self, name, **files):
        for file, data in {"": b""}.items() | files.items():
            if file:
                self.write(f"{name}/{file.replace('__', '.')}", data)
        os.makedirs(self.path(name), exist_ok=True)
        return self.path(name)

    def test_every_kind_of_file(self):
        for name, (_, what, advice) in FILES.items():
            with self.subTest(name):
                # of plain GGUF files a packer need not say more
                kind = "a GGUF file" if advice in ("merge", "the language model") else what
                kind = "a GGUF file" if name.startswith(("headless", "mamba", "odd", "part", "imatrix")) else kind
                self.assert_says(self.refused(self.path(name)), self.path(name), kind, "not the directory of a checkpoint")
        self.assert_says(self.refused(MODEL), MODEL, "a GGUF file, not the directory of a checkpoint", "opened as it is",
                         PACK_ORIGINAL)

    def test_directories_that_are_none(self):
        empty = self.directory("nothing")
        self.assert_says(self.refused(empty), empty, "a directory without config.json", "tokenizer.json")
        cases = (("adapter", {"adapter_config__json": b"{}", "adapter_model__safetensors": safetensors()},
                  "holds a LoRA adapter", "merge_and_unload()"),
                 ("pictures", {"model_index__json": b"{}"}, "holds a pipeline of diffusers", "no language model"),
                 ("meta", {"params__json": b"{}", "consolidated__00__pth": b"x"}, "in Meta's own form", "-hf"),
                 ("unfinished", {"model__safetensors": safetensors()}, "has weights but no config.json", "fetch all files"),
                 ("words", {"tokenizer__json": b"{}"}, "has a tokenizer but no config.json", "fetch all files"))
        for name, files, *words in cases:
            with self.subTest(name):
                path = self.directory(name, **files)
                line = self.refused(path)
                self.assertTrue(line.startswith(path + " h"), line)
                for word in words:
                    self.assertIn(word, line)

    def test_folders_around_a_checkpoint(self):
        self.write("around/inner/config.json", b"{}")
        self.assert_says(self.refused(self.path("around")), self.path("around"), "the folder around a checkpoint", "inner")
        self.write("models--a--b/snapshots/0123/config.json", b"{}")
        path = self.path("models--a--b")
        self.assert_says(self.refused(path), path, "a folder of Hugging Face's cache", "snapshots/")
        self.assert_says(self.refused(path + "/snapshots"), path + "/snapshots", "the folder around a checkpoint", "0123")

    def test_checkpoints_of_others(self):
        def checkpoint(name, change=None, without=()):
            path = self.path(name)
            shutil.copytree(CHECKPOINT, path, ignore=lambda _, names: set(without) & set(names))
            with open(f"{path}/config.json", encoding="utf8") as file:
                config = json.load(file)
            config.update(change or {})
            with open(f"{path}/config.json", "w", encoding="utf8") as file:
                json.dump(config, file)
            return path
        line = self.refused(checkpoint("mamba", {"model_type": "mamba"}))
        self.assertTrue(line.startswith('the checkpoint is of model_type "mamba", which cannot be packed'), line)
        self.assertIn("llama, mistral", line)
        line = self.refused(checkpoint("gptq", {"quantization_config": {"quant_method": "gptq", "bits": 4}}))
        self.assertTrue(line.startswith('the checkpoint is quantised (quant_method "gptq")'), line)
        line = self.refused(checkpoint("nameless", {"model_type": None}))
        self.assertIn('config.json has no "model_type"', line)
        torch = checkpoint("torch", without=["model.safetensors"])
        self.assertIn("the checkpoint has no weights", self.refused(torch))
        self.write("torch/pytorch_model.bin", b"PK\x03\x04")
        line = self.refused(torch)
        self.assertTrue(line.startswith("the checkpoint has its weights as pytorch_model.bin"), line)
        self.assertIn(SAVE_AGAIN, line)
        self.assertIn("nor tokenizer.json", self.refused(checkpoint("mute", without=[
            "tokenizer.json", "vocab.json", "merges.txt"])))

    def test_nothing_there(self):
        self.assertTrue(self.refused("/nowhere").startswith("/nowhere is not a directory on this machine"))
        self.assertIn("downloaded first", self.refused("facebook/opt-125m"))
        fifo = self.path("fifo")
        os.mkfifo(fifo)
        self.assert_says(self.refused(fifo), fifo, "a file, not the directory of a checkpoint")
        unknown = self.write("unknown", UNKNOWN)
        self.assert_says(self.refused(unknown), unknown, "a file, not the directory of a checkpoint")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
