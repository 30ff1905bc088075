#!/usr/bin/env python3
"""A dense GGUF file that llama.cpp runs, with the same matrices as the OPT-shaped file of `synth`.

usage: peer_model.py --layers L --d D --heads H --ffn F --vocab V [--context 2048] [--type f16|q8_0|q4_0] OUT.gguf

llama.cpp has no OPT architecture. GPT-2's has the very same matrices, vectors and tied embeddings; what differs is the
activation (GELU for ReLU). The weights are random: the time of a dense token does not depend on their values. Standard
library only.
"""
import argparse
import random
import struct

ALIGNMENT = 4096
PIECE_BLOCKS = 1 << 21
F32 = 0
TYPES = {"f16": (1, 1, 2), "q8_0": (8, 32, 34), "q4_0": (2, 32, 18)}  # GGUF's number, weights and bytes of a block
FILE_TYPES = {"f16": 1, "q8_0": 7, "q4_0": 2}                         # general.file_type
U32, FLOAT, STRING = 4, 6, 8                                          # kinds of metadata


def tensors_of(shape):
    """(name, dimensions with the row length first, True where its numbers are 1); one dimension: a float32 vector."""
    d, ffn = shape["d"], shape["ffn"]
    yield "token_embd.weight", (d, shape["vocab"]), False
    yield "position_embd.weight", (d, shape["context"]), False
    for layer in range(shape["layers"]):
        for name, rows, columns in (("attn_qkv", 3 * d, d), ("attn_output", d, d), ("ffn_up", ffn, d), ("ffn_down", d, ffn)):
            yield f"blk.{layer}.{name}.weight", (columns, rows), False
            yield f"blk.{layer}.{name}.bias", (rows,), False
        for name in ("attn_norm", "ffn_norm"):
            yield f"blk.{layer}.{name}.weight", (d,), True
            yield f"blk.{layer}.{name}.bias", (d,), False
    yield "output_norm.weight", (d,), True
    yield "output_norm.bias", (d,), False


def metadata_of(shape, kind):
    return [("general.architecture", STRING, "gpt2"),
            ("general.name", STRING, "synthetic: random weights, for measuring speed only"),
            ("general.alignment", U32, ALIGNMENT),
            ("general.file_type", U32, FILE_TYPES[kind]),
            ("gpt2.context_length", U32, shape["context"]),
            ("gpt2.embedding_length", U32, shape["d"]),
            ("gpt2.feed_forward_length", U32, shape["ffn"]),
            ("gpt2.block_count", U32, shape["layers"]),
            ("gpt2.attention.head_count", U32, shape["heads"]),
            ("gpt2.attention.layer_norm_epsilon", FLOAT, 1e-5),
            ("gpt2.vocab_size", U32, shape["vocab"]),
            ("tokenizer.ggml.model", STRING, "no_vocab")]


def text(string):
    return struct.pack("<Q", len(string)) + string.encode("ascii")


def value(kind, of):
    return struct.pack("<I", kind) + (text(of) if kind == STRING else struct.pack("<I" if kind == U32 else "<f", of))


def exponent_for(row_length):
    """Of the power of two just below 1 / sqrt(row length), which keeps sums near 1."""
    power = 0
    while 4 ** -power * row_length > 1:
        power += 1
    return -power - 1


def random_blocks(source, kind, blocks, exponent):
    """Numbers of either sign whose mean is 0, none of them subnormal or infinite."""
    _, weights, size = TYPES[kind]
    data = source.randbytes(blocks * size)
    if weights == 1:  # keep sign and mantissa, set the exponent
        kept = int.from_bytes(data, "little") & int.from_bytes(b"\xff\x83" * blocks, "little")
        return (kept | int.from_bytes(struct.pack("<H", 15 + exponent << 10) * blocks, "little")).to_bytes(len(data), "little")
    levels = 5 if kind == "q4_0" else 74  # what a level's own spread is, about
    scale = struct.pack("<e", 2.0 ** exponent / levels * 1.5)
    data = bytearray(data)
    data[0::size], data[1::size] = scale[:1] * blocks, scale[1:] * blocks
    return data


def bytes_of(dimensions, kind):
    if len(dimensions) == 1:
        return 4 * dimensions[0]
    _, weights, size = TYPES[kind]
    return dimensions[0] // weights * size * dimensions[1]


def aligned(offset):
    return -(-offset // ALIGNMENT) * ALIGNMENT


def header_of(shape, kind, tensors):
    metadata = metadata_of(shape, kind)
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    parts += [text(key) + value(of, number) for key, of, number in metadata]
    offset = 0
    for name, dimensions, _ in tensors:
        number = F32 if len(dimensions) == 1 else TYPES[kind][0]
        parts.append(text(name) + struct.pack("<I", len(dimensions)) + struct.pack(f"<{len(dimensions)}Q", *dimensions)
                     + struct.pack("<IQ", number, offset))
        offset = aligned(offset + bytes_of(dimensions, kind))
    return b"".join(parts)


def write_matrix(file, source, kind, dimensions):
    _, weights, _ = TYPES[kind]
    blocks, exponent = dimensions[0] // weights * dimensions[1], exponent_for(dimensions[0])
    for begin in range(0, blocks, PIECE_BLOCKS):
        file.write(random_blocks(source, kind, min(PIECE_BLOCKS, blocks - begin), exponent))


def write(path, shape, kind="f16", seed=1):
    tensors, source = list(tensors_of(shape)), random.Random(seed)
    if any(dimensions[0] % TYPES[kind][1] for _, dimensions, _ in tensors):
        raise ValueError(f"a row is no whole number of {kind} blocks")
    with open(path, "wb") as file:
        file.write(header_of(shape, kind, tensors))
        for _, dimensions, ones in tensors:
            file.write(bytes(aligned(file.tell()) - file.tell()))
            if len(dimensions) == 1:
                file.write(struct.pack("<f", float(ones)) * dimensions[0])
            else:
                write_matrix(file, source, kind, dimensions)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("layers", "d", "heads", "ffn", "vocab"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--type", choices=TYPES, default="f16")
    parser.add_argument("out")
    options = vars(parser.parse_args())
    write(options.pop("out"), options, options.pop("type"))


if __name__ == "__main__":
    main()
