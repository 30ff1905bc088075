#!/usr/bin/env python3
"""Recall, predicted share and perplexity of the sketch predictor, in numpy, on a checkpoint with golden.npz.

    sketch_study.py CHECKPOINT [--windows 16] [--bits 3] [--margins 1,1.5,2] [--variant NAME ...] [--no-perplexity]

It repeats what lib/predictor/sketch_make.c and lib/kernels/sketch/sketch.c do, so that a change can be tried here before it is written
there. The sketch is made from weights alone; the windows only judge it. Perplexity: a whole forward pass in which
the neurons not predicted give zero. Only OPT with pre-norm layers and a tied head (the fable models).
"""
import argparse
import json
import struct

import numpy as np

BLOCK = 32
MAGNITUDES = {
    "default": {1: [1], 2: [2, 7], 3: [2, 6, 11, 18], 4: [2, 6, 10, 14, 19, 24, 30, 39]},
    "uniform": {1: [1], 2: [1, 3], 3: [1, 3, 5, 7], 4: [1, 3, 5, 7, 9, 11, 13, 15]},
}
REACH = (0.60, 0.69, 0.78, 0.87, 0.96, 1.05)
INPUT_LEVEL_MAX = 127

# name: (levels, block, weight of an input's error, column scale), the last two from the norm's weight
VARIANTS = {
    "default": ("default", BLOCK, "one", "one"),
    "uniform": ("uniform", BLOCK, "one", "one"),
    "gamma-error": ("default", BLOCK, "gamma", "one"),
    "gamma-columns": ("default", BLOCK, "one", "gamma"),
    "block-16": ("default", 16, "one", "one"),
    "block-64": ("default", 64, "one", "one"),
    "per-row": ("default", None, "one", "one"),
}


# ------------------------------------------------------------------------------------------ model


def load(directory):
    with open(directory + "/config.json") as file:
        config = json.load(file)
    raw = np.memmap(directory + "/model.safetensors", np.uint8, "r")
    (header_bytes,) = struct.unpack("<Q", raw[:8].tobytes())
    header = json.loads(raw[8 : 8 + header_bytes].tobytes())
    weights = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + header_bytes + offset for offset in entry["data_offsets"])
        dtype = {"F16": np.float16, "F32": np.float32}[entry["dtype"]]
        array = raw[begin:end].view(dtype).reshape(entry["shape"]).astype(np.float32)
        weights[name.removeprefix("model.decoder.")] = array
    return config, weights


def layer_norm(x, weight, bias):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight + bias


class Model:
    def __init__(self, directory):
        self.config, self.weights = load(directory)
        self.layers = self.config["num_hidden_layers"]
        self.ffn = self.config["ffn_dim"]

    def layer(self, index, name):
        return (self.weights[f"layers.{index}.{name}.{part}"] for part in ("weight", "bias"))

    def linear(self, index, name, x):
        weight, bias = self.layer(index, name)
        return x @ weight.T + bias

    def attention(self, index, x):
        tokens, heads = len(x), self.config["num_attention_heads"]
        split = lambda y: y.reshape(tokens, heads, -1).transpose(1, 0, 2)
        q, k, v = (split(self.linear(index, f"self_attn.{n}_proj", x)) for n in "qkv")
        scores = q @ k.transpose(0, 2, 1) / np.float32(np.sqrt(q.shape[-1]))
        scores += np.triu(np.full((tokens, tokens), -np.inf, np.float32), 1)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ v
        return self.linear(index, "self_attn.out_proj", mixed.transpose(1, 0, 2).reshape(tokens, -1))

    def logits(self, ids, keep):
        """keep(layer, input, activation) returns the activation to go on with."""
        embed = self.weights["embed_tokens.weight"]
        h = embed[ids] + self.weights["embed_positions.weight"][2 : 2 + len(ids)]
        for index in range(self.layers):
            h = h + self.attention(index, layer_norm(h, *self.layer(index, "self_attn_layer_norm")))
            x = layer_norm(h, *self.layer(index, "final_layer_norm"))
            active = keep(index, x, np.maximum(self.linear(index, "fc1", x), 0))
            h = h + self.linear(index, "fc2", active)
        h = layer_norm(h, self.weights["final_layer_norm.weight"], self.weights["final_layer_norm.bias"])
        return h @ embed.T

    def nll(self, ids, keep):
        logits = self.logits(ids, keep)[:-1]
        top = logits.max(-1)
        normaliser = top + np.log(np.exp(logits - top[:, None]).sum(-1))
        return float((normaliser - logits[np.arange(len(ids) - 1), ids[1:]]).mean())


# ----------------------------------------------------------------------------------------- sketch


def nearest(sizes, scale, magnitudes):
    level = np.full_like(sizes, magnitudes[0])
    for low, high in zip(magnitudes[:-1], magnitudes[1:]):
        level += (sizes > (low + high) / 2 * scale) * np.float32(high - low)
    return level


def quantise(rows, magnitudes, block, error_weight):
    """rows: (rows, cols), error_weight: (cols); returns the copy, of the same shape."""
    count, cols = rows.shape
    block = block or cols
    pad = -cols % block
    blocks = np.pad(rows, ((0, 0), (0, pad))).reshape(count, -1, block)
    weight = np.pad(error_weight, (0, pad)).reshape(1, -1, block)
    sizes, magnitudes = np.abs(blocks), np.asarray(magnitudes, np.float32)
    peak = sizes.max(-1, keepdims=True) + np.float32(1e-30)
    best_scale, best_gain = np.zeros_like(peak), np.zeros_like(peak)
    for reach in REACH if len(magnitudes) > 1 else REACH[:1]:
        scale = peak * np.float32(reach / magnitudes[-1])
        for _ in range(2):
            level = nearest(sizes, scale, magnitudes)
            cross = (weight * level * sizes).sum(-1, keepdims=True)
            square = (weight * level * level).sum(-1, keepdims=True) + np.float32(1e-30)
            scale = cross / square
        gain = cross * cross / square
        best_scale = np.where(gain > best_gain, scale, best_scale)
        best_gain = np.maximum(gain, best_gain)
    scale_max = min(255, (2**31 - 1) // (blocks.shape[1] * block * INPUT_LEVEL_MAX * int(magnitudes[-1])))
    row_scale = best_scale.max(1, keepdims=True) / np.float32(scale_max)
    scale = np.maximum(np.rint(best_scale / row_scale), 1) * row_scale
    copy = np.sign(blocks) * nearest(sizes, scale, magnitudes) * scale
    return copy.reshape(count, -1)[:, :cols]


class Sketch:
    def __init__(self, model, index, bits, variant):
        levels, block, error, columns = VARIANTS[variant]
        weight, bias = model.layer(index, "fc1")
        gamma, beta = model.layer(index, "final_layer_norm")
        self.column_scale = np.ones_like(gamma) if columns == "one" else 1 / np.maximum(gamma, 0.01)
        error_weight = np.ones_like(gamma) if error == "one" else gamma**2
        magnitudes = MAGNITUDES[levels][bits]
        self.copy = np.concatenate(
            [quantise(rows / self.column_scale, magnitudes, block, error_weight)
             for rows in np.array_split(weight, max(1, len(weight) // 256))])
        missing = weight - self.copy * self.column_scale
        self.bias = bias + missing @ beta
        self.spread = np.sqrt(((missing * gamma) ** 2).sum(1))

    def margins(self, x):
        """By how many deviations each score is above zero."""
        y = x * self.column_scale
        scale = np.abs(y).max(-1, keepdims=True) / INPUT_LEVEL_MAX
        return ((np.rint(y / scale) * scale) @ self.copy.T + self.bias) / self.spread


# ------------------------------------------------------------------------------------------ study


class Tally:
    """Counts a layer's active, predicted and found neurons for every margin at once."""

    def __init__(self, layers, margins):
        self.margins = margins
        self.counts = np.zeros((layers, len(margins), 2), np.int64)  # predicted, found
        self.active = np.zeros(layers, np.int64)
        self.all = np.zeros(layers, np.int64)

    def add(self, layer, above, active):
        self.active[layer] += active.sum()
        self.all[layer] += active.size
        for i, margin in enumerate(self.margins):
            named = above > -margin
            self.counts[layer, i] += named.sum(), (named & active).sum()

    def line(self, i, layers=slice(None)):
        predicted, found = self.counts[layers, i].sum(0)
        by_layer = 100 * self.counts[:, i, 1] / self.active
        return (f"recall {100 * found / self.active[layers].sum():6.2f}%  "
                f"predicted {100 * predicted / self.all[layers].sum():6.2f}%  "
                f"lowest layer {by_layer.min():6.2f}%")


def study(model, windows, bits, margins, variant, with_perplexity, exact_nll):
    sketches = [Sketch(model, index, bits, variant) for index in range(model.layers)]
    tally = Tally(model.layers, margins)

    def watch(layer, x, active):
        tally.add(layer, sketches[layer].margins(x), active > 0)
        return active

    for ids in windows:
        model.nll(ids, watch)
    for i, margin in enumerate(margins):
        line = f"{variant:14} {bits} bits  margin {margin:4.2f}  {tally.line(i)}"
        if with_perplexity:
            drop = lambda layer, x, active: active * (sketches[layer].margins(x) > -margin)
            nll = np.mean([model.nll(ids, drop) for ids in windows])
            line += f"  perplexity {100 * (np.exp(nll - exact_nll) - 1):+.3f}%"
        print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--bits", default="1,2,3,4")
    parser.add_argument("--margins", default="1,1.25,1.5,2,2.5")
    parser.add_argument("--variant", nargs="+", default=["default"], choices=sorted(VARIANTS))
    parser.add_argument("--no-perplexity", action="store_true")
    options = parser.parse_args()

    model = Model(options.checkpoint)
    golden = np.load(options.checkpoint + "/golden.npz")
    windows = golden["valid_ids"][: options.windows]
    active = []

    def count(_, x, activation):
        active.append((activation > 0).mean())
        return activation

    exact_nll = np.mean([model.nll(ids, count) for ids in windows])
    print(f"exact: nll {exact_nll:.6f}, perplexity {np.exp(exact_nll):.3f}, active {100 * np.mean(active):.2f}%")
    if len(windows) == len(golden["valid_ids"]):
        assert abs(exact_nll - float(golden["valid_nll"])) < 1e-3, "not the model of golden.npz"
    margins = [float(margin) for margin in options.margins.split(",")]
    for variant in options.variant:
        for bits in (int(bits) for bits in options.bits.split(",")):
            study(model, windows, bits, margins, variant, not options.no_perplexity, exact_nll)


if __name__ == "__main__":
    main()
