#!/usr/bin/env python3
"""Time of one build over another's, in turns: what a redesign costs or saves.

usage: turns.py OLD_BUILD NEW_BUILD MODEL.gguf... [--pairs 7] [--threads 2]

For every model: single tokens with everything in memory and at half of the file (or the share that works), and a prompt of 512 tokens there.
Each pair runs the old and the new program one right after the other, in alternating order; printed are the medians of
both and the median of the pairs' ratios (new / old). Needs what tests/bench/decode and tests/bench/prefill print.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys

DECODE = ["--tokens", "48", "--skip", "64"]
SHARES = ["50%", "60%", "70%"]  # quantised files need a larger one


def run(command):
    """What it prints, or None where the budget is too small."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if "FLASHINFER_EBUDGET" in done.stderr + done.stdout:
        return None
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def decode(build, model, budget, threads):
    out = run([os.path.join(build, "tests/bench/decode"), "--model", model, "--threads", threads, *DECODE,
               *(["--budget", budget] if budget else [])])
    if out is None:
        return None
    waiting = re.search(r"waiting for flash ([0-9.]+) ms", out)
    return float(re.search(r"median ([0-9.]+) ms", out).group(1)) + (float(waiting.group(1)) if waiting else 0)


def prompt(build, model, budget, threads):
    out = run([os.path.join(build, "tests/bench/prefill"), "--model", model, "--tokens", "512", "--budget", budget,
               "--threads", threads])
    return None if out is None else 1e3 * float(re.search(r"([0-9.]+) s", out).group(1))


def compare(name, measure, builds, pairs):
    times = ([], [])
    for pair in range(pairs + 1):
        order = (0, 1) if pair % 2 == 0 else (1, 0)
        for which in order:
            value = measure(builds[which])
            if pair != 0:  # the first warms up
                times[which].append(value)
    ratios = [new / old for old, new in zip(*times)]
    print(f"{name:34} {statistics.median(times[0]):10.2f} {statistics.median(times[1]):10.2f} "
          f"{statistics.median(ratios):8.3f}   {min(ratios):.3f} to {max(ratios):.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", default="2")
    asked = parser.parse_args()
    builds = (asked.old, asked.new)
    print(f"{'':34} {'old ms':>10} {'new ms':>10} {'new/old':>8}   of {asked.pairs} pairs")
    for model in asked.models:
        short = os.path.basename(model)
        compare(f"{short} token, in memory", lambda build: decode(build, model, None, asked.threads), builds, asked.pairs)
        share = next((share for share in SHARES if prompt(builds[1], model, share, asked.threads)), None)
        if share is None:
            sys.exit(f"{short}: even {SHARES[-1]} is too small")
        compare(f"{short} token, {share}", lambda build: decode(build, model, share, asked.threads), builds, asked.pairs)
        compare(f"{short} prompt of 512, {share}", lambda build: prompt(build, model, share, asked.threads), builds,
                asked.pairs)


if __name__ == "__main__":
    main()
