#!/usr/bin/env python3
"""Every architecture's tiny checkpoint: what is missing or not supported is refused by name, and names of tensors are those
of llama.cpp.

usage: test_architectures.py PROGRAMS_DIR TINY_DIR [GGUF_PACKAGE_DIR]      with the package, names are compared with its
"""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

PROGRAMS, TINY = sys.argv[1:3]
MODELS = sorted(name for name in os.listdir(TINY) if os.path.exists(f"{TINY}/{name}/model.safetensors"))
ARCHITECTURES = {"falcon-7b": "falcon", "falcon-40b": "falcon", "mistral": "llama", "phi-2": "phi2"}
MAKE_PLAIN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "make_plain.py")

# model, what config.json says instead (None: the key is left out), words of the refusal
CONFIGS = [
    ("qwen2", {"hidden_act": "gelu"}, "hidden_act \"gelu\" is not supported; Qwen 2 models are known with relu"),
    ("qwen2", {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 8}, "max_window_layers"),
    ("qwen2", {"rope_parameters": {"rope_type": "llama3", "factor": 2}}, "\"rope_type\" is llama3"),
    ("qwen3", {"attention_bias": True}, "\"attention_bias\" is true"),
    ("qwen3", {"head_dim": 16}, "self_attn.q_proj.weight: expected [96, 36]"),
    ("minicpm", {"scale_emb": 0}, "scale_emb"),
    ("minicpm", {"dim_model_base": "wide"}, "dim_model_base"),
    ("gemma2", {"hidden_activation": "silu"}, "hidden_activation \"silu\""),
    ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar"),
    ("gemma2", {"attn_logit_softcapping": "no"}, "attn_logit_softcapping"),
    ("gemma2", {"layer_types": ["full_attention", "sliding_attention", "full_attention"]}, "layer_types"),
    ("gemma2", {"num_attention_heads": 3, "num_key_value_heads": 2}, "num_key_value_heads 2 does not divide"),
    ("gemma3", {"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
    ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("gemma3", {"layer_types": ["full_attention", "sliding_attention", "full_attention"]}, "layer_types"),
    ("gemma3", {"model_type": "gemma3"}, "text_config"),
    ("falcon-7b", {"alibi": True}, "\"alibi\" is true"),
    ("falcon-7b", {"bias": True}, "\"bias\" is true"),
    ("falcon-7b", {"parallel_attn": False}, "\"parallel_attn\" is false"),
    ("falcon-7b", {"multi_query": False, "num_kv_heads": None}, "query_key_value.weight: expected [96, 32], found [48, 32]"),
    ("falcon-40b", {"num_ln_in_parallel_attn": 1}, "input_layernorm.weight"),
    ("falcon-40b", {"activation": "silu"}, "activation \"silu\""),
    ("phi-2", {"qk_layernorm": True}, "qk_layernorm"),
    ("phi-2", {"tie_word_embeddings": True}, "tie_word_embeddings"),
    ("phi-2", {"rope_parameters": {"partial_rotary_factor": 0.25}}, "partial_rotary_factor"),
    ("nemotron", {"mlp_bias": True}, "mlp_bias"),
    ("nemotron", {"partial_rotary_factor": 1.5}, "partial_rotary_factor"),
    ("persimmon", {"qk_layernorm": False}, "\"qk_layernorm\" is false"),
    ("persimmon", {"hidden_act": "gelu"}, "hidden_act \"gelu\""),
]


def run(program, *arguments):
    return subprocess.run([os.path.join(PROGRAMS, program), *map(str, arguments)], capture_output=True, check=False,
                          text=True, timeout=300)


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.out = f"{self.folder.name}/model.gguf"

    def checkpoint(self, name, config=None, tensors=None):
        """A copy, with other entries of config.json and of the table of tensors."""
        copy = f"{self.folder.name}/checkpoint"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(f"{TINY}/{name}", copy)
        with open(f"{copy}/config.json", encoding="utf8") as file:
            known = {**json.load(file), **(config or {})}
        with open(f"{copy}/config.json", "w", encoding="utf8") as file:
            json.dump({key: value for key, value in known.items() if value is not None}, file)
        if tensors is not None:
            with open(f"{copy}/model.safetensors", "rb") as file:
                data = file.read()
            header = json.dumps(tensors).encode()
            with open(f"{copy}/model.safetensors", "wb") as file:
                file.write(struct.pack("<Q", len(header)) + header + data[8 + struct.unpack("<Q", data[:8])[0]:])
        return copy

    def refused(self, done, words):
        self.assertNotEqual(done.returncode, 0, words)
        self.assertIn(words, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1)
        self.assertEqual(len(os.listdir(self.folder.name)) - os.path.exists(self.out), 1)


class Packing(Case):
    def test_what_is_not_supported_is_refused(self):
        for name, config, words in CONFIGS:
            with self.subTest(name=name, config=config):
                self.refused(run("pack", self.checkpoint(name, config), self.out), words)

    def test_every_tensor_is_needed(self):
        for name in MODELS:
            with open(f"{TINY}/{name}/model.safetensors", "rb") as file:
                tensors = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
            for missing in tensors:
                if missing == "__metadata__" or ".0." in missing:
                    continue
                with self.subTest(name=name, missing=missing):
                    rest = {key + ("?" if key == missing else ""): entry for key, entry in tensors.items()}
                    self.refused(run("pack", self.checkpoint(name, None, rest), self.out), missing)

    def test_activations_can_be_told(self):
        checkpoint = self.checkpoint("qwen2")
        for told, activation, threshold in (("drelu", "drelu", 0), ("fatrelu:0.25", "fatrelu", 0.25), ("relu", "relu", 0)):
            self.assertEqual(run("pack", checkpoint, self.out, "--activation", told).returncode, 0)
            said = json.loads(run("inspect", self.out, "--json").stdout)
            self.assertEqual((said["activation"], said["threshold"], said["sparse"]), (activation, threshold, True))
            os.remove(self.out)
        for told, words in (("fatrelu", "fatrelu:THRESHOLD, not \"fatrelu\""), ("fatrelu:x", "behind its colon"), ("swish", "is one of relu"),
                            ("fatrelu:-1", "at least 0"), ("gelu", "activation \"gelu\" is not supported")):
            self.refused(run("pack", checkpoint, self.out, "--activation", told), words)

    def test_inspect_says_what_was_packed(self):
        for name in MODELS:
            self.assertEqual(run("pack", self.checkpoint(name), self.out).returncode, 0)
            said = json.loads(run("inspect", self.out, "--json", "--verify").stdout)
            self.assertEqual(said["architecture"], ARCHITECTURES.get(name, name))
            self.assertTrue(said["verified"])
            os.remove(self.out)


class Plain(Case):
    """GGUF files as converters of others write them, of which few say their activation."""

    def plain(self, *more, name=b"llama"):
        """Of the tiny Llama, by another name of as many letters."""
        packed, path = f"{self.folder.name}/packed.gguf", f"{self.folder.name}/plain.gguf"
        self.assertEqual(run("pack", f"{TINY}/llama", packed, "--dtype", "f32").returncode, 0)
        subprocess.run([sys.executable, MAKE_PLAIN, packed, path, *more], check=True)
        with open(path, "rb") as file:
            data = file.read()
        at = data.index(b"llama", data.index(b"general.name"))
        with open(path, "wb") as file:
            file.write(data[:at] + name + data[at + 5:])
        return path

    def refused(self, done, words):
        self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (1, "", 1), done.stderr)
        self.assertIn(words, done.stderr)

    def calls(self, path):
        yield "inspect", path
        yield "generate", path, "--prompt", "a", "--tokens", "2", "--budget", "100%"
        yield "perplexity", path, "--text", __file__, "--window-tokens", "16", "--limit", "1"

    def test_what_a_file_does_not_say_is_told(self):
        path = self.plain(name=b"ReLU!")
        for call in self.calls(path):
            self.refused(run(*call), f"{path} is a GGUF file that does not open: the file does not say its activation, and general.name "
                                     "has \"relu\" in it")
            self.refused(run(*call), "say which it is in --activation\n")
            self.refused(run(*call, "--activation", "gelu"), "--activation \"gelu\" is not supported; Llama models are known with relu")
        for told, activation, threshold, sparse in (("relu", "relu", 0, True), ("fatrelu:0.5", "fatrelu", 0.5, True),
                                                    ("drelu", "drelu", 0, True), ("silu", "silu", 0, False)):
            said = json.loads(run("inspect", path, "--json", "--activation", told).stdout)
            self.assertEqual((said["activation"], said["threshold"], said["sparse"]), (activation, threshold, sparse))
            _, whole, scored = self.calls(path)
            self.refused(run(*whole, "--activation", told), "FLASHINFER_EBUDGET: a --budget of")  # so the share was taken
            self.assertEqual(run(*whole[:-1], "2M", "--activation", told).returncode, 0)
            self.assertEqual(run(*scored, "--activation", told).returncode, 0)

    def test_what_is_told_is_computed(self):
        _, _, call = self.calls(self.plain())
        scores = {told: json.loads(run(*call, "--json", *told).stdout)["nll"] for told in (
            (), ("--activation", "silu"), ("--activation", "relu"), ("--activation", "relu2"))}
        self.assertEqual(len(set(scores.values())), 3, scores)
        self.assertEqual(scores[()], scores["--activation", "silu"])

    def test_a_threshold_is_needed(self):
        self.refused(run("inspect", self.plain("--activation", "fatrelu")), "say both in --activation fatrelu:0.01\n")

    def test_files_in_flash_layout_say_it(self):
        self.assertEqual(run("pack", f"{TINY}/llama", self.out).returncode, 0)
        for call in self.calls(self.out):
            self.refused(run(*call, "--activation", "silu"), "--activation is set, but the model is in flash layout")


class Names(Case):
    def test_tensors_and_keys_are_called_as_in_gguf(self):
        if len(sys.argv) < 4 or not os.path.isdir(sys.argv[3]):
            self.skipTest("the package gguf is not here")
        sys.path.insert(0, sys.argv[3])
        try:
            from gguf import GGUFReader, constants
        except ImportError as missing:
            self.skipTest(f"{missing.name} is not here")
        numbers = {text: number for number, text in constants.MODEL_ARCH_NAMES.items()}
        groups = [group for group in vars(constants.Keys).values() if isinstance(group, type)]
        keys = {key for group in groups for key in vars(group).values() if isinstance(key, str)}
        for name in MODELS:
            self.assertEqual(run("pack", self.checkpoint(name), self.out).returncode, 0)
            file = GGUFReader(self.out)
            architecture = file.fields["general.architecture"].contents()
            for key in file.fields:
                if key.startswith(architecture + "."):
                    self.assertIn(key.replace(architecture, "{arch}", 1), keys, name)
            if architecture not in numbers:  # llama.cpp has dropped Persimmon
                os.remove(self.out)
                continue
            known = {constants.TENSOR_NAMES[tensor] for tensor in constants.MODEL_TENSORS[numbers[architecture]]}
            for tensor in file.tensors:
                stem = tensor.name.rsplit(".", 1)[0].replace("blk.0.", "blk.{bid}.")
                if not stem.startswith(("blk.1", "blk.2")) and "ffn_bundle" not in stem and "ffn_sketch" not in stem and \
                        "xxh3" not in tensor.name:
                    self.assertIn(stem, known, name)
            os.remove(self.out)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
