#!/usr/bin/env python3
"""Packed files read by the PyPI package gguf, llama.cpp's own, and their blocks against those that its quantiser makes.

usage: test_blocks.py PROGRAMS_DIR CHECKPOINT GGUF_FOLDER     exits 77 (skipped) where gguf or numpy cannot be imported

GGUF_FOLDER is where `.ci/setup check` puts the package.
"""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

PROGRAMS, CHECKPOINT, FOLDER = sys.argv[1:4]
sys.path[:0] = [FOLDER, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools")]
import check_gguf  # noqa: E402

try:
    import gguf
    import numpy
except ImportError as missing:
    print(f"skipped: {missing}; .ci/setup check installs gguf and numpy where PyPI can be reached")
    sys.exit(77)

TYPES = {name: gguf.GGMLQuantizationType[name.upper()] for name in ("f16", "bf16", "q8_0", "q4_0")}


def numbers(checkpoint, name):
    """A tensor of a checkpoint as float32."""
    patterns, shape = checkpoint.numbers(name, check_gguf.F32)
    return numpy.frombuffer(patterns.tobytes(), dtype=numpy.float32).reshape(shape)


def pack(checkpoint, path, resident, ffn):
    subprocess.run([f"{PROGRAMS}/pack", checkpoint, path, "--dtype-resident", resident, "--dtype-ffn", ffn],
                   check=True, capture_output=True, timeout=300)
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def wild(random, rows, width):
    """Blocks of all magnitudes, of zeros, with two largest of opposite signs, and with elements halfway between levels."""
    blocks = random.standard_normal((rows * width // 32, 32)).astype(numpy.float32)
    blocks *= numpy.exp2(random.integers(-40, 10, (len(blocks), 1))).astype(numpy.float32)
    blocks[::7] = 0
    blocks[1::7, 5], blocks[1::7, 20] = -abs(blocks[1::7]).max(1), abs(blocks[1::7]).max(1)
    blocks[2::7] = random.integers(-254, 255, blocks[2::7].shape) / 2
    blocks[2::7, 9] = 127
    blocks[3::7] = random.integers(-16, 17, blocks[3::7].shape) / 2
    blocks[3::7, 30] = -8
    return blocks.reshape(rows, width)


def write_wild(folder):
    """A checkpoint of one layer with such matrices."""
    random = numpy.random.default_rng(74)
    with open(f"{CHECKPOINT}/config.json", encoding="utf8") as file:
        config = json.load(file)
    width, neurons, vocab = 64, 512, config["vocab_size"]
    config.update(hidden_size=width, word_embed_proj_dim=width, ffn_dim=neurons, num_hidden_layers=1,
                  num_attention_heads=2, max_position_embeddings=32)
    for name in os.listdir(CHECKPOINT):
        if name.endswith((".json", ".txt")):
            shutil.copy(f"{CHECKPOINT}/{name}", folder)
    with open(f"{folder}/config.json", "w", encoding="utf8") as file:
        json.dump(config, file)
    layer, tensors = "model.decoder.layers.0.", {}
    for name, rows, columns in (("fc1", neurons, width), ("fc2", width, neurons),
                                *((f"self_attn.{p}_proj", width, width) for p in ("q", "k", "v", "out"))):
        tensors[f"{layer}{name}.weight"] = wild(random, rows, columns)
        tensors[f"{layer}{name}.bias"] = numpy.zeros(rows, numpy.float32)
    # down columns, not rows, are what is cut into blocks
    tensors[f"{layer}fc2.weight"] = wild(random, neurons, width).T.copy()
    for name in (f"{layer}self_attn_layer_norm", f"{layer}final_layer_norm", "model.decoder.final_layer_norm"):
        tensors[f"{name}.weight"] = tensors[f"{name}.bias"] = numpy.ones(width, numpy.float32)
    tensors["model.decoder.embed_tokens.weight"] = wild(random, vocab, width)
    tensors["model.decoder.embed_positions.weight"] = numpy.zeros((34, width), numpy.float32)
    header, data = {}, b""
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [len(data), len(data) + tensor.nbytes]}
        data += tensor.tobytes()
    text = json.dumps(header).encode()
    with open(f"{folder}/model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


class Blocks(unittest.TestCase):
    def compare(self, checkpoint_path, resident, ffn):
        checkpoint = check_gguf.Checkpoint(checkpoint_path)
        with tempfile.TemporaryDirectory() as folder:
            tensors = pack(checkpoint_path, f"{folder}/model.gguf", resident, ffn)
            for layer in range(checkpoint.config["num_hidden_layers"]):
                self.layer(checkpoint, tensors, layer, TYPES[resident], TYPES[ffn])
            self.matrix(tensors["token_embd.weight"], numbers(checkpoint, checkpoint.prefix + "embed_tokens.weight"),
                        TYPES[resident])

    def matrix(self, tensor, source, kind):
        self.assertEqual(tensor.tensor_type, kind)
        expected = gguf.quants.quantize(source, kind)
        self.assertTrue(tensor.data.tobytes() == expected.tobytes(), tensor.name)

    def layer(self, checkpoint, tensors, layer, resident, ffn):
        source = f"{checkpoint.prefix}layers.{layer}."
        for target, name in (("attn_q", "q_proj"), ("attn_k", "k_proj"), ("attn_v", "v_proj"),
                             ("attn_output", "out_proj")):
            self.matrix(tensors[f"blk.{layer}.{target}.weight"], numbers(checkpoint, f"{source}self_attn.{name}.weight"),
                        resident)
        ups = gguf.quants.quantize(numbers(checkpoint, source + "fc1.weight"), ffn)
        downs = gguf.quants.quantize(numpy.ascontiguousarray(numbers(checkpoint, source + "fc2.weight").T), ffn)
        ups, downs = (part.reshape(len(part), -1).view(numpy.uint8) for part in (ups, downs))
        bundle = tensors[f"blk.{layer}.ffn_bundle.weight"].data.view(numpy.uint8)
        self.assertTrue(numpy.array_equal(bundle[:, :ups.shape[1]], ups))
        self.assertTrue(numpy.array_equal(bundle[:, ups.shape[1]:2 * ups.shape[1]], downs))
        self.assertFalse(bundle[:, 2 * ups.shape[1]:].any())

    def test_bundled_model(self):
        for resident, ffn in (("q8_0", "q4_0"), ("q4_0", "q8_0"), ("bf16", "bf16")):
            with self.subTest(resident=resident, ffn=ffn):
                self.compare(CHECKPOINT, resident, ffn)

    def test_wild_numbers(self):
        with tempfile.TemporaryDirectory() as folder:
            write_wild(folder)
            for name in TYPES:
                with self.subTest(dtype=name):
                    self.compare(folder, name, name)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
