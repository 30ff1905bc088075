#!/usr/bin/env python3
"""Train a small OPT language model whose FFN activations are really sparse, and export it as a checkpoint.

The bundled fable-14m was made with on one GPU:

    train.py --train train.txt --valid valid.txt --out fable-14m \
        --width 320 --layers 6 --heads 5 --ffn 2560 --sparsity 0.966

train.txt and valid.txt are UTF-8 text, documents separated by <|endoftext|>: 136 public-domain English books (60 MB),
six other books for validation. Files ending in .xz are read too. Needs torch, tokenizers, safetensors, transformers.
"""
import argparse
import json
import lzma
import math
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn

SEPARATOR = "<|endoftext|>"
BOS, PAD, EOS, UNKNOWN = "<s>", "<pad>", "</s>", "<unk>"
START = 2  # id of </s>: it begins every document, as in OPT
PROMPTS = [
    "Once upon a time there was a little girl who",
    "The captain looked out over the stormy sea and",
    '"What is that?" said the fox,',
    "In the middle of the dark forest stood an old house. Nobody",
]
GOLDEN_WINDOWS = 16
GOLDEN_TOKENS = 64


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="training text (.txt or .txt.xz)")
    parser.add_argument("--valid", required=True, help="held-out text (.txt or .txt.xz)")
    parser.add_argument("--out", required=True, help="folder for the checkpoint")
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=5)
    parser.add_argument("--ffn", type=int, default=2560, help="FFN neurons of a layer")
    parser.add_argument("--context", type=int, default=512, help="tokens of a window, and positions of the model")
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=64, help="windows of a step")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--sparsity", type=float, default=0.95, help="wanted share of zeros after the ReLU")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


# ------------------------------------------------------------------------------------------------------------- text


def read_documents(path):
    opener = lzma.open if path.endswith(".xz") else open
    with opener(path, "rt", encoding="utf8") as file:
        return [part.strip() for part in file.read().split(SEPARATOR) if part.strip()]


def train_tokenizer(documents, vocab):
    """Byte-level BPE with OPT's special tokens; </s> before every text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=[BOS, PAD, EOS, UNKNOWN], min_frequency=2,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator((line for document in documents for line in document.split("\n")), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{EOS} $A", special_tokens=[(EOS, START)])
    return tokenizer


def encode(tokenizer, documents):
    """All documents in one array of ids, each beginning with START."""
    pieces = []
    for document in documents:
        ids = [START]
        lines = [line + "\n" for line in document.split("\n")]
        for encoding in tokenizer.encode_batch(lines, add_special_tokens=False):
            ids.extend(encoding.ids)
        pieces.append(np.array(ids, dtype=np.int32))
    return np.concatenate(pieces)


# ------------------------------------------------------------------------------------------------------------ model
# Parameter names are those of Hugging Face's OPT below model.decoder.


class Layer(nn.Module):
    def __init__(self, width, heads, ffn):
        super().__init__()
        self.heads = heads
        self.self_attn = nn.Module()
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self.self_attn, name, nn.Linear(width, width))
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, ffn)
        self.fc2 = nn.Linear(ffn, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def attend(self, x):
        batch, tokens, width = x.shape
        query, key, value = (
            getattr(self.self_attn, name)(x).view(batch, tokens, self.heads, width // self.heads).transpose(1, 2)
            for name in ("q_proj", "k_proj", "v_proj"))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.self_attn.out_proj(mixed.transpose(1, 2).reshape(batch, tokens, width))

    def forward(self, x, dropout):
        x = x + F.dropout(self.attend(self.self_attn_layer_norm(x)), dropout, self.training)
        activations = F.relu(self.fc1(self.final_layer_norm(x)))
        return x + F.dropout(self.fc2(activations), dropout, self.training), activations


class Opt(nn.Module):
    def __init__(self, arguments):
        super().__init__()
        width, layers = arguments.width, arguments.layers
        self.embed_tokens = nn.Embedding(arguments.vocab, width)
        self.embed_positions = nn.Embedding(arguments.context + 2, width)  # OPT leaves the first two rows unused
        self.layers = nn.ModuleList(Layer(width, arguments.heads, arguments.ffn) for _ in range(layers))
        self.final_layer_norm = nn.LayerNorm(width)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                into_residual = "out_proj" in name or "fc2" in name
                nn.init.normal_(parameter, std=0.02 / (math.sqrt(2 * layers) if into_residual else 1))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, ids, dropout=0.0):
        """Logits, mean activation (the L1 term) and share of activations above zero."""
        positions = torch.arange(2, ids.shape[1] + 2, device=ids.device)
        x = F.dropout(self.embed_tokens(ids) + self.embed_positions(positions), dropout, self.training)
        mean, firing = 0.0, 0.0
        for layer in self.layers:
            x, activations = layer(x, dropout)
            mean = mean + activations.float().mean() / len(self.layers)
            firing = firing + (activations > 0).float().mean() / len(self.layers)
        return F.linear(self.final_layer_norm(x), self.embed_tokens.weight), mean, firing


# --------------------------------------------------------------------------------------------------------- training


def half_precision(device):
    return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")


def loss_of(logits, targets):
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


@torch.no_grad()
def evaluate(model, ids, arguments, most):
    """Mean loss and sparsity over at most `most` batches of held-out text."""
    model.eval()
    rows, context = arguments.batch, arguments.context
    count = max(1, min(most, (len(ids) - 1) // (rows * context)))
    loss = sparsity = 0.0
    for i in range(count):
        piece = ids[i * rows * context:(i + 1) * rows * context + 1]
        inputs, targets = piece[:-1].view(-1, context), piece[1:].view(-1, context)
        with half_precision(arguments.device):
            logits, _, firing = model(inputs)
        loss += loss_of(logits, targets).item() / count
        sparsity += (1 - firing.item()) / count
    model.train()
    return loss, sparsity


def optimizer_of(model, rate):
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    return torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
                             lr=rate, betas=(0.9, 0.95))


def train(model, train_ids, valid_ids, arguments):
    """AdamW, warm-up and cosine; the weight of the L1 term is steered until the wanted sparsity is reached."""
    optimizer = optimizer_of(model, arguments.rate)
    step_model = torch.compile(model) if arguments.device == "cuda" else model
    offsets = torch.arange(arguments.context + 1, device=arguments.device)
    weight, average, warm_up, started = 0.0, None, 200, time.time()
    for step in range(arguments.steps):
        done = step / arguments.steps
        rate = arguments.rate * min(1, (step + 1) / warm_up) * (0.05 + 0.475 * (1 + math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        begins = torch.randint(0, len(train_ids) - arguments.context - 1, (arguments.batch,), device=arguments.device)
        windows = train_ids[begins[:, None] + offsets]
        with half_precision(arguments.device):
            logits, mean, firing = step_model(windows[:, :-1], arguments.dropout)
        loss = loss_of(logits, windows[:, 1:])
        (loss + weight * mean).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 20 == 0:
            average = firing.item() if average is None else 0.8 * average + 0.2 * firing.item()
            if done > 0.1:
                weight = min(20.0, max(weight, 1e-2) * (1.10 if average > 1 - arguments.sparsity else 0.95))
        if step % 500 == 0:
            valid, sparsity = evaluate(model, valid_ids, arguments, 5)
            print(f"step {step}: loss {loss.item():.3f}, held-out perplexity {math.exp(valid):.2f}, "
                  f"zeros {sparsity:.4f}, L1 weight {weight:.4f}, {time.time() - started:.0f} s", flush=True)
    return evaluate(model, valid_ids, arguments, 1000)


# ----------------------------------------------------------------------------------------------------------- export


def export(model, tokenizer, arguments):
    """A Hugging Face checkpoint in float16."""
    state = {"model.decoder." + name: value.detach().to(torch.float16).cpu().contiguous()
             for name, value in model.state_dict().items()}
    save_file(state, f"{arguments.out}/model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["OPTForCausalLM"], "model_type": "opt", "vocab_size": arguments.vocab,
        "hidden_size": arguments.width, "word_embed_proj_dim": arguments.width, "ffn_dim": arguments.ffn,
        "num_hidden_layers": arguments.layers, "num_attention_heads": arguments.heads,
        "max_position_embeddings": arguments.context, "activation_function": "relu", "do_layer_norm_before": True,
        "enable_bias": True, "layer_norm_elementwise_affine": True, "dropout": arguments.dropout,
        "attention_dropout": 0.0, "activation_dropout": 0.0, "layerdrop": 0.0, "init_std": 0.02, "bos_token_id": START,
        "eos_token_id": START, "pad_token_id": 1, "prefix": EOS, "torch_dtype": "float16",
        "tie_word_embeddings": True, "use_cache": True,
    }
    names = {"tokenizer_class": "GPT2TokenizerFast", "bos_token": EOS, "eos_token": EOS, "pad_token": PAD,
             "unk_token": UNKNOWN, "add_prefix_space": False, "model_max_length": arguments.context}
    for name, content in (("config.json", config), ("tokenizer_config.json", names)):
        with open(f"{arguments.out}/{name}", "w", encoding="utf8") as file:
            json.dump(content, file, indent=2)
    tokenizer.save(f"{arguments.out}/tokenizer.json")
    tokenizer.model.save(arguments.out)


@torch.no_grad()
def write_golden(tokenizer, valid_ids, arguments):
    """What transformers computes in float32 from the exported float16 weights: the tests' reference."""
    from transformers import OPTForCausalLM

    reference = OPTForCausalLM.from_pretrained(arguments.out, torch_dtype=torch.float32).eval()
    golden, texts = {}, {}
    for i, prompt in enumerate(PROMPTS):
        ids = torch.tensor([[START] + tokenizer.encode(prompt, add_special_tokens=False).ids])
        greedy = reference.generate(ids, max_new_tokens=GOLDEN_TOKENS, do_sample=False, use_cache=True)[0]
        golden[f"prompt{i}_ids"] = ids[0].numpy().astype(np.int32)
        golden[f"prompt{i}_logits"] = reference(ids).logits[0].numpy().astype(np.float32)
        golden[f"prompt{i}_greedy"] = greedy.numpy().astype(np.int32)
        texts[prompt] = tokenizer.decode(greedy.tolist())
    windows = valid_ids[:GOLDEN_WINDOWS * arguments.context].cpu().view(-1, arguments.context)
    logits = reference(windows).logits
    golden["valid_ids"] = windows.numpy().astype(np.int32)
    golden["valid_nll"] = np.array(loss_of(logits[:, :-1], windows[:, 1:]).item())
    np.savez(f"{arguments.out}/golden.npz", **golden)
    return texts, math.exp(float(golden["valid_nll"]))


def main():
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    torch.set_float32_matmul_precision("high")
    os.makedirs(arguments.out, exist_ok=True)
    documents, held_out = read_documents(arguments.train), read_documents(arguments.valid)
    tokenizer = train_tokenizer(documents, arguments.vocab)
    train_ids, valid_ids = (torch.from_numpy(encode(tokenizer, part)).long().to(arguments.device)
                            for part in (documents, held_out))
    model = Opt(arguments).to(arguments.device)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters} parameters, {len(train_ids)} training tokens, {len(valid_ids)} held-out tokens", flush=True)
    loss, sparsity = train(model, train_ids, valid_ids, arguments)
    print(f"held-out perplexity {math.exp(loss):.3f}, zeros {sparsity:.4f}", flush=True)
    export(model, tokenizer, arguments)
    texts, golden_perplexity = write_golden(tokenizer, valid_ids, arguments)
    card = {"valid_ppl": math.exp(loss), "valid_sparsity": sparsity, "params": parameters, "steps": arguments.steps,
            "hf_f32_ppl_on_golden_windows": golden_perplexity, "train_tokens": len(train_ids), "greedy": texts}
    with open(f"{arguments.out}/card.json", "w", encoding="utf8") as file:
        json.dump(card, file, indent=2)


if __name__ == "__main__":
    main()
