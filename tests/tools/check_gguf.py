#!/usr/bin/env python3
"""Checks a packed model file against the checkpoint it was made from.

usage: check_gguf.py MODEL.gguf CHECKPOINT

An independent reader: standard library only, written from docs/format.md and not from the library's sources. It
reads every metadata key and tensor, compares every weight, every padding byte and the tokenizer with the checkpoint,
and checks where things lie. Checksums are left to the C tests. Exit code 0, or 1 with one line on stderr.
"""
import array
import json
import os
import struct
import sys

ALIGNMENT = 4096
F32, F16, Q4_0, Q8_0, I8, I32, I64, BF16 = 0, 1, 2, 8, 24, 26, 27, 30
BLOCK = 32
UNITS = {F32: (4, 1), F16: (2, 1), BF16: (2, 1), Q8_0: (34, BLOCK), Q4_0: (18, BLOCK), I8: (1, 1), I32: (4, 1),
         I64: (8, 1)}  # bytes of so many elements
FILE_TYPES = {F32: 0, F16: 1, BF16: 32, Q8_0: 7, Q4_0: 2}
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class Mismatch(Exception):
    pass


def require(condition, text):
    if not condition:
        raise Mismatch(text)


def row_bytes(kind, elements):
    unit, count = UNITS[kind]
    require(elements % count == 0, "rows of %d elements are no whole blocks of type %d" % (elements, kind))
    return elements // count * unit


# ------------------------------------------------------------------------------------------------ model file

class Gguf:
    """Header, metadata and tensor table; tensor data on demand."""

    def __init__(self, path):
        self.file = open(path, "rb")
        self.length = os.fstat(self.file.fileno()).st_size
        require(self.file.read(4) == b"GGUF", "wrong magic")
        version, tensor_count, value_count = self.take("<IQQ")
        require(version == 3, "version is %d" % version)
        self.values = {}
        self.types = {}
        for _ in range(value_count):
            key = self.text()
            require(key not in self.values, "key %s twice" % key)
            (kind,) = self.take("<I")
            self.values[key], self.types[key] = self.value(kind)
        self.tensors = {}
        self.order = []
        for _ in range(tensor_count):
            name = self.text()
            (count,) = self.take("<I")
            dimensions = list(self.take("<%dQ" % count))
            kind, offset = self.take("<IQ")
            require(name not in self.tensors, "tensor %s twice" % name)
            self.tensors[name] = (kind, dimensions, offset)
            self.order.append(name)
        self.header_bytes = self.file.tell()
        self.data_offset = -(-self.header_bytes // ALIGNMENT) * ALIGNMENT

    def take(self, layout):
        data = self.file.read(struct.calcsize(layout))
        require(len(data) == struct.calcsize(layout), "file ends within its header")
        return struct.unpack(layout, data)

    def text(self):
        (length,) = self.take("<Q")
        return self.file.read(length).decode("utf-8")

    def value(self, kind):
        if kind == 8:
            return self.text(), "string"
        if kind != 9:
            return self.take("<" + SCALARS[kind])[0], SCALARS[kind]
        inner, count = self.take("<IQ")
        if inner == 8:
            return [self.text() for _ in range(count)], "[string]"
        return list(self.take("<%d%s" % (count, SCALARS[inner]))), "[%s]" % SCALARS[inner]

    def size(self, name):
        kind, dimensions, _ = self.tensors[name]
        product = row_bytes(kind, dimensions[0])
        for dimension in dimensions[1:]:
            product *= dimension
        return product

    def data(self, name):
        self.file.seek(self.data_offset + self.tensors[name][2])
        data = self.file.read(self.size(name))
        require(len(data) == self.size(name), "%s is cut off" % name)
        return data


# ------------------------------------------------------------------------------------------------ checkpoint

class Checkpoint:
    """config.json and the safetensors files."""

    def __init__(self, directory):
        self.directory = directory
        self.config = self.json("config.json")
        index = self.json("model.safetensors.index.json")
        self.tensors = {}
        files = sorted(set(index["weight_map"].values())) if index else ["model.safetensors"]
        for name in files:
            with open(os.path.join(directory, name), "rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(length))
            for tensor, entry in header.items():
                if tensor != "__metadata__":
                    self.tensors[tensor] = (name, 8 + length, entry)
        prefixes = ("model.decoder.", "decoder.", "model.", "")
        self.prefix = [prefix for prefix in prefixes if prefix + "embed_tokens.weight" in self.tensors][0]

    def json(self, name):
        path = os.path.join(self.directory, name)
        if not os.path.exists(path):
            return None
        with open(path, encoding="utf-8") as file:
            return json.load(file)

    def numbers(self, name, kind):
        """All elements, row-major, as an array that encode() takes; and the shape."""
        file_name, base, entry = self.tensors[name]
        begin, end = entry["data_offsets"]
        with open(os.path.join(self.directory, file_name), "rb") as file:
            file.seek(base + begin)
            data = file.read(end - begin)
        return convert(data, entry["dtype"], kind), entry["shape"]


def convert(data, dtype, kind):
    """The target type's bit patterns; of quantised types, whose elements depend on each other, float32 numbers."""
    code = {F32: "I", F16: "H", BF16: "H"}.get(kind, "f")
    result = array.array(code)
    if (dtype, kind) in (("F16", F16), ("F32", F32), ("BF16", BF16)) or (dtype == "F32" and code == "f"):
        result.frombytes(data)
        return result
    count = len(data) // (4 if dtype == "F32" else 2)
    if dtype == "BF16":
        wide = array.array("I", [bits << 16 for bits in struct.unpack("<%dH" % count, data)])
        floats = struct.unpack("<%df" % count, wide.tobytes())
    else:
        floats = struct.unpack("<%d%s" % (count, "f" if dtype == "F32" else "e"), data)
    if kind == BF16:  # to the nearest, ties to even
        wide = array.array("I", struct.pack("<%df" % count, *floats))
        return array.array("H", [bits + 0x7fff + (bits >> 16 & 1) >> 16 for bits in wide])
    result.frombytes(struct.pack("<%d%s" % (count, "e" if kind == F16 else "f"), *floats))
    return result


# Python computes in float64. Storing a quotient, product or sum of two float32 numbers as a float32 gives what
# computing in float32 gives: float64 has more than twice the digits.

def encode(numbers, kind):
    """The bytes of whole rows, in the file's type."""
    if kind not in (Q8_0, Q4_0):
        return numbers.tobytes()
    blocks = [numbers[at:at + BLOCK] for at in range(0, len(numbers), BLOCK)]
    largest = [max(block, key=abs) for block in blocks]  # the first of equals
    if kind == Q8_0:
        scales = array.array("f", [abs(most) / 127 for most in largest])
    else:
        scales = array.array("f", [most / -8 for most in largest])
    inverses = array.array("f", [1 / scale if abs(scale) > 2.0 ** -128 else 0.0 for scale in scales])
    levels = [array.array("f", [x * inverse for x in block]) for block, inverse in zip(blocks, inverses)]
    heads = [struct.pack("<e", scale) for scale in scales]
    return b"".join(map(bytes_q8_0 if kind == Q8_0 else bytes_q4_0, heads, levels))


def bytes_q8_0(head, levels):
    return head + bytes([int(x + 0.5) if x >= 0 else -int(0.5 - x) & 255 for x in levels])


def bytes_q4_0(head, levels):
    halves = [min(int(x), 15) for x in array.array("f", [x + 8.5 for x in levels])]
    return head + bytes([low | high << 4 for low, high in zip(halves[:16], halves[16:])])


# ------------------------------------------------------------------------------------------------ comparing

def check_layout(model):
    """Every tensor on the boundary, in order, zeros between them, the file padded to the boundary."""
    expected = 0
    for name in model.order:
        _, _, offset = model.tensors[name]
        require(offset == expected, "%s lies at %d, expected %d" % (name, offset, expected))
        end = offset + model.size(name)
        expected = -(-end // ALIGNMENT) * ALIGNMENT
        model.file.seek(model.data_offset + end)
        require(not any(model.file.read(expected - end)), "padding after %s is not zero" % name)
    require(model.length == model.data_offset + expected, "the file is %d bytes long" % model.length)
    model.file.seek(model.header_bytes)
    require(not any(model.file.read(model.data_offset - model.header_bytes)), "header padding is not zero")
    require(model.order[-1] == "flashinfer.xxh3", "the sums are not last")
    require(model.tensors["flashinfer.xxh3"][:2] == (I64, [1 + len(model.order)]), "wrong sums tensor")
    bundles = [i for i, name in enumerate(model.order) if name.endswith("ffn_bundle.weight")]
    first = bundles[0]
    require(bundles == list(range(first, len(model.order) - 1)), "bundles are not together before the sums")
    sketches = [i for i, name in enumerate(model.order) if ".ffn_sketch." in name]
    require(sketches == list(range(first - len(sketches), first)), "sketches are not together before the bundles")


def opt_keys(config):
    width = config["hidden_size"]
    return {
        "opt.context_length": config["max_position_embeddings"],
        "opt.embedding_length": width,
        "opt.block_count": config["num_hidden_layers"],
        "opt.feed_forward_length": config["ffn_dim"],
        "opt.attention.head_count": config["num_attention_heads"],
        "opt.attention.layer_norm_epsilon": 1e-5,
        "opt.vocab_size": config["vocab_size"],
        "opt.word_embed_proj_dim": config.get("word_embed_proj_dim", width),
        "opt.norm_before": config.get("do_layer_norm_before", True),
        "flashinfer.ffn.parts": ["up", "down"],
        "flashinfer.ffn.activation": "relu",
    }


def llama_keys(config):
    width, heads = config["hidden_size"], config["num_attention_heads"]
    head_width = config.get("head_dim") or width // heads
    theta = config.get("rope_theta") or (config.get("rope_parameters") or {}).get("rope_theta", 10000.0)
    keys = {
        "llama.context_length": config["max_position_embeddings"],
        "llama.embedding_length": width,
        "llama.block_count": config["num_hidden_layers"],
        "llama.feed_forward_length": config["intermediate_size"],
        "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": config.get("num_key_value_heads") or heads,
        "llama.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "llama.attention.key_length": head_width,
        "llama.attention.value_length": head_width,
        "llama.rope.dimension_count": head_width,
        "llama.rope.freq_base": theta,
        "llama.vocab_size": config["vocab_size"],
        "flashinfer.ffn.parts": ["gate", "up", "down"],
        "flashinfer.ffn.activation": config.get("hidden_act", "silu"),
    }
    if config.get("hidden_act") == "fatrelu":
        keys["flashinfer.ffn.activation_threshold"] = config["hidden_act_param"]
    return keys


def same(found, expected):
    """Floats as far as float32 keeps them."""
    if isinstance(expected, float):
        return isinstance(found, float) and struct.pack("<f", found) == struct.pack("<f", expected)
    return found == expected


def check_keys(model, config):
    width, kind_of_model = config["hidden_size"], config["model_type"]
    expected = {"opt": opt_keys, "llama": llama_keys}[kind_of_model](config)
    expected["general.architecture"] = kind_of_model
    expected["general.alignment"] = ALIGNMENT
    expected["flashinfer.version"] = 2 if "blk.0.ffn_bundle.rows" in model.tensors else 1
    for key, value in expected.items():
        require(same(model.values.get(key), value), "%s is %r, expected %r" % (key, model.values.get(key), value))
    own = [key for key in model.values if key.startswith((kind_of_model + ".", "flashinfer.ffn.activation"))]
    require(set(own) <= set(expected), "unexpected keys %r" % (set(own) - set(expected)))
    parts = len(expected["flashinfer.ffn.parts"])
    kind = model.values["flashinfer.ffn.part_types"][0]
    part = row_bytes(kind, width)
    payload = parts * part
    stride = model.values["flashinfer.ffn.stride"]
    resident = model.tensors["token_embd.weight"][0]
    require(model.values["general.file_type"] == FILE_TYPES.get(resident), "wrong file_type")
    require(model.values["flashinfer.ffn.part_types"] == [kind] * parts, "wrong part_types")
    require(model.values["flashinfer.ffn.part_offsets"] == [i * part for i in range(parts)], "wrong part_offsets")
    require(model.values["flashinfer.ffn.part_bytes"] == [part] * parts, "wrong part_bytes")
    for step, share in ((4096, 8), (512, 4), (64, 0)):
        padded = -(-payload // step) * step
        if share == 0 or (padded - payload) * share <= payload:
            break
    require(stride == padded, "stride is %d, expected %d" % (stride, padded))
    return resident, kind, part, stride


class Comparer:
    def __init__(self, model, checkpoint, kind, ffn_kind):
        self.model, self.checkpoint, self.kind, self.ffn_kind = model, checkpoint, kind, ffn_kind
        self.seen = {"flashinfer.xxh3"}

    def tensor(self, target, source, kind=None, skip=0, fill=None, head_rows=0):
        """target holds source's elements, the first `skip` rows left out; fill stands for an absent source. head_rows:
        of each head, whose row 2 i + k in the file is row i of its half k in the checkpoint."""
        kind = self.kind if kind is None else kind
        require(target in self.model.tensors, "%s is missing" % target)
        found_kind, dimensions, _ = self.model.tensors[target]
        require(found_kind == kind, "%s has type %d" % (target, found_kind))
        self.seen.add(target)
        data = self.model.data(target)
        if fill is not None and source not in self.checkpoint.tensors:
            require(data == struct.pack("<f", fill) * dimensions[0], "%s is not all %g" % (target, fill))
            return
        numbers, shape = self.checkpoint.numbers(source, kind)
        if head_rows:
            width, half = shape[1], head_rows // 2
            order = [head * head_rows + k * half + i for head in range(shape[0] // head_rows)
                     for i in range(half) for k in range(2)]
            rows = [numbers[row * width:(row + 1) * width] for row in order]
            numbers = sum(rows, array.array(numbers.typecode))
        shape = [shape[0] - skip] + shape[1:]
        require(dimensions == shape[::-1], "%s is %r, %s is %r" % (target, dimensions, source, shape))
        skipped = skip * (shape[1] if len(shape) > 1 else 1)
        require(data == encode(numbers[skipped:], kind), "%s differs from %s" % (target, source))

    def pair(self, target, source, weight_kind=None, weight_fill=None):
        self.tensor(target + ".weight", source + ".weight", weight_kind, fill=weight_fill)
        self.tensor(target + ".bias", source + ".bias", F32, fill=0.0)

    def bundles(self, layer, rows_of, down_of, part, stride):
        """rows_of: the matrices whose rows are the first parts; down_of: the one whose columns are the last."""
        name = "blk.%d.ffn_bundle.weight" % layer
        parts = []
        for source in rows_of:
            numbers, (neurons, width) = self.checkpoint.numbers(source, self.ffn_kind)
            parts.append(encode(numbers, self.ffn_kind))
        down, shape = self.checkpoint.numbers(down_of, self.ffn_kind)
        require(shape == [width, neurons], "%s is %r" % (down_of, shape))
        require(self.model.tensors[name][:2] == (I8, [stride, neurons]), "%s has a wrong type or shape" % name)
        columns = array.array(down.typecode, bytes(len(down) * down.itemsize))
        for i in range(width):
            columns[i::width] = down[i * neurons:(i + 1) * neurons]
        parts.append(encode(columns, self.ffn_kind))
        padding = bytes(stride - len(parts) * part)
        data, rows = self.model.data(name), self.rows(layer, neurons)
        for neuron, row in enumerate(rows):
            mine = slice(neuron * part, (neuron + 1) * part)
            require(data[row * stride:(row + 1) * stride] == b"".join(p[mine] for p in parts) + padding,
                    "%s: row %d differs from neuron %d" % (name, row, neuron))
        sums = "blk.%d.ffn_bundle.xxh3" % layer
        require(self.model.tensors[sums][:2] == (I64, [len(parts), neurons]), "%s has a wrong type or shape" % sums)
        self.seen.update((name, sums))

    def rows(self, layer, neurons):
        """The row of each neuron's bundle."""
        name = "blk.%d.ffn_bundle.rows" % layer
        if self.model.values["flashinfer.version"] == 1:
            return range(neurons)
        require(self.model.tensors[name][:2] == (I32, [neurons]), "%s has a wrong type or shape" % name)
        self.seen.add(name)
        rows = struct.unpack("<%di" % neurons, self.model.data(name))
        require(sorted(rows) == list(range(neurons)), "%s is no permutation" % name)
        return rows

    def sketch(self, layer, neurons, width):
        stem = "blk.%d.ffn_sketch." % layer
        if "flashinfer.sketch.bits" not in self.model.values:
            return
        for name, kind, shape in (("bias", F32, [neurons]), ("scale", F32, [width])):
            require(self.model.tensors[stem + name][:2] == (kind, shape), "%s%s has a wrong shape" % (stem, name))
            numbers = struct.unpack("<%df" % shape[0], self.model.data(stem + name))
            require(all(abs(number) < 1e30 for number in numbers), "%s%s is not finite" % (stem, name))
            self.seen.add(stem + name)
        kind, shape, _ = self.model.tensors[stem + "weight"]
        require(kind == I8 and shape[1] == -(-neurons // 16), "%sweight has a wrong shape" % stem)
        self.seen.add(stem + "weight")


def opt_tensors(compare, checkpoint, resident, part, stride):
    config, prefix = checkpoint.config, checkpoint.prefix
    width, neurons = config["hidden_size"], config["ffn_dim"]
    compare.tensor("token_embd.weight", prefix + "embed_tokens.weight")
    compare.tensor("position_embd.weight", prefix + "embed_positions.weight",
                   F16 if resident in (Q8_0, Q4_0) else resident, skip=2)
    if config.get("word_embed_proj_dim", width) != width:
        compare.tensor("token_embd_proj_in.weight", prefix + "project_in.weight")
        compare.tensor("token_embd_proj_out.weight", prefix + "project_out.weight")
    if config.get("do_layer_norm_before", True) and not config.get("_remove_final_layer_norm", False):
        compare.pair("output_norm", prefix + "final_layer_norm", F32, 1.0)
    if not config.get("tie_word_embeddings", True):
        compare.tensor("output.weight", "lm_head.weight")
    for layer in range(config["num_hidden_layers"]):
        source, target = "%slayers.%d." % (prefix, layer), "blk.%d." % layer
        compare.pair(target + "attn_norm", source + "self_attn_layer_norm", F32, 1.0)
        compare.pair(target + "ffn_norm", source + "final_layer_norm", F32, 1.0)
        for to, name in (("attn_q", "q_proj"), ("attn_k", "k_proj"), ("attn_v", "v_proj"), ("attn_output", "out_proj")):
            compare.pair(target + to, source + "self_attn." + name)
        compare.tensor(target + "ffn_up.bias", source + "fc1.bias", F32, fill=0.0)
        compare.tensor(target + "ffn_down.bias", source + "fc2.bias", F32, fill=0.0)
        compare.bundles(layer, [source + "fc1.weight"], source + "fc2.weight", part, stride)
        compare.sketch(layer, neurons, width)


def llama_tensors(compare, checkpoint, _, part, stride):
    config, prefix = checkpoint.config, checkpoint.prefix
    width, neurons, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    head_width = config.get("head_dim") or width // heads
    compare.tensor("token_embd.weight", prefix + "embed_tokens.weight")
    compare.tensor("output_norm.weight", prefix + "norm.weight", F32)
    if not config.get("tie_word_embeddings", False):
        compare.tensor("output.weight", "lm_head.weight")
    for layer in range(config["num_hidden_layers"]):
        source, target = "%slayers.%d." % (prefix, layer), "blk.%d." % layer
        compare.tensor(target + "attn_norm.weight", source + "input_layernorm.weight", F32)
        compare.tensor(target + "ffn_norm.weight", source + "post_attention_layernorm.weight", F32)
        for to, name, head_rows in (("attn_q", "q_proj", head_width), ("attn_k", "k_proj", head_width),
                                    ("attn_v", "v_proj", 0), ("attn_output", "o_proj", 0)):
            compare.tensor(target + to + ".weight", source + "self_attn." + name + ".weight", head_rows=head_rows)
        compare.bundles(layer, [source + "mlp.gate_proj.weight", source + "mlp.up_proj.weight"],
                        source + "mlp.down_proj.weight", part, stride)
        compare.sketch(layer, neurons, width)


def check_tensors(model, checkpoint, resident, kind, part, stride):
    compare = Comparer(model, checkpoint, resident, kind)
    check = {"opt": opt_tensors, "llama": llama_tensors}[checkpoint.config["model_type"]]
    check(compare, checkpoint, resident, part, stride)
    require(compare.seen == set(model.order), "unexpected tensors %r" % (set(model.order) - compare.seen))


# ------------------------------------------------------------------------------------------------ tokenizer

def content(item):
    return item.get("content") if isinstance(item, dict) else item


def read_tables(checkpoint):
    """tokens by id, ids known to be added (id: special or not), merges"""
    whole = checkpoint.json("tokenizer.json")
    if whole:
        tokens = {i: text for text, i in whole["model"]["vocab"].items()}
        added = {entry["id"]: entry["special"] for entry in whole["added_tokens"]}
        tokens.update((entry["id"], entry["content"]) for entry in whole["added_tokens"])
        merges = [text if isinstance(text, str) else " ".join(text) for text in whole["model"]["merges"]]
        return tokens, added, merges
    tokens = {i: text for text, i in checkpoint.json("vocab.json").items()}
    added = {i: False for i in (checkpoint.json("added_tokens.json") or {}).values()}
    tokens.update((i, text) for text, i in (checkpoint.json("added_tokens.json") or {}).items())
    with open(os.path.join(checkpoint.directory, "merges.txt"), encoding="utf-8", newline="") as file:
        lines = file.read().replace("\r\n", "\n").split("\n")
    return tokens, added, [line for line in lines if line and not line.startswith("#version")]


def check_pieces(model, checkpoint):
    """SentencePiece: the texts; what scores and types mean is tested with the tokenizer itself."""
    whole = checkpoint.json("tokenizer.json")
    expected = {i: text for text, i in whole["model"]["vocab"].items()}
    expected.update((entry["id"], entry["content"]) for entry in whole["added_tokens"])
    found = dict(enumerate(model.values["tokenizer.ggml.tokens"]))
    require(len(found) == checkpoint.config["vocab_size"], "%d tokens" % len(found))
    require(found == expected, "tokens differ")


def check_tokenizer(model, checkpoint):
    if model.values["tokenizer.ggml.model"] == "llama":
        return check_pieces(model, checkpoint)
    tokens, added, merges = read_tables(checkpoint)
    vocab_size = checkpoint.config["vocab_size"]
    found = model.values["tokenizer.ggml.tokens"]
    types = model.values["tokenizer.ggml.token_type"]
    require(model.values["tokenizer.ggml.model"] == "gpt2", "wrong tokenizer.ggml.model")
    require(model.values["tokenizer.ggml.pre"] == "gpt-2", "wrong tokenizer.ggml.pre")
    require(len(found) == len(types) == vocab_size, "%d tokens, %d types" % (len(found), len(types)))
    require(model.types["tokenizer.ggml.token_type"] == "[i]", "wrong type of token_type")
    named = set()
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        for key, item in (checkpoint.json(file) or {}).items():
            if key.endswith("_token") and isinstance(content(item), str):
                named.add(content(item))
    named.update(tokens.get(checkpoint.config.get(key)) for key in ("bos_token_id", "eos_token_id", "pad_token_id"))
    for i in range(vocab_size):
        text = tokens.get(i, "[PAD%d]" % i)
        kind = 5 if i not in tokens else 3 if added.get(i) or text in named else 4 if i in added else 1
        require(found[i] == text, "token %d is %r, expected %r" % (i, found[i], text))
        require(types[i] == kind, "token %d (%r) has type %d, expected %d" % (i, text, types[i], kind))
    require(model.values["tokenizer.ggml.merges"] == merges, "merges differ")


def main(arguments):
    if len(arguments) != 3:
        print(__doc__.split("\n")[2], file=sys.stderr)
        return 2
    try:
        model, checkpoint = Gguf(arguments[1]), Checkpoint(arguments[2])
        check_layout(model)
        check_tensors(model, checkpoint, *check_keys(model, checkpoint.config))
        check_tokenizer(model, checkpoint)
    except Mismatch as mismatch:
        print("check_gguf: %s" % mismatch, file=sys.stderr)
        return 1
    print("%s: %d tensors and %d keys agree with the checkpoint" % (arguments[1], len(model.order), len(model.values)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
