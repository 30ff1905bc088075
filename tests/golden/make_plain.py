#!/usr/bin/env python3
"""A plain GGUF file, as converters of others write them, from a model file of ours.

usage: make_plain.py MODEL.gguf PLAIN.gguf [--activation NAME]

Takes bundles apart into ffn_gate, ffn_up and ffn_down, leaves checksums, predictors and every key of flashinfer.* out,
and aligns tensors to 32 bytes. Bundles are of float types: blocks of a quantised down column are not those of its rows.
--activation writes the key that converters mostly leave out.
"""
import argparse
import array
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
from check_gguf import SCALARS, Gguf  # noqa: E402

ALIGNMENT = 32
LEFT_OUT = ("ffn_bundle.", "ffn_sketch.", "fc1.", "fc2.", "flashinfer.")
CODES = {layout: code for code, layout in SCALARS.items()}


def text(string):
    data = string.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def value(kind, content):
    if kind == "string":
        return struct.pack("<I", 8) + text(content)
    if kind == "[string]":
        return struct.pack("<IIQ", 9, 8, len(content)) + b"".join(map(text, content))
    if kind.startswith("["):
        layout = kind[1:-1]
        return struct.pack("<IIQ", 9, CODES[layout], len(content)) + struct.pack(f"<{len(content)}{layout}", *content)
    return struct.pack("<I", CODES[kind]) + struct.pack("<" + kind, content)


def take_apart(model, layer):
    """(name, type, dimensions, data) of the FFN's matrices."""
    values = model.values
    data = model.data(f"blk.{layer}.ffn_bundle.weight")
    stride, offsets, types = (values["flashinfer.ffn." + key] for key in ("stride", "part_offsets", "part_types"))
    order = list(range(len(data) // stride))
    if f"blk.{layer}.ffn_bundle.rows" in model.tensors:
        order = array.array("I", model.data(f"blk.{layer}.ffn_bundle.rows"))
    for index, name in enumerate(values["flashinfer.ffn.parts"]):
        begin, size = offsets[index], values["flashinfer.ffn.part_bytes"][index]
        rows = [data[stride * place + begin:stride * place + begin + size] for place in order]
        kind = types[index]
        width = size // {0: 4, 1: 2, 30: 2}[kind]
        if name != "down":
            yield f"blk.{layer}.ffn_{name}.weight", kind, [width, len(rows)], b"".join(rows)
            continue
        code = {0: "I", 1: "H", 30: "H"}[kind]
        turned = array.array(code, bytes(size * len(rows)))
        for at, row in enumerate(rows):
            turned[at::len(rows)] = array.array(code, row)
        yield f"blk.{layer}.ffn_down.weight", kind, [len(rows), width], turned.tobytes()


def tensors_of(model):
    architecture = model.values["general.architecture"]
    for name in model.order:
        if not any(part in name for part in LEFT_OUT):
            kind, dimensions, _ = model.tensors[name]
            yield name, kind, dimensions, model.data(name)
    for layer in range(model.values[architecture + ".block_count"]):
        yield from take_apart(model, layer)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("model")
    parser.add_argument("plain")
    parser.add_argument("--activation")
    options = parser.parse_args()
    model = Gguf(options.model)
    keys = {key: (model.types[key], content) for key, content in model.values.items() if not key.startswith("flashinfer.")}
    keys["general.alignment"] = ("I", ALIGNMENT)
    if options.activation:
        keys[model.values["general.architecture"] + ".hidden_activation"] = ("string", options.activation)
    tensors = list(tensors_of(model))
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    header += b"".join(text(key) + value(*content) for key, content in keys.items())
    offset = 0
    for name, kind, dimensions, data in tensors:
        header += text(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, offset)
        offset += -(-len(data) // ALIGNMENT) * ALIGNMENT
    with open(options.plain, "wb") as file:
        file.write(header + bytes(-len(header) % ALIGNMENT))
        for *_, data in tensors:
            file.write(data + bytes(-len(data) % ALIGNMENT))


if __name__ == "__main__":
    main()
