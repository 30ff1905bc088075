#!/usr/bin/env python3
"""Tiny random checkpoints of every architecture, and what transformers computes with them.

usage: make_tiny.py OUT_DIR [NAME ...]      needs torch and transformers 5; tests/data/tiny was made with 5.24 on a CPU
       make_tiny.py --check PROGRAM N       N other models of each architecture, wider and deeper, in a temporary folder,
                                            judged by PROGRAM, which is test_tiny: `meson test --benchmark tiny`.
                                            Exits 77 (skipped) without torch or transformers

A folder for each model: config.json, model.safetensors (float16), vocab.json and merges.txt of a tokenizer that only
fills its place, golden.bin. A folder without weights has a file `weights` with the name of the folder whose weights it
shares: another config.json over the same numbers. A file `activation` has the FLASHINFER_ACTIVATION_... that packing is
to be told, because config.json says another.

golden.bin, little-endian: u32 prompt tokens P, positions N, greedy tokens G, vocabulary V; i32 prompt[P]; u32
positions[N]; f32 logits[N][V], after those positions of the prompt; i32 greedy[G], which follow the prompt. Computed in
float32 from the float16 weights. Prompts are longer than every window. The likeliest token is always so by a margin.

Where transformers has no class (Bamboo, ProSparse, SparseLM, MiniCPM), the nearest one is run with other activations or
scales, and config.json says what those models' say.
"""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

try:
    import torch
    import transformers
    from safetensors.torch import save_file
except ImportError as missing:
    print(f"skipped: {missing.name} is not installed")
    sys.exit(77)

VOCAB, PROMPT, GREEDY = 64, 40, 16
POSITIONS = [0, 1, 8, 23, 39]
MARGIN = 0.02
LLAMA = dict(vocab_size=VOCAB, hidden_size=35, intermediate_size=52, num_hidden_layers=2, num_attention_heads=5,
             num_key_value_heads=5, head_dim=8, max_position_embeddings=128, rms_norm_eps=1e-5,
             tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 10000.0})


# ------------------------------------------------------------------------------------------------ changes of a model

def scaled(module, factor):
    module.register_forward_hook(lambda _, __, out: out * factor)


class Function(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.forward = function


def with_activation(gate=None, up=None):
    """Another function of the gate, and one of up."""
    def change(model):
        for layer in model.model.layers:
            if gate is not None:
                layer.mlp.act_fn = Function(gate)
            if up is not None:
                layer.mlp.up_proj.register_forward_hook(lambda _, __, out: up(out))
    return change


def fatrelu(threshold):
    return lambda x: torch.where(x > threshold, x, torch.zeros_like(x))


def minicpm(scale_emb, scale_depth, base, threshold):
    def change(model):
        config = model.config
        scaled(model.model.embed_tokens, scale_emb)
        for layer in model.model.layers:
            scaled(layer.self_attn.o_proj, scale_depth / config.num_hidden_layers ** 0.5)
            scaled(layer.mlp.down_proj, scale_depth / config.num_hidden_layers ** 0.5)
        scaled(model.model.norm, base / config.hidden_size)
        if threshold is not None:
            with_activation(fatrelu(threshold))(model)
    return change


# ------------------------------------------------------------------------------------------------ the models

class Tiny:
    """config: the class in transformers; written: what its config.json has otherwise (None: the key is left out);
    change: what is done to the model; weights: the Tiny whose weights it shares; plus_one: its norms add one to their
    weights; within: the model_type and the object of a config.json that has this one inside; told: see `activation`."""

    def __init__(self, kind, config, written=None, change=None, weights=None, plus_one=False, within=None, told=None):
        self.kind, self.config, self.written, self.change = kind, config, written or {}, change
        self.weights, self.plus_one, self.within, self.told = weights, plus_one, within, told


def models():
    relu = torch.nn.functional.relu
    rope = "rope_parameters"
    old_rope = {rope: None, "rope_theta": 10000.0}
    gemma = dict(vocab_size=VOCAB, hidden_size=33, intermediate_size=48, num_attention_heads=3, head_dim=8,
                 num_key_value_heads=1, max_position_embeddings=128, query_pre_attn_scalar=12, sliding_window=7)
    falcon = dict(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=False, bias=False,
                  max_position_embeddings=128, hidden_dropout=0.0, attention_dropout=0.0, ffn_hidden_size=56)
    qwen3 = {**LLAMA, "hidden_size": 36, "num_attention_heads": 6, "num_key_value_heads": 2, "tie_word_embeddings": True}
    return {
        # Llama and its relatives
        "llama": Tiny("Llama", {**LLAMA, "num_key_value_heads": 1}),
        "llama-old": Tiny("Llama", {**LLAMA, "num_key_value_heads": 1}, old_rope, weights="llama"),
        "llama-3.1": Tiny("Llama", {**LLAMA, "num_key_value_heads": 1, rope: {
            "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32}}, weights="llama"),
        "llama-linear": Tiny("Llama", {**LLAMA, "num_key_value_heads": 1, rope: {
            "rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}}, weights="llama"),
        "llama-yarn": Tiny("Llama", {**LLAMA, "num_key_value_heads": 1, rope: {
            "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}},
            weights="llama"),
        "relullama": Tiny("Llama", {**LLAMA, "num_key_value_heads": 1, "hidden_act": "relu"}, weights="llama"),
        "prosparse": Tiny("Llama", {**LLAMA, "num_key_value_heads": 1},
                          {"model_type": "sparsellama", "hidden_act": "fatrelu", "hidden_act_param": 0.125},
                          with_activation(fatrelu(0.125)), "llama"),
        "sparselm": Tiny("Llama", {**LLAMA, "num_key_value_heads": 1}, {"model_type": "llama_sparse_relu"},
                         with_activation(relu), "llama"),
        "mistral": Tiny("Mistral", {**LLAMA, "hidden_size": 30, "num_attention_heads": 6, "num_key_value_heads": 2,
                                    "sliding_window": 9}),
        "bamboo": Tiny("Mistral", {**LLAMA, "hidden_size": 30, "num_attention_heads": 6, "num_key_value_heads": 2,
                                   "sliding_window": 9, "hidden_act": "relu"}, {"model_type": "bamboo"},
                       with_activation(relu, relu), "mistral"),
        "minicpm": Tiny("Llama", {**LLAMA, "hidden_size": 33, "num_attention_heads": 3, "num_key_value_heads": 3, "tie_word_embeddings": True},
                        {"model_type": "minicpm", "scale_emb": 3, "scale_depth": 1.4, "dim_model_base": 16},
                        minicpm(3, 1.4, 16, None)),
        "minicpm-s": Tiny("Llama", {**LLAMA, "hidden_size": 33, "num_attention_heads": 3, "num_key_value_heads": 3,
                                    "tie_word_embeddings": True},
                          {"model_type": "minicpm", "scale_emb": 3, "scale_depth": 1.4, "dim_model_base": 16,
                           "hidden_act": "fatrelu", "hidden_act_param": 0.03}, minicpm(3, 1.4, 16, 0.03), "minicpm"),
        # Qwen
        "qwen2": Tiny("Qwen2", {key: value for key, value in {**LLAMA, "hidden_size": 30, "num_attention_heads": 3,
                                                              "num_key_value_heads": 1}.items() if key != "head_dim"}),
        "qwen2-yarn": Tiny("Qwen2", {key: value for key, value in {
            **LLAMA, "hidden_size": 30, "num_attention_heads": 3, "num_key_value_heads": 1, rope: {
                "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
        }.items() if key != "head_dim"}, weights="qwen2"),
        "sparseqwen2": Tiny("Qwen2", {key: value for key, value in {
            **LLAMA, "hidden_size": 30, "num_attention_heads": 3, "num_key_value_heads": 1}.items() if key != "head_dim"},
            change=with_activation(relu, relu), weights="qwen2", told=4),
        "qwen3": Tiny("Qwen3", qwen3),
        # Gemma
        "gemma2": Tiny("Gemma2", {**gemma, "num_hidden_layers": 3}, plus_one=True),
        "gemma3": Tiny("Gemma3", {**gemma, "num_hidden_layers": 3, "layer_types": [
            "sliding_attention", "sliding_attention", "full_attention"], rope: {
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
                "full_attention": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 8.0}}}, plus_one=True),
        "gemma3-old": Tiny("Gemma3", {**gemma, "num_hidden_layers": 3, "layer_types": [
            "sliding_attention", "sliding_attention", "full_attention"], rope: {
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
                "full_attention": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 8.0}}},
            {rope: None, "layer_types": None, "sliding_window_pattern": 3, "rope_local_base_freq": 100.0,
             "rope_theta": 5000.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}, weights="gemma3", plus_one=True),
        "gemma3-images": Tiny("Gemma3", {**gemma, "num_hidden_layers": 3, "layer_types": [
            "sliding_attention", "sliding_attention", "full_attention"], rope: {
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
                "full_attention": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 8.0}}},
            weights="gemma3", plus_one=True, within=("gemma3", "text_config")),
        # blocks side by side, no gates
        "falcon-7b": Tiny("Falcon", {**falcon, "multi_query": True, "parallel_attn": True,
                                     "new_decoder_architecture": False}),
        "falcon-40b": Tiny("Falcon", {**falcon, "num_attention_heads": 4, "num_kv_heads": 2,
                                      "new_decoder_architecture": True}),
        "relufalcon": Tiny("Falcon", {**falcon, "num_attention_heads": 4, "num_kv_heads": 2, "activation": "relu",
                                      "new_decoder_architecture": True}, weights="falcon-40b"),
        "phi-2": Tiny("Phi", dict(vocab_size=VOCAB, hidden_size=36, intermediate_size=56, num_hidden_layers=2,
                                  num_attention_heads=3, num_key_value_heads=3, max_position_embeddings=128,
                                  resid_pdrop=0.0, embd_pdrop=0.0,
                                  rope_parameters={"rope_type": "default", "rope_theta": 10000.0,
                                                   "partial_rotary_factor": 0.4})),
        "nemotron": Tiny("Nemotron", dict(vocab_size=VOCAB, hidden_size=36, intermediate_size=60, num_hidden_layers=2,
                                          num_attention_heads=6, num_key_value_heads=2, head_dim=8,
                                          max_position_embeddings=128, partial_rotary_factor=0.5), plus_one=True),
        "persimmon": Tiny("Persimmon", dict(vocab_size=VOCAB, hidden_size=36, intermediate_size=56, num_hidden_layers=2,
                                            num_attention_heads=3, max_position_embeddings=128, hidden_dropout=0.0,
                                            attention_dropout=0.0)),
    }


# ------------------------------------------------------------------------------------------------ making one

def varied(config, seed):
    """The same model with more layers, heads and neurons; seed 0: as it is."""
    config = dict(config)
    wider, deeper = 1 + seed % 3, 1 + seed % 2
    for key in ("hidden_size", "num_attention_heads", "num_key_value_heads", "num_kv_heads"):
        if key in config:
            config[key] *= wider
    for key in ("intermediate_size", "ffn_hidden_size"):
        if key in config:
            config[key] += 37 * seed
    config["num_hidden_layers"] *= deeper
    if "layer_types" in config:
        config["layer_types"] = config["layer_types"] * deeper
    return config


def config_of(tiny):
    name = {"Gemma3": "Gemma3TextConfig"}.get(tiny.kind, tiny.kind + "Config")
    return getattr(transformers, name)(**tiny.config)


def fill(model, seed, plus_one):
    """Every weight from its own normal distribution, norms too, rounded to float16."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in sorted(model.named_parameters()):
        if "norm" in name or ".ln_" in name:
            middle = 0.0 if plus_one or name.endswith("bias") else 1.0
            values = middle + torch.empty(tensor.shape).uniform_(-0.6, 0.6, generator=generator)
        elif name.endswith("bias"):
            values = torch.empty(tensor.shape).normal_(0, 0.3, generator=generator)
        else:
            values = torch.empty(tensor.shape).normal_(0, 1.4 / tensor.shape[-1] ** 0.5, generator=generator)
        tensor.data.copy_(values.half().float())


def make_model(tiny, seed, weights):
    config = config_of(tiny)
    config._attn_implementation = "eager"
    kind = {"Gemma3": "Gemma3ForCausalLM"}.get(tiny.kind, tiny.kind + "ForCausalLM")
    model = getattr(transformers, kind)(config).float().eval()
    if weights is None:
        fill(model, seed, tiny.plus_one)
    else:
        model.load_state_dict(weights)
    model.tie_weights()
    if tiny.change is not None:
        tiny.change(model)
    return model


def compute(model, seed):
    """The golden data of a prompt, or None if a likeliest token is so by too little."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(VOCAB, (1, PROMPT), generator=generator)
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits[0]
        greedy = []
        for _ in range(GREEDY):
            top = model(ids, use_cache=False).logits[0, -1].topk(2)
            if top.values[0] - top.values[1] < MARGIN:
                return None
            greedy.append(int(top.indices[0]))
            ids = torch.cat([ids, top.indices[:1][None]], 1)
    return (struct.pack("<4I", PROMPT, len(POSITIONS), GREEDY, VOCAB) + struct.pack(f"<{PROMPT}i", *ids[0, :PROMPT].tolist())
            + struct.pack(f"<{len(POSITIONS)}I", *POSITIONS) + logits[POSITIONS].float().numpy().tobytes()
            + struct.pack(f"<{GREEDY}i", *greedy))


def write_config(folder, model, tiny):
    config = json.loads(model.config.to_json_string(use_diff=False))
    for key in ("transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype"):
        config.pop(key, None)
    for key, value in tiny.written.items():
        config.pop(key, None)
        if value is not None:
            config[key] = value
    config = {key: value for key, value in config.items() if value is not None and key not in ("id2label", "label2id")}
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        config.pop(key, None)
    if tiny.within is not None:
        config = {"model_type": tiny.within[0], tiny.within[1]: config}
    with open(f"{folder}/config.json", "w", encoding="utf8") as file:
        json.dump(config, file, indent=1, sort_keys=True)
        file.write("\n")


def write(folder, tiny, model, golden):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    write_config(folder, model, tiny)
    with open(f"{folder}/golden.bin", "wb") as file:
        file.write(golden)
    if tiny.told is not None:
        with open(f"{folder}/activation", "w", encoding="utf8") as file:
            file.write(f"{tiny.told}\n")
    if tiny.weights is not None:
        with open(f"{folder}/weights", "w", encoding="utf8") as file:
            file.write(tiny.weights + "\n")
        return
    tied = model.config.tie_word_embeddings
    state = {name: tensor.half().contiguous().clone() for name, tensor in model.state_dict().items()
             if not (tied and name == "lm_head.weight") and "rotary" not in name and "embed_scale" not in name}
    save_file(state, f"{folder}/model.safetensors")
    with open(f"{folder}/vocab.json", "w", encoding="utf8") as file:
        json.dump({"a": 0, "b": 1, "ab": 2}, file)
    with open(f"{folder}/merges.txt", "w", encoding="utf8") as file:
        file.write("#version: 0.2\na b\n")


def make(out, name, known, seed):
    """A model and those that share its weights, each with the first prompt that has margins."""
    weights = None
    sharing = [other for other, tiny in known.items() if name in (other, tiny.weights)]
    for other in sorted(sharing, key=lambda entry: entry != name):
        model = make_model(known[other], seed, weights)
        golden = next(filter(None, (compute(model, 1000 * seed + attempt) for attempt in range(200))), None)
        if golden is None:
            raise SystemExit(f"{other}: no prompt has margins")
        if other == name:
            weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        write(os.path.join(out, other), known[other], model, golden)
        print(other, flush=True)


def check(program, count):
    failed = 0
    for seed in range(1, count + 1):
        known = models()
        for tiny in known.values():
            tiny.config = varied(tiny.config, seed)
        with tempfile.TemporaryDirectory() as folder:
            for number, (name, tiny) in enumerate(known.items()):
                if tiny.weights is None:
                    make(folder, name, known, number + 100 * seed)
            failed |= subprocess.run([program, folder], check=False).returncode
    return 1 if failed else 0


def main(arguments):
    torch.set_num_threads(1)
    if len(arguments) == 3 and arguments[0] == "--check":
        return check(arguments[1], int(arguments[2]))
    if not arguments:
        print(__doc__)
        return 2
    known = models()
    for number, (name, tiny) in enumerate(known.items()):
        if tiny.weights is None and (len(arguments) == 1 or name in arguments[1:]):
            make(arguments[0], name, known, number)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
