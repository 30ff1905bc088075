#!/usr/bin/env python3
"""What transformers computes for each golden window, in float32: golden.npz has only their mean.

usage: window_nll.py CHECKPOINT...     prints one line of JSON per checkpoint; tests/golden/window_nll.json is its output
"""
import json
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM


@torch.no_grad()
def main():
    for checkpoint in sys.argv[1:]:
        golden = np.load(f"{checkpoint}/golden.npz")
        model = AutoModelForCausalLM.from_pretrained(checkpoint, torch_dtype=torch.float32).eval()
        losses = []
        for window in torch.from_numpy(golden["valid_ids"].astype(np.int64)):
            logits = model(window[None]).logits[0]
            losses.append(F.cross_entropy(logits[:-1], window[1:]).item())
        assert abs(np.mean(losses) - float(golden["valid_nll"])) < 1e-5
        print(json.dumps({"model": os.path.basename(os.path.abspath(checkpoint)), "window_nll": losses}))


if __name__ == "__main__":
    main()
