#!/usr/bin/env python3
"""Blocks of GGUF's types and what ggml's own Python package makes of them, for tests/unit/test_quants.c.

Needs numpy and gguf (2.4.6 of numpy and 0.19 of gguf made the file that is here). Of each type in the order of TYPES: 512
elements as random bytes, whose scales are ordinary numbers, then the same elements as float32.

usage: make_quants.py quants.bin
"""
import sys

import numpy
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

ELEMENTS = 512
# Where a block has float16 numbers: its scale and what is added or taken off.
TYPES = {"Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2],
         "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": []}


def blocks_of(name, halves, random):
    elements, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    blocks = random.integers(0, 256, (ELEMENTS // elements, size), dtype=numpy.uint8)
    for at in halves:
        numbers = random.uniform(-1, 1, len(blocks)).astype(numpy.float16)
        blocks[:, at:at + 2] = numbers.view(numpy.uint8).reshape(-1, 2)
    if name == "MXFP4":  # powers of two, the two smallest of which are no normal floats
        blocks[:, 0] = random.integers(100, 130, len(blocks))
        blocks[:3, 0] = [0, 1, 2]
    return blocks


def main():
    random = numpy.random.default_rng(1)
    with open(sys.argv[1], "wb") as file:
        for name, halves in TYPES.items():
            blocks = blocks_of(name, halves, random)
            floats = quants.dequantize(blocks.reshape(1, -1), GGMLQuantizationType[name])
            file.write(blocks.tobytes())
            file.write(floats.astype(numpy.float32).tobytes())


if __name__ == "__main__":
    main()
